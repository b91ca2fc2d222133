import { isUsablePassword } from "../grammar/conninfo";
import { ConfigError } from "./errors";

/** The names of the secret keys, in Pulumi's config. */
export const SECRET_KEYS = ["superuserPassword", "replicationPassword", "appPassword"] as const;
export type SecretKey = (typeof SECRET_KEYS)[number];

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
export function checkPassword(key: SecretKey, password: string): string {
  if (!isUsablePassword(password)) {
    throw new ConfigError(
      `config key "${key}" is a secret of ${password.length} characters; allowed is at least one, and no line break or control character. Set it with: printf %s 'PASSWORD' | pulumi config set --secret ${key}`,
    );
  }
  return password;
}
