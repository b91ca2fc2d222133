import { existsSync } from "fs";
import { join } from "path";
import { UserError } from "../errors";
import { ensureStack, exportLines, pulumiBin } from "./workspace";

/** `npm run env`: the export lines for plain `pulumi`. Returns the exit code. @throws UserError when Pulumi is missing */
export async function printEnvironment(stack: string): Promise<number> {
  if (!existsSync(join(pulumiBin(), "pulumi"))) {
    throw new UserError("Pulumi is missing. Install it with: npm run setup");
  }
  await ensureStack(stack);
  exportLines(stack).forEach((line) => console.log(line));
  return 0;
}
