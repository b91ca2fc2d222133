import { poll } from "../engine/poll";
import { UserError } from "../errors";
import { installPackages } from "./debian";
import { DAEMON_LOG, type Machine, THIS_MACHINE } from "./machine";
import type { Report } from "./progress";

const START_SECONDS = 60;

/** The Docker engine's version; undefined when it does not answer. */
export async function engineVersion(engine: string, machine: Machine = THIS_MACHINE): Promise<string | undefined> {
  const result = await machine.docker(engine, ["version", "--format", "{{.Server.Version}}"]);
  return result.exitCode === 0 ? result.stdout.trim() : undefined;
}

/** Installs the engine of this machine (Debian and Ubuntu, as root) and starts it. @throws UserError with what to do by hand. */
export async function installEngine(engine: string, report: Report, machine: Machine = THIS_MACHINE): Promise<void> {
  await refuseWhatWeCannotFix(engine, machine);
  if (!machine.exists("/usr/sbin/dockerd") && !machine.exists("/usr/bin/dockerd")) {
    await installPackages(["docker.io", "iptables"], report, machine.longRun);
  }
  if ((await engineVersion(engine, machine)) !== undefined) {
    return;
  }
  if (machine.exists("/run/systemd/system")) {
    await machine.longRun("starting the service docker", "systemctl", ["start", "docker"], report, { minutes: 2 });
  } else {
    machine.startDaemon();
  }
  report(`waiting for the engine to answer, ${START_SECONDS} s at most`);
  const { right } = await poll(
    () => engineVersion(engine, machine),
    (version) => version !== undefined,
    { seconds: START_SECONDS, every: 500, clock: machine.clock },
  );
  if (!right) {
    throw new UserError(`the Docker engine does not answer after ${START_SECONDS} s; its log is ${DAEMON_LOG} (or: journalctl -u docker)`);
  }
}

async function refuseWhatWeCannotFix(host: string, machine: Machine): Promise<void> {
  const said = (await machine.docker(host, ["version"])).stderr;
  if (/permission denied/i.test(said)) {
    throw new UserError(
      `no permission to use the Docker engine at ${host}. Run as root, or join its group with: sudo usermod -aG docker "$USER" (then log in again)`,
    );
  }
  if (host !== "unix:///var/run/docker.sock") {
    const other =
      host === machine.currentEngine()
        ? "unset DOCKER_HOST (docker context use default)"
        : "take dockerHost out of nodes in the stack's Pulumi.<stack>.yaml";
    throw new UserError(`the Docker engine at ${host} does not answer. Start it, or ${other} to use the one on this machine`);
  }
  if (!machine.canInstallPackages()) {
    throw new UserError(
      "no Docker engine answers. Install Docker Engine or Docker Desktop and start it (https://docs.docker.com/engine/install/); on Debian and Ubuntu this command does it when run as root",
    );
  }
}
