import Table from "cli-table3";
import { bytesText } from "../../core/grammar/bytes";
import type { Severity } from "../../core/judgement/findings";
import type { NodeStatus, Role } from "../../core/judgement/topology";
import { toDo } from "./advice";
import { assess, exitCodeOf, type Problem, type Status } from "./documents";
import { placedHere } from "../engine/dockerHost";
import { diagnose } from "../engine/observe";
import { readStackConfig } from "../deploy/workspace";

/** `npm run status`. Returns the exit code: 0 healthy, 1 degraded, 2 more than one writer or none. */
export async function status(stack: string, json: boolean): Promise<number> {
  const found = assess(stack, await diagnose(placedHere(readStackConfig(stack))));
  console.log(json ? JSON.stringify(found, undefined, 2) : render(found));
  return exitCodeOf(found);
}

const COLOURS: Record<Role, number> = { primary: 32, standby: 36, down: 31, unknown: 33 };

/** Red is what cannot wait. */
const URGENCY: Record<Severity, number> = { critical: 31, error: 31, warning: 33 };

function lineOf({ node, what, fix, fixByPulumi }: Problem): string {
  const plain = fixByPulumi === undefined ? "" : ` (or: ${fixByPulumi})`;
  return `! ${node === "" ? "" : `${node}: `}${what}. ${toDo(fix)}${plain}`;
}

function colour(code: number, text: string): string {
  return process.stdout.isTTY && !process.env["NO_COLOR"] ? `\u001b[${code}m${text}\u001b[0m` : text;
}

/** Columns two spaces apart and no lines between: three nodes fit a narrow terminal. */
const NO_LINES = Object.fromEntries(
  "top top-mid top-left top-right bottom bottom-mid bottom-left bottom-right left left-mid mid mid-mid right right-mid"
    .split(" ")
    .map((part) => [part, ""]),
);

/** The table for people. */
export function render(found: Status): string {
  const table = new Table({
    head: ["node", "role", "timeline", "LSN", "lag", "sync", "slot", "address"],
    chars: { ...NO_LINES, middle: "  " },
    style: { head: [], border: [], "padding-left": 0, "padding-right": 0 },
  });
  const text = (value: string | number | null): string => (value === null ? "-" : String(value));
  const lag = ({ lagBytes, lagSeconds }: NodeStatus): string => {
    const parts = [...(lagBytes === null ? [] : [bytesText(lagBytes)]), ...(lagSeconds === null ? [] : [`${lagSeconds.toFixed(1)} s`])];
    return parts.join(", ") || "-";
  };
  for (const node of found.nodes) {
    table.push([
      node.name,
      colour(COLOURS[node.role], node.role) + (node.upstream === null || node.upstream === found.primary ? "" : ` of ${node.upstream}`),
      text(node.timeline),
      text(node.lsn),
      lag(node),
      text(node.syncState),
      node.walStatus === null ? "-" : `${node.walStatus}, ${node.walKeptBytes === null ? "nothing" : bytesText(node.walKeptBytes)} kept`,
      `${node.host}:${node.port}`,
    ]);
  }
  const problems = found.problems.map((problem) => colour(URGENCY[problem.severity], lineOf(problem)));
  return [
    `stack ${found.stack}, primary ${found.primary ?? "none"}`,
    table.toString().replace(/ +$/gm, ""),
    ...(problems.length === 0 ? ["healthy"] : problems),
  ].join("\n");
}
