import { mkdtempSync, rmSync, writeFileSync } from "fs";
import { tmpdir } from "os";
import { join } from "path";
import { conninfo, hostLists, isUsablePassword, libpqUrl, passfile } from "../../core/grammar/conninfo";
import { currentDockerHost } from "../../operations/engine/dockerHost";
import { formatLsn, lsnDiff, parseLsn } from "../../core/grammar/lsn";
import {
  byName,
  containerName,
  isNodeName,
  labelFilter,
  labelsOf,
  LOCK_LABELS,
  lockName,
  networkName,
  slotName,
  volumeName,
} from "../../core/model/names";

describe("connection strings", () => {
  test("keep the order of their parameters and leave absent ones out", () => {
    expect(conninfo({ host: "a,b", port: 5432, user: undefined, dbname: "my db" })).toBe("host=a,b port=5432 dbname='my db'");
  });

  test("name every host with its own port", () => {
    const endpoints = [
      { host: "a", port: 1 },
      { host: "b", port: 2 },
    ];
    expect(hostLists(endpoints)).toEqual({ host: "a,b", port: "1,2" });
    expect(libpqUrl({ user: "app", password: "p", endpoints, database: "d", target: "read-write" })).toBe(
      "postgresql://app:p@a:1,b:2/d?target_session_attrs=read-write",
    );
  });

  test("put an IPv6 address in brackets, and ask for nothing that was not asked for", () => {
    expect(libpqUrl({ user: "u", password: "p", endpoints: [{ host: "::1", port: 5432 }], database: "d" })).toBe(
      "postgresql://u:p@[::1]:5432/d",
    );
  });

  test("a password file is one line for every host and database", () => {
    expect(passfile({ replica_user: "a:b\\c" })).toBe("*:*:*:replica_user:a\\:b\\\\c\n");
  });

  test.each([
    ["", false],
    ["a\nb", false],
    ["a\u007fb", false],
    [" ", true],
    ["ä🐘'\"\\", true],
  ])("the password %j is usable: %s", (password, usable) => {
    expect(isUsablePassword(password)).toBe(usable);
  });
});

describe("names", () => {
  test.each(["a", "pg1", "db-c", "a--b", `a${"b".repeat(62)}`])("%s is a node's name", (name) => {
    expect(isNodeName(name)).toBe(true);
  });

  test.each(["", "1a", "-a", "a-", "A", "a_b", "a.b", "ä", "pg1\n", `a${"b".repeat(63)}`])("%j is none", (name) => {
    expect(isNodeName(name)).toBe(false);
    expect(() => slotName(name)).toThrow(`"${name}" is not a node name: expected a DNS label such as pg1`);
  });

  test("of Docker objects are the stack's and the node's", () => {
    expect([networkName("dev"), containerName("dev", "pg1"), volumeName("dev", "pg1")]).toEqual([
      "postgres-replica-dev",
      "postgres-replica-dev-pg1",
      "postgres-replica-dev-pg1-data",
    ]);
  });

  test("of a stack's lock is the stack's with an ending that no node has", () => {
    expect(lockName("dev")).toBe("postgres-replica-dev.lock");
  });

  test.each([
    ["pg2", "pg10", -1],
    ["pg10", "pg2", 1],
    ["a", "b", -1],
    ["a1", "a01", 1],
    ["a01", "a1", -1],
    ["pg1", "pg1", 0],
  ])("are sorted as people do, and never at random: %s and %s", (a, b, order) => {
    expect(Math.sign(byName(a, b))).toBe(order);
  });

  test("only a stack's own objects are listed: by project and stack", () => {
    expect(labelFilter("dev")).toEqual([
      "--filter",
      "label=postgres-replica.project=postgres-replica",
      "--filter",
      "label=postgres-replica.stack=dev",
    ]);
  });

  test("labels say which state made an object, by whom and when, where that is known", () => {
    expect(labelsOf("dev", "pg1", { id: "4711", madeBy: "alice@laptop,2026-11-24" })).toEqual({
      "postgres-replica.project": "postgres-replica",
      "postgres-replica.stack": "dev",
      "postgres-replica.node": "pg1",
      "postgres-replica.identity": "4711",
      "postgres-replica.made-by": "alice@laptop,2026-11-24",
    });
  });

  test("every label of the lock is one of its own", () => {
    const labels = Object.values(LOCK_LABELS);
    expect(new Set(labels).size).toBe(labels.length);
    expect(labels.filter((label) => !/^postgres-replica\.lock(\.[a-z]+)?$/.test(label))).toEqual([]);
  });

  test("the lock has no label by which a stack's objects are found", () => {
    const found = Object.keys(labelsOf("dev", "pg1"));
    expect(Object.values(LOCK_LABELS).filter((label) => found.includes(label))).toEqual([]);
  });

  test("a label names the node only where there is one", () => {
    expect(Object.keys(labelsOf("dev"))).toEqual(["postgres-replica.project", "postgres-replica.stack"]);
    expect(labelsOf("dev", "pg1")["postgres-replica.node"]).toBe("pg1");
  });
});

describe("WAL positions", () => {
  test("are read as PostgreSQL writes them", () => {
    expect(parseLsn("16/B374D848")).toBe(0x16b374d848n);
    expect(parseLsn("0/0")).toBe(0n);
    expect(formatLsn(0x16b374d848n)).toBe("16/B374D848");
  });

  test("have a distance, also across the border of a half", () => {
    expect(lsnDiff("1/0", "0/FFFFFFFF")).toBe(1n);
    expect(lsnDiff("0/1", "0/11")).toBe(-16n);
  });

  test.each(["", "16", "16/", "/1", "G/1", "0/123456789", "-1/0", "0/0 ", "0/0\n"])(
    "%j is none, and the error says what one looks like",
    (text) => {
      expect(() => parseLsn(text)).toThrow(/is not a WAL position: expected two hexadecimal numbers such as 16\/B374D848/);
    },
  );

  test.each([-1n, 1n << 64n])("%s is out of range", (position) => {
    expect(() => formatLsn(position)).toThrow("outside the range");
  });
});

describe("the Docker host", () => {
  const LOCAL = "unix:///var/run/docker.sock";
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "docker-config-"));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  test("is DOCKER_HOST when that is set", () => {
    expect(currentDockerHost({ DOCKER_HOST: "ssh://a@b", DOCKER_CONTEXT: "other" })).toBe("ssh://a@b");
  });

  test.each([
    ["the docker command line was never configured", undefined],
    ["no context was chosen", "{}"],
    ["the default context was chosen", '{"currentContext":"default"}'],
    ["its configuration is broken", "{"],
  ])("is the local socket when %s", (_what, text) => {
    rmSync(join(folder, "config.json"), { force: true });
    if (text !== undefined) {
      writeFileSync(join(folder, "config.json"), text);
    }
    expect(currentDockerHost({ DOCKER_CONFIG: folder })).toBe(LOCAL);
  });
});
