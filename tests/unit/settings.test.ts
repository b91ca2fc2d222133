import { CONFIG_KEYS } from "../../core/config";
import { hbaConf } from "../../core/settings/access";
import { nodeConf, type NodeSettings } from "../../core/settings/nodeConf";
import { RESERVED_PARAMETERS } from "../../core/settings/parameters";
import { defaultParameters, synchronousStandbyNames } from "../../core/settings/replication";
import { hbaMethod, type HbaRule, parseConf, parseConninfo, parseHba } from "./grammars";

const members = ["pg1", "pg2", "db-c"].map((name) => ({ name, host: name, port: 5432 }));
const settings = (changes: Partial<NodeSettings> = {}): NodeSettings => ({
  node: "pg1",
  members,
  parameters: {},
  allowedSubnets: ["samenet"],
  maxSlotWalKeepSize: "1GB",
  automaticRejoin: true,
  ...changes,
});
const conf = (changes: Partial<NodeSettings> = {}): Record<string, string> => parseConf(nodeConf(settings(changes)));

describe("a node's PostgreSQL settings", () => {
  test("hold the guide's", () => {
    expect(conf()).toMatchObject({
      listen_addresses: "*",
      port: "5432",
      wal_level: "replica",
      wal_keep_size: "64MB",
      hot_standby: "on",
      max_standby_streaming_delay: "30s",
    });
  });

  test("let a standby notice within seconds that it is cut off, and find a new primary as quickly", () => {
    expect(conf()).toMatchObject({ wal_retrieve_retry_interval: "1s", wal_sender_timeout: "10s", wal_receiver_timeout: "10s" });
  });

  test("and those of who may connect say first that they are overwritten, and end with a line break", () => {
    for (const text of [nodeConf(settings()), hbaConf([])]) {
      expect(text).toMatch(/^# Written by postgres-replica; `pulumi up` overwrites it\.\n[^]*[^\n]\n$/);
    }
  });

  test("hold what the field has learnt is needed", () => {
    expect(conf()).toMatchObject({ password_encryption: "scram-sha-256", wal_log_hints: "on", max_slot_wal_keep_size: "1GB" });
  });

  test.each([
    [1, "32"],
    [3, "32"],
    [8, "32"],
    [9, "36"],
    [20, "80"],
  ])("have senders and slots enough for %i nodes, the same up to eight so that one more needs no restart", (nodes, enough) => {
    expect(defaultParameters(nodes)).toMatchObject({ max_wal_senders: enough, max_replication_slots: enough });
  });

  test("give way to the user's", () => {
    expect(conf({ parameters: { wal_keep_size: "2GB", work_mem: "8MB" } })).toMatchObject({
      wal_keep_size: "2GB",
      work_mem: "8MB",
      hot_standby: "on",
    });
  });

  test("that the user cannot change are refused by the config, so that no value is dropped in silence", () => {
    const dropped = Object.keys(conf()).filter((name) => conf({ parameters: { [name]: "mine" } })[name] !== "mine");
    expect(dropped).toContain("primary_conninfo");
    expect(dropped.filter((name) => RESERVED_PARAMETERS[name] === undefined)).toEqual([]);
  });

  test.each(Object.entries(RESERVED_PARAMETERS))(
    "has for %s a config key to use instead, or a reason why there is none",
    (_name, instead) => {
      const [, key] = /^the config key (\w+)/.exec(instead) ?? [];
      expect(key === undefined ? instead : [key, CONFIG_KEYS.includes(key)]).toEqual(
        key === undefined ? expect.stringMatching(/^nothing: \w+ .{5,}\w$/) : [key, true],
      );
    },
  );

  test("never make a standby stop on its way: every setting of a recovery target is refused", () => {
    expect(Object.keys(RESERVED_PARAMETERS).filter((name) => name.startsWith("recovery_target"))).toEqual(
      ["", "_action", "_inclusive", "_lsn", "_name", "_time", "_xid"].map((part) => `recovery_target${part}`),
    );
  });

  test("survive quotes and backslashes in a value", () => {
    expect(conf({ parameters: { archive_command: "cp '%p' \\\\nas\\'x'" } })["archive_command"]).toBe("cp '%p' \\\\nas\\'x'");
  });

  test("do not say who is primary: nodes differ in how they name themselves, not in more", () => {
    const lines = (node: string): string[] =>
      nodeConf(settings({ node }))
        .split("\n")
        .filter((line) => !/^primary_(conninfo|slot_name) = /.test(line));
    expect(lines("pg2")).toEqual(lines("pg1"));
    expect(lines("db-c")).toEqual(lines("pg1"));
    for (const { name } of members) {
      expect(conf({ node: name })).toMatchObject({
        primary_slot_name: name.replace("-", "_"),
        primary_conninfo: expect.stringContaining(`application_name=${name}`) as string,
      });
    }
  });

  test("let a standby follow whoever of the others is primary", () => {
    expect(parseConninfo(conf({ node: "pg2" })["primary_conninfo"] ?? "")).toEqual({
      host: "pg1,db-c",
      port: "5432,5432",
      user: "replica_user",
      application_name: "pg2",
      passfile: "/var/lib/pgnode/passfile",
      target_session_attrs: "read-write",
      connect_timeout: "2",
    });
  });

  test("tell pgnode whom to ask before a node comes up writable, and whether it may rejoin by itself", () => {
    expect(conf({ node: "pg2" })["pgnode.members"]).toBe("pg1=pg1:5432 pg2=pg2:5432 db-c=db-c:5432");
    expect(conf()["pgnode.rejoin"]).toBe("on");
    expect(conf({ automaticRejoin: false })["pgnode.rejoin"]).toBe("off");
  });

  test("tell pgnode how to copy a node, and nothing of it where all is the default", () => {
    const of = (clone?: NodeSettings["clone"]): [string, string][] =>
      Object.entries(conf(clone === undefined ? {} : { clone })).filter(([name]) => name.startsWith("pgnode.clone"));
    expect([of(), of({ from: "primary" })]).toEqual([[], []]);
    expect(of({ from: "standby", maxRate: 102_400, compress: "zstd" })).toEqual([
      ["pgnode.clone_from", "standby"],
      ["pgnode.clone_max_rate", "102400"],
      ["pgnode.clone_compress", "zstd"],
    ]);
  });

  test("hold no password: the connection takes it from the password file", () => {
    expect(parseConninfo(conf()["primary_conninfo"] ?? "")).not.toHaveProperty("password");
  });
});

describe("synchronous replication", () => {
  test("is off by default, and said so: a setting left out would stay what it was", () => {
    expect(conf()["synchronous_standby_names"]).toBe("");
  });

  test("names every node, because any of them may be a standby one day", () => {
    expect(synchronousStandbyNames({ members, synchronous: { mode: "any", count: 2 } })).toBe('ANY 2 ("pg1", "pg2", "db-c")');
    expect(conf({ synchronous: { mode: "first", count: 1 } })["synchronous_standby_names"]).toBe('FIRST 1 ("pg1", "pg2", "db-c")');
  });
});

describe("who may connect", () => {
  const rules = (): HbaRule[] => parseHba(hbaConf(["10.0.0.0/8", "samenet"]));
  const NEAR = ["127.0.0.1/32", "::1/128", "10.0.0.0/8", "samenet"];

  test("nobody without a password but the node's own administrator on its socket", () => {
    const passwordless = rules().filter((rule) => !["scram-sha-256", "reject"].includes(rule.method));
    expect(passwordless).toEqual([{ type: "local", database: "all", user: "postgres", address: "", method: "peer" }]);
    expect(hbaMethod(rules(), { type: "local", database: "app", user: "app" })).toBe("scram-sha-256");
  });

  test.each(NEAR)("from %s: the replication role streams, and reads no database but postgres", (address) => {
    const method = (database: string): string | undefined => hbaMethod(rules(), { database, user: "replica_user", address });
    expect(method("replication")).toBe("scram-sha-256");
    expect(method("postgres")).toBe("scram-sha-256");
    expect(method("app")).toBe("reject");
    expect(method("template1")).toBe("reject");
  });

  test.each(NEAR)("from %s: the rewind role comes into postgres alone, and never streams", (address) => {
    const method = (database: string): string | undefined => hbaMethod(rules(), { database, user: "rewind_user", address });
    expect([method("postgres"), method("app"), method("template1")]).toEqual(["scram-sha-256", "reject", "reject"]);
    expect(method("replication")).toBeUndefined();
  });

  test.each(NEAR)("from %s: other roles use databases and do not stream", (address) => {
    expect(hbaMethod(rules(), { database: "app", user: "app", address })).toBe("scram-sha-256");
    expect(hbaMethod(rules(), { database: "replication", user: "app", address })).toBeUndefined();
    expect(hbaMethod(rules(), { database: "replication", user: "postgres", address })).toBeUndefined();
  });

  test("nobody from elsewhere", () => {
    expect(new Set(rules().flatMap((rule) => (rule.method === "reject" ? [] : [rule.address])))).toEqual(new Set(["", ...NEAR]));
  });

  test("the node itself always, even when no subnet is allowed, and no rule twice", () => {
    const own = parseHba(hbaConf([]));
    expect(hbaMethod(own, { database: "app", user: "app", address: "127.0.0.1/32" })).toBe("scram-sha-256");
    expect(hbaConf(["127.0.0.1/32"])).toBe(hbaConf([]));
  });
});

describe("nodes on other Docker hosts", () => {
  const FAR = ["10.0.0.2", "fd00::7", "198.51.100.0/24"];
  const RANGES = ["10.0.0.2/32", "fd00::7/128", "198.51.100.0/24"];
  const rules = (): HbaRule[] => parseHba(hbaConf(["192.0.2.0/24"], FAR));

  test.each(RANGES)("may stream and rewind from %s, and nobody else may come in from there", (address) => {
    const method = (user: string, database: string): string | undefined => hbaMethod(rules(), { user, database, address });
    expect([method("replica_user", "replication"), method("replica_user", "postgres")]).toEqual(["scram-sha-256", "scram-sha-256"]);
    expect(method("rewind_user", "postgres")).toBe("scram-sha-256");
    expect([method("replica_user", "app"), method("app", "app"), method("postgres", "postgres")]).toEqual(["reject", undefined, undefined]);
    expect(method("rewind_user", "app")).toBe("reject");
  });

  test("are in no rule twice when they may come in anyway, and without them the file is what it was", () => {
    const lines = hbaConf(["198.51.100.0/24"], ["198.51.100.0/24", "10.0.0.2", "10.0.0.2/32"]).split("\n");
    expect(lines).toEqual([...new Set(lines)]);
    expect(hbaConf(["10.0.0.0/8"], [])).toBe(hbaConf(["10.0.0.0/8"]));
  });
});

describe("an allowedSubnets without the nodes' own network", () => {
  const rules = (): HbaRule[] => parseHba(hbaConf(["192.0.2.0/24"]));
  const method = (user: string, database: string): string | undefined => hbaMethod(rules(), { user, database, address: "samenet" });

  test("still lets standbys stream and rewind, and nobody else in", () => {
    expect([method("replica_user", "replication"), method("replica_user", "postgres")]).toEqual(["scram-sha-256", "scram-sha-256"]);
    expect([method("rewind_user", "postgres"), method("rewind_user", "app")]).toEqual(["scram-sha-256", "reject"]);
    expect([method("replica_user", "app"), method("app", "app"), method("postgres", "postgres")]).toEqual(["reject", undefined, undefined]);
  });

  test("is the same file as before for those who have it in", () => {
    expect(
      hbaConf(["samenet", "192.0.2.0/24"])
        .split("\n")
        .filter((line) => line.includes("samenet")),
    ).toHaveLength(6);
  });
});
