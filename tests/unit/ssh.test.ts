import execa from "execa";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "fs";
import { tmpdir } from "os";
import { delimiter, join } from "path";
import { isBySsh, SSH_FIRST, SSH_FOLDER, SSH_OPTIONS, SSH_WRAPPER } from "../../core/model/ssh";
import { docker } from "../../operations/engine/docker";

/** A machine whose docker and ssh are scripts. */
describe("a Docker host by ssh", () => {
  let folder: string;
  const saved = { ...process.env };
  const program = (name: string, body: string): void => writeFileSync(join(folder, "bin", name), `#!/bin/sh\n${body}\n`, { mode: 0o755 });
  const asked = (): string[] => readFileSync(join(folder, "asked"), "utf8").split("\n").filter(Boolean);

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "ssh-"));
    mkdirSync(join(folder, "bin"));
    writeFileSync(join(folder, "asked"), "");
    Object.assign(process.env, {
      PATH: `${join(folder, "bin")}${delimiter}${saved["PATH"]}`,
      XDG_CACHE_HOME: join(folder, "cache"),
      HOME: folder,
    });
  });
  afterEach(() => {
    process.env = { ...saved };
    rmSync(folder, { recursive: true, force: true });
  });

  test("is one by its scheme alone", () => {
    expect(["ssh://db1", "unix:///ssh://x", "tcp://ssh"].map(isBySsh)).toEqual([true, false, false]);
  });

  test("is reached by the user's own ssh, with our options before its own words", async () => {
    program("ssh", `echo "$*" >>${folder}/asked`);
    program("docker", "exec ssh -o ConnectTimeout=30 -- db1 docker system dial-stdio");
    await docker(["version"], { host: "ssh://db1" });
    expect(asked()).toEqual([`${SSH_OPTIONS.join(" ")} -o ConnectTimeout=30 -- db1 docker system dial-stdio`]);
  });

  test("a step of plain Pulumi, which has no program of ours, puts the same program before it", async () => {
    program("ssh", `echo "$*" >>${folder}/asked`);
    for (let i = 0; i < 2; i += 1) {
      await execa("sh", ["-c", `${SSH_FIRST}; exec sh -c 'ssh db1'`], { env: { PGNODE_SSH: SSH_WRAPPER } });
    }
    expect(asked()).toEqual([`${SSH_OPTIONS.join(" ")} db1`, `${SSH_OPTIONS.join(" ")} db1`]);
    expect(readFileSync(join(folder, "cache", SSH_FOLDER, "ssh"), "utf8")).toBe(SSH_WRAPPER);
  });

  test("finds the user's ssh on a path in which the current folder is not", async () => {
    program("ssh", `echo "$PATH" >>${folder}/asked`);
    await execa("sh", ["-c", `${SSH_FIRST}; exec sh -c 'ssh db1'`], { env: { PGNODE_SSH: SSH_WRAPPER } });
    const path = (asked()[0] ?? "").split(":");
    expect(path).toContain(join(folder, "bin"));
    expect(path).not.toContain("");
    expect(path).not.toContain(join(folder, "cache", SSH_FOLDER));
  });

  test("the first call goes alone, because it opens the connection of all others", async () => {
    program("docker", `echo "begin $1" >>${folder}/asked; sleep 0.2; echo "end $1" >>${folder}/asked`);
    await Promise.all(["a", "b", "c"].map((word) => docker([word], { host: "ssh://alone" })));
    expect(asked().slice(0, 2)).toEqual(["begin a", "end a"]);
    expect(asked().slice(2, 4).sort()).toEqual(["begin b", "begin c"]);
  });

  test("what cannot be reached is said in ssh's own words, and not tried again for a while", async () => {
    const words = "ssh: connect to host gone port 22: Connection timed out";
    program(
      "docker",
      `echo x >>${folder}/asked; echo 'error during connect: Get "http://x": command [ssh gone] has exited with exit status 255, make sure the URL is valid: stderr=${words}' >&2; exit 1`,
    );
    const ran = [await docker(["version"], { host: "ssh://gone" }), await docker(["ps"], { host: "ssh://gone", look: true })];
    expect(ran).toEqual([{ exitCode: 1, stdout: "", stderr: words }, ran[0]]);
    expect(asked()).toHaveLength(1);
  });

  test("what a program in a container says of its own connections is not said of the host", async () => {
    program("docker", `echo x >>${folder}/asked; echo 'psql: error: Connection refused' >&2; exit 1`);
    await docker(["exec"], { host: "ssh://there" });
    await docker(["exec"], { host: "ssh://there" });
    expect(asked()).toHaveLength(2);
  });
});
