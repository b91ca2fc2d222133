import { existsSync, readFileSync } from "fs";
import { UserError } from "../../operations/errors";
import { failover, type FailoverOptions } from "../../operations/change/failover";
import { type Report } from "../../operations/change/report";
import type { Unreadable, WalEnd } from "../../core/judgement/election";
import type { Observation } from "../../core/judgement/observation";
import { primary, silent, standby as receiving } from "./observations";
import { FakeStack, NODES } from "./roles";

let fakes: FakeStack;
let said: string[];
let printed: string[];
beforeEach(() => {
  fakes = new FakeStack();
  fakes.end = { timeline: 1, lsn: "0/5000000", clean: false, writable: true, history: {} };
  said = [];
  printed = [];
  jest.spyOn(console, "error").mockImplementation((line: string) => void said.push(line));
  jest.spyOn(console, "log").mockImplementation((line: string) => void printed.push(line));
});
afterEach(() => {
  fakes.remove();
  jest.restoreAllMocks();
});

/** A standby whose primary is gone: it receives no more. */
const standby: typeof receiving = (name, server = {}) => receiving(name, { receiver: null, ...server });
const run = (options: Partial<FailoverOptions> = {}): Promise<number> =>
  failover("dev", { allowDataLoss: false, dryRun: false, json: false, ...options }, fakes.ports);
const seen = (...observed: Observation[]): void => void fakes.observe.mockResolvedValue(observed);
/** The message with which the command is refused; it has changed nothing on the way but `did`. */
async function refusal(did: string[], options: Partial<FailoverOptions> = {}): Promise<string> {
  const error: unknown = await run(options).then(
    (code) => `it ended with ${code}`,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(UserError);
  expect([...fakes.did].sort()).toEqual([...did].sort());
  expect(existsSync(fakes.note)).toBe(false);
  expect(printed).toEqual([]);
  return (error as UserError).message;
}
const UNREADABLE: Unreadable = { unreadable: "a file is gone" };
const PRIMARY_GONE = [silent("pg1", "exited"), standby("pg2"), standby("pg3", { lsn: "0/4000000" })];

describe("failover touches nothing", () => {
  const EVERY_WAY = [{}, { allowDataLoss: true }, { dryRun: true }, { allowDataLoss: true, dryRun: true }];

  test.each(EVERY_WAY)("while the primary lives, with %j", async (options) => {
    seen(primary("pg1", ["pg2"]), standby("pg2"), silent("pg3", "exited"));
    expect(await refusal([], options)).toBe(
      "failover refused: the primary pg1 lives and answers. To move the role, run: npm run switchover -- --stack dev",
    );
  });

  test.each(EVERY_WAY)("while the primary lives and is cut off from its standbys, with %j: it says how to go on", async (options) => {
    seen(primary("pg1", [], { slots: [] }), standby("pg2"), standby("pg3"));
    expect(await refusal([], options)).toBe(
      "failover refused: the primary pg1 lives and answers. To move the role, stop it, because no standby streams from it " +
        "(docker stop postgres-replica-dev-pg1), then run failover again",
    );
  });

  test.each(EVERY_WAY)("while the primary is the only node that answers, with %j: to stop it would leave nobody", async (options) => {
    seen(silent("pg1", "exited"), primary("pg2", []), silent("pg3", "running"));
    expect(await refusal([], options)).toBe(
      "failover refused: the primary pg2 lives and answers, and no other node does. Bring pg1, pg3 back with: npm run rejoin -- pg1 --stack dev",
    );
  });

  test.each(EVERY_WAY)("when two nodes are writable, with %j: which is wrong is for people to say", async (options) => {
    seen(primary("pg1", []), primary("pg2", []), standby("pg3"));
    expect(await refusal([], options)).toBe(
      "failover refused: more than one writer: pg1 and pg2. Stop the wrong one at once: docker stop postgres-replica-dev-pg1 or docker stop postgres-replica-dev-pg2, then run: npm run rejoin -- NODE --stack dev",
    );
  });

  test.each(EVERY_WAY)("when no standby answers, with %j", async (options) => {
    seen(silent("pg1", "exited"), silent("pg2", "running"), silent("pg3", null));
    expect(await refusal([], options)).toMatch(/^stack "dev" has no standby that answers, so there is nobody to promote/);
  });

  test("when the stack is not up", async () => {
    seen(silent("pg1", null), silent("pg2", null), silent("pg3", null));
    expect(await refusal([])).toBe('stack "dev" is not up. Run: npm run up -- --stack dev');
  });

  test("in a dry run, which names whom it would fence and whom it would promote", async () => {
    seen(...PRIMARY_GONE);
    expect(await run({ dryRun: true })).toBe(0);
    expect(fakes.did).toEqual([]);
    expect(existsSync(fakes.note)).toBe(false);
    expect(said).toEqual([
      "would fence pg1, and promote pg2 (timeline 1, WAL received up to 0/5000000)",
      "how many bytes that loses is read when pg1 is stopped. Up to 16.0 MiB (16777216 bytes of WAL) failover loses and says so; more, or where nobody knows, it refuses without --allow-data-loss",
    ]);
  });

  test("in a dry run after an interrupted promotion either", async () => {
    fakes.noted(JSON.stringify({ promoted: "pg2", phase: "promoting" }));
    seen(silent("pg1", "exited"), primary("pg2", [], { timeline: 2 }), standby("pg3"));
    await run({ dryRun: true }).catch(() => undefined);
    expect(fakes.did).toEqual([]);
    expect(existsSync(fakes.note)).toBe(true);
  });
});

/** What Docker says of the nodes, before their servers have answered. */
const toldFirst = (states: Record<string, string>): void =>
  void fakes.observe.mockImplementationOnce((_config, options) => {
    Object.entries(states).forEach(([node, state]) => options?.told?.(node, { state, image: "postgres:17" }));
    return Promise.resolve([...PRIMARY_GONE]);
  });

test("failover has the helper container of a stopped node start while the others are still asked", async () => {
  seen(...PRIMARY_GONE);
  toldFirst({ pg1: "exited", pg2: "running" });
  await run();
  expect(fakes.did.slice(0, 2)).toEqual(["expect a look into pg1 by postgres:17", "fence pg1"]);
  expect(fakes.did.filter((what) => what.startsWith("expect"))).toHaveLength(1);
});

test("a dry run starts none", async () => {
  toldFirst({ pg1: "exited" });
  await run({ dryRun: true });
  expect(fakes.did).toEqual([]);
});

describe("failover promotes nobody", () => {
  const everyWay = [{}, { allowDataLoss: true }];

  test.each(everyWay)("when the old primary cannot be fenced, with %j: it might still write", async (options) => {
    seen(silent("pg1", "running"), standby("pg2"), standby("pg3"));
    fakes.on["fence pg1"] = () => Promise.resolve(false);
    fakes.startedAgain = ["pg1"];
    expect(await refusal(["fence pg1"], options)).toMatch(/^pg1 cannot be fenced: .*Stop it by hand, then run failover again$/);
  });

  test.each(everyWay)("when one of several silent nodes cannot be fenced, with %j", async (options) => {
    seen(silent("pg1", "exited"), standby("pg2"), silent("pg3", "paused"));
    fakes.on["fence pg3"] = () => Promise.resolve(false);
    fakes.startedAgain = ["pg3"];
    expect(await refusal(["fence pg1", "fence pg3"], options)).toMatch(/^pg3 cannot be fenced/);
  });

  test.each(everyWay)("when Docker does not say whether the old primary is stopped, with %j", async (options) => {
    seen(...PRIMARY_GONE);
    fakes.on["fence pg1"] = () => Promise.reject(new UserError("Docker does not say what container x does"));
    expect(await refusal(["fence pg1"], options)).toBe("Docker does not say what container x does");
  });

  test("when the standby has gone meanwhile", async () => {
    fakes.observe.mockResolvedValueOnce([silent("pg1", "exited"), standby("pg2"), silent("pg3", "exited")]);
    fakes.observe.mockResolvedValueOnce([silent("pg1", "exited"), silent("pg2", "running"), silent("pg3", "exited")]);
    expect(await refusal(["fence pg1", "fence pg3", "read pg1", "read pg3"])).toMatch(/^no standby answers any more/);
  });

  test("when a promotion that had been under way has ended meanwhile: that would make a second primary", async () => {
    fakes.observe.mockResolvedValueOnce(PRIMARY_GONE);
    seen(silent("pg1", "exited"), primary("pg2", [], { timeline: 2 }), standby("pg3"));
    expect(await refusal(["fence pg1", "read pg1"])).toMatch(/^failover refused: the primary pg2 lives and answers/);
  });

  test("when the promotion of another one was asked for and has not ended: it cannot be taken back", async () => {
    fakes.noted(JSON.stringify({ promoted: "pg3", phase: "promoting" }));
    seen(...PRIMARY_GONE);
    await expect(run({ allowDataLoss: true })).rejects.toThrow(
      /^failover refused: a promotion of pg3 is under way, and pg2 is ahead of it\. .*docker stop postgres-replica-dev-pg3/,
    );
    expect(fakes.did).toEqual(["fence pg1", "read pg1"]);
  });

  test("when the old primary was started before its mark was in place; what failover had stopped runs again", async () => {
    seen(silent("pg1", "exited"), standby("pg2"), silent("pg3", "paused"));
    fakes.startedAgain = ["pg1"];
    expect(
      await refusal([
        ...["fence pg1", "fence pg3", "read pg1", "read pg3"],
        ...["mark fenced pg1", "mark fenced pg3", "unmark pg1", "unmark pg3", "start pg3"],
      ]),
    ).toMatch(/^pg1 was started again while failover was at work\. Run failover again; pg3, which failover had stopped, is started again$/);
  });

  test("when a node cannot be marked; the marks of the others are taken back when they are there, not while they come", async () => {
    seen(silent("pg1", "exited"), standby("pg2"), silent("pg3", "exited"));
    fakes.on["mark fenced pg1"] = () => new Promise<void>((resolve) => setTimeout(() => (fakes.did.push("marked pg1"), resolve()), 50));
    fakes.on["mark fenced pg3"] = () => Promise.reject(new UserError("no room"));
    expect(
      await refusal([
        ...["fence pg1", "fence pg3", "read pg1", "read pg3"],
        ...["mark fenced pg1", "mark fenced pg3", "marked pg1", "unmark pg1", "unmark pg3"],
      ]),
    ).toBe("no room");
    expect(fakes.did.indexOf("marked pg1")).toBeLessThan(fakes.did.indexOf("unmark pg1"));
  });

  test("when the old primary was started before its mark was in place", async () => {
    seen(...PRIMARY_GONE);
    fakes.startedAgain = ["pg1"];
    expect(await refusal(["fence pg1", "read pg1", "mark fenced pg1", "unmark pg1"])).toBe(
      "pg1 was started again while failover was at work. Run failover again",
    );
  });

  test.each(everyWay)("while the stack's lock is somebody else's, with %j; it does not even fence", async (options) => {
    seen(...PRIMARY_GONE);
    fakes.lock.mockRejectedValue(new UserError("switchover (process 1 on other) is at work"));
    expect(await refusal([], options)).toBe("switchover (process 1 on other) is at work");
    expect(fakes.release).not.toHaveBeenCalled();
  });

  test("while the stack's lock is somebody else's; what Docker says of a node after that starts nothing, which nobody would end", async () => {
    let answers = (): void => undefined;
    fakes.observe.mockImplementationOnce((_config, options) => {
      answers = () => options?.told?.("pg1", { state: "exited", image: "postgres:17" });
      return new Promise(() => undefined);
    });
    fakes.lock.mockRejectedValue(new UserError("switchover (process 1 on other) is at work"));
    expect(await refusal([])).toBe("switchover (process 1 on other) is at work");
    answers();
    expect(fakes.did).toEqual([]);
  });

  test("and fences nobody before it has the lock, which it waits for; it gives it back when it is refused", async () => {
    seen(...PRIMARY_GONE);
    fakes.ends = { pg1: { unreadable: "no room to look" } };
    let grant = (): void => undefined;
    fakes.lock.mockImplementation(() => new Promise((resolve) => (grant = () => resolve(fakes.held))));
    const refused = refusal(["fence pg1", "read pg1"]);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(fakes.observe).toHaveBeenCalledTimes(1); // the first look takes its time beside the lock
    expect(fakes.did).toEqual([]);
    grant();
    await refused;
    expect(fakes.release).toHaveBeenCalledTimes(1);
  });

  test("when the old primary's WAL cannot be read, unless that is given up", async () => {
    seen(...PRIMARY_GONE);
    fakes.ends = { pg1: UNREADABLE };
    expect(await refusal(["fence pg1", "read pg1"])).toMatch(
      /^failover refused: the data of pg1 cannot be read \(a file is gone\), so nobody knows what the standby lacks\. Start what was primary again \(docker start postgres-replica-dev-pg1\), or give that up with --allow-data-loss$/,
    );
  });

  test("when the standby lacks more than the limit", async () => {
    seen(...PRIMARY_GONE);
    fakes.ends = { pg1: { timeline: 1, lsn: "0/6000001", clean: false, writable: true, history: {} } };
    expect(await refusal(["fence pg1", "read pg1"])).toMatch(
      /^failover refused: pg2 lacks 16777217 bytes .* more than the 16777216 allowed/,
    );
  });

  test.each(everyWay)("while a standby is still fed, with %j: a primary lives somewhere", async (options) => {
    seen(silent("pg1", "exited"), standby("pg2"), receiving("pg3"));
    expect(await refusal(["fence pg1", "read pg1"], options)).toMatch(
      /^failover refused: pg3 still receives WAL from pg1 after 15 s, so a primary lives/,
    );
  });

  test.each(everyWay)("while a node runs that the config does not have, with %j: it may be the primary", async (options) => {
    seen(...PRIMARY_GONE);
    fakes.runningNodes.mockResolvedValue(["pg2", "pg3", "pg4"]);
    expect(await refusal(["fence pg1", "read pg1"], options)).toMatch(
      /^failover refused: pg4 runs, and nodes in Pulumi\.dev\.yaml does not have it/,
    );
  });

  test("when a standby still reads WAL of its own, unless that is given up", async () => {
    seen(silent("pg1", "exited"), standby("pg2"), standby("pg3", { lsn: "0/4000000", localWalRead: false }));
    expect(await refusal(["fence pg1", "read pg1"])).toMatch(/^failover refused: pg3 still reads WAL of its own/);
  });

  test.each<[string, object, number | null]>([
    ["by this config", { synchronous: { mode: "any", count: 1 } }, null],
    ["by the settings that the nodes still have, though the config asks for nothing any more", {}, 1],
    ["by fewer standbys before than by this config", { synchronous: { mode: "any", count: 2 } }, 1],
  ])("when a standby that does not answer may hold a commit that was confirmed: %s", async (_how, config, synchronousCount) => {
    fakes.configure(config);
    seen(silent("pg1", "exited"), standby("pg2", { synchronousCount }), silent("pg3", "running"));
    fakes.ends = { pg1: { timeline: 1, lsn: "0/5000001", clean: false, writable: true, history: {} } };
    expect(await refusal(["fence pg1", "fence pg3", "read pg1", "read pg3", "start pg3"])).toMatch(
      /1 of 2 standbys do not answer and may hold acknowledged commits that pg2 lacks/,
    );
  });

  test.each(["running", "paused", "restarting"])("and then starts what it had stopped again: an old primary that was %s", async (state) => {
    seen(silent("pg1", state), standby("pg2"), silent("pg3", "exited"));
    fakes.ends = { pg1: UNREADABLE };
    expect(await refusal(["fence pg1", "fence pg3", "read pg1", "read pg3", "start pg1"])).toMatch(
      /^failover refused: .*Wait for what was primary to come back, or give that up with --allow-data-loss; pg1, which failover had stopped, is started again$/,
    );
  });

  test("and gives the reason for that, also when what it had stopped does not start again", async () => {
    seen(silent("pg1", "running"), standby("pg2"), standby("pg3"));
    fakes.ends = { pg1: UNREADABLE };
    fakes.on["start pg1"] = () => Promise.reject(new UserError("container x does not start"));
    expect(await refusal(["fence pg1", "read pg1", "start pg1"])).toMatch(
      /^failover refused: .*nobody knows what the standby lacks\. .*; pg1, which failover had stopped, does not start: docker start postgres-replica-dev-pg1$/,
    );
  });

  describe("before a node that fell silent between two looks", () => {
    beforeEach(() => {
      fakes.observe.mockResolvedValueOnce(PRIMARY_GONE);
      seen(silent("pg1", "exited"), silent("pg2", "paused"), standby("pg3", { lsn: "0/5000000" }));
    });

    test.each(everyWay)("is proven to be stopped, with %j", async (options) => {
      fakes.on["fence pg2"] = () => Promise.resolve(false);
      fakes.startedAgain = ["pg2"];
      expect(await refusal(["fence pg1", "read pg1", "fence pg2"], options)).toMatch(/^pg2 cannot be fenced: .*Stop it by hand/);
    });

    test("is read, unless that is given up; then it is started again", async () => {
      fakes.ends = { pg2: UNREADABLE };
      expect(await refusal(["fence pg1", "read pg1", "fence pg2", "read pg2", "start pg2"])).toMatch(
        /^failover refused: the data of pg2 cannot be read \(a file is gone\), .*; pg2, which failover had stopped, is started again$/,
      );
    });

    test("is compared with: it may have received more than anybody who answers", async () => {
      fakes.ends = { pg2: { timeline: 1, lsn: "0/7000000", clean: false, writable: false, history: {} } };
      expect(await refusal(["fence pg1", "read pg1", "fence pg2", "read pg2", "start pg2"])).toMatch(
        /^failover refused: pg3 lacks 33554432 bytes/,
      );
    });

    test.each(["pg1", "pg2"])("is known to stay stopped: %s was started before its mark was in place", async (name) => {
      fakes.startedAgain = [name];
      const message = await run().catch((error: Error) => error.message);
      expect(message).toContain(`${name} was started again while failover was at work`);
      expect(fakes.did).not.toContainEqual(expect.stringMatching(/^promote/));
    });
  });

  test("when every node is a standby and nobody was primary last; what it tells to do can be done", async () => {
    seen(standby("pg1"), standby("pg2"), standby("pg3"));
    expect(await refusal([])).not.toContain("undefined");
  });
});

describe("failover while the primary's Docker host does not answer", () => {
  const AWAY: Observation = { ...silent("pg1", "unreachable"), silentEngine: "ssh://db1", reason: "connection timed out" };
  const HOSTS = NODES.map((node, i) => ({ ...node, address: `10.0.0.${i + 1}`, dockerHost: `ssh://db${i + 1}` }));
  const BEHIND = standby("pg3", { lsn: "0/4000000" });
  const vouched = { fencedByHand: ["pg1"] };
  beforeEach(() => {
    fakes.configure({ nodes: HOSTS });
    fakes.volumes = [];
  });

  test.each([{}, { allowDataLoss: true }])(
    "is refused, with %j, and says who cannot be fenced, where, and what a person has to do",
    async (options) => {
      seen(AWAY, standby("pg2"), BEHIND);
      expect(await refusal([], options)).toBe(
        "failover refused: nobody can stop what may still write: pg1 at ssh://db1 (connection timed out). " +
          "Power its host off or cut it off from every client and every node; then, and only then, run: npm run failover -- --i-have-fenced pg1 --stack dev",
      );
    },
  );

  test("is refused as long as one of several such hosts is not fenced", async () => {
    seen(AWAY, standby("pg2"), { ...silent("pg3", "unreachable"), silentEngine: "ssh://db3" });
    expect(await refusal([], vouched)).toMatch(
      /^failover refused: nobody can stop what may still write: pg3 at ssh:\/\/db3 .* --i-have-fenced pg3 --stack dev$/,
    );
  });

  test("is refused as well where the host answers and has neither its container nor its volume: it may be another machine here", async () => {
    seen(silent("pg1", null), standby("pg2"), BEHIND);
    expect(await refusal([], { allowDataLoss: true })).toContain("pg1 at ssh://db1 (neither its container nor its volume is there)");
    expect(await run({ ...vouched, allowDataLoss: true })).toBe(0);
  });

  test("fences one of which only the container is gone by what its host has of it", async () => {
    fakes.volumes = ["pg1"];
    seen(silent("pg1", null), standby("pg2"), BEHIND);
    expect(await run()).toBe(0);
    expect(fakes.did).toContain("mark fenced pg1");
  });

  test("is refused when that host answers again before the promotion: what is there may have been started", async () => {
    seen(AWAY, standby("pg2"), BEHIND);
    fakes.answers.mockResolvedValue(true);
    expect(await refusal([], { ...vouched, allowDataLoss: true })).toMatch(/ssh:\/\/db1 answers again, .*Run failover again$/);
    fakes.observe.mockResolvedValueOnce([AWAY, standby("pg2"), BEHIND]);
    seen(silent("pg1", "running"), standby("pg2"), BEHIND);
    expect(await refusal([], { ...vouched, allowDataLoss: true })).toMatch(/the Docker host of pg1 answers again/);
  });

  test("fences what is on that host as soon as it answers after the promotion", async () => {
    seen(AWAY, standby("pg2"), BEHIND);
    fakes.answers.mockResolvedValueOnce(false).mockResolvedValue(true);
    expect(await run({ ...vouched, allowDataLoss: true })).toBe(0);
    expect(fakes.did.slice(fakes.did.indexOf("promote pg2"))).toEqual(expect.arrayContaining(["fence pg1", "mark fenced pg1"]));
  });

  test("is refused while the nodes know of one on another host that the config has no more", async () => {
    const members = "pg1=10.0.0.1:5432 pg2=pg2:5432 pg3=10.0.0.3:5432 pg9=10.0.0.9:5432";
    seen(AWAY, standby("pg2", { members }), BEHIND);
    expect(await refusal([], { ...vouched, allowDataLoss: true })).toMatch(
      /^failover refused: the nodes that answer know of pg9 \(10\.0\.0\.9\)/,
    );
    seen(AWAY, standby("pg2", { members: members.replace("10.0.0.9", "pg9") }), BEHIND);
    expect(await run({ ...vouched, allowDataLoss: true })).toBe(0);
  });

  test.each([
    ["answers, a standby", [AWAY, standby("pg2"), BEHIND], "pg2"],
    ["answers, beside one that runs and says nothing", [silent("pg1", "running"), standby("pg2"), BEHIND], "pg3"],
  ])("is refused to one who says to have fenced a node that %s", async (_which, observed, name) => {
    seen(...observed);
    expect(await refusal([], { ...vouched, fencedByHand: [name], allowDataLoss: true })).toBe(
      `--i-have-fenced ${name}: node ${name} answers, so it is not fenced. Nothing was changed`,
    );
  });

  test("fences by its host alone who has one that answers, whatever a person says", async () => {
    seen(silent("pg1", "running"), standby("pg2"), BEHIND);
    fakes.on["fence pg1"] = () => Promise.resolve(false);
    fakes.startedAgain = ["pg1"];
    expect(await refusal(["fence pg1"], { ...vouched, allowDataLoss: true })).toMatch(/^pg1 cannot be fenced/);
  });

  test("fenced by a person loses what nobody knows, so it takes --allow-data-loss as well, and nobody goes to that host", async () => {
    seen(AWAY, standby("pg2"), BEHIND);
    expect(await refusal([], vouched)).toBe(
      "failover refused: the data of pg1 cannot be read (its Docker host does not answer), so nobody knows what the standby lacks. " +
        "Wait for what was primary to come back, or give that up with --allow-data-loss",
    );
    expect(await run({ ...vouched, allowDataLoss: true, json: true })).toBe(0);
    expect(fakes.did).toEqual(["promote pg2", "slots [pg3] on pg2", "write pg2", "checkpoint pg2"]);
    expect(fakes.runningNodes).toHaveBeenLastCalledWith(expect.anything(), ["ssh://db1"]);
    expect(printed.map((text) => JSON.parse(text) as Report)).toMatchObject([{ fenced: ["pg1"], bytesLost: null, promoted: "pg2" }]);
    expect(said).toContain("pg1 asks the others when its host is back, and comes up as a standby");
  });

  describe("with commits that wait for standbys", () => {
    const confirmed = { synchronousCount: 1 };
    beforeEach(() => fakes.configure({ nodes: HOSTS, synchronous: { mode: "any", count: 1 } }));

    test("says what is known when every node that answers says so; what the lost one was told, nobody can read", async () => {
      seen(AWAY, standby("pg2", confirmed), standby("pg3", { ...confirmed, lsn: "0/4000000" }));
      expect(await refusal([], vouched)).toContain(
        "it lacks no acknowledged commit, if the primary waited for its standbys as the config and the others say",
      );
      expect(await run({ ...vouched, allowDataLoss: true })).toBe(0);
    });

    test.each<[string, Observation[], object]>([
      ["when a node has not been told so yet", [AWAY, standby("pg2", confirmed), BEHIND], {}],
      ["when the config does not say so (any more)", [AWAY, standby("pg2", confirmed), standby("pg3", confirmed)], { synchronous: {} }],
    ])("needs it %s: commits of then may be on the lost host alone", async (_when, observed, config) => {
      fakes.configure({ nodes: HOSTS, synchronous: { mode: "any", count: 1 }, ...config });
      seen(...observed);
      expect(await refusal([], vouched)).toContain("nobody knows what the standby lacks");
    });

    test("needs it when the one that has confirmed may be out of reach as well", async () => {
      seen(AWAY, standby("pg2", confirmed), silent("pg3", "exited"));
      expect(await refusal(["fence pg3", "read pg3"], vouched)).toMatch(/nobody knows what the standby lacks/);
    });

    test("needs it when the data that cannot be read is that of a host that answers", async () => {
      seen(silent("pg1", "exited"), standby("pg2", confirmed), standby("pg3", confirmed));
      fakes.ends = { pg1: UNREADABLE };
      expect(await refusal(["fence pg1", "read pg1"])).toContain("nobody knows what the standby lacks");
    });
  });
});

describe("failover", () => {
  /** All that is done, in order. */
  const WHOLE = ["fence pg1", "read pg1", "mark fenced pg1", "promote pg2", "slots [pg3] on pg2", "write pg2", "checkpoint pg2"];

  test("fences first, then reads what would be lost, marks, promotes, and waits for a write", async () => {
    seen(...PRIMARY_GONE);
    expect(await run()).toBe(0);
    expect(fakes.did).toEqual(WHOLE);
    expect(existsSync(fakes.note)).toBe(false);
    expect(printed).toEqual([expect.stringMatching(/^pg2 is primary; first accepted write after \d+\.\d s; nothing is lost \(/)]);
    expect(said.at(-1)).toBe("bring pg1 back with: npm run rejoin -- pg1 --stack dev");
  });

  test.each(["pg2", undefined])(
    "fences, reads and marks who falls silent between two looks as well; promotion pending: %s",
    async (pending) => {
      if (pending !== undefined) {
        fakes.noted(JSON.stringify({ promoted: pending, phase: "promoting" }));
      }
      fakes.observe.mockResolvedValueOnce(PRIMARY_GONE);
      fakes.observe.mockResolvedValueOnce([silent("pg1", "exited"), silent("pg2", "running"), standby("pg3", { lsn: "0/5000000" })]);
      seen(silent("pg1", "exited"), silent("pg2", "exited"), standby("pg3", { lsn: "0/5000000" }));
      expect(await run({ json: true })).toBe(0);
      expect(fakes.did).toEqual([
        ...["fence pg1", "read pg1", "fence pg2", "read pg2", "mark fenced pg1", "mark fenced pg2"],
        ...["promote pg3", "slots [] on pg3", "write pg3", "checkpoint pg3"],
      ]);
      expect(printed.map((text) => JSON.parse(text) as Report)).toMatchObject([{ fenced: ["pg1", "pg2"], promoted: "pg3", bytesLost: 0 }]);
      expect(said).toContain("bring pg2 back with: npm run rejoin -- pg2 --stack dev");
    },
  );

  test("looks again after every fence: it promotes at a look at which everybody else answers", async () => {
    fakes.configure({ nodes: [...NODES, { name: "pg4", port: 5435 }] });
    const at = (...states: [Observation, Observation, Observation]): Observation[] => [silent("pg1", "exited"), ...states];
    const [two, three, four] = [standby("pg2"), standby("pg3"), standby("pg4")];
    fakes.observe.mockResolvedValueOnce(at(two, three, four));
    fakes.observe.mockResolvedValueOnce(at(silent("pg2", "running"), three, four));
    seen(...at(silent("pg2", "exited"), silent("pg3", "running"), four));
    expect(await run()).toBe(0);
    expect(fakes.did.filter((what) => /^(fence|promote)/.test(what))).toEqual(["fence pg1", "fence pg2", "fence pg3", "promote pg4"]);
  });

  test("tells a node on a timeline that is given up to clone: the candidate's next one may have the same number", async () => {
    seen(silent("pg1", "exited"), standby("pg2"), standby("pg3"));
    fakes.ends = { pg1: { timeline: 2, lsn: "0/5000010", clean: false, writable: true, history: { 1: "0/5000000" } } };
    expect(await run()).toBe(0);
    expect(fakes.did).toEqual(expect.arrayContaining(["mark fenced pg1", "mark reclone pg1"]));
  });

  test("promotes the standby that is ahead when the primary is certain to send no more", async () => {
    fakes.observe.mockResolvedValueOnce(PRIMARY_GONE);
    fakes.observe.mockResolvedValueOnce([
      silent("pg1", "exited"),
      standby("pg2", { lsn: "0/5000000" }),
      standby("pg3", { lsn: "0/5000001" }),
    ]);
    await run();
    expect(fakes.did).toContain("promote pg3");
    expect(fakes.did).toContain("slots [pg2] on pg3");
  });

  test("chooses only when no standby receives any more: what was under way could put another one ahead", async () => {
    fakes.observe.mockResolvedValueOnce(PRIMARY_GONE);
    fakes.observe.mockResolvedValueOnce([silent("pg1", "exited"), standby("pg2"), receiving("pg3", { lsn: "0/4000000" })]);
    seen(silent("pg1", "exited"), standby("pg2"), standby("pg3", { lsn: "0/5000001" }));
    await run();
    expect(fakes.did).toContain("promote pg3");
  });

  test("promotes without being told to when what is lost is within the limit, and says how much", async () => {
    seen(...PRIMARY_GONE);
    fakes.ends = { pg1: { timeline: 1, lsn: "0/5000010", clean: false, writable: true, history: {} } };
    await run({ json: true });
    expect(printed.map((text) => JSON.parse(text) as Report)).toEqual([
      {
        stack: "dev",
        fenced: ["pg1"],
        promoted: "pg2",
        seconds: expect.any(Number) as number,
        bytesLost: 16,
        howKnown: "the WAL in the volume of pg1 was compared with what pg2 had received",
        notCovered: [],
      },
    ]);
  });

  test.each<[string, WalEnd | Unreadable, string, RegExp]>([
    ["that nobody knows", UNREADABLE, "nobody knows what the standby lacks", /an unknown number of bytes may be lost/],
    [
      "above the limit",
      { timeline: 1, lsn: "0/6000001", clean: false, writable: true, history: {} },
      "pg2 lacks 16777217 bytes",
      /16777217 bytes of WAL are lost/,
    ],
  ])("promotes with --allow-data-loss at a loss %s, and says what is given up", async (_which, walEnd, why, loss) => {
    seen(...PRIMARY_GONE);
    fakes.ends = { pg1: walEnd };
    expect(await run({ allowDataLoss: true })).toBe(0);
    expect(fakes.did).toEqual(WHOLE);
    expect(said).toContainEqual(expect.stringMatching(new RegExp(`^--allow-data-loss gives up: .*${why}`)));
    expect(printed[0]).toMatch(loss);
  });

  test("holds the lock of the stack's engine, and gives it back at the end", async () => {
    fakes.configure({ nodes: NODES.map((node) => ({ ...node, dockerHost: "ssh://ops@db" })) });
    seen(...PRIMARY_GONE);
    expect(await run()).toBe(0);
    expect(fakes.lock.mock.calls).toEqual([
      [{ stack: "dev", engines: ["ssh://ops@db"] }, "failover", expect.objectContaining({ seconds: 0 })],
    ]);
    expect(fakes.release).toHaveBeenCalledTimes(1);
  });

  test("looks again when somebody had the lock until now: the primary that was silent may have been restarted", async () => {
    fakes.lock.mockResolvedValue({ ...fakes.held, waited: true });
    fakes.observe.mockResolvedValueOnce(PRIMARY_GONE).mockResolvedValue([primary("pg1", ["pg2"]), standby("pg2")]);
    await expect(run()).rejects.toThrow("failover refused: the primary pg1 lives and answers");
    expect(fakes.did).toEqual([]);
  });

  test("in a dry run takes no lock", async () => {
    seen(...PRIMARY_GONE);
    expect(await run({ dryRun: true })).toBe(0);
    expect(fakes.lock).not.toHaveBeenCalled();
  });

  test("is not spoilt by a checkpoint that fails: the node is primary, and says so", async () => {
    seen(...PRIMARY_GONE);
    fakes.on["checkpoint pg2"] = () => Promise.reject(new UserError("no room"));
    expect(await run()).toBe(0);
    expect(said).toContain("pg2 has not made a checkpoint (no room); a node that rejoins may wait for it");
    expect(printed).toHaveLength(1);
  });

  test("on a synchronous stack writes only once the survivors have their slots: one of them has to confirm", async () => {
    fakes.configure({ synchronous: { mode: "any", count: 1 } });
    seen(...PRIMARY_GONE);
    await run();
    expect(fakes.did.slice(-4)).toEqual(["promote pg2", "slots [pg3] on pg2", "write pg2", "checkpoint pg2"]);
  });

  describe("that was interrupted", () => {
    const interruptedAt = (text: string): void => {
      fakes.noted(text);
    };

    test("leaves a note of whom it promoted, after the old primary's mark", async () => {
      seen(...PRIMARY_GONE);
      fakes.on["promote pg2"] = () => Promise.reject(new UserError("node pg2 did not become primary within 60 s"));
      await expect(run()).rejects.toThrow("did not become primary");
      expect(JSON.parse(readFileSync(fakes.note, "utf8"))).toMatchObject({ promoted: "pg2", phase: "promoting", loss: { bytesLost: 0 } });
      expect(fakes.did).toEqual(["fence pg1", "read pg1", "mark fenced pg1", "promote pg2"]);
    });

    test("is finished by the next one: slots and a write, nobody is fenced or promoted again", async () => {
      interruptedAt(JSON.stringify({ promoted: "pg2", phase: "promoting" }));
      seen(silent("pg1", "exited"), primary("pg2", [], { timeline: 2 }), standby("pg3"));
      expect(await run()).toBe(0);
      expect(fakes.did).toEqual(["slots [pg3] on pg2", "write pg2", "checkpoint pg2"]);
      expect(existsSync(fakes.note)).toBe(false);
    });

    test("and had given something up says so when it is finished", async () => {
      const loss = { fenced: ["pg1"], bytesLost: 4711, howKnown: "somehow", notCovered: [] };
      interruptedAt(JSON.stringify({ promoted: "pg2", phase: "promoting", loss }));
      seen(silent("pg1", "exited"), primary("pg2", [], { timeline: 2 }), standby("pg3"));
      expect(await run({ json: true })).toBe(0);
      expect(printed.map((text) => JSON.parse(text) as Report)).toEqual([
        { stack: "dev", promoted: "pg2", seconds: expect.any(Number) as number, ...loss },
      ]);
    });

    test("before the promotion begins anew", async () => {
      interruptedAt(JSON.stringify({ promoted: "pg3", phase: "stopping" }));
      seen(...PRIMARY_GONE);
      expect(await run()).toBe(0);
      expect(fakes.did).toContain("promote pg2");
      expect(existsSync(fakes.note)).toBe(false);
    });

    test("does not count when another node is primary: that one lives", async () => {
      interruptedAt(JSON.stringify({ promoted: "pg2", phase: "promoting" }));
      seen(primary("pg1", ["pg2"]), standby("pg2"), standby("pg3"));
      await expect(run()).rejects.toThrow("failover refused: the primary pg1 lives and answers");
      expect(fakes.did).toEqual([]);
    });

    test.each(["", '{"promo'])("while it wrote its note (%j) stands in nobody's way", async (text) => {
      interruptedAt(text);
      seen(...PRIMARY_GONE);
      expect(await run()).toBe(0);
      expect(fakes.did).toContain("promote pg2");
    });
  });
});
