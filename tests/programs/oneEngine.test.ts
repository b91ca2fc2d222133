import execa from "execa";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "fs";
import { tmpdir } from "os";
import { delimiter, join } from "path";
import { HOST_SCRIPTS } from "../../core/model/hostScripts";
import { provideImage as provision } from "../../core/model/image";
import { acquireLock } from "../../operations/change/lock";
import { currentDockerHost } from "../../operations/engine/dockerHost";
import { Engine } from "../../operations/engine/engine";
import { until } from "../../operations/engine/poll";
import { engineVersion } from "../../operations/setup/engine";
import { imagePresent } from "../../operations/setup/image";

/**
 * Whatever starts docker, in TypeScript or in the host's scripts, starts it for the engine that it was told, also where the
 * user has set DOCKER_HOST and DOCKER_CONTEXT to others. The docker here only notes where it was sent.
 */
const HERE = "unix:///told.sock";
const THERE = "tcp://other:2375";
const VARIABLES = ["PATH", "DOCKER_HOST", "DOCKER_CONTEXT"] as const;
const before = Object.fromEntries(VARIABLES.map((name) => [name, process.env[name]]));
let folder: string;
const sent = (): string[] =>
  existsSync(join(folder, "sent")) ? readFileSync(join(folder, "sent"), "utf8").split("\n").filter(Boolean) : [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "one-engine-"));
  const note = `#!/bin/sh\necho "\${DOCKER_HOST-unset} \${DOCKER_CONTEXT-unset} $1" >>"${folder}/sent"\n[ "$1" != create ] || echo id\n`;
  writeFileSync(join(folder, "docker"), note, { mode: 0o755 });
  process.env["PATH"] = `${folder}${delimiter}${before["PATH"]}`;
  process.env["DOCKER_HOST"] = "unix:///users.sock";
  process.env["DOCKER_CONTEXT"] = "users";
});
afterEach(() => {
  for (const name of VARIABLES) {
    delete process.env[name];
    if (before[name] !== undefined) {
      process.env[name] = before[name];
    }
  }
  rmSync(folder, { recursive: true });
});

describe("with DOCKER_HOST and DOCKER_CONTEXT of the user's", () => {
  test("the host is the one that is meant where nothing else is said, and no context is asked for", () => {
    expect(currentDockerHost()).toBe("unix:///users.sock");
    expect(sent()).toEqual([]);
  });

  test("an engine is spoken to at its own host", async () => {
    const engine = new Engine(HERE);
    await engine.run(["ps"]);
    await engine.exec("c", ["true"]);
    await engine.sql("c", "SELECT 1");
    await engine.logs("c", 1);
    await engine.states(["c"]);
    await engine.stream(["run"], { silence: 5_000, env: { DOCKER_HOST: "of the caller's" } });
    expect(sent()).toEqual(["ps", "exec", "exec", "inspect", "logs", "inspect", "run"].map((verb) => `${HERE} unset ${verb}`));
  });

  test("so are the lock, and what takes it away when its holder is gone", async () => {
    const holder = execa("sleep", ["60"], { reject: false });
    const lock = await acquireLock({ stack: "dev", engines: [HERE] }, "test", {
      ...(holder.pid === undefined ? {} : { holderPid: holder.pid }),
    });
    lock.releaseNow();
    await until("the lock to be removed", 20, () => Promise.resolve(sent().length === 2));
    await acquireLock({ stack: "dev", engines: [HERE] }, "test", { ...(holder.pid === undefined ? {} : { holderPid: holder.pid }) });
    holder.kill("SIGKILL");
    await holder;
    await until("the watcher to remove it", 20, () => Promise.resolve(sent().length === 4));
    expect(sent()).toEqual(["create", "rm", "create", "rm"].map((verb) => `${HERE} unset ${verb}`));
  });

  test("so does set-up look for the engine and the image", async () => {
    await engineVersion(HERE);
    await imagePresent("postgres:17", HERE);
    expect(sent().length).toBeGreaterThanOrEqual(2);
    expect(sent().filter((line) => !line.startsWith(`${HERE} unset `))).toEqual([]);
  });
});

describe("a step of the program", () => {
  const run = (script: string, env: Record<string, string>): execa.ExecaChildProcess =>
    execa("/bin/sh", ["-c", script], {
      env: { DOCKER_HOST: HERE, PGNODE_TIMEOUT: "1", ...env },
      input: "",
      reject: false,
      timeout: 30_000,
    });
  const node = { NODE_NAME: "pg1", NODE_CONTAINER: "c1", PGNODE_SLOT: "pg1", PGNODE_SQL: "SELECT 1", NODE_START: "yes" };
  const birth = { NODE_ACTION: "init", NODE_HELPER: "h", NODE_LABELS: "", NODE_IMAGE: "i", NODE_VOLUME: "v", NODE_PASS: "" };

  test.each<[string, string, Record<string, string>]>([
    ["that is a birth", HOST_SCRIPTS.birth, birth],
    ["that provides the image", provision("postgres:17").script, provision("postgres:17").environment],
    ["that waits for a node", HOST_SCRIPTS.ready, { ...node, NODE_CONTAINERS: "c1" }],
    ["that configures a node", HOST_SCRIPTS.configure, { ...node, NODE_CONTAINERS: "c1" }],
    ["that speaks to the primary", HOST_SCRIPTS.onPrimary, { ...node, NODE_CONTAINERS: "c1" }],
    ["that makes a slot", HOST_SCRIPTS.slot, { ...node, NODE_CONTAINERS: "c1" }],
  ])("%s goes to its engine alone", async (_what, script, env) => {
    await run(script, env);
    expect(sent().length).toBeGreaterThan(0);
    expect(sent().filter((line) => !line.startsWith(`${HERE} unset `))).toEqual([]);
  });

  test("that may speak to any of several containers asks each one at its own engine", async () => {
    // A standby, so that the next one is asked.
    writeFileSync(
      join(folder, "docker"),
      `#!/bin/sh\ncase "$*" in *" c1 "*) c=c1 ;; *" c2 "*) c=c2 ;; esac\necho "$DOCKER_HOST \${DOCKER_CONTEXT-unset} $c" >>"${folder}/sent"\n[ "$c" = c2 ] || exit 75\n`,
      { mode: 0o755 },
    );
    const ran = await run(HOST_SCRIPTS.onPrimary, {
      ...node,
      NODE_CONTAINERS: "c1 c2",
      NODE_ENGINES: `c1 ${HERE}\nc2 ${THERE}`,
    });
    expect([ran.exitCode, ran.stderr]).toEqual([0, ""]);
    expect(sent()).toEqual([`${HERE} unset c1`, `${THERE} unset c2`]);
  });
});
