import * as pulumi from "@pulumi/pulumi";
import {
  checkPassword,
  CONFIG_NAMESPACE,
  ConfigError,
  generatesPasswords,
  parseConfig,
  requireSecrets,
  SECRET_KEYS,
  type SecretKey,
  type StackConfig,
} from "../core/config";
import { type Cluster, clusterOf } from "../core/cluster";
import { libpqUrl, type SessionAttributes } from "../core/conninfo";
import { APP_ROLE } from "../core/names";
import { DEFAULT_LAG_THRESHOLD_BYTES, lagBytesQuery } from "../core/queries";
import { shellWord } from "../core/quoting";
import { generatedPassword } from "./commands";

/** Everything that index.ts reads from Pulumi's config. */
export interface Settings extends StackConfig {
  cluster: Cluster;
}

/**
 * Reads and checks the stack's config.
 * @throws pulumi.RunError, which Pulumi shows as one line without a stack trace.
 */
export function readSettings(): Settings {
  return oneLine(() => {
    const raw: Record<string, unknown> = {};
    for (const [key, value] of Object.entries(pulumi.runtime.allConfig())) {
      if (key.startsWith(CONFIG_NAMESPACE)) {
        raw[key.slice(CONFIG_NAMESPACE.length)] = value;
      }
    }
    const config = parseConfig(pulumi.getStack(), raw);
    const secretKeys = new Set(JSON.parse(process.env["PULUMI_CONFIG_SECRET_KEYS"] ?? "[]") as string[]);
    for (const key of SECRET_KEYS) {
      if (raw[key] && !secretKeys.has(`${CONFIG_NAMESPACE}${key}`)) {
        throw new ConfigError(
          `config key "${key}" is plain text; allowed is a secret. Set it with: pulumi config set --stack ${config.stack} --secret ${key}`,
        );
      }
    }
    requireSecrets(config.stack, (key) => Boolean(raw[key]));
    return { ...config, cluster: clusterOf(config) };
  });
}

/** The password of the config, or, in a dev stack that has none, one that is made up once. */
export function password(settings: Settings, key: SecretKey): pulumi.Output<string> {
  const configured = new pulumi.Config().getSecret(key);
  const given = pulumi.runtime.allConfig()[`${CONFIG_NAMESPACE}${key}`];
  if (configured === undefined || !given) {
    if (!generatesPasswords(settings.stack)) {
      throw new Error(`no ${key}`); // readSettings has refused this already
    }
    return generatedPassword(key, settings.cluster, {});
  }
  oneLine(() => checkPassword(key, given));
  return configured;
}

/** A libpq URL for the application's role, over the ports that are published on the Docker host. */
export function applicationUrl(
  settings: Settings,
  appPassword: pulumi.Input<string>,
  nodes: readonly StackConfig["nodes"][number][],
  target?: SessionAttributes,
): pulumi.Output<string> {
  return pulumi.secret(
    pulumi.output(appPassword).apply((secret) =>
      libpqUrl({
        user: APP_ROLE,
        password: secret,
        endpoints: nodes.map((n) => ({ host: n.address, port: n.port })),
        database: settings.database,
        ...(target === undefined ? {} : { target }),
      }),
    ),
  );
}

/** How to ask for the lag of one standby, by hand or from a monitoring system. */
export interface LagCheck {
  /** To be run on the primary; one row with `lag_bytes`, none when the standby is not connected. */
  sql: string;
  /** A shell command that asks whoever is primary; it prints the bytes, or nothing. */
  command: string;
  /** More than this many bytes is worth a look. */
  thresholdBytes: number;
}

/** The lag check of one standby. */
export function lagCheck(cluster: Cluster, node: string): LagCheck {
  const sql = lagBytesQuery(node);
  const containers = cluster.members.map((m) => shellWord(m.container)).join(" ");
  return {
    sql,
    command: `for c in ${containers}; do docker exec -u postgres "$c" psql -XAtq -d postgres -c ${shellWord(sql)} 2>/dev/null; done`,
    thresholdBytes: DEFAULT_LAG_THRESHOLD_BYTES,
  };
}

function oneLine<T>(action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw error instanceof ConfigError ? new pulumi.RunError(error.message) : error;
  }
}
