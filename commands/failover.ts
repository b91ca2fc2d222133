import type { StackConfig } from "../core/config";
import { bytesAtRisk, type BytesAtRisk, candidates, objections } from "../core/election";
import { DEFAULT_LAG_THRESHOLD_BYTES } from "../core/queries";
import type { Observation } from "../core/topology";
import { UserError } from "./errors";
import type { NodeControl } from "./nodes";
import { observe, refuseUnlessUp } from "./observe";
import { BOUNDS, controlOf, controls, exclusively, finish, finishInterrupted, Journal, names, say, settle, show } from "./promotion";
import { readStackConfig } from "./workspace";

export interface FailoverOptions {
  allowDataLoss: boolean;
  dryRun: boolean;
  json: boolean;
}

/** `npm run failover`: the primary is gone; fence it, promote the most advanced standby. Returns the exit code. */
export function failover(stack: string, options: FailoverOptions): Promise<number> {
  return options.dryRun ? run(stack, options) : exclusively(stack, () => run(stack, options));
}

async function run(stack: string, options: FailoverOptions): Promise<number> {
  const start = Date.now();
  const config = readStackConfig(stack);
  const nodes = controls(config);
  const observed = await observe(config);
  const journal = new Journal(stack);

  if ((await finishInterrupted(config, nodes, observed, journal, options.dryRun)) !== undefined) {
    if (!options.dryRun) {
      journal.end();
    }
    return 0;
  }
  refuseUnlessNeeded(stack, observed);

  const best = candidates(observed)[0];
  if (best === undefined) {
    throw new UserError(
      `stack "${stack}" has no standby that answers, so there is nobody to promote. Run: npm run status -- --stack ${stack}`,
    );
  }
  const gone = observed.filter((node) => node.server === null);
  if (options.dryRun) {
    say(
      `would fence ${names(gone)}, and promote ${best.name} (timeline ${best.server?.timeline}, WAL received up to ${best.server?.lsn}), unless that loses more than ${DEFAULT_LAG_THRESHOLD_BYTES} bytes`,
    );
    return 0;
  }

  const running = gone.filter((node) => mayWrite(node.containerState));
  const { candidate, after, atRisk, against } = await judge(config, nodes, journal, gone, options.allowDataLoss).catch((error: unknown) =>
    undo(nodes, running, error),
  );
  against.forEach((why) => say(`--allow-data-loss gives up: ${why}`));

  await Promise.all(gone.map((node) => controlOf(nodes, node.name).mark("fenced")));
  // From here on a start does no harm. One just before may have.
  const started = await Promise.all(gone.map((node) => controlOf(nodes, node.name).isStopped()));
  if (started.includes(false)) {
    await Promise.all(gone.filter((_, i) => !started[i]).map((node) => controlOf(nodes, node.name).unfence()));
    throw new UserError(`${names(gone.filter((_, i) => !started[i]))} was started again while failover was at work. Run failover again`);
  }
  journal.begin({ promoted: candidate.name, phase: "promoting" });
  // Counted from the start of this process, its own loading included.
  say(`promoting ${candidate.name} (decided after ${(performance.now() / 1000).toFixed(2)} s)`);
  await controlOf(nodes, candidate.name).promote(BOUNDS.promote);
  const seconds = await finish(config, nodes, candidate.name, after, start);
  show(
    {
      stack,
      fenced: gone.map((node) => node.name),
      promoted: candidate.name,
      seconds,
      bytesLost: atRisk,
      howKnown:
        atRisk === null
          ? "the old primary's WAL could not be read"
          : `the WAL in the volume of ${names(gone)} was compared with what ${candidate.name} had received`,
    },
    options.json,
  );
  await settle(controlOf(nodes, candidate.name));
  journal.end();
  for (const node of gone.filter((n) => n.containerState !== null)) {
    say(`bring ${node.name} back with: npm run rejoin -- ${node.name} --stack ${stack}`);
  }
  return 0;
}

/** What a failover is to do. */
interface Verdict {
  candidate: Observation;
  /** The nodes as they are now that nobody writes. */
  after: Observation[];
  atRisk: BytesAtRisk;
  /** What --allow-data-loss gives up; empty when nothing speaks against the promotion. */
  against: string[];
}

/**
 * Fences what does not answer, and only then compares what it has written with what the standbys have received.
 *
 * @throws UserError when that may not go on to a promotion; nothing is marked yet.
 */
async function judge(
  config: StackConfig,
  nodes: Map<string, NodeControl>,
  journal: Journal,
  gone: readonly Observation[],
  allowDataLoss: boolean,
): Promise<Verdict> {
  const { stack } = config;
  say(`fencing ${names(gone)}`);
  const proven = await Promise.all(gone.map((node) => controlOf(nodes, node.name).fence(0)));
  const loose = gone.filter((_, i) => proven[i] !== true);
  if (loose.length > 0) {
    throw new UserError(
      `${names(loose)} cannot be fenced: Docker does not say that the container is stopped, so it might still write. Stop it by hand, then run failover again`,
    );
  }
  const [ends, after] = await Promise.all([Promise.all(gone.map((node) => controlOf(nodes, node.name).walEnd())), observeDrained(config)]);
  // A promotion that had been under way may have ended meanwhile.
  refuseUnlessNeeded(stack, after);
  const candidate = candidates(after)[0];
  if (candidate === undefined) {
    throw new UserError(`no standby answers any more. ${startAgain(gone)}, or run: npm run status -- --stack ${stack}`);
  }
  refuseAnother(stack, journal, candidate, after);
  const atRisk = bytesAtRisk(candidate, ends);
  const against = objections({
    candidate,
    observed: after,
    atRisk,
    synchronous: config.synchronous,
    maxBytes: DEFAULT_LAG_THRESHOLD_BYTES,
  });
  if (against.length > 0 && !allowDataLoss) {
    throw new UserError(`failover refused: ${against.join("; ")}. ${startAgain(gone)}, or give that up with --allow-data-loss`);
  }
  return { candidate, after, atRisk, against };
}

/** Whether a container in this state runs, or will by itself. */
const mayWrite = (state: string | null): boolean => state === "running" || state === "paused" || state === "restarting";

/**
 * A failover that does not go on changes nothing: the nodes that it has stopped are started again. They ask their
 * peers first, as at any start. @throws always: why it does not go on.
 */
async function undo(nodes: Map<string, NodeControl>, running: readonly Observation[], why: unknown): Promise<never> {
  const is = await Promise.all(
    running.map((node) =>
      controlOf(nodes, node.name)
        .isStopped()
        .catch(() => false),
    ),
  );
  const stopped = running.filter((_, i) => is[i]);
  const tried = await Promise.allSettled(stopped.map((node) => controlOf(nodes, node.name).start()));
  if (stopped.length === 0 || !(why instanceof UserError)) {
    throw why;
  }
  const failed = stopped.filter((_, i) => tried[i]?.status === "rejected");
  const started = stopped.filter((_, i) => tried[i]?.status === "fulfilled");
  const notes = [
    ...(started.length === 0 ? [] : [`${names(started)}, which failover had stopped, is started again`]),
    ...(failed.length === 0
      ? []
      : [`${names(failed)}, which failover had stopped, does not start: docker start ${failed.map((node) => node.container).join(" ")}`]),
  ];
  throw new UserError(`${why.message}; ${notes.join("; ")}`, why.exitCode);
}

/**
 * Asks again, until no standby receives any more. What a dying primary has sent may still be under way
 * inside the kernel: a standby that gets it after it was compared with the others is ahead of the one that
 * was promoted, and cannot follow it.
 */
async function observeDrained(config: StackConfig): Promise<Observation[]> {
  const deadline = Date.now() + BOUNDS.drain * 1000;
  for (;;) {
    const observed = await observe(config);
    if (observed.every((node) => node.server?.receiver?.status !== "streaming") || Date.now() > deadline) {
      return observed;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** A promotion that was asked for and has not ended yet cannot be taken back: promoting another node would make two primaries. */
function refuseAnother(stack: string, journal: Journal, candidate: Observation, observed: readonly Observation[]): void {
  const change = journal.read();
  const pending = observed.find((node) => node.name === change?.promoted && node.server?.inRecovery === true);
  if (change?.phase === "promoting" && pending !== undefined && pending.name !== candidate.name) {
    throw new UserError(
      `failover refused: a promotion of ${pending.name} is under way, and ${candidate.name} is ahead of it. Wait until ${pending.name} is primary (npm run status -- --stack ${stack}), or stop it (docker stop ${pending.container}), then run failover again`,
    );
  }
}

/** What to do instead of a failover that is refused. */
function startAgain(gone: readonly Observation[]): string {
  const there = gone.filter((node) => node.containerState !== null);
  if (there.some((node) => mayWrite(node.containerState))) {
    return "Wait for what was primary to come back";
  }
  return there.length === 0
    ? "Bring the old primary back"
    : `Start what was primary again (docker start ${there.map((node) => node.container).join(" ")})`;
}

function refuseUnlessNeeded(stack: string, observed: readonly Observation[]): void {
  const primaries = observed.filter((node) => node.server?.inRecovery === false);
  if (primaries.length > 1) {
    throw new UserError(
      `${names(primaries)} are all writable. Stop the wrong one (docker stop CONTAINER), then run: npm run rejoin -- NODE --stack ${stack}`,
    );
  }
  const [living] = primaries;
  if (living !== undefined) {
    // Without a standby that streams a switchover is refused too: the way out is to make it dead.
    const alone = observed.length > 1 && !living.server?.replicas.some((replica) => replica.state === "streaming");
    throw new UserError(
      `failover refused: the primary ${living.name} lives and answers. To move the role, ${
        alone
          ? `stop it, because no standby streams from it (docker stop ${living.container}), then run failover again`
          : `run: npm run switchover -- --stack ${stack}`
      }`,
    );
  }
  refuseUnlessUp(stack, observed);
}
