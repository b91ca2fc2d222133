import { existsSync } from "fs";
import type { Observation } from "../../core/judgement/observation";
import { rejoin } from "../../operations/change/rejoin";
import { switchover } from "../../operations/change/switchover";
import { UserError } from "../../operations/errors";
import { primary, replica, silent, slot, standby } from "./observations";
import { FakeStack } from "./roles";

/** What switchover and rejoin decide, with made-up nodes: what they do to real ones is the matter of tests/faults. */
let fakes: FakeStack;
let said: string[];
let printed: string[];
beforeEach(() => {
  fakes = new FakeStack();
  said = [];
  printed = [];
  jest.spyOn(console, "error").mockImplementation((line: string) => void said.push(line));
  jest.spyOn(console, "log").mockImplementation((line: string) => void printed.push(line));
});
afterEach(() => {
  fakes.remove();
  jest.restoreAllMocks();
});

const WELL = [primary("pg1", ["pg2", "pg3"]), standby("pg2"), standby("pg3", { lsn: "0/4000000" })];
/** The line with which it is refused, or given up; what it had done on the way. */
async function refusal(run: Promise<unknown>, did: string[] = []): Promise<string> {
  const error = await run.then(
    (code) => new Error(`it ended with ${String(code)}`),
    (reason: unknown) => reason as Error,
  );
  expect(error).toBeInstanceOf(UserError);
  expect(fakes.did).toEqual(did);
  expect(fakes.release).toHaveBeenCalledTimes(1);
  return error.message;
}

describe("switchover", () => {
  /** How the old primary is stopped. */
  const STOP = ["expect a look into pg1", "stop pg1", "read pg1"];
  const move = (to?: string): Promise<number> => switchover("dev", to, false, fakes.ports);

  test("stops the primary before it promotes, marks it before that, and brings it back", async () => {
    fakes.observe.mockResolvedValue(WELL.map((node) => (node.name === "pg1" ? silent("pg1", "exited") : node)));
    fakes.observe.mockResolvedValueOnce(WELL);
    expect(await move()).toBe(0);
    expect(fakes.did).toEqual([
      ...["CHECKPOINT pg1", ...STOP, "mark fenced rejoin-once pg1", "take the password file of pg2 to pg1", "promote pg2"],
      ...["slots [pg3] on pg2", "write pg2", "checkpoint pg2", "start pg1"],
    ]);
    expect(existsSync(fakes.note)).toBe(false);
    expect(printed).toEqual([expect.stringMatching(/^pg2 is primary; .* nothing is lost/)]);
  });

  test("makes the slot of a standby whose Docker host does not answer too: it may follow all the while", async () => {
    const away = { ...silent("pg3", "unreachable"), silentEngine: "ssh://db3" };
    const now = [primary("pg1", ["pg2", "pg3"]), standby("pg2"), away];
    fakes.observe.mockResolvedValue([silent("pg1", "exited"), standby("pg2"), away]);
    fakes.observe.mockResolvedValueOnce(now);
    expect(await move()).toBe(0);
    expect(fakes.did).toContain("slots [pg3] on pg2");
  });

  test("with commits that wait for standbys starts the old primary before the first write: it may be who has to confirm", async () => {
    fakes.configure({ synchronous: { count: 1 } });
    fakes.observe.mockResolvedValue(WELL.map((node) => (node.name === "pg1" ? silent("pg1", "exited") : node)));
    fakes.observe.mockResolvedValueOnce(WELL);
    expect(await move("pg2")).toBe(0);
    expect(fakes.did.indexOf("start pg1")).toBeGreaterThan(fakes.did.indexOf("promote pg2"));
    expect(fakes.did.indexOf("start pg1")).toBeLessThan(fakes.did.indexOf("write pg2"));
  });

  test.each<[string, Observation[], string | undefined, RegExp]>([
    ["to who is primary already", WELL, "pg1", /^node pg1 is the primary already$/],
    ["to who is none of the stack's", WELL, "pg9", /^stack "dev" has no node "pg9"/],
    [
      "to who does not stream",
      [primary("pg1", ["pg2"]), standby("pg2"), standby("pg3")],
      "pg3",
      /^switchover refused: node pg3 does not stream from pg1\./,
    ],
    [
      "to who is far behind",
      [primary("pg1", [], { replicas: [replica("pg2", { lagBytes: 16777217 })] }), standby("pg2"), silent("pg3", "exited")],
      "pg2",
      /^switchover refused: node pg2 is 16777217 bytes behind/,
    ],
    [
      "when no standby answers",
      [primary("pg1", []), silent("pg2", "exited"), silent("pg3", null)],
      undefined,
      /^switchover refused: no standby answers\./,
    ],
    [
      "when nobody is primary",
      [silent("pg1", "exited"), standby("pg2"), standby("pg3")],
      undefined,
      /^switchover refused: no node is primary\./,
    ],
    [
      "when two are",
      [primary("pg1", []), primary("pg2", []), standby("pg3")],
      undefined,
      /^switchover refused: more than one writer: pg1 and pg2/,
    ],
    [
      "when no standby could log in again",
      [primary("pg1", ["pg2"], { changedPasswords: ["replica_user"] }), standby("pg2"), standby("pg3")],
      "pg2",
      /so no standby could connect\./,
    ],
  ])("is refused before anything is stopped: %s", async (_why, observed, to, line) => {
    fakes.observe.mockResolvedValue(observed);
    expect(await refusal(move(to))).toMatch(line);
    expect(existsSync(fakes.note)).toBe(false);
  });

  const BEFORE = ["CHECKPOINT pg1", ...STOP];
  const BACK = ["unmark pg1", "start pg1", "write pg1"];
  test.each<[string, () => void, string, string[]]>([
    [
      "does not stop",
      () => (fakes.on["stop pg1"] = () => Promise.resolve(false)),
      "pg1 did not stop within",
      [...BEFORE.slice(0, -1), ...BACK],
    ],
    [
      "cannot be read",
      () => (fakes.ends = { pg1: { unreadable: "no room" } }),
      "the WAL of pg1 cannot be read (no room)",
      [...BEFORE, ...BACK],
    ],
    [
      "did not shut down cleanly",
      () => (fakes.ends = { pg1: { timeline: 1, lsn: "0/5000000", clean: false, writable: true, history: {} } }),
      "pg1 did not shut down cleanly",
      [...BEFORE, ...BACK],
    ],
    [
      "ended on another timeline",
      () => (fakes.ends = { pg1: { timeline: 2, lsn: "0/5000000", clean: true, writable: true, history: {} } }),
      "pg1 ended on timeline 2, and pg2 is on 1",
      [...BEFORE, ...BACK],
    ],
    [
      "has more than the standby gets",
      () => (fakes.ends = { pg1: { timeline: 1, lsn: "0/5000001", clean: true, writable: true, history: {} } }),
      "pg2 did not receive the last WAL of pg1",
      [...BEFORE, ...BACK],
    ],
    [
      "was started again meanwhile",
      () => (fakes.startedAgain = ["pg1"]),
      "pg1 was started again",
      [...BEFORE, "mark fenced rejoin-once pg1", "take the password file of pg2 to pg1", ...BACK],
    ],
  ])("is undone, and nobody promoted, when the old primary %s", async (_how, given, why, did) => {
    given();
    fakes.observe.mockResolvedValue(WELL);
    const line = await refusal(move("pg2"), did);
    expect(line.startsWith(`switchover undone: ${why}`)).toBe(true);
    expect(line.endsWith("; pg1 is primary as before")).toBe(true);
    expect(existsSync(fakes.note)).toBe(false);
  });

  test("does not bring the old primary back as one beside a node that somebody has promoted meanwhile", async () => {
    fakes.observe.mockResolvedValue([silent("pg1", "exited"), standby("pg2"), primary("pg3", [], { timeline: 2 })]);
    fakes.observe.mockResolvedValueOnce(WELL);
    expect(await refusal(move("pg2"), [...BEFORE, "mark fenced rejoin-once pg1", "take the password file of pg2 to pg1"])).toMatch(
      /^switchover given up: pg3 has become primary meanwhile\. .* npm run rejoin -- pg1 /,
    );
  });

  test("that was interrupted before the promotion goes on with the same two", async () => {
    fakes.noted(JSON.stringify({ promoted: "pg3", from: "pg1", timeline: 1, phase: "stopping" }));
    fakes.observe.mockResolvedValue([silent("pg1", "exited"), standby("pg2"), standby("pg3")]);
    expect(await move()).toBe(0);
    expect(said[0]).toBe("an interrupted switchover from pg1 to pg3 goes on");
    expect(fakes.did.slice(0, 6)).toEqual([...STOP, "mark fenced rejoin-once pg1", "take the password file of pg3 to pg1", "promote pg3"]);
  });

  test("that was interrupted cannot go on while a node is silent that may be primary by now", async () => {
    fakes.noted(JSON.stringify({ promoted: "pg3", from: "pg1", timeline: 1, phase: "stopping" }));
    fakes.observe.mockResolvedValue([silent("pg1", "exited"), silent("pg2", "running"), standby("pg3")]);
    expect(await refusal(move())).toMatch(/^an interrupted switchover from pg1 to pg3 cannot go on: pg2 does not answer/);
  });

  test("that was interrupted after the promotion is finished, and brings the old primary back", async () => {
    fakes.noted(JSON.stringify({ promoted: "pg2", from: "pg1", timeline: 1, phase: "promoting" }));
    fakes.observe.mockResolvedValue([silent("pg1", "exited"), primary("pg2", ["pg3"], { timeline: 2 }), standby("pg3")]);
    expect(await move()).toBe(0);
    expect(fakes.did).toEqual([
      "slots [pg3] on pg2",
      "write pg2",
      "checkpoint pg2",
      "take the password file of pg2 to pg1",
      "mark rejoin-once pg1",
      "start pg1",
    ]);
    expect(existsSync(fakes.note)).toBe(false);
  });

  test.each([
    ["a switchover", { from: "pg1", timeline: 1 }, ["mark rejoin-once pg1", "start pg1"]],
    // What a failover has fenced may have commits that nobody else has: a person brings it back.
    ["a failover", {}, []],
  ])("that finishes %s brings back no node that is down for another reason", async (_what, note, back) => {
    fakes.noted(JSON.stringify({ promoted: "pg2", phase: "promoting", ...note }));
    fakes.observe.mockResolvedValue([silent("pg1", "exited"), primary("pg2", [], { timeline: 2 }), silent("pg3", "exited")]);
    expect(await move()).toBe(0);
    expect(fakes.did.filter((what) => /^(mark|start)/.test(what))).toEqual(back);
    expect(existsSync(fakes.note)).toBe(false);
  });
});

describe("rejoin", () => {
  const back = async (...[name, how]: Parameters<typeof rejoin> extends [string, ...infer Rest] ? Rest : never): Promise<number> => {
    // It waits for the node by the look that asks no logs.
    fakes.observe.mockImplementation(fakes.diagnose);
    return rejoin("dev", name, how, fakes.ports);
  };
  const DOWN = [silent("pg1", "exited"), primary("pg2", ["pg3"], { timeline: 2 }), standby("pg3", { timeline: 2 })];
  const STOP = ["expect a look into pg1", "stop pg1"];
  const READ = [...STOP, "read pg1"];
  const PASSFILE = "take the password file of pg2 to pg1";

  test("stops the node, brings it the password file, marks it, and only then starts it; the lock is given back before that", async () => {
    fakes.diagnose.mockResolvedValue(DOWN);
    let givenBack = 0;
    fakes.on["start pg1"] = () => Promise.resolve((givenBack = fakes.release.mock.calls.length));
    expect(await back("pg1")).toBe(0);
    expect(givenBack).toBe(1);
    expect(fakes.did).toEqual([...READ, PASSFILE, "mark fenced rejoin-once pg1", "checkpoint pg2", "start pg1"]);
    expect(printed).toEqual([expect.stringMatching(/^node pg1 streams from pg2, /)]);
  });

  test.each<[string, Observation[], RegExp]>([
    ["without a container", [silent("pg1", null), ...DOWN.slice(1)], /^node pg1 has no container\. Run: npm run up /],
    ["that is the primary", [primary("pg1", ["pg2"]), standby("pg2"), standby("pg3")], /^node pg1 is the primary; it has nobody to rejoin/],
    ["while nobody is primary", [silent("pg1", "exited"), standby("pg2"), standby("pg3")], /^node pg1 cannot rejoin: no node is primary/],
    [
      "beside two primaries",
      [silent("pg1", "exited"), primary("pg2", []), primary("pg3", [])],
      /^node pg1 cannot rejoin: more than one writer/,
    ],
    [
      "that has written on the primary's own timeline",
      [primary("pg1", [], { timeline: 2 }), primary("pg2", [], { timeline: 2 }), standby("pg3")],
      /^node pg1 is writable on timeline 2, and pg2 on 2\. Decide which one is right/,
    ],
    [
      "that could not log in",
      [silent("pg1", "exited"), primary("pg2", [], { changedPasswords: ["replica_user"] }), standby("pg3")],
      /so no standby could connect/,
    ],
    [
      "that would have to be cloned, beside tablespaces",
      [{ ...silent("pg1", "exited"), code: "no-cluster" }, primary("pg2", [], { tablespaces: ["a in /a"] }), standby("pg3")],
      /^node pg1 cannot be cloned: .* Nothing was changed\./,
    ],
  ])("of a node %s is refused before it is touched", async (_which, observed, line) => {
    fakes.diagnose.mockResolvedValue(observed);
    expect(await refusal(back("pg1"))).toMatch(line);
  });

  test("of one that streams already does nothing, unless it is to be cloned or its slot is lost", async () => {
    const well = [primary("pg2", ["pg1", "pg3"]), standby("pg1"), standby("pg3")];
    fakes.diagnose.mockResolvedValue(well);
    expect([await back("pg1"), fakes.did]).toEqual([0, []]);
    await back("pg1", { anew: true });
    expect(fakes.did).toContain("mark reclone fenced rejoin-once pg1");
    fakes.remove();
    fakes = new FakeStack();
    fakes.diagnose.mockResolvedValue([
      primary("pg2", ["pg1"], { slots: [slot("pg1", { walStatus: "lost", active: false })] }),
      ...well.slice(1),
    ]);
    await back("pg1");
    expect(fakes.did.slice(0, 5)).toEqual([...STOP, PASSFILE, expect.stringMatching(/ pg2$/), "mark reclone fenced rejoin-once pg1"]);
  });

  test("of one that may still run is given up when it does not stop: nothing is marked", async () => {
    fakes.diagnose.mockResolvedValue([silent("pg1", "running"), ...DOWN.slice(1)]);
    fakes.on["stop pg1"] = () => Promise.resolve(false);
    expect(await refusal(back("pg1"), STOP)).toMatch(/^node pg1 does not stop\. Stop it by hand: docker stop/);
  });

  const NEWER = { timeline: 3, lsn: "0/6000000", clean: true, writable: true, history: {} };
  test.each([
    ["exited", READ],
    ["running", [...READ, "start pg1"]],
  ])("of one that was on a newer timeline than the primary is left to a person, and it is %s as before", async (state, did) => {
    fakes.diagnose.mockResolvedValue([silent("pg1", state), ...DOWN.slice(1)]);
    fakes.ends = { pg1: NEWER };
    expect(await refusal(back("pg1"), did)).toMatch(/^node pg1 was on timeline 3, and pg2 is primary on 2, which is older/);
  });

  test("of such a one goes on when a failover has given that up before, or a person does now", async () => {
    fakes.diagnose.mockResolvedValue(DOWN);
    fakes.ends = { pg1: NEWER };
    fakes.hadMarks = ["reclone pg1"];
    expect(await back("pg1")).toBe(0);
    fakes.hadMarks = [];
    expect(await back("pg1", { anew: true })).toBe(0);
    expect(fakes.did).toContain("mark reclone fenced rejoin-once pg1");
  });

  test("removes the old data first only when it was told to", async () => {
    fakes.diagnose.mockResolvedValue(DOWN);
    await back("pg1", { dropOld: true });
    expect(fakes.did).toContain("mark reclone drop-old fenced rejoin-once pg1");
  });

  test("of one without a cluster clones it from the primary before it is started", async () => {
    fakes.diagnose.mockResolvedValue([{ ...silent("pg1", "exited"), code: "no-cluster" }, ...DOWN.slice(1)]);
    await back("pg1");
    expect(fakes.did.slice(-4)).toEqual(["mark fenced rejoin-once pg1", "clone from pg2 to pg1", "checkpoint pg2", "start pg1"]);
  });
});
