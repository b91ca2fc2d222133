import execa from "execa";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "fs";
import { join } from "path";
import { docker } from "./docker";
import { UserError } from "./errors";
import { checkPorts, type Found, reconcile, releaseStaleLocks } from "./preflight";
import { streams } from "./promotion";
import { setup } from "./setup";
import { switchover } from "./switchover";
import { ensureStack, hasStack, pulumiEnvironment, readStackConfig, ROOT, STATE_DIR } from "./workspace";
import type { NodeConfig, StackConfig } from "../core/config";
import { labelFilter, PROJECT, volumeName } from "../core/names";
import { assess, changedPasswords } from "../core/topology";
import { NodeControl } from "./nodes";
import { observe } from "./observe";

const say = (line: string): void => console.error(line);

/** `npm run up`: set-up where something is missing, then `pulumi up`. Returns the exit code. */
export async function up(stack: string): Promise<number> {
  const config = readStackConfig(stack);
  await setup(config.image);
  await ensureStack(stack);
  await releaseStaleLocks(stack, say);
  const [found, , stale] = await Promise.all([reconcile(config, say), checkPorts(config), staleRoles(config)]);
  const { lost, lostVolumes } = found;
  await refuseToLoseThePrimary(config, found);
  if (lost) {
    say("something of the stack is gone from Docker; the state is refreshed first");
  }
  const again = [...stale];
  for (const node of config.nodes.filter((n) => lostVolumes.includes(volumeName(stack, n.name)))) {
    if (node === config.nodes[0]) {
      await refillFirst(config, node);
    } else {
      again.push(commandUrn(stack, "StreamingSecondary", `${node.name}-basebackup`));
    }
  }
  const code = await pulumi(stack, [
    "up",
    "--yes",
    "--skip-preview",
    ...(lost ? ["--refresh"] : []),
    ...again.flatMap((urn) => ["--replace", urn]),
  ]);
  if (code === 0) {
    const urls = config.nodes.map((n) => `${n.name} ${n.address}:${n.port}`).join(", ");
    say(
      `\nStack ${stack} is up: ${urls}. Next: npm run verify, npm run status (each with -- --stack ${stack}). Connect: eval "$(npm run -s env -- --stack ${stack})"; psql "$(pulumi stack output writerUrl --show-secrets)"`,
    );
  }
  return code;
}

/** `npm run down`: `pulumi destroy`, then a look that Docker holds nothing of the stack any more. */
export async function down(stack: string): Promise<number> {
  const config = readStackConfig(stack);
  await setup(config.image);
  if (!(await hasStack(stack)) && (await leftovers(stack, config.nodes[0]?.dockerHost)).length === 0) {
    say(`stack "${stack}" was never up: there is nothing to remove`);
    return 0;
  }
  await ensureStack(stack);
  await releaseStaleLocks(stack, say);
  const { lost } = await reconcile(config, say);
  await keepTheRightPrimary(config);
  const code = await pulumi(stack, ["destroy", "--yes", "--skip-preview", ...(lost ? ["--refresh"] : [])]);
  if (code !== 0) {
    return code;
  }
  const rest = await leftovers(stack, config.nodes[0]?.dockerHost);
  const unexpected = config.protectData ? rest.filter((line) => !line.startsWith("volume ")) : rest;
  if (unexpected.length > 0) {
    throw new UserError(`these objects of stack ${stack} are still there: ${unexpected.join(", ")}. Remove them by hand with docker`);
  }
  if (rest.length > 0) {
    say(`\nprotectData is on: kept ${rest.join(", ")}. The next up takes them on again.`);
  }
  return 0;
}

/**
 * The volume of the node with which the cluster began is gone. Its birth would make a new, empty cluster
 * beside the data of the others, so it is cloned from whoever is primary now. @throws UserError when nobody is.
 */
async function refillFirst(config: StackConfig, first: NodeConfig): Promise<void> {
  const { stack } = config;
  const { primary } = assess(stack, await observe(config));
  const from = config.nodes.find((node) => node.name === primary);
  if (from === undefined || from === first) {
    throw new UserError(
      `the volume ${volumeName(stack, first.name)} is gone, and no other node is primary to fill it from. Nothing was changed. ` +
        `Promote one (npm run failover -- --stack ${stack}), then run up again; when the data of every node is gone or may go, run down, then up`,
    );
  }
  say(`the volume of ${first.name} is gone; cloning it from ${from.name}, which is primary`);
  await new NodeControl(config, first).clone(new NodeControl(config, from));
}

/** The resource that sets the passwords, when somebody has changed one by hand: Pulumi alone would see nothing to do. */
async function staleRoles(config: StackConfig): Promise<string[]> {
  const primary = (await observe(config)).find((node) => node.server?.inRecovery === false);
  if (primary === undefined || primary.server?.changedPasswords.length === 0) {
    return [];
  }
  say(`${changedPasswords(primary)}; it is set again`);
  return [commandUrn(config.stack, "Primary", `${config.nodes[0]?.name}-roles`)];
}

/** The URN of a command inside a component. */
const commandUrn = (stack: string, component: "Primary" | "StreamingSecondary", name: string): string =>
  `urn:pulumi:${stack}::${PROJECT}::${PROJECT}:index:${component}$command:local:Command::${name}`;

/**
 * Who is primary is not in the config, so a change of `nodes` could delete the node that is primary now, or take the
 * data of one node for another's. @throws UserError before anything is changed.
 */
async function refuseToLoseThePrimary(config: StackConfig, { first, secondaries, volumes }: Found): Promise<void> {
  const { stack, nodes } = config;
  if (first === undefined || ![first, ...secondaries].some((name) => volumes.includes(volumeName(stack, name)))) {
    return; // nothing that could be lost
  }
  if (nodes[0]?.name !== first) {
    throw new UserError(
      `up refused: nodes in Pulumi.${stack}.yaml begins with ${nodes[0]?.name}, but the stack began with ${first}. Nothing was changed. ` +
        `Put ${first} first again (who is primary does not depend on the order), or run down, which deletes the stack, before`,
    );
  }
  const dropped = secondaries.filter((name) => !nodes.some((node) => node.name === name));
  if (dropped.length === 0) {
    return;
  }
  const observed = await observe({ ...config, nodes: [...nodes, ...dropped.map((name) => ({ ...nodes[0], name }) as NodeConfig)] });
  const primaries = observed.filter((node) => node.server?.inRecovery === false).map((node) => node.name);
  const lost = primaries.filter((name) => dropped.includes(name));
  if (lost.length > 0) {
    throw new UserError(
      `up refused: ${lost.join(" and ")} is primary, and nodes in Pulumi.${stack}.yaml no longer has it, so its data would be deleted. Nothing was changed. ` +
        `Put it back, run: npm run switchover -- --stack ${stack} --to ${first}; then take it out`,
    );
  }
  const there = observed.filter((node) => dropped.includes(node.name) && node.containerState !== null).map((node) => node.name);
  if (primaries.length === 0 && there.length > 0) {
    throw new UserError(
      `up refused: no node is primary, so nobody can tell whether ${there.join(" or ")}, which nodes in Pulumi.${stack}.yaml no longer has, holds the newest data. Nothing was changed. ` +
        `Put it back and run: npm run status -- --stack ${stack}`,
    );
  }
}

/**
 * Kept volumes are taken on again beginning with the first node, so that one has to hold the newest data: the role is
 * moved there when it is elsewhere. @throws UserError when that cannot be.
 */
async function keepTheRightPrimary(config: StackConfig): Promise<void> {
  const { stack } = config;
  const first = config.nodes[0]?.name ?? "";
  if (!config.protectData || config.nodes.length === 1) {
    return;
  }
  const observed = await observe(config);
  const status = assess(stack, observed);
  if (status.primary === first || !observed.some((node) => node.name !== first && node.containerState !== null)) {
    return;
  }
  if (status.primary === null) {
    throw new UserError(
      `down refused: protectData is on, and no single node is primary, so nobody can tell whether ${first}, with which the next up begins, has the newest data. ` +
        `Run: npm run status -- --stack ${stack}, and bring a primary up first. When that cannot be: eval "$(npm run -s env -- --stack ${stack})" && pulumi destroy`,
    );
  }
  const why = `${status.primary} is primary, and the next up begins with ${first}`;
  if (!streams(status, first)) {
    throw new UserError(
      `down refused: protectData is on, ${why}, which does not stream. Run first: npm run rejoin -- ${first} --stack ${stack}`,
    );
  }
  say(`protectData is on: ${why}, so the role moves there first`);
  await switchover(stack, first, false);
}

/** The Docker objects that carry a stack's label. */
export async function leftovers(stack: string, host?: string): Promise<string[]> {
  const filter = labelFilter(stack);
  const on = host === undefined ? {} : { host };
  const kinds: [string, string[]][] = [
    ["container", ["ps", "-a", "--format", "{{.Names}}", ...filter]],
    ["network", ["network", "ls", "--format", "{{.Name}}", ...filter]],
    ["volume", ["volume", "ls", "--format", "{{.Name}}", ...filter]],
  ];
  const found = await Promise.all(
    kinds.map(async ([kind, args]) =>
      (await docker(args, on)).stdout
        .split("\n")
        .filter(Boolean)
        .map((name) => `${kind} ${name}`),
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
        `error: the passphrase does not fit stack ${stack}. Set PULUMI_CONFIG_PASSPHRASE (or PULUMI_CONFIG_PASSPHRASE_FILE) to the one with which the stack was made`,
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
      .filter((line) => line.startsWith("pgnode: "))
      .at(-1)
      ?.slice("pgnode: ".length);
    const resource = diagnostic.urn?.split("::").at(-1);
    // A command that printed nothing leaves only its own text, which is long.
    const last = /^exit status \d+: running /.test(all.at(-1) ?? "")
      ? "its command failed without a word"
      : (all.filter((line) => line !== "" && line !== "*").at(-1) ?? message);
    lines.add(own ?? (resource === undefined ? last : `${resource}: ${last}`));
  }
  return [...lines];
}
