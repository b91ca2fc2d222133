import { readFileSync } from "fs";
import { join } from "path";
import { parse } from "yaml";
import {
  checkPassword,
  CONFIG_KEYS,
  CONFIG_NAMESPACE,
  ConfigError,
  DEFAULTS,
  generatesPasswords,
  parseConfig,
  requireSecrets,
  SECRET_KEYS,
  type StackConfig,
} from "../../core/config";
import { RESERVED_PARAMETERS } from "../../core/settings/parameters";

type Raw = Record<string, unknown>;

const NODES = [
  { name: "pg1", port: 5432 },
  { name: "pg2", port: 5433 },
];

/** The message with which something is refused; fails when it is not, or not in one line. */
function refusal(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    const { message, name } = error as ConfigError;
    expect(name).toBe("ConfigError");
    expect(message).not.toMatch(/[\r\n]/);
    return message;
  }
  throw new Error("it was accepted");
}

describe("the defaults", () => {
  const declared = (parse(readFileSync(join(__dirname, "..", "..", "Pulumi.yaml"), "utf8")) as { config: Record<string, Raw> }).config;

  test("Pulumi.yaml declares every key and no other, each with type, description and default", () => {
    expect(Object.keys(declared).sort()).toEqual([...CONFIG_KEYS].sort());
    for (const [key, { type, description, default: value }] of Object.entries(declared)) {
      const of = typeof value === "number" ? "integer" : typeof value;
      expect([key, type]).toEqual([key, Array.isArray(value) ? "array" : of]);
      expect([key, description]).toEqual([key, expect.stringMatching(/^.{20,}\.$/)]);
    }
  });

  test("Pulumi.yaml and the code agree on them", () => {
    const secrets = Object.fromEntries(SECRET_KEYS.map((key) => [key, ""]));
    expect(Object.fromEntries(Object.entries(declared).map(([key, entry]) => [key, entry["default"]]))).toEqual({
      ...DEFAULTS,
      ...secrets,
    });
  });

  test("an empty config and one that spells the defaults out are the same", () => {
    const spelt = Object.fromEntries(Object.entries(declared).map(([key, entry]) => [key, entry["default"]]));
    expect(parseConfig("dev", spelt)).toEqual(parseConfig("dev", {}));
  });

  test("are two nodes on ports 5432 and 5433 of this machine, with no sample data", () => {
    expect(parseConfig("dev", {})).toEqual({
      stack: "dev",
      nodes: NODES.map((node) => ({ ...node, address: "127.0.0.1" })),
      image: "postgres-replica:17",
      parameters: {},
      allowedSubnets: ["samenet"],
      sampleDatabase: false,
      protectData: false,
      maxSlotWalKeepSize: "1GB",
      automaticRejoin: true,
      startStopped: false,
      first: "pg1",
      database: "app",
      databases: [],
    });
  });
});

test.each(["dev", "staging", "prod"])("the config file of %s has keys of the project alone, and is taken", (stack) => {
  const file = parse(readFileSync(join(__dirname, "..", "..", `Pulumi.${stack}.yaml`), "utf8")) as { config: Raw };
  const keys = Object.keys(file.config);
  expect(keys.filter((key) => !key.startsWith(CONFIG_NAMESPACE) || !CONFIG_KEYS.includes(key.slice(CONFIG_NAMESPACE.length)))).toEqual([]);
  const raw = Object.fromEntries(Object.entries(file.config).map(([key, value]) => [key.slice(CONFIG_NAMESPACE.length), value]));
  expect(parseConfig(stack, raw).stack).toBe(stack);
});

describe("the order of the nodes", () => {
  const listed = (...names: string[]): StackConfig =>
    parseConfig("dev", { nodes: names.map((name) => ({ name, port: 6000 + Number(name.slice(2)) })) });

  test("means nothing but with which one a new stack begins: they are sorted as people sort names", () => {
    const config = listed("pg10", "pg2", "pg1");
    expect(config.nodes.map((node) => node.name)).toEqual(["pg1", "pg2", "pg10"]);
    expect(config.first).toBe("pg10");
    expect({ ...listed("pg2", "pg1", "pg10"), first: "" }).toEqual({ ...config, first: "" });
  });

  test("is the one of the config where a mistake is named", () => {
    expect(() =>
      parseConfig("dev", {
        nodes: [
          { name: "pg2", port: 1 },
          { name: "pg1", port: 0 },
        ],
      }),
    ).toThrow(/^config key "nodes\[1\]\.port" is 0/);
  });
});

test("stopped standbys are started only when startStopped says so", () => {
  expect(["true", true, "false", false].map((startStopped) => parseConfig("dev", { startStopped }).startStopped)).toEqual([
    true,
    true,
    false,
    false,
  ]);
  expect(() => parseConfig("dev", { startStopped: "yes" })).toThrow(/^config key "startStopped" is "yes"; allowed is true or false\./);
});

describe("reading", () => {
  test("takes the JSON text that Pulumi makes of structures", () => {
    const structured = {
      nodes: NODES,
      parameters: { work_mem: "8MB" },
      allowedSubnets: ["10.0.0.0/8"],
      synchronous: { mode: "first", count: 1 },
      clone: { from: "standby", compress: "lz4" },
    };
    const asText = Object.fromEntries(Object.entries(structured).map(([key, value]) => [key, JSON.stringify(value)]));
    expect(parseConfig("dev", asText)).toEqual(parseConfig("dev", structured));
    expect(parseConfig("dev", asText)).toMatchObject({ ...structured, nodes: [{ name: "pg1" }, { name: "pg2" }] });
  });

  test("takes true and false as text, which is how Pulumi hands them over", () => {
    expect(parseConfig("dev", { sampleDatabase: "true", protectData: "false" })).toMatchObject({
      sampleDatabase: true,
      protectData: false,
    });
  });

  test("takes the sample database for the application database", () => {
    expect(parseConfig("dev", { sampleDatabase: true }).database).toBe("ecommerce");
  });

  test("writes parameters down as PostgreSQL spells them", () => {
    const parameters = { work_mem: "64MB", max_connections: 200, jit: false, fsync: true, "pg_stat_statements.max": 1000 };
    expect(parseConfig("dev", { parameters }).parameters).toEqual({
      work_mem: "64MB",
      max_connections: "200",
      jit: "off",
      fsync: "on",
      "pg_stat_statements.max": "1000",
    });
  });

  test("waits for any one standby when synchronous says no more than that it is wanted", () => {
    expect(parseConfig("dev", { synchronous: { count: 1 } }).synchronous).toEqual({ mode: "any", count: 1 });
    expect(parseConfig("dev", { synchronous: { mode: "first" } }).synchronous).toEqual({ mode: "first", count: 1 });
    expect(parseConfig("dev", { synchronous: {} })).not.toHaveProperty("synchronous");
  });

  test("leaves the secrets to those who may read them", () => {
    expect(JSON.stringify(parseConfig("dev", { appPassword: { secure: "v1:abc" } }))).not.toContain("v1:abc");
  });

  test("takes numbers as text, which is how pulumi config set writes them", () => {
    const raw = {
      nodes: [
        { name: "a", port: "1" },
        { name: "b", port: "65535" },
        { name: "c", port: 2 },
      ],
      synchronous: { count: "2" },
    };
    const { nodes, synchronous } = parseConfig("dev", raw);
    expect([nodes.map((n) => n.port), synchronous]).toEqual([[1, 65535, 2], { mode: "any", count: 2 }]);
  });

  test("takes a key without a value for one that is not there", () => {
    expect(parseConfig("dev", { nodes: undefined, image: undefined, tls: undefined })).toEqual(parseConfig("dev", {}));
  });

  test.each(["unix:///var/run/docker.sock", "tcp://10.0.0.1:2375", "ssh://user@db1", "npipe:////./pipe/docker_engine"])(
    "takes %s as a Docker host, for all nodes alike",
    (dockerHost) => {
      const nodes = NODES.map((node) => ({ ...node, dockerHost }));
      expect(parseConfig("dev", { nodes }).nodes.map((n) => n.dockerHost)).toEqual([dockerHost, dockerHost]);
    },
  );

  test("takes an IPv6 address", () => {
    expect(parseConfig("dev", { nodes: [{ name: "a", port: 1, address: "::1" }] }).nodes[0]?.address).toBe("::1");
  });

  test("lets one port be used on two addresses", () => {
    const nodes = [
      { name: "a", port: 5432, address: "127.0.0.1" },
      { name: "b", port: 5432, address: "127.0.0.2" },
    ];
    expect(parseConfig("dev", { nodes }).nodes.map((n) => n.address)).toEqual(["127.0.0.1", "127.0.0.2"]);
  });

  test.each(["10.0.0.0/8", "0.0.0.0/0", "192.168.1.7/32", "fd00::/8", "::/0", "::1/128", "samenet", "samehost"])(
    "takes %s as a subnet",
    (subnet) => {
      expect(parseConfig("dev", { allowedSubnets: [subnet] }).allowedSubnets).toEqual([subnet]);
    },
  );

  test.each(["1MB", "512MB", "20GB", "3TB", "-1"])("takes %s as the most WAL that a slot may hold back", (size) => {
    expect(parseConfig("dev", { maxSlotWalKeepSize: size }).maxSlotWalKeepSize).toBe(size);
  });

  test.each([
    ["32kB", 32],
    ["100MB", 102_400],
    ["1024MB", 1_048_576],
    ["1GB", 1_048_576],
    ["1048576kB", 1_048_576],
  ])("takes %s as the most that a copy may be sent in a second", (maxRate, kB) => {
    expect(parseConfig("dev", { clone: { maxRate } }).clone).toEqual({ maxRate: kB });
  });

  test("says nothing of how a node is cloned where that is the default", () => {
    expect(parseConfig("dev", { clone: { compress: "none" } })).not.toHaveProperty("clone");
    expect(parseConfig("dev", { clone: { from: "standby", compress: "none" } }).clone).toEqual({ from: "standby" });
  });

  test.each(["p", "17", "postgres:17", "ghcr.io/acme/postgres:17-bookworm", "localhost:5000/pg@sha256:0123abcd"])(
    "takes %s as an image",
    (image) => {
      expect(parseConfig("dev", { image }).image).toBe(image);
    },
  );
});

describe("refuses", () => {
  interface Mistake {
    raw: Raw;
    key: string;
    value: string;
    allowed: string;
    fix: string;
  }
  const node = (changes: Raw): Raw => ({ nodes: [{ ...NODES[0], ...changes }, NODES[1]] });
  const fixIn = (key: string): string => `Fix ${key} in the stack's Pulumi.<stack>.yaml.`;
  /** Values of one field of a node, each refused alike. */
  const inField = (field: string, values: readonly unknown[], allowed: string): [string, Mistake][] =>
    values.map((value) => {
      const said = JSON.stringify(value);
      return [
        `${said} for ${field} of a node`,
        { raw: node({ [field]: value }), key: `nodes[0].${field}`, value: said, allowed, fix: fixIn("nodes") },
      ];
    });
  const port = (value: unknown): Mistake => ({
    raw: node({ port: value }),
    key: "nodes[0].port",
    value: JSON.stringify(value),
    allowed: "a TCP port, 1 to 65535",
    fix: fixIn("nodes"),
  });
  const name = (value: string): Mistake => ({
    raw: node({ name: value }),
    key: "nodes[0].name",
    value: JSON.stringify(value),
    allowed: "a DNS label: a lower-case letter, then letters, digits and hyphens, at most 63",
    fix: fixIn("nodes"),
  });
  const subnet = (value: string): Mistake => ({
    raw: { allowedSubnets: ["samenet", value] },
    key: "allowedSubnets[1]",
    value: JSON.stringify(value),
    allowed: "a CIDR range such as 192.168.1.0/24, or samenet",
    fix: fixIn("allowedSubnets"),
  });
  const size = (value: string): Mistake => ({
    raw: { maxSlotWalKeepSize: value },
    key: "maxSlotWalKeepSize",
    value: JSON.stringify(value),
    allowed: "a size such as 512MB or 1GB, or -1 for no limit",
    fix: fixIn("maxSlotWalKeepSize"),
  });

  test.each<[string, Mistake]>([
    [
      "a key that does not exist, with the one that was meant",
      {
        raw: { alowedSubnet: ["10.0.0.0/8"] },
        key: "alowedSubnet",
        value: '"set"',
        allowed: CONFIG_KEYS.join(", "),
        fix: "Did you mean allowedSubnets? Remove it with: pulumi config rm alowedSubnet",
      },
    ],
    [
      "a key in the wrong case",
      { raw: { Image: "postgres:17" }, key: "Image", value: '"set"', allowed: "image", fix: "Did you mean image?" },
    ],
    [
      "a misspelt key of a node",
      {
        raw: node({ adress: "127.0.0.1" }),
        key: "nodes[0].adress",
        value: '"127.0.0.1"',
        allowed: "no such key here",
        fix: 'Remove "adress" from nodes[0].',
      },
    ],
    ["a node name with a capital letter", name("PG1")],
    ["a node name with an underscore", name("pg_1")],
    ["a node name that ends with a hyphen", name("pg-")],
    ["a node name that begins with a digit", name("1pg")],
    ["a node name of 64 letters", name("p".repeat(64))],
    [
      "a node without a name",
      { raw: { nodes: [{ port: 5432 }] }, key: "nodes[0].name", value: "nothing", allowed: "a DNS label such as pg1", fix: fixIn("nodes") },
    ],
    [
      "two nodes with one name",
      {
        raw: node({ name: "pg2" }),
        key: "nodes[1].name",
        value: '"pg2"',
        allowed: "a value that no other node has (nodes[0].name has it too)",
        fix: fixIn("nodes"),
      },
    ],
    [
      "two nodes with one port",
      {
        raw: node({ port: 5433 }),
        key: "nodes[1].port",
        value: "5433",
        allowed: "a value that no other node has (nodes[0].port has it too)",
        fix: fixIn("nodes"),
      },
    ],
    ["port 0", port(0)],
    ["port 65536", port(65536)],
    ["a port with a fraction", port(5432.5)],
    ["a port that is a word", port("postgres")],
    ["a port with a sign", port("+5432")],
    ["a port with a blank", port("5432 ")],
    ["a port that is an empty text", port("")],
    ["a negative port", port(-1)],
    [
      "a count of ten digits",
      {
        raw: { synchronous: { count: "0000000001" } },
        key: "synchronous.count",
        value: '"0000000001"',
        allowed: "a whole number from 1",
        fix: fixIn("synchronous"),
      },
    ],
    ["a port that is true", port(true)],
    ["a port that is a list", port([5432])],
    [
      "an address that is a name",
      {
        raw: node({ address: "localhost" }),
        key: "nodes[0].address",
        value: '"localhost"',
        allowed: "an IP address such as 127.0.0.1",
        fix: fixIn("nodes"),
      },
    ],
    [
      "a Docker host without a scheme",
      {
        raw: node({ dockerHost: "db.example.com" }),
        key: "nodes[0].dockerHost",
        value: '"db.example.com"',
        allowed: "a Docker host such as ssh://user@host",
        fix: fixIn("nodes"),
      },
    ],
    [
      "an address that the other Docker host cannot reach",
      {
        raw: node({ dockerHost: "ssh://db1" }),
        key: "nodes[0].address",
        value: '"127.0.0.1"',
        allowed: "an address by which the other Docker hosts reach this one, because the nodes are on several",
        fix: fixIn("nodes"),
      },
    ],
    ...inField("memory", [100, "64MB", "0MB", "1TB", "1.5GB"], "a size from 256MB, such as 512MB or 2GB"),
    ...inField("cpus", [0, -1, "two", "1e3"], "a number of CPUs such as 2 or 0.5"),
    ...inField(
      "dockerHost",
      ["ssh://", "xssh://db1", "http://db1", 5],
      "a Docker host such as ssh://user@host or unix:///var/run/docker.sock",
    ),
    [
      "an address that is a number",
      {
        raw: node({ address: 127 }),
        key: "nodes[0].address",
        value: "127",
        allowed: "an IP address such as 127.0.0.1",
        fix: fixIn("nodes"),
      },
    ],
    [
      "a node that is a text",
      { raw: { nodes: ["pg1"] }, key: "nodes[0]", value: '"pg1"', allowed: "a node with name and port", fix: fixIn("nodes") },
    ],
    ["no nodes at all", { raw: { nodes: [] }, key: "nodes", value: "[]", allowed: "at least one node", fix: fixIn("nodes") }],
    [
      "nodes that are no list",
      {
        raw: { nodes: { pg1: 5432 } },
        key: "nodes",
        value: '{"pg1":5432}',
        allowed: "a list of nodes, each with name and port",
        fix: fixIn("nodes"),
      },
    ],
    [
      "nodes that are plain text",
      {
        raw: { nodes: "pg1,pg2" },
        key: "nodes",
        value: '"pg1,pg2"',
        allowed: "a list or an object, not text",
        fix: "Set it in Pulumi.<stack>.yaml, or with: pulumi config set --path 'nodes...' VALUE",
      },
    ],
    [
      "an image name with a space",
      {
        raw: { image: "postgres 17" },
        key: "image",
        value: '"postgres 17"',
        allowed: "an image name such as postgres:17",
        fix: fixIn("image"),
      },
    ],
    [
      "an image that is a number",
      { raw: { image: 17 }, key: "image", value: "17", allowed: "an image name such as postgres:17", fix: fixIn("image") },
    ],
    [
      "an image name in capitals",
      { raw: { image: "Postgres" }, key: "image", value: '"Postgres"', allowed: "an image name such as postgres:17", fix: fixIn("image") },
    ],
    [
      "an image that reads as an option",
      {
        raw: { image: "--privileged" },
        key: "image",
        value: '"--privileged"',
        allowed: "an image name such as postgres:17",
        fix: fixIn("image"),
      },
    ],
    ["a subnet without a mask", subnet("10.0.0.0")],
    ["a subnet with a mask that is too long", subnet("10.0.0.0/33")],
    ["a subnet with a number that is too big", subnet("10.0.0.256/24")],
    ["an IPv6 subnet with a mask that is too long", subnet("fd00::/129")],
    ["a subnet that is a name", subnet("office")],
    ["a subnet that is a name with a mask", subnet("office/8")],
    ["a subnet with two masks", subnet("10.0.0.0/8/8")],
    ["a subnet with an empty mask", subnet("10.0.0.0/")],
    ["a subnet with a negative mask", subnet("10.0.0.0/-8")],
    ["a subnet with half a bit", subnet("10.0.0.0/8.5")],
    ["a subnet with a mask of four digits", subnet("10.0.0.0/0008")],
    [
      "a subnet that is a number",
      {
        raw: { allowedSubnets: [10] },
        key: "allowedSubnets[0]",
        value: "10",
        allowed: "a CIDR range such as 192.168.1.0/24, or samenet",
        fix: fixIn("allowedSubnets"),
      },
    ],
    ["a subnet that would add a second rule", subnet("10.0.0.0/8 trust")],
    [
      "subnets that are no list",
      {
        raw: { allowedSubnets: { a: 1 } },
        key: "allowedSubnets",
        value: '{"a":1}',
        allowed: "a list of CIDR ranges",
        fix: fixIn("allowedSubnets"),
      },
    ],
    [
      "a parameter in capitals",
      {
        raw: { parameters: { Work_Mem: "1MB" } },
        key: "parameters.Work_Mem",
        value: '"1MB"',
        allowed: "a PostgreSQL setting's name in lower case, such as work_mem",
        fix: fixIn("parameters"),
      },
    ],
    [
      "a parameter with a line break, which would begin another setting",
      {
        raw: { parameters: { work_mem: "1MB'\nfsync = 'off" } },
        key: "parameters.work_mem",
        value: "\"1MB'\\nfsync = 'off\"",
        allowed: "a value on one line",
        fix: fixIn("parameters"),
      },
    ],
    ...["\r", "\0", "\n"].map((character): [string, Mistake] => [
      `a parameter with the character ${JSON.stringify(character)}`,
      {
        raw: { parameters: { work_mem: `1${character}MB` } },
        key: "parameters.work_mem",
        value: JSON.stringify(`1${character}MB`),
        allowed: "a value on one line",
        fix: fixIn("parameters"),
      },
    ]),
    ...["1a", "a-b", "a.", ".b", "a.1b", "a.b.c", "a b", " a", ""].map((parameter): [string, Mistake] => [
      `a parameter that is called ${JSON.stringify(parameter)}`,
      {
        raw: { parameters: { [parameter]: "1" } },
        key: `parameters.${parameter}`,
        value: '"1"',
        allowed: "a PostgreSQL setting's name in lower case, such as work_mem",
        fix: fixIn("parameters"),
      },
    ]),
    [
      "parameters that are a list",
      {
        raw: { parameters: ["a"] },
        key: "parameters",
        value: '["a"]',
        allowed: "an object of PostgreSQL settings",
        fix: fixIn("parameters"),
      },
    ],
    [
      "synchronous that is a number",
      {
        raw: { synchronous: 1 },
        key: "synchronous",
        value: "1",
        allowed: "an object such as { mode: any, count: 1 }",
        fix: fixIn("synchronous"),
      },
    ],
    [
      "a confirmation where there is no standby",
      {
        raw: { nodes: [NODES[0]], synchronous: { mode: "any" } },
        key: "synchronous.count",
        value: "1",
        allowed: "none, because there is no standby",
        fix: "Lower the count or add nodes.",
      },
    ],
    ...["31kB", "1025MB", "2GB", "100", "1.5MB", "100mb", "0MB", "100MB/s", "", 100, true].map((value): [string, Mistake] => [
      `${JSON.stringify(value)} as the rate of a copy`,
      {
        raw: { clone: { maxRate: value } },
        key: "clone.maxRate",
        value: JSON.stringify(value),
        allowed: "what may be sent in a second, from 32kB to 1024MB, such as 100MB",
        fix: fixIn("clone"),
      },
    ]),
    [
      "an unknown one to copy",
      { raw: { clone: { from: "pg2" } }, key: "clone.from", value: '"pg2"', allowed: "primary or standby", fix: fixIn("clone") },
    ],
    [
      "an unknown compression",
      { raw: { clone: { compress: "xz" } }, key: "clone.compress", value: '"xz"', allowed: "none, gzip, lz4 or zstd", fix: fixIn("clone") },
    ],
    [
      "clone that is a number",
      {
        raw: { clone: 1 },
        key: "clone",
        value: "1",
        allowed: "an object such as { from: standby, maxRate: 100MB, compress: zstd }",
        fix: fixIn("clone"),
      },
    ],
    [
      "a misspelt key of clone",
      {
        raw: { clone: { rate: "1MB" } },
        key: "clone.rate",
        value: '"1MB"',
        allowed: "no such key here",
        fix: 'Remove "rate" from clone.',
      },
    ],
    [
      "a parameter that is a list",
      {
        raw: { parameters: { work_mem: ["1MB"] } },
        key: "parameters.work_mem",
        value: '["1MB"]',
        allowed: "a string, number or boolean",
        fix: fixIn("parameters"),
      },
    ],
    [
      "more confirmations than there are standbys",
      {
        raw: { synchronous: { count: 2 } },
        key: "synchronous.count",
        value: "2",
        allowed: "1 to 1, the number of standbys",
        fix: "Lower the count or add nodes.",
      },
    ],
    [
      "synchronous replication of no standby",
      {
        raw: { synchronous: { count: 0 } },
        key: "synchronous.count",
        value: "0",
        allowed: "a whole number from 1",
        fix: fixIn("synchronous"),
      },
    ],
    [
      "a count of confirmations that is true",
      {
        raw: { synchronous: { count: true } },
        key: "synchronous.count",
        value: "true",
        allowed: "a whole number from 1",
        fix: fixIn("synchronous"),
      },
    ],
    [
      "an unknown mode of synchronous replication",
      {
        raw: { synchronous: { mode: "all" } },
        key: "synchronous.mode",
        value: '"all"',
        allowed: "any or first",
        fix: fixIn("synchronous"),
      },
    ],
    [
      "a misspelt key of synchronous",
      {
        raw: { synchronous: { cuont: 1 } },
        key: "synchronous.cuont",
        value: "1",
        allowed: "no such key here",
        fix: 'Remove "cuont" from synchronous.',
      },
    ],
    ["a size without a unit", size("1024")],
    ["a size in kB", size("512kB")],
    ["a size of nothing", size("0MB")],
    ["a negative size", size("-2")],
    ["a size with more behind it", size("1GB ")],
    ["a size with more before it", size(" 1GB")],
    ["no limit with more behind it", size("-10")],
    ["no limit with more before it", size("--1")],
    [
      "a size that is a number",
      {
        raw: { maxSlotWalKeepSize: 1 },
        key: "maxSlotWalKeepSize",
        value: "1",
        allowed: "a size such as 1GB",
        fix: fixIn("maxSlotWalKeepSize"),
      },
    ],
    [
      "TLS from elsewhere than the ways that there are",
      { raw: { tls: "letsencrypt" }, key: "tls", value: '"letsencrypt"', allowed: "off, generated or provided", fix: fixIn("tls") },
    ],
    [
      "a path of the CA's certificate on two lines",
      { raw: { tls: true, caFile: "a\nb" }, key: "caFile", value: '"a\\nb"', allowed: "a path on one line", fix: fixIn("caFile") },
    ],
    [
      "a setting that the stack decides where TLS is on",
      {
        ...{ raw: { tls: true, parameters: { ssl_cert_file: "/x" } }, key: "parameters.ssl_cert_file", value: '"/x"' },
        ...{ allowed: "any setting that the stack does not decide itself", fix: "Use the config key tls." },
      },
    ],
    [
      "automatic failover, which this version does not have",
      {
        raw: { failover: "automatic" },
        key: "failover",
        value: '"automatic"',
        allowed: "manual: this version has no automatic failover yet",
        fix: fixIn("failover"),
      },
    ],
    [
      "yes for a boolean",
      { raw: { sampleDatabase: "yes" }, key: "sampleDatabase", value: '"yes"', allowed: "true or false", fix: fixIn("sampleDatabase") },
    ],
    [
      "a number for a boolean",
      { raw: { protectData: 1 }, key: "protectData", value: "1", allowed: "true or false", fix: fixIn("protectData") },
    ],
  ])("%s", (_what, { raw, key, value, allowed, fix }) => {
    const message = refusal(() => parseConfig("dev", raw));
    expect(message.startsWith(`config key "${key}" is ${value}; allowed is `)).toBe(true);
    expect(message).toContain(allowed);
    expect(message).toContain(`. ${fix}`);
  });

  test.each(Object.entries(RESERVED_PARAMETERS))("the parameter %s, and says what to use instead", (parameter, instead) => {
    const message = refusal(() => parseConfig("dev", { parameters: { [parameter]: "x" } }));
    expect(message).toContain(
      `config key "parameters.${parameter}" is "x"; allowed is any setting that the stack does not decide itself. Use ${instead}.`,
    );
  });

  test("no parameter because JavaScript has a property of that name", () => {
    expect(parseConfig("dev", { parameters: { constructor: "1" } }).parameters).toEqual({ constructor: "1" });
  });

  test.each([
    ["Nodes", "nodes"],
    ["node", "nodes"],
    ["subnets", "allowedSubnets"],
    ["rejoin", "automaticRejoin"],
    ["startstopped", "startStopped"],
    ["database", "databases"],
    ["sample", "sampleDatabase"],
    ["replicationPasswort", "replicationPassword"],
    ["x", "nodes"],
  ])("%s, and asks whether %s was meant", (key, meant) => {
    expect(refusal(() => parseConfig("dev", { [key]: 1 }))).toBe(
      `config key "${key}" is "set"; allowed is one of ${CONFIG_KEYS.join(", ")}. Did you mean ${meant}? Remove it with: pulumi config rm ${key}`,
    );
  });

  test("a key that is none, also without a value", () => {
    expect(refusal(() => parseConfig("dev", { no: undefined }))).toMatch(/^config key "no" is nothing; /);
  });

  test("two nodes with one port on the same Docker host and address, and none else", () => {
    const [a, b] = [
      { name: "a", port: 5432, dockerHost: "ssh://db1", address: "10.0.0.1" },
      { name: "b", port: 5432, dockerHost: "ssh://db2", address: "10.0.0.2" },
    ];
    expect(parseConfig("dev", { nodes: [a, b] }).nodes).toMatchObject([a, b]);
    const one = refusal(() => parseConfig("dev", { nodes: [a, { ...b, dockerHost: "ssh://db1", address: "10.0.0.1" }] }));
    expect(one).toMatch(/^config key "nodes\[1\]\.port" is 5432; /);
  });

  describe("nodes on several Docker hosts", () => {
    const HOSTS = ["ssh://db1", "ssh://db2"];
    const on = (...more: object[]): Raw => ({
      nodes: more.map((one, i) => ({ name: `pg${i + 1}`, port: 5432 + i, dockerHost: HOSTS[i % 2], address: `10.0.0.${i + 1}`, ...one })),
    });

    test.each(["127.0.0.1", "127.0.1.1", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"])(
      "whose address is %s, where no other machine reaches it",
      (address) => {
        expect(refusal(() => parseConfig("dev", on({}, { address })))).toBe(
          `config key "nodes[1].address" is "${address}"; allowed is an address by which the other Docker hosts reach this one, because the nodes are on several. ${fixIn("nodes")}`,
        );
        expect(parseConfig("dev", on({ address }, { address, dockerHost: "ssh://db1" })).nodes).toHaveLength(2);
      },
    );

    test("of which one has a Docker host and the other the current one", () => {
      expect(refusal(() => parseConfig("dev", on({}, { dockerHost: undefined, address: "127.0.0.1" })))).toContain('"nodes[1].address"');
      expect(parseConfig("dev", on({}, { dockerHost: undefined })).nodes).toHaveLength(2);
    });

    test("with one address on two of them; nodes of one host may share theirs", () => {
      expect(refusal(() => parseConfig("dev", on({}, {}, {}, { address: "10.0.0.1" })))).toBe(
        `config key "nodes[0].address" is "10.0.0.1"; allowed is an address that no other Docker host has (node pg4 is on another one). ${fixIn("nodes")}`,
      );
      expect(parseConfig("dev", on({}, {}, { address: "10.0.0.1" })).nodes.map((node) => node.address)).toEqual([
        "10.0.0.1",
        "10.0.0.2",
        "10.0.0.1",
      ]);
    });

    test.each<[unknown, string, string, string]>([
      [[], "nodes[1].seenFrom", "[]", "at least one address"],
      ["10.0.0.1", "nodes[1].seenFrom", '"10.0.0.1"', "a list of IP addresses or CIDR ranges"],
      [["db2"], "nodes[1].seenFrom[0]", '"db2"', "an IP address or a CIDR range"],
      [["10.0.0.1", "10.0.0.0/33"], "nodes[1].seenFrom[1]", '"10.0.0.0/33"', "an IP address or a CIDR range"],
      [["samenet"], "nodes[1].seenFrom[0]", '"samenet"', "an IP address or a CIDR range"],
    ])("that are seen from %j", (seenFrom, key, value, allowed) => {
      expect(refusal(() => parseConfig("dev", on({}, { seenFrom })))).toBe(
        `config key "${key}" is ${value}; allowed is ${allowed}. ${fixIn("nodes")}`,
      );
      const from = ["10.0.0.1", "10.0.0.0/8", "fd00::7", "fd00::/8"];
      expect(parseConfig("dev", on({}, { seenFrom: from })).nodes[1]?.seenFrom).toEqual(from);
    });
  });

  test("a value with characters that no terminal should see, which it writes as what they are", () => {
    const shown = (value: string): string | undefined =>
      /^config key "image" is (".*"); allowed/.exec(refusal(() => parseConfig("dev", { image: value })))?.[1];
    expect(shown("a\u0000\u001b\n\tb")).toBe('"a\\u0000\\u001b\\n\\tb"');
    expect(shown("a\u007f\u0080\u009f\u2028\u2029b")).toBe('"a?????b"');
    expect(shown("ä ~🐘\u00a0")).toBe('"ä ~🐘\u00a0"');
  });

  test("a misspelt key with a line break in one line", () => {
    expect(refusal(() => parseConfig("dev", { "no\ndes": [] }))).toMatch(
      /^config key "no\\ndes" is .*Did you mean nodes\? .* rm no\\ndes$/,
    );
    expect(refusal(() => parseConfig("dev", { parameters: { "a\nb": "1" } }))).toContain("a PostgreSQL setting's name");
  });

  test("a misspelt secret without showing it", () => {
    const message = refusal(() => parseConfig("dev", { superuserPasword: "hunter2-and-more" }));
    expect(message).toContain("Did you mean superuserPassword?");
    expect(message).not.toContain("hunter2");
  });
});

describe("passwords", () => {
  test.each(["dev", "dev-two", "dev-"])("are made up in %s", (stack) => {
    expect(generatesPasswords(stack)).toBe(true);
    expect(() => requireSecrets(stack, () => false)).not.toThrow();
  });

  test.each(["staging", "prod", "devel", "Dev", "my-dev"])(
    "are demanded in %s: each missing one is named with the command that sets it",
    (stack) => {
      const message = refusal(() => requireSecrets(stack, (key) => key === "replicationPassword"));
      expect(message).toBe(
        `stack "${stack}" has no secret superuserPassword, appPassword; only dev stacks make up their own. Make strong ones: npm run secrets -- init --stack ${stack}; or set each with: ` +
          `pulumi config set --stack ${stack} --secret superuserPassword; pulumi config set --stack ${stack} --secret appPassword`,
      );
    },
  );

  test("that are all there need no more", () => {
    expect(() => requireSecrets("prod", () => true)).not.toThrow();
  });

  test("of any printable characters are taken as they are", () => {
    const password = " ä'\"\\:@/?#%$`&|;<>🐘 ";
    expect(checkPassword("appPassword", password)).toBe(password);
  });

  test.each([
    ["a line break", "correct\nhorse"],
    ["a carriage return", "correct\rhorse"],
    ["a NUL", "correct\0horse"],
    ["a tab", "correct\thorse"],
    ["nothing", ""],
  ])("with %s are refused, and the message does not hold them", (_what, password) => {
    const message = refusal(() => checkPassword("appPassword", password));
    expect(message).toContain(
      `config key "appPassword" is a secret of ${password.length} characters; allowed is at least one, and no line break or control character.`,
    );
    expect(message).toContain("pulumi config set --secret appPassword");
    expect(message).not.toMatch(/correct|horse/);
  });
});

describe("the parameters", () => {
  const parse = (parameters: Raw, more: Raw = {}): Raw => parseConfig("dev", { parameters, ...more }).parameters;
  const SYNCHRONOUS = { synchronous: { count: 1 } };
  const ON = ["on", "true", "yes", "1"];
  const OFF = ["off", "false", "no", "0"];
  const LOG = "The commands read the log";

  /** Each with a value that would break the stack, all that do not, and what the refusal says. */
  const RESTRICTED: [string, string | boolean, string[], string][] = [
    ["hot_standby", false, ON, "A standby that answers nobody cannot be judged, so none could be promoted. Remove it."],
    ["wal_level", "minimal", ["replica", "logical"], "Standbys cannot stream with less. Remove it."],
    ["recovery_target_timeline", "current", ["latest"], "A standby has to follow whoever is promoted. Remove it."],
    ["logging_collector", true, OFF, `${LOG}: collect it with docker logs, or a log driver of Docker's.`],
    ["log_destination", "csvlog", ["stderr"], `${LOG}: collect it with docker logs, or a log driver of Docker's.`],
    ["log_line_prefix", "%p ", ["%m [%p] "], `${LOG}. Use log_connections or log_duration for more in it.`],
    ["log_timezone", "Europe/Berlin", ["utc", "etc/utc"], `${LOG}. Use timezone for what clients see.`],
    [
      "lc_messages",
      "de_DE.UTF-8",
      ["c", "c.utf-8", "c.utf8", "posix", "en_us.utf-8", "en_us.utf8"],
      `${LOG}. A client sets its own: SET lc_messages.`,
    ],
  ];

  test.each(RESTRICTED)("refuse %s = %s, and say what is allowed and what to use instead", (name, value, allowed, instead) => {
    const shown = typeof value === "string" ? value : value ? "on" : "off";
    expect(refusal(() => parse({ [name]: value }))).toBe(
      `config key "parameters.${name}" is "${shown}"; allowed is ${allowed.join(", ")}. ${instead}`,
    );
  });

  test.each(RESTRICTED)("take for %s, instead of %s, what breaks nothing, in capitals as well: %j", (name, _value, allowed) => {
    for (const value of name === "log_line_prefix" ? allowed : allowed.flatMap((text) => [text, text.toUpperCase()])) {
      expect(parse({ [name]: value })).toEqual({ [name]: value });
    }
  });

  test.each(["off", false, "local", "remote_write", 0])("refuse synchronous_commit = %s on a synchronous stack", (value) => {
    const shown = value === false ? "off" : String(value);
    expect(refusal(() => parse({ synchronous_commit: value }, SYNCHRONOUS))).toBe(
      `config key "parameters.synchronous_commit" is "${shown}"; allowed is on, true, yes, 1, remote_apply. ` +
        "The config key synchronous promises more. A session that needs less: SET synchronous_commit.",
    );
  });

  test.each(["on", true, "remote_apply", "ON", "yes"])("take synchronous_commit = %s there", (value) => {
    expect(() => parse({ synchronous_commit: value }, SYNCHRONOUS)).not.toThrow();
  });

  test("take any synchronous_commit where nothing was promised", () => {
    expect(parse({ synchronous_commit: "off" })).toEqual({ synchronous_commit: "off" });
  });
});
