import { commandLine, type CommonOptions, runCommand } from "./cli";
import { checkSetup, setup } from "../operations/setup";
import { readStackConfig } from "../operations/deploy/workspace";

const program = commandLine("setup", "Installs what is missing: Docker engine, PostgreSQL image, Pulumi and its plugins.", {
  json: true,
}).option("--check", "only report what is there and what is missing; exit code 1 when something is");

void runCommand<CommonOptions & { check?: boolean }>(program, async (options) => {
  const { image } = readStackConfig(options.stack);
  if (!(options.check ?? false)) {
    await setup(image);
  }
  const found = await checkSetup(image);
  if (options.json ?? false) {
    console.log(JSON.stringify(found, undefined, 2));
  } else {
    for (const step of found) {
      console.log(`${step.present ? "there  " : "MISSING"}  ${step.title}`);
    }
  }
  return found.every((step) => step.present) ? 0 : 1;
});
