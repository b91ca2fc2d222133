import { existsSync } from "fs";
import { join } from "path";
import { shellWord } from "../../core/grammar/quoting";
import { UserError } from "../errors";
import { ensureStack, pulumiBin, pulumiEnvironment } from "./workspace";

/** `npm run env`: the export lines for plain `pulumi`. Returns the exit code. @throws UserError when Pulumi is missing */
export async function printEnvironment(stack: string): Promise<number> {
  if (!existsSync(join(pulumiBin(), "pulumi"))) {
    throw new UserError("Pulumi is missing. Install it with: npm run setup");
  }
  await ensureStack(stack);
  for (const [name, value] of Object.entries(pulumiEnvironment(stack))) {
    console.log(`export ${name}=${shellWord(value)}`);
  }
  return 0;
}
