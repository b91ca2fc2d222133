import { existsSync } from "fs";
import { join } from "path";
import { commandLine, runCommand } from "./cli";
import { UserError } from "../operations/errors";
import { ensureStack, exportLines, pulumiBin } from "../operations/deploy/workspace";

const program = commandLine(
  "-s env",
  'Prints the export lines with which plain pulumi works in this checkout: eval "$(npm run -s env)". Makes the stack in the backend when it is not there yet; the one that you have selected stays selected.',
);

void runCommand(program, async ({ stack }) => {
  if (!existsSync(join(pulumiBin(), "pulumi"))) {
    throw new UserError("Pulumi is missing. Install it with: npm run setup");
  }
  await ensureStack(stack);
  exportLines(stack).forEach((line) => console.log(line));
  return 0;
});
