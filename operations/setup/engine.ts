import { spawn } from "child_process";
import { existsSync, openSync, readFileSync, rmSync } from "fs";
import { currentDockerHost } from "../engine/dockerHost";
import { Engine } from "../engine/engine";
import { poll } from "../engine/poll";
import { UserError } from "../errors";
import { canInstallPackages, installPackages } from "./debian";
import { longRun, type Report } from "./progress";

const DAEMON_LOG = "/var/log/dockerd.log";
const START_SECONDS = 60;

/** The Docker engine's version; undefined when it does not answer. */
export async function engineVersion(engine: string): Promise<string | undefined> {
  const result = await new Engine(engine).run(["version", "--format", "{{.Server.Version}}"], { timeout: 10_000 });
  return result.exitCode === 0 ? result.stdout.trim() : undefined;
}

/** Installs the engine of this machine (Debian and Ubuntu, as root) and starts it. @throws UserError with what to do by hand. */
export async function installEngine(engine: string, report: Report): Promise<void> {
  await refuseWhatWeCannotFix(engine);
  if (!existsSync("/usr/sbin/dockerd") && !existsSync("/usr/bin/dockerd")) {
    await installPackages(["docker.io", "iptables"], report);
  }
  if ((await engineVersion(engine)) !== undefined) {
    return;
  }
  if (existsSync("/run/systemd/system")) {
    await longRun("starting the service docker", "systemctl", ["start", "docker"], report, { minutes: 2 });
  } else {
    startDaemon();
  }
  report(`waiting for the engine to answer, ${START_SECONDS} s at most`);
  const { right } = await poll(
    () => engineVersion(engine),
    (version) => version !== undefined,
    { seconds: START_SECONDS, every: 500 },
  );
  if (!right) {
    throw new UserError(`the Docker engine does not answer after ${START_SECONDS} s; its log is ${DAEMON_LOG} (or: journalctl -u docker)`);
  }
}

async function refuseWhatWeCannotFix(host: string): Promise<void> {
  const said = (await new Engine(host).run(["version"], { timeout: 10_000 })).stderr;
  if (/permission denied/i.test(said)) {
    throw new UserError(
      `no permission to use the Docker engine at ${host}. Run as root, or join its group with: sudo usermod -aG docker "$USER" (then log in again)`,
    );
  }
  if (host !== "unix:///var/run/docker.sock") {
    const other =
      host === currentDockerHost()
        ? "unset DOCKER_HOST (docker context use default)"
        : "take dockerHost out of nodes in the stack's Pulumi.<stack>.yaml";
    throw new UserError(`the Docker engine at ${host} does not answer. Start it, or ${other} to use the one on this machine`);
  }
  if (!canInstallPackages()) {
    throw new UserError(
      "no Docker engine answers. Install Docker Engine or Docker Desktop and start it (https://docs.docker.com/engine/install/); on Debian and Ubuntu this command does it when run as root",
    );
  }
}

/** Starts dockerd by hand, to outlive this process, where no service manager runs. */
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
