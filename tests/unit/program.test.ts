import * as pulumi from "@pulumi/pulumi";
import { spawnSync } from "child_process";
import { PGNODE_SCRIPT } from "../../core/pgnode";
import { parseConf, parseConninfo, parseHba, parsePassfileLine, readSqlLiteral } from "./grammars";
import { declare, type Declared, DOCKER_HOST, madeUp, type Program, redacted, revealed, valueOf } from "./program";

const COMMAND = "command:local:Command";
const CONTAINER = "docker:index/container:Container";
const VOLUME = "docker:index/volume:Volume";

const PASSWORDS = {
  superuserPassword: "Sup3r-s3cret-of-'postgres'",
  replicationPassword: "Repl1ca:s3cret\\of the standbys",
  appPassword: "App/s3cret@of%the?application",
};
const THREE_NODES = [
  { name: "pg1", port: 5432 },
  { name: "pg2", port: 5433 },
  { name: "db-c", port: 6001, address: "127.0.0.2" },
];

/** `type name` of everything, sorted: the order of registration is nobody's business. */
const namesOf = (program: Program): string[] => program.resources.map((r) => `${r.type} ${r.name}`).sort();

const secondaryNames = (node: string): string[] => [
  `postgres-replica:index:ReplicationSlot ${node}-slot`,
  `${COMMAND} ${node}-slot-create`,
  `postgres-replica:index:StreamingSecondary ${node}`,
  `${VOLUME} ${node}-data`,
  `${COMMAND} ${node}-basebackup`,
  `${CONTAINER} ${node}-container`,
  `${COMMAND} ${node}-streaming`,
  `${COMMAND} ${node}-config`,
];
const primaryNames = (node: string): string[] => [
  `postgres-replica:index:Primary ${node}`,
  `${VOLUME} ${node}-data`,
  `${COMMAND} ${node}-init`,
  `${CONTAINER} ${node}-container`,
  `${COMMAND} ${node}-roles`,
  `${COMMAND} ${node}-config`,
];
const SHARED = ["pulumi:providers:docker docker", "docker:index/network:Network network"];

/** The commands that run before a node's container is there, with the password file on standard input. */
const BIRTHS = ["pg1-init", "pg2-basebackup", "db-c-basebackup"];

/** The password file that a birth command hands over, as a shell reads it from what comes before pgnode. */
function passfileFromStdin(program: Program, name: string): string {
  const stdin = program.input(name, "stdin") as string;
  expect([name, stdin.endsWith(PGNODE_SCRIPT)]).toEqual([name, true]);
  const before = stdin.slice(0, -PGNODE_SCRIPT.length);
  const shell = spawnSync("/bin/sh", ["-eu"], { input: `${before}exec printenv PGNODE_PASSFILE`, encoding: "utf8", env: {} });
  expect([name, shell.status, shell.stderr]).toEqual([name, 0, ""]);
  return shell.stdout.slice(0, -1); // printenv ends with a line break of its own
}

let dev: Program;
let prod: Program;
const both = (): [string, Program][] => [
  ["dev", dev],
  ["prod", prod],
];

beforeAll(async () => {
  dev = await declare({ config: { sampleDatabase: "true" } });
  prod = await declare({
    stack: "prod",
    config: {
      ...PASSWORDS,
      nodes: THREE_NODES,
      protectData: "true",
      allowedSubnets: ["10.1.0.0/16"],
      parameters: { work_mem: "8MB" },
      synchronous: { mode: "any", count: 1 },
      automaticRejoin: "false",
    },
    secretKeys: Object.keys(PASSWORDS),
  });
});

describe("what the program declares", () => {
  test("two nodes, the sample database and made-up passwords for the dev stack", () => {
    expect(namesOf(dev)).toEqual(
      [
        ...SHARED,
        ...["superuserPassword", "replicationPassword", "appPassword"].map((key) => `${COMMAND} ${key}`),
        ...primaryNames("pg1"),
        `${COMMAND} pg1-sample`,
        ...secondaryNames("pg2"),
      ].sort(),
    );
  });

  test("three nodes and nothing made up for a stack with its own passwords", () => {
    expect(namesOf(prod)).toEqual([...SHARED, ...primaryNames("pg1"), ...secondaryNames("pg2"), ...secondaryNames("db-c")].sort());
  });

  test("the same thing every time it runs", async () => {
    const again = await declare({ config: { sampleDatabase: "true" } });
    const essence = (program: Program): unknown[] =>
      program.resources.map((r) => ({ ...r, dependencies: [...r.dependencies].sort() })).sort((a, b) => (a.urn < b.urn ? -1 : 1));
    expect(essence(again)).toEqual(essence(dev));
  });

  test("every child belongs to its component, and nothing else does", () => {
    for (const [, program] of both()) {
      const components = program.resources.filter((r) => !r.custom);
      for (const resource of program.resources.filter((r) => r.custom)) {
        // The longest component name that the child's name begins with: pg2-slot-create belongs to pg2-slot.
        const owner = components
          .filter((c) => resource.name.startsWith(`${c.name}-`))
          .sort((a, b) => b.name.length - a.name.length)
          .at(0);
        expect([resource.name, resource.parent]).toEqual([resource.name, owner?.urn ?? ""]);
      }
      expect(components.map((c) => c.parent)).toEqual(components.map(() => ""));
    }
  });

  test("components keep no inputs in the state", () => {
    const components = prod.resources.filter((r) => !r.custom);
    expect(components).toHaveLength(5);
    expect(components.map((c) => c.inputs)).toEqual(components.map(() => ({})));
  });

  test("every Docker object goes to the stack's Docker host, and so does every command", () => {
    expect(dev.input("docker", "host")).toBe(DOCKER_HOST);
    const provider = dev.get("docker").urn;
    const objects = dev.resources.filter((r) => r.type.startsWith("docker:"));
    expect(objects).toHaveLength(5);
    expect(objects.map((r) => r.provider.startsWith(`${provider}::`))).toEqual(objects.map(() => true));
    const commands = dev.ofType(COMMAND);
    expect(commands.map((c) => dev.variable(c.name, "DOCKER_HOST").text)).toEqual(commands.map(() => DOCKER_HOST));
  });

  test("another Docker host of the config is everybody's", async () => {
    const dockerHost = "ssh://admin@db.example.com";
    const remote = await declare({ config: { nodes: [{ name: "pg1", port: 5432, dockerHost }] } });
    expect(remote.input("docker", "host")).toBe(dockerHost);
    expect(remote.variable("pg1-roles", "DOCKER_HOST").text).toBe(dockerHost);
    expect(remote.ofType(COMMAND).filter((c) => remote.variable(c.name, "DOCKER_HOST").text !== dockerHost)).toEqual([]);
  });
});

describe("the order", () => {
  const chain = (node: string): string[] => [
    "pg1-container",
    "pg1-roles",
    "pg1-config",
    `${node}-slot-create`,
    `${node}-basebackup`,
    `${node}-container`,
    `${node}-streaming`,
  ];

  test.each(["pg2", "db-c"])(
    "%s is built step by step: primary, roles, the primary's configuration, slot, base backup, container, streaming",
    (node) => {
      const steps = chain(node);
      for (const [i, step] of steps.slice(1).entries()) {
        const before = steps[i] ?? "";
        expect([step, before, prod.waitsFor(step, before)]).toEqual([step, before, true]);
      }
    },
  );

  test("the network and the volumes come before what uses them", () => {
    for (const node of THREE_NODES.map((n) => n.name)) {
      expect(prod.waitsFor(`${node}-container`, "network")).toBe(true);
      expect(prod.waitsFor(`${node}-container`, `${node}-data`)).toBe(true);
    }
    expect(prod.waitsFor("pg1-init", "pg1-data")).toBe(true);
    expect(prod.waitsFor("pg1-container", "pg1-init")).toBe(true);
    expect(prod.waitsFor("pg2-basebackup", "network")).toBe(true);
    expect(prod.waitsFor("pg2-basebackup", "pg2-data")).toBe(true);
  });

  test("secondaries do not wait for each other, so they are built side by side", () => {
    const of = (node: string): Declared[] => prod.resources.filter((r) => r.custom && r.name.startsWith(`${node}-`));
    const crossed = (from: string, to: string): string[] =>
      of(from).flatMap((a) =>
        of(to)
          .filter((b) => prod.waitsFor(a.name, b.name))
          .map((b) => `${a.name} -> ${b.name}`),
      );
    expect(of("pg2")).toHaveLength(6);
    expect([...crossed("pg2", "db-c"), ...crossed("db-c", "pg2")]).toEqual([]);
  });

  test("a node is configured once it is there", () => {
    expect(["pg1", "pg2", "db-c"].map((node) => prod.waitsFor(`${node}-config`, `${node}-container`))).toEqual([true, true, true]);
  });

  test("a secondary's volume is made while the primary starts", () => {
    expect(prod.waitsFor("pg2-data", "pg1-container")).toBe(false);
    expect(prod.waitsFor("pg1-init", "network")).toBe(false);
  });

  test("the sample data comes after the roles that own it", () => {
    expect(dev.waitsFor("pg1-sample", "pg1-roles")).toBe(true);
    expect(dev.input("pg1-sample", "environment")).toMatchObject({
      PGNODE_SQL: expect.stringMatching(/^\\connect "ecommerce"\nSET ROLE app;/) as string,
    });
  });
});

describe("secrets", () => {
  const allPasswords = (stack: string): string[] =>
    stack === "dev" ? Object.keys(PASSWORDS).map((key) => madeUp(key)) : Object.values(PASSWORDS);
  /** A password in any of the spellings in which it may turn up. */
  const spellings = (password: string): string[] => {
    const quoted = (text: string): string => text.replace(/'/g, "'\\''");
    const inPassfile = password.replace(/[\\:]/g, (c) => `\\${c}`);
    return [
      password,
      password.replace(/'/g, "''").replace(/\\/g, "\\\\"),
      inPassfile,
      encodeURIComponent(password),
      quoted(password),
      quoted(inPassfile),
    ];
  };
  const holding = (values: readonly [string, unknown][], stack: string): string[] =>
    values
      .filter(([, value]) => {
        const texts: string[] = [];
        JSON.stringify(value, (_key, item: unknown) => {
          if (typeof item === "string") {
            texts.push(item);
          }
          return item;
        });
        return allPasswords(stack)
          .flatMap(spellings)
          .some((spelling) => texts.some((text) => text.includes(spelling)));
      })
      .map(([name]) => name);

  test("the passwords are where they are needed (or the next tests would prove nothing)", () => {
    for (const [stack, program] of both()) {
      const inputs = program.resources.map((r): [string, unknown] => [r.name, revealed(r.inputs)]);
      expect(holding(inputs, stack)).toEqual(expect.arrayContaining(["pg1-roles", "pg1-init", "pg2-basebackup", "pg2-config"]));
    }
  });

  test("no password is in any input that the state keeps in plain text", () => {
    for (const [stack, program] of both()) {
      const inputs = program.resources.map((r): [string, unknown] => [r.name, redacted(r.inputs)]);
      expect(holding(inputs, stack)).toEqual([]);
    }
  });

  test("no password is on a command line, secret or not", () => {
    for (const [stack, program] of both()) {
      const lines = program
        .ofType(COMMAND)
        .flatMap((c) => ["create", "update", "delete"].map((key): [string, unknown] => [`${c.name}.${key}`, revealed(c.inputs[key])]));
      expect(holding(lines, stack)).toEqual([]);
    }
  });

  test("a password is on standard input only of the commands that make a volume, and there it is secret", () => {
    for (const [stack, program] of both()) {
      const commands = program.ofType(COMMAND);
      const births = commands.map((c) => c.name).filter((name) => BIRTHS.includes(name));
      expect(births).toHaveLength(stack === "dev" ? 2 : 3);
      expect(
        holding(
          commands.map((c): [string, unknown] => [c.name, revealed(c.inputs["stdin"])]),
          stack,
        ).sort(),
      ).toEqual([...births].sort());
      expect(births.map((name) => redacted(program.get(name).inputs["stdin"]))).toEqual(births.map(() => "[secret]"));
    }
  });

  test("no password is in the environment of a `docker run`, which becomes the container's, for everybody to inspect", () => {
    for (const [stack, program] of both()) {
      const runs = program.ofType(COMMAND).filter((c) => String(revealed(c.inputs["create"])).includes("docker run"));
      expect(runs.map((c) => c.name).sort()).toEqual((stack === "dev" ? ["pg1-init", "pg2-basebackup"] : [...BIRTHS]).sort());
      expect(
        holding(
          runs.map((c): [string, unknown] => [c.name, revealed(c.inputs["environment"])]),
          stack,
        ),
      ).toEqual([]);
      for (const { name, inputs } of runs) {
        expect([name, revealed(inputs["environment"])]).toEqual([
          name,
          expect.not.objectContaining({ PGNODE_PASSFILE: expect.anything() as unknown }),
        ]);
        expect([name, revealed(inputs["create"])]).toEqual([name, expect.not.stringContaining("PGNODE_PASSFILE")]);
      }
    }
  });

  test("the roles' SQL and the password files are secret in the state", () => {
    expect(prod.variable("pg1-roles", "PGNODE_SQL").secret).toBe(true);
    for (const name of ["pg1-config", "pg2-config", "db-c-config"]) {
      expect([name, prod.variable(name, "PGNODE_PASSFILE").secret]).toEqual([name, true]);
    }
    for (const name of BIRTHS) {
      expect([name, redacted(prod.get(name).inputs["stdin"])]).toEqual([name, "[secret]"]);
    }
  });

  test("the password file lets only the replication role in, with its password", () => {
    for (const name of BIRTHS) {
      const text = passfileFromStdin(prod, name);
      expect(parsePassfileLine(text.trimEnd())).toEqual(["*", "*", "*", "replica_user", PASSWORDS.replicationPassword]);
    }
    const madeUpOne = passfileFromStdin(dev, "pg2-basebackup");
    expect(parsePassfileLine(madeUpOne.trimEnd())).toEqual(["*", "*", "*", "replica_user", madeUp("replicationPassword")]);
  });

  test("a password that was made up stays, whatever later versions would make it with", () => {
    for (const key of Object.keys(PASSWORDS)) {
      expect([key, dev.get(key).ignoreChanges.sort()]).toEqual([key, ["create", "environment"]]);
    }
  });

  test("each role gets its own password", () => {
    const { text } = prod.variable("pg1-roles", "PGNODE_SQL");
    const passwordOf = (role: string): string => {
      const line = text.split("\n").find((l) => l.startsWith(`ALTER ROLE ${role} `)) ?? "";
      return readSqlLiteral(line.slice(line.indexOf(" PASSWORD ") + " PASSWORD".length)).value;
    };
    expect(passwordOf("postgres")).toBe(PASSWORDS.superuserPassword);
    expect(passwordOf('"replica_user"')).toBe(PASSWORDS.replicationPassword);
    expect(passwordOf('"app"')).toBe(PASSWORDS.appPassword);
  });

  test("what commands print is secret, and none shows more than a base backup's progress", () => {
    for (const command of dev.ofType(COMMAND)) {
      expect([command.name, command.secretOutputs.sort()]).toEqual([command.name, ["stderr", "stdout"]]);
      expect([command.name, dev.input(command.name, "logging")]).toEqual([
        command.name,
        command.name === "pg2-basebackup" ? "stderr" : "none",
      ]);
      expect(dev.input(command.name, "addPreviousOutputInEnv")).toBe(false);
    }
  });

  test("the URLs are secret outputs", async () => {
    const { writerUrl, readerUrl, primaryUrl, secondaryUrls } = prod.outputs;
    const urls = { writerUrl, readerUrl, primaryUrl, ...secondaryUrls };
    const secrecy = await Promise.all(Object.entries(urls).map(async ([name, url]) => [name, await pulumi.isSecret(url)]));
    expect(Object.fromEntries(secrecy)).toEqual({ writerUrl: true, readerUrl: true, primaryUrl: true, pg2: true, "db-c": true });
  });
});

describe("a node's container", () => {
  test("starts again after a crash and a reboot, but not by Pulumi when it was fenced", () => {
    for (const container of prod.ofType(CONTAINER)) {
      expect(container.inputs).toMatchObject({ restart: "unless-stopped", mustRun: false });
    }
  });

  test("is stopped with a fast shutdown that may take its time", () => {
    expect(prod.get("pg1-container").inputs).toMatchObject({ stopSignal: "SIGINT", stopTimeout: 60, destroyGraceSeconds: 60 });
  });

  test("carries the labels by which the commands find it, and so do its volume and the network", () => {
    const labels = (name: string): unknown => prod.input(name, "labels");
    const stackLabels = [
      { label: "postgres-replica.project", value: "postgres-replica" },
      { label: "postgres-replica.stack", value: "prod" },
    ];
    expect(labels("network")).toEqual(stackLabels);
    for (const node of ["pg1", "pg2", "db-c"]) {
      const expected = [...stackLabels, { label: "postgres-replica.node", value: node }];
      expect(labels(`${node}-container`)).toEqual(expected);
      expect(labels(`${node}-data`)).toEqual(expected);
    }
  });

  test("is published on its own port, on this machine alone unless the config says otherwise", () => {
    expect(prod.input("pg1-container", "ports")).toEqual([{ internal: 5432, external: 5432, ip: "127.0.0.1" }]);
    expect(prod.input("pg2-container", "ports")).toEqual([{ internal: 5432, external: 5433, ip: "127.0.0.1" }]);
    expect(prod.input("db-c-container", "ports")).toEqual([{ internal: 5432, external: 6001, ip: "127.0.0.2" }]);
  });

  test("is reached by the node's name in the stack's network", () => {
    for (const node of ["pg1", "pg2", "db-c"]) {
      expect(prod.get(`${node}-container`).inputs).toMatchObject({
        name: `postgres-replica-prod-${node}`,
        hostname: node,
        networksAdvanced: [{ name: "postgres-replica-prod", aliases: [node] }],
      });
    }
  });

  test("has its data in its own volume", () => {
    const mounts = ["pg1", "pg2"].map((node) => dev.input(`${node}-container`, "mounts"));
    expect(mounts).toEqual([
      [{ type: "volume", source: "postgres-replica-dev-pg1-data", target: "/var/lib/pgnode" }],
      [{ type: "volume", source: "postgres-replica-dev-pg2-data", target: "/var/lib/pgnode" }],
    ]);
    expect(dev.input("pg1-data", "name")).toBe("postgres-replica-dev-pg1-data");
  });

  test("is watched by Docker with pgnode's own health check", () => {
    expect(dev.input("pg2-container", "healthcheck")).toEqual({
      tests: ["CMD", "/usr/local/bin/pgnode", "healthy"],
      interval: "5s",
      timeout: "5s",
      startPeriod: "30s",
      retries: 3,
    });
  });

  test("knows no role: a primary's differs from a secondary's in nothing but name, port and volume", () => {
    const neutral = (node: string): unknown =>
      JSON.parse(
        JSON.stringify(revealed(dev.get(`${node}-container`).inputs))
          .replaceAll(node, "NODE")
          .replace(/"external":\d+/, '"external":0'),
      );
    expect(neutral("pg2")).toEqual(neutral("pg1"));
  });

  test("makes room for its successor, which has the same name and port", () => {
    expect(prod.ofType(CONTAINER).map((c) => c.deleteBeforeReplace)).toEqual([true, true, true]);
  });
});

describe("data", () => {
  test("goes with the stack, unless protectData keeps the volumes", () => {
    expect(dev.ofType(VOLUME).map((v) => v.retainOnDelete)).toEqual([false, false]);
    expect(prod.ofType(VOLUME).map((v) => v.retainOnDelete)).toEqual([true, true, true]);
  });

  test("is not replaced, and so deleted, because its volume was made with options or labels of its own", () => {
    for (const volume of [...dev.ofType(VOLUME), ...prod.ofType(VOLUME)]) {
      expect(volume.ignoreChanges.sort()).toEqual(["driver", "driverOpts", "labels"]);
    }
  });

  test("a node is born once: no later change of an input makes its cluster anew", () => {
    for (const name of ["pg1-init", "pg2-basebackup", "db-c-basebackup"]) {
      expect([name, prod.get(name).ignoreChanges]).toEqual([name, expect.arrayContaining(["create", "stdin", "environment"])]);
    }
  });

  test("the old slot goes before the new one comes, for they have one name", () => {
    for (const node of ["pg2", "db-c"]) {
      expect(prod.get(`${node}-slot-create`).deleteBeforeReplace).toBe(true);
      expect(prod.input(`${node}-slot-create`, "delete")).toContain("$PGNODE_DELETE_SQL");
    }
  });

  test("roles and sample data stay when the stack goes: the volumes hold them", () => {
    expect(["pg1-roles", "pg1-sample"].map((name) => dev.get(name).inputs["delete"])).toEqual([undefined, undefined]);
  });
});

describe("how nodes find each other", () => {
  test("a base backup comes from whoever is primary, through the node's own slot", () => {
    expect(parseConninfo(prod.variable("db-c-basebackup", "PGNODE_SOURCE").text)).toEqual({
      host: "pg1,pg2,db-c",
      port: "5432,5432,5432",
      user: "replica_user",
      // A primary that vanishes under the backup is noticed.
      keepalives_idle: "10",
      keepalives_interval: "5",
      keepalives_count: "3",
      tcp_user_timeout: "30000",
      passfile: "/var/lib/pgnode/passfile",
      target_session_attrs: "read-write",
      connect_timeout: "5",
    });
    expect(prod.variable("db-c-basebackup", "PGNODE_SLOT").text).toBe("db_c");
    expect(prod.variable("db-c-streaming", "PGNODE_SLOT").text).toBe("db_c");
    expect(prod.variable("db-c-slot-create", "PGNODE_SQL").text).toContain("'db_c'");
  });

  test("every node is configured from its birth as later on", () => {
    for (const [birth, config] of [
      ["pg1-init", "pg1-config"],
      ["pg2-basebackup", "pg2-config"],
      ["db-c-basebackup", "db-c-config"],
    ] as const) {
      for (const variable of ["PGNODE_CONF", "PGNODE_HBA"]) {
        expect(prod.variable(birth, variable).text).not.toBe("");
        expect(prod.variable(birth, variable).text).toBe(prod.variable(config, variable).text);
      }
      expect(passfileFromStdin(prod, birth)).toBe(prod.variable(config, "PGNODE_PASSFILE").text);
    }
  });

  test("the config's settings reach every node", () => {
    for (const node of ["pg1", "pg2", "db-c"]) {
      expect(parseConf(prod.variable(`${node}-config`, "PGNODE_CONF").text)).toMatchObject({
        work_mem: "8MB",
        synchronous_standby_names: 'ANY 1 ("pg1", "pg2", "db-c")',
        max_slot_wal_keep_size: "1GB",
        "pgnode.rejoin": "off",
      });
      const addresses = parseHba(prod.variable(`${node}-config`, "PGNODE_HBA").text).map((rule) => rule.address);
      expect(new Set(addresses)).toEqual(new Set(["", "127.0.0.1/32", "::1/128", "10.1.0.0/16"]));
    }
  });
});

describe("the outputs", () => {
  test("say where each node is", () => {
    expect(prod.outputs.nodes).toEqual({
      pg1: { host: "127.0.0.1", port: 5432, container: "postgres-replica-prod-pg1" },
      pg2: { host: "127.0.0.1", port: 5433, container: "postgres-replica-prod-pg2" },
      "db-c": { host: "127.0.0.2", port: 6001, container: "postgres-replica-prod-db-c" },
    });
  });

  test("have URLs of all nodes for writes and for reads, which a failover does not change", async () => {
    const hosts = "127.0.0.1:5432,127.0.0.1:5433,127.0.0.2:6001";
    const credentials = `app:${encodeURIComponent(PASSWORDS.appPassword)}`;
    expect(await valueOf(prod.outputs.writerUrl)).toBe(`postgresql://${credentials}@${hosts}/app?target_session_attrs=read-write`);
    expect(await valueOf(prod.outputs.readerUrl)).toBe(`postgresql://${credentials}@${hosts}/app?target_session_attrs=prefer-standby`);
  });

  test("have a URL of each single node, with the sample database where it is loaded", async () => {
    const credentials = `app:${encodeURIComponent(madeUp("appPassword")).replace(/'/g, "%27")}`;
    expect(await valueOf(dev.outputs.primaryUrl)).toBe(`postgresql://${credentials}@127.0.0.1:5432/ecommerce`);
    expect(await valueOf(pulumi.output(dev.outputs.secondaryUrls))).toEqual({
      pg2: `postgresql://${credentials}@127.0.0.1:5433/ecommerce`,
    });
  });

  test("name each secondary's slot", () => {
    expect(prod.outputs.replicationSlots).toEqual({ pg2: "pg2", "db-c": "db_c" });
  });

  test("name the network", async () => {
    expect(await valueOf(prod.outputs.network)).toBe("postgres-replica-prod");
  });

  test("have a lag check of each secondary that asks whichever node is primary", () => {
    expect(Object.keys(prod.outputs.lagChecks)).toEqual(["pg2", "db-c"]);
    const check = prod.outputs.lagChecks["db-c"];
    expect(check?.thresholdBytes).toBe(16 * 1024 * 1024);
    expect(check?.sql).toContain("application_name = 'db-c'");
    expect(check?.command).toMatch(/^for c in postgres-replica-prod-pg1 postgres-replica-prod-pg2 postgres-replica-prod-db-c; do /);
  });
});

test("every script of every command is sound shell", () => {
  const scripts = [dev, prod].flatMap((program) =>
    program
      .ofType(COMMAND)
      .flatMap((c) =>
        ["create", "update", "delete", "stdin"].map((key): [string, unknown] => [`${c.name}.${key}`, revealed(c.inputs[key])]),
      ),
  );
  const given = scripts.filter((entry): entry is [string, string] => typeof entry[1] === "string");
  expect(given.length).toBeGreaterThan(20);
  // In functions that are never called, so that nothing runs and one shell is enough.
  const all = given.map(([, script], i) => `f${i}() {\n${script}\n}`).join("\n");
  const checked = spawnSync("/bin/sh", ["-n"], { input: all, encoding: "utf8" });
  expect(checked.stderr).toBe("");
  expect(checked.status).toBe(0);
});
