import type { Observation } from "../../core/judgement/observation";
import { bringBack } from "../../operations/change/bringingBack";
import { controlOf } from "../../operations/engine/nodeControls";
import { UserError } from "../../operations/errors";
import { primary, silent, standby } from "./observations";
import { FakeStack } from "./roles";

/** What is waited for until a node streams, by a clock that moves only meanwhile. */
let fakes: FakeStack;
let said: string[];
beforeEach(() => {
  fakes = new FakeStack();
  said = [];
  jest.spyOn(console, "error").mockImplementation((line: string) => void said.push(line));
});
afterEach(() => {
  fakes.remove();
  jest.restoreAllMocks();
});

const STREAMS = [primary("pg2", ["pg1"], { timeline: 2 }), standby("pg1")];
const beside = (pg1: Observation): Observation[] => [primary("pg2", []), pg1];
const comesBack = (): Promise<void> => bringBack(controlOf(fakes.ports.controls(fakes.config), "pg1"), fakes.config, fakes.ports);
/** The line with which it is given up, and after how many seconds of waiting. */
async function givenUp(): Promise<{ line: string; after: number }> {
  const error = await comesBack().then(
    () => new Error("it streams"),
    (reason: unknown) => reason as Error,
  );
  expect(error).toBeInstanceOf(UserError);
  return { line: error.message, after: fakes.clock.now() / 1000 };
}

/** What the node's log says; each time it is read takes 10 s, so that half an hour is few looks. */
const slowly = (text: string) => (): Promise<unknown> => fakes.clock.pause(10_000).then(() => ({ text }));

describe("a node that is brought back", () => {
  test("is started once and waited for until it streams; what it says on the way is passed on once", async () => {
    fakes.observe.mockResolvedValueOnce(beside(silent("pg1", "running"))).mockResolvedValueOnce(beside(standby("pg1")));
    fakes.observe.mockResolvedValue(STREAMS);
    fakes.on["lastWords pg1"] = () => Promise.resolve({ text: "rewinding" });
    await comesBack();
    expect(fakes.did).toEqual(["start pg1"]);
    expect(said).toEqual(["pg1: rewinding"]);
    expect(fakes.clock.paused).toEqual([100, 100]);
  });

  test("does not count as back while the primary has lost its slot", async () => {
    const lost = primary("pg2", ["pg1"], { slots: [{ name: "pg1", active: false, walStatus: "lost", retainedBytes: 0 }] });
    fakes.observe.mockResolvedValueOnce([lost, standby("pg1")]).mockResolvedValue(STREAMS);
    await comesBack();
    expect(fakes.clock.paused).toHaveLength(1);
  });

  test("is not given up while anything moves, however long that takes", async () => {
    let looks = 0;
    fakes.observe.mockImplementation(() =>
      Promise.resolve(++looks > 5 ? STREAMS : beside(standby("pg1", { replayLsn: `0/500000${looks}`, receiver: null }))),
    );
    // A look that takes 20 minutes: two in a row are longer than the bound.
    fakes.on["reason pg1"] = () => fakes.clock.pause(1_200_000).then(() => ({ text: "" }));
    await comesBack();
    expect(fakes.clock.now()).toBeGreaterThan(1_800_000);
  });

  test("is given up when nothing has moved for half an hour", async () => {
    fakes.observe.mockResolvedValue(beside(silent("pg1", "running")));
    fakes.on["reason pg1"] = slowly("");
    const { line, after } = await givenUp();
    expect(line).toMatch(
      /^node pg1 does not stream, and has shown no progress for 1800 s\. Its log: docker logs postgres-replica-dev-pg1$/,
    );
    expect([after > 1_800, after < 1_815]).toEqual([true, true]);
    expect(fakes.did).toEqual(["start pg1"]);
  });

  test.each<[string, Observation, { text: string; code?: "no-room" }, number, RegExp, string[]]>([
    [
      "its Docker host is away for 30 s",
      { ...silent("pg1", "unreachable"), reason: "connection timed out" },
      { text: "" },
      30,
      /^the Docker host of node pg1 does not answer any more \(connection timed out\)\./,
      [],
    ],
    [
      "the primary refuses its login for 20 s",
      silent("pg1", "running"),
      { text: 'password authentication failed for user "replica_user"' },
      20,
      /^node pg1 does not stream: the primary refuses its login \(password authentication failed .*\)\. Run: npm run up /,
      [],
    ],
    [
      "it replays late on purpose",
      standby("pg1", { applyDelay: "1h", localWalRead: false, receiver: null }),
      { text: "" },
      20,
      /^node pg1 is a standby again, and does not stream before it has replayed the WAL that it has/,
      [],
    ],
    [
      "it has become primary meanwhile",
      primary("pg1", [], { timeline: 3 }),
      { text: "" },
      0,
      /^node pg1 has become primary meanwhile, so it rejoins nobody\./,
      [],
    ],
    [
      "it says that it cannot be cloned as things are; it is stopped then",
      silent("pg1", "running"),
      { text: "node pg1 cannot be cloned: no room", code: "no-room" },
      0,
      /^node pg1 cannot be cloned: no room\. Node pg1 is stopped until then$/,
      ["fence pg1"],
    ],
    [
      "it has ended at five looks in a row; it is stopped then",
      silent("pg1", "exited"),
      { text: "no such file" },
      0,
      /^node pg1 does not come up: no such file\. It is stopped; its log: docker logs postgres-replica-dev-pg1$/,
      ["fence pg1"],
    ],
  ])("is given up when %s", async (_why, pg1, reason, seconds, message, did) => {
    fakes.observe.mockResolvedValue(beside(pg1));
    fakes.on["reason pg1"] = () => Promise.resolve(reason);
    const { line, after } = await givenUp();
    expect(line).toMatch(message);
    expect(after).toBeCloseTo(seconds, 0);
    expect(fakes.did).toEqual(["start pg1", ...did]);
  });

  test("is not given up for a host that is away again and again, and never for 30 s", async () => {
    const away = { ...silent("pg1", "unreachable"), reason: "connection timed out" };
    for (let i = 0; i < 500; i += 1) {
      fakes.observe.mockResolvedValueOnce(beside(i % 100 === 0 ? silent("pg1", "running") : away));
    }
    fakes.observe.mockResolvedValue(STREAMS);
    await comesBack();
    expect(fakes.clock.now()).toBe(50_000);
  });

  test("is stopped when Docker has started it again three times: it would go on like that for ever", async () => {
    fakes.observe.mockResolvedValue(beside(silent("pg1", "restarting")));
    let restarts = 7;
    fakes.on["restarts pg1"] = () => Promise.resolve(restarts++);
    expect((await givenUp()).line).toMatch(/^node pg1 does not come up: no reason given\. It is stopped/);
    expect(fakes.did).toEqual(["start pg1", "fence pg1"]);
  });

  test("is told to clone, once, when it needs WAL that is nowhere", async () => {
    fakes.observe.mockResolvedValue(beside(silent("pg1", "running")));
    const gone = "requested WAL segment 000000010000000000000003 has already been removed";
    fakes.on["reason pg1"] = slowly(gone);
    fakes.stayDown = ["pg1"];
    expect((await givenUp()).line).toMatch(/no progress/);
    expect(fakes.did).toEqual(["start pg1", "stop pg1", "mark reclone rejoin-once pg1", "start pg1"]);
    expect(said).toEqual([`pg1 cannot go on (${gone}): cloning it anew`]);
  });
});
