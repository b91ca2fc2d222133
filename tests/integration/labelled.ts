import { docker } from "../docker";
import { labelFilter } from "../../core/model/names";

/** Takes the objects with a stack's label away, whatever the engine thinks of them. */
export async function removeLabelled(stack: string): Promise<void> {
  const filter = labelFilter(stack);
  const kinds: [list: string[], remove: string[]][] = [
    [
      ["ps", "-aq"],
      ["rm", "-f", "-v"],
    ],
    [
      ["network", "ls", "-q"],
      ["network", "rm"],
    ],
    [
      ["volume", "ls", "-q"],
      ["volume", "rm", "-f"],
    ],
  ];
  for (const [list, remove] of kinds) {
    const found = (await docker([...list, ...filter])).stdout.split("\n").filter(Boolean);
    if (found.length > 0) {
      await docker([...remove, ...found]);
    }
  }
}
