import * as pulumi from "@pulumi/pulumi";
import { spawnSync } from "child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "fs";
import { tmpdir } from "os";
import { delimiter, join } from "path";
import { errorLines } from "../../commands/deploy";
import { nodeCommand, sqlCommand } from "../../components/commands";
import type { Cluster } from "../../components";
import { type Declared, revealed, startMocks } from "./program";

// Set-up draws its progress with an ES module, which has nothing to do here.
jest.mock("../../commands/setup", () => ({}));

/**
 * The scripts that our commands hand to the shell, run by a real shell with a docker of our own in the
 * way: it notes its arguments and standard input down and answers as the test says.
 */
const DOCKER = `#!/bin/sh
echo "$*" >>"$FAKE/calls"
for word; do
  if [ -f "$FAKE/$word" ]; then
    case "$*" in *" sql") cat >"$FAKE/stdin-$word" ;; esac
    . "$FAKE/$word"
  fi
done
exit 0
`;
const PRIMARY = "exit 0";
const STANDBY = "exit 75";
const ABSENT = `echo "Error response from daemon: No such container: x" >&2; exit 1`;
const STOPPED = `echo "Error response from daemon: container 1a2b is not running" >&2; exit 1`;
const RESTARTING = `echo "Error response from daemon: Container 1a2b is restarting, wait until the container is running" >&2; exit 1`;
const PAUSED = `echo "Error response from daemon: container 1a2b is paused, unpause the container before exec" >&2; exit 1`;
const BROKEN = `echo "ERROR:  permission denied" >&2; exit 3`;

const cluster: Cluster = {
  stack: "dev",
  members: [],
  dockerHost: "unix:///test/docker.sock",
  settings: { parameters: {}, allowedSubnets: [], maxSlotWalKeepSize: "1GB", automaticRejoin: true },
};

let folder: string;
let registered: Declared[];
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "scripts-"));
  mkdirSync(join(folder, "bin"));
  writeFileSync(join(folder, "bin", "docker"), DOCKER, { mode: 0o755 });
  registered = await startMocks({});
  const args = { cluster, containers: ["one", "two"], sql: "SELECT 'créé';", deleteSql: "SELECT 'dropped';" };
  sqlCommand("sql", args, {});
  nodeCommand("configure", { cluster, action: "configure", container: "one", environment: { PGNODE_CONF: "secret" } }, {});
  nodeCommand("streaming", { cluster, action: "streaming", container: "one" }, {});
  await pulumi.runtime.disconnect();
});
afterAll(() => rmSync(folder, { recursive: true }));

interface Ran {
  code: number | null;
  stderr: string;
  /** The arguments of docker, call by call. */
  calls: string[];
  /** What the container named so got on standard input. */
  stdin: (container: string) => string;
}

/** Runs one script of a command, with its environment, while containers answer as told. */
function run(name: string, script: "create" | "delete", answers: Record<string, string>): Ran {
  const fake = mkdtempSync(join(folder, "run-"));
  for (const [container, answer] of Object.entries(answers)) {
    writeFileSync(join(fake, container), answer);
  }
  const inputs = revealed(registered.find((r) => r.name === name)?.inputs) as Record<string, string> & {
    environment: Record<string, string>;
  };
  const path = `${join(folder, "bin")}${delimiter}${process.env["PATH"] ?? ""}`;
  const { status, stderr } = spawnSync("/bin/sh", ["-c", inputs[script] ?? ""], {
    encoding: "utf8",
    env: { ...inputs.environment, PATH: path, FAKE: fake },
  });
  return {
    code: status,
    stderr,
    calls: readFileSync(join(fake, "calls"), "utf8").trimEnd().split("\n"),
    stdin: (container) => readFileSync(join(fake, `stdin-${container}`), "utf8"),
  };
}

/** Which containers were asked, in order. */
const asked = (ran: Ran): string[] => ran.calls.filter((call) => call.startsWith("exec ")).map((call) => call.split(" ").at(-3) ?? "");

describe("SQL for whoever is primary", () => {
  test("goes to the first container when that is the primary, and to no other", () => {
    const ran = run("sql", "create", { one: PRIMARY, two: PRIMARY });
    expect(ran.code).toBe(0);
    expect(asked(ran)).toEqual(["one"]);
    expect(ran.stdin("one")).toBe("SELECT 'créé';\n");
  });

  test.each([
    ["is a standby by now", STANDBY],
    ["is gone", ABSENT],
    ["is stopped", STOPPED],
    ["cannot start", RESTARTING],
    ["is paused", PAUSED],
  ])("goes to the next container when the first one %s", (_what, answer) => {
    const ran = run("sql", "create", { one: answer, two: PRIMARY });
    expect(ran.code).toBe(0);
    expect(asked(ran)).toEqual(["one", "two"]);
    expect(ran.stdin("two")).toBe("SELECT 'créé';\n");
  });

  test("fails with the server's own words, and is not tried on another server", () => {
    const ran = run("sql", "create", { one: BROKEN, two: PRIMARY });
    expect(ran.code).toBe(1);
    expect(ran.stderr).toBe("ERROR:  permission denied\n");
    expect(asked(ran)).toEqual(["one"]);
  });

  test("is refused by the server for the server's reason, whatever the container's log said before", () => {
    const ran = run("sql", "create", {
      one: `case "$*" in logs*) echo "pgnode: node one rejoins as a standby of two"; exit 0 ;; esac; ${BROKEN}`,
    });
    const event = { diagnosticEvent: { severity: "error", message: `exit status 1: running "sh":\n${ran.stderr}`, urn: "urn:x::sql" } };
    expect(errorLines(JSON.stringify(event))).toEqual(["sql: ERROR:  permission denied"]);
  });

  test("fails when there is no primary, and says which containers were asked", () => {
    const ran = run("sql", "create", { one: STANDBY, two: ABSENT });
    expect(ran.code).toBe(1);
    expect(ran.stderr).toMatch(/^no primary among one, two\..*No such container/);
  });

  test("is not on docker's command line", () => {
    const ran = run("sql", "create", { one: PRIMARY });
    expect(ran.calls.join("\n")).not.toContain("SELECT");
  });
});

describe("SQL for the end", () => {
  test("is another one, and goes to whoever is primary as well", () => {
    const ran = run("sql", "delete", { one: STANDBY, two: PRIMARY });
    expect(ran.code).toBe(0);
    expect(ran.stdin("two")).toBe("SELECT 'dropped';\n");
  });

  test("is not needed when there is no primary any more", () => {
    expect(run("sql", "delete", { one: STANDBY, two: ABSENT }).code).toBe(0);
    expect(run("sql", "delete", { one: STOPPED, two: ABSENT }).code).toBe(0);
  });

  test("fails when the primary refuses it", () => {
    expect(run("sql", "delete", { one: BROKEN, two: ABSENT })).toMatchObject({ code: 1, stderr: "ERROR:  permission denied\n" });
  });
});

describe("a command in a node's container", () => {
  test("gets its settings by name, so that no value is on a command line", () => {
    const ran = run("configure", "create", { one: "exit 0" });
    expect(ran.code).toBe(0);
    expect(ran.calls).toHaveLength(1);
    expect(ran.calls[0]).toContain("-e PGNODE_CONF ");
    expect(ran.calls[0]).not.toContain("secret");
  });

  test("restarts the server only when a setting asks for it, and waits until it is back", () => {
    const ran = run("configure", "create", { one: `case "$*" in *configure) echo "restart: max_connections" ;; esac; exit 0` });
    expect(ran.code).toBe(0);
    expect(ran.calls.map((call) => call.split(" ")[0])).toEqual(["exec", "restart", "exec"]);
    expect(ran.calls[2]).toMatch(/ one pgnode ready$/);
  });

  test.each(["configure", "streaming"])("fails when pgnode %s fails", (name) => {
    const ran = run(name, "create", { one: `echo "pgnode: no" >&2; exit 1` });
    expect(ran.code).toBe(1);
    expect(ran.stderr).toContain("pgnode: no\n");
  });

  test.each(["configure", "streaming"])("that cannot run (pgnode %s) ends with what the node itself said last", (name) => {
    const log = "echo LOG; echo 'pgnode: first' >&2; echo 'pgnode: the volume holds the cluster of node two' >&2; echo LOG; exit 0";
    const ran = run(name, "create", { one: `case "$*" in logs*) ${log} ;; esac; ${STOPPED}` });
    expect(ran.code).toBe(1);
    expect(ran.stderr.trimEnd().split("\n").at(-1)).toBe("pgnode: the volume holds the cluster of node two");
  });

  test("fails when the restart fails", () => {
    const ran = run("configure", "create", { one: `case "$*" in restart*) exit 1 ;; esac; echo "restart: x"; exit 0` });
    expect(ran.code).not.toBe(0);
  });
});
