import { randomBytes, randomInt } from "crypto";
import execa from "execa";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "fs";
import { tmpdir, userInfo } from "os";
import { delimiter, join } from "path";
import { OwnEngine } from "./ownEngine";

const asRoot = process.getuid?.() === 0 ? [] : ["sudo", "-n"];

/** Runs a program as root; it must succeed. */
async function root(...command: readonly string[]): Promise<string> {
  const [program = "", ...args] = [...asRoot, ...command];
  return (await execa(program, args, { timeout: 60_000 })).stdout;
}

/** What a machine with Docker may lack: sshd, which is not started where it is installed, and ip. */
async function installPrograms(): Promise<void> {
  const look = "PATH=$PATH:/usr/sbin:/sbin; for name in sshd ssh ip iptables; do command -v $name || exit 1; done";
  if ((await execa("sh", ["-c", look], { reject: false })).exitCode === 0) {
    return;
  }
  const policy = "/usr/sbin/policy-rc.d";
  const install = `set -e
[ -e ${policy} ] || { printf '#!/bin/sh\nexit 101\n' >${policy}; chmod 755 ${policy}; trap 'rm -f ${policy}' EXIT; }
apt-get -q -o DPkg::Lock::Timeout=120 update
apt-get -q -o DPkg::Lock::Timeout=120 install -y --no-install-recommends openssh-server openssh-client iproute2 iptables`;
  const [program = "", ...args] = [...asRoot, "env", "DEBIAN_FRONTEND=noninteractive", "sh", "-c", install];
  await execa(program, args, { timeout: 300_000 });
}

/**
 * A network of a test's own, in which hosts are network namespaces of this machine: this machine is one of them, at
 * {@link address}. Nothing of it leaves the machine. Needs root or sudo without a password, and iproute2.
 */
export class Lan {
  private readonly id = randomBytes(3).toString("hex");
  private readonly third = randomInt(1, 255);
  public readonly bridge = `pgr${this.id}`;
  /** This machine's address in it. */
  public readonly address = `10.77.${this.third}.1`;
  private readonly hosts: FarHost[] = [];
  /** Scratch space for the tests; removed with the network. */
  public readonly folder = mkdtempSync(join(tmpdir(), "own-lan-"));

  public static async make(): Promise<Lan> {
    await installPrograms();
    const lan = new Lan();
    try {
      await root("ip", "link", "add", lan.bridge, "type", "bridge");
      await root("ip", "addr", "add", `${lan.address}/24`, "dev", lan.bridge);
      await root("ip", "link", "set", lan.bridge, "up");
      // Where bridged packets go through the firewall, Docker's would drop what one host sends to another.
      await root("iptables", "-I", "FORWARD", "-i", lan.bridge, "-o", lan.bridge, "-j", "ACCEPT");
      await lan.prepareSsh();
      return lan;
    } catch (error) {
      await lan.remove();
      throw error;
    }
  }

  /** A host more, with a Docker engine that has our image. */
  public async host(options: { ssh?: boolean; image?: boolean } = {}): Promise<FarHost> {
    const host = new FarHost(this, `${this.id}-${this.hosts.length + 2}`, `10.77.${this.third}.${this.hosts.length + 2}`);
    this.hosts.push(host);
    await host.connect();
    if (options.ssh === true) {
      host.letIn(this.key);
    }
    await host.start();
    if (options.ssh === true) {
      this.know(host);
    }
    if (options.image !== false) {
      await host.load();
    }
    return host;
  }

  /** What a user's own ssh has: a key, known hosts, a config; in an environment in which ssh finds them. */
  public environment(): Record<string, string> {
    return { PATH: `${join(this.folder, "bin")}${delimiter}${process.env["PATH"] ?? ""}` };
  }

  private get key(): string {
    return join(this.folder, "key");
  }

  /** OpenSSH asks the machine's list of users for the home folder, not HOME: so it is told where its config is. */
  private async prepareSsh(): Promise<void> {
    await execa("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", this.key]);
    const config = join(this.folder, "config");
    const lines = [
      `IdentityFile ${this.key}`,
      "IdentitiesOnly yes",
      `UserKnownHostsFile ${join(this.folder, "known_hosts")}`,
      "BatchMode yes",
    ];
    writeFileSync(config, ["Host *", ...lines.map((line) => `  ${line}`), ""].join("\n"));
    mkdirSync(join(this.folder, "bin"));
    const ssh = (await execa("sh", ["-c", "command -v ssh"])).stdout;
    writeFileSync(join(this.folder, "bin", "ssh"), `#!/bin/sh\nexec ${ssh} -F ${config} "$@"\n`, { mode: 0o755 });
  }

  private know(host: FarHost): void {
    const known = join(this.folder, "known_hosts");
    const before = existsSync(known) ? readFileSync(known, "utf8") : "";
    writeFileSync(known, `${before}${host.address} ${host.hostKey()}\n`);
  }

  /** Removes every host and the network. */
  public async remove(): Promise<void> {
    for (const host of this.hosts) {
      await host.remove();
    }
    await root("iptables", "-D", "FORWARD", "-i", this.bridge, "-o", this.bridge, "-j", "ACCEPT").catch(() => undefined);
    await root("ip", "link", "del", this.bridge).catch(() => undefined);
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Another machine, as far as Docker and the network can tell: its own engine in a network namespace of its own. */
export class FarHost extends OwnEngine {
  private readonly namespace: string;

  public constructor(
    private readonly lan: Lan,
    id: string,
    public readonly address: string,
  ) {
    super();
    this.namespace = `pgr-${id}`;
  }

  /** The host over ssh, as a DOCKER_HOST value. */
  public get ssh(): string {
    return `ssh://${userInfo().username}@${this.address}`;
  }

  protected override network(): string[] {
    return ["nsenter", `--net=/run/netns/${this.namespace}`, "unshare"];
  }

  public async connect(): Promise<void> {
    const [here, there] = [`v${this.namespace.slice(4)}a`, `v${this.namespace.slice(4)}b`];
    await root("ip", "netns", "add", this.namespace);
    await root("ip", "link", "add", here, "type", "veth", "peer", "name", there);
    await root("ip", "link", "set", there, "netns", this.namespace);
    await root("ip", "link", "set", here, "master", this.lan.bridge, "up");
    const within = (...command: string[]): Promise<string> => root("ip", "-n", this.namespace, ...command);
    await within("addr", "add", `${this.address}/24`, "dev", there);
    await within("link", "set", there, "up");
    await within("link", "set", "lo", "up");
    await within("route", "add", "default", "via", this.lan.address);
  }

  /** Cuts the host off from the network, or heals that. */
  public async link(state: "up" | "down"): Promise<void> {
    await root("ip", "link", "set", `v${this.namespace.slice(4)}a`, state);
  }

  /** Makes it begin with an sshd that lets this key in as this user. */
  public letIn(key: string): void {
    const { folder } = this;
    execa.sync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", join(folder, "host_key")]);
    writeFileSync(join(folder, "authorized"), readFileSync(`${key}.pub`));
    const lines = [
      `ListenAddress ${this.address}`,
      `HostKey ${join(folder, "host_key")}`,
      `AuthorizedKeysFile ${join(folder, "authorized")}`,
      "StrictModes no",
      "UsePAM no",
      "PasswordAuthentication no",
      "PermitRootLogin prohibit-password",
      `PidFile ${join(folder, "sshd.pid")}`,
    ];
    writeFileSync(join(folder, "sshd_config"), `${lines.join("\n")}\n`);
    // Everything else is sshd's default.
    writeFileSync(
      join(folder, "begin"),
      `mkdir -p /run/sshd\nln -s ${join(folder, "docker.sock")} /run/docker.sock\n/usr/sbin/sshd -f ${join(folder, "sshd_config")} -E ${join(folder, "sshd.log")}\n`,
    );
  }

  /** How often somebody has logged in by ssh since it was started. */
  public logins(): number {
    return this.sshLog().filter((line) => line.startsWith("Accepted publickey")).length;
  }

  /** What sshd says of those that it has turned away because there were too many. */
  public turnedAway(): string[] {
    return this.sshLog().filter((line) => /MaxStartups|drop connection|no more sessions/.test(line));
  }

  private sshLog(): string[] {
    return readFileSync(join(this.folder, "sshd.log"), "utf8").split("\n");
  }

  public hostKey(): string {
    return readFileSync(join(this.folder, "host_key.pub"), "utf8").trim().split(" ").slice(0, 2).join(" ");
  }

  public override async remove(): Promise<void> {
    await super.remove();
    await root("ip", "netns", "del", this.namespace).catch(() => undefined);
    await root("ip", "link", "del", `v${this.namespace.slice(4)}a`).catch(() => undefined);
  }
}
