import { docker } from "../engine/docker";
import type { Found } from "./survey";

/** Removes containers and networks, whose names would be in the way. A server among them is stopped in order before. */
export async function removeDebris(objects: readonly Found[], host: string, say: (line: string) => void): Promise<void> {
  const kind = (which: Found["kind"]): Found[] => objects.filter((object) => object.kind === which);
  await Promise.all(
    kind("container").map(async ({ id, name, state }) => {
      say(`removing container ${name}, which an interrupted run left behind`);
      if (state === "running") {
        await docker(["stop", "-t", "60", id], { host, timeout: 80_000 });
      }
      await docker(["rm", "-f", "-v", id], { host });
    }),
  );
  for (const { id, name } of kind("network")) {
    say(`removing network ${name}, which an interrupted run left behind`);
    await docker(["network", "rm", id], { host });
  }
}
