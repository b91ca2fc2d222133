import type { PlacedConfig, PlacedNode } from "../core/model/place";
import { containerName, volumeName } from "../core/model/names";
import type { Look } from "../operations/guard/look";
import { isNew, type PriorState } from "../operations/guard/prior";

/** In which order nodes are built and replaced. */
export interface Plan {
  /** The node that began, or is to begin, as the primary; undefined when it was taken out. */
  first: string | undefined;
  /** The nodes that are there: standbys before the one that is primary now. They are replaced one at a time. */
  standing: PlacedNode[];
  /** The nodes of the state whose Docker host does not answer. They come last, and nothing waits for them. */
  away: PlacedNode[];
  /** Whether one of those that are there is primary and answers. */
  led: boolean;
  /** The nodes that have their data and no container: they come back side by side, because any of them may be the primary. */
  returning: PlacedNode[];
  /** The nodes that are to be made, or filled, side by side, by whoever is primary. */
  coming: PlacedNode[];
}

/** Who is there, in the order of replacement: the role decides, and it is asked of the servers. */
export function planOf(config: PlacedConfig, prior: PriorState, { survey, kept }: Pick<Look, "survey" | "kept">): Plan {
  const has = (kind: "container" | "volume", name: string): boolean =>
    survey === undefined || survey.found.some((object) => object.kind === kind && object.name === name);
  const { stack } = config;
  const away = config.nodes.filter((node) => survey?.silent.has(node.place.engine) === true);
  const nodes = config.nodes.filter((node) => !away.includes(node));
  const standing = nodes.filter((node) => prior.containers.has(node.name) && has("container", containerName(stack, node.name)));
  const returning = nodes.filter(
    (node) => !standing.includes(node) && prior.born.has(node.name) && has("volume", volumeName(stack, node.name)),
  );
  const isPrimary = ({ name }: PlacedNode): boolean => survey?.observed.find((node) => node.name === name)?.server?.inRecovery === false;
  return {
    first: isNew(prior) ? (kept ?? prior.first ?? config.first) : prior.first,
    away,
    standing: [...standing.filter((node) => !isPrimary(node)), ...standing.filter(isPrimary)],
    led: standing.some(isPrimary),
    returning,
    coming: nodes.filter((node) => !standing.includes(node) && !returning.includes(node)),
  };
}
