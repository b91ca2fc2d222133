import type { StackConfig } from "../../core/config";
import { containerName } from "../../core/model/names";
import { notOneWriter } from "../../core/judgement/findings";
import { wordsOf } from "../../core/judgement/words";
import { npmRun } from "../look/advice";
import type { Survey } from "./survey";

/** Docker's words for a container that does not run and does not come up by itself. */
const STOPPED = ["exited", "created", "dead"];

/**
 * Nodes that are merely stopped. Each gives a reason to run its ready step, which starts it, when the config asks for
 * that and somebody is primary, so that whoever comes up finds whom to follow; else a line to report. Pure.
 */
export function stoppedNodes(
  config: StackConfig,
  { found, observed }: Pick<Survey, "found" | "observed">,
): { start: Record<string, string[]>; report: string[] } {
  const stopped = config.nodes.filter(({ name }) => {
    const container = containerName(config.stack, name);
    return found.some((object) => object.kind === "container" && object.name === container && STOPPED.includes(object.state));
  });
  const nobody = notOneWriter(observed);
  if (config.startStopped && nobody?.kind !== "no-primary") {
    return { start: Object.fromEntries(stopped.map(({ name }) => [name, [`node ${name} is stopped`]])), report: [] };
  }
  const help =
    nobody !== undefined && config.startStopped
      ? `${wordsOf(nobody)}, so up starts none. Run: ${npmRun("status", config.stack)}`
      : `up leaves it alone. Start it with docker start, or let up do it: pulumi config set startStopped true`;
  return {
    start: {},
    report: stopped.map(({ name }) => `node ${name} is stopped (container ${containerName(config.stack, name)}); ${help}`),
  };
}
