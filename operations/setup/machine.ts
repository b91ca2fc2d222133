import { spawn } from "child_process";
import { existsSync, openSync, readFileSync, rmSync } from "fs";
import execa from "execa";
import type { Ran } from "../engine/docker";
import { currentDockerHost } from "../engine/dockerHost";
import { Engine } from "../engine/engine";
import { type Clock, CLOCK } from "../engine/poll";
import { canInstallPackages } from "./debian";
import { longRun } from "./progress";

/** The machine that is set up. Whatever set-up asks and does goes by this: a test hands in a made-up one. */
export interface Machine {
  exists(file: string): boolean;
  /** Whether packages can be installed here. */
  canInstallPackages(): boolean;
  /** Runs a short program; one that is not there or fails is told by its exit code. */
  run(file: string, args: readonly string[], options: execa.Options): Promise<Pick<Ran, "exitCode" | "stdout">>;
  longRun: typeof longRun;
  /** Runs docker against an engine, a DOCKER_HOST value, 10 s at most. */
  docker(engine: string, args: readonly string[]): Promise<Ran>;
  /** The engine that the docker command line uses. */
  currentEngine(): string;
  /** Starts dockerd by hand, to outlive this process. */
  startDaemon(): void;
  clock: Clock;
}

export const THIS_MACHINE: Machine = {
  exists: existsSync,
  canInstallPackages,
  run: async (file, args, options) => {
    const { exitCode, stdout } = await execa(file, [...args], { ...options, reject: false, stdin: "ignore" });
    // Of a program that was not started or was killed, execa gives none.
    return { exitCode: exitCode ?? 1, stdout: stdout ?? "" };
  },
  longRun,
  docker: (engine, args) => new Engine(engine).run(args, { timeout: 10_000 }),
  currentEngine: () => currentDockerHost(),
  startDaemon,
  clock: CLOCK,
};

export const DAEMON_LOG = "/var/log/dockerd.log";

/** Where no service manager runs. */
function startDaemon(): void {
  // A pid file of a daemon that was killed stops the next one when another program has that pid now.
  for (const [file, program] of [
    ["/var/run/docker.pid", "dockerd"],
    ["/run/docker/containerd/containerd.pid", "containerd"],
  ] as const) {
    if (existsSync(file) && runningProgram(readFileSync(file, "utf8").trim()) !== program) {
      rmSync(file, { force: true });
    }
  }
  const log = openSync(DAEMON_LOG, "a");
  spawn("dockerd", [], { detached: true, stdio: ["ignore", log, log] }).unref();
}

function runningProgram(pid: string): string | undefined {
  try {
    return readFileSync(`/proc/${Number(pid)}/comm`, "utf8").trim();
  } catch {
    return undefined;
  }
}
