import { slotName } from "../core/names";
import { hasNoCluster, needsClone } from "../core/reason";
import { assess, type Observation } from "../core/topology";
import { UserError } from "./errors";
import { nodeOf, NodeControl } from "./nodes";
import { diagnose } from "./observe";
import { BOUNDS, bringBack, names, refuseChangedPassword, say, streams } from "./promotion";
import { readStackConfig } from "./workspace";

/** `npm run rejoin NODE`: brings a failed node back as a standby. Returns the exit code. */
export async function rejoin(stack: string, name: string): Promise<number> {
  const config = readStackConfig(stack);
  const control = new NodeControl(config, nodeOf(config, name));
  const observed = await diagnose(config);
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
  const lost = primary.server?.slots.some((s) => s.name === slotName(name) && s.walStatus === "lost") ?? false;
  if (!lost && streams(status, name)) {
    say(`node ${name} streams from ${primary.name} already; nothing to do`);
    return 0;
  }
  refuseChangedPassword(stack, primary);
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
  const source = new NodeControl(config, nodeOf(config, primary.name));
  if (lost) {
    say(`its slot is lost: dropping it`);
    await source.sql(`SELECT pg_drop_replication_slot('${slotName(name)}')`);
  }
  if (hasNoCluster(node.reason)) {
    say(`its volume holds no cluster: cloning ${name} from ${primary.name}`);
    await control.clone(source);
  } else if (lost || needsClone(node.reason)) {
    say(`it cannot go on${node.reason === "" ? "" : ` (${node.reason})`}: cloning ${name} anew from ${primary.name}`);
    await control.mark("reclone");
  }
  await control.mark("fenced");
  await control.mark("rejoin-once");
  const start = Date.now();
  await bringBack(control, config);
  console.log(`node ${name} streams from ${primary.name}, ${((Date.now() - start) / 1000).toFixed(1)} s after its start`);
  return 0;
}
