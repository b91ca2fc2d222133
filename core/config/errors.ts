/** A config value that the user has to fix. Its message is one line and says how. */
export class ConfigError extends Error {
  public constructor(message: string) {
    super(message);
    this.name = "ConfigError";
  }
}

/** How to write a config path down: `nodes[0].port`. */
export function pathText(path: readonly PropertyKey[]): string {
  return path.map((part, i) => (typeof part === "number" ? `[${part}]` : `${i === 0 ? "" : "."}${String(part)}`)).join("");
}

export function valueAt(root: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((value, key) => (value as Record<PropertyKey, unknown> | undefined)?.[key], root);
}

/** @throws ConfigError always: key, value, what is allowed, what to do. */
export function fail(key: string, value: unknown, allowed: string, fix?: string): never {
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
