import * as pulumi from "@pulumi/pulumi";
import {
  checkPassword,
  CONFIG_NAMESPACE,
  ConfigError,
  generatesPasswords,
  OPTIONAL_SECRET_KEYS,
  type OptionalSecretKey,
  OWNERS_KEY,
  ownerPasswords,
  ownersOf,
  parseConfig,
  type Provided,
  providedCertificates,
  requireSecrets,
  SECRET_KEYS,
  type SecretKey,
  type StackConfig,
} from "../core/config";
import { placed, type PlacedConfig } from "../core/model/place";
import { certificateNames } from "../core/model/certificate";
import { type Cluster, clusterOf } from "../core/model/cluster";
import { nodePassfile } from "../core/model/nodeFiles";
import { type Drift, driftOf, expectedFiles } from "../core/judgement/drift";
import { libpqUrl, type SessionAttributes } from "../core/grammar/conninfo";
import { APP_ROLE, containerName, MONITOR_ROLE, slotName } from "../core/model/names";
import { type TlsStage, verified } from "../core/settings/tls";
import { authoritiesOf, authorityWords, tlsStageOf, tlsWords } from "../operations/guard/tls";
import { DEFAULT_LAG_THRESHOLD_BYTES, lagBytesQuery } from "../core/sql/queries";
import { shellWord } from "../core/grammar/quoting";
import { type Known, type Look, look } from "../operations/guard/look";
import { settingsRefused } from "../operations/guard/settings";
import { stoppedNodes } from "../operations/guard/stopped";
import { UserError } from "../operations/errors";
import { type PriorState, readPrior, type StateResource } from "../operations/guard/prior";
import { ROLES } from "../core/sql/roles";
import { type Foundation, foundation } from "./foundation";
import { generatedPassword } from "./localCommand";
import { shown } from "./shown";
import { type Handover, handoverOf } from "./handover";
import { type Plan, planOf } from "./plan";

/** Everything that index.ts knows before it declares what the stack is made of. */
export interface Settings extends PlacedConfig {
  cluster: Cluster;
  prior: PriorState;
  look: Look;
  foundation: Foundation;
  plan: Plan;
  /** The change of roles in the middle of this run. @default none */
  handover?: Handover;
  drift: Drift;
  /** Why the ready step of a stopped node runs, by node. */
  toStart: Record<string, string[]>;
  /** The generations of the stack's own CA that are trusted, that one first which issues certificates. */
  authorities: [number, ...number[]];
  /** The certificates that the user has brought. @default none */
  provided?: Provided;
}

/**
 * Reads and checks the stack's config, reads what the state knows, and looks at the engine and the servers.
 * @throws pulumi.RunError, which Pulumi shows as one line without a stack trace.
 */
export async function readSettings(): Promise<Settings> {
  try {
    const { config, provided } = readConfig();
    const state = stateResources().then(readPrior);
    const placedAt = ({ dockerHost }: Known): PlacedConfig => placed(config, dockerHost);
    const clusterAt = (known: Known, tls?: TlsStage): Cluster => ({ ...clusterOf(placedAt(known), tls), identity: known.identity });
    let begun: Foundation | undefined;
    const seen = await look(
      config,
      state,
      pulumi.runtime.isDryRun(),
      (line) => void pulumi.log.warn(line),
      (known) => (begun = foundation(clusterAt(known), known)),
    );
    const prior = await state;
    const observed = seen.survey?.observed ?? [];
    const tls = config.tls === undefined ? undefined : tlsStageOf(prior, observed);
    const cluster = clusterAt(seen, tls);
    const generation = config.tls?.caGeneration ?? 1;
    const ofAuthority = config.tls?.certificates === "generated" ? authorityWords(prior, generation, config.tls.caFile) : [];
    for (const line of [...tlsWords(prior, tls, observed), ...ofAuthority]) {
      void pulumi.log.warn(line);
    }
    const refused = await settingsRefused(cluster, prior, seen.survey);
    if (refused !== undefined) {
      throw new UserError(refused);
    }
    const drift = driftIn(config, cluster, prior, seen, provided);
    const stopped = seen.survey === undefined ? undefined : stoppedNodes(config, seen.survey);
    for (const line of stopped?.report ?? []) {
      void pulumi.log.warn(line);
    }
    begun ??= foundation(cluster, seen);
    const there = placedAt(seen);
    const plan = planOf(there, prior, seen);
    const handover = handoverOf(cluster, plan, prior, seen, provided);
    if (handover !== undefined) {
      void pulumi.log.info(`node ${handover.from} is primary, and ${handover.why}: a standby takes the role before`);
    }
    return {
      ...there,
      cluster,
      prior,
      look: seen,
      foundation: begun,
      plan,
      ...(handover === undefined ? {} : { handover }),
      drift,
      toStart: stopped?.start ?? {},
      authorities: authoritiesOf(prior, generation),
      ...(provided === undefined ? {} : { provided }),
    };
  } catch (error) {
    throw shown(error);
  }
}

function readConfig(): { config: StackConfig; provided?: Provided } {
  const raw: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(pulumi.runtime.allConfig())) {
    if (key.startsWith(CONFIG_NAMESPACE)) {
      raw[key.slice(CONFIG_NAMESPACE.length)] = value;
    }
  }
  const config = parseConfig(pulumi.getStack(), raw);
  const secretKeys = new Set(JSON.parse(process.env["PULUMI_CONFIG_SECRET_KEYS"] ?? "[]") as string[]);
  for (const key of [...SECRET_KEYS, ...OPTIONAL_SECRET_KEYS]) {
    if (raw[key] && !secretKeys.has(`${CONFIG_NAMESPACE}${key}`)) {
      throw new ConfigError(
        `config key "${key}" is plain text; allowed is a secret. Set it with: pulumi config set --stack ${config.stack} --secret ${key}`,
      );
    }
  }
  requireSecrets(config.stack, (key) => Boolean(raw[key]));
  const [inClear] = Object.entries(ownerPasswords(config, raw[OWNERS_KEY])).filter(([, secret]) => secret !== undefined);
  if (inClear !== undefined && !secretKeys.has(`${CONFIG_NAMESPACE}${OWNERS_KEY}`)) {
    throw new ConfigError(
      `config key "${OWNERS_KEY}" has passwords in plain text; allowed is secrets. Set each with: pulumi config set --stack ${config.stack} --secret --path '${OWNERS_KEY}.${inClear[0]}'`,
    );
  }
  if (config.tls?.certificates !== "provided") {
    return { config };
  }
  if (raw["tlsCertificates"] && !secretKeys.has(`${CONFIG_NAMESPACE}tlsCertificates`)) {
    throw new ConfigError(
      `config key "tlsCertificates" has keys in plain text; allowed is secrets. Set each with: pulumi config set --stack ${config.stack} --secret --path 'tlsCertificates.NODE.key' < FILE.pem`,
    );
  }
  return { config, provided: providedCertificates(config, raw, Date.now() / 1000) };
}

/**
 * What the state held when this run began. The engine itself is asked, by the function with which it serves stack
 * references (pulumi/pulumi, pkg/resource/deploy/builtins.go), so it works with every backend.
 */
async function stateResources(): Promise<StateResource[]> {
  const stackName = `${pulumi.getOrganization()}/${pulumi.getProject()}/${pulumi.getStack()}`;
  const answer = (await pulumi.runtime.invoke("pulumi:pulumi:readStackResourceOutputs", { stackName }, { async: true })) as {
    outputs?: Record<string, { type: string; outputs: Record<string, unknown> }>;
  };
  return Object.entries(answer.outputs ?? {}).map(([urn, resource]) => ({ urn, ...resource }));
}

/** What somebody has changed by hand. Without an answer of the engine nothing is said. */
function driftIn(config: StackConfig, cluster: Cluster, prior: PriorState, { survey }: Look, provided: Provided | undefined): Drift {
  const all = pulumi.runtime.allConfig();
  const given = all[`${CONFIG_NAMESPACE}replicationPassword`] || prior.passwords.get("replicationPassword");
  // Of an authority that this run makes nobody knows the certificate yet.
  const authorities = config.tls?.certificates === "generated" ? authoritiesOf(prior, config.tls.caGeneration) : [];
  const certificates = authorities.map((generation) => prior.authorities.get(generation));
  const trusted = certificates.length > 0 && !certificates.includes(undefined) ? certificates.join("") : undefined;
  const files: Parameters<typeof expectedFiles>[2] = {
    ...(given === undefined
      ? {}
      : { PGNODE_PASSFILE: nodePassfile({ replication: given, rewind: all[`${CONFIG_NAMESPACE}rewindPassword`] || given }) }),
    ...(provided === undefined ? { PGNODE_CA: trusted } : { PGNODE_CA: provided.authority }),
  };
  const filesOf = (node: string): Parameters<typeof expectedFiles>[2] => {
    const own = provided?.nodes[node];
    return own === undefined ? files : { ...files, PGNODE_CERTIFICATE: own.certificate, PGNODE_KEY: own.key };
  };
  // One whose engine does not answer says nothing, and nothing of it is to be run.
  const asked = cluster.members.filter(({ place }) => survey?.silent.has(place.engine) !== true);
  const observed = (survey?.observed ?? []).filter((node) => asked.some((n) => n.name === node.name));
  return driftOf({
    observed,
    expected: Object.fromEntries(config.nodes.map((node) => [node.name, expectedFiles(cluster, node.name, filesOf(node.name))])),
    roles: [...ROLES, ...(all[`${CONFIG_NAMESPACE}monitoringPassword`] ? [MONITOR_ROLE] : []), ...ownersOf(config.databases)],
    database: config.database,
    databases: config.databases,
    sample: config.sampleDatabase,
    ...(config.tls?.certificates !== "generated"
      ? {}
      : {
          certificates: {
            names: Object.fromEntries(cluster.members.map((member) => [member.name, certificateNames(member)])),
            authority: certificates[0],
          },
        }),
  });
}

/** The password of the config, or, in a dev stack that has none, one that is made up once. */
export function password(settings: Settings, key: SecretKey): pulumi.Output<string> {
  const configured = optionalPassword(key);
  if (configured !== undefined) {
    return configured;
  }
  if (!generatesPasswords(settings.stack)) {
    throw new Error(`no ${key}`); // readSettings has refused this already
  }
  return generatedPassword(key, settings.cluster, {});
}

/** A password of the config. @returns undefined when it has none */
export function optionalPassword(key: SecretKey | OptionalSecretKey): pulumi.Output<string> | undefined {
  const configured = new pulumi.Config().getSecret(key);
  const given = pulumi.runtime.allConfig()[`${CONFIG_NAMESPACE}${key}`];
  if (configured === undefined || !given) {
    return undefined;
  }
  try {
    checkPassword(key, given);
  } catch (error) {
    throw shown(error);
  }
  return configured;
}

/**
 * The passwords of the databases' owners, by role, but for the application's.
 *
 * @param appPassword What an owner has in a dev stack that gives it none.
 */
export function ownersPasswords(config: StackConfig, appPassword: pulumi.Output<string>): Record<string, pulumi.Output<string>> {
  const own = ownerPasswords(config, pulumi.runtime.allConfig()[`${CONFIG_NAMESPACE}${OWNERS_KEY}`]);
  return Object.fromEntries(
    Object.entries(own).map(([owner, password]) => [owner, password === undefined ? appPassword : pulumi.secret(password)]),
  );
}

/** Whom a URL is for. */
export interface Account {
  user: string;
  password: pulumi.Input<string>;
  database: string;
}

/** A libpq URL for the application's role, over the ports that are published on the Docker host. */
export function applicationUrl(
  settings: Settings,
  appPassword: pulumi.Input<string>,
  nodes: readonly StackConfig["nodes"][number][],
  target?: SessionAttributes,
): pulumi.Output<string> {
  return urlFor(settings, { user: APP_ROLE, password: appPassword, database: settings.database }, nodes, target);
}

/** A libpq URL over the ports that are published on the Docker host. */
export function urlFor(
  settings: Settings,
  { user, password, database }: Account,
  nodes: readonly StackConfig["nodes"][number][],
  target?: SessionAttributes,
): pulumi.Output<string> {
  return pulumi.secret(
    pulumi.output(password).apply((secret) =>
      libpqUrl({
        user,
        password: secret,
        endpoints: nodes.map((n) => ({ host: n.address, port: n.port })),
        database,
        ...(target === undefined ? {} : { target }),
        ...(settings.tls === undefined ? {} : { parameters: verified(settings.tls.caFile) }),
      }),
    ),
  );
}

/** How to ask for the lag of one standby, by hand or from a monitoring system. */
export interface LagCheck {
  /** To be run on the primary; one row with `lag_bytes`, none when the standby is not connected (one with an upstream always has it). */
  sql: string;
  /** A shell command that asks whoever is primary; it prints the bytes, or nothing. */
  command: string;
  /** More than this many bytes is worth a look. */
  thresholdBytes: number;
}

/** The lag check of one standby. An engine that the config does not name is the one that docker uses where the command is run. */
export function lagCheck({ stack, nodes }: StackConfig, node: string): LagCheck {
  const cascaded = nodes.some(({ name, upstream }) => name === node && upstream !== undefined);
  const sql = lagBytesQuery(node, cascaded ? slotName(node) : undefined);
  const ask = (engine: string | undefined): string => {
    const containers = nodes.filter(({ dockerHost }) => dockerHost === engine).map(({ name }) => shellWord(containerName(stack, name)));
    const docker = engine === undefined ? "docker" : `docker -H ${shellWord(engine)}`;
    return `for c in ${containers.join(" ")}; do ${docker} exec -u postgres "$c" psql -XAtq -d postgres -c ${shellWord(sql)} 2>/dev/null; done`;
  };
  return {
    sql,
    command: [...new Set(nodes.map(({ dockerHost }) => dockerHost))].map(ask).join("; "),
    thresholdBytes: DEFAULT_LAG_THRESHOLD_BYTES,
  };
}
