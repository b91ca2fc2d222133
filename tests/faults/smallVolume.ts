import { docker } from "../docker";
import { labelsOf, volumeName } from "../../core/model/names";
import { OWN_IMAGE } from "../integration/checkout";

const SIZE_MIB = 256;

/** A volume of a stack that is small, in memory, and can be filled up. */
export class SmallVolume {
  private readonly keeper: string;

  public constructor(
    stack: string,
    node: string,
    private readonly volume = volumeName(stack, node),
    private readonly labels = labelsOf(stack, node),
  ) {
    this.keeper = `${volume}-keeper`;
  }

  /** Makes it. A file system in memory lasts as long as a container holds it. */
  public async make(): Promise<void> {
    await this.makeWith("type=tmpfs", "device=tmpfs", `o=size=${SIZE_MIB}m`);
  }

  /** Makes it on the file system of another one: what is taken of one is taken of both. */
  public async makeOn(other: SmallVolume): Promise<void> {
    // In the one folder there that no node minds.
    const folder = `lost+found/${this.volume}`;
    await other.sh(`mkdir "/v/${folder}"`);
    const mountpoint = await must("volume", "inspect", "--format", "{{.Mountpoint}}", other.volume);
    await this.makeWith("type=none", `device=${mountpoint}/${folder}`, "o=bind");
  }

  private async makeWith(...driver: string[]): Promise<void> {
    const labels = Object.entries(this.labels).flatMap(([key, value]) => ["--label", `${key}=${value}`]);
    await must("volume", "create", ...labels, ...driver.flatMap((option) => ["--opt", option]), this.volume);
    await must("run", "-d", "--init", "--name", this.keeper, "-v", `${this.volume}:/v`, "--entrypoint", "sleep", OWN_IMAGE, "1800");
    await this.sh("mkdir /v/lost+found");
  }

  /** Leaves only so much free. */
  public async fill(freeMiB: number): Promise<void> {
    await this.free();
    await this.sh(`head -c ${Math.floor(((await this.room()) - freeMiB) * 1024 * 1024)} /dev/zero >/v/lost+found/ballast`);
  }

  /** How much is free on its file system, in MiB. */
  public async room(): Promise<number> {
    const [blocks = 0, size = 0] = (await this.sh("stat -f -c '%a %S' /v")).split(" ").map(Number);
    return (blocks * size) / 1024 / 1024;
  }

  public async free(): Promise<void> {
    await this.sh("rm -f /v/lost+found/ballast");
  }

  /** What is in it. */
  public async content(): Promise<string[]> {
    return (await this.sh("ls /v")).split("\n");
  }

  /** Lets go of it, so that the stack can remove it. */
  public async release(): Promise<void> {
    await docker(["rm", "-f", this.keeper]);
  }

  /** Runs a script; the volume is at /v. */
  public async sh(script: string): Promise<string> {
    return must("exec", this.keeper, "sh", "-c", script);
  }
}

async function must(...args: string[]): Promise<string> {
  const ran = await docker(args);
  if (ran.exitCode !== 0) {
    throw new Error(`docker ${args.join(" ")}: ${ran.stderr}`);
  }
  return ran.stdout.trim();
}
