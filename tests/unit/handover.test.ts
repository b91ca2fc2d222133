import * as pulumi from "@pulumi/pulumi";
import { existsSync, readFileSync } from "fs";
import { afterHandover, handoverOf } from "../../components/handover";
import type { Provided } from "../../core/config";
import { clusterOf } from "../../core/model/cluster";
import { containerName } from "../../core/model/names";
import { findsOthers, follows, restartsFor } from "../../core/judgement/handover";
import * as handing from "../../operations/guard/handover";
import { UserError } from "../../operations/errors";
import { primary, replica, silent, standby } from "./observations";
import { startMocks } from "./program";
import { FakeStack } from "./roles";
import { foundAt, surveyOf } from "./surveys";

const RESTARTS = ["max_connections", "shared_buffers"];

let fakes: FakeStack;
beforeEach(() => {
  fakes = new FakeStack();
  jest.spyOn(console, "error").mockImplementation(() => undefined);
  jest.spyOn(console, "log").mockImplementation(() => undefined);
});
afterEach(() => {
  jest.restoreAllMocks();
  fakes.remove();
});

describe("new settings", () => {
  test("need a restart when one differs that the server says so of, however its name is written", () => {
    const before = "# a comment\nShared_Buffers = '1GB'\nwork_mem = '8MB'\npgnode.members = 'x'\n";
    expect(restartsFor(before, before, RESTARTS)).toEqual([]);
    expect(restartsFor(before, before.replace("8MB", "9MB"), RESTARTS)).toEqual([]);
    expect(restartsFor(before, before.replace("1GB", "2GB"), RESTARTS)).toEqual(["shared_buffers"]);
    expect(restartsFor(before, "max_connections = '7'\n", RESTARTS)).toEqual(["max_connections", "shared_buffers"]);
  });

  test.each([
    ["max_connections = '100'\n", "max_connections = '200'\n", false],
    ["max_connections = '200'\n", "max_connections = '100'\n", false],
    ["max_connections = '200'\n", "", false],
    ["", "max_connections = '200'\n", false],
    ["max_connections = '50'\n", "", false],
    ["max_worker_processes = '9'\n", "max_worker_processes = '10'\n", false],
    ["max_wal_senders = '9'\n", "max_wal_senders = '10'\n", false],
    ["max_prepared_transactions = '9'\n", "max_prepared_transactions = '10'\n", false],
    ["max_locks_per_transaction = '90'\n", "max_locks_per_transaction = '100'\n", false],
    ["max_wal_senders = '9'\nwork_mem = '9MB'\n", "max_wal_senders = '9'\nwork_mem = '8MB'\n", true],
    ["shared_buffers = '2GB'\n", "shared_buffers = '1GB'\n", true],
  ])("from %j to %j: a node with the old ones can follow one with the new ones: %s", (before, after, expected) => {
    expect(follows(before, after)).toBe(expected);
  });

  test.each([
    ["pgnode.members = 'pg2=10.0.0.2:5432'\n", "pgnode.members = 'pg2=10.0.0.2:5433'\n", false],
    ["primary_conninfo = 'host=pg2'\n", "primary_conninfo = 'host=pg3'\n", false],
    ["ssl = 'on'\n", "", false],
    ["pgnode.tls = 'sslmode=verify-full'\n", "", false],
    ["pgnode.rejoin = 'on'\nwork_mem = '1MB'\n", "pgnode.rejoin = 'off'\nwork_mem = '2MB'\n", true],
    ["", "pgnode.clone_from = 'standby'\npgnode.clone_max_rate = '1024'\n", true],
  ])("from %j to %j: a node with the old ones finds the others: %s", (before, after, expected) => {
    expect(findsOthers(before, after)).toBe(expected);
  });
});

const WELL = [primary("pg1", ["pg2", "pg3"]), standby("pg2"), standby("pg3", { lsn: "0/4000000" })];

describe("up, before it replaces or restarts the primary,", () => {
  let said: string[];
  const handOver = (): Promise<void> => handing.handOver(fakes.config, "pg1", (line) => said.push(line), fakes.ports);
  const promoted = (): string[] => fakes.did.filter((what) => what.startsWith("promote "));
  beforeEach(() => (said = []));

  test("moves the role to a standby that streams, and brings the old primary its password file", async () => {
    fakes.observe.mockResolvedValue(WELL);
    await handOver();
    expect([promoted(), said]).toEqual([["promote pg2"], []]);
    expect(fakes.did).toContain("take the password file of pg2 to pg1");
    expect(fakes.did.indexOf("take the password file of pg2 to pg1")).toBeLessThan(fakes.did.indexOf("start pg1"));
  });

  test("takes the one that has caught up, not the first one", async () => {
    const replicas = [replica("pg2", { lagBytes: 1e9 }), replica("pg3")];
    const [first, ...standbys] = WELL;
    fakes.observe.mockResolvedValue([{ ...first, server: { ...first?.server, replicas } } as (typeof WELL)[number], ...standbys]);
    await handOver();
    expect(promoted()).toEqual(["promote pg3"]);
  });

  test("waits until one has caught up", async () => {
    fakes.observe.mockResolvedValueOnce([primary("pg1", []), standby("pg2"), standby("pg3")]).mockResolvedValue(WELL);
    await handOver();
    expect([promoted(), said]).toEqual([["promote pg2"], []]);
  });

  test("says that nobody streams, and goes on", async () => {
    fakes.observe.mockResolvedValue([primary("pg1", ["subscriber"]), standby("pg2"), standby("pg3")]);
    await handOver();
    expect(fakes.did).toEqual([]);
    expect(said).toEqual([
      "no standby streams from pg1 and has caught up, so nobody can take the role: nobody can write until pg1 is back",
    ]);
  });

  test("leaves the role where somebody would lose by it what no standby has", async () => {
    fakes.observe.mockResolvedValue(WELL);
    // What only the node has that is to take the role counts, not what the others have.
    fakes.on["own pg2"] = () => Promise.resolve({ altered: { work_mem: "9MB" } });
    fakes.on['own alone beside {"work_mem":"9MB"} pg1'] = () => Promise.resolve(["logical slots a, b"]);
    await handOver();
    expect(fakes.did).toEqual([]);
    expect(said).toEqual([
      expect.stringMatching(/^pg1 keeps the role, because pg2 has not its logical slots a, b: nobody can write until/),
    ]);
  });

  test("looks again after a look that says nothing, and after one at which a standby had fallen back", async () => {
    const [first, ...standbys] = WELL;
    const late = {
      ...first,
      server: { ...first?.server, replicas: [replica("pg2", { lagBytes: 1e9 }), replica("pg3", { state: "catchup" })] },
    };
    const LATE = [late as (typeof WELL)[number], ...standbys];
    const NOBODY = [silent("pg1", "running"), ...standbys];
    // The third look is the change's own, which comes a moment after the one that found it possible.
    fakes.observe.mockResolvedValueOnce(NOBODY).mockResolvedValueOnce(WELL).mockResolvedValueOnce(LATE).mockResolvedValue(WELL);
    await handOver();
    expect([promoted(), said]).toEqual([["promote pg2"], []]);
  });

  test("leaves the role where it is when every look has another answer, and says the last one", async () => {
    const [first, ...standbys] = WELL;
    const late = { ...first, server: { ...first?.server, replicas: [replica("pg2", { lagBytes: 1e9 })] } } as (typeof WELL)[number];
    let looks = 0;
    fakes.observe.mockImplementation(() => Promise.resolve(looks++ % 2 === 0 ? WELL : [late, ...standbys]));
    jest.spyOn(fakes.ports.clock, "now").mockImplementation(() => looks * 1_000);
    await handOver();
    expect(fakes.did).toEqual([]);
    expect(said).toEqual([
      expect.stringMatching(/^switchover refused: node pg2 is 1000000000 bytes behind.*pg1 keeps the role: nobody can/),
    ]);
  });

  test("says that nobody is primary, and goes on", async () => {
    fakes.observe.mockResolvedValue([silent("pg1", "running"), standby("pg2"), standby("pg3")]);
    await handOver();
    expect([fakes.did, said]).toEqual([
      [],
      ["pg1 does not answer as the only primary, so nobody can take the role: nobody can write until pg1 is back"],
    ]);
  });

  test.each(["SIGINT", "SIGTERM", "SIGHUP"] as const)("is not ended by %s on the way, and is by one afterwards", async (signal) => {
    fakes.observe.mockResolvedValue(WELL);
    const before = process.listenerCount(signal);
    let during = 0;
    fakes.on["promote pg2"] = () => {
      during = process.listenerCount(signal);
      process.emit(signal, signal);
      return Promise.resolve(undefined);
    };
    await handOver();
    expect([during, process.listenerCount(signal)]).toEqual([before + 1, before]);
    expect([promoted(), said]).toEqual([["promote pg2"], [expect.stringContaining("on its way from one node to another")]]);
    expect(fakes.did).toContain("start pg1");
  });

  test("moves nothing when another node is primary by now", async () => {
    fakes.observe.mockResolvedValue([standby("pg1"), primary("pg2", ["pg1"])]);
    await handOver();
    expect([fakes.did, said]).toEqual([[], []]);
  });

  const TAKEN = new UserError("failover (process 7 on x) is at work");
  test("asks for the stack's lock before the promotion, and promotes nobody when somebody else has it by now", async () => {
    fakes.observe.mockResolvedValue(WELL);
    fakes.lock.mockImplementation(() => {
      fakes.did.push("ask for the lock");
      return Promise.reject(TAKEN);
    });
    await expect(handOver()).rejects.toThrow(TAKEN);
    expect([fakes.did.at(-1), promoted()]).toEqual(["ask for the lock", []]);
    // Whoever has it knows from this what was under way; and nothing is started beside what that one does.
    expect(fakes.did).not.toContain("start pg1");
    expect(readFileSync(fakes.note, "utf8")).toContain("stopping");
  });

  test("gives a lock that it had to take itself back at its end", async () => {
    fakes.observe.mockResolvedValue(WELL);
    const releaseNow = jest.spyOn(fakes.held, "releaseNow");
    const once = jest.spyOn(process, "once").mockReturnValue(process);
    await handOver();
    expect(fakes.lock).toHaveBeenCalledTimes(1);
    once.mock.calls.filter(([event]) => event === "exit").forEach(([, atExit]) => (atExit as () => void)());
    expect(releaseNow).toHaveBeenCalledTimes(1);
  });

  test.each([
    ["trusts the new primary", "A", "me", "its container is replaced"],
    ["does not trust the new primary's certificate yet", "B", "me", undefined],
    ["has the program of version 0.1.0", "A", "", undefined],
  ])("moves it, or not, where the old primary %s", (_when, authority, identity, why) => {
    const cluster = clusterOf(fakes.config);
    const plan = { standing: [...fakes.config.nodes].reverse(), led: true } as Parameters<typeof handoverOf>[1];
    const prior = { settings: new Map(), trusted: new Map([["pg1", "A"]]) } as unknown as Parameters<typeof handoverOf>[2];
    const found = [foundAt("unix:///x", "container", containerName("dev", "pg1"), { node: "pg1", identity })];
    const survey = surveyOf("unix:///x", { observed: WELL, found });
    expect(handoverOf(cluster, plan, prior, { survey }, { authority, nodes: {} } satisfies Provided)?.why).toBe(why);
  });

  test("goes no further when that fails, and tells it in one line", async () => {
    await startMocks({});
    const [waits] = afterHandover([new pulumi.ComponentResource("test:index:Well", "well")], fakes.config, "pg1", () =>
      Promise.reject(new UserError("switchover undone: x")),
    );
    await expect(waits).rejects.toThrow(pulumi.RunError);
    await expect(waits).rejects.toThrow("switchover undone: x");
  });
});

describe("a switchover that was interrupted", () => {
  const note = (phase: "stopping" | "promoting"): string => JSON.stringify({ promoted: "pg2", from: "pg1", timeline: 1, phase });
  const STOPPED = [silent("pg1", "exited"), standby("pg2"), standby("pg3")];
  const MOVED = [silent("pg1", "exited"), primary("pg2", ["pg3"], { timeline: 2 }), standby("pg3", { timeline: 2 })];
  let said: string[];
  const finishMove = (observed: typeof WELL): Promise<boolean> => {
    fakes.observe.mockResolvedValue(observed);
    return handing.finishMove(fakes.config, observed, (line) => said.push(line), fakes.ports);
  };
  beforeEach(() => (said = []));

  test.each([
    ["goes on", "stopping" as const, STOPPED, ["promote pg2"]],
    ["is finished", "promoting" as const, MOVED, []],
  ])("%s with the next up", async (_how, phase, observed, promoted) => {
    fakes.noted(note(phase));
    expect(await finishMove(observed)).toBe(true);
    expect(fakes.lock).toHaveBeenCalledTimes(promoted.length);
    expect(fakes.did.filter((what) => what.startsWith("promote "))).toEqual(promoted);
    expect(fakes.did).toContain("take the password file of pg2 to pg1");
    expect(said).toEqual([]);
  });

  test("does not end the up where only the old primary does not come back", async () => {
    fakes.noted(note("promoting"));
    fakes.stayDown = ["pg1"];
    expect(await finishMove(MOVED)).toBe(true);
    expect(said).toEqual([expect.stringContaining("pg1")]);
  });

  test("is forgotten when the old primary is back: later it would be taken for one that goes on", async () => {
    fakes.noted(note("stopping"));
    expect(await finishMove(WELL)).toBe(false);
    expect(existsSync(fakes.note)).toBe(false);
    expect(await finishMove(STOPPED)).toBe(false);
    expect(fakes.did).toEqual([]);
  });

  test("is kept in mind while nobody knows who is primary", async () => {
    fakes.noted(note("stopping"));
    expect(await finishMove([...STOPPED.slice(0, 2), silent("pg3", "paused")])).toBe(false);
    expect(readFileSync(fakes.note, "utf8")).toContain("stopping");
  });

  test.each([
    ["nothing was interrupted", "", STOPPED],
    ["it was a failover", JSON.stringify({ promoted: "pg2", phase: "promoting" }), STOPPED],
    ["the old primary is back", note("stopping"), WELL],
    ["a third node is silent, which may have become primary", note("stopping"), [...STOPPED.slice(0, 2), silent("pg3", "paused")]],
  ])("is left alone when %s", async (_when, text, observed) => {
    fakes.noted(text);
    expect(await finishMove(observed)).toBe(false);
    expect(fakes.did).toEqual([]);
  });
});
