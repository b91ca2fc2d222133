import { isUsablePassword } from "../grammar/conninfo";
import { APP_ROLE } from "../model/names";
import { ConfigError } from "./errors";
import { fromJson } from "./structured";
import type { DatabaseConfig, StackConfig } from "./types";

/** The names of the secret keys, in Pulumi's config. */
export const SECRET_KEYS = ["superuserPassword", "replicationPassword", "appPassword"] as const;
export type SecretKey = (typeof SECRET_KEYS)[number];

/**
 * Those that a stack may go without: the rewind role then has the replication role's password, and there is no monitoring role.
 */
export const OPTIONAL_SECRET_KEYS = ["rewindPassword", "monitoringPassword"] as const;
export type OptionalSecretKey = (typeof OPTIONAL_SECRET_KEYS)[number];

/** The key of the passwords of the databases' owners, by role. */
export const OWNERS_KEY = "databasePasswords";

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
      `stack "${stack}" has no secret ${missing.join(", ")}; only dev stacks make up their own. Make strong ones: npm run secrets -- init --stack ${stack}; or set each with: ` +
        missing.map((key) => `pulumi config set --stack ${stack} --secret ${key}`).join("; "),
    );
  }
}

/** Checks a password's characters. The message never holds the password. @throws ConfigError */
export function checkPassword(key: string, password: string): string {
  if (!isUsablePassword(password)) {
    throw new ConfigError(
      `config key "${key}" is a secret of ${password.length} characters; allowed is at least one, and no line break or control character. Set it with: printf %s 'PASSWORD' | pulumi config set --secret ${key}`,
    );
  }
  return password;
}

/** The owners of databases that have passwords of their own, each once: all but the application's role. */
export const ownersOf = (databases: readonly DatabaseConfig[]): string[] =>
  [...new Set(databases.map(({ owner }) => owner))].filter((owner) => owner !== APP_ROLE);

/**
 * The passwords of the databases' owners, but for the application's role, which has its own.
 *
 * @param given The value of the key as Pulumi hands it over: an object, or JSON text.
 * @returns by role; undefined for one that has the password of the application's role, as in a dev stack that gives it none.
 * @throws ConfigError for the first thing that is wrong; no message holds a password.
 */
export function ownerPasswords({ stack, databases }: StackConfig, given: unknown): Record<string, string | undefined> {
  const owners = ownersOf(databases);
  const set = (owner: string): string => `pulumi config set --stack ${stack} --secret --path '${OWNERS_KEY}.${owner}'`;
  const passwords = objectOf(given);
  if (passwords === undefined) {
    throw new ConfigError(
      `config key "${OWNERS_KEY}" is no object; allowed is a secret for each owner of a database. Remove it with: pulumi config rm --stack ${stack} ${OWNERS_KEY}; then set each with: ${set("OWNER")}`,
    );
  }
  const [stranger] = Object.keys(passwords).filter((role) => !owners.includes(role));
  if (stranger !== undefined) {
    throw new ConfigError(
      `config key "${OWNERS_KEY}" has a password for ${JSON.stringify(stranger)}; allowed is ${owners.length === 0 ? "none, because databases names no owner that needs one" : `one of ${owners.join(", ")}, the owners that databases names`}. Remove it with: pulumi config rm --stack ${stack} --path '${OWNERS_KEY}${pathPart(stranger)}'`,
    );
  }
  return Object.fromEntries(
    owners.map((owner) => {
      const password = passwords[owner];
      if (password === undefined || password === "") {
        if (generatesPasswords(stack)) {
          return [owner, undefined];
        }
        const of = databases.filter((database) => database.owner === owner).map(({ name }) => name);
        throw new ConfigError(
          `stack "${stack}" has no password for ${owner}, the owner of database ${of.join(" and ")}; only in dev stacks it is that of app. Set it with: ${set(owner)}`,
        );
      }
      if (typeof password !== "string" || !isUsablePassword(password)) {
        throw new ConfigError(
          `config key "${OWNERS_KEY}.${owner}" is ${typeof password === "string" ? `a secret of ${password.length} characters` : "no text"}; allowed is at least one, and no line break or control character. Set it with: printf %s 'PASSWORD' | ${set(owner)}`,
        );
      }
      return [owner, password];
    }),
  );
}

/** A key as Pulumi's paths take it. */
const pathPart = (key: string): string => (/^[A-Za-z_][A-Za-z0-9_-]*$/.test(key) ? `.${key}` : `[${JSON.stringify(key)}]`);

/** Undefined when it is no object; nothing is an empty one. */
function objectOf(value: unknown): Record<string, unknown> | undefined {
  const object = value === undefined || value === "" ? {} : fromJson(value);
  return typeof object === "object" && object !== null && !Array.isArray(object) ? (object as Record<string, unknown>) : undefined;
}
