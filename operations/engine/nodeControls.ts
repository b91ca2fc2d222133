import type { PlacedConfig } from "../../core/model/place";
import { UserError } from "../errors";
import { type Control, NodeControl } from "./nodeControl";

/** The control of every node, by name. */
export const controls = (config: PlacedConfig): Map<string, Control> =>
  new Map(config.nodes.map((n) => [n.name, new NodeControl(config, n)]));

export function controlOf(nodes: Map<string, Control>, name: string): Control {
  const found = nodes.get(name);
  if (found === undefined) {
    throw new UserError(`no node "${name}"`);
  }
  return found;
}
