import { candidates } from "../core/election";
import { lsnDiff } from "../core/lsn";
import { DEFAULT_LAG_THRESHOLD_BYTES } from "../core/queries";
import { assess, type Observation } from "../core/topology";
import { UserError } from "./errors";
import { nodeOf, type NodeControl } from "./nodes";
import { observe } from "./observe";
import {
  BOUNDS,
  bringBack,
  controlOf,
  controls,
  finish,
  finishInterrupted,
  Journal,
  refuseChangedPassword,
  say,
  show,
  until,
} from "./promotion";
import { readStackConfig } from "./workspace";

/** `npm run switchover`: planned; the old primary comes back as a standby. Returns the exit code. */
export async function switchover(stack: string, to: string | undefined, json: boolean): Promise<number> {
  const config = readStackConfig(stack);
  const nodes = controls(config);
  const observed = await observe(config);
  const status = assess(stack, observed);
  const journal = new Journal(stack);
  if (to !== undefined) {
    nodeOf(config, to);
  }
  const interrupted = await finishInterrupted(config, nodes, observed, journal);
  if (interrupted !== undefined) {
    for (const node of observed.filter((n) => n.server === null && n.containerState !== null)) {
      await bringBack(controlOf(nodes, node.name), config);
    }
    journal.end();
    return to === undefined || to === interrupted ? 0 : switchover(stack, to, json);
  }
  if (status.primary === null) {
    throw new UserError(
      `stack "${stack}" has no single primary to switch from. Run: npm run status -- --stack ${stack}; when the primary is gone, npm run failover -- --stack ${stack}`,
    );
  }
  if (to === status.primary) {
    throw new UserError(`node ${to} is the primary already`);
  }
  const old = controlOf(nodes, status.primary);
  const target = status.nodes.find((n) => n.name === (to ?? candidates(observed)[0]?.name));
  const primary = observed.find((n) => n.name === status.primary) as Observation;
  const replica = primary.server?.replicas.find((r) => r.name === target?.name);
  if (target === undefined || target.role !== "standby" || replica?.state !== "streaming") {
    throw new UserError(
      `switchover refused: ${target === undefined ? "no standby answers" : `node ${target.name} does not stream from ${status.primary}`}. Run: npm run status -- --stack ${stack}`,
    );
  }
  if ((replica.lagBytes ?? Infinity) > DEFAULT_LAG_THRESHOLD_BYTES) {
    throw new UserError(
      `switchover refused: node ${target.name} is ${replica.lagBytes} bytes behind, more than ${DEFAULT_LAG_THRESHOLD_BYTES}. Wait until it has caught up: npm run status -- --stack ${stack}`,
    );
  }
  refuseChangedPassword(stack, primary);
  const candidate = controlOf(nodes, target.name);

  // The checkpoint now makes the one at shutdown short; with it the time without a writer.
  say(`checkpoint on ${status.primary}`);
  await old.sql("CHECKPOINT", 120_000);
  const start = Date.now();
  say(`stopping ${status.primary}; it sends everything to its standbys first`);
  const goBack = async (why: string): Promise<never> => {
    await old.start();
    await until(`node ${old.node.name} to accept writes again`, 60, () =>
      old.write(5).then(
        () => true,
        () => false,
      ),
    );
    throw new UserError(`switchover undone: ${why}; ${old.node.name} is primary as before`);
  };
  if (!(await old.fence(BOUNDS.shutdown))) {
    return goBack(`${old.node.name} did not stop within ${BOUNDS.shutdown} s`);
  }
  const end = await old.walEnd();
  if (end === null || !end.clean) {
    return goBack(`${old.node.name} did not shut down cleanly`);
  }
  const caughtUp = await until(
    `${target.name} to have received ${end.lsn}`,
    10,
    async () => lsnDiff(end.lsn, await receivedLsn(candidate)) <= 0n,
  ).catch(() => false);
  if (caughtUp !== true) {
    return goBack(`${target.name} did not receive the last WAL of ${old.node.name}`);
  }
  await old.mark("fenced");
  journal.begin(target.name);
  say(`promoting ${target.name}`);
  await candidate.promote(BOUNDS.promote);
  if (config.synchronous !== undefined) {
    // The old primary may be the standby that has to confirm.
    await old.start();
  }
  const seconds = await finish(
    config,
    nodes,
    target.name,
    observed.filter((n) => n.name !== status.primary),
    start,
  );
  await bringBack(old, config);
  journal.end();
  show(
    {
      stack,
      fenced: [],
      promoted: target.name,
      seconds,
      bytesLost: 0,
      howKnown: `${old.node.name} ended at ${end.lsn}, and ${target.name} had received it`,
    },
    json,
  );
  return 0;
}

async function receivedLsn(node: NodeControl): Promise<string> {
  return node.sql("SELECT greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())");
}
