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
