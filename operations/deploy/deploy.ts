import execa from "execa";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "fs";
import { join } from "path";
import { enginesOf, isHere, type PlacedConfig } from "../../core/model/place";
import { placedHere } from "../engine/dockerHost";
import { labelFilter } from "../../core/model/names";
import { clearUp } from "../guard/debris";
import { exportedResources, readPrior } from "../guard/prior";
import { type Case, foreign, gone, wrongEngine } from "../guard/refusals";
import { everyNode, survey } from "../guard/survey";
import { Engine } from "../engine/engine";
import { UserError } from "../errors";
import { acquireLock } from "../change/lock";
import { releaseStaleLocks } from "./staleLocks";
import { setup } from "../setup";
import { ensureStack, hasStack, pulumiEnvironment, pulumiOutput, readStackConfig, ROOT, STATE_DIR } from "./workspace";

const say = (line: string): void => console.error(line);

/**
 * `npm run up`: set-up where something is missing, then `pulumi up`, which looks, guards and heals by itself.
 * Returns the exit code.
 */
export async function up(stack: string): Promise<number> {
  const config = placedHere(readStackConfig(stack));
  await setup({ engines: enginesHere(config) });
  await ensureStack(stack);
  await releaseStaleLocks(stack, say);
  const found = await lookAround(config);
  // Pulumi believes its state until it is told to look; the program then makes anew what is gone.
  const elsewhere = found === undefined ? undefined : wrongEngine(found);
  if (elsewhere !== undefined) {
    // A refresh there would take everything out of the state.
    throw new UserError(elsewhere);
  }
  // A refresh asks every host, and takes what one does not show out of the state.
  const lost = found === undefined || found.survey.silent.size > 0 ? [] : gone(found);
  if (lost.length > 0) {
    say(`gone from Docker: ${lost.join(", ")}; the state is refreshed first`);
  }
  const code = await pulumi(stack, ["up", "--yes", "--skip-preview", ...(lost.length > 0 ? ["--refresh"] : [])]);
  if (code === 0) {
    const urls = config.nodes.map((n) => `${n.name} ${n.address}:${n.port}`).join(", ");
    say(
      `\nStack ${stack} is up: ${urls}. Next: npm run verify, npm run status (each with -- --stack ${stack}). Connect: eval "$(npm run -s env -- --stack ${stack})"; psql "$(pulumi stack output writerUrl --show-secrets)"`,
    );
  }
  return code;
}

/**
 * `npm run down`: `pulumi destroy`, then a look that Docker holds nothing of the stack any more. The program does not run
 * in a destroy, so what it guards in `up` is guarded here.
 */
export async function down(stack: string): Promise<number> {
  const config = placedHere(readStackConfig(stack));
  const engines = enginesOf(config.nodes);
  await setup({ engines: enginesHere(config) });
  if (!(await hasStack(stack)) && (await leftovers(stack, engines)).length === 0) {
    say(`stack "${stack}" was never up: there is nothing to remove`);
    return 0;
  }
  await ensureStack(stack);
  await releaseStaleLocks(stack, say);
  const lock = await acquireLock({ stack, engines }, "down", { seconds: LOCK_SECONDS, say });
  try {
    const found = await lookAround(config);
    const why = found === undefined ? undefined : (wrongEngine(found) ?? foreign(found));
    if (why !== undefined) {
      throw new UserError(why);
    }
    if (found !== undefined) {
      await clearUp(found, say);
    }
    if (config.protectData) {
      // The volumes stay whatever happens; without this Pulumi would not even let go of them.
      await pulumiOutput(stack, ["state", "unprotect", "--all", "--yes", "--stack", stack]);
    }
    const lost = found !== undefined && gone(found).length > 0;
    const code = await pulumi(stack, ["destroy", "--yes", "--skip-preview", ...(lost ? ["--refresh"] : [])]);
    return code === 0 ? await nothingIsLeft(config) : code;
  } finally {
    await lock.release();
  }
}

/** The engines of this machine, which set-up can provide. Those of others may be away, and the look says so. */
const enginesHere = ({ nodes }: PlacedConfig): string[] => enginesOf(nodes).filter(isHere);

/** How long `down` waits for another change of the stack, in seconds. */
const LOCK_SECONDS = 120;

/** @throws UserError when Docker still holds what should be gone. */
async function nothingIsLeft(config: PlacedConfig): Promise<number> {
  const rest = await leftovers(config.stack, enginesOf(config.nodes));
  const unexpected = config.protectData ? rest.filter((line) => !line.startsWith("volume ")) : rest;
  if (unexpected.length > 0) {
    throw new UserError(
      `these objects of stack ${config.stack} are still there: ${unexpected.join(", ")}. Remove them by hand with docker`,
    );
  }
  if (rest.length > 0) {
    say(`\nprotectData is on: kept ${rest.join(", ")}. The next up takes them on again, beginning with the newest.`);
  }
  return 0;
}

/** What the state and the engine say of the stack; undefined when the engine does not answer, which Pulumi itself will say. */
async function lookAround(config: PlacedConfig): Promise<Case | undefined> {
  const prior = readPrior(exportedResources(await pulumiOutput(config.stack, ["stack", "export", "--stack", config.stack])));
  const seen = await survey(config, everyNode(config, prior));
  return "unreachable" in seen ? undefined : { config, prior, survey: seen };
}

/** The Docker objects that carry a stack's label, on these engines. */
export async function leftovers(stack: string, engines: readonly string[]): Promise<string[]> {
  const filter = labelFilter(stack);
  const kinds: [string, string[]][] = [
    ["container", ["ps", "-a", "--format", "{{.Names}}", ...filter]],
    ["network", ["network", "ls", "--format", "{{.Name}}", ...filter]],
    ["volume", ["volume", "ls", "--format", "{{.Name}}", ...filter]],
  ];
  const found = await Promise.all(
    engines.flatMap((engine) =>
      kinds.map(async ([kind, args]) =>
        (await new Engine(engine).run(args)).stdout
          .split("\n")
          .filter(Boolean)
          .map((name) => `${kind} ${name}`),
      ),
    ),
  );
  return found.flat();
}

/** Runs Pulumi with its own display; when it fails, ends with the errors in one line each. */
async function pulumi(stack: string, args: string[]): Promise<number> {
  mkdirSync(STATE_DIR, { recursive: true, mode: 0o700 });
  // The log's debugging lines hold secrets: one that a killed run left behind goes at once.
  for (const old of readdirSync(STATE_DIR).filter((name) => name.startsWith(`run-${stack}-`))) {
    rmSync(join(STATE_DIR, old), { recursive: true, force: true });
  }
  const folder = mkdtempSync(join(STATE_DIR, `run-${stack}-`));
  const log = join(folder, "events.json");
  // The event log is a debugging option of Pulumi; its Automation API uses it as well.
  // Ctrl-C reaches Pulumi too, which then ends in order; this process waits for it.
  const ignore = (): void => undefined;
  process.on("SIGINT", ignore);
  try {
    // The display is on standard output; what goes to standard error are failures before the engine runs.
    const child = execa("pulumi", [...args, "--stack", stack, "--event-log", log], {
      cwd: ROOT,
      env: { ...pulumiEnvironment(stack), PULUMI_DEBUG_COMMANDS: "true" },
      stdin: "inherit",
      stdout: "inherit",
      stderr: "pipe",
      reject: false,
    });
    child.stderr?.pipe(process.stderr);
    const result = await child;
    if (result.stderr.includes("incorrect passphrase")) {
      console.error(
        `error: the passphrase does not fit stack ${stack}. Set PULUMI_CONFIG_PASSPHRASE (or PULUMI_CONFIG_PASSPHRASE_FILE) to the one with which the stack was made. When Pulumi.${stack}.yaml has the salt of another passphrase and no value with secure:, remove its line encryptionsalt`,
      );
    }
    if (result.exitCode !== 0 && existsSync(log)) {
      for (const line of errorLines(readFileSync(log, "utf8"))) {
        console.error(`error: ${line}`);
      }
    }
    return result.exitCode === 0 ? 0 : 1;
  } finally {
    process.off("SIGINT", ignore);
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * The errors of a run, one line each, from the engine's event log. What a node's own program said comes
 * first; the command around it is for the log above.
 */
export function errorLines(eventLog: string): string[] {
  const lines = new Set<string>();
  for (const text of eventLog.split("\n").filter(Boolean)) {
    let event: { diagnosticEvent?: { severity: string; message: string; urn?: string } };
    try {
      event = JSON.parse(text) as typeof event;
    } catch {
      continue; // the last line of a run that was killed may be cut off
    }
    const diagnostic = event.diagnosticEvent;

    const message = diagnostic?.message.replace(/<\{%[a-z]+%\}>|\u001b\[[0-9;]*m/g, "").trim() ?? "";
    if (diagnostic?.severity !== "error" || message === "" || message === "update failed") {
      continue;
    }
    const all = message.split("\n").map((line) => line.trim());
    const own = all
      .filter((line) => /^(pgnode|image): /.test(line))
      .at(-1)
      // A code is for programs.
      ?.replace(/^\w+: (?:\[[a-z-]+\] )?/, "");
    const resource = diagnostic.urn?.split("::").at(-1);
    // A command that printed nothing leaves only its own text, which is long.
    const last = /^exit status \d+: running /.test(all.at(-1) ?? "")
      ? "its command failed without a word"
      : (all.filter((line) => line !== "" && line !== "*").at(-1) ?? message);
    lines.add(own ?? (resource === undefined ? last : `${resource}: ${last}`));
  }
  return [...lines];
}
