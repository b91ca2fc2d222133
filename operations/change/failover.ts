import { enginesOf, type PlacedConfig } from "../../core/model/place";
import type { StackConfig } from "../../core/config";
import { bytesText } from "../../core/grammar/bytes";
import { bytesAtRisk, candidates, isFed, type Objection, objections, type Unreadable, type WalEnd } from "../../core/judgement/election";
import { stepOf } from "../../core/judgement/changeOfRoles";
import { DEFAULT_LAG_THRESHOLD_BYTES } from "../../core/sql/queries";
import { type Observation, UNREACHABLE } from "../../core/judgement/observation";
import { hasReplica, notOneWriter } from "../../core/judgement/findings";
import { onlyPrimary } from "../../core/judgement/topology";
import { UserError } from "../errors";
import type { ContainerState } from "../engine/engine";
import { isStopped, nodeOf } from "../engine/nodeControl";
import { refuseUnlessUp } from "../engine/observe";
import { controlOf } from "../engine/nodeControls";
import { allDone, poll } from "../engine/poll";
import { keepTalking } from "../engine/talks";
import { BOUNDS } from "./bounds";
import { exclusively } from "./exclusively";
import { finish, finishInterrupted, settle } from "./finishing";
import type { Journal } from "./journal";
import { type Ports, REAL, type Work, workOn } from "./ports";
import { type Loss, names, say, show } from "./report";
import { adviceOf, explain, npmRun } from "../look/advice";

/** What can be said of an interrupted promotion whose note tells no loss. */
const UNKNOWN_LOSS: Loss = { fenced: [], bytesLost: null, howKnown: "the run that was interrupted has not noted it" };

export interface FailoverOptions {
  allowDataLoss: boolean;
  /** Nodes of which a person says that they cannot write any more, because nobody can ask their Docker hosts. @default none */
  fencedByHand?: readonly string[];
  dryRun: boolean;
  json: boolean;
}

/** `npm run failover`: the primary is gone; fence it, promote the most advanced standby. Returns the exit code. */
export async function failover(stack: string, options: FailoverOptions, ports: Ports = REAL): Promise<number> {
  const start = ports.clock.now();
  const config = ports.config(stack);
  const work = workOn(config, ports);
  const { nodes } = work;
  // A primary that is dead already is looked into as soon as that is known and everybody else was asked: until then its helper
  // container starts.
  let ended = false;
  const told = (name: string, { state, image }: ContainerState): void => {
    // Of a failover that has been refused meanwhile nobody would end it, and this process would wait for it.
    if (!options.dryRun && !ended && isStopped(state)) {
      controlOf(nodes, name).expectLook(image);
    }
  };
  return keepTalking(async () => {
    // The first look changes nothing, so it does not wait for the lock. It says whom to fence: whoever had the lock until now may
    // have restarted the primary just then.
    const look = ports.observe(config, { told });
    look.catch(() => undefined); // the lock may be refused first
    const action = async (waited: boolean): Promise<number> => run(work, options, waited ? await ports.observe(config) : await look, start);
    try {
      return await (options.dryRun ? action(false) : exclusively(config, "failover", action, { lock: ports.lock }));
    } finally {
      ended = true;
      nodes.forEach((node) => node.leave());
    }
  });
}

/** @param start When the command began, in milliseconds. */
async function run(work: Work, options: FailoverOptions, observed: Observation[], start: number): Promise<number> {
  const { config, nodes, journal } = work;
  const { stack } = config;

  const finished = await finishInterrupted(work, observed, options.dryRun);
  if (finished !== undefined) {
    if (!options.dryRun) {
      const { promoted, seconds, loss = UNKNOWN_LOSS } = finished;
      const notCovered = await controlOf(nodes, promoted).notCovered(finished.logicalSlots);
      show({ stack, promoted, seconds, ...loss, notCovered }, options.json);
      journal.end();
    }
    return 0;
  }
  refuseUnlessNeeded(stack, observed);
  const vouched = await vouchedFor(work, observed, options.fencedByHand ?? []);

  const best = candidates(observed)[0];
  if (best === undefined) {
    throw new UserError(`stack "${stack}" has no standby that answers, so there is nobody to promote. Run: ${npmRun("status", stack)}`);
  }
  const gone = observed.filter((node) => node.server === null);
  if (options.dryRun) {
    say(`would fence ${names(gone)}, and promote ${best.name} (timeline ${best.server?.timeline}, WAL received up to ${best.server?.lsn})`);
    say(
      `how many bytes that loses is read when ${names(gone)} ${gone.length === 1 ? "is" : "are"} stopped. Up to ${bytesText(DEFAULT_LAG_THRESHOLD_BYTES)} (${DEFAULT_LAG_THRESHOLD_BYTES} bytes of WAL) failover loses and says so; more, or where nobody knows, it refuses without --allow-data-loss`,
    );
    return 0;
  }

  const means: Means = { ...work, vouched, allowDataLoss: options.allowDataLoss };
  const { candidate, after, loss, fenced, logicalSlots } = await prepare(means, gone);
  journal.begin({ promoted: candidate.name, phase: "promoting", loss, logicalSlots });
  // Counted from the start of this process, its own loading included.
  say(`promoting ${candidate.name} (decided after ${(performance.now() / 1000).toFixed(2)} s)`);
  const promoted = controlOf(nodes, candidate.name);
  await promoted.promote(BOUNDS.promote);
  const seconds = await finish(work, candidate.name, after, { start, without: vouched });
  const notCovered = await promoted.notCovered(logicalSlots);
  show({ stack, promoted: candidate.name, seconds, ...loss, notCovered }, options.json);
  await settle(promoted);
  journal.end();
  await fenceReturned(means).catch((error: Error) => say(`${vouched.join(", ")} could not be looked after: ${error.message}`));
  for (const node of fenced.filter((n) => n.containerState !== null)) {
    say(`bring ${node.name} back with: ${npmRun("rejoin", stack, node.name)}`);
  }
  return 0;
}

/**
 * The nodes that a person has fenced, checked. That counts only of a node whose Docker host does not answer: of the others the
 * engine itself says it.
 * @throws UserError
 */
async function vouchedFor(work: Work, observed: readonly Observation[], fencedByHand: readonly string[]): Promise<string[]> {
  for (const name of fencedByHand) {
    nodeOf(work.config, name);
    const node = observed.find((n) => n.name === name);
    if (node?.server != null) {
      throw new UserError(`--i-have-fenced ${name}: node ${name} answers, so it is not fenced. Nothing was changed`);
    }
  }
  const silent = observed.filter((node) => fencedByHand.includes(node.name) && node.server === null);
  return (await outOfReach(work, silent)).map(({ name }) => name);
}

/**
 * The nodes that nobody can stop: their Docker hosts do not answer, or have neither container nor volume of them. On several
 * hosts that may be because a name leads to another machine here than it does elsewhere.
 */
async function outOfReach({ config, nodes }: Work, silent: readonly Observation[]): Promise<Observation[]> {
  const several = enginesOf(config.nodes).length > 1;
  const isOut = async ({ name, containerState }: Observation): Promise<boolean> =>
    containerState === UNREACHABLE || (several && containerState === null && !(await controlOf(nodes, name).hasVolume()));
  const out = await Promise.all(silent.map(isOut));
  return silent.filter((_, i) => out[i]);
}

/** Where a node is said to be, and why nobody can stop it there. */
function whereabouts({ nodes }: PlacedConfig, { name, reason, containerState }: Observation): string {
  const engine = nodes.find((node) => node.name === name)?.place.engine ?? "";
  return `${name} at ${engine} (${containerState === UNREACHABLE ? reason : "neither its container nor its volume is there"})`;
}

/**
 * What a person says of a host that does not answer counts as long as it does not. One that comes back starts its nodes.
 * @throws UserError
 */
async function refuseBack({ ports, config, vouched }: Means, observed: readonly Observation[]): Promise<void> {
  const engines = enginesOf(config.nodes.filter(({ name }) => vouched.includes(name)));
  // One that answers and has nothing of the node has nothing of it now either.
  const away = engines.filter((engine) => observed.some((node) => node.silentEngine === engine));
  const back = await Promise.all(away.map((engine) => ports.answers(engine)));
  const which = away.filter((_, i) => back[i]);
  if (which.length > 0) {
    throw new UserError(
      `failover refused: the Docker host at ${which.join(", ")} answers again, so what is there can be asked and stopped. Run failover again`,
    );
  }
}

/** A host that has come back since it was last asked: what is there is stopped and marked, and asks the others when it is started. */
async function fenceReturned({ ports, config, nodes, vouched }: Means): Promise<void> {
  await Promise.all(
    config.nodes
      .filter(({ name }) => vouched.includes(name))
      .map(async ({ name, place }) => {
        if (!(await ports.answers(place.engine))) {
          say(`${name} asks the others when its host is back, and comes up as a standby`);
          return;
        }
        const control = controlOf(nodes, name);
        if ((await control.state()) === null) {
          return;
        }
        say(`the Docker host of ${name} answers again: fencing ${name}`);
        await control.fence(0);
        await control.mark("fenced");
        control.leave();
      }),
  );
}

/** What a failover works with. */
interface Means extends Work {
  /** The nodes that a person has fenced, and nobody can ask. */
  vouched: readonly string[];
  allowDataLoss: boolean;
}

/** A node that did not answer, as it was before it was fenced. */
type Fenced = Observation;

/** What a failover is to do. */
interface Verdict {
  candidate: Observation;
  /** The nodes as they are now that nobody writes. */
  after: Observation[];
  /** Every node that was silent at any look. */
  fenced: readonly Fenced[];
  loss: Loss;
  /** The logical slots of those that were fenced. */
  logicalSlots: readonly string[];
  /** What --allow-data-loss gives up; empty when nothing speaks against the promotion. */
  against: string[];
  /** The nodes on a timeline that the candidate knows nothing of: its next one may have the same number. */
  abandoned: Fenced[];
}

/**
 * Everything before the promotion: fences, judges, and marks the fenced nodes, so that none comes up writable.
 *
 * @throws UserError when that may not go on to a promotion; what it has stopped runs again.
 */
async function prepare(means: Means, gone: readonly Observation[]): Promise<Verdict> {
  const { nodes, vouched } = means;
  // It grows with every look at which another node is silent.
  const fenced: Fenced[] = [];
  let marked = false;
  try {
    const verdict = await judge(means, gone, fenced);
    const asked = fenced.filter((node) => !vouched.includes(node.name));
    verdict.against.forEach((why) => say(`--allow-data-loss gives up: ${why}`));
    marked = true;
    await allDone([
      ...asked.map((node) => controlOf(nodes, node.name).mark("fenced")),
      ...verdict.abandoned.map((node) => controlOf(nodes, node.name).mark("reclone")),
    ]);
    // From here on a start does no harm. One just before may have.
    const stopped = await Promise.all(asked.map((node) => controlOf(nodes, node.name).isStopped()));
    const started = asked.filter((_, i) => !stopped[i]);
    if (started.length > 0) {
      throw new UserError(`${names(started)} was started again while failover was at work. Run failover again`);
    }
    await refuseBack(means, fenced);
    return verdict;
  } catch (error) {
    return await undo(means, fenced, marked, error);
  } finally {
    fenced.forEach((node) => controlOf(nodes, node.name).leave());
  }
}

/**
 * Fences what does not answer, and only then compares what it has written with what the standbys have received.
 *
 * @param fenced Gets every node that it fences, before it does.
 * @throws UserError when that may not go on to a promotion; nothing is marked yet.
 */
async function judge(means: Means, gone: readonly Observation[], fenced: Fenced[]): Promise<Verdict> {
  const { config, journal, allowDataLoss } = means;
  const { after, candidate, ends } = await fenceAll(means, gone, fenced);
  refuseAnother(config.stack, journal, candidate, after);
  const fed = after.filter((node) => isFed(node, after));
  if (fed.length > 0) {
    const from = fed.map(({ name, server }) => `${name} still receives WAL from ${server?.receiver?.from ?? "somewhere"}`);
    throw new UserError(
      `failover refused: ${from.join(", ")} after ${BOUNDS.drain} s, so a primary lives somewhere. Stop that one, then run failover again`,
    );
  }
  const readable = ends.map((end) => ("unreadable" in end ? null : end));
  const unreadable = fenced.flatMap(({ name }, i) => {
    const end = ends[i];
    return end !== undefined && "unreadable" in end ? [{ name, ...end }] : [];
  });
  const atRisk = bytesAtRisk(candidate, readable);
  const against = objections({
    candidate,
    observed: after,
    atRisk,
    unreadable,
    synchronous: promised(config, after),
    maxBytes: DEFAULT_LAG_THRESHOLD_BYTES,
  }).map((objection) => inWords(objection, config.stack));
  if (against.length > 0 && !allowDataLoss) {
    throw new UserError(`failover refused: ${against.join("; ")}. ${startAgain(fenced)}, or give that up with --allow-data-loss`);
  }
  const howKnown =
    atRisk === null
      ? `the WAL of ${unreadable.map((node) => node.name).join(", ") || "the last primary"} could not be read`
      : `the WAL in the volume of ${names(fenced)} was compared with what ${candidate.name} had received`;
  return {
    candidate,
    after,
    fenced,
    loss: { fenced: fenced.map((node) => node.name), bytesLost: atRisk, howKnown },
    logicalSlots: ends.flatMap((end) => end.logicalSlots ?? []),
    against,
    abandoned: fenced.filter((_, i) => (readable[i]?.timeline ?? 0) > (candidate.server?.timeline ?? 0)),
  };
}

/**
 * Fences the nodes that do not answer, reads where their WAL ends, and looks again; until a look at which every other
 * node answers. A node that has fallen silent since the look before may be about to write: a promotion of it can be
 * pending, which takes place as soon as it thaws.
 *
 * @param fenced Gets every node that it fences, before it does.
 * @returns that look, whom it puts first, and the ends in the order of `fenced`.
 */
async function fenceAll(
  means: Means,
  gone: readonly Observation[],
  fenced: Fenced[],
): Promise<{ after: Observation[]; candidate: Observation; ends: (WalEnd | Unreadable)[] }> {
  const { config, nodes, vouched } = means;
  const ends: (WalEnd | Unreadable)[] = [];
  // It ends: at every turn one node more is fenced.
  for (let silent = gone; ;) {
    await fence(means, silent, fenced);
    const away = config.nodes.filter(({ name }) => vouched.includes(name)).map(({ place }) => place.engine);
    const endOf = async ({ name }: Observation): Promise<WalEnd | Unreadable> =>
      vouched.includes(name) ? { unreadable: "its Docker host does not answer" } : controlOf(nodes, name).walEnd(true);
    const [found, after] = await Promise.all([Promise.all(silent.map(endOf)), observeDrained(means), refuseStrangers(means, away)]);
    ends.push(...found);
    refuseUnknownMembers(config, after);
    const back = after.filter(({ name, containerState }) => vouched.includes(name) && ![UNREACHABLE, null].includes(containerState));
    if (back.length > 0) {
      throw new UserError(
        `failover refused: the Docker host of ${names(back)} answers again, so what is there can be stopped. Run failover again`,
      );
    }
    // A promotion that had been under way may have ended meanwhile.
    refuseUnlessNeeded(config.stack, after);
    const candidate = candidates(after)[0];
    if (candidate === undefined) {
      throw new UserError(`no standby answers any more. ${startAgain(fenced)}, or run: ${npmRun("status", config.stack)}`);
    }
    silent = after.filter((node) => node.server === null && !fenced.some(({ name }) => name === node.name));
    if (silent.length === 0) {
      return { after, candidate, ends };
    }
  }
}

/**
 * How commits were confirmed: by this config, or by the settings that the nodes had before it is applied, whichever needs the
 * fewest standbys, because a commit of then may be on no more.
 */
function promised(config: PlacedConfig, observed: readonly Observation[]): StackConfig["synchronous"] {
  const counts = [config.synchronous?.count ?? null, ...observed.map(({ server }) => server?.synchronousCount ?? null)];
  const known = counts.filter((count) => count !== null);
  return known.length === 0 ? undefined : { mode: config.synchronous?.mode ?? "any", count: Math.min(...known) };
}

/** Stops these nodes. @throws UserError when one is not proven to be stopped: it might still write. */
async function fence(means: Means, silent: readonly Observation[], fenced: Fenced[]): Promise<void> {
  const { config, nodes, vouched } = means;
  const { stack } = config;
  const asked = silent.filter((node) => !vouched.includes(node.name));
  const away = await outOfReach(means, asked);
  if (away.length > 0) {
    const hosts = away.map((node) => whereabouts(config, node));
    const options = away.map(({ name }) => `--i-have-fenced ${name}`).join(" ");
    throw new UserError(
      `failover refused: nobody can stop what may still write: ${hosts.join(", ")}. ` +
        `Power its host off or cut it off from every client and every node; then, and only then, run: ${npmRun("failover", stack, options)}`,
    );
  }
  say(`fencing ${names(silent)}`);
  fenced.push(...silent);
  const proven = await Promise.all(asked.map((node) => controlOf(nodes, node.name).fence(0)));
  const loose = asked.filter((_, i) => proven[i] !== true);
  if (loose.length > 0) {
    throw new UserError(
      `${names(loose)} cannot be fenced: Docker does not say that the container is stopped, so it might still write. Stop it by hand, then run failover again`,
    );
  }
}

/** Whether a container in this state runs, or will by itself. */
const mayWrite = (state: string | null): boolean => ["running", "paused", "restarting", UNREACHABLE].includes(state ?? "");

/**
 * A failover that does not go on changes nothing: its marks are taken back, and the nodes that it has stopped are started
 * again. They ask their peers first, as at any start. @throws always: why it does not go on.
 */
async function undo({ nodes }: Work, fenced: readonly Fenced[], marked: boolean, why: unknown): Promise<never> {
  const running = fenced.filter((node) => node.containerState !== UNREACHABLE && mayWrite(node.containerState));
  const is = await Promise.all(
    running.map((node) =>
      controlOf(nodes, node.name)
        .isStopped()
        .catch(() => false),
    ),
  );
  const stopped = running.filter((_, i) => is[i]);
  const unmark = async (node: Fenced): Promise<void> => (marked ? controlOf(nodes, node.name).unmark() : undefined);
  const again = async (node: Fenced): Promise<void> => {
    await unmark(node);
    await controlOf(nodes, node.name).start();
  };
  const [tried, kept] = await Promise.all([
    Promise.allSettled(stopped.map(again)),
    Promise.allSettled(fenced.filter((node) => !stopped.includes(node) && node.containerState !== UNREACHABLE).map(unmark)),
  ]);
  kept.forEach((result) => result.status === "rejected" && say((result.reason as Error).message));
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
 * Asks again, until no standby receives any more and each has read what it had. What a dying primary has sent may still be under way
 * inside the kernel: a standby that gets it after it was compared with the others is ahead of the one that
 * was promoted, and cannot follow it.
 */
async function observeDrained({ ports, config }: Work): Promise<Observation[]> {
  const drained = (observed: Observation[]): boolean =>
    observed.every((node) => node.server === null || (!isFed(node, observed) && node.server.localWalRead));
  return (await poll(() => ports.observe(config), drained, { seconds: BOUNDS.drain, every: 50, clock: ports.clock })).answer;
}

/** A node that runs and is not in the config may be the primary, and would be asked nothing. @throws UserError */
async function refuseStrangers({ ports, config }: Work, without: readonly string[]): Promise<void> {
  const known = config.nodes.map((node) => node.name);
  const strangers = (await ports.runningNodes(config, without)).filter((name) => !known.includes(name));
  if (strangers.length > 0) {
    throw new UserError(
      `failover refused: ${strangers.join(", ")} runs, and nodes in Pulumi.${config.stack}.yaml does not have it, so it may be the primary. Put it back, or stop it, then run failover again`,
    );
  }
}

/**
 * A node on another Docker host that the config does not have any more, and the nodes that answer were told of: nobody asks that
 * host, and it may have the primary. @throws UserError
 */
function refuseUnknownMembers({ stack, nodes }: PlacedConfig, observed: readonly Observation[]): void {
  const told = observed.flatMap(({ server }) => (server?.members ?? "").split(" ").filter(Boolean));
  const unknown = told.flatMap((member) => {
    const [name = "", host = ""] = member.split(/[=:]/);
    // One that is reached by its name is on the same engine, which has been asked.
    return nodes.some((node) => node.name === name) || host === name ? [] : [`${name} (${host})`];
  });
  if (unknown.length > 0) {
    throw new UserError(
      `failover refused: the nodes that answer know of ${[...new Set(unknown)].join(", ")}, and nodes in Pulumi.${stack}.yaml does not have it, so it may be the primary. Put it back, then run failover again`,
    );
  }
}

/**
 * A promotion that was asked for and has not ended yet cannot be taken back: promoting another node would make two primaries.
 * One of a node that is silent has ended by the fence: a server that is started again has forgotten that it was asked.
 */
function refuseAnother(stack: string, journal: Journal, candidate: Observation, observed: readonly Observation[]): void {
  const change = journal.read();
  const pending = observed.find((node) => node.name === change?.promoted);
  if (stepOf("failover", change, observed) === "hold" && pending !== undefined && pending.name !== candidate.name) {
    throw new UserError(
      `failover refused: a promotion of ${pending.name} is under way, and ${candidate.name} is ahead of it. Wait until ${pending.name} is primary (${npmRun("status", stack)}), or stop it (docker stop ${pending.container}), then run failover again`,
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

/** An objection, with what takes it away where a command does. */
const inWords = ({ what, remedy }: Objection, stack: string): string =>
  remedy === undefined ? what : `${what}; let it (${adviceOf(remedy, stack)}) and run this again`;

function refuseUnlessNeeded(stack: string, observed: readonly Observation[]): void {
  const nobody = notOneWriter(observed);
  if (nobody?.kind === "several-primaries") {
    throw new UserError(`failover refused: ${explain(nobody, stack)}, then run: ${npmRun("rejoin", stack, "NODE")}`);
  }
  const living = onlyPrimary(observed);
  if (living !== undefined) {
    // Without a standby that streams a switchover is refused too: the way out is to make it dead.
    const alone = observed.length > 1 && !hasReplica(living);
    const others = observed.filter((node) => node !== living);
    if (alone && others.every((node) => node.server === null)) {
      throw new UserError(
        `failover refused: the primary ${living.name} lives and answers, and no other node does. Bring ${names(others)} back with: ${npmRun("rejoin", stack, others[0]?.name ?? "NODE")}`,
      );
    }
    throw new UserError(
      `failover refused: the primary ${living.name} lives and answers. To move the role, ${
        alone
          ? `stop it, because no standby streams from it (docker stop ${living.container}), then run failover again`
          : `run: ${npmRun("switchover", stack)}`
      }`,
    );
  }
  refuseUnlessUp(stack, observed);
}
