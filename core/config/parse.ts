import { isOwnAddress } from "../grammar/address";
import { APP_ROLE, byName, MONITOR_ROLE, REPLICATION_ROLE, REWIND_ROLE, SAMPLE_DATABASE } from "../model/names";
import { ON, RESERVED_PARAMETERS, RESTRICTED_PARAMETERS } from "../settings/parameters";
import { SYNCHRONOUS_COMMITS } from "../settings/replication";
import { TLS_PARAMETERS } from "../settings/tls";
import { fail, pathText, valueAt } from "./errors";
import { CONFIG_KEYS, schema } from "./schema";
import { fromJson } from "./structured";
import type { DatabaseConfig, NodeConfig, StackConfig, SynchronousConfig } from "./types";

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

/** A cascade has one step: whom a node streams from, streams from the primary. */
function refuseCascades(nodes: readonly NodeConfig[], parameters: Readonly<Record<string, string>>): void {
  const feedback = parameters["hot_standby_feedback"];
  if (feedback !== undefined && ON.includes(feedback) && nodes.some(({ upstream }) => upstream !== undefined)) {
    // The slot that a node leaves keeps what its feedback asked for, and nothing moves that on.
    fail(
      "parameters.hot_standby_feedback",
      feedback,
      "off, because a node has an upstream",
      "Take out nodes[].upstream, or the parameter.",
    );
  }
  nodes.forEach(({ name, upstream }, i) => {
    if (upstream === undefined) {
      return;
    }
    const allowed = nodes.filter((node) => node.upstream === undefined && node.name !== name).map((node) => node.name);
    if (!allowed.includes(upstream)) {
      fail(
        `nodes[${i}].upstream`,
        upstream,
        allowed.length === 0
          ? "none, because no other node is without an upstream"
          : `one of ${allowed.join(", ")}, the nodes without an upstream`,
      );
    }
  });
}

/** Nodes on several Docker hosts reach each other by their addresses, and each address is of one host. */
function refuseUnreachable(nodes: readonly NodeConfig[]): void {
  if (new Set(nodes.map(({ dockerHost }) => dockerHost)).size === 1) {
    return;
  }
  nodes.forEach((node, i) => {
    if (isOwnAddress(node.address)) {
      fail(
        `nodes[${i}].address`,
        node.address,
        "an address by which the other Docker hosts reach this one, because the nodes are on several",
      );
    }
    const other = nodes.find((n) => n.address === node.address && n.dockerHost !== node.dockerHost);
    if (other !== undefined) {
      fail(`nodes[${i}].address`, node.address, `an address that no other Docker host has (node ${other.name} is on another one)`);
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
  const {
    tls,
    caFile,
    caGeneration,
    failover: _failover,
    synchronous,
    clone: { compress, ...copy },
    ...config
  } = result.data;
  refuseDuplicates(config.nodes);
  refuseParameters(config.parameters, tls === "off" ? [] : TLS_PARAMETERS);
  refuseUnreachable(config.nodes);
  refuseCascades(config.nodes, config.parameters);
  const sync = parseSynchronous(synchronous, config.nodes.filter(({ upstream }) => upstream === undefined).length);
  const clone = { ...copy, ...(compress === undefined || compress === "none" ? {} : { compress }) };
  const commit = config.parameters["synchronous_commit"];
  if (sync !== undefined && commit !== undefined && !SYNCHRONOUS_COMMITS.includes(commit.toLowerCase())) {
    const instead = "The config key synchronous promises more. A session that needs less: SET synchronous_commit.";
    fail("parameters.synchronous_commit", commit, SYNCHRONOUS_COMMITS.join(", "), instead);
  }
  const database = config.sampleDatabase ? SAMPLE_DATABASE : "app";
  return {
    stack,
    ...config,
    nodes: [...config.nodes].sort((a, b) => byName(a.name, b.name)),
    first: config.nodes[0]?.name ?? "",
    ...(sync === undefined ? {} : { synchronous: sync }),
    ...(Object.keys(clone).length === 0 ? {} : { clone }),
    ...(tls === "off" ? {} : { tls: { certificates: tls, caFile: caFile || `ca-${stack}.pem`, caGeneration } }),
    database,
    databases: parseDatabases(config.databases, database),
  };
}

/** Pulumi hands structured values over as JSON text. */
function fromText(key: string, value: unknown): unknown {
  if (typeof value !== "string" || !["nodes", "parameters", "allowedSubnets", "synchronous", "clone", "databases"].includes(key)) {
    return value;
  }
  const way = `Set it in Pulumi.<stack>.yaml, or with: pulumi config set --path '${key}...' VALUE`;
  const structured = fromJson(value);
  return structured === undefined ? fail(key, value, "a list or an object, not text", way) : structured;
}

/** Databases that are PostgreSQL's own, and words that mean something else in pg_hba.conf. */
const RESERVED_DATABASES = ["postgres", "template0", "template1", "all", "sameuser", "samerole", "samegroup", "replication"];

/** Roles of the stack's own that nothing belongs to, and words that are no role in SQL. */
const RESERVED_ROLES = ["postgres", REPLICATION_ROLE, REWIND_ROLE, MONITOR_ROLE, "public", "none", "all"];

/** @param application The application database, which is made in any case, and belongs to its role. */
function parseDatabases(
  raw: readonly { name: string; owner?: string | undefined; extensions: string[] }[],
  application: string,
): DatabaseConfig[] {
  const databases = raw.map(({ name, owner = name === application ? APP_ROLE : name, extensions }, i) => {
    const first = raw.findIndex((other) => other.name === name);
    if (first !== i) {
      fail(`databases[${i}].name`, name, `a name that no other database has (databases[${first}] has it too)`);
    }
    if (RESERVED_DATABASES.includes(name)) {
      fail(`databases[${i}].name`, name, `a name other than ${RESERVED_DATABASES.join(", ")}`);
    }
    if (name === application && owner !== APP_ROLE) {
      fail(`databases[${i}].owner`, owner, `${APP_ROLE}, because ${name} is the application database`);
    }
    if (RESERVED_ROLES.includes(owner)) {
      fail(`databases[${i}].owner`, owner, `a role other than ${RESERVED_ROLES.join(", ")}`);
    }
    return { name, owner, extensions };
  });
  return databases.sort((a, b) => byName(a.name, b.name));
}

/** @param ofTls The parameters that the stack decides because TLS is on. */
function refuseParameters(parameters: Readonly<Record<string, string>>, ofTls: readonly string[]): void {
  for (const [name, value] of Object.entries(parameters)) {
    if (!/^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?$/.test(name)) {
      fail(`parameters.${name}`, value, "a PostgreSQL setting's name in lower case, such as work_mem");
    }
    const restricted = Object.hasOwn(RESTRICTED_PARAMETERS, name) ? RESTRICTED_PARAMETERS[name] : undefined;
    if (restricted !== undefined && !restricted.allowed.includes(value.toLowerCase())) {
      fail(`parameters.${name}`, value, restricted.allowed.join(", "), restricted.instead);
    }
    const instead = ofTls.includes(name) ? "the config key tls" : RESERVED_PARAMETERS[name];
    if (instead !== undefined && (ofTls.includes(name) || Object.hasOwn(RESERVED_PARAMETERS, name))) {
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
    const allowed =
      nodes === 1 ? "none, because there is no standby" : `1 to ${nodes - 1}, the number of standbys that stream from the primary`;
    fail("synchronous.count", count, allowed, "Lower the count or add nodes.");
  }
  return { mode: raw.mode ?? "any", count };
}
