import Table from "cli-table3";
import { bytesText } from "../../core/grammar/bytes";
import { assess, exitCodeOf, type NodeStatus, type Role, type Status } from "../../core/judgement/topology";
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
      colour(COLOURS[node.role], node.role),
      text(node.timeline),
      text(node.lsn),
      lag(node),
      text(node.syncState),
      node.walStatus === null ? "-" : `${node.walStatus}, ${node.walKeptBytes === null ? "nothing" : bytesText(node.walKeptBytes)} kept`,
      `${node.host}:${node.port}`,
    ]);
  }
  const problems = found.problems.map((p) => colour(31, `! ${p.node === "" ? "" : `${p.node}: `}${p.what}. Run: ${p.fix}`));
  return [
    `stack ${found.stack}, primary ${found.primary ?? "none"}`,
    table.toString().replace(/ +$/gm, ""),
    ...(problems.length === 0 ? ["healthy"] : problems),
  ].join("\n");
}
