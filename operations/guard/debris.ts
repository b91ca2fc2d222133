import { Engine } from "../engine/engine";
import type { Found } from "./survey";

/** Removes containers and networks, whose names would be in the way. A server among them is stopped in order before. */
export async function removeDebris(objects: readonly Found[], say: (line: string) => void): Promise<void> {
  const kind = (which: Found["kind"]): Found[] => objects.filter((object) => object.kind === which);
  await Promise.all(
    kind("container").map(async ({ id, name, state, dockerHost }) => {
      const engine = new Engine(dockerHost);
      say(`removing container ${name}, which an interrupted run left behind`);
      if (state === "running") {
        await engine.run(["stop", "-t", "60", id], { timeout: 80_000 });
      }
      await engine.run(["rm", "-f", "-v", id]);
    }),
  );
  for (const { id, name, dockerHost } of kind("network")) {
    say(`removing network ${name}, which an interrupted run left behind`);
    await new Engine(dockerHost).run(["network", "rm", id]);
  }
}
