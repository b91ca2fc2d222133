import execa from "execa";
import type * as Fs from "fs";
import { rmSync } from "fs";
import type * as Os from "os";
import type * as Path from "path";
import { down, errorLines, up } from "../../operations/deploy/deploy";
import * as docker from "../../operations/engine/docker";
import { UserError } from "../../operations/errors";
import * as lock from "../../operations/change/lock";
import * as preflight from "../../operations/deploy/staleLocks";
import * as workspace from "../../operations/deploy/workspace";
import { parseConfig } from "../../core/config";
import * as surveying from "../../operations/guard/survey";
import type { Found } from "../../operations/guard/survey";
import { foundAt, surveyOf } from "./surveys";

jest.mock("execa");
// Set-up draws its progress with an ES module, which has nothing to do here.
jest.mock("../../operations/setup", () => ({ setup: jest.fn() }));
jest.mock("../../operations/engine/docker");
jest.mock("../../operations/change/lock", () => ({ acquireLock: jest.fn() }));
jest.mock("../../operations/guard/survey", () => ({ ...jest.requireActual<object>("../../operations/guard/survey"), survey: jest.fn() }));
jest.mock("../../operations/deploy/staleLocks", () => ({ releaseStaleLocks: jest.fn() }));
jest.mock("../../operations/deploy/workspace", () => {
  const { mkdtempSync } = jest.requireActual<typeof Fs>("fs");
  const { tmpdir } = jest.requireActual<typeof Os>("os");
  const path = jest.requireActual<typeof Path>("path");
  return {
    ensureStack: jest.fn(),
    hasStack: jest.fn(),
    pulumiEnvironment: () => ({}),
    pulumiOutput: jest.fn(),
    readStackConfig: jest.fn(),
    ROOT: "/nowhere",
    STATE_DIR: mkdtempSync(path.join(tmpdir(), "deploy-")),
  };
});

const runPulumi = jest.mocked(execa) as unknown as jest.Mock<Promise<unknown>, [string, string[]]>;
const runDocker = jest.mocked(docker.docker);
const output = jest.mocked(workspace.pulumiOutput);
const release = jest.fn(() => Promise.resolve());
const configured = (more: Record<string, unknown> = {}): void =>
  void jest.mocked(workspace.readStackConfig).mockReturnValue(parseConfig("staging", more));
/** The arguments of Pulumi up to its own ones, run by run. */
const runs = (): string[][] => runPulumi.mock.calls.map(([, args]) => args.slice(0, args.indexOf("--stack")));
/** What docker was asked that is not a question. */
const changes = (): string[] =>
  runDocker.mock.calls.map(([args]) => args.join(" ")).filter((args) => /^(rm|stop|network rm|volume rm)/.test(args));

const urn = (type: string, name: string): string => `urn:pulumi:staging::postgres-replica::${type}::${name}`;
const STATE = [
  { urn: urn("docker:index/container:Container", "pg1-container"), type: "docker:index/container:Container", id: "c1" },
  { urn: urn("docker:index/volume:Volume", "pg1-data"), type: "docker:index/volume:Volume", outputs: { name: "v1" } },
  { urn: urn("docker:index/network:Network", "network"), type: "docker:index/network:Network", id: "n1" },
  {
    urn: urn("command:local:Command", "identity"),
    type: "command:local:Command",
    outputs: { environment: { STACK_IDENTITY: "me", STACK_MADE_BY: "alice@laptop", STACK_ENGINE: "engine" } },
  },
];
const object = (kind: Found["kind"], id: string, more: Partial<Found> = {}): Found =>
  foundAt("unix:///x", kind, id, { state: "running", node: "pg1", ...more });
const ALL = [object("container", "c1"), object("volume", "v1"), object("network", "n1")];
/** What is on the engine; all is there, unless told otherwise. */
const found = (objects: Found[] = ALL, engine = "engine"): void =>
  void jest.mocked(surveying.survey).mockResolvedValue(surveyOf("unix:///x", { engine, found: objects }));

beforeEach(() => {
  jest.resetAllMocks();
  jest.spyOn(console, "error").mockImplementation(() => undefined);
  runPulumi.mockResolvedValue({ exitCode: 0, stderr: "" });
  runDocker.mockResolvedValue({ exitCode: 0, stdout: "", stderr: "" });
  output.mockImplementation((_stack, [, verb]) =>
    Promise.resolve(verb === "export" ? JSON.stringify({ deployment: { resources: STATE } }) : ""),
  );
  release.mockResolvedValue(undefined);
  jest.mocked(lock.acquireLock).mockResolvedValue({ waited: false, release, releaseNow: () => undefined });
  jest.mocked(workspace.hasStack).mockResolvedValue(true);
  found();
  configured();
});
afterAll(() => rmSync(workspace.STATE_DIR, { recursive: true, force: true }));

describe("up", () => {
  test("is `pulumi up`, and touches nothing itself when nothing is gone", async () => {
    expect(await up("staging")).toBe(0);
    expect(runs()).toEqual([["up", "--yes", "--skip-preview"]]);
    expect(changes()).toEqual([]);
    // The program takes the lock; two holders of one run would wait for each other.
    expect(lock.acquireLock).not.toHaveBeenCalled();
  });

  test.each(["container", "volume", "network"])("refreshes the state when a %s is gone", async (kind) => {
    found(ALL.filter((one) => one.kind !== kind));
    expect(await up("staging")).toBe(0);
    expect(runs()).toEqual([["up", "--yes", "--skip-preview", "--refresh"]]);
  });

  test("leaves it to the program to say that the engine does not answer", async () => {
    jest.mocked(surveying.survey).mockResolvedValue({ unreachable: "no" });
    expect(await up("staging")).toBe(0);
    expect(runs()).toEqual([["up", "--yes", "--skip-preview"]]);
  });

  test("asks about stale locks before anything else of Pulumi", async () => {
    jest.mocked(preflight.releaseStaleLocks).mockRejectedValue(new UserError("in use"));
    await expect(up("staging")).rejects.toThrow("in use");
    expect(runs()).toEqual([]);
  });

  test("fails as Pulumi does", async () => {
    runPulumi.mockResolvedValue({ exitCode: 255, stderr: "" });
    expect(await up("staging")).toBe(1);
  });
});

describe("down", () => {
  test("of a stack that was never up does nothing, not even make the stack", async () => {
    jest.mocked(workspace.hasStack).mockResolvedValue(false);
    expect(await down("staging")).toBe(0);
    expect(workspace.ensureStack).not.toHaveBeenCalled();
    expect(runs()).toEqual([]);
  });

  test("destroys under the stack's lock, which is released whatever happens", async () => {
    runPulumi.mockImplementation(() => Promise.resolve(expect(release).not.toHaveBeenCalled()).then(() => ({ exitCode: 1, stderr: "" })));
    expect(await down("staging")).toBe(1);
    expect(lock.acquireLock).toHaveBeenCalledTimes(1);
    expect(runs()).toEqual([["destroy", "--yes", "--skip-preview"]]);
    expect(release).toHaveBeenCalledTimes(1);
  });

  test("changes nothing while somebody else works on the stack", async () => {
    jest.mocked(lock.acquireLock).mockRejectedValue(new UserError("failover is at work"));
    await expect(down("staging")).rejects.toThrow("failover is at work");
    expect([runs(), changes()]).toEqual([[], []]);
  });

  test.each<[string, () => void, RegExp]>([
    [
      "another state's",
      () => found([...ALL, object("container", "c9", { identity: "other" })]),
      /^container c9 of stack "staging" is there, and this state/,
    ],
    ["on another engine", () => found([], "other"), /^stack "staging" lives on another Docker engine \(ID engine\)/],
  ])("of a stack that is %s is refused, with the lock released", async (_what, given, message) => {
    given();
    await expect(down("staging")).rejects.toThrow(message);
    expect([runs(), changes()]).toEqual([[], []]);
    expect(release).toHaveBeenCalledTimes(1);
  });

  test("removes what an interrupted run left behind, and no volume", async () => {
    found([...ALL, object("container", "c2", { state: "created" }), object("network", "n2"), object("volume", "v2")]);
    await down("staging");
    expect(changes()).toEqual(["rm -f -v c2", "network rm n2"]);
  });

  test("refreshes first when something is gone", async () => {
    found(ALL.filter((one) => one.kind !== "volume"));
    await down("staging");
    expect(runs()).toEqual([["destroy", "--yes", "--skip-preview", "--refresh"]]);
  });

  const leaves = (...kinds: string[]): void =>
    void runDocker.mockImplementation(([verb]) =>
      Promise.resolve({ exitCode: 0, stdout: kinds.includes(verb === "ps" ? "container" : (verb ?? "")) ? "rest\n" : "", stderr: "" }),
    );

  test.each(["container", "network", "volume"])("fails when Docker still holds a %s afterwards", async (kind) => {
    leaves(kind);
    await expect(down("staging")).rejects.toThrow(
      new UserError(`these objects of stack staging are still there: ${kind} rest. Remove them by hand with docker`),
    );
  });

  test("with protectData lets Pulumi let go of the volumes, which stay", async () => {
    configured({ protectData: true });
    leaves("volume");
    expect(await down("staging")).toBe(0);
    expect(output.mock.calls.map(([, args]) => args.slice(0, 3))).toContainEqual(["state", "unprotect", "--all"]);
    expect(console.error).toHaveBeenLastCalledWith(expect.stringMatching(/protectData is on: kept volume rest\./));
    leaves("volume", "container");
    await expect(down("staging")).rejects.toThrow(/still there: container rest\./);
  });

  test("without protectData lifts no protection", async () => {
    await down("staging");
    expect(output.mock.calls.map(([, args]) => args[1])).toEqual(["export"]);
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
