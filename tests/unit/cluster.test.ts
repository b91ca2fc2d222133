import { clusterOf, nodeEnvironment, sourceConninfo } from "../../core/model/cluster";
import { parseConfig } from "../../core/config";
import { type Place, placed, type PlacedConfig } from "../../core/model/place";
import { hbaMethod, parseConf, parseConninfo, parseHba } from "./grammars";

const config = (): PlacedConfig =>
  placed(
    parseConfig("prod", {
      nodes: [
        { name: "pg1", port: 6001 },
        { name: "db-c", port: 6002 },
      ],
      image: "postgres:17",
      parameters: { work_mem: "8MB" },
      allowedSubnets: ["10.0.0.0/8"],
      synchronous: { mode: "first", count: 1 },
      protectData: true,
      maxSlotWalKeepSize: "2GB",
      automaticRejoin: false,
    }),
    "unix:///x",
  );

const placeOf = (node: string, port: number): Place => ({
  engine: "unix:///x",
  inside: { host: node, port: 5432 },
  published: { host: "127.0.0.1", port },
  seenFrom: ["127.0.0.1"],
});

describe("what the nodes of a stack share", () => {
  test("is all that the config says of it; among themselves they use their names and PostgreSQL's own port", () => {
    expect(clusterOf(config())).toEqual({
      stack: "prod",
      image: "postgres:17",
      members: [
        { name: "db-c", container: "postgres-replica-prod-db-c", place: placeOf("db-c", 6002) },
        { name: "pg1", container: "postgres-replica-prod-pg1", place: placeOf("pg1", 6001) },
      ],
      home: "unix:///x",
      settings: {
        parameters: { work_mem: "8MB" },
        allowedSubnets: ["10.0.0.0/8"],
        maxSlotWalKeepSize: "2GB",
        automaticRejoin: false,
        synchronous: { mode: "first", count: 1 },
      },
      protectData: true,
    });
  });

  test("has no synchronous replication where the config has none", () => {
    expect(clusterOf(placed(parseConfig("dev", {}), "unix:///x")).settings).not.toHaveProperty("synchronous");
  });
});

describe("nodes on several Docker hosts", () => {
  const HOST = ["ssh://db1", "ssh://db2"];
  const cluster = clusterOf(
    placed(
      parseConfig("prod", {
        nodes: [
          { name: "pg1", port: 6001, dockerHost: HOST[0], address: "10.0.0.1" },
          { name: "pg2", port: 6002, dockerHost: HOST[0], address: "10.0.0.1", seenFrom: ["192.0.2.0/24"] },
          { name: "pg3", port: 6001, dockerHost: HOST[1], address: "10.0.0.3" },
        ],
        allowedSubnets: ["172.16.0.0/12"],
      }),
      "unix:///x",
    ),
  );
  const told = (node: string): Record<string, string> => parseConf(nodeEnvironment(cluster, node).PGNODE_CONF);
  const streams = (node: string, address: string): string | undefined =>
    hbaMethod(parseHba(nodeEnvironment(cluster, node).PGNODE_HBA), { database: "replication", user: "replica_user", address });

  test("reach those beside them by name, and the others by the published address and port", () => {
    const upstream = (node: string): unknown => parseConninfo(told(node)["primary_conninfo"] ?? "");
    expect(upstream("pg1")).toMatchObject({ host: "pg2,10.0.0.3", port: "5432,6001" });
    expect(upstream("pg2")).toMatchObject({ host: "pg1,10.0.0.3", port: "5432,6001" });
    expect(upstream("pg3")).toMatchObject({ host: "10.0.0.1,10.0.0.1", port: "6001,6002" });
    expect(told("pg1")["pgnode.members"]).toBe("pg1=pg1:5432 pg2=pg2:5432 pg3=10.0.0.3:6001");
    expect(told("pg3")["pgnode.members"]).toBe("pg1=10.0.0.1:6001 pg2=10.0.0.1:6002 pg3=pg3:5432");
  });

  test("are cloned from whoever is primary by the same ways", () => {
    const source = (node: string): unknown => parseConninfo(sourceConninfo(cluster, node));
    expect(source("pg2")).toMatchObject({ host: "pg1,pg2,10.0.0.3", port: "5432,5432,6001", target_session_attrs: "read-write" });
    expect(source("pg3")).toMatchObject({ host: "10.0.0.1,10.0.0.1,pg3", port: "6001,6002,5432" });
    expect(() => sourceConninfo(cluster, "pg9")).toThrow('node "pg9" is not among the stack\'s nodes pg1, pg2, pg3');
  });

  test("let each other stream from where they are seen, and only those of other hosts need to be named", () => {
    const far = (node: string): (string | undefined)[] =>
      ["10.0.0.1/32", "192.0.2.0/24", "10.0.0.3/32"].map((address) => streams(node, address));
    expect(far("pg1")).toEqual([undefined, undefined, "scram-sha-256"]);
    expect(far("pg2")).toEqual([undefined, undefined, "scram-sha-256"]);
    expect(far("pg3")).toEqual(["scram-sha-256", "scram-sha-256", undefined]);
    expect(streams("pg3", "samenet")).toBe("scram-sha-256");
  });
});

describe("what a node is told", () => {
  const environment = (): ReturnType<typeof nodeEnvironment> => nodeEnvironment(clusterOf(config()), "db-c");

  test("is its own name and slot, the settings and the other nodes", () => {
    const conf = parseConf(environment().PGNODE_CONF);
    expect(conf).toMatchObject({
      work_mem: "8MB",
      max_slot_wal_keep_size: "2GB",
      primary_slot_name: "db_c",
      synchronous_standby_names: 'FIRST 1 ("db-c", "pg1")',
      "pgnode.members": "db-c=db-c:5432 pg1=pg1:5432",
      "pgnode.rejoin": "off",
    });
    expect(parseConninfo(conf["primary_conninfo"] ?? "")).toMatchObject({ host: "pg1", application_name: "db-c" });
    expect(environment().PGNODE_SLOT).toBe("db_c");
  });

  test("is who may connect", () => {
    const rules = parseHba(environment().PGNODE_HBA);
    expect(hbaMethod(rules, { database: "app", user: "app", address: "10.0.0.0/8" })).toBe("scram-sha-256");
    expect(hbaMethod(rules, { database: "app", user: "app", address: "samenet" })).toBeUndefined();
  });

  test("that is new is where to clone from: whoever can write, with the password from a file, and not for ever", () => {
    expect(parseConninfo(sourceConninfo(clusterOf(config()), "pg1"))).toEqual({
      host: "db-c,pg1",
      port: "5432,5432",
      user: "replica_user",
      passfile: "/var/lib/pgnode/passfile",
      target_session_attrs: "read-write",
      connect_timeout: "5",
      keepalives_idle: "10",
      keepalives_interval: "5",
      keepalives_count: "3",
      tcp_user_timeout: "30000",
    });
  });
});
