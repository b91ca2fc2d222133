import type { StackConfig } from "../core/config";
import { lsnDiff } from "../core/lsn";
import { volumeName } from "../core/names";
import type { WalEnd } from "../core/election";
import { UserError } from "../commands/errors";
import { NodeControl } from "../commands/nodes";
import type { Survey } from "./survey";

/** The nodes of the config that have a volume. */
export function keptNodes(config: StackConfig, survey: Survey): StackConfig["nodes"] {
  return config.nodes.filter((node) =>
    survey.found.some((object) => object.kind === "volume" && object.name === volumeName(config.stack, node.name)),
  );
}

/**
 * The node of the config whose kept volume holds the newest data; undefined when no volume was kept.
 * Of equal ones the one that could write, then the one that the config lists first, then by name.
 *
 * @throws UserError when one cannot be read
 */
export async function newestKept(config: StackConfig, survey: Survey): Promise<string | undefined> {
  const kept = keptNodes(config, survey);
  if (kept.length < 2) {
    return kept[0]?.name;
  }
  const ends = await Promise.all(kept.map(async (node) => ({ name: node.name, end: await new NodeControl(config, node).walEnd() })));
  const known = ends.map(({ name, end }) => {
    if ("unreadable" in end) {
      throw new UserError(
        `the data of node ${name} was kept, and cannot be read (${end.unreadable}), so nobody can tell which data is the newest. Nothing was changed. ` +
          `Rename or remove its volume ${volumeName(config.stack, name)} when the others may go on without it`,
      );
    }
    return { name, end };
  });
  known.sort((a, b) => newer(b.end, a.end) || Number(b.name === config.first) - Number(a.name === config.first));
  return known[0]?.name;
}

/** Positive when `a` is newer than `b`. */
function newer(a: WalEnd, b: WalEnd): number {
  const ahead = lsnDiff(a.lsn, b.lsn);
  return a.timeline - b.timeline || (ahead > 0n ? 1 : ahead < 0n ? -1 : 0) || Number(a.writable) - Number(b.writable);
}
