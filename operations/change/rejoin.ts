import { type Mark, slotName } from "../../core/model/names";
import { needsClone } from "../../core/judgement/reason";
import { dropSlotSql } from "../../core/sql/slots";
import { notOneWriter } from "../../core/judgement/findings";
import { type Answering, isPrimary, type Observation } from "../../core/judgement/observation";
import { topologyOf } from "../../core/judgement/topology";
import { tablespacesOf } from "../../core/judgement/words";
import { UserError } from "../errors";
import { type Control, isStopped, nodeOf } from "../engine/nodeControl";
import { controlOf } from "../engine/nodeControls";
import { adviceOf, explain, npmRun, toDo } from "../look/advice";
import { BOUNDS } from "./bounds";
import { bringBack, refuseChangedPassword, streams } from "./bringingBack";
import { exclusively } from "./exclusively";
import { keepTalking } from "../engine/talks";
import { type Ports, REAL, type Work, workOn } from "./ports";
import { say } from "./report";

/**
 * `npm run rejoin NODE`: brings a failed node back as a standby. Returns the exit code.
 *
 * @param how.anew Clone it, whatever it has. @default false
 * @param how.dropOld Clone it, and remove what it has before that instead of after it, on a disk that cannot hold both. @default false
 */
export async function rejoin(
  stack: string,
  name: string,
  how: { anew?: boolean; dropOld?: boolean } = {},
  ports: Ports = REAL,
): Promise<number> {
  const config = ports.config(stack);
  const prepared = (): Promise<() => Promise<void>> =>
    prepare(workOn(config, ports), name, how.anew === true || how.dropOld === true, how.dropOld === true);
  return keepTalking(async () => {
    // What may take long comes after the lock: it stands in nobody's way.
    const rest = await exclusively(config, "rejoin", prepared, { seconds: BOUNDS.lock, lock: ports.lock });
    await rest();
    return 0;
  });
}

/** Looks whether the node can rejoin, stops and marks it. Returns what is left to do. */
async function prepare(work: Work, name: string, anew: boolean, dropOld: boolean): Promise<() => Promise<void>> {
  const control = controlOf(work.nodes, nodeOf(work.config, name).name);
  try {
    return await prepared(work, control, anew, dropOld);
  } finally {
    control.leave();
  }
}

async function prepared(work: Work, control: Control, anew: boolean, dropOld: boolean): Promise<() => Promise<void>> {
  const { ports, config, nodes } = work;
  const { stack } = config;
  const { name } = control.node;
  const observed = await ports.diagnose(config);
  const node = observed.find((n) => n.name === name);
  const primaries = observed.filter(isPrimary);
  const others = primaries.filter((n) => n.name !== name);
  if (node?.containerState === null || node === undefined) {
    throw new UserError(`node ${name} has no container. Run: ${npmRun("up", stack)}`);
  }
  if (isPrimary(node) && others.length === 0) {
    throw new UserError(`node ${name} is the primary; it has nobody to rejoin. To move the role, run: ${npmRun("switchover", stack)}`);
  }
  const nobody = notOneWriter(observed.filter((n) => n !== node));
  if (nobody !== undefined) {
    throw new UserError(`node ${name} cannot rejoin: ${explain(nobody, stack)}`);
  }
  const primary = others[0] as Answering;
  const lost = primary.server.slots.some((s) => s.name === slotName(name) && s.walStatus === "lost");
  if (!lost && !anew && streams(topologyOf(observed), name)) {
    say(`node ${name} streams from ${primary.name} already; nothing to do`);
    return () => Promise.resolve();
  }
  refuseChangedPassword(stack, primary);
  // A second writer that is not older than the primary holds commits of its own; taking them back is not ours to decide.
  if (isPrimary(node) && node.server.timeline >= primary.server.timeline) {
    throw new UserError(
      `node ${name} is writable on timeline ${node.server.timeline}, and ${primary.name} on ${primary.server.timeline}. Decide which one is right, stop the other (docker stop ${primary.container}), and rejoin that one`,
    );
  }
  if (node.server === null && node.containerState === "running" && (await control.lastWords()).code === "cloning") {
    say(`node ${name} is being cloned already; waiting for that`);
    return () => bringBackAndSay(work, control, primary.name);
  }
  if (anew || lost || node.code === "no-cluster" || needsClone(node.reason)) {
    refuseTablespaces(stack, name, primary);
  }
  const source = controlOf(nodes, primary.name);
  const passfile = await source.passfile();
  if (!isStopped(node.containerState)) {
    say(`stopping ${name}`);
  }
  control.expectLook();
  if (!(await control.fence(BOUNDS.shutdown))) {
    throw new UserError(`node ${name} does not stop. Stop it by hand: docker stop ${control.container}`);
  }
  if (node.server === null && !anew) {
    await refuseNewer(config.stack, control, node, primary);
  }
  // A password may have been rotated while the node was down.
  await control.takePassfile(passfile);
  // Between two restarts the log says nothing yet; now that the node is stopped it has said all.
  const now = await control.reason();
  const { text: reason, code } = now.text === "" ? { ...node, text: node.reason } : now;
  const empty = code === "no-cluster";
  const marks: Mark[] = [];
  if (!empty && (anew || lost || needsClone(reason))) {
    const why = lost ? " (its slot is lost)" : needsClone(reason) ? ` (${reason})` : "";
    say(`cloning ${name} anew from ${primary.name}${why}`);
    marks.push("reclone");
  }
  if (dropOld && !empty) {
    say(`what is in the volume of ${name} is removed before the clone`);
    marks.push("drop-old");
  }
  if (lost) {
    await source.sql(dropSlotSql(slotName(name)), 20_000);
  }
  await control.mark(...marks, "fenced", "rejoin-once");
  return async () => {
    if (empty) {
      say(`its volume holds no cluster: cloning ${name} from ${primary.name}`);
      await control.clone(source);
    }
    await source.checkpointTimeline();
    await bringBackAndSay(work, control, primary.name);
  };
}

/**
 * A node that is down, and was on a newer timeline than the primary, holds what nobody else has. Unless an earlier failover
 * has given that up already. @throws UserError, and the node runs again when it did
 */
async function refuseNewer(stack: string, control: Control, node: Observation, primary: Answering): Promise<void> {
  const end = await control.walEnd(true);
  const { timeline } = primary.server;
  if ("unreadable" in end || end.timeline <= timeline || control.hadMark("reclone")) {
    return;
  }
  if (node.containerState !== "exited") {
    await control.start();
  }
  throw new UserError(
    `node ${node.name} was on timeline ${end.timeline}, and ${primary.name} is primary on ${timeline}, which is older: what was written since is on ${node.name} alone. Decide which one is right. To go on with ${node.name}: docker stop ${primary.container}, docker start ${node.container}, then ${npmRun("rejoin", stack, primary.name)}. To give it up: ${npmRun("rejoin", stack, node.name, "--clone")}`,
  );
}

/** A clone cannot have tablespaces: they lie outside of a node's volume. @throws UserError, before the node is stopped. */
function refuseTablespaces(stack: string, name: string, primary: Answering): void {
  const found = primary.server.tablespaces;
  if (found.length > 0) {
    const leave = toDo(adviceOf({ do: "leave-tablespaces" }, stack));
    throw new UserError(`node ${name} cannot be cloned: ${tablespacesOf(primary.name, found)}. Nothing was changed. ${leave}`);
  }
}

/** Starts the node, waits until it streams, and says so. */
async function bringBackAndSay({ ports, config }: Work, control: Control, primary: string): Promise<void> {
  const start = ports.clock.now();
  await bringBack(control, config, ports);
  console.log(`node ${control.node.name} streams from ${primary}, ${((ports.clock.now() - start) / 1000).toFixed(1)} s after its start`);
}
