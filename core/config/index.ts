import { isIPv4, isIPv6 } from "net";
import { z } from "zod";
import { isUsablePassword } from "../grammar/conninfo";
import { byName, isNodeName, PROJECT, SAMPLE_DATABASE } from "../model/names";
import { RESERVED_PARAMETERS, RESTRICTED_PARAMETERS, SYNCHRONOUS_COMMITS } from "../model/settings";

/** A config value that the user has to fix. Its message is one line and says how. */
export class ConfigError extends Error {
  public constructor(message: string) {
    super(message);
    this.name = "ConfigError";
  }
}

/** One PostgreSQL server. */
export interface NodeConfig {
  /** A DNS label, unique in the stack; it carries no role. */
  name: string;
  /** The TCP port on which the node is published on its Docker host. */
  port: number;
  /** The Docker host that runs the node (a DOCKER_HOST value). @default the current Docker host */
  dockerHost?: string;
  /** The host address on which the port is published and that clients connect to. @default 127.0.0.1 */
  address: string;
}

/** How many standbys must confirm a commit. */
export interface SynchronousConfig {
  /** `any`: whichever are first to confirm (quorum); `first`: by the nodes' names. */
  mode: "any" | "first";
  /** How many of them; at most the number of nodes less one. */
  count: number;
}

/** The names of the secret keys, in Pulumi's config. */
export const SECRET_KEYS = ["superuserPassword", "replicationPassword", "appPassword"] as const;
export type SecretKey = (typeof SECRET_KEYS)[number];

/** The whole of a stack's configuration but its secrets, checked. */
export interface StackConfig {
  stack: string;
  /** By name: the order in which the config lists them means nothing once the stack is built. */
  nodes: NodeConfig[];
  /** The node that the config lists first: a new stack begins with it. */
  first: string;
  image: string;
  parameters: Record<string, string>;
  allowedSubnets: string[];
  sampleDatabase: boolean;
  synchronous?: SynchronousConfig;
  protectData: boolean;
  maxSlotWalKeepSize: string;
  automaticRejoin: boolean;
  /** Whether `up` starts standbys that are merely stopped. */
  startStopped: boolean;
  /** The application database. */
  database: string;
}

/** The defaults of every key; Pulumi.yaml repeats them for `pulumi config`, a test compares the two. */
export const DEFAULTS = {
  nodes: [
    { name: "pg1", port: 5432 },
    { name: "pg2", port: 5433 },
  ],
  image: "postgres-replica:17",
  parameters: {},
  allowedSubnets: ["samenet"],
  sampleDatabase: false,
  synchronous: {},
  tls: false,
  failover: "manual",
  protectData: false,
  maxSlotWalKeepSize: "1GB",
  automaticRejoin: true,
  startStopped: false,
} as const;

function isSubnet(text: string): boolean {
  if (text === "samenet" || text === "samehost") {
    return true;
  }
  const [address = "", bits, ...rest] = text.split("/");
  if (rest.length > 0 || bits === undefined || !/^\d{1,3}$/.test(bits)) {
    return false;
  }
  return (isIPv4(address) && Number(bits) <= 32) || (isIPv6(address) && Number(bits) <= 128);
}

const boolean = z.union([z.boolean(), z.enum(["true", "false"]).transform((text) => text === "true")], {
  error: "true or false",
});

/** A whole number from 1, as YAML or as `pulumi config set` writes it. */
function wholeNumber(allowed: string, most = Infinity): z.ZodType<number> {
  return z
    .union(
      [
        z.number().int(),
        z
          .string()
          .regex(/^\d{1,9}$/)
          .transform(Number),
      ],
      { error: allowed },
    )
    .refine((number) => number >= 1 && number <= most, { error: allowed });
}

/** A text of which not every one is right; what is no text at all is told the same. */
function textThat(isRight: (text: string) => boolean, allowed: string): z.ZodType<string> {
  return z.string({ error: allowed }).refine(isRight, { error: allowed });
}

const node = z.strictObject(
  {
    name: z.string({ error: "a DNS label such as pg1" }).refine(isNodeName, {
      error: "a DNS label: a lower-case letter, then letters, digits and hyphens, at most 63",
    }),
    port: wholeNumber("a TCP port, 1 to 65535", 65535),
    dockerHost: textThat(
      (text) => /^(unix|tcp|ssh|npipe):\/\/./.test(text),
      "a Docker host such as ssh://user@host or unix:///var/run/docker.sock",
    ).optional(),
    address: textThat((text) => isIPv4(text) || isIPv6(text), "an IP address such as 127.0.0.1").default("127.0.0.1"),
  },
  { error: "a node with name and port" },
);

const parameterValue = z
  .union([z.string(), z.number(), z.boolean()], { error: "a string, number or boolean" })
  .transform((value) => (typeof value === "boolean" ? (value ? "on" : "off") : String(value)))
  .refine((value) => !/[\r\n\0]/.test(value), { error: "a value on one line" });

const schema = z.strictObject({
  nodes: z
    .array(node, { error: "a list of nodes, each with name and port" })
    .min(1, "at least one node")
    .default(() => node.array().parse(DEFAULTS.nodes)),
  image: textThat((text) => /^[a-z0-9][a-z0-9._/:@-]*$/.test(text), "an image name such as postgres:17").default(DEFAULTS.image),
  parameters: z.record(z.string(), parameterValue, { error: "an object of PostgreSQL settings" }).default({}),
  allowedSubnets: z
    .array(textThat(isSubnet, "a CIDR range such as 192.168.1.0/24, or samenet"), { error: "a list of CIDR ranges" })
    .default([...DEFAULTS.allowedSubnets]),
  sampleDatabase: boolean.default(DEFAULTS.sampleDatabase),
  synchronous: z
    .strictObject(
      {
        mode: z.enum(["any", "first"], { error: "any or first" }).optional(),
        count: wholeNumber("a whole number from 1").optional(),
      },
      { error: "an object such as { mode: any, count: 1 }" },
    )
    .default({}),
  tls: boolean.default(DEFAULTS.tls).refine((on) => !on, { error: "false: this version does not set up TLS yet" }),
  failover: z.literal("manual", { error: "manual: this version has no automatic failover yet" }).default("manual"),
  protectData: boolean.default(DEFAULTS.protectData),
  maxSlotWalKeepSize: z
    .string({ error: "a size such as 1GB" })
    .regex(/^(-1|[1-9]\d*(MB|GB|TB))$/, "a size such as 512MB or 1GB, or -1 for no limit")
    .default(DEFAULTS.maxSlotWalKeepSize),
  automaticRejoin: boolean.default(DEFAULTS.automaticRejoin),
  startStopped: boolean.default(DEFAULTS.startStopped),
});

/** Every key that Pulumi's config may hold. */
export const CONFIG_KEYS: readonly string[] = [...Object.keys(schema.shape), ...SECRET_KEYS];

/** How to write a config path down: `nodes[0].port`. */
function pathText(path: readonly PropertyKey[]): string {
  return path.map((part, i) => (typeof part === "number" ? `[${part}]` : `${i === 0 ? "" : "."}${String(part)}`)).join("");
}

function valueAt(root: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((value, key) => (value as Record<PropertyKey, unknown> | undefined)?.[key], root);
}

function fail(key: string, value: unknown, allowed: string, fix?: string): never {
  const shown = value === undefined ? "nothing" : JSON.stringify(value);
  const top = key.split(/[.[]/)[0] ?? key;
  const message = `config key "${key}" is ${shown}; allowed is ${allowed}. ${fix ?? `Fix ${top} in the stack's Pulumi.<stack>.yaml.`}`;
  // A key may hold anything, and a message is one line.

  throw new ConfigError(
    message.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, (char) =>
      JSON.stringify(char)
        .slice(1, -1)
        .replace(/^[^\\]$/, "?"),
    ),
  );
}

/** The key that the user most likely meant: the one that shares the most letters. */
function nearest(key: string): string {
  const pairs = (text: string): Set<string> => {
    const lower = text.toLowerCase();
    return new Set(Array.from({ length: Math.max(lower.length - 1, 1) }, (_, i) => lower.slice(i, i + 2)));
  };
  const own = pairs(key);
  const score = (other: string): number => {
    const theirs = pairs(other);
    return (2 * [...own].filter((pair) => theirs.has(pair)).length) / (own.size + theirs.size);
  };
  return [...CONFIG_KEYS].sort((a, b) => score(b) - score(a))[0] ?? "nodes";
}

function refuseDuplicates(nodes: readonly NodeConfig[]): void {
  const seen = new Map<string, string>();
  nodes.forEach((n, i) => {
    const host = n.dockerHost ?? "";
    for (const [key, id, what] of [
      [`nodes[${i}].name`, `name ${n.name}`, n.name],
      [`nodes[${i}].port`, `port ${host} ${n.address} ${n.port}`, n.port],
    ] as const) {
      const first = seen.get(id);
      if (first !== undefined) {
        fail(key, what, `a value that no other node has (${first} has it too)`);
      }
      seen.set(id, key);
    }
  });
}

/**
 * Checks a stack's configuration.
 *
 * @param stack The stack's name.
 * @param raw Keys without the project's namespace; structured values as objects or as JSON text.
 * @throws ConfigError for the first thing that is wrong: key, value, what is allowed, what to do.
 */
export function parseConfig(stack: string, raw: Readonly<Record<string, unknown>>): StackConfig {
  for (const key of Object.keys(raw)) {
    if (!CONFIG_KEYS.includes(key)) {
      fail(
        key,
        raw[key] === undefined ? undefined : "set",
        `one of ${CONFIG_KEYS.join(", ")}`,
        `Did you mean ${nearest(key)}? Remove it with: pulumi config rm ${key}`,
      );
    }
  }
  const plain: Record<string, unknown> = {};
  for (const key of Object.keys(schema.shape)) {
    if (raw[key] !== undefined) {
      plain[key] = fromText(key, raw[key]);
    }
  }
  const result = schema.safeParse(plain);
  if (!result.success) {
    const issue = result.error.issues[0];
    if (issue === undefined) {
      throw result.error;
    }
    if (issue.code === "unrecognized_keys") {
      const key = issue.keys[0] ?? "";
      const path = [...issue.path, key];
      fail(pathText(path), valueAt(plain, path), `no such key here`, `Remove "${key}" from ${pathText(issue.path)}.`);
    }
    fail(pathText(issue.path), valueAt(plain, issue.path), issue.message);
  }
  const { tls: _tls, failover: _failover, synchronous, ...config } = result.data;
  refuseDuplicates(config.nodes);
  refuseParameters(config.parameters);
  const hosts = new Set(config.nodes.map((n) => n.dockerHost ?? ""));
  if (hosts.size > 1) {
    fail("nodes", [...hosts], "one dockerHost for all nodes: this version does not span several Docker hosts yet");
  }
  const sync = parseSynchronous(synchronous, config.nodes.length);
  const commit = config.parameters["synchronous_commit"];
  if (sync !== undefined && commit !== undefined && !SYNCHRONOUS_COMMITS.includes(commit.toLowerCase())) {
    const instead = "The config key synchronous promises more. A session that needs less: SET synchronous_commit.";
    fail("parameters.synchronous_commit", commit, SYNCHRONOUS_COMMITS.join(", "), instead);
  }
  return {
    stack,
    ...config,
    nodes: [...config.nodes].sort((a, b) => byName(a.name, b.name)),
    first: config.nodes[0]?.name ?? "",
    ...(sync === undefined ? {} : { synchronous: sync }),
    database: config.sampleDatabase ? SAMPLE_DATABASE : "app",
  };
}

/** Pulumi hands structured values over as JSON text. */
function fromText(key: string, value: unknown): unknown {
  if (typeof value !== "string" || !["nodes", "parameters", "allowedSubnets", "synchronous"].includes(key)) {
    return value;
  }
  try {
    return JSON.parse(value) as unknown;
  } catch {
    return fail(
      key,
      value,
      "a list or an object, not text",
      `Set it in Pulumi.<stack>.yaml, or with: pulumi config set --path '${key}...' VALUE`,
    );
  }
}

function refuseParameters(parameters: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(parameters)) {
    if (!/^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?$/.test(name)) {
      fail(`parameters.${name}`, value, "a PostgreSQL setting's name in lower case, such as work_mem");
    }
    const restricted = Object.hasOwn(RESTRICTED_PARAMETERS, name) ? RESTRICTED_PARAMETERS[name] : undefined;
    if (restricted !== undefined && !restricted.allowed.includes(value.toLowerCase())) {
      fail(`parameters.${name}`, value, restricted.allowed.join(", "), restricted.instead);
    }
    const instead = RESERVED_PARAMETERS[name];
    if (instead !== undefined && Object.hasOwn(RESERVED_PARAMETERS, name)) {
      fail(`parameters.${name}`, value, "any setting that the stack does not decide itself", `Use ${instead}.`);
    }
  }
}

function parseSynchronous(
  raw: { mode?: "any" | "first" | undefined; count?: number | undefined },
  nodes: number,
): SynchronousConfig | undefined {
  if (raw.mode === undefined && raw.count === undefined) {
    return undefined;
  }
  const count = raw.count ?? 1;
  if (count > nodes - 1) {
    const allowed = nodes === 1 ? "none, because there is no standby" : `1 to ${nodes - 1}, the number of standbys`;
    fail("synchronous.count", count, allowed, "Lower the count or add nodes.");
  }
  return { mode: raw.mode ?? "any", count };
}

/** Whether a stack may make up its own passwords: only the development stacks, named dev or dev-something. */
export function generatesPasswords(stack: string): boolean {
  return stack === "dev" || stack.startsWith("dev-");
}

/**
 * Checks which secrets are set.
 * @throws ConfigError when a stack that must have its own secrets lacks one.
 */
export function requireSecrets(stack: string, present: (key: SecretKey) => boolean): void {
  const missing = SECRET_KEYS.filter((key) => !present(key));
  if (missing.length > 0 && !generatesPasswords(stack)) {
    throw new ConfigError(
      `stack "${stack}" has no secret ${missing.join(", ")}; only dev stacks make up their own. Set each with: ` +
        missing.map((key) => `pulumi config set --stack ${stack} --secret ${key}`).join("; "),
    );
  }
}

/** Checks a password's characters. The message never holds the password. @throws ConfigError */
export function checkPassword(key: SecretKey, password: string): string {
  if (!isUsablePassword(password)) {
    throw new ConfigError(
      `config key "${key}" is a secret of ${password.length} characters; allowed is at least one, and no line break or control character. Set it with: printf %s 'PASSWORD' | pulumi config set --secret ${key}`,
    );
  }
  return password;
}

/** The namespace of the project's keys in a stack's config file. */
export const CONFIG_NAMESPACE = `${PROJECT}:`;
