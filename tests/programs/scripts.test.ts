import { type ChildProcess, spawn } from "child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "fs";
import { tmpdir } from "os";
import { delimiter, join } from "path";
import { errorLines } from "../../operations/deploy/deploy";
import { refusesSettings } from "../../core/judgement/reason";
import { HOST_SCRIPTS } from "../../core/model/hostScripts";

// Set-up draws its progress with an ES module, which has nothing to do here.
jest.mock("../../operations/setup", () => ({}));

/**
 * The scripts in image/host, run by a real shell with a docker of our own in the way: it notes its arguments and
 * standard input down, and answers as the container's file says, a piece of shell with the verb in $1. What a test's
 * answer leaves open, a container that runs and is well answers.
 */
const DOCKER = `#!/bin/sh
echo "$*" >>"$FAKE/calls"
all=$* verb=$1 container=
for word; do
  if [ -f "$FAKE/box-$word" ]; then container=$word; fi
done
case $all in *" sql"* | run* | *" -i "*) cat >"$FAKE/stdin-\${container:-run}" ;; esac
action=
case $all in *" pgnode "*) action=\${all##* pgnode } ;; esac
# The container's state and role, which a test may change on the way.
was() { is=$2; [ ! -e "$FAKE/$1-$container" ] || IFS= read -r is <"$FAKE/$1-$container"; echo "$is"; }
becomes() { echo "$2" >"$FAKE/$1-$container"; }
if [ -n "$container" ]; then . "$FAKE/box-$container"; else . "$FAKE/engine"; fi
case "$verb $all" in
  inspect*RestartCount*) was restarts 0 ;;
  inspect*State.Status*) [ -n "$container" ] || { echo "Error response from daemon: No such container: x" >&2; exit 1; }; was state running ;;
  inspect*NetworkSettings*) was networks "net " ;;
  inspect*Hostname*) echo "host-$container" ;;
  cp*) mkdir "$FAKE/cp"; echo program >"$FAKE/cp/pgnode"; tar -cC "$FAKE/cp" pgnode; rm -r "$FAKE/cp" ;;
  start*) becomes state running ;;
  stop*) becomes state exited ;;
esac
case $action in
  role) was role standby; exit 0 ;;
  streaming) exit 1 ;;
  promote) becomes role primary ;;
esac
exit 0
`;
// What a container answers to SQL.
const PRIMARY = "case $action in sql) exit 0 ;; role) echo primary; exit 0 ;; esac";
const STANDBY = "case $action in sql) exit 75 ;; esac";
const says = (text: string, code: number): string => `case $verb in exec) echo "${text}" >&2; exit ${code} ;; esac`;
const ABSENT = says("Error response from daemon: No such container: x", 1);
const STOPPED = says("Error response from daemon: container 1a2b is not running", 1);
const RESTARTING = says("Error response from daemon: Container 1a2b is restarting, wait until the container is running", 1);
const PAUSED = says("Error response from daemon: container 1a2b is paused, unpause the container before exec", 1);
const GOING = says(
  "OCI runtime exec failed: exec failed: unable to start container process: error executing setns process: exit status 1: unknown",
  1,
);
const KILLED = says("", 137);
const BROKEN = says("ERROR:  permission denied", 3);
const state = (word: string): string => `case $all in *State.Status*) was state ${word}; exit 0 ;; esac`;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "scripts-"));
  mkdirSync(join(folder, "bin"));
  writeFileSync(join(folder, "bin", "docker"), DOCKER, { mode: 0o755 });
});
afterAll(() => rmSync(folder, { recursive: true }));

interface Ran {
  code: number | null;
  stderr: string;
  /** The arguments of docker, call by call. */
  calls: string[];
  /** What a container, or `run`, got on standard input; empty when nothing. */
  stdin: (container: string) => string;
}

/** Runs one script with its environment, while containers answer as told, and the engine to what names none. */
async function run(
  script: keyof typeof HOST_SCRIPTS | "drop",
  environment: Record<string, string>,
  answers: Record<string, string>,
  input = "",
  engine = "",
  meanwhile: (child: ChildProcess, fake: string) => void = () => undefined,
): Promise<Ran> {
  const fake = mkdtempSync(join(folder, "run-"));
  for (const [container, answer] of Object.entries(answers)) {
    writeFileSync(join(fake, `box-${container}`), answer);
  }
  writeFileSync(join(fake, "calls"), "");
  writeFileSync(join(fake, "engine"), engine);
  const text = script === "drop" ? HOST_SCRIPTS.onPrimary : HOST_SCRIPTS[script];
  const child = spawn("/bin/sh", ["-c", text], {
    env: { PGNODE_TIMEOUT: "10", ...environment, PATH: `${join(folder, "bin")}${delimiter}${process.env["PATH"] ?? ""}`, FAKE: fake },
    stdio: ["pipe", "ignore", "pipe"],
    timeout: 20_000,
    killSignal: "SIGKILL",
  });
  let stderr = "";
  child.stderr.on("data", (data: Buffer) => (stderr += data.toString()));
  child.stdin.on("error", () => undefined);
  meanwhile(child, fake);
  child.stdin.end(input);
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  const file = (name: string): string => (existsSync(join(fake, name)) ? readFileSync(join(fake, name), "utf8") : "");
  return { code, stderr, calls: file("calls").split("\n").filter(Boolean), stdin: (container) => file(`stdin-${container}`) };
}

const SQL = { NODE_CONTAINERS: "one two", PGNODE_SQL: "SELECT 'créé';" };
const onPrimary = (answers: Record<string, string>): Promise<Ran> => run("onPrimary", SQL, answers);
/** Which containers were given SQL, in order. */
const asked = (ran: Ran): string[] => ran.calls.filter((call) => call.endsWith(" pgnode sql")).map((call) => call.split(" ").at(-3) ?? "");
/** What docker was asked to change. */
const changes = (ran: Ran): string[] => ran.calls.filter((call) => /^(start|stop|restart|rm|run|network|kill)\b/.test(call));

describe("SQL for whoever is primary", () => {
  test("goes to the first container when that is the primary, and to no other", async () => {
    const ran = await onPrimary({ one: PRIMARY, two: PRIMARY });
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
    ["is just being stopped", GOING],
    ["is killed meanwhile", KILLED],
  ])("goes to the next container when the first one %s", async (_what, answer) => {
    const ran = await onPrimary({ one: answer, two: PRIMARY });
    expect(ran.code).toBe(0);
    expect(asked(ran)).toEqual(["one", "two"]);
    expect(ran.stdin("two")).toBe("SELECT 'créé';\n");
  });

  test("fails with the server's own words, and is not tried on another server", async () => {
    const ran = await onPrimary({ one: BROKEN, two: PRIMARY });
    expect([ran.code, ran.stderr]).toEqual([1, "ERROR:  permission denied\n"]);
    expect(asked(ran)).toEqual(["one"]);
  });

  test("is refused by the server for the server's reason, whatever the container's log said before", async () => {
    const ran = await onPrimary({
      one: `case $verb in logs) echo "pgnode: node one rejoins as a standby of two"; exit 0 ;; esac\n${BROKEN}`,
    });
    const event = { diagnosticEvent: { severity: "error", message: `exit status 1: running "sh":\n${ran.stderr}`, urn: "urn:x::sql" } };
    expect(errorLines(JSON.stringify(event))).toEqual(["sql: ERROR:  permission denied"]);
  });

  test("that the server ends without a word fails with what the node said last", async () => {
    const ran = await onPrimary({ one: `case $verb in logs) echo "pgnode: no room left"; exit 0 ;; exec) exit 2 ;; esac` });
    expect([ran.code, ran.stderr]).toEqual([1, "pgnode: no room left\n"]);
  });

  test("fails in one line when there is no primary, and says which containers were asked and why", async () => {
    const log = 'case $verb in logs) echo "pgnode: fenced"; exit 0 ;; esac';
    const ran = await onPrimary({ one: STANDBY, two: `${log}\n${STOPPED}` });
    expect([ran.code, ran.stderr]).toEqual([
      1,
      "pgnode: no primary among one two. Error response from daemon: container 1a2b is not running pgnode: fenced\n",
    ]);
  });

  test("is not needed at the end, when there is no primary any more", async () => {
    const last = { ...SQL, NODE_NONE_OK: "yes" };
    const codes = await Promise.all(
      [
        { one: STANDBY, two: ABSENT },
        { one: STOPPED, two: ABSENT },
      ].map(async (answers) => (await run("drop", last, answers)).code),
    );
    expect(codes).toEqual([0, 0]);
    expect(await run("drop", last, { one: BROKEN, two: ABSENT })).toMatchObject({ code: 1, stderr: "ERROR:  permission denied\n" });
  });

  test("asks a container once more that went away while it was asked, and may have been the primary", async () => {
    const once = (then: string): string =>
      `case $action in sql) if [ -e "$FAKE/asked" ]; then ${then}; fi; touch "$FAKE/asked" ;; esac\n${GOING}`;
    const back = await onPrimary({ one: once("exit 0"), two: STANDBY });
    expect([back.code, asked(back)]).toEqual([0, ["one", "two", "one"]]);
    const last = { ...SQL, NODE_NONE_OK: "yes" };
    const gone = await run("drop", last, {
      one: once('echo "Error response from daemon: No such container: one" >&2; exit 1'),
      two: ABSENT,
    });
    expect(gone.code).toBe(0);
    const stays = await run("drop", { ...last, NODE_CONTAINERS: "one", PGNODE_TIMEOUT: "1" }, { one: KILLED });
    expect([stays.code, stays.stderr]).toEqual([1, "pgnode: no primary among one. container one went away while it was asked.\n"]);
  });

  test("is not on docker's command line", async () => {
    const { calls } = await onPrimary({ one: PRIMARY });
    expect(calls.join("\n")).not.toContain("SELECT");
  });
});

describe("the replication role's right to read files", () => {
  const environment = { NODE_CONTAINERS: "one two", PGNODE_SQL: "REVOKE", PGNODE_TIMEOUT: "5" };
  const READS = "case $action in reads-peers) exit 0 ;; esac";
  // Until the rotation has been replayed there.
  const LATER = 'case $action in reads-peers) [ ! -e "$FAKE/read" ] || exit 0; touch "$FAKE/read"; exit 1 ;; esac';
  const BEFORE = 'case $action in reads-peers) echo "pgnode: usage: pgnode run|init" >&2; exit 1 ;; esac';

  test("is taken once every node is let read as the rewind role, after a moment too", async () => {
    const ran = await run("narrow", environment, { one: `${LATER}\n${STANDBY}`, two: `${READS}\n${PRIMARY}` });
    expect(ran).toMatchObject({ code: 0, stderr: "" });
    expect(ran.calls.filter((call) => call.includes("reads-peers"))).toHaveLength(3);
    expect(ran.stdin("two")).toBe("REVOKE\n");
  });

  test.each([
    ["has the program of a version before", BEFORE],
    ["is stopped", STOPPED],
    ["is gone", ABSENT],
  ])("stays where one node %s, which says why and is no error", async (_, other) => {
    const ran = await run("narrow", environment, { one: `${READS}\n${PRIMARY}`, two: other });
    expect(ran).toMatchObject({
      code: 0,
      stderr: expect.stringMatching(/^pgnode: container two may still rewind as the replication role/) as string,
    });
    expect(ran.stdin("one")).toBe("");
  });
});

describe("a slot", () => {
  const slot = (own: Record<string, string>): Promise<Ran> => run("slot", { ...SQL, NODE_CONTAINER: "own" }, { one: PRIMARY, ...own });

  test("is made on the primary for a node that is a standby, and for one that has no container yet", async () => {
    for (const ran of [await slot({ own: STANDBY }), await slot({})]) {
      expect([ran.code, asked(ran)]).toEqual([0, ["one"]]);
    }
  });

  test("is not made for the primary itself: nobody would use it, and WAL would be held back for ever", async () => {
    const ran = await slot({ own: PRIMARY });
    expect([ran.code, asked(ran)]).toEqual([0, []]);
  });

  test.each(["exited", "created", "paused", "restarting"])(
    "is not made for a node that is %s: it makes its own when it starts",
    async (word) => {
      const ran = await slot({ own: state(word) });
      expect([ran.code, asked(ran)]).toEqual([0, []]);
      expect(ran.stderr).toBe("pgnode: container own does not run: its node makes its slot when it starts\n");
    },
  );
});

/** The variables of a node's files. */
const FILES = { NODE_FILES: "PGNODE_CONF PGNODE_HBA", NODE_SECRETS: "PGNODE_PASSFILE" };

describe("the configuration of a node", () => {
  const configure = (answer: string | undefined): Promise<Ran> =>
    run(
      "configure",
      { NODE_NAME: "pg1", NODE_CONTAINER: "one", ...FILES, PGNODE_CONF: "secret", PGNODE_PASSFILE: "secret" },
      answer === undefined ? {} : { one: answer },
    );
  const acts = (ran: Ran): string[] => ran.calls.filter((call) => !call.startsWith("inspect "));

  test("is given by name, so that no value is on a command line", async () => {
    const ran = await configure("");
    expect([ran.code, acts(ran)]).toEqual([
      0,
      [
        "exec -u postgres -e PGNODE_TIMEOUT -i -e PGNODE_CONF -e PGNODE_HBA -e PGNODE_PASSFILE -e PGNODE_SLOT -e PGNODE_ALTERNATIVE_NAMES one pgnode configure",
        "exec -u postgres -e PGNODE_TIMEOUT one pgnode role",
      ],
    ]);
  });

  test("gets the key of the CA on standard input, where its certificate is made, and nowhere else", async () => {
    const ran = await run(
      "configure",
      { NODE_NAME: "pg1", NODE_CONTAINER: "one", ...FILES, PGNODE_ALTERNATIVE_NAMES: "DNS:pg1" },
      { one: "" },
      "the CA's\nkey\n",
    );
    expect([ran.code, ran.stdin("one")]).toEqual([0, "the CA's\nkey\n"]);
    expect(ran.calls.join("\n")).not.toContain("key");
  });

  test("restarts the server only when a setting asks for it, and waits until it is back", async () => {
    const ran = await configure('case $action in configure) echo "restart: max_connections" ;; esac');
    expect([ran.code, acts(ran).map((call) => call.split(" ")[0])]).toEqual([0, ["exec", "restart", "exec", "exec"]]);
    expect(acts(ran)[2]).toMatch(/ one pgnode ready$/);
  });

  test.each([
    ["gone", undefined, ""],
    ["stopped", state("exited"), "pgnode: node pg1 does not run: its settings are brought by the next up after it was started\n"],
  ])("waits for another run when the node is %s", async (_what, answer, said) => {
    const ran = await configure(answer);
    expect([ran.code, ran.stderr, acts(ran)]).toEqual([0, said, []]);
  });

  const log = "case $verb in logs) echo LOG; echo 'pgnode: the volume holds the cluster of node two'; exit 0 ;; esac";
  test("fails when pgnode fails, and ends with what the node itself said last", async () => {
    const ran = await configure(`${log}\ncase $action in configure) echo "pgnode: no" >&2; exit 1 ;; esac`);
    expect([ran.code, ran.stderr.trimEnd().split("\n").at(-1)]).toEqual([1, "pgnode: the volume holds the cluster of node two"]);
    expect(ran.stderr).toContain("pgnode: no\n");
  });

  test("fails when the restart fails, and when the server does not come back", async () => {
    const restart = 'case $action in configure) echo "restart: x"; exit 0 ;; esac';
    expect((await configure(`${restart}\ncase $verb in restart) exit 1 ;; esac`)).code).not.toBe(0);
    expect((await configure(`${restart}\n${log}\ncase $action in ready) exit 1 ;; esac`)).stderr).toContain("the cluster of node two");
  });
});

describe("the configuration of a node whose server does not start with the settings that it has", () => {
  const environment = {
    ...{ NODE_NAME: "pg1", NODE_CONTAINER: "one", NODE_CONTAINERS: "one two", PGNODE_CONF: "conf", PGNODE_HBA: "hba" },
    ...{ ...FILES, PGNODE_PASSFILE: "*:*:*:u:it's secret" },
  };
  const configure = (answer: string): Promise<Ran> => run("configure", environment, { one: answer });
  const saysLast = (text: string): string => `case $verb in logs) [ -e "$FAKE/started" ] || echo '${text}'; exit 0 ;; esac`;
  const REFUSED = saysLast('2026 FATAL:  configuration file "/x/postgresql.conf" contains errors');
  // It runs again once it was started with what the helper has written.
  const CURED = 'case $verb in run) : >"$FAKE/started"; exit 0 ;; start) becomes state running ;; esac';
  const RESTARTS = "case $all in *State.Status*) was state restarting; exit 0 ;; esac";

  test("is written by a helper on its volume while it is stopped; then it is started and waited for", async () => {
    const ran = await configure(`${CURED}\n${RESTARTS}\n${REFUSED}`);
    expect([ran.code, ran.stderr]).toEqual([0, "pgnode: node pg1 does not start with the settings that it has: it gets the stack's\n"]);
    expect(changes(ran)).toEqual([
      "stop -t 60 one",
      "rm -f -v one-settings",
      expect.stringMatching(
        /^run --rm -i --name one-settings --user 0:0 --entrypoint sh --network none --tmpfs \/tmp --volumes-from one -e PGNODE_NAME -e PGNODE_ALTERNATIVE_NAMES -e PGNODE_CONF -e PGNODE_HBA +-c cat >\/tmp\/pgnode && exec sh \/tmp\/pgnode configure-stopped$/,
      ),
      "start one",
    ]);
    expect(ran.calls.at(-1)).toMatch(/ one pgnode role$/);
  });

  test("has its password on standard input, before the program, and nowhere else", async () => {
    const ran = await configure(`${CURED}\n${RESTARTS}\n${REFUSED}`);
    expect(ran.stdin("one")).toBe("export PGNODE_PASSFILE='*:*:*:u:it'\\''s secret'\nprogram\n");
    expect(ran.calls.join("\n")).not.toContain("secret");
  });

  test("has the key of the CA there as well, and exports it to no program", async () => {
    const ran = await run(
      "configure",
      { ...environment, PGNODE_ALTERNATIVE_NAMES: "DNS:pg1" },
      { one: `${CURED}\n${RESTARTS}\n${REFUSED}` },
      "the\nkey\n",
    );
    expect(ran.stdin("one")).toMatch(/^export PGNODE_PASSFILE='[^]*'\nAUTHORITY_KEY='the\nkey'\nprogram\n$/);
    expect(ran.calls.join("\n")).not.toContain("key");
  });

  test("is written as well when the server ends while it is asked", async () => {
    const ends = "case $action in configure) becomes state restarting; exit 137 ;; esac";
    const ran = await configure(`${CURED}\n${ends}\n${REFUSED}`);
    expect([ran.code, changes(ran).at(-1)]).toEqual([0, "start one"]);
  });

  test.each([
    'FATAL:  configuration file "/x" contains errors',
    "FATAL:  recovery aborted because of insufficient parameter settings",
    'FATAL:  could not load server certificate file "/var/lib/pgnode/own/server.crt": no start line',
    'FATAL:  could not load private key file "/var/lib/pgnode/own/server.key": no start line',
    'FATAL:  private key file "/var/lib/pgnode/own/server.key" has group or world access',
    "FATAL:  check of private key failed: key values mismatch",
    "FATAL:  could not load /var/lib/pgnode/data/pg_hba.conf",
    "FATAL:  could not map anonymous shared memory: Cannot allocate memory",
    'FATAL:  could not access file "x": No such file or directory',
  ])("is brought for what the commands take for such a reason, too: %s", async (line) => {
    expect(refusesSettings(line.replace(/^FATAL: +/, ""))).toBe(true);
    expect(changes(await configure(`${CURED}\n${RESTARTS}\n${saysLast(`2026 ${line}`)}`))).toContain("start one");
  });

  test("waits for another run when it stops again and again for any other reason", async () => {
    const ran = await configure(`${RESTARTS}\n${saysLast("pgnode: node pg1 stays down: two may be the primary")}`);
    expect([ran.code, changes(ran)]).toEqual([0, []]);
    expect(ran.stderr).toBe("pgnode: node pg1 does not run: its settings are brought by the next up after it was started\n");
  });

  test.each<NodeJS.Signals>(["SIGTERM", "SIGINT", "SIGHUP"])(
    "runs again when the step is ended by %s while the node is stopped",
    async (signal) => {
      // The helper waits until the test has ended the step.
      const helper = 'case $verb in run) : >"$FAKE/helps"; while [ ! -e "$FAKE/ended" ]; do sleep 0.05; done; exit 1 ;; esac';
      const ran = await run("configure", environment, { one: `${helper}\n${RESTARTS}\n${REFUSED}` }, "", "", (child, fake) => {
        const timer = setInterval(() => {
          if (existsSync(join(fake, "helps"))) {
            clearInterval(timer);
            child.kill(signal);
            writeFileSync(join(fake, "ended"), "");
          }
        }, 20);
        child.on("close", () => clearInterval(timer));
      });
      expect([ran.code, changes(ran).at(-1)]).toEqual([1, "start one"]);
      expect(changes(ran).filter((call) => call === "start one")).toHaveLength(1);
    },
  );

  test("that the server does not start with either fails, with what the helper says, and leaves the node to Docker as it was", async () => {
    const helper = 'case $verb in run) echo "pgnode: node pg1 does not start with its settings (x)" >&2; exit 1 ;; esac';
    const ran = await configure(`${helper}\n${RESTARTS}\n${REFUSED}`);
    expect([ran.code, ran.stderr.trimEnd().split("\n").at(-1)]).toEqual([1, "pgnode: node pg1 does not start with its settings (x)"]);
    expect(changes(ran).at(-1)).toBe("start one");
  });

  test("fails when it does not come up all the same, with its last words", async () => {
    const again = [
      "case $all in *RestartCount*) n=$(was n 0); becomes n $((n + 1)); echo $n; exit 0 ;; esac",
      "case $action in role) exit 1 ;; esac",
      "case $verb in run) exit 0 ;; start) becomes state restarting; exit 0 ;; esac",
    ].join("\n");
    const ran = await configure(`${again}\n${RESTARTS}\n${saysLast('2026 FATAL:  could not access file "x": No such file')}`);
    expect([ran.code, ran.stderr.trimEnd().split("\n").at(-1)]).toEqual([
      1,
      'pgnode: node pg1 has the stack\'s settings and does not come up: 2026 FATAL:  could not access file "x": No such file',
    ]);
  });
});

describe("a node whose Docker engine does not answer", () => {
  const NO_ANSWER = "Cannot connect to the Docker daemon at tcp://db2:1. Is the docker daemon running?";
  const AWAY = `echo "${NO_ANSWER}" >&2; exit 1`;
  const node = { NODE_NAME: "pg2", NODE_CONTAINER: "two", NODE_CONTAINERS: "one two", DOCKER_HOST: "tcp://db2:1", PGNODE_SLOT: "pg2" };
  /** The verbs of docker that were meant for it. */
  const verbs = (ran: Ran): string[] => [
    ...new Set(ran.calls.filter((call) => !/ one( |$)/.test(call)).map((call) => call.split(" ")[0] ?? "")),
  ];
  const silent = { one: PRIMARY, two: AWAY };
  // The engine as a whole is asked with no container's name.
  const whole = `case $verb in version) ${AWAY} ;; esac`;

  test.each(["configure", "ready"] as const)("ends its %s with one line, and nothing is tried there", async (script) => {
    const ran = await run(script, { ...node, NODE_START: "yes" }, silent, "", whole);
    expect([ran.code, ran.stderr]).toEqual([
      1,
      `pgnode: the Docker engine of node pg2 at tcp://db2:1 does not answer: ${NO_ANSWER}. What is to be changed there is left for the next up\n`,
    ]);
    expect(verbs(ran)).toEqual(["inspect", "version"]);
  });

  test("makes its slot when it starts, like any node that does not run", async () => {
    const ran = await run("slot", { ...SQL, ...node }, silent);
    expect([ran.code, asked(ran)]).toEqual([0, []]);
  });

  test.each([
    NO_ANSWER,
    'error during connect: Get \\"http://docker.example.com/v1.50/info\\": command [ssh db2] has exited with exit status 255',
  ])("may be the primary for all that anybody knows: SQL goes to another one that is, else it is said (%s)", async (said) => {
    const away = says(said, 1);
    const other = await onPrimary({ one: away, two: PRIMARY });
    expect([other.code, asked(other)]).toEqual([0, ["one", "two"]]);
    const nobody = await onPrimary({ one: away, two: STANDBY });
    expect([nobody.code, nobody.stderr]).toEqual([
      1,
      "pgnode: no primary among one two. The Docker engine of container one does not answer.\n",
    ]);
  });

  test("is not taken for a node that is not there: kept data begins no cluster beside it", async () => {
    const environment = { ...node, NODE_CONTAINER: "one", NODE_NAME: "pg1", DOCKER_HOST: "tcp://db1:1" };
    const ran = await run("ready", environment, { one: "case $action in role) was role kept; exit 0 ;; esac", two: AWAY });
    expect([ran.code, ran.calls.filter((call) => call.endsWith("pgnode promote"))]).toEqual([1, []]);
  });

  test("is not waited for by the others", async () => {
    const environment = { ...node, NODE_CONTAINER: "one", NODE_NAME: "pg1", DOCKER_HOST: "tcp://db1:1" };
    expect(await run("ready", environment, { one: PRIMARY, two: AWAY })).toMatchObject({ code: 0, stderr: "" });
    expect(await run("configure", { ...environment, NODE_FILES: "", NODE_SECRETS: "" }, { one: PRIMARY, two: AWAY })).toMatchObject({
      code: 0,
      stderr: "",
    });
  });
});

describe("the birth of a node", () => {
  const environment = {
    ...{ NODE_ACTION: "clone", NODE_HELPER: "helper", NODE_LABELS: "a=b c=d", NODE_IMAGE: "img", NODE_VOLUME: "vol", NODE_NETWORK: "net" },
    ...{ NODE_PASS: "PGNODE_NAME PGNODE_SLOT", PGNODE_NAME: "secret" },
  };

  test("runs pgnode once in a labelled helper on the volume, after an old helper is gone", async () => {
    const ran = await run("birth", environment, {}, "the program");
    expect([ran.code, ran.calls]).toEqual([
      0,
      [
        "rm -f -v helper",
        "run --rm -i --name helper --user 0:0 --entrypoint sh --network net --tmpfs /tmp -v vol:/var/lib/pgnode --label a=b --label c=d -e PGNODE_NAME -e PGNODE_SLOT img -c cat >/tmp/pgnode && exec sh /tmp/pgnode clone",
      ],
    ]);
    expect(ran.stdin("run")).toBe("the program");
  });

  test("needs no network where none is given", async () => {
    expect((await run("birth", { ...environment, NODE_NETWORK: "" }, {})).calls[1]).toContain(" --network none ");
  });
});

describe("a node is ready", () => {
  const environment = {
    ...{ NODE_NAME: "pg2", NODE_CONTAINER: "two", NODE_CONTAINERS: "one two", NODE_NETWORK: "net", PGNODE_SLOT: "pg_2" },
    ...{ NODE_PROGRAM: "/bin/pgnode", NODE_CLONE: 'cat >"$FAKE/stdin-clone"; docker run "$NODE_ACTION"; : >"$FAKE/cloned"' },
  };
  const ready = (answers: Record<string, string>, more: Record<string, string> = {}): Promise<Ran> =>
    run("ready", { ...environment, ...more }, answers, "export PGNODE_PASSFILE=x\n");
  const STREAMS = "case $action in streaming) exit 0 ;; esac";
  const SLOT = "SELECT pg_create_physical_replication_slot('pg_2', true) WHERE NOT EXISTS";

  test("when it is the one primary", async () => {
    const ran = await ready({ one: STREAMS, two: PRIMARY });
    expect([ran.code, ran.stderr, changes(ran)]).toEqual([0, "", []]);
  });

  test("when it is the one primary and the standbys, which were without it for a moment, stream again", async () => {
    const again = 'case $action in streaming) [ -e "$FAKE/twice" ]; code=$?; : >"$FAKE/twice"; exit $code ;; esac';
    const ran = await ready({ one: again, two: PRIMARY });
    expect([ran.code, ran.stderr, changes(ran)]).toEqual([0, "", []]);
    const looks = ran.calls.filter((call) => call.endsWith("one pgnode streaming"));
    expect(looks).toEqual(Array(2).fill("exec -u postgres -e PGNODE_TIMEOUT -e PGNODE_SLOT one pgnode streaming"));
  });

  test("when it is the one primary, and a standby that stays away is said", async () => {
    const ran = await ready({ one: STANDBY, two: PRIMARY }, { PGNODE_TIMEOUT: "1" });
    const said = "pgnode: container one does not stream from node pg2 after 1 s. Run: npm run status\n";
    expect([ran.code, ran.stderr, changes(ran)]).toEqual([0, said, []]);
  });

  test("but not beside another writer", async () => {
    const ran = await ready({ one: PRIMARY, two: PRIMARY });
    expect([ran.code, ran.stderr]).toEqual([1, "pgnode: more than one writer: pg2 and one. Run: npm run status\n"]);
  });

  test("when it streams, through its own slot: being a standby is not enough", async () => {
    const ran = await ready({ one: PRIMARY, two: STREAMS });
    expect([ran.code, ran.stderr, changes(ran)]).toEqual([0, "", []]);
    expect(ran.calls.at(-1)).toBe("exec -u postgres -e PGNODE_TIMEOUT -e PGNODE_SLOT -e PGNODE_NAME two pgnode streaming");
  });

  test("once its slot is made on the primary, where it was missing", async () => {
    const ran = await ready({ one: PRIMARY, two: 'case $action in streaming) [ -e "$FAKE/stdin-one" ]; exit ;; esac' });
    expect([ran.code, changes(ran)]).toEqual([0, []]);
    expect(ran.stdin("one")).toContain(SLOT);
    expect(ran.stdin("two")).toBe("");
  });

  test("once the others are in its network again, under their own names", async () => {
    const lost = 'case $all in *NetworkSettings*) echo "bridge "; exit 0 ;; "network connect"*) : >"$FAKE/joined" ;; esac';
    const ran = await ready({ one: `${PRIMARY}\n${lost}`, two: 'case $action in streaming) [ -e "$FAKE/joined" ]; exit ;; esac' });
    expect([ran.code, changes(ran)]).toEqual([0, ["network connect --alias host-one net one"]]);
  });

  const EMPTY =
    'case $verb in logs) [ -e "$FAKE/cloned" ] || echo "pgnode: [no-cluster] node pg2 has no cluster in its volume"; exit 0 ;; esac';
  const NO_ROLE = 'case $action in role) [ -e "$FAKE/cloned" ] && echo standby; exit 0 ;; streaming) exit 0 ;; esac';

  test("once its empty volume is filled from the primary, after its slot is there", async () => {
    const ran = await ready({ one: PRIMARY, two: `${EMPTY}\n${NO_ROLE}` });
    expect(ran.code).toBe(0);
    expect(changes(ran)).toEqual(["stop -t 60 two", "run clone", "start two"]);
    expect(ran.calls.findIndex((call) => call.endsWith("one pgnode sql"))).toBeLessThan(ran.calls.indexOf("run clone"));
    expect(ran.stdin("one")).toContain(SLOT);
    expect(ran.calls).toContain("cp two:/bin/pgnode -");
    expect(ran.stdin("clone")).toBe("export PGNODE_PASSFILE=x\nprogram\n");
    expect(ran.stderr).toContain("the volume of node pg2 is empty: cloning it from whoever is primary (one)");
  });

  test("while what it said before its clone is still the last line of its log", async () => {
    const log = 'case $verb in logs) echo "pgnode: [no-cluster] node pg2 has no cluster in its volume"; exit 0 ;; esac';
    const slow = `case $action in role)
      [ -e "$FAKE/cloned" ] || exit 0
      [ -e "$FAKE/asked" ] && echo standby
      : >"$FAKE/asked"
      exit 0 ;;
    streaming) exit 0 ;; esac`;
    const ran = await ready({ one: PRIMARY, two: `${log}\n${slow}` });
    expect([ran.code, changes(ran)]).toEqual([0, ["stop -t 60 two", "run clone", "start two"]]);
  });

  test("never by an empty cluster: without a primary to fill its volume from it stays down, and says so", async () => {
    const ran = await ready({ one: STANDBY, two: `${EMPTY}\n${NO_ROLE}` });
    expect([ran.code, changes(ran)]).toEqual([1, []]);
    expect(ran.stderr).toMatch(
      /^pgnode: the volume of node pg2 is empty, and no other node is primary to fill it from\. It stays down\. .*\n$/,
    );
  });

  test("not when the clone fails, nor when the volume is still empty after it", async () => {
    const failed = await ready({ one: PRIMARY, two: `${EMPTY}\n${NO_ROLE}` }, { NODE_CLONE: 'echo "pgnode: no room" >&2; exit 1' });
    expect([failed.code, failed.stderr.trimEnd().split("\n").slice(-2)]).toEqual([
      1,
      ["pgnode: no room", "pgnode: cloning node pg2 failed (see above)"],
    ]);
    expect(changes(failed)).toEqual(["stop -t 60 two"]);
    const still = await ready({ one: PRIMARY, two: `${EMPTY}\n${NO_ROLE}` }, { NODE_CLONE: "docker run", PGNODE_TIMEOUT: "1" });
    expect([still.code, still.stderr.trimEnd().split("\n").at(-1)]).toEqual([
      1,
      expect.stringContaining("The last it said: node pg2 has no cluster in its volume."),
    ]);
    expect(changes(still).filter((call) => call === "run")).toHaveLength(1);
  });

  test.each(["exited", "created", "dead"])("not waited for when it is %s, and not started", async (word) => {
    const ran = await ready({ one: PRIMARY, two: state(word) });
    expect([ran.code, changes(ran)]).toEqual([0, []]);
    expect(ran.stderr).toBe(
      "pgnode: node pg2 is stopped, and is not waited for. Start it with the config key startStopped, or: docker start two\n",
    );
  });

  test("once it is started, where the config says that stopped nodes are", async () => {
    const ran = await ready({ one: PRIMARY, two: `${state("exited")}\n${STREAMS}` }, { NODE_START: "yes" });
    expect([ran.code, ran.stderr, changes(ran)]).toEqual([0, "", ["start two"]]);
  });

  test("not waited for, nor thawed, when it is paused", async () => {
    const ran = await ready({ one: PRIMARY, two: state("paused") }, { NODE_START: "yes" });
    expect([ran.code, ran.stderr, changes(ran)]).toEqual([0, "pgnode: node pg2 is paused, and is not waited for\n", []]);
  });

  const KEPT = "case $action in role) was role kept; exit 0 ;; esac";

  test("once it is promoted with the data that was kept, where nobody else is there", async () => {
    const ran = await ready({ two: KEPT });
    expect([ran.code, ran.stderr]).toEqual([0, "pgnode: node pg2 has the newest data that was kept: it becomes the primary\n"]);
    expect(ran.calls.filter((call) => call.endsWith("pgnode promote"))).toHaveLength(1);
  });

  test.each(["running", "exited"])(
    "not promoted with kept data while another container is there (%s), which may have newer",
    async (word) => {
      const ran = await ready({ one: state(word), two: KEPT });
      expect([ran.code, ran.calls.filter((call) => call.endsWith("pgnode promote"))]).toEqual([1, []]);
      expect(ran.stderr).toBe(
        "pgnode: node pg2 was to become the primary with the data that was kept, and container one is there already. Run: npm run status, then npm run failover\n",
      );
    },
  );

  test("given up after three restarts, with the node's last words", async () => {
    const counting = `case $all in *RestartCount*) n=$(was n 4); becomes n $((n + 1)); echo "$n"; exit 0 ;; esac`;
    const log = 'case $verb in logs) echo "pgnode: the volume belongs to somebody else"; exit 0 ;; esac';
    const ran = await ready({ one: PRIMARY, two: `${counting}\n${log}\ncase $action in role) exit 1 ;; esac` });
    expect([ran.code, ran.stderr]).toEqual([1, "pgnode: node pg2 does not come up: the volume belongs to somebody else\n"]);
    expect(ran.calls.filter((call) => call.includes("RestartCount"))).toHaveLength(4);
  });

  const CUT_OFF = 'case $verb in logs) echo "2026 FATAL:  could not connect to the primary server"; exit 0 ;; esac';

  test("given up at the deadline, whatever it does, with the node's last words", async () => {
    const ran = await ready({ one: PRIMARY, two: CUT_OFF }, { PGNODE_TIMEOUT: "0" });
    expect([ran.code, ran.stderr]).toEqual([
      1,
      "pgnode: node pg2 is neither primary nor streaming after 0 s. The last it said: 2026 FATAL:  could not connect to the primary server. Its log: docker logs two\n",
    ]);
  });

  test("given up at the deadline with the command to run where there is nobody to stream from", async () => {
    const ran = await ready({ one: state("exited"), two: CUT_OFF }, { PGNODE_TIMEOUT: "0" });
    expect([ran.code, ran.stderr]).toEqual([
      1,
      "pgnode: node pg2 is neither primary nor streaming after 0 s. No node is primary. Run: npm run status, then npm run failover. The last it said: 2026 FATAL:  could not connect to the primary server. Its log: docker logs two\n",
    ]);
  });
});
