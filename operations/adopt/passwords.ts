import { createHash, createHmac, pbkdf2Sync, randomBytes, timingSafeEqual } from "crypto";
import { createInterface } from "readline";
import { Writable } from "stream";
import { isUsablePassword, passfile } from "../../core/grammar/conninfo";
import type { SecretKey } from "../../core/config";
import { APP_ROLE, REPLICATION_ROLE } from "../../core/model/names";
import { UserError } from "../errors";

/** The role that each password of the config is for. */
export const ROLE_OF: Record<SecretKey, string> = {
  superuserPassword: "postgres",
  replicationPassword: REPLICATION_ROLE,
  appPassword: APP_ROLE,
};

/** The environment variable that answers when there is no terminal. */
export const VARIABLE_OF: Partial<Record<SecretKey, string>> = { superuserPassword: "SUPERUSER_PASSWORD", appPassword: "APP_PASSWORD" };

/** Made up as the program makes up a dev stack's. */
export const madeUp = (): string => randomBytes(24).toString("base64url");

/** The replication role's password in a node's password file; undefined when the file holds something else. */
export function fromPassfile(text: string): string | undefined {
  // The line of the rewind role comes after it, and its password is the same or the config's.
  const [line = ""] = text.split("\n");
  const field = /^\*:\*:\*:[^:]*:((?:[^:\\]|\\.)*)$/.exec(line)?.[1];
  const password = field?.replace(/\\(.)/g, "$1");
  return password !== undefined && isUsablePassword(password) && passfile({ [REPLICATION_ROLE]: password }) === `${line}\n`
    ? password
    : undefined;
}

/** Whether a password is the one of which PostgreSQL keeps this SCRAM-SHA-256 verifier (RFC 5802). */
export function isPasswordOf(verifier: string, password: string): boolean {
  const [, iterations, salt, stored] = /^SCRAM-SHA-256\$(\d+):([^$]+)\$([^:]+):/.exec(verifier) ?? [];
  if (iterations === undefined || salt === undefined || stored === undefined) {
    return false;
  }
  // Nearly SASLprep. Where it is not, a password that is right counts as another one, and is set again.
  const salted = pbkdf2Sync(password.normalize("NFKC"), Buffer.from(salt, "base64"), Number(iterations), 32, "sha256");
  const key = createHash("sha256").update(createHmac("sha256", salted).update("Client Key").digest()).digest();
  const expected = Buffer.from(stored, "base64");
  return expected.length === key.length && timingSafeEqual(expected, key);
}

/**
 * Asks for a line on a terminal without showing it.
 * @throws UserError, exit code 130, when the user gives up.
 */
export function askHidden(
  question: string,
  input: NodeJS.ReadableStream = process.stdin,
  output: NodeJS.WritableStream = process.stderr,
): Promise<string> {
  // Readline shows what is typed, so it is given nowhere to show it.
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  const reader = createInterface({ input, output: nowhere, terminal: true });
  output.write(question);
  return new Promise((resolve, reject) => {
    const give = (up: boolean, answer = ""): void => {
      reader.removeAllListeners("close");
      reader.close();
      output.write("\n");
      if (up) {
        reject(new UserError("interrupted. Nothing was changed", 130));
      } else {
        resolve(answer);
      }
    };
    reader.once("line", (line) => give(false, line));
    reader.once("SIGINT", () => give(true));
    reader.once("close", () => give(true));
  });
}

/** How a password was found, for what is said to the user. */
export type Origin = "config" | "nodes" | "given" | "new";

export interface Password {
  value: string;
  origin: Origin;
  /** Whether the role has it already. */
  current: boolean;
}

/** Where passwords come from. */
export interface Sources {
  /** The config's, by key. */
  configured: Partial<Record<SecretKey, string>>;
  /** What PostgreSQL keeps, by role. */
  verifiers: Readonly<Record<string, string>>;
  /** The texts of the nodes' password files. */
  passfiles: readonly string[];
  environment: NodeJS.ProcessEnv;
  /** Undefined where there is no terminal. */
  ask: ((question: string) => Promise<string>) | undefined;
  say: (line: string) => void;
}

/** Finds every password, asks for it, or makes up a new one. @throws UserError for one that cannot be used. */
export async function findPasswords(sources: Sources): Promise<Record<SecretKey, Password>> {
  return {
    superuserPassword: await findPassword("superuserPassword", sources),
    replicationPassword: replicationPassword(sources),
    appPassword: await findPassword("appPassword", sources),
  };
}

function fits(key: SecretKey, { verifiers }: Sources, value: string): boolean {
  return isPasswordOf(verifiers[ROLE_OF[key]] ?? "", value);
}

/** The nodes know it, because they stream with it. Of several the one that the primary accepts. */
function replicationPassword(sources: Sources): Password {
  const key = "replicationPassword";
  const configured = sources.configured[key];
  if (configured !== undefined) {
    return { value: configured, origin: "config", current: fits(key, sources, configured) };
  }
  const known = sources.passfiles.flatMap((text) => fromPassfile(text) ?? []);
  const value = known.find((password) => fits(key, sources, password)) ?? known[0];
  return value === undefined
    ? { value: madeUp(), origin: "new", current: false }
    : { value, origin: "nodes", current: fits(key, sources, value) };
}

async function findPassword(key: "superuserPassword" | "appPassword", sources: Sources): Promise<Password> {
  const configured = sources.configured[key];
  if (configured !== undefined) {
    return { value: configured, origin: "config", current: fits(key, sources, configured) };
  }
  const variable = VARIABLE_OF[key] ?? "";
  const given = sources.environment[variable] || (sources.ask === undefined ? "" : await askFor(key, sources, sources.ask));
  if (given === "") {
    return { value: madeUp(), origin: "new", current: false };
  }
  if (!isUsablePassword(given)) {
    throw new UserError(
      `${variable} holds ${given.length} characters; allowed is at least one, and no line break or control character. Nothing was changed`,
    );
  }
  return { value: given, origin: "given", current: fits(key, sources, given) };
}

/** A typing mistake would change the password under the applications' feet, so one that is not the role's is asked for again. */
async function askFor(key: SecretKey, sources: Sources, ask: (question: string) => Promise<string>): Promise<string> {
  const role = ROLE_OF[key];
  const question = `Password of the role ${role} (${key}; only the lost state knew it; empty: set a new one): `;
  const first = await ask(question);
  if (first === "" || fits(key, sources, first)) {
    return first;
  }
  sources.say(`that is not the password that ${role} has. Type it again to set it all the same, another one, or nothing for a new one`);
  return ask(question);
}
