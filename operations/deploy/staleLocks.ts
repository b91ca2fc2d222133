import { existsSync, readdirSync, readFileSync } from "fs";
import { hostname } from "os";
import { join } from "path";
import { PROJECT } from "../../core/model/names";
import { UserError } from "../errors";
import { backendFolder, backendUrl, pulumiOutput } from "./workspace";

/** A lock of the file backend: who holds the stack. A killed run may leave one without content. */
interface StackLock {
  pid?: number;
  hostname?: string;
}

/** The locks of a stack in a file backend. */
function stackLocks(stack: string): StackLock[] {
  const backend = backendFolder(backendUrl());
  const folder = join(backend ?? "", ".pulumi", "locks", "organization", PROJECT, stack);
  if (backend === undefined || !existsSync(folder)) {
    return [];
  }
  return readdirSync(folder)
    .filter((name) => name.endsWith(".json"))
    .map((name) => {
      try {
        return JSON.parse(readFileSync(join(folder, name), "utf8")) as StackLock;
      } catch {
        return {};
      }
    });
}

/** Whether the process that made a lock is gone, as far as this machine can tell. */
function isStale(lock: StackLock): boolean {
  if (lock.pid === undefined) {
    return true;
  }
  if (lock.hostname !== hostname()) {
    return false;
  }
  return !isRunning(lock.pid, /pulumi/);
}

/**
 * Whether a process of this machine is alive and is still the one that was meant.
 *
 * @param command What its command line has to contain, as far as this machine can tell.
 */
export function isRunning(pid: number, command: RegExp): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ESRCH";
  }
  // Where /proc tells more: a dead process that nobody has reaped yet has no command line any more, and
  // another program may have got the number.
  if (!existsSync("/proc/self/cmdline")) {
    return true;
  }
  try {
    return command.test(readFileSync(`/proc/${pid}/cmdline`, "utf8"));
  } catch {
    return false;
  }
}

/** Frees the stack from the locks of runs that were killed; refuses when a run is still going. */
export async function releaseStaleLocks(stack: string, say: (line: string) => void): Promise<void> {
  const locks = stackLocks(stack);
  if (locks.length === 0) {
    return;
  }
  const living = locks.find((lock) => !isStale(lock));
  if (living !== undefined) {
    throw new UserError(
      `stack "${stack}" is in use by process ${living.pid} on ${living.hostname}. Wait for it to end; if it is gone for certain, run: eval "$(npm run -s env -- --stack ${stack})" && pulumi cancel --yes`,
    );
  }
  say("an earlier run was killed; taking over its lock");
  await pulumiOutput(stack, ["cancel", "--yes", "--stack", stack]);
}
