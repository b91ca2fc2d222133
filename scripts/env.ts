import { commandLine, runCommand } from "../commands/cli";
import { ensureStack, pulumiEnvironment } from "../commands/workspace";
import { shellWord } from "../core/quoting";

const program = commandLine("-s env", 'Prints the export lines with which plain pulumi works in this checkout: eval "$(npm run -s env)"');

void runCommand(program, async ({ stack }) => {
  await ensureStack(stack);
  for (const [name, value] of Object.entries(pulumiEnvironment(stack))) {
    console.log(`export ${name}=${shellWord(value)}`);
  }
  return 0;
});
