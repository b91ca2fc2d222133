import type { PlacedConfig } from "../../core/model/place";
import { REPLICATION_ROLE, REWIND_ROLE } from "../../core/model/names";
import { cannotClone, isRefused, needsClone } from "../../core/judgement/reason";
import { type Observation, UNREACHABLE } from "../../core/judgement/observation";
import { type Topology, topologyOf } from "../../core/judgement/topology";
import { lateBy, passwordChanged } from "../../core/judgement/words";
import { UserError } from "../errors";
import type { Control } from "../engine/nodeControl";
import { adviceOf, npmRun } from "../look/advice";
import { BOUNDS } from "./bounds";
import type { Ports } from "./ports";
import { say } from "./report";

/** Whether a node is a standby that streams through its slot. */
export function streams({ nodes }: Topology, name: string): boolean {
  const own = nodes.find((n) => n.name === name);
  return own?.role === "standby" && own.state === "streaming" && own.slot !== null && own.walStatus !== "lost";
}

/** A node that is to become a standby has to log in to the primary, and to read its files when it is rewound. @throws UserError when it could not. */
export function refuseChangedPassword(stack: string, primary: Observation): void {
  const changed = [REPLICATION_ROLE, REWIND_ROLE].filter((role) => primary.server?.changedPasswords.includes(role));
  if (changed.length > 0) {
    throw new UserError(
      `${passwordChanged(changed, primary.name)}, so ${changed.includes(REPLICATION_ROLE) ? "no standby could connect" : "no node could be rewound"}. Set it again with: ${npmRun("up", stack)}`,
    );
  }
}

/**
 * Starts a node and waits until it streams through its slot, or says in its own words why it does not.
 * A node that turns out to need WAL that is nowhere is told to clone, once.
 */
export async function bringBack(node: Control, config: PlacedConfig, { observe, clock }: Pick<Ports, "observe" | "clock">): Promise<void> {
  const { name } = node.node;
  let moved = clock.now();
  let progress = "";
  let told = "";
  let cloned = false;
  await node.start();
  // Docker counts its own restarts, and forgets them only when the node was not running at all.
  let restarts = await node.restarts();
  let refused = Infinity;
  let late = Infinity;
  let away = Infinity;
  let ended = 0;
  for (;;) {
    const observed = await observe(config);
    if (streams(topologyOf(observed), name)) {
      return;
    }
    const { text: words } = await node.lastWords();
    if (words !== told && words !== "" && !/ UTC \[\d+\] /.test(words)) {
      told = words;
      say(`${name}: ${words}`);
    }
    // How long it takes is up to the size of the data: what ends the wait is that nothing moves.
    const own = observed.find((o) => o.name === name);
    const server = own?.server;
    away = own?.containerState === UNREACHABLE ? Math.min(away, clock.now()) : Infinity;
    if (clock.now() - away > BOUNDS.away * 1000) {
      throw new UserError(
        `the Docker host of node ${name} does not answer any more (${own?.reason ?? ""}). The node comes back with its host; then run: ${npmRun("status", config.stack)}`,
      );
    }
    if (server?.inRecovery === false) {
      throw new UserError(`node ${name} has become primary meanwhile, so it rejoins nobody. Run: ${npmRun("status", config.stack)}`);
    }
    const now = [words, await node.lastLine(), server?.lsn, server?.replayLsn].join("\n");
    if (now !== progress) {
      progress = now;
      moved = clock.now();
    }
    const said = await node.reason();
    const { text: reason } = said;
    if (cannotClone(said)) {
      await node.fence(0);
      throw new UserError(`${reason}. Node ${name} is stopped until then`);
    }
    // The node has the primary's password file by now. A moment later the log may still be about the one before.
    refused = isRefused(reason) ? Math.min(refused, clock.now()) : Infinity;
    if (clock.now() - refused > BOUNDS.refused * 1000) {
      throw new UserError(`node ${name} does not stream: the primary refuses its login (${reason}). Run: ${npmRun("up", config.stack)}`);
    }
    late = server?.applyDelay != null && !server.localWalRead ? Math.min(late, clock.now()) : Infinity;
    if (own !== undefined && clock.now() - late > BOUNDS.refused * 1000) {
      throw new UserError(
        `node ${name} is a standby again, and does not stream before it has replayed the WAL that it has, which is ${lateBy(server?.applyDelay ?? "")}. To have that at once, run: ${adviceOf({ do: "replay-at-once", container: own.container }, config.stack)}`,
      );
    }
    if (needsClone(reason) && !cloned) {
      cloned = true;
      say(`${name} cannot go on (${reason}): cloning it anew`);
      await node.fence(BOUNDS.shutdown);
      await node.mark("reclone", "rejoin-once");
      await node.start();
      restarts = await node.restarts();
    }
    // Where Docker starts it again, it is "restarting" between two starts.
    ended = own?.containerState === "exited" ? ended + 1 : 0;
    if ((await node.restarts()) - restarts >= 3 || ended >= 5) {
      await node.fence(0);
      throw new UserError(
        `node ${name} does not come up: ${reason || words || "no reason given"}. It is stopped; its log: docker logs ${node.container}`,
      );
    }
    if (clock.now() - moved > BOUNDS.rejoin * 1000) {
      throw new UserError(
        `node ${name} does not stream, and has shown no progress for ${BOUNDS.rejoin} s. Its log: docker logs ${node.container}`,
      );
    }
    await clock.pause(100);
  }
}
