import * as pulumi from "@pulumi/pulumi";
import type { Provided } from "../core/config";
import { type Cluster, nodeEnvironment } from "../core/model/cluster";
import { findsOthers, follows, restartsFor } from "../core/judgement/handover";
import { isStandby } from "../core/judgement/observation";
import { containerName } from "../core/model/names";
import type { PlacedConfig, PlacedNode } from "../core/model/place";
import { handOver } from "../operations/guard/handover";
import type { Look } from "../operations/guard/look";
import type { PriorState } from "../operations/guard/prior";
import { nodeDefinition, sizeOf } from "./node";
import type { Plan } from "./plan";
import { digestOf } from "./service";
import { shown } from "./shown";

/** A change of the primary that nobody is to wait for: a standby takes the role before. */
export interface Handover {
  /** The node that is primary. */
  from: string;
  /** What is done to it, in words. */
  why: string;
}

/** Whether this run replaces or restarts the primary while somebody else can be it. */
export function handoverOf(
  cluster: Cluster,
  plan: Plan,
  prior: PriorState,
  { survey }: Pick<Look, "survey">,
  provided?: Provided,
): Handover | undefined {
  const primary = plan.standing.at(-1);
  const others = plan.standing.slice(0, -1);
  const isThere = ({ name }: PlacedNode): boolean => survey?.observed.some((node) => node.name === name && isStandby(node)) === true;
  if (survey === undefined || primary === undefined || !plan.led || !others.some(isThere)) {
    return undefined;
  }
  const { name } = primary;
  const { PGNODE_CONF: after } = nodeEnvironment(cluster, name);
  const before = prior.settings.get(name) ?? after;
  if (!findsOthers(before, after) || !follows(before, after)) {
    return undefined;
  }
  // A node that does not trust the new primary's certificate yet cannot follow it.
  if (provided !== undefined && prior.trusted.get(name) !== provided.authority) {
    return undefined;
  }
  const made = survey.found.find(({ kind, name: found }) => kind === "container" && found === containerName(cluster.stack, name));
  // The node's program of version 0.1.0, whose containers carry no identity, does not come back beside a new primary by itself.
  if (made === undefined || made.identity === "") {
    return undefined;
  }
  if (made.definition !== digestOf(nodeDefinition({ cluster, node: name, ...sizeOf(primary) }))) {
    return { from: name, why: "its container is replaced" };
  }
  const known = survey.observed.find((node) => node.name === name)?.drift?.restarts ?? [];
  const restarts = restartsFor(before, after, known);
  return restarts.length > 0 ? { from: name, why: `it is restarted for ${restarts.join(", ")}` } : undefined;
}

/**
 * The resources to wait for, and after them the change of roles: what depends on these comes when both are done. In a preview nothing
 * moves.
 *
 * @param from The node that is primary.
 * @param move What moves it. @default the real one
 */
export function afterHandover(
  well: readonly pulumi.Resource[],
  config: PlacedConfig,
  from: string,
  move: typeof handOver = handOver,
): pulumi.Input<pulumi.Resource>[] {
  if (pulumi.runtime.isDryRun()) {
    return [...well];
  }
  // A resource has its URN when what was to be done to it is done.
  const isDone = ({ urn }: pulumi.Resource): Promise<void> => new Promise((resolve) => void urn.apply(() => resolve()));
  const moved = Promise.all(well.map(isDone))
    .then(() => move(config, from, (line) => void pulumi.log.warn(line)))
    .catch((error: unknown) => {
      throw shown(error);
    });
  return well.map((resource) => moved.then(() => resource));
}
