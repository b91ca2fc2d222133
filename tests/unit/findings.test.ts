import { findingsOf, type Kind, nearlyFull, notOneWriter } from "../../core/judgement/findings";
import { DEFAULT_LIMITS } from "../../core/judgement/limits";
import type { Observation } from "../../core/judgement/observation";
import { saidOf, wordsOf } from "../../core/judgement/words";
import { adviceOf, explain } from "../../operations/look/advice";
import { assess, exitCodeOf, type Problem, type Status } from "../../operations/look/documents";
import { EXAMPLES } from "./examples";
import { primary, replica, silent, slot, standby } from "./observations";

const MIB = 1024 * 1024;

/** The problems of one node; `""` for the whole stack. */
const problemsOf = (status: Status, node: string): Pick<Problem, "node" | "what" | "fix">[] =>
  status.problems.filter((p) => p.node === node).map(({ what, fix }) => ({ node, what, fix }));
const look = (...observed: Observation[]): Status => assess("dev", observed);

const named = (observed: readonly Observation[]): string[] => findingsOf(observed).map(({ kind, node }) => `${kind} ${node}`);

describe("what is found when", () => {
  const all = Object.entries(EXAMPLES).map(([when, example]) => ({ when, ...example }));

  test.each(all)("$when: kind, severity, facts and remedy", ({ observed, finding, all: kinds }) => {
    expect(findingsOf(observed)).toContainEqual(finding);
    expect(named(observed)).toEqual(kinds);
  });

  test.each(all)("$when: what is said, and what to run", ({ finding, words, advice }) => {
    expect(wordsOf(finding)).toBe(words);
    expect(saidOf(finding)).toBe(finding.node === "" ? words : `${finding.node}: ${words}`);
    expect(adviceOf(finding.remedy, "dev")).toBe(advice);
  });

  test("every kind has an example", () => {
    const kinds: Record<Kind, true> = {
      "no-primary": true,
      "several-primaries": true,
      "no-replica": true,
      "node-down": true,
      "not-streaming": true,
      lag: true,
      "replay-paused": true,
      "slot-missing": true,
      "slot-inactive": true,
      "slot-lost": true,
      "disk-nearly-full": true,
      "password-changed": true,
      tablespaces: true,
      "certificate-expiring": true,
      "certificate-expired": true,
      "certificate-provisional": true,
    };
    expect(new Set(all.map(({ finding }) => finding.kind))).toEqual(new Set(Object.keys(kinds)));
  });

  test("a refusal says of it the same as status", () => {
    const example = EXAMPLES["a standby is not connected, and its disk is full"];
    expect(example && explain(example.finding, "dev")).toBe(`${example?.words}. Run: ${example?.advice}`);
    const sentence = EXAMPLES["two are primary"];
    expect(sentence && explain(sentence.finding, "dev")).toMatch(
      /^more than one writer: pg1 and pg2\. Stop the wrong one at once: docker stop /,
    );
  });
});

describe("findings", () => {
  test("are none of a healthy stack, before and after a failover, nor of a node alone", () => {
    expect(findingsOf([primary("pg1", ["pg2", "db-c"]), standby("pg2"), standby("db-c")])).toEqual([]);
    expect(findingsOf([standby("pg1", { timeline: 2 }), primary("pg2", ["pg1"], { timeline: 2 })])).toEqual([]);
    expect(findingsOf([primary("pg1", [])])).toEqual([]);
  });

  test("begin with the worst, and are in the order of the nodes else", () => {
    const full = { totalBytes: 1000, freeBytes: 1 };
    expect(
      named([
        { ...silent("pg1", "exited"), disk: full },
        { ...standby("pg2", { replayPaused: true }), disk: full },
      ]),
    ).toEqual(["no-primary ", "node-down pg1", "disk-nearly-full pg1", "disk-nearly-full pg2"]);
    const paused = primary("pg1", ["pg2"], { changedPasswords: ["app"], tablespaces: ["a in /a"] });
    expect(named([standby("pg2", { replayPaused: true }), { ...paused, disk: full }])).toEqual([
      "disk-nearly-full pg1",
      "tablespaces pg1",
      "replay-paused pg2",
      "password-changed pg1",
    ]);
  });

  test("of one standby can be several: each says what it knows", () => {
    const slots = [slot("pg2", { active: false, retainedBytes: 5 })];
    const away = standby("pg2", { receiver: null, replayLsn: "0/3FFFFFF", lagSeconds: 61, replayPaused: true });
    expect(named([primary("pg1", ["pg2"], { replicas: [], slots }), away])).toEqual([
      "no-replica ",
      "not-streaming pg2",
      "lag pg2",
      "lag pg2",
      "slot-inactive pg2",
    ]);
  });

  test("of lag go by the limits that are given, to the byte and the second", () => {
    const observed = (lagBytes: number, lagSeconds: number, applyDelay: string | null = null): Observation[] => [
      primary("pg1", ["pg2"], { replicas: [replica("pg2", { lagBytes })] }),
      standby("pg2", { lagSeconds, applyDelay }),
    ];
    const limits = { lagBytes: 1000, lagSeconds: 5 };
    expect(findingsOf(observed(1000, 5), limits)).toEqual([]);
    expect(findingsOf(observed(1001, 5), limits).map(({ facts }) => facts)).toMatchObject([{ amount: 1001, unit: "bytes", limit: 1000 }]);
    expect(findingsOf(observed(1000, 6), limits).map(({ facts }) => facts)).toMatchObject([{ amount: 6, unit: "s", limit: 5 }]);
    expect(DEFAULT_LIMITS).toEqual({ lagBytes: 16 * MIB, lagSeconds: 60 });
  });

  test("of seconds are none where nothing is left to replay, nor of a standby that is late on purpose", () => {
    const observed = (lagBytes: number, applyDelay: string | null): Observation[] => [
      primary("pg1", ["pg2"], { replicas: [replica("pg2", { lagBytes })] }),
      standby("pg2", { lagSeconds: 86_400, applyDelay }),
    ];
    expect(named(observed(0, null))).toEqual([]);
    expect(named(observed(1, "1d"))).toEqual([]);
    expect(named(observed(1, null))).toEqual(["lag pg2"]);
  });

  test("of a slot that is inactive point to what is wrong with its node", () => {
    const slots = [slot("pg2", { active: false }), slot("pg3")];
    const remedies = (pg2: Observation): unknown[] =>
      findingsOf([primary("pg1", ["pg3"], { slots }), pg2, standby("pg3")])
        .filter(({ kind }) => kind === "slot-inactive")
        .map(({ remedy }) => remedy);
    expect(remedies(silent("pg2", null))).toEqual([{ do: "up", gone: true }]);
    expect(remedies(silent("pg2", "restarting"))).toEqual([{ do: "read-log", container: "postgres-replica-dev-pg2" }]);
    expect(remedies(standby("pg2", { receiver: null }))).toEqual([{ do: "read-log", container: "postgres-replica-dev-pg2" }]);
  });

  test("of a slot that is inactive are none while its node is cloned: it keeps WAL for the copy of a standby", () => {
    const slots = [slot("pg2", { active: false, retainedBytes: 5 }), slot("pg3")];
    const cloning = { ...silent("pg2", "running"), code: "cloning" as const };
    expect(named([primary("pg1", ["pg3"], { slots }), cloning, standby("pg3")])).toEqual(["node-down pg2"]);
    expect(
      named([primary("pg1", ["pg3"], { slots: [slot("pg2", { active: false, walStatus: "lost" }), slot("pg3")] }), cloning]),
    ).toContain("slot-lost pg2");
  });

  test("of nobody who streams: a standby that catches up does not count, and one that streams does, whoever it is", () => {
    expect(named([primary("pg1", ["pg2"], { replicas: [replica("pg2", { state: "catchup" })] }), standby("pg2")])).toEqual([
      "no-replica ",
      "not-streaming pg2",
    ]);
    expect(named([primary("pg1", [], { replicas: [replica("elsewhere")] }), silent("pg2", "exited")])).toEqual(["node-down pg2"]);
  });

  test("of two writers are not mixed with what only one primary could tell", () => {
    const slots = [slot("pg3", { active: false })];
    const observed = [
      primary("pg1", [], { slots, changedPasswords: ["app"], tablespaces: ["a in /a"] }),
      primary("pg2", []),
      standby("pg3"),
    ];
    expect(named(observed)).toEqual(["several-primaries "]);
    expect(named([...observed, silent("pg4", "exited")])).toEqual(["several-primaries ", "node-down pg4"]);
  });

  test("tell whether there is one writer without all the rest", () => {
    expect(notOneWriter([primary("pg1", []), silent("pg2", "exited")])).toBeUndefined();
    expect(notOneWriter([standby("pg1"), silent("pg2", null)])?.facts).toEqual({ gone: ["pg2"] });
    expect(notOneWriter([primary("pg1", []), primary("pg2", [])])?.kind).toBe("several-primaries");
  });
});

describe("a healthy stack", () => {
  const healthy = (): Status => look(primary("pg1", ["pg2"]), standby("pg2"));

  test("has one primary, no problems, exit code 0", () => {
    const status = healthy();
    expect(status.primary).toBe("pg1");
    expect(status.problems).toEqual([]);
    expect(exitCodeOf(status)).toBe(0);
  });

  test("is as healthy after a failover, whatever the order of the nodes", () => {
    const after = look(standby("pg1", { timeline: 2 }), primary("pg2", ["pg1"], { timeline: 2 }));
    expect(after.primary).toBe("pg2");
    expect(after.nodes.map((n) => [n.name, n.role, n.slot])).toEqual([
      ["pg1", "standby", "pg1"],
      ["pg2", "primary", null],
    ]);
    expect(exitCodeOf(after)).toBe(0);
  });

  test("may be one node alone", () => {
    expect(exitCodeOf(look(primary("pg1", [])))).toBe(0);
  });
});

describe("two primaries", () => {
  const split = (): Status => look(primary("pg1", []), primary("pg2", [], { timeline: 2 }), standby("pg3"));

  test("leave nobody to be called the primary, exit code 2", () => {
    const status = split();
    expect(status.primary).toBeNull();
    expect(exitCodeOf(status)).toBe(2);
  });

  test("are both named, with the command that stops either", () => {
    const status = split();
    for (const node of ["pg1", "pg2"]) {
      expect(problemsOf(status, node)).toEqual([
        { node, what: "more than one writer: pg1 and pg2", fix: `stop the wrong one at once: docker stop postgres-replica-dev-${node}` },
      ]);
    }
  });
});

describe("no primary", () => {
  test("is exit code 2 and a problem of the whole stack", () => {
    const status = look(silent("pg1", "exited"), standby("pg2"));
    expect(exitCodeOf(status)).toBe(2);
    expect(problemsOf(status, "").map((p) => p.what)).toEqual(["no node is primary"]);
  });

  test("is fixed by a failover when every container is there", () => {
    const { fix } = problemsOf(assess("prod", [silent("pg1", "exited"), standby("pg2")]), "")[0] ?? {};
    expect(fix).toMatch(/^npm run failover -- --stack prod( |$)/);
  });

  test("leaves a node that is down only to be started: there is nobody to rejoin", () => {
    const status = look(silent("pg1", "exited"), standby("pg2"));
    expect(problemsOf(status, "pg1").map((p) => p.fix)).toEqual(["docker start postgres-replica-dev-pg1"]);
  });

  test("that is only paused is fixed by a thaw", () => {
    expect(problemsOf(look(silent("pg1", "paused"), standby("pg2")), "pg1").map((p) => p.fix)).toEqual([
      "docker unpause postgres-replica-dev-pg1",
    ]);
  });

  test("is fixed by up when a container is not there", () => {
    expect(problemsOf(assess("prod", [silent("pg1", null), standby("pg2")]), "")[0]?.fix).toBe("npm run up -- --stack prod");
  });
});

describe("a node that does not answer", () => {
  test.each([
    ["exited", "down", "its container is exited", "npm run rejoin -- pg2 --stack dev"],
    ["created", "down", "its container is created", "npm run rejoin -- pg2 --stack dev"],
    ["dead", "down", "its container is dead", "npm run rejoin -- pg2 --stack dev"],
    ["restarting", "down", "its container stops again and again", "docker logs postgres-replica-dev-pg2"],
    [null, "down", "its container is not there", "npm run up -- --stack dev"],
    ["running", "unknown", "its container is running, but the server does not answer", "docker logs postgres-replica-dev-pg2"],
    ["paused", "unknown", "its container is paused, but the server does not answer", "npm run rejoin -- pg2 --stack dev"],
  ])("in a container that is %s is %s", (state, role, what, fix) => {
    const status = look(primary("pg1", []), silent("pg2", state));
    expect(status.nodes[1]).toMatchObject({ role, timeline: null, lsn: null, lagBytes: null, lagSeconds: null });
    expect(problemsOf(status, "pg2")).toEqual([{ node: "pg2", what, fix }]);
    expect(exitCodeOf(status)).toBe(1);
  });
});

test("a container that stops again and again is not told to rejoin or start, primary or not: its log has the reason", () => {
  expect(problemsOf(look(silent("pg1", "restarting"), standby("pg2")), "pg1").map((p) => p.fix)).toEqual([
    "docker logs postgres-replica-dev-pg1",
  ]);
});

test("the fixes name the stack that they are for", () => {
  const { problems } = assess("prod", [
    primary("pg1", [], { slots: [slot("pg3", { walStatus: "lost" })], replicas: [replica("pg3")] }),
    silent("pg2", "exited"),
    standby("pg3"),
    silent("pg4", null),
  ]);
  expect(problems.map((p) => [p.node, p.fix])).toEqual([
    ["pg2", "npm run rejoin -- pg2 --stack prod"],
    ["pg3", "npm run rejoin -- pg3 --stack prod"],
    ["pg4", "npm run up -- --stack prod"],
  ]);
});

describe("a standby", () => {
  const withReplica = (changes: Parameters<typeof replica>[1]): Status =>
    look(primary("pg1", ["pg2"], { replicas: [replica("pg2", changes)] }), standby("pg2", { replayLsn: "0/4FFFF00" }));

  test("that is not connected does not stream; its lag is what the positions say", () => {
    const status = look(primary("pg1", ["pg2"], { replicas: [] }), standby("pg2", { replayLsn: "0/4FFFF00" }));
    expect(problemsOf(status, "pg2")).toEqual([
      { node: "pg2", what: "it does not stream from pg1 (not connected)", fix: "docker logs postgres-replica-dev-pg2" },
    ]);
    expect(status.nodes[1]).toMatchObject({ lagBytes: 256, syncState: null });
    expect(exitCodeOf(status)).toBe(1);
  });

  test("that streams from another one than the primary is told apart from one that does not stream", () => {
    const cascading = standby("pg3", { receiver: { status: "streaming", slot: "pg3", from: "pg2" } });
    const status = look(primary("pg1", ["pg2", "pg3"], { replicas: [replica("pg2")] }), standby("pg2"), cascading);
    expect(problemsOf(status, "pg3")).toEqual([
      { node: "pg3", what: "it streams from pg2, not from pg1", fix: "npm run up -- --stack dev" },
    ]);
  });

  test("that is late on purpose, and has to replay its own WAL before it streams, says so, and how to have it now", () => {
    const late = standby("pg2", { receiver: null, localWalRead: false, applyDelay: "10min" });
    expect(problemsOf(look(primary("pg1", ["pg2"], { replicas: [] }), late), "pg2")).toEqual([
      {
        node: "pg2",
        what: "it does not stream from pg1 before it has replayed the WAL that it has, which is late because recovery_min_apply_delay is 10min",
        fix: `docker exec -u postgres postgres-replica-dev-pg2 psql -c "ALTER SYSTEM SET recovery_min_apply_delay = 0" -c "SELECT pg_reload_conf()"`,
      },
    ]);
    const left = standby("pg2", { receiver: null, replayLsn: "0/4000000", applyDelay: "10min" });
    expect(problemsOf(look(primary("pg1", ["pg2"], { replicas: [] }), left), "pg2")[0]?.what).toMatch(/which is late/);
    const reads = standby("pg2", { receiver: null, applyDelay: "10min" });
    expect(problemsOf(look(primary("pg1", ["pg2"], { replicas: [] }), reads), "pg2")[0]?.what).toBe(
      "it does not stream from pg1 (not connected)",
    );
  });

  test("that is late on purpose, and streams, is no problem up to the threshold; beyond, the reason is given", () => {
    const of = (lagBytes: number): string[] =>
      look(
        primary("pg1", ["pg2"], { replicas: [replica("pg2", { lagBytes })] }),
        standby("pg2", { applyDelay: "10min", replayLsn: "0/4000000" }),
      ).problems.map((p) => p.what);
    expect(of(16 * MIB)).toEqual([]);
    expect(of(16 * MIB + 1)).toEqual([
      "it is 16777217 bytes behind pg1, more than 16777216, late because recovery_min_apply_delay is 10min",
    ]);
  });

  test("whose lag the primary does not know is not called behind", () => {
    expect(withReplica({ lagBytes: null }).problems).toEqual([]);
  });

  test("that is catching up does not stream yet", () => {
    expect(problemsOf(withReplica({ state: "catchup" }), "pg2")[0]?.what).toBe("it does not stream from pg1 (catchup)");
  });

  test("with more lag than the threshold is a problem, with just the threshold it is not", () => {
    expect(withReplica({ lagBytes: 16 * MIB }).problems).toEqual([]);
    const behind = withReplica({ lagBytes: 16 * MIB + 1 });
    expect(problemsOf(behind, "pg2")).toEqual([
      {
        node: "pg2",
        what: "it is 16777217 bytes behind pg1, more than 16777216",
        fix: "watch whether it catches up: npm run monitor -- --stack dev",
      },
    ]);
    expect(behind.nodes[1]?.lagBytes).toBe(16 * MIB + 1);
    expect(exitCodeOf(behind)).toBe(1);
  });

  test("without a slot may lose WAL that it needs; the fix makes the slot on the primary", () => {
    const status = look(primary("pg1", ["db-c"], { slots: [slot("other")] }), standby("db-c"));
    expect(problemsOf(status, "db-c")).toEqual([
      {
        node: "db-c",
        what: "pg1 has no slot db_c, so it may throw away WAL that the node needs",
        fix: `docker exec -u postgres postgres-replica-dev-pg1 psql -c "SELECT pg_create_physical_replication_slot('db_c', true)"`,
      },
    ]);
    expect(status.nodes[1]).toMatchObject({ slot: null, walStatus: null });
  });

  test("whose slot is lost has to rejoin, which clones it anew", () => {
    const status = look(primary("pg1", ["pg2"], { slots: [slot("pg2", { active: false, walStatus: "lost" })] }), standby("pg2"));
    expect(problemsOf(status, "pg2").map((p) => [p.what, p.fix])).toEqual([
      ["its slot pg2 is lost: WAL that the node needs is gone", "npm run rejoin -- pg2 --stack dev"],
    ]);
    expect(status.nodes[1]?.walStatus).toBe("lost");
    expect(exitCodeOf(status)).toBe(1);
  });

  test("is judged by its own entry, not by another's", () => {
    const status = look(
      primary("pg1", ["pg2", "pg3"], { replicas: [replica("pg2"), replica("pg3", { lagBytes: 99 * MIB })] }),
      standby("pg2"),
      standby("pg3"),
    );
    expect(problemsOf(status, "pg2")).toEqual([]);
    expect(problemsOf(status, "pg3")).toHaveLength(1);
    expect(status.nodes.map((node) => node.lagBytes)).toEqual([null, 0, 99 * MIB]);
  });
});

describe("a node whose log gives a reason", () => {
  const full = 'could not write to file "pg_wal/xlogtemp.7": No space left on device';

  test.each<[Observation, string, RegExp]>([
    [{ ...silent("pg2", "restarting"), reason: full }, `its container stops again and again: ${full}`, /^docker system df/],
    [{ ...silent("pg2", "exited"), reason: full }, `its container is exited: ${full}`, /^npm run rejoin -- pg2/],
    [
      { ...silent("pg2", "running"), reason: full },
      `its container is running, but the server does not answer: ${full}`,
      /^docker system df/,
    ],
  ])("shows it with what is wrong", (node, what, fix) => {
    expect(problemsOf(look(primary("pg1", []), node), "pg2")).toEqual([{ node: "pg2", what, fix: expect.stringMatching(fix) as string }]);
  });

  test("shows it only while it is not connected: later it is an old story", () => {
    const reason = 'password authentication failed for user "replica_user"';
    const away = { ...standby("pg2"), reason };
    expect(problemsOf(look(primary("pg1", ["pg2"], { replicas: [] }), away), "pg2")[0]?.what).toBe(
      `it does not stream from pg1 (not connected): ${reason}`,
    );
    const catchingUp = primary("pg1", ["pg2"], { replicas: [replica("pg2", { state: "catchup" })] });
    expect(problemsOf(look(catchingUp, away), "pg2")[0]?.what).toBe("it does not stream from pg1 (catchup)");
  });

  test("is told to run up when the primary refuses its password", () => {
    const away = { ...standby("pg2"), reason: 'password authentication failed for user "replica_user"' };
    expect(problemsOf(look(primary("pg1", ["pg2"], { replicas: [] }), away), "pg2")[0]?.fix).toBe("npm run up -- --stack dev");
  });

  test("is told to rejoin when only a clone helps", () => {
    const away = { ...standby("pg2"), reason: "requested WAL segment 000000010000000000000003 has already been removed" };
    expect(problemsOf(look(primary("pg1", ["pg2"], { replicas: [] }), away), "pg2")[0]?.fix).toBe("npm run rejoin -- pg2 --stack dev");
  });
});

test("a paused replay is a problem of its standby, and the fix goes on with it", () => {
  const status = look(primary("pg1", ["pg2"]), standby("pg2", { replayPaused: true }));
  expect(problemsOf(status, "pg2")).toEqual([
    {
      node: "pg2",
      what: "its replay is paused: it receives WAL and shows nothing new",
      fix: 'docker exec -u postgres postgres-replica-dev-pg2 psql -c "SELECT pg_wal_replay_resume()"',
    },
  ]);
});

test("a password that was changed by hand is a problem of the primary, which up fixes", () => {
  const status = look(primary("pg1", ["pg2"], { changedPasswords: ["app", "postgres"] }), standby("pg2", { changedPasswords: ["app"] }));
  expect(status.problems).toHaveLength(1);
  expect(problemsOf(status, "pg1")).toEqual([
    { node: "pg1", what: "the password of app and postgres is not the one that the stack has set", fix: "npm run up -- --stack dev" },
  ]);
});

test("tablespaces are a problem of the primary, which names each of them and says how to leave it", () => {
  const found = ["big in /mnt/big", "fast in /mnt/fast"];
  const status = look(primary("pg1", ["pg2"], { tablespaces: found }), standby("pg2", { tablespaces: found }));
  expect(status.problems).toHaveLength(1);
  expect(problemsOf(status, "pg1")).toEqual([
    {
      node: "pg1",
      what: expect.stringMatching(/^it has tablespaces \(big in \/mnt\/big, fast in \/mnt\/fast\), .* no node can be cloned$/) as string,
      fix: expect.stringMatching(/^on the primary .*SET TABLESPACE pg_default.*DROP TABLESPACE$/) as string,
    },
  ]);
});

describe("a disk", () => {
  const GIB = 1024 ** 3;

  test.each([
    [100 * GIB, 1.1 * GIB, false],
    [100 * GIB, 1 * GIB, false],
    [100 * GIB, 0.9 * GIB, true],
    [10 * GIB, 0.6 * GIB, false],
    [10 * GIB, 0.4 * GIB, true],
    [100 * GIB, 0, true],
  ])("of %d bytes with %d free is nearly full: %s", (totalBytes, freeBytes, expected) => {
    expect(nearlyFull({ totalBytes, freeBytes })).toBe(expected);
  });

  test("that is nearly full is a problem of its node, whatever role that has", () => {
    const disk = { totalBytes: 10 * GIB, freeBytes: 0.25 * GIB };
    const status = look({ ...primary("pg1", ["pg2"]), disk }, { ...standby("pg2"), disk });
    for (const node of ["pg1", "pg2"]) {
      expect(problemsOf(status, node)).toEqual([
        {
          node,
          what: "the disk of its volume is nearly full: 256.0 MiB of 10.0 GiB are free",
          fix: "docker system df (and free space on the Docker host)",
        },
      ]);
    }
    expect(status.problems).toHaveLength(2);
    expect(status.nodes.map((node) => node.diskFreeBytes)).toEqual([0.25 * GIB, 0.25 * GIB]);
  });
});

test("every problem says what to do", () => {
  const status = look(silent("pg1", null), silent("pg2", "paused"), silent("pg3", "dead"), primary("pg4", []), standby("pg5"));
  expect(status.problems.length).toBeGreaterThanOrEqual(5);
  expect(status.problems.filter((p) => p.fix === "" || p.what === "")).toEqual([]);
});
