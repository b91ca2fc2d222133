import type { StackConfig } from "../core/config";
import { containerName, volumeName } from "../core/model/names";
import type { Look } from "../operations/guard/look";
import { isNew, type PriorState } from "../operations/guard/prior";

/** In which order nodes are built and replaced. */
export interface Plan {
  /** The node that began, or is to begin, as the primary; undefined when it was taken out. */
  first: string | undefined;
  /** The nodes that are there: standbys before the one that is primary now. They are replaced one at a time. */
  standing: StackConfig["nodes"];
  /** Whether one of those is primary and answers. */
  led: boolean;
  /** The nodes that have their data and no container: they come back side by side, because any of them may be the primary. */
  returning: StackConfig["nodes"];
  /** The nodes that are to be made, or filled, side by side, by whoever is primary. */
  coming: StackConfig["nodes"];
}

/** Who is there, in the order of replacement: the role decides, and it is asked of the servers. */
export function planOf(config: StackConfig, prior: PriorState, { survey, kept }: Pick<Look, "survey" | "kept">): Plan {
  const has = (kind: "container" | "volume", name: string): boolean =>
    survey === undefined || survey.found.some((object) => object.kind === kind && object.name === name);
  const { stack, nodes } = config;
  const standing = nodes.filter((node) => prior.containers.has(node.name) && has("container", containerName(stack, node.name)));
  const returning = nodes.filter(
    (node) => !standing.includes(node) && prior.born.has(node.name) && has("volume", volumeName(stack, node.name)),
  );
  const isPrimary = ({ name }: StackConfig["nodes"][number]): boolean =>
    survey?.observed.find((node) => node.name === name)?.server?.inRecovery === false;
  return {
    first: isNew(prior) ? (kept ?? prior.first ?? config.first) : prior.first,
    standing: [...standing.filter((node) => !isPrimary(node)), ...standing.filter(isPrimary)],
    led: standing.some(isPrimary),
    returning,
    coming: nodes.filter((node) => !standing.includes(node) && !returning.includes(node)),
  };
}
