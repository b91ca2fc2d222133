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
import { parseConfig } from "../../core/config";
import type { Observation } from "../../core/topology";
import { primary, silent, standby } from "./observations";

jest.mock("execa");
// Set-up draws its progress with an ES module, which has nothing to do here.
jest.mock("../../commands/setup", () => ({ setup: jest.fn() }));
jest.mock("../../commands/docker");
jest.mock("../../commands/observe");
jest.mock("../../commands/preflight", () => ({ checkPorts: jest.fn(), reconcile: jest.fn(), releaseStaleLocks: jest.fn() }));
jest.mock("../../commands/workspace", () => {
  const { mkdtempSync } = jest.requireActual<typeof Fs>("fs");
  const { tmpdir } = jest.requireActual<typeof Os>("os");
  const path = jest.requireActual<typeof Path>("path");
  return {
    ensureStack: jest.fn(),
    pulumiEnvironment: () => ({}),
    readStackConfig: jest.fn(),
    ROOT: "/nowhere",
    STATE_DIR: mkdtempSync(path.join(tmpdir(), "deploy-")),
  };
});

const runPulumi = jest.mocked(execa) as unknown as jest.Mock<Promise<unknown>, [string, string[]]>;
const reconcile = jest.mocked(preflight.reconcile);
const NODES = ["pg1", "pg2", "db-c"].map((name, i) => ({ name, port: 5432 + i }));
const configured = (more: object = {}): void =>
  void jest.mocked(workspace.readStackConfig).mockReturnValue(parseConfig("staging", { nodes: NODES, ...more }));
/** The arguments of Pulumi up to its own ones, run by run. */
const runs = (): string[][] => runPulumi.mock.calls.map(([, args]) => args.slice(0, args.indexOf("--stack")));

const seen = (...observed: Observation[]): void => void jest.mocked(observing.observe).mockResolvedValue(observed);

beforeEach(() => {
  jest.resetAllMocks();
  jest.spyOn(console, "error").mockImplementation(() => undefined);
  runPulumi.mockResolvedValue({ exitCode: 0, stderr: "" });
  jest.mocked(docker.docker).mockResolvedValue({ exitCode: 0, stdout: "", stderr: "" });
  jest.mocked(docker.sqlIn).mockResolvedValue({ exitCode: 0, stdout: "", stderr: "" });
  reconcile.mockResolvedValue({ lost: false, lostVolumes: [] });
  seen(primary("pg1", ["pg2", "db-c"]), standby("pg2"), standby("db-c"));
  configured();
});
afterAll(() => rmSync(workspace.STATE_DIR, { recursive: true, force: true }));

describe("up", () => {
  const volume = (node: string): string => `postgres-replica-staging-${node}-data`;

  test("builds on what there is when nothing is gone", async () => {
    expect(await up("staging")).toBe(0);
    expect(runs()).toEqual([["up", "--yes", "--skip-preview"]]);
  });

  test("refreshes the state when a container or a network is gone", async () => {
    reconcile.mockResolvedValue({ lost: true, lostVolumes: [] });
    await up("staging");
    expect(runs()).toEqual([["up", "--yes", "--skip-preview", "--refresh"]]);
  });

  test("copies the data of every secondary anew whose volume is gone, and of no other node", async () => {
    reconcile.mockResolvedValue({ lost: true, lostVolumes: [volume("pg2"), volume("db-c")] });
    await up("staging");
    const backup = (node: string): string =>
      `urn:pulumi:staging::postgres-replica::postgres-replica:index:StreamingSecondary$command:local:Command::${node}-basebackup`;
    expect(runs()).toEqual([["up", "--yes", "--skip-preview", "--refresh", "--replace", backup("pg2"), "--replace", backup("db-c")]]);
  });

  test.each([[["pg1"]], [["pg2", "pg1"]]])(
    "makes no empty cluster beside the others' data: %j lost is refused before Pulumi runs",
    async (nodes) => {
      reconcile.mockResolvedValue({ lost: true, lostVolumes: nodes.map(volume) });
      await expect(up("staging")).rejects.toThrow(UserError);
      await expect(up("staging")).rejects.toThrow(
        /^the volume postgres-replica-staging-pg1-data is gone, and no other node is primary .*Nothing was changed/,
      );
      expect(runs()).toEqual([]);
    },
  );

  test("clones the first node's volume from another node that is primary, before Pulumi runs", async () => {
    reconcile.mockResolvedValue({ lost: true, lostVolumes: [volume("pg1")] });
    seen(silent("pg1", null), primary("pg2", ["db-c"], { timeline: 2 }), standby("db-c"));
    expect(await up("staging")).toBe(0);
    const asked = jest.mocked(docker.docker).mock.calls.map(([args]) => args);
    expect(asked.map((args) => args.slice(0, 2).join(" "))).toEqual(["volume create", "rm -f", "exec -u", "run --rm"]);
    expect(asked.at(-1)?.join(" ")).toContain(`-v ${volume("pg1")}:/var/lib/pgnode`);
    expect(asked.at(-1)?.at(-1)).toMatch(/pgnode clone$/);
    expect(runs()).toEqual([["up", "--yes", "--skip-preview", "--refresh"]]);
  });

  test("does not run Pulumi when that clone fails, and gives the node's own reason", async () => {
    reconcile.mockResolvedValue({ lost: true, lostVolumes: [volume("pg1")] });
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
    reconcile.mockResolvedValue({ lost: true, lostVolumes: [volume("old")] });
    await up("staging");
    expect(runs()).toEqual([["up", "--yes", "--skip-preview", "--refresh"]]);
  });

  test("fails as Pulumi does", async () => {
    runPulumi.mockResolvedValue({ exitCode: 255, stderr: "" });
    expect(await up("staging")).toBe(1);
  });
});

describe("down", () => {
  const moved = [standby("pg1"), primary("pg2", ["pg1", "db-c"], { timeline: 2 }), standby("db-c")];

  test("with protectData is refused while another node than the first is primary: the next up begins with the first", async () => {
    configured({ protectData: true });
    seen(...moved);
    await expect(down("staging")).rejects.toThrow(
      new UserError(
        "down refused: pg2 is primary, and the next up begins with pg1. With protectData, run first: npm run switchover -- --stack staging --to pg1",
      ),
    );
    expect(runs()).toEqual([]);
  });

  test.each<[string, object, Observation[]]>([
    ["the first node is primary", { protectData: true }, [primary("pg1", ["pg2"]), standby("pg2"), standby("db-c")]],
    ["nobody is primary", { protectData: true }, [silent("pg1", "exited"), silent("pg2", "exited"), silent("db-c", null)]],
    ["the data goes as well", {}, moved],
  ])("goes on when %s", async (_when, more, observed) => {
    configured(more);
    seen(...observed);
    expect(await down("staging")).toBe(0);
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
