import * as pulumi from "@pulumi/pulumi";
import { spawnSync } from "child_process";
import { join } from "path";
import { passfile } from "../../core/grammar/conninfo";
import { type DriftFacts, fileDigest } from "../../core/judgement/drift";
import { PGNODE_SCRIPT } from "../../core/model/pgnode";
import type { Observation } from "../../core/judgement/observation";
import type { Look } from "../../operations/guard/look";
import { parseConf, parseConninfo, parseHba, parsePassfileLine, readSqlLiteral } from "./grammars";
import { primary, silent, standby } from "./observations";
import {
  fakeHandOver,
  declare,
  type Declared,
  DOCKER_HOST,
  ENGINE,
  IDENTITY,
  madeUp,
  type Program,
  redacted,
  revealed,
  type Scenario,
  valueOf,
} from "./program";

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

/** Everything about every resource, in an order of its own. */
const essence = (program: Program): Declared[] =>
  program.resources
    .map((r) => ({
      ...r,
      dependencies: [...r.dependencies].sort(),
      ignoreChanges: [...r.ignoreChanges].sort(),
      secretOutputs: [...r.secretOutputs].sort(),
      aliases: [...r.aliases].sort(),
    }))
    .sort((a, b) => (a.urn < b.urn ? -1 : 1));

const nodeNames = (node: string): string[] => [
  `postgres-replica:index:Node ${node}`,
  `${VOLUME} ${node}-data`,
  `${CONTAINER} ${node}-container`,
  `${COMMAND} ${node}-config`,
  `${COMMAND} ${node}-ready`,
  `postgres-replica:index:ReplicationSlot ${node}-slot`,
  `${COMMAND} ${node}-slot-create`,
];
const primaryNames = (node: string): string[] => [`postgres-replica:index:Primary ${node}`, `${COMMAND} ${node}-init`, ...nodeNames(node)];
const secondaryNames = (node: string): string[] => [
  `postgres-replica:index:StreamingSecondary ${node}`,
  `${COMMAND} ${node}-basebackup`,
  ...nodeNames(node),
];
const SHARED = [
  "pulumi:providers:docker docker",
  "docker:index/network:Network network",
  `${COMMAND} identity`,
  `${COMMAND} image`,
  "postgres-replica:index:Database database",
  `${COMMAND} database-roles`,
  `${COMMAND} replication-rights`,
];

/** The commands that run before a node's container is there. */
const BIRTHS = ["pg1-init", "pg2-basebackup", "db-c-basebackup"];
/** The commands that make a node's data, or may make it again, with the password file on standard input. */
const FILLERS = [...BIRTHS, "pg1-ready", "pg2-ready", "db-c-ready"];

/** The password file that a birth command hands over, as a shell reads it from what comes before pgnode. */
function passfileFromStdin(program: Program, name: string): string {
  const stdin = program.input(name, "stdin") as string;
  // The others find it in the node's container.
  expect([name, stdin.endsWith(PGNODE_SCRIPT)]).toEqual([name, BIRTHS.includes(name)]);
  const before = stdin.replace(PGNODE_SCRIPT, "");
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
        `${COMMAND} database-sample`,
        ...secondaryNames("pg2"),
      ].sort(),
    );
  });

  test("three nodes and nothing made up for a stack with its own passwords", () => {
    expect(namesOf(prod)).toEqual([...SHARED, ...primaryNames("pg1"), ...secondaryNames("pg2"), ...secondaryNames("db-c")].sort());
  });

  test("the same thing every time it runs", async () => {
    const again = await declare({ config: { sampleDatabase: "true" } });
    expect(essence(again)).toEqual(essence(dev));
  });

  test("every child belongs to its component, and nothing else does", () => {
    for (const [, program] of both()) {
      const components = program.resources.filter((r) => !r.custom);
      for (const resource of program.resources.filter((r) => r.custom)) {
        // The longest component name that the child's name begins with: pg2-slot-create belongs to pg2-slot. How a node's
        // data began belongs to the component that says so, all else of it to the node.
        const begins = /-(init|basebackup)$/.test(resource.name);
        const owner = components
          .filter((c) => resource.name.startsWith(`${c.name}-`))
          .filter((c) => begins === /:(Primary|StreamingSecondary)$/.test(c.type))
          .sort((a, b) => b.name.length - a.name.length)
          .at(0);
        expect([resource.name, resource.parent]).toEqual([resource.name, owner?.urn ?? ""]);
      }
      expect(components.map((c) => c.parent)).toEqual(components.map(() => ""));
    }
  });

  test("components keep no inputs in the state", () => {
    const components = prod.resources.filter((r) => !r.custom);
    expect(components.map((c) => c.name).sort()).toEqual(
      [...THREE_NODES.flatMap(({ name }) => [name, name, `${name}-slot`]), "database"].sort(),
    );
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
    expect(remote.variable("database-roles", "DOCKER_HOST").text).toBe(dockerHost);
    expect(remote.ofType(COMMAND).filter((c) => remote.variable(c.name, "DOCKER_HOST").text !== dockerHost)).toEqual([]);
  });
});

describe("the order", () => {
  const chain = (node: string): string[] => [
    "image",
    "pg1-data",
    "pg1-init",
    "pg1-container",
    "database-roles",
    `${node}-slot-create`,
    `${node}-basebackup`,
    `${node}-container`,
    `${node}-ready`,
  ];

  test.each(["pg2", "db-c"])("%s is built step by step: image, the first node, roles, slot, base backup, container, streaming", (node) => {
    const steps = chain(node);
    for (const [i, step] of steps.slice(1).entries()) {
      const before = steps[i] ?? "";
      expect([step, before, prod.waitsFor(step, before)]).toEqual([step, before, true]);
    }
  });

  test("the network and the volumes come before what uses them", () => {
    for (const node of THREE_NODES.map((n) => n.name)) {
      expect(prod.waitsFor(`${node}-container`, "network")).toBe(true);
      expect(prod.waitsFor(`${node}-container`, `${node}-data`)).toBe(true);
    }
    expect(prod.waitsFor("pg1-init", "pg1-data")).toBe(true);
    expect(prod.waitsFor("pg1-container", "pg1-init")).toBe(true);
    expect(prod.waitsFor("pg2-basebackup", "network")).toBe(true);
    expect(prod.waitsFor("pg2-basebackup", "pg2-data")).toBe(true);
    expect(prod.waitsFor("pg1-ready", "pg1-container")).toBe(true);
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

  test("nothing of Docker is made before the state's identity is recorded", () => {
    const made = prod.resources.filter((r) => r.type.startsWith("docker:"));
    expect(made).toHaveLength(7);
    expect(made.filter((r) => !prod.waitsFor(r.name, "identity")).map((r) => r.name)).toEqual([]);
  });

  test("a new stack's roles wait by themselves until the first node answers, and not for another step that does so", () => {
    expect(prod.waitsFor("database-roles", "pg1-ready")).toBe(false);
  });

  test("a secondary's volume is made while the primary starts", () => {
    expect(prod.waitsFor("pg2-data", "pg1-container")).toBe(false);
    expect(prod.waitsFor("pg1-init", "network")).toBe(false);
  });

  test("the sample data comes after the roles that own it", () => {
    expect(dev.waitsFor("database-sample", "database-roles")).toBe(true);
    expect(dev.input("database-sample", "environment")).toMatchObject({
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
      expect(holding(inputs, stack)).toEqual(expect.arrayContaining(["database-roles", "pg1-init", "pg2-basebackup", "pg2-config"]));
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

  test("a password is on standard input only of the commands that fill a volume, and there it is secret", () => {
    for (const [stack, program] of both()) {
      const commands = program.ofType(COMMAND);
      const births = commands.map((c) => c.name).filter((name) => FILLERS.includes(name));
      expect(births).toHaveLength(stack === "dev" ? 4 : 6);
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
      const all = program.ofType(COMMAND).filter((c) => JSON.stringify(revealed(c.inputs["environment"])).includes("docker run"));
      // The configuration of a running node comes by `docker exec`, password and all; what its helper gets is listed in the step.
      const [configs, runs] = [true, false].map((config) => all.filter(({ name }) => name.endsWith("-config") === config)) as [
        typeof all,
        typeof all,
      ];
      for (const { name, inputs } of configs) {
        const { PGNODE_STEP: step = "" } = revealed(inputs["environment"]) as Record<string, string>;
        const [run = ""] = /docker run[^|]*/.exec(step) ?? [];
        expect([name, run.match(/-e \S+|--env\S*|\$\(by_name[^)]*\)/g)]).toEqual([
          name,
          ["-e PGNODE_NAME", "-e PGNODE_ALTERNATIVE_NAMES", '$(by_name "$NODE_FILES")'],
        ]);
        const { NODE_FILES: files = "", ...environment } = redacted(inputs["environment"]) as Record<string, string>;
        expect([name, files.split(" ").filter((variable) => environment[variable] === "[secret]")]).toEqual([name, []]);
      }
      expect(runs.map((c) => c.name).sort()).toEqual(
        (stack === "dev" ? ["pg1-init", "pg2-basebackup", "pg1-ready", "pg2-ready"] : [...FILLERS]).sort(),
      );
      expect(
        holding(
          runs.map((c): [string, unknown] => [c.name, revealed(c.inputs["environment"])]),
          stack,
        ),
      ).toEqual([]);
      for (const { name, inputs } of runs) {
        const environment = revealed(inputs["environment"]) as Record<string, string>;
        expect([name, environment]).toEqual([name, expect.not.objectContaining({ PGNODE_PASSFILE: expect.anything() as unknown })]);
        expect([name, environment["NODE_PASS"]]).toEqual([name, expect.not.stringContaining("PGNODE_PASSFILE")]);
      }
    }
  });

  test("the roles' SQL and the password files are secret in the state", () => {
    expect(prod.variable("database-roles", "PGNODE_SQL").secret).toBe(true);
    for (const name of ["pg1-config", "pg2-config", "db-c-config"]) {
      expect([name, prod.variable(name, "PGNODE_PASSFILE").secret]).toEqual([name, true]);
    }
    for (const name of FILLERS) {
      expect([name, redacted(prod.get(name).inputs["stdin"])]).toEqual([name, "[secret]"]);
    }
  });

  test("the password file lets the replication role and the rewind role in, and nobody else", () => {
    const both = (password: string): string[][] => ["replica_user", "rewind_user"].map((role) => ["*", "*", "*", role, password]);
    const linesOf = (program: Program, name: string): string[][] =>
      passfileFromStdin(program, name).trimEnd().split("\n").map(parsePassfileLine);
    for (const name of FILLERS) {
      expect(linesOf(prod, name)).toEqual(both(PASSWORDS.replicationPassword));
    }
    expect(linesOf(dev, "pg2-basebackup")).toEqual(both(madeUp("replicationPassword")));
  });

  test("a password that was made up stays, whatever later versions would make it with", () => {
    for (const key of Object.keys(PASSWORDS)) {
      expect([key, dev.get(key).ignoreChanges.sort()]).toEqual([key, ["create", "environment", "environment.PGNODE_DRIFT"]]);
    }
  });

  test("each role gets its own password", () => {
    const { text } = prod.variable("database-roles", "PGNODE_SQL");
    const passwordOf = (role: string): string => {
      const line = text.split("\n").find((l) => l.startsWith(`ALTER ROLE ${role} `)) ?? "";
      return readSqlLiteral(line.slice(line.indexOf(" PASSWORD ") + " PASSWORD".length)).value;
    };
    expect(passwordOf("postgres")).toBe(PASSWORDS.superuserPassword);
    expect(passwordOf('"replica_user"')).toBe(PASSWORDS.replicationPassword);
    expect(passwordOf('"app"')).toBe(PASSWORDS.appPassword);
  });

  test("what commands print is secret, and only long steps, and what waits for standbys, show theirs", () => {
    const long = ["image", "database-roles", "replication-rights", "pg2-basebackup", "pg1-config", "pg2-config", "pg1-ready", "pg2-ready"];
    for (const command of dev.ofType(COMMAND)) {
      expect([command.name, command.secretOutputs.sort()]).toEqual([command.name, ["stderr", "stdout"]]);
      expect([command.name, dev.input(command.name, "logging")]).toEqual([command.name, long.includes(command.name) ? "stderr" : "none"]);
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

  test("carries the labels by which the commands find it and its state knows it; so do its volume, the helper at its birth and the network", () => {
    const labels = (name: string): unknown => prod.input(name, "labels");
    const stackLabels = [
      { label: "postgres-replica.project", value: "postgres-replica" },
      { label: "postgres-replica.stack", value: "prod" },
    ];
    const state = [
      { label: "postgres-replica.identity", value: IDENTITY.id },
      { label: "postgres-replica.made-by", value: IDENTITY.madeBy },
    ];
    expect(labels("network")).toEqual([...stackLabels, ...state]);
    for (const node of ["pg1", "pg2", "db-c"]) {
      const expected = [...stackLabels, { label: "postgres-replica.node", value: node }, ...state];
      expect(labels(`${node}-container`)).toEqual([
        ...expected,
        { label: "postgres-replica.definition", value: expect.stringMatching(/^[0-9a-f]{12}$/) as string },
      ]);
      expect(labels(`${node}-data`)).toEqual(expected);
      const birth = prod.variable(node === "pg1" ? "pg1-init" : `${node}-basebackup`, "NODE_LABELS").text;
      expect(birth.split(" ")).toEqual(expected.map(({ label, value }) => `${label}=${value}`));
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
          .replace(/"external":\d+/, '"external":0')
          // A digest of the rest.
          .replace(/("postgres-replica.definition","value":)"\w+"/, '$1""'),
      );
    expect(neutral("pg2")).toEqual(neutral("pg1"));
  });

  test("makes room for its successor, which has the same name and port", () => {
    expect(prod.ofType(CONTAINER).map((c) => c.deleteBeforeReplace)).toEqual([true, true, true]);
  });
});

describe("data", () => {
  test("goes with the stack, unless protectData keeps the volumes", () => {
    expect(dev.ofType(VOLUME).map((v) => [v.protect, v.retainOnDelete])).toEqual(Array(2).fill([false, false]));
    expect(prod.ofType(VOLUME).map((v) => [v.protect, v.retainOnDelete])).toEqual(Array(3).fill([true, true]));
    expect(prod.resources.filter((r) => r.retainOnDelete).map((r) => r.type)).toEqual(Array(3).fill(VOLUME));
  });

  test("that is protected stops a destroy before anything is stopped: whatever is not protected has something protected that needs it", () => {
    expect(dev.resources.filter((r) => r.protect)).toEqual([]);
    const containers = prod.ofType(CONTAINER);
    expect(containers.map((c) => [c.name, c.protect])).toEqual(containers.map((c) => [c.name, false]));
    const shielding = prod.resources.filter((r) => r.protect).map((r) => r.name);
    expect(containers.filter((c) => !shielding.some((name) => prod.waitsFor(name, c.name)))).toEqual([]);
    // Whose end does nothing, and which a version before has not.
    expect(
      prod
        .ofType(COMMAND)
        .filter((c) => !c.protect)
        .map((c) => c.name),
    ).toEqual(["replication-rights"]);
    expect(prod.get("network").protect).toBe(true);
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
      expect(prod.variable(`${node}-slot-create`, "PGNODE_DELETE_STEP").text).toContain("$PGNODE_DELETE_SQL");
    }
  });

  test("a slot is dropped when its node goes, and not when the whole stack does: its servers may not answer any more", () => {
    const slots = prod.resources.filter((r) => r.custom && r.name.endsWith("-slot-create"));
    expect(slots.map(({ deletedWith }) => deletedWith)).toEqual(slots.map(() => prod.get("identity").urn));
    expect(prod.resources.filter((r) => r.custom && r.deletedWith !== "")).toEqual(slots);
  });

  test("roles and sample data stay when the stack goes: the volumes hold them", () => {
    expect(["database-roles", "database-sample"].map((name) => dev.get(name).inputs["delete"])).toEqual([undefined, undefined]);
  });
});

describe("how nodes find each other", () => {
  test("a base backup comes from whoever is primary, through the node's own slot", () => {
    expect(parseConninfo(prod.variable("db-c-basebackup", "PGNODE_SOURCE").text)).toEqual({
      host: "db-c,pg1,pg2",
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
    expect(prod.variable("db-c-ready", "PGNODE_SLOT").text).toBe("db_c");
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
        synchronous_standby_names: 'ANY 1 ("db-c", "pg1", "pg2")',
        max_slot_wal_keep_size: "1GB",
        "pgnode.rejoin": "off",
      });
      const rules = parseHba(prod.variable(`${node}-config`, "PGNODE_HBA").text);
      const addresses = rules.flatMap((rule) => (rule.method === "reject" ? [] : [rule.address]));
      expect(new Set(addresses)).toEqual(new Set(["", "127.0.0.1/32", "::1/128", "10.1.0.0/16", "samenet"]));
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
    const hosts = "127.0.0.2:6001,127.0.0.1:5432,127.0.0.1:5433";
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

  test("have a lag check of each node that asks whichever one is primary", () => {
    // Of every node: after a failover the first one is a standby.
    expect(Object.keys(prod.outputs.lagChecks).sort()).toEqual(["db-c", "pg1", "pg2"]);
    const check = prod.outputs.lagChecks["db-c"];
    expect(check?.thresholdBytes).toBe(16 * 1024 * 1024);
    expect(check?.sql).toContain("application_name = 'db-c'");
    expect(check?.command).toMatch(/^for c in postgres-replica-prod-db-c postgres-replica-prod-pg1 postgres-replica-prod-pg2; do /);
  });
});

describe("a command", () => {
  const shown = ["create", "update", "delete"] as const;

  test("is one short line in an error and in a preview: the step itself is in its environment", () => {
    for (const [, program] of both()) {
      for (const { name, inputs } of program.ofType(COMMAND)) {
        const lines = shown.flatMap((key) => (inputs[key] === undefined ? [] : [inputs[key] as string]));
        expect([name, lines.filter((line) => line.length > 50 || line.includes("\n"))]).toEqual([name, []]);
        expect([name, lines.length]).not.toEqual([name, 0]);
      }
    }
  });

  test("shows none of the scripts that it brings as a difference", () => {
    const long = (value: unknown): boolean => typeof value === "string" && value.split("\n").length > 5;
    for (const command of prod.ofType(COMMAND)) {
      const environment = (redacted(command.inputs["environment"]) ?? {}) as Record<string, unknown>;
      const scripts = Object.keys(environment).filter((key) => long(environment[key]) && !["PGNODE_CONF", "PGNODE_HBA"].includes(key));
      expect([command.name, command.hideDiffs]).toEqual([
        command.name,
        expect.arrayContaining(
          scripts.filter((key) => key !== "PGNODE_SQL" && key !== "PGNODE_DELETE_SQL").map((key) => `environment.${key}`),
        ),
      ]);
      expect(command.hideDiffs).toContain("stdin");
    }
    expect(prod.get("pg1-container").hideDiffs).toEqual(["uploads"]);
  });

  test("never runs initdb where a cluster is known, and does nothing when a node's configuration is new", () => {
    expect(prod.variable("pg1-init", "PGNODE_EXISTS").text).toBe("");
    expect(prod.input("pg1-config", "create")).toBe(":");
    expect(prod.variable("pg1-config", "PGNODE_STEP").text).toContain('in_node "$NODE_CONTAINER" configure');
    expect(prod.input("pg1-config", "update")).not.toBe(":");
  });

  test("brings sound shell", () => {
    const scripts = [dev, prod].flatMap((program) =>
      program.ofType(COMMAND).flatMap((c) => {
        const environment = revealed(c.inputs["environment"]) as Record<string, unknown>;
        return [
          ...[...shown, "stdin"].map((key) => revealed(c.inputs[key])),
          ...["PGNODE_STEP", "PGNODE_DELETE_STEP", "NODE_CLONE"].map((key) => environment[key]),
        ];
      }),
    );
    const given = [...new Set(scripts.filter((script): script is string => typeof script === "string" && script !== ""))];
    expect(given.length).toBeGreaterThan(10);
    // In functions that are never called, so that nothing runs and one shell is enough.
    const all = given.map((script, i) => `f${i}() {\n${script}\n}`).join("\n");
    const checked = spawnSync("/bin/sh", ["-n"], { input: all, encoding: "utf8" });
    expect([checked.stderr, checked.status]).toEqual(["", 0]);
  });
});

test("no path of this checkout is in any input", () => {
  for (const [, program] of both()) {
    expect(JSON.stringify(program.resources.map((r) => revealed(r.inputs)))).not.toContain(join(__dirname, "..", ".."));
  }
});

describe("a stack that stands", () => {
  const config = { sampleDatabase: "true" };
  const nodes = (...names: string[]): object[] => names.map((name) => THREE_NODES.find((node) => node.name === name) ?? {});
  /** Where pg1 is primary, and after the role has moved to pg2. */
  const before = [primary("pg1", ["pg2"]), standby("pg2")];
  const after = [standby("pg1"), primary("pg2", ["pg1"])];
  const withoutOrder = (program: Program): object[] => essence(program).map((r) => ({ ...r, dependencies: [] }));
  const again = (scenario: Scenario = {}): Promise<Program> => declare({ config, state: dev.state(), observed: before, ...scenario });
  /** All of one node, without its slot. */
  const partsOf = (program: Program, node: string): string[] =>
    program.resources.filter((r) => r.custom && r.name.startsWith(`${node}-`) && !r.name.includes("-slot-")).map((r) => r.name);

  let now: Program;
  let moved: Program;
  beforeAll(async () => {
    now = await again();
    moved = await again({ observed: after });
  });

  test("declares what it did when it was new, but for the order and the words to birth commands that are never run again", () => {
    const known = (program: Program): object[] =>
      essence(program).map((r) => ({ ...r, dependencies: [], inputs: r.name === "pg1-init" ? {} : r.inputs }));
    expect(known(now)).toEqual(known(dev));
    expect(dev.variable("pg1-init", "PGNODE_EXISTS").text).toBe("");
    expect(now.variable("pg1-init", "PGNODE_EXISTS").text).toBe("yes");
  });

  test("declares exactly the same when its nodes are listed in another order, also after a failover", async () => {
    const reversed = { ...config, nodes: nodes("pg2", "pg1") };
    expect(essence(await again({ config: reversed }))).toEqual(essence(now));
    const reversedLater = await again({ config: reversed, observed: after });
    expect(essence(reversedLater)).toEqual(essence(moved));
    for (const program of [now, moved, reversedLater]) {
      expect(await valueOf(program.outputs.primaryUrl)).toBe(await valueOf(dev.outputs.primaryUrl));
      expect(Object.keys(program.outputs.secondaryUrls)).toEqual(["pg2"]);
    }
  });

  test("declares the same after a failover: nothing but the order of replacement differs", () => {
    expect(essence(moved)).not.toEqual(essence(now));
    expect(withoutOrder(moved)).toEqual(withoutOrder(now));
  });

  test.each([
    ["pg1", "pg2", () => now],
    ["pg2", "pg1", () => moved],
  ])("while %s is primary, its container waits until the other node is well, never the other way", (writer, other, of) => {
    const program = of();
    for (const step of [`${other}-ready`, `${other}-config`, `${other}-container`]) {
      expect([step, program.waitsFor(`${writer}-container`, step)]).toEqual([step, true]);
      expect([step, program.waitsFor(`${writer}-config`, step)]).toEqual([step, true]);
    }
    const crossed = partsOf(program, other).filter((part) => partsOf(program, writer).some((of) => program.waitsFor(part, of)));
    expect(crossed).toEqual([]);
    // A standby that is replaced has to log in with this run's password; what needs a primary waits until that is back.
    expect(program.waitsFor(`${other}-container`, "database-roles")).toBe(true);
    // It asks every node whether it is the primary: one that is being replaced cannot tell.
    expect(program.waitsFor(`${other}-container`, "database-sample")).toBe(true);
    expect(program.waitsFor(`${other}-slot-create`, `${writer}-ready`)).toBe(true);
  });

  test("takes the right to read files from the replication role after every node was brought this version, whoever is primary", () => {
    const steps = ["pg1-config", "pg1-ready", "pg2-config", "pg2-ready", "database-roles"];
    for (const program of [now, moved]) {
      expect(steps.filter((step) => !program.waitsFor("replication-rights", step))).toEqual([]);
    }
  });

  describe("hands the role over before the primary is replaced or restarted", () => {
    const pair = (changes: object = {}): object => ({
      sampleDatabase: "true",
      nodes: nodes("pg1", "pg2").map((n) => ({ ...n, ...changes })),
    });
    beforeEach(() => void jest.spyOn(pulumi.log, "info").mockResolvedValue());
    const facts: DriftFacts = {
      ...{ salt: "0", files: {}, altered: [], restarts: ["max_connections", "shared_buffers"], unapplied: false, systemIdentifier: "7" },
      ...{ roles: ["app", "postgres", "replica_user", "rewind_user"], database: true, sampleTables: true },
    };
    const seen = [{ ...primary("pg1", ["pg2"]), drift: facts }, standby("pg2")];
    const handed = async (scenario: Scenario, like: object = pair()): Promise<string[]> => {
      const stood = (await declare({ config: like as Record<string, unknown> })).state();
      fakeHandOver.mockClear();
      await declare({ state: stood, observed: seen, ...scenario });
      return fakeHandOver.mock.calls.map(([, from]) => from);
    };
    const changed = (config: object, more: Scenario = {}): Scenario => ({ config: config as Record<string, unknown>, ...more });
    const MORE = { ...pair(), parameters: { max_connections: 200, work_mem: "8MB" } };

    test.each<[string, Scenario, object?]>([
      ["another image", changed({ ...pair(), image: "example/postgres:17" })],
      ["CPUs", changed(pair({ cpus: 1 }))],
      ["a setting that counts after a restart", changed({ ...pair(), parameters: { shared_buffers: "256MB" } })],
    ])("with %s", async (_what, ...of) => {
      expect(await handed(...of)).toEqual(["pg1"]);
    });

    test("to whoever is there, whichever node is primary", async () => {
      const observed = [standby("pg1"), { ...primary("pg2", ["pg1"]), drift: facts }];
      expect(await handed(changed(pair({ cpus: 1 }), { observed }))).toEqual(["pg2"]);
    });

    test.each<[string, Scenario, object?]>([
      ["nothing changes", changed(pair())],
      ["a change is made in place", changed(pair({ memory: "2GB" }))],
      ["a setting is reloaded", changed({ ...pair(), parameters: { work_mem: "16MB" } })],
      [
        "a setting is raised that no standby may have lower than its primary",
        changed({ ...pair(), parameters: { max_connections: 300 } }),
        MORE,
      ],
      [
        "one is lowered that no standby may have lower than its primary",
        changed({ ...pair(), parameters: { max_connections: 150 } }),
        MORE,
      ],
      ["it is left out again", changed(pair()), MORE],
      ["no standby is there to take it", changed(pair({ cpus: 1 }), { observed: [primary("pg1", []), silent("pg2", "exited")] })],
      ["nobody is primary", changed(pair({ cpus: 1 }), { observed: [standby("pg1"), standby("pg2")] })],
      ["it is a preview", changed(pair({ cpus: 1 }), { preview: true })],
      ["the engine does not answer", changed(pair({ cpus: 1 }), { look: { survey: undefined } })],
    ])("and not when %s", async (_when, ...of) => {
      expect(await handed(...of)).toEqual([]);
    });
  });

  test("data that is there waits for no other node: a lost volume does not stop the one beside it", () => {
    const births = ["pg1-data", "pg1-init", "pg2-data", "pg2-basebackup"];
    const waits = births.flatMap((birth) =>
      [now, moved].flatMap((program) =>
        [...partsOf(program, birth.startsWith("pg1") ? "pg2" : "pg1"), "database-roles"].filter((part) => program.waitsFor(birth, part)),
      ),
    );
    expect(waits).toEqual([]);
  });

  test("gives a new node its data from whoever is primary, after the others are well", async () => {
    const grown = await again({ config: { ...config, nodes: nodes("db-c", "pg2", "pg1") } });
    expect(grown.waitsFor("db-c-basebackup", "pg1-ready")).toBe(true);
    expect(grown.waitsFor("db-c-basebackup", "db-c-slot-create")).toBe(true);
    expect(partsOf(grown, "pg1").filter((part) => grown.waitsFor(part, "db-c-data"))).toEqual([]);
    expect(grown.ofType("postgres-replica:index:Primary").map((r) => r.name)).toEqual(["pg1"]);
  });

  test("runs no initdb for its first node whose data was lost: the volume stays empty until it is filled", async () => {
    const state = dev.state().filter(({ urn }) => !/::pg1-(data|container|init|ready|config)$/.test(urn));
    const healed = await again({ state, observed: [silent("pg1", null), primary("pg2", [])] });
    expect(healed.get("pg1", "postgres-replica:index:Primary").name).toBe("pg1");
    expect(healed.variable("pg1-init", "PGNODE_EXISTS").text).toBe("yes");
    expect(healed.variable("pg1-ready", "NODE_CLONE").text).toContain("docker run");
    // It may be the primary that lost nothing but its container, and the others wait for that.
    expect(partsOf(healed, "pg1").filter((part) => healed.waitsFor(part, "pg2-ready"))).toEqual([]);
    expect(withoutOrder(healed)).toEqual(withoutOrder(now));
  });

  test("makes neither data nor roles on an engine that does not answer differ", async () => {
    const blind = await again({ look: { survey: undefined }, preview: true });
    expect(withoutOrder(blind)).toEqual(withoutOrder(now));
  });

  test("begins with a node's kept data, which is primary before anything is made on it", async () => {
    const kept = await declare({ config, look: { kept: "pg2" } });
    expect(kept.ofType("postgres-replica:index:Primary").map((r) => r.name)).toEqual(["pg2"]);
    expect([kept.variable("pg2-init", "PGNODE_KEPT").text, kept.variable("pg2-init", "PGNODE_EXISTS").text]).toEqual(["yes", ""]);
    expect(kept.waitsFor("database-roles", "pg2-ready")).toBe(true);
    expect(kept.waitsFor("pg1-basebackup", "pg2-ready")).toBe(true);
    expect(dev.variable("pg1-init", "PGNODE_KEPT").text).toBe("");
  });

  test("starts stopped standbys only when the config says so", async () => {
    expect(["pg1-ready", "pg2-ready"].map((name) => now.variable(name, "NODE_START").text)).toEqual(["", ""]);
    const start = await again({ config: { ...config, startStopped: "true" } });
    expect(["pg1-ready", "pg2-ready"].map((name) => start.variable(name, "NODE_START").text)).toEqual(["yes", "yes"]);
  });

  test("records once whose it is and on which engine, and never again", async () => {
    expect(dev.input("identity", "environment")).toMatchObject({
      STACK_IDENTITY: IDENTITY.id,
      STACK_MADE_BY: IDENTITY.madeBy,
      STACK_ENGINE: ENGINE,
    });
    expect(dev.get("identity").ignoreChanges).toEqual(expect.arrayContaining(["create", "environment"]));
    const later = await again({ look: { identity: { id: "other", madeBy: "other" } } });
    for (const { name, ignoreChanges } of [...later.ofType(VOLUME), later.get("network")]) {
      expect([name, ignoreChanges.includes("labels")]).toEqual([name, true]);
    }
  });

  describe("of which the first node is taken out after the role has moved", () => {
    let less: Program;
    let later: Program;
    beforeAll(async () => {
      const scenario = {
        stack: "prod",
        config: { ...PASSWORDS, nodes: nodes("pg2", "db-c"), protectData: "true", allowedSubnets: ["10.1.0.0/16"] },
        secretKeys: Object.keys(PASSWORDS),
        observed: [primary("pg2", ["db-c"]), standby("db-c")],
      };
      less = await declare({ ...scenario, state: prod.state() });
      later = await declare({ ...scenario, state: less.state(), config: { ...scenario.config, nodes: nodes("pg1", "pg2", "db-c") } });
    });
    const withoutEnvironment = (program: Program): object[] =>
      essence(program).map((r) => ({ ...r, dependencies: [], inputs: { ...r.inputs, environment: 0 } }));

    test("nothing of the others changes but the environments of commands", () => {
      const kept = withoutEnvironment(prod).filter((r) => !/^pg1(-|$)/.test((r as Declared).name));
      // A role's former URNs name every node that the config has.
      const plain = (list: object[]): object[] => list.map((r) => ({ ...r, aliases: [] }));
      expect(plain(withoutEnvironment(less))).toEqual(plain(kept));
      expect(less.ofType("postgres-replica:index:Primary")).toEqual([]);
    });

    test("it may come back, as a copy of the others", () => {
      expect(
        later
          .ofType("postgres-replica:index:StreamingSecondary")
          .map((r) => r.name)
          .sort(),
      ).toEqual(["db-c", "pg1", "pg2"]);
      expect(later.waitsFor("pg1-basebackup", "pg2-ready")).toBe(true);
    });

    test("the outputs name the first of the others, and every other one besides", async () => {
      expect(await valueOf(less.outputs.primaryUrl)).toContain("@127.0.0.2:6001/");
      expect(Object.keys(less.outputs.secondaryUrls)).toEqual(["pg2"]);
    });
  });

  describe("URNs", () => {
    const urn = (types: string, name: string): string => `urn:pulumi:dev::postgres-replica::${types}::${name}`;
    const begun = (type: string): string => `postgres-replica:index:${type}`;

    test("of a node's volume, container and commands say nothing of how it began", async () => {
      const reversed = await declare({ config: { ...config, nodes: nodes("pg2", "pg1") } });
      const parts = (program: Program): string[] =>
        program.resources
          .filter((r) => /-(data|container|config|ready|slot-create|slot|roles|sample)$/.test(r.name))
          .map((r) => r.urn)
          .sort();
      expect(parts(reversed)).toEqual(parts(dev));
      expect(parts(dev)).toHaveLength(14);
      expect(reversed.get("pg2-data").urn).toBe(urn(`${begun("Node")}$${VOLUME}`, "pg2-data"));
      // A node that begins the cluster depends on who is listed first; a new stack has nobody else to ask.
      expect(reversed.ofType("postgres-replica:index:Primary").map((r) => r.name)).toEqual(["pg2"]);
    });

    test.each([
      ["data", "data", VOLUME],
      ["container", "container", CONTAINER],
      ["config", "config", COMMAND],
      ["ready", "streaming", COMMAND],
    ])("of a node's %s lead back to version 0.1.0, whatever the node began as there", (part, formerly, type) => {
      for (const node of ["pg1", "pg2"]) {
        expect(dev.get(`${node}-${part}`).aliases.sort()).toEqual([
          urn(`${begun("Primary")}$${type}`, `${node}-${formerly}`),
          urn(`${begun("StreamingSecondary")}$${type}`, `${node}-${formerly}`),
        ]);
      }
    });

    test.each(["roles", "sample"])("of the %s lead back to the node that had them in version 0.1.0, whichever that was", (part) => {
      expect(dev.get(`database-${part}`).aliases.sort()).toEqual(
        ["pg1", "pg2"].map((node) => urn(`${begun("Primary")}$${COMMAND}`, `${node}-${part}`)),
      );
    });

    test("that did not change since version 0.1.0", () => {
      expect(dev.get("pg1-init").urn).toBe(urn(`${begun("Primary")}$${COMMAND}`, "pg1-init"));
      expect(dev.get("pg2-basebackup").urn).toBe(urn(`${begun("StreamingSecondary")}$${COMMAND}`, "pg2-basebackup"));
      expect(dev.get("pg2-slot-create").urn).toBe(urn(`${begun("ReplicationSlot")}$${COMMAND}`, "pg2-slot-create"));
      expect(dev.get("network").urn).toBe(urn("docker:index/network:Network", "network"));
      expect(dev.get("appPassword").urn).toBe(urn(COMMAND, "appPassword"));
    });
  });

  describe("in which somebody has changed something by hand", () => {
    const SALT = "0123456789abcdef";
    const file = (password: string): string => fileDigest(SALT, passfile({ replica_user: password, rewind_user: password }));
    const well: DriftFacts = {
      salt: SALT,
      files: { passfile: file(madeUp("replicationPassword")) },
      altered: [],
      restarts: ["max_connections", "shared_buffers"],
      unapplied: false,
      systemIdentifier: "7",
      roles: ["app", "postgres", "replica_user", "rewind_user"],
      database: true,
      sampleTables: true,
    };
    const seen = (one: Partial<DriftFacts>, two: Partial<DriftFacts>, server: Parameters<typeof primary>[2] = {}): Observation[] => [
      { ...primary("pg1", ["pg2"], server), drift: { ...well, ...one } },
      { ...standby("pg2"), drift: { ...well, sampleTables: null, ...two } },
    ];
    /** What is said of each resource, without the time. */
    const drifts = (program: Program): Record<string, string> =>
      Object.fromEntries(
        program
          .ofType(COMMAND)
          .map((c): [string, string] => [c.name, program.variable(c.name, "PGNODE_DRIFT").text])
          .filter(([, text]) => text !== "")
          .map(([name, text]) => [name, text.replace(/^\d{4}-\d\d-\d\dT[\d:.]+Z /, "")]),
      );
    const ignoring = (program: Program): string[] =>
      program
        .ofType(COMMAND)
        .filter((c) => !c.ignoreChanges.includes("environment.PGNODE_DRIFT"))
        .map((c) => c.name)
        .sort();

    test.each<[string, Observation[], Partial<Look>, Record<string, string>]>([
      ["nothing is said when nothing was changed", seen({}, {}), {}, {}],
      ["no setting that the stack leaves to others", seen({}, { altered: ["work_mem", "deadlock_timeout"] }), {}, {}],
      [
        "a setting of the stack",
        seen({}, { altered: ["primary_slot_name", "max_connections", "wal_level"] }),
        {},
        { "pg2-config": "ALTER SYSTEM has set primary_slot_name; ALTER SYSTEM has set wal_level" },
      ],
      ["a node's password file", seen({ files: { passfile: file("another") } }, {}), {}, { "pg1-config": "the password file differs" }],
      ["a password", seen({}, {}, { changedPasswords: ["app"] }), {}, { "database-roles": "the password of app was changed by hand" }],
      ["the sample", seen({ sampleTables: false }, {}), {}, { "database-sample": "tables of the sample are gone from database ecommerce" }],
      [
        "the database",
        seen({ database: false, sampleTables: null }, {}),
        {},
        { "database-roles": "database ecommerce is gone", "database-sample": "database ecommerce is gone" },
      ],
      ["a slot", seen({}, {}, { slots: [] }), {}, { "pg2-ready": "slot pg2 is missing on pg1" }],
      ["the image", seen({}, {}), { imageGone: new Set([DOCKER_HOST]) }, { image: "the image is gone" }],
    ])("%s is a difference of the one resource that puts it right", async (_what, observed, look, expected) => {
      const program = await again({ observed, look });
      expect(drifts(program)).toEqual(expected);
      expect(ignoring(program)).toEqual(Object.keys(expected).sort());
    });

    test("it is another difference the next time, though it is the same drift", async () => {
      const texts: string[] = [];
      for (const time of ["2026-11-24T01:02:03.004Z", "2026-11-25T01:02:03.004Z"]) {
        const clock = jest.spyOn(Date.prototype, "toISOString").mockReturnValue(time);
        texts.push((await again({ observed: seen({}, {}, { slots: [] }) })).variable("pg2-ready", "PGNODE_DRIFT").text);
        clock.mockRestore();
      }
      expect(texts.map((text) => text.split(" ")[0])).toEqual(["2026-11-24T01:02:03.004Z", "2026-11-25T01:02:03.004Z"]);
    });
  });
});
