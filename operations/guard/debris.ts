import { HELPER_LABEL } from "../../core/model/names";
import { Engine } from "../engine/engine";
import { type Case, debris } from "./refusals";
import type { Found } from "./survey";

/** Removes all that interrupted runs of this state have left behind; whoever calls it has the stack's lock. */
export async function clearUp(found: Case, say: (line: string) => void): Promise<void> {
  await removeDebris(debris(found), say);
  const engines = found.survey.engines.map(({ dockerHost }) => dockerHost);
  await removeHelpers(found.config.stack, engines, say);
}

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

/**
 * Removes helper containers (see NodeVolume) that were made and never started, because the command that wanted them was killed in
 * between: as long as they are there, no volume that they were to look into can be removed. Never throws.
 *
 * @param engines DOCKER_HOST values.
 */
export async function removeHelpers(stack: string, engines: readonly string[], say: (line: string) => void): Promise<void> {
  await Promise.all(
    engines.map(async (host) => {
      const engine = new Engine(host);
      const filters = ["--filter", `label=${HELPER_LABEL}=${stack}`, "--filter", "status=created"];
      const made = await engine.run(["ps", "-a", ...filters, "--format", "{{.ID}}\t{{.RunningFor}}"], { timeout: 10_000 });
      for (const line of made.exitCode === 0 ? made.stdout.split("\n") : []) {
        const [id = "", age = ""] = line.split("\t");
        // A younger one may be about to start.
        if (id !== "" && !/\bseconds?\b/.test(age)) {
          say(`removing the helper container ${id}, which an interrupted command left behind`);
          await engine.run(["rm", id], { timeout: 10_000 });
        }
      }
    }),
  );
}
