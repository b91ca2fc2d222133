import { type ChildProcess, spawn, spawnSync } from "child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "fs";
import { hostname, tmpdir } from "os";
import { join } from "path";
import { releaseStaleLocks } from "../../operations/deploy/staleLocks";
import * as workspace from "../../operations/deploy/workspace";

jest.mock("../../operations/deploy/workspace", () => ({
  ...jest.requireActual<object>("../../operations/deploy/workspace"),
  pulumiOutput: jest.fn(),
}));
const pulumiOutput = jest.mocked(workspace.pulumiOutput);
let folder: string;
let said: string[];
const say = (line: string): number => said.push(line);
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "preflight-"));
});
beforeEach(() => {
  said = [];
  jest.resetAllMocks();
});
afterAll(() => rmSync(folder, { recursive: true }));

describe("the lock of a run", () => {
  let living: ChildProcess;
  const backend = process.env["PULUMI_BACKEND_URL"];
  beforeAll(() => {
    // A process that is called pulumi and does nothing.
    symlinkSync(spawnSync("/bin/sh", ["-c", "command -v sleep"], { encoding: "utf8" }).stdout.trim(), join(folder, "pulumi"));
    living = spawn(join(folder, "pulumi"), ["60"], { stdio: "ignore" });
  });
  afterAll(() => {
    living.kill("SIGKILL");
    if (backend === undefined) {
      delete process.env["PULUMI_BACKEND_URL"];
    } else {
      process.env["PULUMI_BACKEND_URL"] = backend;
    }
  });

  /** A backend with this one lock. */
  function locked(content: string): void {
    const root = mkdtempSync(join(folder, "backend-"));
    const locks = join(root, ".pulumi", "locks", "organization", "postgres-replica", "dev");
    mkdirSync(locks, { recursive: true });
    writeFileSync(join(locks, "lock.json"), content);
    process.env["PULUMI_BACKEND_URL"] = workspace.fileBackend(root);
  }
  const by = (pid: number | undefined, host = hostname()): string => JSON.stringify({ pid, hostname: host, username: "me" });
  const ended = (): number => spawnSync("true").pid;

  test.each<[string, () => string]>([
    ["whose process is gone", () => by(ended())],
    ["that is empty, because its writer was killed", () => ""],
    ["whose number belongs to another program by now", () => by(process.pid)],
  ])("%s is taken over, and that is said", async (_what, content) => {
    locked(content());
    await releaseStaleLocks("dev", say);
    expect(pulumiOutput.mock.calls).toEqual([["dev", ["cancel", "--yes", "--stack", "dev"]]]);
    expect(said).toEqual([expect.stringContaining("an earlier run was killed")]);
  });

  test.each<[string, () => [number | undefined, string?]]>([
    ["whose process lives", () => [living.pid]],
    ["of another machine", () => [ended(), "another-machine.example"]],
  ])("%s is respected, and its holder named", async (_what, holder) => {
    const [pid, host = hostname()] = holder();
    locked(by(pid, host));
    await expect(releaseStaleLocks("dev", say)).rejects.toThrow(`stack "dev" is in use by process ${pid} on ${host}. Wait for it to end`);
    expect(pulumiOutput).not.toHaveBeenCalled();
  });

  test("of another stack is none of ours", async () => {
    locked(by(living.pid));
    await releaseStaleLocks("prod", say);
    expect(pulumiOutput).not.toHaveBeenCalled();
    expect(said).toEqual([]);
  });

  test("is not looked for where the backend is no folder", async () => {
    process.env["PULUMI_BACKEND_URL"] = "s3://states";
    await releaseStaleLocks("dev", say);
    expect(pulumiOutput).not.toHaveBeenCalled();
  });
});
