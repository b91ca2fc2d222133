import { type LockOptions, pulumiProcess } from "../change/lock";

/** How long the lock of a run counts that nobody here can look after, in hours. */
const LEASE_HOURS = 12;

/** Whose the stack's lock is while `up` runs: that of the `pulumi` above, and where there is none, of this process. */
export function upLock(): LockOptions {
  const holderPid = pulumiProcess();
  // A base backup may take long; another machine cannot see whether this one lives.
  return { ttl: LEASE_HOURS * 3_600, ...(holderPid === undefined ? {} : { holderPid }) };
}
