import { existsSync } from "fs";
import { join } from "path";
import { commandLine, runCommand } from "./cli";
import { UserError } from "../operations/errors";
import { ensureStack, pulumiBin, pulumiEnvironment } from "../operations/deploy/workspace";
import { shellWord } from "../core/grammar/quoting";

const program = commandLine("-s env", 'Prints the export lines with which plain pulumi works in this checkout: eval "$(npm run -s env)"');

void runCommand(program, async ({ stack }) => {
  if (!existsSync(join(pulumiBin(), "pulumi"))) {
    throw new UserError("Pulumi is missing. Install it with: npm run setup");
  }
  await ensureStack(stack);
  for (const [name, value] of Object.entries(pulumiEnvironment(stack))) {
    console.log(`export ${name}=${shellWord(value)}`);
  }
  return 0;
});
