import { randomBytes } from "crypto";
import { CONFIG_NAMESPACE, SECRET_KEYS } from "../../core/config";
import { UserError } from "../errors";
import { npmRun } from "../look/advice";
import { ensureStack, lastError, pulumiOutput, readStackConfig, runPulumi, stackFile } from "./workspace";

/** How many random bytes a password is made of: 32 characters. */
const BYTES = 24;

/**
 * `npm run secrets -- init`: makes a strong password for each secret that the stack has none of, encrypted in its config. Those that
 * it has stay. Returns the exit code. Nothing of them is shown or passed on a command line.
 */
export async function initSecrets(stack: string): Promise<number> {
  readStackConfig(stack);
  await ensureStack(stack);
  const there = JSON.parse(await pulumiOutput(stack, ["config", "--json", "--stack", stack])) as Record<
    string,
    { value?: string; secret: boolean }
  >;
  const made: string[] = [];
  for (const key of SECRET_KEYS) {
    const now = there[`${CONFIG_NAMESPACE}${key}`];
    if (now !== undefined && (now.secret || now.value !== "")) {
      continue;
    }
    const set = ["config", "set", "--stack", stack, "--secret", `${CONFIG_NAMESPACE}${key}`];
    const ran = await runPulumi(stack, set, randomBytes(BYTES).toString("base64url"));
    if (ran.exitCode !== 0) {
      throw new UserError(`the secret ${key} cannot be set: ${lastError(`${ran.stderr}\n${ran.stdout}`)}`);
    }
    made.push(key);
  }
  const all = SECRET_KEYS.length === made.length ? "" : "; the others were set already";
  console.log(
    made.length === 0
      ? `every secret of stack ${stack} is set already; to change one: pulumi config set --stack ${stack} --secret KEY, then ${npmRun("up", stack)}`
      : `made ${made.join(", ")} of stack ${stack}, encrypted in ${stackFile(stack)}${all}. Commit that file, and keep the passphrase. Next: ${npmRun("up", stack)}`,
  );
  return 0;
}
