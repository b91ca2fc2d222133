import * as pulumi from "@pulumi/pulumi";
import { Primary, ReplicationSlot } from "../../components";
import { password, readSettings } from "../../components/stack";
import type { Cluster } from "../../components";
import { SECRET_KEYS } from "../../core/config";
import { redacted, revealed, runIndex, type Scenario, startMocks, valueOf } from "./program";

const SECRETS = { superuserPassword: "one-secret", replicationPassword: "two-secrets", appPassword: "three-secrets" };
const ALL_SECRET = Object.keys(SECRETS);

/** What the program says of a config that it refuses. */
function refusal(read: () => unknown): pulumi.RunError {
  try {
    read();
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
    const error = refusal(runIndex);
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
    const error = refusal(readSettings);
    expect(error.message).toMatch(message);
    for (const secret of Object.values(SECRETS)) {
      expect(error.message).not.toContain(secret);
    }
  });

  test("a password with a line break, and the message does not hold it", async () => {
    await startMocks({ config: { ...SECRETS, appPassword: "qwertz\nasdf" }, secretKeys: ALL_SECRET });
    const error = refusal(() => password(readSettings(), "appPassword"));
    expect(error.message).toMatch(/^config key "appPassword" is a secret of 11 characters; allowed is .*$/);
    expect(error.message).not.toMatch(/qwertz|asdf/);
  });
});

describe("the settings of a stack", () => {
  test("dev works with an empty config: two nodes that reach each other by name", async () => {
    await startMocks({});
    const { cluster } = readSettings();
    expect(cluster.members).toEqual([
      { name: "pg1", host: "pg1", port: 5432, container: "postgres-replica-dev-pg1" },
      { name: "pg2", host: "pg2", port: 5432, container: "postgres-replica-dev-pg2" },
    ]);
    expect(cluster.protectData).toBe(false);
  });

  test("keys of other projects are not ours to judge", async () => {
    await startMocks({});
    pulumi.runtime.setAllConfig({ "docker:host": "tcp://x", "postgres-replica:protectData": "true" });
    expect(readSettings().protectData).toBe(true);
  });

  test("a configured password is used as it is, and stays secret", async () => {
    await startMocks({ stack: "prod", config: SECRETS, secretKeys: ALL_SECRET });
    const settings = readSettings();
    for (const key of SECRET_KEYS) {
      const output = password(settings, key);
      expect(await valueOf(output)).toBe(SECRETS[key]);
      expect(await pulumi.isSecret(output)).toBe(true);
    }
  });

  test("a dev stack makes up the passwords that it lacks, and only those", async () => {
    const registered = await startMocks({ stack: "dev-two", config: { appPassword: SECRETS.appPassword }, secretKeys: ["appPassword"] });
    const settings = readSettings();
    const outputs = SECRET_KEYS.map((key) => password(settings, key));
    const values = await Promise.all(outputs.map((output) => valueOf(output)));
    expect(await Promise.all(outputs.map((output) => pulumi.isSecret(output)))).toEqual([true, true, true]);
    expect(values[2]).toBe(SECRETS.appPassword);
    expect(registered.map((r) => r.name).sort()).toEqual(["replicationPassword", "superuserPassword"]);
  });
});

describe("components by themselves", () => {
  const cluster: Cluster = {
    stack: "dev",
    members: [{ name: "a", host: "a", port: 5432, container: "box-a" }],
    dockerHost: "unix:///test/docker.sock",
    settings: { parameters: {}, allowedSubnets: ["samenet"], maxSlotWalKeepSize: "1GB", automaticRejoin: true },
  };

  beforeEach(() => startMocks({}));

  test("a Primary tells where it is", async () => {
    const primary = new Primary("a", {
      cluster,
      node: "a",
      image: "postgres:17",
      network: "net",
      port: 7000,
      superuserPassword: "s",
      replicationPassword: "r",
      appPassword: "p",
      database: "app",
    });
    expect(await valueOf(primary.host)).toBe("127.0.0.1");
    expect(await valueOf(primary.port)).toBe(7000);
    expect(await valueOf(primary.container)).toBe("box-a");
    expect(await valueOf(primary.source.containers)).toEqual(["box-a"]);
  });

  test("a Primary keeps its passwords secret even when it is handed plain text", async () => {
    const registered = await startMocks({});
    new Primary("a", {
      cluster,
      node: "a",
      image: "postgres:17",
      network: "net",
      port: 7000,
      superuserPassword: "plain-one",
      replicationPassword: "plain-two",
      appPassword: "plain-three",
      database: "app",
    });
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
    ).toEqual(["a-config", "a-init", "a-roles"]);
    expect(seen.filter(([, , plain]) => plain.includes("plain-"))).toEqual([]);
  });

  test("a Primary that is none of the stack's nodes is a mistake that is named", () => {
    const args = {
      cluster,
      node: "z",
      image: "i",
      network: "n",
      port: 1,
      superuserPassword: "s",
      replicationPassword: "r",
      appPassword: "p",
      database: "d",
    };
    expect(() => new Primary("z", args)).toThrow('node "z" is not among the stack\'s nodes a');
  });

  test("a ReplicationSlot works with any source, one outside the stack as well", async () => {
    const source = { conninfo: pulumi.output("host=elsewhere"), containers: pulumi.output(["elsewhere"]), ready: [] };
    const slot = new ReplicationSlot("a-slot", { cluster, source, node: "node-a" });
    expect(await valueOf(slot.slotName)).toBe("node_a");
    expect(await valueOf(slot.ready)).toBe(true);
  });
});
