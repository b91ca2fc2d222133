import execa from "execa";
import { randomBytes } from "crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "fs";
import { homedir } from "os";
import { delimiter, join } from "path";
import { parse } from "yaml";
import { CONFIG_NAMESPACE, parseConfig, type StackConfig } from "../../core/config";
import { shellWord } from "../../core/grammar/quoting";
import { PROJECT } from "../../core/model/names";
import { UserError } from "../errors";
import { ROOT, STATE_DIR } from "../folders";

export { ROOT, STATE_DIR };

/** The versions that the toolchain builds and that package.json pins. */
export const VERSIONS = { pulumi: "3.259.0", docker: "5.2.0", command: "1.2.1" } as const;

/** Where Pulumi keeps its versions and plugins. */
export function pulumiHome(env: NodeJS.ProcessEnv = process.env): string {
  return env["PULUMI_HOME"] || join(homedir(), ".pulumi");
}

/** The folder with the Pulumi command line and the Node.js language host. */
export function pulumiBin(env: NodeJS.ProcessEnv = process.env): string {
  return join(pulumiHome(env), "versions", VERSIONS.pulumi, "bin");
}

/** The backend that the user has chosen, by environment or by `pulumi login`; undefined when none. */
function chosenBackend(env: NodeJS.ProcessEnv): string | undefined {
  if (env["PULUMI_BACKEND_URL"]) {
    return env["PULUMI_BACKEND_URL"];
  }
  try {
    const credentials = JSON.parse(readFileSync(join(pulumiHome(env), "credentials.json"), "utf8")) as { current?: string };
    return credentials.current || undefined;
  } catch {
    return undefined; // never logged in
  }
}

/**
 * A file backend in a folder. `metadata=skip`: the files beside the state in which the backend would keep
 * content types are not written at once, and an empty one, left by a run that was killed, makes the state
 * unreadable.
 */
export function fileBackend(folder: string): string {
  return `file://${folder}?metadata=skip`;
}

/** The backend: the user's, else files inside the checkout. */
export function backendUrl(env: NodeJS.ProcessEnv = process.env): string {
  return chosenBackend(env) ?? fileBackend(join(STATE_DIR, "backend"));
}

/** The folder of a file backend; undefined for any other. */
export function backendFolder(url: string): string | undefined {
  return url.startsWith("file:///") ? url.slice("file://".length).split("?")[0] : undefined;
}

function passphraseFile(): string {
  const file = join(STATE_DIR, "passphrase");
  if (!existsSync(file)) {
    mkdirSync(STATE_DIR, { recursive: true, mode: 0o700 });
    writeFileSync(file, `${randomBytes(24).toString("base64url")}\n`, { mode: 0o600, flag: "wx" });
  }
  return file;
}

/** What Pulumi.yaml has Node.js load before the program. */
export const PROGRAM_LOADER = join(ROOT, "scripts", "program.cjs");

/** NODE_OPTIONS that load it, beside those that there are. https://nodejs.org/api/cli.html#node_optionsoptions */
export function withLoader(options: string | undefined, loader = PROGRAM_LOADER): string {
  return [options, `--require "${loader.replace(/["\\]/g, "\\$&")}"`].filter(Boolean).join(" ");
}

/**
 * The variables with which plain `pulumi` works in this checkout. What the user has set already wins.
 * Makes the folder of the file backend and the passphrase file when they are missing.
 */
export function pulumiEnvironment(stack: string, env: NodeJS.ProcessEnv = process.env): Record<string, string> {
  const backend = backendUrl(env);
  const folder = backendFolder(backend);
  if (folder !== undefined) {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  }
  const hasPassphrase = env["PULUMI_CONFIG_PASSPHRASE"] !== undefined || Boolean(env["PULUMI_CONFIG_PASSPHRASE_FILE"]);
  const path = env["PATH"] ?? "";
  const bin = pulumiBin(env);
  return {
    PATH: path.split(delimiter).includes(bin) ? path : `${bin}${delimiter}${path}`,
    PULUMI_BACKEND_URL: backend,
    PULUMI_STACK: stack,
    PULUMI_SKIP_UPDATE_CHECK: "true",
    // A language host that does not know Pulumi.yaml's options (the one that is built where nothing can be downloaded)
    // would check the program's types, which takes seconds: `npm run check` does that.
    PULUMI_NODEJS_TRANSPILE_ONLY: "true",
    NODE_OPTIONS: withLoader(env["NODE_OPTIONS"]),
    // The dev stack's config in git holds no salt: Pulumi finds it in the state.
    PULUMI_FALLBACK_TO_STATE_SECRETS_MANAGER: "true",
    // Set-up has put the plugins in place; without this, a machine that cannot download tries for seconds.
    PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION: "true",
    ...(hasPassphrase ? {} : { PULUMI_CONFIG_PASSPHRASE_FILE: passphraseFile() }),
  };
}

/**
 * The lines with which a shell takes that environment over. The path is the shell's own with Pulumi before it: npm, which has
 * started this process, has put folders of its own on the path.
 */
export function exportLines(stack: string, env: NodeJS.ProcessEnv = process.env): string[] {
  // What loads the program is for Pulumi alone, and not for every Node.js that the shell starts.
  const { PATH, NODE_OPTIONS: _options, ...rest } = pulumiEnvironment(stack, env);
  const path = PATH === env["PATH"] ? [] : [`export PATH=${shellWord(pulumiBin(env))}:"$PATH"`];
  return [...path, ...Object.entries(rest).map(([name, value]) => `export ${name}=${shellWord(value)}`)];
}

/** Runs Pulumi to its end, in the environment of {@link pulumiEnvironment}. @param input For what is on no command line. @default none */
export function runPulumi(stack: string, args: readonly string[], input?: string): Promise<execa.ExecaReturnValue> {
  return execa("pulumi", ["--non-interactive", ...args], {
    ...{ cwd: ROOT, env: pulumiEnvironment(stack), reject: false },
    ...(input === undefined ? {} : { input }),
  });
}

/** Runs Pulumi and returns what it printed. @throws UserError with Pulumi's own last words. */
export async function pulumiOutput(stack: string, args: readonly string[]): Promise<string> {
  const result = await runPulumi(stack, args);
  if (result.exitCode !== 0) {
    throw new UserError(`pulumi ${args.slice(0, 2).join(" ")} failed: ${lastError(`${result.stderr}\n${result.stdout}`)}`);
  }
  return result.stdout;
}

/** The line of Pulumi's output that says what went wrong. */
export function lastError(output: string): string {
  const lines = output.split("\n").map((line) => line.trim());
  const error = lines.find((line) => line.startsWith("error: "));
  return (error ?? lines.filter(Boolean).at(-1) ?? "no output").replace(/^error: /, "");
}

/** Whether the stack is in the backend. */
export async function hasStack(stack: string): Promise<boolean> {
  const listed = JSON.parse(await pulumiOutput(stack, ["stack", "ls", "--json"])) as { name: string }[];
  // A service's stacks are named OWNER/PROJECT/STACK as well.
  return listed.some(({ name }) => name.split("/").at(-1) === stack);
}

/**
 * Makes the stack in the backend, if it is not there. It selects none: which one plain `pulumi` takes without `--stack` and
 * `PULUMI_STACK` is the user's own choice, and may be one that nobody wants to hit by accident.
 */
export async function ensureStack(stack: string): Promise<void> {
  if (!existsSync(stackFile(stack))) {
    throw new UserError(
      `there is no stack "${stack}": ${stackFile(stack)} does not exist. Known stacks are dev, staging and prod; copy one of their files for another`,
    );
  }
  if (!(await hasStack(stack))) {
    try {
      await makeStack(stack);
    } catch (error) {
      if (!(error instanceof UserError) || !error.message.includes("incorrect passphrase")) {
        throw error;
      }
      forgetSalt(stack);
      await makeStack(stack);
    }
  }
  await keepSaltOutOfGit();
}

async function makeStack(stack: string): Promise<void> {
  try {
    await pulumiOutput(stack, ["stack", "init", "--no-select", stack]);
  } catch (error) {
    // Another command may have been faster.
    if (!(error instanceof UserError) || !error.message.includes("already exists")) {
      throw error;
    }
  }
}

/**
 * The stack's file holds the salt of another passphrase, and the backend has no such stack. Where no secret is in the file,
 * nothing is encrypted with that any more: the salt goes, and Pulumi makes another one.
 *
 * @throws UserError when something was encrypted with the other passphrase.
 */
function forgetSalt(stack: string): void {
  const file = stackFile(stack);
  const text = readFileSync(file, "utf8");
  if (/^\s+secure:/m.test(text)) {
    throw new UserError(
      `the passphrase does not fit ${file}. Set PULUMI_CONFIG_PASSPHRASE (or PULUMI_CONFIG_PASSPHRASE_FILE) to the one with which it was made; when that is lost, remove encryptionsalt and every value with secure: from the file, and set the secrets anew with pulumi config set --secret`,
    );
  }
  writeFileSync(file, text.replace(/^encryptionsalt:.*\n?/m, ""));
}

/**
 * A git filter: leaves the salt out of a file without secrets, to which it means nothing. What was encrypted with it cannot be
 * read without it.
 */
export const SALT_FILTER = `awk '{ line[NR] = $0 } /^[ \\t]+secure:/ { secret = 1 } END { for (i = 1; i <= NR; i++) if (secret || line[i] !~ /^encryptionsalt:/) print line[i] }'`;

/**
 * Pulumi writes the salt of the dev stack's passphrase into Pulumi.dev.yaml. As long as no secret is in that file, the salt
 * belongs to this checkout, as the passphrase does, so a filter (see .gitattributes) leaves that line out of git. Git
 * takes a file of another size for a changed one until it is told to look again.
 */
async function keepSaltOutOfGit(): Promise<void> {
  const file = "Pulumi.dev.yaml";
  const git = (...args: string[]): Promise<string> => execa("git", args, { cwd: ROOT }).then((result) => result.stdout);
  try {
    await git("config", "--local", "filter.pulumi-dev-salt.clean", SALT_FILTER);
    if ((await git("hash-object", "--path", file, file)) === (await git("rev-parse", `:${file}`))) {
      await git("update-index", file);
    }
  } catch {
    // No git, no checkout, or a file that is not tracked: nothing to keep clean.
  }
}

/** The file with a stack's configuration. */
export function stackFile(stack: string): string {
  return join(ROOT, `Pulumi.${stack}.yaml`);
}

/** A stack's configuration without its secrets, read without starting Pulumi. @throws ConfigError, UserError */
export function readStackConfig(stack: string, file = stackFile(stack)): StackConfig {
  if (!existsSync(file)) {
    throw new UserError(`there is no stack "${stack}": ${file} does not exist`);
  }
  let document: { config?: Record<string, unknown> } | null;
  try {
    document = parse(readFileSync(file, "utf8")) as typeof document;
  } catch (error) {
    throw new UserError(`${file} is not valid YAML: ${(error as Error).message.split("\n")[0]}`);
  }
  const raw: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(document?.config ?? {})) {
    const [namespace, name] = key.includes(":") ? key.split(":", 2) : [PROJECT, key];
    if (`${namespace}:` === CONFIG_NAMESPACE && name !== undefined) {
      raw[name] = value;
    }
  }
  return parseConfig(stack, raw);
}
