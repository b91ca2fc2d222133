import type { PriorState } from "../../operations/guard/prior";
import * as pulumi from "@pulumi/pulumi";
import { Database, Node, Primary, ReplicationSlot, StreamingSecondary, sourceOf } from "../../components";
import { password, readSettings } from "../../components/stack";
import type { Cluster } from "../../components";
import type { Place } from "../../core/model/place";
import { UserError } from "../../operations/errors";
import { SECRET_KEYS } from "../../core/config";
import type * as Programs from "./program";
import { fakeLook, redacted, revealed, runIndex, type Scenario, startMocks, valueOf } from "./program";

jest.mock("../../operations/guard/look", () => ({
  look: (...args: Parameters<typeof Programs.fakeLook>) => jest.requireActual<typeof Programs>("./program").fakeLook(...args),
}));

const SECRETS = { superuserPassword: "one-secret", replicationPassword: "two-secrets", appPassword: "three-secrets" };
const ALL_SECRET = Object.keys(SECRETS);

/** What the program says of a config that it refuses. */
async function refusal(read: () => Promise<unknown>): Promise<pulumi.RunError> {
  try {
    await read();
  } catch (error) {
    if (pulumi.RunError.isInstance(error)) {
      return error;
    }
    throw error;
  }
  throw new Error("the config was accepted");
}

describe("a config that is wrong ends the program with one line and no stack trace", () => {
  test("index.ts refuses before it declares anything", async () => {
    const scenario = { config: { nodes: [{ name: "Pg_1", port: 5432 }] } };
    const registered = await startMocks(scenario);
    const error = await refusal(runIndex);
    await pulumi.runtime.disconnect();
    expect(error.message).toMatch(/^config key "nodes\[0\]\.name" is "Pg_1"; allowed is a DNS label.*$/);
    expect(registered).toEqual([]);
  });

  test.each<[string, Scenario, RegExp]>([
    ["a key that does not exist", { config: { node: [] } }, /^config key "node" .* Did you mean nodes\?.*$/],
    [
      "secrets that are missing in staging",
      { stack: "staging" },
      /^stack "staging" has no secret superuserPassword, replicationPassword, appPassword.*$/,
    ],
    [
      "one secret that is missing in prod",
      { stack: "prod", config: { ...SECRETS, appPassword: "" }, secretKeys: ALL_SECRET },
      /^stack "prod" has no secret appPassword; .*pulumi config set --stack prod --secret appPassword$/,
    ],
    [
      "a password in plain text",
      { config: SECRETS, secretKeys: ["superuserPassword", "replicationPassword"] },
      /^config key "appPassword" is plain text; allowed is a secret\. .*--secret appPassword$/,
    ],
  ])("%s", async (_what, scenario, message) => {
    await startMocks(scenario);
    const error = await refusal(readSettings);
    expect(error.message).toMatch(message);
    for (const secret of Object.values(SECRETS)) {
      expect(error.message).not.toContain(secret);
    }
  });

  test("a password with a line break, and the message does not hold it", async () => {
    await startMocks({ config: { ...SECRETS, appPassword: "qwertz\nasdf" }, secretKeys: ALL_SECRET });
    const settings = await readSettings();
    const error = await refusal(() => Promise.resolve(password(settings, "appPassword")));
    expect(error.message).toMatch(/^config key "appPassword" is a secret of 11 characters; allowed is .*$/);
    expect(error.message).not.toMatch(/qwertz|asdf/);
  });

  test("what a look at the engine refuses, before anything is declared", async () => {
    const registered = await startMocks({});
    fakeLook.mockRejectedValueOnce(new UserError("port 5432 of node pg1 is taken"));
    expect((await refusal(runIndex)).message).toBe("port 5432 of node pg1 is taken");
    await pulumi.runtime.disconnect();
    expect(registered).toEqual([]);
  });

  test("but a mistake of our own keeps its stack trace", async () => {
    await startMocks({});
    fakeLook.mockRejectedValueOnce(new TypeError("x is undefined"));
    expect((await refusal(readSettings)).message).toMatch(/^TypeError: x is undefined\n +at /);
  });
});

describe("the settings of a stack", () => {
  test("dev works with an empty config: two nodes that reach each other by name", async () => {
    await startMocks({});
    const { cluster } = await readSettings();
    expect(cluster.members).toEqual([
      {
        name: "pg1",
        container: "postgres-replica-dev-pg1",
        place: expect.objectContaining({ inside: { host: "pg1", port: 5432 } }) as Place,
      },
      {
        name: "pg2",
        container: "postgres-replica-dev-pg2",
        place: expect.objectContaining({ inside: { host: "pg2", port: 5432 } }) as Place,
      },
    ]);
    expect(cluster.protectData).toBe(false);
  });

  test("keys of other projects are not ours to judge", async () => {
    await startMocks({});
    pulumi.runtime.setAllConfig({ "docker:host": "tcp://x", "postgres-replica:protectData": "true" });
    expect((await readSettings()).protectData).toBe(true);
  });

  test("a configured password is used as it is, and stays secret", async () => {
    await startMocks({ stack: "prod", config: SECRETS, secretKeys: ALL_SECRET });
    const settings = await readSettings();
    for (const key of SECRET_KEYS) {
      const output = password(settings, key);
      expect(await valueOf(output)).toBe(SECRETS[key]);
      expect(await pulumi.isSecret(output)).toBe(true);
    }
  });

  test("a dev stack makes up the passwords that it lacks, and only those", async () => {
    const registered = await startMocks({ stack: "dev-two", config: { appPassword: SECRETS.appPassword }, secretKeys: ["appPassword"] });
    const settings = await readSettings();
    const outputs = SECRET_KEYS.map((key) => password(settings, key));
    const values = await Promise.all(outputs.map((output) => valueOf(output)));
    expect(await Promise.all(outputs.map((output) => pulumi.isSecret(output)))).toEqual([true, true, true]);
    expect(values[2]).toBe(SECRETS.appPassword);
    expect(registered.map((r) => r.name).sort()).toEqual(["docker", "identity", "replicationPassword", "superuserPassword"]);
  });
});

describe("the look", () => {
  test.each([true, false])("is told whether this is a preview (%s), and gets what the state knows", async (preview) => {
    await startMocks({ preview, state: [{ urn: "a::b::pg1-data", type: "docker:index/volume:Volume", outputs: { id: "v", name: "v" } }] });
    await readSettings();
    const [, state, dryRun] = fakeLook.mock.lastCall ?? [];
    const prior = await (state as Promise<PriorState>);
    expect([prior?.empty, [...(prior?.volumes ?? [])], dryRun]).toEqual([false, [["pg1", "v"]], preview]);
  });

  test("decides the Docker host, whatever context the environment names", async () => {
    await startMocks({ look: { dockerHost: "tcp://db:2375" } });
    expect((await readSettings()).cluster.home).toBe("tcp://db:2375");
  });
});

describe("components by themselves", () => {
  const place: Place = {
    engine: "unix:///test/docker.sock",
    inside: { host: "a", port: 5432 },
    published: { host: "127.0.0.1", port: 7000 },
    seenFrom: ["127.0.0.1"],
  };
  const cluster: Cluster = {
    stack: "dev",
    image: "postgres:17",
    members: [{ name: "a", container: "box-a", place }],
    home: place.engine,
    settings: { parameters: {}, allowedSubnets: ["samenet"], maxSlotWalKeepSize: "1GB", automaticRejoin: true },
  };

  beforeEach(() => startMocks({}));

  const args = { cluster, node: "a", network: "net", port: 7000, replicationPassword: "plain-two" };

  test("a Primary and a StreamingSecondary tell where they are", async () => {
    const source = sourceOf(cluster, []);
    for (const node of [new Primary("a", args), new StreamingSecondary("a", { ...args, source })]) {
      expect(await valueOf(node.host)).toBe("127.0.0.1");
      expect(await valueOf(node.port)).toBe(7000);
      expect(await valueOf(node.container)).toBe("box-a");
      expect(node.node).toBeInstanceOf(Node);
    }
    expect(source.containers.map(({ container }) => container)).toEqual(["box-a"]);
  });

  test("components keep their passwords secret even when they are handed plain text", async () => {
    const registered = await startMocks({});
    const primary = new Primary("a", args);
    const passwords = { superuserPassword: "plain-one", replicationPassword: "plain-two", appPassword: "plain-three" };
    new Database("db", { cluster, ...passwords, database: "app" }, { dependsOn: [primary.node.ready] });
    await pulumi.runtime.disconnect();
    const seen = registered.map((r): [string, string, string] => [
      r.name,
      JSON.stringify(revealed(r.inputs)),
      JSON.stringify(redacted(r.inputs)),
    ]);
    expect(
      seen
        .filter(([, all]) => all.includes("plain-"))
        .map(([name]) => name)
        .sort(),
    ).toEqual(["a-config", "a-init", "a-ready", "db-roles"]);
    expect(seen.filter(([, , plain]) => plain.includes("plain-"))).toEqual([]);
  });

  test("a node that is none of the stack's is a mistake that is named", () => {
    expect(() => new Primary("z", { ...args, node: "z" })).toThrow('node "z" is not among the stack\'s nodes a');
  });

  test("a ReplicationSlot works with any source, one outside the stack as well", async () => {
    const source = { conninfo: () => "host=elsewhere", containers: [{ container: "elsewhere", place }], ready: [] };
    const slot = new ReplicationSlot("a-slot", { cluster, source, node: "node-a" });
    expect(await valueOf(slot.slotName)).toBe("node_a");
    expect(await valueOf(slot.ready)).toBe(true);
  });
});
