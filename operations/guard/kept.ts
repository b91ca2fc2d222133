import { lsnDiff } from "../../core/grammar/lsn";
import { byName, volumeName } from "../../core/model/names";
import { homeOf, type PlacedConfig, placedNode, type PlacedNode } from "../../core/model/place";
import type { WalEnd } from "../../core/judgement/election";
import { UserError } from "../errors";
import { NodeControl } from "../engine/nodeControl";
import type { Survey } from "./survey";

/** The nodes that have a volume, in the config or not. */
export function keptNodes(survey: Survey): string[] {
  return survey.found.filter((object) => object.kind === "volume" && object.node !== "").map((object) => object.node);
}

/**
 * The node whose kept volume holds the newest data; undefined when none holds any.
 * Of equal ones the one that could write, then the one that the config lists first, then by name. One that a failover has
 * fenced or given up counts only when all are.
 *
 * @throws UserError when one cannot be read, or when the config does not have the node
 */
export async function newestKept(config: PlacedConfig, survey: Survey): Promise<string | undefined> {
  const kept = await Promise.all(
    keptNodes(survey)
      .sort(byName)
      .map(async (name) => {
        const at = survey.found.find((object) => object.kind === "volume" && object.node === name)?.dockerHost;
        const node = new NodeControl(config, nodeOf(config, name, at));
        const end = await node.walEnd();
        return { name, end, marked: node.hadMark("fenced") || node.hadMark("reclone") };
      }),
  );
  const known = kept.map(({ name, end, marked }) => {
    if ("unreadable" in end) {
      if (end.code === "wrong-volume") {
        throw new UserError(end.unreadable); // the node itself says what it is and what to do
      }
      throw new UserError(
        `the data of node ${name} was kept, and cannot be read (${end.unreadable}), so nobody can tell which data is the newest. Nothing was changed. ` +
          `Rename or remove its volume ${volumeName(config.stack, name)} when the others may go on without it`,
      );
    }
    return { name, end, marked };
  });
  // An interrupted up leaves volumes without data.
  const [newest] = known
    .filter(({ end }) => end.timeline > 0)
    .sort(
      (a, b) =>
        Number(a.marked) - Number(b.marked) || newer(b.end, a.end) || Number(b.name === config.first) - Number(a.name === config.first),
    );
  if (newest !== undefined && !config.nodes.some((node) => node.name === newest.name)) {
    throw new UserError(
      `the newest data that was kept is node ${newest.name}'s, and nodes in the config of stack "${config.stack}" does not have it. Nothing was changed. ` +
        `Put it back (it can be taken out once the role has moved), or remove its volume ${volumeName(config.stack, newest.name)} to begin with older data`,
    );
  }
  return newest?.name;
}

/** A node of the config, or one that was in it once. */
function nodeOf(config: PlacedConfig, name: string, at = homeOf(config)): PlacedNode {
  return config.nodes.find((node) => node.name === name) ?? placedNode({ name, port: 0, address: "" }, at);
}

/** Positive when `a` is newer than `b`. */
function newer(a: WalEnd, b: WalEnd): number {
  const ahead = lsnDiff(a.lsn, b.lsn);
  return a.timeline - b.timeline || (ahead > 0n ? 1 : ahead < 0n ? -1 : 0) || Number(a.writable) - Number(b.writable);
}
