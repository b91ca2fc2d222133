import type { StackConfig } from "../core/config";
import { lsnDiff } from "../core/lsn";
import { volumeName } from "../core/names";
import type { WalEnd } from "../core/election";
import { NodeControl } from "../commands/nodes";
import type { Survey } from "./survey";

/**
 * The node of the config whose kept volume holds the newest data; undefined when no volume was kept.
 * Of equal ones the one that could write, then the one that the config lists first, then by name.
 */
export async function newestKept(config: StackConfig, survey: Survey): Promise<string | undefined> {
  const kept = config.nodes.filter((node) =>
    survey.found.some((object) => object.kind === "volume" && object.name === volumeName(config.stack, node.name)),
  );
  if (kept.length < 2) {
    return kept[0]?.name;
  }
  const ends = await Promise.all(kept.map((node) => new NodeControl(config, node).walEnd()));
  const known = kept.flatMap((node, i) => (ends[i] ? [{ name: node.name, end: ends[i] }] : []));
  known.sort((a, b) => newer(b.end, a.end) || Number(b.name === config.first) - Number(a.name === config.first));
  return known[0]?.name ?? kept[0]?.name;
}

/** Positive when `a` is newer than `b`. */
function newer(a: WalEnd, b: WalEnd): number {
  const ahead = lsnDiff(a.lsn, b.lsn);
  return a.timeline - b.timeline || (ahead > 0n ? 1 : ahead < 0n ? -1 : 0) || Number(a.writable) - Number(b.writable);
}
