import execa from "execa";
import { currentDockerHost } from "../engine/dockerHost";
import { provideImage as provision } from "../../core/model/image";
import { longRun, type Report } from "./progress";

/** The environment of the script that provides the image. */
function environmentOf(configured: string): Record<string, string> {
  return { DOCKER_HOST: currentDockerHost(), ...provision(configured).environment };
}

/** Whether the image is on the Docker host (and, for our own, built from today's recipe). @param configured The config key `image`. */
export async function imagePresent(configured: string): Promise<boolean> {
  const { script } = provision(configured);
  const env = { ...environmentOf(configured), IMAGE_CHECK: "yes" };
  return (await execa("sh", ["-c", script], { env, reject: false, stdin: "ignore", timeout: 60_000 })).exitCode === 0;
}

/** Builds our image, or pulls any other. @param configured The config key `image`. @throws UserError */
export async function provideImage(configured: string, report: Report): Promise<void> {
  const { name, script } = provision(configured);
  // The script bounds each of its steps itself.
  await longRun(`providing ${name}`, "sh", ["-c", script], report, {
    env: environmentOf(configured),
    minutes: 60,
    ownErrors: "image: ",
  });
}
