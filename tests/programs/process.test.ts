import { type ChildProcess, spawn, spawnSync } from "child_process";
import { mkdtempSync, rmSync, symlinkSync } from "fs";
import { tmpdir } from "os";
import { join } from "path";
import { isSame, pulumiProcess, startOf, thisMachine } from "../../operations/engine/process";
import { ROOT } from "../../operations/deploy/workspace";

/** Real processes. `nowhere` is a system without /proc, on which `ps` is asked. */
const SYSTEMS =
  process.platform === "linux" && spawnSync("ps", ["-o", "ppid=", "-p", "1"]).status === 0 ? ["/proc", "/nowhere"] : ["/proc"];

/** Starts a shell and waits for the first line that it prints. */
async function shell(script: string): Promise<{ child: ChildProcess; line: string }> {
  const child = spawn("/bin/sh", ["-c", script], { stdio: ["ignore", "pipe", "inherit"] });
  const line = await new Promise<string>((resolve) => child.stdout?.once("data", (data: Buffer) => resolve(String(data).trim())));
  return { child, line };
}

describe.each(SYSTEMS)("a process, as %s tells of it", (proc) => {
  test("is the same as long as it lives", async () => {
    const { child } = await shell("echo up; exec sleep 60");
    const pid = child.pid ?? 0;
    const start = startOf(pid, proc);
    expect(start).not.toBe("");
    expect(isSame(pid, start, proc)).toBe(true);
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await ended;
    expect(isSame(pid, start, proc)).toBe(false);
    expect(startOf(pid, proc)).toBe("");
  });

  test("is not the one that had its number before", () => {
    expect(isSame(process.pid, "another time", proc)).toBe(false);
  });

  test("is dead when nobody has asked yet how it ended", async () => {
    const { child, line } = await shell("sleep 1 & echo $!; exec sleep 60");
    try {
      // By then the shell has become sleep, which never asks.
      for (let i = 0; i < 50 && startOf(Number(line), proc) !== ""; i++) {
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      expect(() => process.kill(Number(line), 0)).not.toThrow();
      expect(isSame(Number(line), "", proc)).toBe(false);
    } finally {
      child.kill("SIGKILL");
    }
  });

  test("finds the Pulumi above it, past what is in between, and none where there is none", () => {
    const folder = mkdtempSync(join(tmpdir(), "pulumi (of a test) "));
    try {
      symlinkSync("/bin/sh", join(folder, "pulumi"));
      // As plain JavaScript, which starts in a tenth of the time.
      const module = join(folder, "process.cjs");
      const source = ["operations/engine/process.ts", "--bundle", "--platform=node", "--log-level=error"];
      spawnSync(join(ROOT, "node_modules", ".bin", "esbuild"), [...source, `--outfile=${module}`], { cwd: ROOT, stdio: "inherit" });
      const code = `console.log(require("${module}").pulumiProcess("${proc}"))`;
      const node = `'${process.execPath}' -e '${code}'`;
      const run = (program: string): string =>
        spawnSync(program, ["-c", `echo $$; /bin/sh -c "$NODE; true"; true`], {
          cwd: ROOT,
          encoding: "utf8",
          env: { ...process.env, NODE: node },
        }).stdout;
      const [pid, found] = run(join(folder, "pulumi")).split("\n");
      expect(Number(pid)).toBeGreaterThan(1);
      expect(found).toBe(pid);
      expect(run("/bin/sh").split("\n")[1]).toBe("undefined");
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

test("this test has no Pulumi above it, and its machine has a name", () => {
  expect(pulumiProcess()).toBeUndefined();
  expect(thisMachine().host).not.toBe("");
});
