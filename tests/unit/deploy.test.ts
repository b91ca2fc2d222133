import execa from "execa";
import type * as Fs from "fs";
import { rmSync } from "fs";
import type * as Os from "os";
import type * as Path from "path";
import { down, errorLines, up } from "../../commands/deploy";
import * as docker from "../../commands/docker";
import { UserError } from "../../commands/errors";
import * as observing from "../../commands/observe";
import * as preflight from "../../commands/preflight";
import * as workspace from "../../commands/workspace";
import { switchover } from "../../commands/switchover";
import { parseConfig } from "../../core/config";
import type { Observation } from "../../core/topology";
import { primary, silent, standby } from "./observations";

jest.mock("execa");
// Set-up draws its progress with an ES module, which has nothing to do here.
jest.mock("../../commands/setup", () => ({ setup: jest.fn() }));
jest.mock("../../commands/docker");
jest.mock("../../commands/observe");
jest.mock("../../commands/switchover", () => ({ switchover: jest.fn() }));
jest.mock("../../commands/preflight", () => ({ checkPorts: jest.fn(), reconcile: jest.fn(), releaseStaleLocks: jest.fn() }));
jest.mock("../../commands/workspace", () => {
  const { mkdtempSync } = jest.requireActual<typeof Fs>("fs");
  const { tmpdir } = jest.requireActual<typeof Os>("os");
  const path = jest.requireActual<typeof Path>("path");
  return {
    ensureStack: jest.fn(),
    hasStack: jest.fn(),
    pulumiEnvironment: () => ({}),
    readStackConfig: jest.fn(),
    ROOT: "/nowhere",
    STATE_DIR: mkdtempSync(path.join(tmpdir(), "deploy-")),
  };
});

const runPulumi = jest.mocked(execa) as unknown as jest.Mock<Promise<unknown>, [string, string[]]>;
const reconcile = jest.mocked(preflight.reconcile);
const moveRole = jest.mocked(switchover);
const NODES = ["pg1", "pg2", "db-c"].map((name, i) => ({ name, port: 5432 + i }));
const configured = (more: object = {}): void =>
  void jest.mocked(workspace.readStackConfig).mockReturnValue(parseConfig("staging", { nodes: NODES, ...more }));
const volume = (node: string): string => `postgres-replica-staging-${node}-data`;
/** What Docker and the state say: all is there, unless `changes` tells of something else. */
const found = (changes: Partial<preflight.Found> = {}): void =>
  void reconcile.mockResolvedValue({
    lost: false,
    lostVolumes: [],
    volumes: NODES.map((node) => volume(node.name)),
    first: "pg1",
    secondaries: ["pg2", "db-c"],
    ...changes,
  });
/** The arguments of Pulumi up to its own ones, run by run. */
const runs = (): string[][] => runPulumi.mock.calls.map(([, args]) => args.slice(0, args.indexOf("--stack")));

const seen = (...observed: Observation[]): void => void jest.mocked(observing.observe).mockResolvedValue(observed);

beforeEach(() => {
  jest.resetAllMocks();
  jest.spyOn(console, "error").mockImplementation(() => undefined);
  runPulumi.mockResolvedValue({ exitCode: 0, stderr: "" });
  jest.mocked(docker.docker).mockResolvedValue({ exitCode: 0, stdout: "", stderr: "" });
  jest.mocked(docker.sqlIn).mockResolvedValue({ exitCode: 0, stdout: "", stderr: "" });
  found();
  jest.mocked(workspace.hasStack).mockResolvedValue(true);
  seen(primary("pg1", ["pg2", "db-c"]), standby("pg2"), standby("db-c"));
  configured();
});
afterAll(() => rmSync(workspace.STATE_DIR, { recursive: true, force: true }));

describe("up", () => {
  test("builds on what there is when nothing is gone", async () => {
    expect(await up("staging")).toBe(0);
    expect(runs()).toEqual([["up", "--yes", "--skip-preview"]]);
  });

  test("refreshes the state when a container or a network is gone", async () => {
    found({ lost: true, lostVolumes: [] });
    await up("staging");
    expect(runs()).toEqual([["up", "--yes", "--skip-preview", "--refresh"]]);
  });

  test("copies the data of every secondary anew whose volume is gone, and of no other node", async () => {
    found({ lost: true, lostVolumes: [volume("pg2"), volume("db-c")] });
    await up("staging");
    const backup = (node: string): string =>
      `urn:pulumi:staging::postgres-replica::postgres-replica:index:StreamingSecondary$command:local:Command::${node}-basebackup`;
    expect(runs()).toEqual([["up", "--yes", "--skip-preview", "--refresh", "--replace", backup("pg2"), "--replace", backup("db-c")]]);
  });

  test.each([[["pg1"]], [["pg2", "pg1"]]])(
    "makes no empty cluster beside the others' data: %j lost is refused before Pulumi runs",
    async (nodes) => {
      found({ lost: true, lostVolumes: nodes.map(volume) });
      await expect(up("staging")).rejects.toThrow(UserError);
      await expect(up("staging")).rejects.toThrow(
        /^the volume postgres-replica-staging-pg1-data is gone, and no other node is primary .*Nothing was changed/,
      );
      expect(runs()).toEqual([]);
    },
  );

  test("clones the first node's volume from another node that is primary, before Pulumi runs", async () => {
    found({ lost: true, lostVolumes: [volume("pg1")] });
    seen(silent("pg1", null), primary("pg2", ["db-c"], { timeline: 2 }), standby("db-c"));
    expect(await up("staging")).toBe(0);
    const asked = jest.mocked(docker.docker).mock.calls.map(([args]) => args);
    expect(asked.map((args) => args.slice(0, 2).join(" "))).toEqual(["volume create", "rm -f", "exec -u", "run --rm"]);
    expect(asked.at(-1)?.join(" ")).toContain(`-v ${volume("pg1")}:/var/lib/pgnode`);
    expect(asked.at(-1)?.at(-1)).toMatch(/pgnode clone$/);
    expect(runs()).toEqual([["up", "--yes", "--skip-preview", "--refresh"]]);
  });

  test("does not run Pulumi when that clone fails, and gives the node's own reason", async () => {
    found({ lost: true, lostVolumes: [volume("pg1")] });
    seen(silent("pg1", null), primary("pg2", ["db-c"], { timeline: 2 }), standby("db-c"));
    jest.mocked(docker.docker).mockImplementation(([verb]) =>
      Promise.resolve(
        verb === "run"
          ? {
              exitCode: 1,
              stdout: "",
              stderr: "pg_basebackup: error\npgnode: the base backup of node pg1 failed: No space left on device",
            }
          : { exitCode: 0, stdout: "", stderr: "" },
      ),
    );
    await expect(up("staging")).rejects.toThrow(/^the base backup of node pg1 failed: No space left on device$/);
    expect(runs()).toEqual([]);
  });

  test("sets the passwords again when one was changed by hand, and says which", async () => {
    seen(standby("pg1"), primary("pg2", ["pg1", "db-c"], { changedPasswords: ["app", "replica_user"] }), standby("db-c"));
    await up("staging");
    const roles = "urn:pulumi:staging::postgres-replica::postgres-replica:index:Primary$command:local:Command::pg1-roles";
    expect(runs()).toEqual([["up", "--yes", "--skip-preview", "--replace", roles]]);
    expect(console.error).toHaveBeenCalledWith(
      "the password of app and replica_user is not the one that the stack has set; it is set again",
    );
  });

  test("lets a node go that is no longer in the config, volume or not", async () => {
    found({ lost: true, lostVolumes: [volume("old")], secondaries: ["pg2", "db-c", "old"] });
    await up("staging");
    expect(runs()).toEqual([["up", "--yes", "--skip-preview", "--refresh"]]);
  });

  describe("changes nothing when the config's nodes would delete data that is needed", () => {
    const without = (...names: string[]): void => configured({ nodes: NODES.filter((node) => !names.includes(node.name)) });

    test("the node that is primary now is taken out", async () => {
      without("pg2");
      seen(standby("pg1"), standby("db-c"), primary("pg2", ["pg1", "db-c"], { timeline: 2 }));
      await expect(up("staging")).rejects.toThrow(
        new UserError(
          "up refused: pg2 is primary, and nodes in Pulumi.staging.yaml no longer has it, so its data would be deleted. Nothing was changed. " +
            "Put it back, run: npm run switchover -- --stack staging --to pg1; then take it out",
        ),
      );
      expect(runs()).toEqual([]);
      // The node that is no longer in the config was asked as well.
      expect(
        jest
          .mocked(observing.observe)
          .mock.calls.at(-1)?.[0]
          .nodes.map((node) => node.name),
      ).toEqual(["pg1", "db-c", "pg2"]);
    });

    test("a node is taken out while nobody is primary: it may hold the newest data", async () => {
      without("pg2");
      seen(standby("pg1"), standby("db-c"), silent("pg2", "exited"));
      await expect(up("staging")).rejects.toThrow(
        /^up refused: no node is primary, so nobody can tell whether pg2, .* holds the newest data/,
      );
      expect(runs()).toEqual([]);
    });

    test("another node is first, and the volume of the one that was is gone: the others' data would be taken for a new cluster", async () => {
      without("pg1");
      found({ volumes: [volume("pg2"), volume("db-c")] });
      await expect(up("staging")).rejects.toThrow(
        /^up refused: nodes in Pulumi\.staging\.yaml begins with pg2, but the stack began with pg1/,
      );
    });

    test.each<[string, string[]]>([
      ["another node is first", ["pg1"]],
      ["the first one is gone, and another one too", ["pg1", "pg2"]],
    ])("%s", async (_what, dropped) => {
      without(...dropped);
      await expect(up("staging")).rejects.toThrow(
        /^up refused: nodes in Pulumi\.staging\.yaml begins with \S+, but the stack began with pg1\. Nothing was changed\. Put pg1 first again/,
      );
      expect(runs()).toEqual([]);
    });
  });

  test.each<[string, Partial<preflight.Found>, Observation[]]>([
    ["a standby that is taken out goes", {}, [primary("pg1", ["db-c"]), standby("db-c"), standby("pg2")]],
    [
      "a node that is taken out and gone goes, whoever is primary",
      {},
      [silent("pg1", "exited"), silent("db-c", "exited"), silent("pg2", null)],
    ],
    ["a stack of which nothing was made yet may begin with another node", { first: "old", secondaries: [], volumes: [] }, []],
  ])("%s", async (_what, changes, observed) => {
    configured({ nodes: NODES.filter((node) => node.name !== "pg2") });
    found(changes);
    seen(...observed);
    expect(await up("staging")).toBe(0);
    expect(runs()).toHaveLength(1);
  });

  test("fails as Pulumi does", async () => {
    runPulumi.mockResolvedValue({ exitCode: 255, stderr: "" });
    expect(await up("staging")).toBe(1);
  });
});

describe("down", () => {
  const moved = [standby("pg1"), primary("pg2", ["pg1", "db-c"], { timeline: 2 }), standby("db-c")];

  test("of a stack that was never up does nothing, not even make the stack", async () => {
    jest.mocked(workspace.hasStack).mockResolvedValue(false);
    expect(await down("staging")).toBe(0);
    expect(workspace.ensureStack).not.toHaveBeenCalled();
    expect(runs()).toEqual([]);
  });

  test("of a stack whose state is gone removes what Docker still has", async () => {
    jest.mocked(workspace.hasStack).mockResolvedValue(false);
    jest
      .mocked(docker.docker)
      .mockResolvedValueOnce({ exitCode: 0, stdout: "postgres-replica-staging-pg1", stderr: "" })
      .mockResolvedValue({ exitCode: 0, stdout: "", stderr: "" });
    expect(await down("staging")).toBe(0);
    expect(reconcile).toHaveBeenCalled();
  });

  test("with protectData moves the role to the first node, with which the next up begins", async () => {
    configured({ protectData: true });
    seen(...moved);
    moveRole.mockImplementation(() => Promise.resolve(expect(runs()).toEqual([])).then(() => 0));
    expect(await down("staging")).toBe(0);
    expect(moveRole.mock.calls).toEqual([["staging", "pg1", false]]);
    expect(runs()).toEqual([["destroy", "--yes", "--skip-preview"]]);
  });

  test("with protectData keeps everything when the role cannot move there", async () => {
    configured({ protectData: true });
    seen(...moved);
    moveRole.mockRejectedValue(new UserError("switchover undone"));
    await expect(down("staging")).rejects.toThrow(new UserError("switchover undone"));
    seen(silent("pg1", "exited"), primary("pg2", ["db-c"], { timeline: 2 }), standby("db-c"));
    await expect(down("staging")).rejects.toThrow(
      new UserError(
        "down refused: protectData is on, pg2 is primary, and the next up begins with pg1, which does not stream. Run first: npm run rejoin -- pg1 --stack staging",
      ),
    );
    expect(runs()).toEqual([]);
  });

  test.each<[string, Observation[]]>([
    ["nobody is primary", [silent("pg1", "exited"), silent("pg2", "exited"), silent("db-c", null)]],
    ["two nodes are primary", [primary("pg1", []), primary("pg2", []), standby("db-c")]],
  ])("with protectData is refused while %s: the first node may not have the newest data", async (_when, observed) => {
    configured({ protectData: true });
    seen(...observed);
    await expect(down("staging")).rejects.toThrow(/^down refused: protectData is on, and no single node is primary.*pulumi destroy$/);
    expect(runs()).toEqual([]);
  });

  test.each<[string, object, Observation[]]>([
    ["the first node is primary", { protectData: true }, [primary("pg1", ["pg2"]), standby("pg2"), standby("db-c")]],
    [
      "nothing but the first node was ever made",
      { protectData: true },
      [silent("pg1", "exited"), silent("pg2", null), silent("db-c", null)],
    ],
    ["the data goes as well", {}, moved],
  ])("goes on when %s", async (_when, more, observed) => {
    configured(more);
    seen(...observed);
    expect(await down("staging")).toBe(0);
    expect(moveRole).not.toHaveBeenCalled();
    expect(runs()).toEqual([["destroy", "--yes", "--skip-preview"]]);
  });
});

describe("the errors of a run that was killed", () => {
  const event = (message: string): string => JSON.stringify({ diagnosticEvent: { severity: "error", message } });
  const whole = event("port is taken");

  test("are all there whatever the byte is at which the last line was cut off", () => {
    const last = event("the second «error»");
    for (let length = 0; length < last.length; length++) {
      expect([length, errorLines(`${whole}\n${last.slice(0, length)}`)]).toEqual([length, ["port is taken"]]);
    }
    expect(errorLines(`${whole}\n${last}`)).toEqual(["port is taken", "the second «error»"]);
  });

  test("are none when there is nothing but a cut-off line", () => {
    expect(errorLines(whole.slice(0, -1))).toEqual([]);
    expect(errorLines("")).toEqual([]);
  });
});
