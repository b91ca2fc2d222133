import execa from "execa";
import type { SecretKey, StackConfig } from "../../core/config";
import { CONFIG_NAMESPACE, SECRET_KEYS } from "../../core/config";
import { enginesOf, homeOf, type PlacedConfig } from "../../core/model/place";
import { placedHere } from "../engine/dockerHost";
import { imageName } from "../../core/model/image";
import { containerName, type Identity, networkName, volumeName } from "../../core/model/names";
import { sqlLiteral } from "../../core/grammar/quoting";
import { isPrimary } from "../../core/judgement/observation";
import { newIdentity } from "../guard/look";
import { authorityName, exportedResources, IDENTITY_NAME, readPrior } from "../guard/prior";
import { type Survey, survey } from "../guard/survey";
import { toEngine } from "../engine/docker";
import { Engine } from "../engine/engine";
import { nodeOf, NodeControl } from "../engine/nodeControl";
import { UserError } from "../errors";
import { acquireLock } from "../change/lock";
import { releaseStaleLocks } from "../deploy/staleLocks";
import { npmRun } from "../look/advice";
import { exportState, importState } from "../deploy/state";
import { setup } from "../setup";
import { ensureStack, hasStack, pulumiOutput, readStackConfig, stackFile } from "../deploy/workspace";
import { deploymentOf, without } from "./deployment";
import { askHidden, findPasswords, type Password, ROLE_OF } from "./passwords";
import { type Declared, declaredBy, type ProgramRequest } from "./program";
import { containerRefusal, identityOf, refusal, versionRefusal } from "./refusals";
import { filledIn } from "./scratch";
import { differences, type Standing, standing } from "./standing";

const say = (line: string): void => console.error(line);
const refuse = (stack: string, why: string): never => {
  throw new UserError(`stack "${stack}" was not adopted: ${why}`);
};

/**
 * `npm run adopt`: takes a stack whose state was lost into a new one. The state is put together from what is there and
 * from what the program declares; no container is touched. Only then is it written, in one step, so a run that was
 * interrupted has changed passwords at most, and the next one begins anew.
 *
 * @returns the exit code.
 * @throws UserError when the stack cannot be adopted: one line. Nothing was changed.
 */
export async function adopt(stack: string): Promise<number> {
  const config = placedHere(readStackConfig(stack));
  await setup({ engines: enginesOf(config.nodes) });
  const lock = await acquireLock({ stack, engines: enginesOf(config.nodes) }, "adopt", { say });
  try {
    await refuseKnown(stack);
    return await adoptUnderLock(config);
  } finally {
    await lock.release();
  }
}

async function adoptUnderLock(config: PlacedConfig): Promise<number> {
  const { stack } = config;
  const { seen, identity, there, primary } = await lookAround(config);
  await ensureStack(stack);
  await releaseStaleLocks(stack, say);
  const settings = await decryptedConfig(stack);
  const passwords = await findPasswords({
    configured: settings.passwords,
    verifiers: await verifiersOf(primary),
    passfiles: await passfilesOf(config),
    environment: process.env,
    ask: process.stdin.isTTY ? (question) => askHidden(question) : undefined,
    say,
  });
  const stdout = {
    ...Object.fromEntries(SECRET_KEYS.map((key) => [key, passwords[key].value])),
    image: imageName(config.image),
  };
  const declared = await declaredBy({
    ...{ stack, config: settings.all, secretKeys: settings.secretKeys, stdout },
    prior: priorOf(config, seen, identity),
    ids: idsOf(config, seen),
  });
  const resources = await filledIn(stack, deploymentOf(without(declared, authorityName(config.tls?.caGeneration ?? 1)), there, stdout));
  await setPasswords(declared, homeOf(config));
  await importState(stack, await exportState(stack), resources);
  report(config, declared, there, passwords, settings.passwords);
  return 0;
}

/** @throws UserError when the state knows something already. One that only holds what a refused run leaves counts as empty. */
async function refuseKnown(stack: string): Promise<void> {
  if (!(await hasStack(stack))) {
    return;
  }
  const known = exportedResources(await pulumiOutput(stack, ["stack", "export", "--stack", stack])).filter(
    ({ type }) => !type.startsWith("pulumi:"),
  );
  if (known.length > 0) {
    refuse(
      stack,
      `its state is not empty (${known.length} resources, ${readPrior(known).containers.size} of them containers). Nothing was changed. Bring it up to date with: ${npmRun("up", stack)}`,
    );
  }
}

/** What there is, when nothing is against adopting it. */
async function lookAround(config: PlacedConfig): Promise<{ seen: Survey; identity: Identity; there: Standing[]; primary: NodeControl }> {
  const { stack } = config;
  const seen = await survey(config, config.nodes);
  if ("unreachable" in seen) {
    return refuse(stack, seen.unreachable);
  }
  const why = refusal(config, seen);
  if (why !== undefined) {
    return refuse(stack, why);
  }
  const identity = identityOf(seen);
  if (identity !== undefined && "refusal" in identity) {
    return refuse(stack, identity.refusal);
  }
  const there = await standing(config);
  const primary = new NodeControl(config, nodeOf(config, seen.observed.find(isPrimary)?.name ?? ""));
  const wrong = containerRefusal(config, there) ?? versionRefusal(config, await serverVersion(primary), await imageVersion(config));
  if (wrong !== undefined) {
    return refuse(stack, wrong);
  }
  return { seen, there, primary, identity: identity ?? newIdentity() };
}

/** The primary's major version. */
async function serverVersion(primary: NodeControl): Promise<number> {
  const asked = await mustAsk(primary, "SELECT current_setting('server_version_num')::int / 10000");
  return Number(asked.trim());
}

/** The major version in the config's image, as the path of its programs or its own variable tells. */
async function imageVersion(config: PlacedConfig): Promise<number | undefined> {
  const image = ["image", "inspect", "--format", "{{json .Config.Env}}", imageName(config.image)];
  const asked = await new Engine(homeOf(config)).run(image, { timeout: 10_000 });
  const version = /PG_MAJOR=(\d+)|\/usr\/lib\/postgresql\/(\d+)\/bin/.exec(asked.stdout);
  return version === null ? undefined : Number(version[1] ?? version[2]);
}

async function verifiersOf(primary: NodeControl): Promise<Record<string, string>> {
  const roles = Object.values(ROLE_OF).map(sqlLiteral).join(", ");
  const asked = await mustAsk(
    primary,
    `SELECT json_object_agg(rolname, coalesce(rolpassword, '')) FROM pg_authid WHERE rolname IN (${roles})`,
  );
  return (JSON.parse(asked) ?? {}) as Record<string, string>;
}

function mustAsk(primary: NodeControl, sql: string): Promise<string> {
  return primary.sql(sql).catch((error: Error) => {
    throw new UserError(`the primary does not answer: ${error.message}. Nothing was changed`);
  });
}

/** The password files of the nodes that run; one that does not has none to show. */
async function passfilesOf(config: PlacedConfig): Promise<string[]> {
  const read = await Promise.allSettled(config.nodes.map((node) => new NodeControl(config, node).passfile()));
  return read.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
}

/** The config as the program gets it, and the passwords in it. */
async function decryptedConfig(
  stack: string,
): Promise<{ all: Record<string, string>; secretKeys: string[]; passwords: Partial<Record<SecretKey, string>> }> {
  const shown = JSON.parse(await pulumiOutput(stack, ["config", "--json", "--show-secrets", "--stack", stack])) as Record<
    string,
    { value?: string; secret?: boolean }
  >;
  const all = Object.fromEntries(Object.entries(shown).map(([key, { value }]) => [key, value ?? ""]));
  const passwords: Partial<Record<SecretKey, string>> = {};
  for (const key of SECRET_KEYS) {
    const value = all[`${CONFIG_NAMESPACE}${key}`];
    if (value) {
      passwords[key] = value;
    }
  }
  return { all, secretKeys: Object.keys(shown).filter((key) => shown[key]?.secret === true), passwords };
}

const objectOf = (seen: Survey, kind: "container" | "network", name: string): string =>
  seen.found.find((object) => object.kind === kind && object.name === name)?.id ?? "";

/** By the resources' names. */
function idsOf({ stack, nodes }: StackConfig, seen: Survey): Record<string, string> {
  return Object.fromEntries([
    ["network", objectOf(seen, "network", networkName(stack))],
    ...nodes.flatMap(({ name }) => [
      [`${name}-data`, volumeName(stack, name)],
      [`${name}-container`, objectOf(seen, "container", containerName(stack, name))],
    ]),
  ]) as Record<string, string>;
}

/**
 * The state as the program looks at it, so that it declares a stack that stands. The node with which the cluster began
 * is not known any more; it decides nothing but `primaryUrl`. The one that the config lists first is the likeliest.
 */
export function priorOf(config: StackConfig, seen: Survey, identity: Identity): ProgramRequest["prior"] {
  const ids = idsOf(config, seen);
  const entry = (type: string, name: string, outputs: Record<string, unknown>): ProgramRequest["prior"][number] => ({
    ...{ urn: `urn:pulumi:${config.stack}::adopted::${type}::${name}`, type, outputs },
  });
  return [
    entry("command:local:Command", IDENTITY_NAME, {
      environment: { STACK_IDENTITY: identity.id, STACK_MADE_BY: identity.madeBy, STACK_ENGINE: seen.engines[0].engine },
    }),
    entry("docker:index/network:Network", "network", { id: ids["network"] }),
    entry("postgres-replica:index:Primary", config.first, {}),
    ...config.nodes.flatMap(({ name }) => [
      entry("docker:index/volume:Volume", `${name}-data`, { name: volumeName(config.stack, name) }),
      entry("docker:index/container:Container", `${name}-container`, { id: ids[`${name}-container`] }),
    ]),
  ];
}

/**
 * Runs the step that sets roles and passwords as Pulumi would run it: it can run any number of times. Before the state is
 * written, or the state would claim passwords that nobody has.
 */
async function setPasswords(declared: readonly Declared[], engine: string): Promise<void> {
  const roles = declared.find(({ name }) => name === "database-roles");
  const environment = Object.fromEntries(
    Object.entries((roles?.inputs["environment"] ?? {}) as Record<string, unknown>).map(([name, value]) => [
      name,
      typeof value === "string" ? value : String((value as { value?: unknown }).value),
    ]),
  );
  const ran = await execa("/bin/sh", ["-c", environment["PGNODE_STEP"] ?? "exit 1"], {
    env: { ...environment, ...toEngine(engine) },
    stdin: "ignore",
    timeout: 120_000,
    reject: false,
  });
  if (ran.exitCode !== 0) {
    throw new UserError(
      `the passwords cannot be set: ${ran.timedOut ? "no end after 120 s" : (ran.stderr.trim().split("\n").at(-1) ?? "").replace(/^pgnode: /, "")}. The state was not written; run the same again`,
    );
  }
}

function report(
  config: StackConfig,
  declared: readonly Declared[],
  there: readonly Standing[],
  passwords: Record<SecretKey, Password>,
  configured: Partial<Record<SecretKey, string>>,
): void {
  const { stack } = config;
  say(`stack ${stack} was adopted: ${there.map(({ node }) => node).join(", ")}. No container was touched.`);
  for (const key of SECRET_KEYS) {
    const { origin, current } = passwords[key];
    const of = `the password of ${ROLE_OF[key]} (${key})`;
    if (origin === "new") {
      say(
        `${of} was set anew, because only the lost state knew it` +
          (key === "appPassword" ? "; clients find the new one in: pulumi stack output writerUrl --show-secrets" : "") +
          `. To choose it, now or another time: pulumi config set --stack ${stack} --secret ${key}`,
      );
    } else if (!current) {
      say(`${of} was another one; it is now the one ${configured[key] === undefined ? "that was given" : `of ${stackFile(stack)}`}`);
    }
  }
  if (config.tls?.certificates === "generated") {
    say(
      `the key of the stack's CA was in the lost state alone: the next up makes a new CA, and the certificate of every node with it. Give the clients its certificate then: pulumi stack output caCertificate`,
    );
  }
  const changed = there.flatMap((found) => {
    const resource = declared.find(({ id }) => id === found.container.Id);
    const why = resource === undefined ? [] : differences(resource.inputs, found);
    return why.length === 0 ? [] : [`${found.node}: ${why.join(", ")}`];
  });
  say(
    changed.length === 0
      ? `Next: ${npmRun("up", stack)}`
      : `these containers are not as this version makes them, so the next up replaces them one at a time, the primary last: ${changed.join("; ")}. See: pulumi preview; then: ${npmRun("up", stack)}`,
  );
}
