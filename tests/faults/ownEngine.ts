import { randomBytes } from "crypto";
import execa from "execa";
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "fs";
import { tmpdir } from "os";
import { join } from "path";
import { docker } from "../docker";
import { currentDockerHost } from "../../operations/engine/dockerHost";
import { OWN_IMAGE } from "../integration/checkout";
import { processTree } from "./processes";

/** How long the engine may take until it answers, and to be gone, in seconds. */
const WAIT_SECONDS = 60;
/** How long it may run in all, in seconds: whatever becomes of the test, it does not stay. */
const LIFE_SECONDS = 2_700;

/**
 * What the engine begins with, in namespaces of its own: whatever it mounts, whatever networks and firewall rules it makes, and all
 * its processes go when it goes. What another engine has in /run it does not see.
 */
const BEGIN = `set -eu
mount -t tmpfs tmpfs /run
hostname "$2"
[ ! -e "$1/begin" ] || . "$1/begin"
exec dockerd --config-file "$1/daemon.json" --data-root "$1/data" --exec-root /run/docker --pidfile /run/docker.pid \\
    -H "unix://$1/docker.sock" --cgroup-parent "/$2" --default-address-pool base=10.213.0.0/16,size=24 >>"$1/log" 2>&1`;

/**
 * A Docker engine of the test's own, beside the machine's: its own socket, data, containerd, processes and network. Needs what
 * dockerd needs: Linux, and root or sudo without a password. {@link remove} leaves nothing.
 */
export class OwnEngine {
  public readonly folder = mkdtempSync(join(tmpdir(), "own-engine-"));
  /** Its socket: how this machine reaches it whatever becomes of its network. */
  public readonly socket = `unix://${join(this.folder, "docker.sock")}`;
  private readonly name = `postgres-replica-own-${randomBytes(3).toString("hex")}`;
  protected readonly asRoot = process.getuid?.() === 0 ? [] : ["sudo", "-n"];
  private running?: execa.ExecaChildProcess;

  /** Starts it, or starts it again with what it has, and waits until it answers. */
  public async start(): Promise<void> {
    mkdirSync(join(this.folder, "data"), { recursive: true });
    // Not the machine's configuration, and not its ID.
    writeFileSync(join(this.folder, "daemon.json"), JSON.stringify({ "deprecated-key-path": join(this.folder, "key.json") }));
    const apart = [...this.network(), "--mount", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", BEGIN, "sh"];
    const [program = "", ...args] = [...this.asRoot, "timeout", "-s", "KILL", String(LIFE_SECONDS), ...apart, this.folder, this.name];
    // A process group of its own: nothing that ends the test's ends half of it.
    this.running = execa(program, args, { reject: false, stdin: "ignore", detached: true });
    const { running } = this;
    await this.until("answers", async () => {
      if (running.exitCode !== null) {
        throw new Error(
          `the test's own engine does not start, for which it needs root or sudo without a password: ${(await running).stderr}\n${this.log()}`,
        );
      }
      return (await docker(["version"], { host: this.socket, timeout: 5_000 })).exitCode === 0;
    });
  }

  /** What puts it into a network: one of its own, which leads nowhere. */
  protected network(): string[] {
    return ["unshare", "--net"];
  }

  /** Brings our image into it. */
  public async load(): Promise<void> {
    const pipe = 'docker -H "$0" save "$2" | docker -H "$1" load';
    await execa("sh", ["-c", pipe, currentDockerHost(), this.socket, OWN_IMAGE], { timeout: 180_000 });
  }

  /** The ids and names of all its processes: dockerd, containerd, the shims, what runs in the containers. */
  public processes(): Map<number, string> {
    const below = processTree(this.running?.pid ?? 0);
    return new Map(below.flatMap((pid): [number, string][] => (nameOf(pid) === undefined ? [] : [[pid, nameOf(pid) ?? ""]])));
  }

  /**
   * Kills it with everything in it, at once. Of its processes dockerd is the first one of their namespace: the kernel kills the
   * others with it, before any of them could do something about it.
   *
   * @returns the names of what was killed
   */
  public async kill(): Promise<string[]> {
    const all = this.processes();
    const [engine] = [...all].find(([, name]) => name === "dockerd") ?? [];
    if (engine !== undefined) {
      await this.root("kill", "-9", String(engine));
    }
    const gone = (): boolean => [...all].every(([pid, name]) => nameOf(pid) !== name);
    await this.until("is gone", () => Promise.resolve(gone()));
    await this.running;
    delete this.running;
    return [...all.values()];
  }

  /** Kills it and removes all that it had. */
  public async remove(): Promise<void> {
    if (this.running !== undefined) {
      await this.kill();
    }
    await this.root("rm", "-rf", this.folder);
    // Control groups are the one thing that no namespace takes with it. They are empty by now.
    await this.root("find", "/sys/fs/cgroup", "-depth", "-type", "d", "-path", `*/${this.name}*`, "-exec", "rmdir", "{}", "+");
  }

  protected async root(...command: [string, ...string[]]): Promise<void> {
    const [program = "", ...args] = [...this.asRoot, ...command];
    await execa(program, args, { timeout: 60_000 });
  }

  protected async until(what: string, condition: () => Promise<boolean>): Promise<void> {
    for (const end = performance.now() + WAIT_SECONDS * 1000; !(await condition());) {
      if (performance.now() > end) {
        throw new Error(`waited ${WAIT_SECONDS} s until the test's own engine ${what}:\n${this.log()}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  private log(): string {
    try {
      return readFileSync(join(this.folder, "log"), "utf8").split("\n").slice(-15).join("\n");
    } catch {
      return "it has no log";
    }
  }
}

/** What a process is called; undefined when there is none, or only what is left of one that has ended. */
function nameOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const end = stat.lastIndexOf(")");
    return stat[end + 2] === "Z" ? undefined : stat.slice(stat.indexOf("(") + 1, end);
  } catch {
    return undefined;
  }
}
