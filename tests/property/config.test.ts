import fc from "fast-check";
import { checkPassword, CONFIG_KEYS, ConfigError, parseConfig, requireSecrets, SECRET_KEYS, type StackConfig } from "../../core/config";
import { byName } from "../../core/model/names";
import { anyText, anyValue, character, nodeName, subnet } from "./arbitraries";

/** What parseConfig makes of anything: a config, or a ConfigError of one line. Everything else fails the test. */
function outcome(action: () => unknown): { message?: string } {
  try {
    action();
    return {};
  } catch (error) {
    const { message } = error as ConfigError;
    // One `expect` for all of it: they take longer than the config.
    expect({
      error,
      isOurs: error instanceof ConfigError,
      isOneLine: !/[\r\n]/.test(message),
      saysSomething: message.length > 20,
      // What the library says of a value that we have no words for.
      isTheLibrarys: message.includes("allowed is Invalid"),
    }).toEqual({ error, isOurs: true, isOneLine: true, saysSomething: true, isTheLibrarys: false });
    return { message };
  }
}

/** A config that is right, in structures. */
const rightConfig = fc
  .record({
    names: fc.uniqueArray(nodeName, { minLength: 2, maxLength: 6 }),
    firstPort: fc.integer({ min: 1, max: 65000 }),
    allowedSubnets: fc.array(subnet, { maxLength: 3 }),
    mode: fc.constantFrom("any" as const, "first" as const),
    count: fc.nat(),
    parameters: fc.dictionary(
      fc.stringMatching(/^[a-z]{3,8}_x[a-z0-9_]{0,8}(\.[a-z_]{2,5})?$/),
      fc.string({ unit: fc.constantFrom(..."ab '\"\\%=:9") }),
      {
        maxKeys: 4,
        noNullPrototype: true,
      },
    ),
    sampleDatabase: fc.boolean(),
    protectData: fc.boolean(),
    maxSlotWalKeepSize: fc.oneof(
      fc.constant("-1"),
      fc.tuple(fc.integer({ min: 1, max: 9999 }), fc.constantFrom("MB", "GB", "TB")).map(([n, unit]) => `${n}${unit}`),
    ),
  })
  .map(({ names, firstPort, mode, count, ...rest }) => ({
    ...rest,
    nodes: names.map((name, i) => ({ name, port: firstPort + i })),
    synchronous: { mode, count: 1 + (count % (names.length - 1)) },
  }));

describe("the config", () => {
  test("ends in a config or in one line for the user, whatever is in the file", () => {
    const key = fc.oneof({ weight: 20, arbitrary: fc.constantFrom(...CONFIG_KEYS) }, { weight: 1, arbitrary: anyText });
    fc.assert(
      fc.property(fc.dictionary(key, anyValue, { maxKeys: 4 }), (raw) => {
        outcome(() => parseConfig("dev", raw));
      }),
      { numRuns: 300 },
    );
  });

  test("does so when Pulumi hands the same over as JSON text", () => {
    const key = fc.constantFrom("nodes", "parameters", "allowedSubnets", "synchronous");
    fc.assert(
      fc.property(key, anyValue, (name, value) => {
        // JSON text that is itself text stands for a structure: there is no other difference.
        fc.pre(typeof value !== "string");
        const text = JSON.stringify(value);
        expect(outcome(() => parseConfig("dev", { [name]: text })).message).toBe(
          outcome(() => parseConfig("dev", { [name]: JSON.parse(text) as unknown })).message,
        );
      }),
    );
  });

  test("is taken as it was written when it is right, as structures and as text alike", () => {
    fc.assert(
      fc.property(rightConfig, (config) => {
        const { nodes, ...rest } = config;
        const sorted = [...nodes].sort((a, b) => byName(a.name, b.name));
        const expected: Partial<StackConfig> = {
          ...rest,
          nodes: sorted.map((n) => ({ ...n, address: "127.0.0.1" })),
          first: nodes[0]?.name ?? "",
        };
        expect(parseConfig("dev", config)).toMatchObject(expected);
        const asText = Object.fromEntries(
          Object.entries(config).map(([key, value]) => [key, typeof value === "string" ? value : JSON.stringify(value)]),
        );
        expect(parseConfig("dev", asText)).toEqual(parseConfig("dev", config));
      }),
    );
  });

  test("means the same in whatever order its nodes are listed, but for the node with which a new stack begins", () => {
    fc.assert(
      fc.property(rightConfig, (config) => {
        const reversed = parseConfig("dev", { ...config, nodes: [...config.nodes].reverse() });
        expect({ ...reversed, first: "" }).toEqual({ ...parseConfig("dev", config), first: "" });
        expect(reversed.first).toBe(config.nodes.at(-1)?.name);
      }),
    );
  });

  test("with one node more that has a name or port of another is refused, and says which", () => {
    fc.assert(
      fc.property(rightConfig, fc.nat(), fc.boolean(), (config, pick, byName) => {
        const twin = pick % config.nodes.length;
        const { name, port } = config.nodes[twin] ?? { name: "", port: 0 };
        // No generated name is this long, and no generated port this high.
        const extra = byName ? { name, port: 65535 } : { name: `z${"z".repeat(62)}`, port };
        const { message } = outcome(() => parseConfig("dev", { ...config, nodes: [...config.nodes, extra] }));
        const what = byName ? "name" : "port";
        expect(message).toContain(`config key "nodes[${config.nodes.length}].${what}" is ${JSON.stringify(extra[what])};`);
        expect(message).toContain(`(nodes[${twin}].${what} has it too)`);
      }),
    );
  });

  test("never shows a secret, neither under its own key nor under a misspelt one", () => {
    const secret = fc.string({ unit: fc.constantFrom(..."QXZ7'\"\\"), minLength: 8, maxLength: 20 }).map((text) => `S3cret${text}`);
    const misspelt = fc.constantFrom("superuserPasswort", "replicationpassword", "app_password", "Password");
    fc.assert(
      fc.property(fc.constantFrom(...SECRET_KEYS), misspelt, secret, anyValue, (key, wrong, value, other) => {
        for (const raw of [{ [key]: value, nodes: other }, { [wrong]: value }]) {
          expect(outcome(() => parseConfig("dev", raw)).message ?? "").not.toContain("S3cret");
        }
      }),
    );
  });
});

describe("passwords", () => {
  test("are taken as they are or refused without being shown", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...SECRET_KEYS),
        fc.string({ unit: character, maxLength: 12 }),
        fc.constantFrom("", "\n", "\r", "\0", "\u001b"),
        (key, text, bad) => {
          const password = `Zq${text}${bad}9Qz`;
          const { message } = outcome(() => expect(checkPassword(key, password)).toBe(password));
          // Whether it has a control character, said without a regular expression.
          const unusable = [...password].some((c) => (c.codePointAt(0) ?? 0) < 32 || c === "\u007f");
          expect(message !== undefined).toBe(unusable);
          expect(message ?? "").not.toMatch(/Zq|9Qz/);
        },
      ),
    );
  });

  test("that are missing are all named, and only they, outside dev", () => {
    fc.assert(
      fc.property(fc.subarray([...SECRET_KEYS]), (present) => {
        const { message = "" } = outcome(() => requireSecrets("prod", (key) => present.includes(key)));
        for (const key of SECRET_KEYS) {
          expect([key, message.includes(`--secret ${key}`)]).toEqual([key, !present.includes(key)]);
        }
      }),
    );
  });
});
