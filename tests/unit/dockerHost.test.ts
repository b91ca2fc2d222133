import { spawnSync, type SpawnSyncReturns } from "child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "fs";
import { homedir, tmpdir } from "os";
import { join } from "path";
import { currentDockerHost } from "../../operations/engine/dockerHost";

jest.mock("child_process", () => ({ spawnSync: jest.fn() }));
jest.mock("os", () => ({ ...jest.requireActual<object>("os"), homedir: jest.fn() }));
const docker = jest.mocked(spawnSync);

describe("the Docker host of a context", () => {
  let home: string;
  /** The docker command line, which answers so. */
  const answers = (answer: Partial<SpawnSyncReturns<string>>): void => {
    docker.mockReset();
    docker.mockReturnValue({ pid: 1, output: [], stdout: "", stderr: "", status: 0, signal: null, ...answer });
  };
  const chosen = (text: string): void => {
    mkdirSync(join(home, ".docker"), { recursive: true });
    writeFileSync(join(home, ".docker", "config.json"), text);
  };

  beforeEach(() => {
    home = mkdtempSync(join(tmpdir(), "docker-home-"));
    jest.mocked(homedir).mockReturnValue(home);
    answers({ stdout: "ssh://user@db1\n" });
  });
  afterEach(() => rmSync(home, { recursive: true }));

  test("that DOCKER_CONTEXT names is the one that docker has for it", () => {
    chosen('{"currentContext":"other"}');
    expect(currentDockerHost({ DOCKER_CONTEXT: "remote" })).toBe("ssh://user@db1");
    expect(docker.mock.calls.map(([program, args]) => [program, args])).toEqual([
      ["docker", ["context", "inspect", "remote", "--format", "{{.Endpoints.docker.Host}}"]],
    ]);
  });

  test("that was chosen with docker context use is found in the home folder", () => {
    chosen('{"currentContext":"remote"}');
    expect(currentDockerHost({})).toBe("ssh://user@db1");
    expect(docker.mock.calls[0]?.[1]).toContain("remote");
  });

  test("that was chosen is found in the folder of DOCKER_CONFIG, when that is set", () => {
    mkdirSync(join(home, "elsewhere"));
    writeFileSync(join(home, "elsewhere", "config.json"), '{"currentContext":"remote"}');
    chosen('{"currentContext":"default"}');
    expect(currentDockerHost({ DOCKER_CONFIG: join(home, "elsewhere") })).toBe("ssh://user@db1");
  });

  test("is waited for ten seconds, not for ever, and read as text", () => {
    currentDockerHost({ DOCKER_CONTEXT: "remote" });
    expect(docker.mock.calls[0]?.[2]).toEqual({ encoding: "utf8", timeout: 10_000 });
  });

  test("that has none is the local socket; so is the default one, of which docker is not asked", () => {
    answers({ stdout: "\n" });
    expect(currentDockerHost({ DOCKER_CONTEXT: "remote" })).toBe("unix:///var/run/docker.sock");
    answers({});
    expect(currentDockerHost({ DOCKER_CONTEXT: "default" })).toBe("unix:///var/run/docker.sock");
    expect(currentDockerHost({})).toBe("unix:///var/run/docker.sock");
    expect(docker).not.toHaveBeenCalled();
  });

  test("that cannot be read is an error with the reason and the way out", () => {
    answers({ status: 1, stderr: 'context "gone": not found\n' });
    expect(() => currentDockerHost({ DOCKER_CONTEXT: "gone" })).toThrow(
      /^the Docker context "gone" cannot be read: context "gone": not found\. Choose another with: docker context use default$/,
    );
  });

  test("that cannot be read without docker says so", () => {
    answers({ status: null, error: new Error("spawnSync docker ENOENT") });
    expect(() => currentDockerHost({ DOCKER_CONTEXT: "remote" })).toThrow("cannot be read: Error: spawnSync docker ENOENT. Choose");
  });

  test("is asked for nothing when DOCKER_HOST is set, in the environment of the process as well", () => {
    const before = process.env["DOCKER_HOST"];
    process.env["DOCKER_HOST"] = "tcp://127.0.0.1:1";
    expect(currentDockerHost()).toBe("tcp://127.0.0.1:1");
    if (before === undefined) {
      delete process.env["DOCKER_HOST"];
    } else {
      process.env["DOCKER_HOST"] = before;
    }
    expect(docker).not.toHaveBeenCalled();
  });
});
