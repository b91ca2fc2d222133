import { clusterOf, nodeEnvironment, sourceConninfo } from "../../core/model/cluster";
import { parseConfig, type StackConfig } from "../../core/config";
import { hbaMethod, parseConf, parseConninfo, parseHba } from "./grammars";

const config = (): StackConfig =>
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
  });

describe("what the nodes of a stack share", () => {
  test("is all that the config says of it; among themselves they use their names and PostgreSQL's own port", () => {
    expect(clusterOf(config(), "unix:///x")).toEqual({
      stack: "prod",
      image: "postgres:17",
      members: [
        { name: "db-c", host: "db-c", port: 5432, container: "postgres-replica-prod-db-c" },
        { name: "pg1", host: "pg1", port: 5432, container: "postgres-replica-prod-pg1" },
      ],
      dockerHost: "unix:///x",
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
    expect(clusterOf(parseConfig("dev", {}), "unix:///x").settings).not.toHaveProperty("synchronous");
  });

  test("is on the Docker host that the config names, else on the one that the docker command line would use", () => {
    const remote = parseConfig("dev", { nodes: [{ name: "pg1", port: 1, dockerHost: "ssh://user@db1" }] });
    const before = process.env["DOCKER_HOST"];
    process.env["DOCKER_HOST"] = "tcp://127.0.0.1:1";
    try {
      expect(clusterOf(remote).dockerHost).toBe("ssh://user@db1");
      expect(clusterOf(config()).dockerHost).toBe("tcp://127.0.0.1:1");
    } finally {
      if (before === undefined) {
        delete process.env["DOCKER_HOST"];
      } else {
        process.env["DOCKER_HOST"] = before;
      }
    }
  });
});

describe("what a node is told", () => {
  const environment = (): ReturnType<typeof nodeEnvironment> => nodeEnvironment(clusterOf(config(), "unix:///x"), "db-c");

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
    expect(parseConninfo(sourceConninfo(clusterOf(config(), "unix:///x")))).toEqual({
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
