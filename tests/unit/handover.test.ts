import * as pulumi from "@pulumi/pulumi";
import { afterHandover } from "../../components/handover";
import { restartsFor, standbysComeFirst } from "../../core/judgement/handover";
import { parseConfig } from "../../core/config";
import { placed } from "../../core/model/place";
import * as handing from "../../operations/guard/handover";
import { Journal } from "../../operations/change/journal";
import * as switching from "../../operations/change/switchover";
import * as observing from "../../operations/engine/observe";
import { UserError } from "../../operations/errors";
import { primary, silent, standby } from "./observations";
import { startMocks } from "./program";

jest.mock("../../operations/engine/observe", () => ({ observe: jest.fn() }));
jest.mock("../../operations/change/switchover", () => ({ moveRole: jest.fn() }));

const config = placed(parseConfig("dev", {}), "unix:///x");
const observe = jest.mocked(observing.observe);
const moveRole = jest.mocked(switching.moveRole);
const RESTARTS = ["max_connections", "shared_buffers"];

beforeEach(() => {
  jest.resetAllMocks();
  moveRole.mockResolvedValue(0);
});
afterEach(() => jest.restoreAllMocks());

describe("new settings", () => {
  test("need a restart when one differs that the server says so of, however its name is written", () => {
    const before = "# a comment\nShared_Buffers = '1GB'\nwork_mem = '8MB'\npgnode.members = 'x'\n";
    expect(restartsFor(before, before, RESTARTS)).toEqual([]);
    expect(restartsFor(before, before.replace("8MB", "9MB"), RESTARTS)).toEqual([]);
    expect(restartsFor(before, before.replace("1GB", "2GB"), RESTARTS)).toEqual(["shared_buffers"]);
    expect(restartsFor(before, "max_connections = '7'\n", RESTARTS)).toEqual(["max_connections", "shared_buffers"]);
  });

  test.each([
    ["max_connections = '100'\n", "max_connections = '200'\n", true],
    ["max_connections = '200'\n", "max_connections = '100'\n", false],
    ["max_connections = '200'\n", "", false],
    ["", "max_connections = '200'\n", true],
    ["", "max_connections = '50'\n", false],
    ["max_connections = '50'\n", "", true],
    ["", "max_wal_senders = '10'\n", true],
    ["max_connections = '100'\n", "max_connections = '1e2x'\n", false],
    ["max_wal_senders = '9'\nwork_mem = '9MB'\n", "max_wal_senders = '10'\nwork_mem = '8MB'\n", true],
    ["max_wal_senders = '9'\nmax_connections = '100'\n", "max_wal_senders = '10'\nmax_connections = '99'\n", false],
    ["shared_buffers = '2GB'\n", "shared_buffers = '1GB'\n", true],
  ])("from %j to %j: a standby can have them before its primary: %s", (before, after, expected) => {
    expect(standbysComeFirst(before, after)).toBe(expected);
  });
});

describe("up, before it replaces or restarts the primary,", () => {
  const said: string[] = [];
  const handOver = (): Promise<void> => handing.handOver(config, "pg1", (line) => said.push(line));
  beforeEach(() => said.splice(0));

  test("moves the role to a standby that streams", async () => {
    observe.mockResolvedValue([primary("pg1", ["pg2"]), standby("pg2")]);
    await handOver();
    expect([moveRole.mock.calls, said]).toEqual([[[config]], []]);
  });

  test("says that nobody streams, and goes on", async () => {
    observe.mockResolvedValue([primary("pg1", []), standby("pg2")]);
    await handOver();
    expect(moveRole).not.toHaveBeenCalled();
    expect(said).toEqual(["no standby streams from pg1, so nobody can take the role: nobody can write until pg1 is back"]);
  });

  test.each([
    ["another node is primary", [standby("pg1"), primary("pg2", ["pg1"])]],
    ["nobody is primary", [silent("pg1", "exited"), standby("pg2")]],
  ])("moves nothing when %s by now", async (_when, observed) => {
    observe.mockResolvedValue(observed);
    await handOver();
    expect([moveRole.mock.calls, said]).toEqual([[], []]);
  });

  test("goes no further when that fails, and tells it in one line", async () => {
    await startMocks({});
    observe.mockResolvedValue([primary("pg1", ["pg2"]), standby("pg2")]);
    moveRole.mockRejectedValue(new UserError("switchover undone: x"));
    const [waits] = afterHandover([new pulumi.ComponentResource("test:index:Well", "well")], config, "pg1");
    await expect(waits).rejects.toThrow(pulumi.RunError);
    await expect(waits).rejects.toThrow("switchover undone: x");
  });
});

describe("a switchover that was interrupted", () => {
  const noted = (note: ReturnType<Journal["read"]>): void => void jest.spyOn(Journal.prototype, "read").mockReturnValue(note);
  const STOPPED = [silent("pg1", "exited"), standby("pg2")];

  test.each([
    ["goes on", "stopping" as const, STOPPED],
    ["is finished", "promoting" as const, [silent("pg1", "exited"), primary("pg2", [], { timeline: 2 })]],
  ])("%s with the next up", async (_how, phase, observed) => {
    noted({ promoted: "pg2", from: "pg1", timeline: 1, phase });
    expect(await handing.finishMove(config, observed)).toBe(true);
    expect(moveRole.mock.calls).toEqual([[config, "pg2"]]);
  });

  test.each([
    ["nothing was interrupted", undefined, STOPPED],
    ["it was a failover", { promoted: "pg2", phase: "promoting" as const }, STOPPED],
    [
      "the old primary is back",
      { promoted: "pg2", from: "pg1", timeline: 1, phase: "stopping" as const },
      [primary("pg1", ["pg2"]), standby("pg2")],
    ],
    [
      "a third node is silent, which may have become primary",
      { promoted: "pg2", from: "pg1", timeline: 1, phase: "stopping" as const },
      [...STOPPED, silent("pg3", "paused")],
    ],
  ])("is left alone when %s", async (_when, note, observed) => {
    noted(note);
    expect(await handing.finishMove(config, observed)).toBe(false);
    expect(moveRole).not.toHaveBeenCalled();
  });
});
