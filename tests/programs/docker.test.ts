import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "fs";
import { tmpdir } from "os";
import { delimiter, join } from "path";
import { docker } from "../../operations/engine/docker";

/** How long docker is waited for; the program is a script of our own that takes its time. */
describe("a docker that is waited for", () => {
  let folder: string;
  beforeAll(() => (folder = mkdtempSync(join(tmpdir(), "docker-"))));
  afterAll(() => rmSync(folder, { recursive: true }));

  function run(script: string, options: { silence?: number; timeout?: number; host?: string; look?: boolean }): ReturnType<typeof docker> {
    writeFileSync(join(folder, "docker"), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    return docker(["run"], {
      ...{ host: "unix:///nowhere.sock", ...options },
      env: { PATH: `${folder}${delimiter}${process.env["PATH"] ?? ""}` },
    });
  }

  test("may work as long as it likes while it prints something, on either side", async () => {
    const ran = await run("for i in 1 2 3; do sleep 0.2; echo out; sleep 0.2; echo err >&2; done", { silence: 1_000 });
    expect(ran).toMatchObject({ exitCode: 0, stdout: "out\nout\nout", stderr: "err\nerr\nerr" });
  });

  test("is ended when it prints nothing for too long, and that is what is said", async () => {
    const start = Date.now();
    const ran = await run("echo out; exec sleep 20", { silence: 300 });
    expect(Date.now() - start).toBeLessThan(10_000);
    expect(ran.exitCode).not.toBe(0);
    expect(ran.stderr).toBe("docker run printed nothing for 0.3 s");
  });

  test("has not succeeded when it is ended, whatever its exit code says", async () => {
    const ran = await run("trap 'exit 0' TERM; for i in 1 2 3 4 5 6 7 8 9; do sleep 0.2; done; sleep 20", { timeout: 300 });
    expect(ran).toMatchObject({ exitCode: 127, stderr: "docker run did not answer within 0.3 s" });
  });

  describe("of a host that cannot be reached", () => {
    /** How often docker is started when it is asked twice, and says this. */
    async function started(host: string, said: string): Promise<number> {
      const script = `echo >>"${folder}/started"; echo '${said}' >&2; exit 1`;
      rmSync(join(folder, "started"), { force: true });
      const ran = [await run(script, { host, look: true }), await run(script, { host, look: true })];
      expect(ran.map(({ exitCode, stderr }) => [exitCode, stderr])).toEqual(Array(2).fill([1, said]));
      return readFileSync(join(folder, "started"), "utf8").length;
    }

    test.each([
      "Cannot connect to the Docker daemon at tcp://h:1. Is the docker daemon running?",
      "docker: Cannot connect to the Docker daemon at tcp://h:1. Is the docker daemon running?",
      'error during connect: Get "http://h:1/v1.50/info": dial tcp: i/o timeout',
      "failed to connect to the docker API at tcp://h:1: dial tcp: connection refused",
      "ssh: connect to host h port 22: Connection refused",
    ])("is not asked again a moment later: each try would take seconds (%s)", async (said) => {
      expect(await started(`tcp://${said.length}:1`, said)).toBe(1);
    });

    test("is tried again at once for what is no mere look", async () => {
      const script = `echo >>"${folder}/started"; echo 'ssh: connect to host k port 22: Connection refused' >&2; exit 1`;
      rmSync(join(folder, "started"), { force: true });
      await run(script, { host: "tcp://changed:1", look: true });
      await run(script, { host: "tcp://changed:1" });
      expect(readFileSync(join(folder, "started"), "utf8")).toHaveLength(2);
    });

    test("is asked every time on this machine, where the answer comes at once", async () => {
      expect(await started("unix:///here.sock", "Cannot connect to the Docker daemon at unix:///here.sock.")).toBe(2);
    });

    test.each([
      'psql: error: connection to server on socket "/run/.s.PGSQL.5432" failed: Connection refused',
      'pg_basebackup: error: connection to server at "10.0.0.1", port 5432 failed: Connection timed out',
      "Error response from daemon: No such container: x",
    ])("is not meant by what a program in a container says: %s", async (said) => {
      expect(await started(`tcp://${said.length}:2`, said)).toBe(2);
    });
  });

  test("is ended after the timeout, whatever it prints", async () => {
    const ran = await run("for i in 1 2 3 4 5 6 7 8 9; do echo out; sleep 0.2; done; exec sleep 20", { timeout: 500 });
    expect(ran.exitCode).toBe(127);
    expect(ran.stderr).toBe("docker run did not answer within 0.5 s");
  });
});
