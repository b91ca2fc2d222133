import { toEngine } from "../engine/docker";
import { provideImage as provision } from "../../core/model/image";
import { type Machine, THIS_MACHINE } from "./machine";
import type { Report } from "./progress";

/** The environment of the script that provides the image. */
const environmentOf = (configured: string, engine: string): NodeJS.ProcessEnv => ({
  ...provision(configured).environment,
  ...toEngine(engine),
});

/**
 * Whether the image is on the engine (and, for our own, built from today's recipe).
 *
 * @param configured The config key `image`.
 * @param engine A DOCKER_HOST value.
 */
export async function imagePresent(configured: string, engine: string, machine: Machine = THIS_MACHINE): Promise<boolean> {
  const { script } = provision(configured);
  const env = { ...environmentOf(configured, engine), IMAGE_CHECK: "yes" };
  return (await machine.run("sh", ["-c", script], { env, timeout: 60_000 })).exitCode === 0;
}

/** Builds our image on an engine, or pulls any other. @param configured The config key `image`. @throws UserError */
export async function provideImage(configured: string, engine: string, report: Report, machine: Machine = THIS_MACHINE): Promise<void> {
  const { name, script } = provision(configured);
  // The script bounds each of its steps itself.
  await machine.longRun(`providing ${name}`, "sh", ["-c", script], report, {
    env: environmentOf(configured, engine),
    minutes: 60,
    ownErrors: "image: ",
  });
}
