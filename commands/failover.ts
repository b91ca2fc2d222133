import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "fs";
import { join } from "path";
import type { StackConfig } from "../core/config";
import { bytesAtRisk, candidates, objections, type BytesAtRisk } from "../core/election";
import { lsnDiff } from "../core/lsn";
import { DEFAULT_LAG_THRESHOLD_BYTES } from "../core/queries";
import { assess, type Observation } from "../core/topology";
import { UserError } from "./errors";
import { nodeOf, NodeControl } from "./nodes";
import { observe } from "./observe";
import { readStackConfig, STATE_DIR } from "./workspace";

/** How long the parts of a failover or switchover may take, in seconds. */
const BOUNDS = { promote: 60, write: 60, confirm: 20, shutdown: 60, rejoin: 1_800 } as const;

export interface FailoverOptions {
  allowDataLoss: boolean;
  dryRun: boolean;
  json: boolean;
}

/** What a failover or switchover did. */
export interface Report {
  stack: string;
  /** The nodes that were fenced. */
  fenced: string[];
  promoted: string;
  /** Seconds from the start of the command (failover) or from the stop of the primary (switchover) to the first accepted write. */
  seconds: number;
  /** Bytes of the old primary's WAL that the new one never received; null when nobody can tell. */
  bytesLost: BytesAtRisk;
  /** How that is known. */
  howKnown: string;
}

const say = (line: string): void => console.error(line);

/** Notes that a change of primary is under way, so that one that was interrupted is finished by the next. */
class Journal {
  private readonly file: string;

  public constructor(stack: string) {
    this.file = join(STATE_DIR, `promotion-${stack}.json`);
  }

  public read(): { promoted: string } | undefined {
    try {
      return JSON.parse(readFileSync(this.file, "utf8")) as { promoted: string };
    } catch {
      return undefined; // no change under way, or killed before its note was whole: nothing was promoted yet
    }
  }

  public begin(promoted: string): void {
    mkdirSync(STATE_DIR, { recursive: true, mode: 0o700 });
    writeFileSync(`${this.file}.new`, JSON.stringify({ promoted }));
    renameSync(`${this.file}.new`, this.file);
  }

  public end(): void {
    rmSync(this.file, { force: true });
  }
}

const controls = (config: StackConfig): Map<string, NodeControl> => new Map(config.nodes.map((n) => [n.name, new NodeControl(config, n)]));

function controlOf(nodes: Map<string, NodeControl>, name: string): NodeControl {
  const found = nodes.get(name);
  if (found === undefined) {
    throw new UserError(`no node "${name}"`);
  }
  return found;
}

/** `npm run failover`: the primary is gone; fence it, promote the most advanced standby. Returns the exit code. */
export async function failover(stack: string, options: FailoverOptions): Promise<number> {
  const start = Date.now();
  const config = readStackConfig(stack);
  const nodes = controls(config);
  const observed = await observe(config);
  const status = assess(stack, observed);
  const journal = new Journal(stack);

  const interrupted = journal.read()?.promoted;
  if (interrupted !== undefined && status.primary === interrupted) {
    if (options.dryRun) {
      say(`would finish an interrupted promotion of ${interrupted}`);
      return 0;
    }
    say(`an interrupted promotion of ${interrupted} is finished`);
    await finish(config, nodes, interrupted, observed);
    journal.end();
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

  say(`fencing ${names(gone)}`);
  const proven = await Promise.all(gone.map((node) => controlOf(nodes, node.name).fence(0)));
  const loose = gone.filter((_, i) => proven[i] !== true);
  if (loose.length > 0) {
    throw new UserError(
      `${names(loose)} cannot be fenced: Docker does not say that the container is stopped, so it might still write. Stop it by hand, then run failover again`,
    );
  }
  // Asked again: what a dying primary still sent is there now, and it sends no more.
  const [ends, after] = await Promise.all([Promise.all(gone.map((node) => controlOf(nodes, node.name).walEnd())), observe(config)]);
  const candidate = candidates(after)[0];
  if (candidate === undefined) {
    throw new UserError("no standby answers any more. Run: npm run status");
  }
  const atRisk = bytesAtRisk(candidate, ends);
  const against = objections({
    candidate,
    observed: after,
    atRisk,
    synchronous: config.synchronous,
    maxBytes: DEFAULT_LAG_THRESHOLD_BYTES,
  });
  if (against.length > 0 && !options.allowDataLoss) {
    throw new UserError(
      `failover refused: ${against.map((o) => o.why).join("; ")}. ${startAgain(gone)}, or give that up with --allow-data-loss`,
    );
  }
  against.forEach((objection) => say(`--allow-data-loss gives up: ${objection.why}`));

  await Promise.all(gone.map((node) => controlOf(nodes, node.name).mark("fenced")));
  journal.begin(candidate.name);
  say(`promoting ${candidate.name}`);
  await controlOf(nodes, candidate.name).promote(BOUNDS.promote);
  const seconds = await finish(config, nodes, candidate.name, after, start);
  journal.end();
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
  for (const node of gone.filter((n) => n.containerState !== null)) {
    say(`bring ${node.name} back with: npm run rejoin -- ${node.name} --stack ${stack}`);
  }
  return 0;
}

/** How to take a refused failover back. */
function startAgain(gone: readonly Observation[]): string {
  const there = gone.filter((node) => node.containerState !== null);
  return there.length === 0
    ? "Bring the old primary back"
    : `Start what was primary again (docker start ${there.map((node) => node.container).join(" ")})`;
}

const names = (nodes: readonly Observation[]): string => nodes.map((node) => node.name).join(", ") || "nobody";

function refuseUnlessNeeded(stack: string, observed: readonly Observation[]): void {
  const primaries = observed.filter((node) => node.server?.inRecovery === false);
  if (primaries.length > 1) {
    throw new UserError(
      `${names(primaries)} are all writable. Stop the wrong one (docker stop CONTAINER), then run: npm run rejoin -- NODE --stack ${stack}`,
    );
  }
  if (primaries[0] !== undefined) {
    throw new UserError(
      `failover refused: the primary ${primaries[0].name} lives and answers. To move the role, run: npm run switchover -- --stack ${stack}`,
    );
  }
  if (observed.every((node) => node.containerState === null)) {
    throw new UserError(`stack "${stack}" is not up. Run: npm run up -- --stack ${stack}`);
  }
}

/** After a promotion: the survivors' slots, a write. Returns the seconds since `start`. */
async function finish(
  config: StackConfig,
  nodes: Map<string, NodeControl>,
  promoted: string,
  observed: readonly Observation[],
  start = Date.now(),
): Promise<number> {
  const survivors = observed.filter((node) => node.server?.inRecovery === true && node.name !== promoted).map((node) => node.name);
  const primary = controlOf(nodes, promoted);
  await Promise.all([primary.makeSlots(survivors), config.synchronous === undefined ? primary.write(BOUNDS.write) : undefined]);
  if (config.synchronous !== undefined) {
    say(`waiting until a standby confirms a write, ${BOUNDS.confirm} s at most`);
    await primary.write(BOUNDS.confirm).catch(() => {
      throw new UserError(
        `${promoted} is primary, but no standby confirms its writes within ${BOUNDS.confirm} s (config key synchronous). Bring a node back with: npm run rejoin -- NODE --stack ${config.stack}; then run failover again to finish`,
      );
    });
  }
  return (Date.now() - start) / 1000;
}

function show(report: Report, json: boolean): void {
  if (json) {
    console.log(JSON.stringify(report, undefined, 2));
    return;
  }
  const loss =
    report.bytesLost === null
      ? "an unknown number of bytes may be lost"
      : report.bytesLost === 0
        ? "nothing is lost"
        : `${report.bytesLost} bytes of WAL are lost`;
  console.log(`${report.promoted} is primary; first accepted write after ${report.seconds.toFixed(1)} s; ${loss} (${report.howKnown})`);
}

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
  const interrupted = journal.read()?.promoted;
  if (interrupted !== undefined && status.primary === interrupted) {
    say(`an interrupted promotion of ${interrupted} is finished`);
    await finish(config, nodes, interrupted, observed);
    for (const node of observed.filter((n) => n.server === null && n.containerState !== null)) {
      await bringBack(controlOf(nodes, node.name), config);
    }
    journal.end();
    return 0;
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
  const replica = observed.find((n) => n.name === status.primary)?.server?.replicas.find((r) => r.name === target?.name);
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

/** Waits for a condition; @throws UserError that says what was waited for. */
async function until(what: string, seconds: number, condition: () => Promise<boolean>): Promise<true> {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    if (await condition()) {
      return true;
    }
    if (Date.now() > deadline) {
      throw new UserError(`waited ${seconds} s for ${what}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Starts a node and waits until it streams through its slot, or says in its own words why it does not. */
async function bringBack(node: NodeControl, config: StackConfig): Promise<void> {
  await node.start();
  let told = "";
  await until(`node ${node.node.name} to stream again`, BOUNDS.rejoin, async () => {
    const words = await node.lastWords();
    if (words !== told && words !== "" && !/ UTC \[\d+\] /.test(words)) {
      told = words;
      say(`${node.node.name}: ${words}`);
    }
    if ((await node.restarts()) >= 3) {
      await node.fence(0);
      throw new UserError(
        `node ${node.node.name} does not come up: ${words || "no reason given"}. It is stopped; its log: docker logs ${node.container}`,
      );
    }
    const status = assess(config.stack, await observe(config));
    const own = status.nodes.find((n) => n.name === node.node.name);
    return own?.role === "standby" && own.syncState !== null && !status.problems.some((p) => p.node === node.node.name);
  });
}

/** `npm run rejoin NODE`: brings a failed node back as a standby. Returns the exit code. */
export async function rejoin(stack: string, name: string): Promise<number> {
  const config = readStackConfig(stack);
  const control = new NodeControl(config, nodeOf(config, name));
  const observed = await observe(config);
  const status = assess(stack, observed);
  const node = observed.find((n) => n.name === name);
  const primaries = observed.filter((n) => n.server?.inRecovery === false);
  const others = primaries.filter((n) => n.name !== name);
  if (node?.containerState === null || node === undefined) {
    throw new UserError(`node ${name} has no container. Run: npm run up -- --stack ${stack}`);
  }
  if (node.server?.inRecovery === false && others.length === 0) {
    throw new UserError(
      `node ${name} is the primary; it has nobody to rejoin. To move the role, run: npm run switchover -- --stack ${stack}`,
    );
  }
  if (others.length !== 1) {
    throw new UserError(
      `node ${name} cannot rejoin: ${others.length === 0 ? "no other node is primary" : `${names(others)} are all writable`}. Run: npm run status -- --stack ${stack}${others.length === 0 ? `; then npm run failover -- --stack ${stack}` : ""}`,
    );
  }
  const primary = others[0] as Observation;
  const own = status.nodes.find((n) => n.name === name);
  const lost = primary.server?.slots.some((s) => s.name === name.replace(/-/g, "_") && s.walStatus === "lost") ?? false;
  if (own?.role === "standby" && own.syncState !== null && !lost && !status.problems.some((p) => p.node === name)) {
    say(`node ${name} streams from ${primary.name} already; nothing to do`);
    return 0;
  }
  // A second writer that is newer than the primary holds commits of its own; taking them back is not ours to decide.
  if (node.server?.inRecovery === false && node.server.timeline > (primary.server?.timeline ?? 0)) {
    throw new UserError(
      `node ${name} is writable on timeline ${node.server.timeline}, newer than ${primary.name} on ${primary.server?.timeline}. Decide which one is right, stop the other (docker stop ${primary.container}), and rejoin that one`,
    );
  }
  say(`stopping ${name}`);
  if (!(await control.fence(BOUNDS.shutdown))) {
    throw new UserError(`node ${name} does not stop. Stop it by hand: docker stop ${control.container}`);
  }
  if (lost) {
    say(`its slot is lost: dropping it, and cloning ${name} anew`);
    await new NodeControl(config, nodeOf(config, primary.name)).sql(`SELECT pg_drop_replication_slot('${name.replace(/-/g, "_")}')`);
    await control.mark("reclone");
  }
  await control.mark("fenced");
  await control.mark("rejoin-once");
  const start = Date.now();
  await bringBack(control, config);
  console.log(`node ${name} streams from ${primary.name}, ${((Date.now() - start) / 1000).toFixed(1)} s after its start`);
  return 0;
}
