import { mkdtempSync, rmSync, writeFileSync } from "fs";
import { tmpdir } from "os";
import { delimiter, join } from "path";
import { docker } from "../../operations/engine/docker";

/** How long docker is waited for; the program is a script of our own that takes its time. */
describe("a docker that is waited for", () => {
  let folder: string;
  beforeAll(() => (folder = mkdtempSync(join(tmpdir(), "docker-"))));
  afterAll(() => rmSync(folder, { recursive: true }));

  function run(script: string, options: { silence?: number; timeout?: number }): ReturnType<typeof docker> {
    writeFileSync(join(folder, "docker"), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    return docker(["run"], {
      ...options,
      host: "unix:///nowhere.sock",
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

  test("is ended after the timeout, whatever it prints", async () => {
    const ran = await run("for i in 1 2 3 4 5 6 7 8 9; do echo out; sleep 0.2; done; exec sleep 20", { timeout: 500 });
    expect(ran.exitCode).toBe(127);
    expect(ran.stderr).toBe("docker run did not answer within 0.5 s");
  });
});
