import execa from "execa";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "fs";
import { createServer } from "net";
import { tmpdir } from "os";
import { delimiter, join } from "path";
import { randomBytes, randomInt } from "crypto";
import { stringify } from "yaml";
import { docker, leftovers } from "../docker";
import { fileBackend, ROOT } from "../../operations/deploy/workspace";
import { DEFAULTS } from "../../core/config";
import { imageName } from "../../core/model/image";
import { removeLabelled } from "./labelled";
import type { Status } from "../../operations/look/documents";

/** What a command printed, and how it ended. */
export interface Ran {
  exitCode: number;
  stdout: string;
  stderr: string;
}

/** A stack's configuration as a test writes it; keys without namespace. */
export type StackFile = Record<string, unknown>;

/**
 * TCP ports of 127.0.0.1 that nobody listens on now. Below those that the system gives to whoever connects (32768 and up):
 * a node that is stopped for a moment would lose its port to some client's connection.
 */
export async function freePorts(count: number): Promise<number[]> {
  const free: number[] = [];
  for (let tries = 0; free.length < count && tries < 1_000; tries++) {
    const port = randomInt(20_000, 32_000);
    if (!free.includes(port) && (await canListen(port))) {
      free.push(port);
    }
  }
  if (free.length < count) {
    throw new Error(`there are not ${count} free ports from 20000 to 31999`);
  }
  return free;
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}

/** Copies the working tree, without what no command needs (all commands are one program); the packages are shared. */
export async function copyTree(folder: string, without = /^(toolchain|docs)\/|^tests\/.*\.test\.ts$/): Promise<void> {
  const { stdout } = await execa("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], { cwd: ROOT });
  const files = stdout.split("\0").filter((file) => file !== "" && !without.test(file));
  const tar = join(folder, "tree.tar");
  await execa("tar", ["-C", ROOT, "--ignore-failed-read", "-cf", tar, ...files]);
  await execa("tar", ["-C", folder, "-xf", tar]);
  rmSync(tar);
  symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
}

/**
 * A copy of the working tree in a folder of its own, with its own state and passphrase: what a user has
 * after `git clone`, so that a test runs the same commands a user runs and cannot touch the dev stack.
 */
export class Checkout {
  public readonly folder = mkdtempSync(join(tmpdir(), "postgres-replica-test-"));
  private readonly stacks: string[] = [];

  public static async make(): Promise<Checkout> {
    const checkout = new Checkout();
    await copyTree(checkout.folder);
    // The dev stack's file may hold the salt of the other checkout.
    const dev = join(checkout.folder, "Pulumi.dev.yaml");
    writeFileSync(dev, readFileSync(dev, "utf8").replace(/^encryptionsalt:.*\n?/m, ""));
    mkdirSync(join(checkout.folder, ".state"), { mode: 0o700 });
    return checkout;
  }

  /** Writes a stack's file; returns the stack's name, which no other run has. */
  public addStack(prefix: string, config: StackFile): string {
    const stack = `${prefix}-${randomBytes(3).toString("hex")}`;
    this.writeStack(stack, config);
    this.stacks.push(stack);
    return stack;
  }

  public writeStack(stack: string, config: StackFile): void {
    const named = Object.fromEntries(Object.entries(config).map(([key, value]) => [`postgres-replica:${key}`, value]));
    const file = join(this.folder, `Pulumi.${stack}.yaml`);
    let salt = "";
    try {
      salt = /^encryptionsalt:.*$/m.exec(readFileSync(file, "utf8"))?.[0] ?? "";
    } catch {
      // A new stack has none.
    }
    writeFileSync(file, `${stringify({ config: named })}${salt}\n`);
  }

  /** The environment of a command: the test's own backend, whatever the machine is logged in to. */
  public environment(extra: Record<string, string> = {}): Record<string, string> {
    return {
      PULUMI_BACKEND_URL: fileBackend(join(this.folder, ".state", "backend")),
      PULUMI_CONFIG_PASSPHRASE_FILE: "",
      NO_COLOR: "1",
      ...extra,
    };
  }

  /** Runs one of the project's commands, as `npm run` does. */
  public command(name: string, args: readonly string[] = [], env: Record<string, string> = {}): execa.ExecaChildProcess {
    return execa(process.execPath, [join(this.folder, "scripts", "run.cjs"), name, ...args], {
      cwd: this.folder,
      env: this.environment(env),
      reject: false,
      stdin: "ignore",
      timeout: 300_000,
      cleanup: true,
    });
  }

  /** Runs a command to its end. */
  public async run(name: string, args: readonly string[] = [], env: Record<string, string> = {}): Promise<Ran> {
    const result = await this.command(name, args, env);
    return { exitCode: result.exitCode, stdout: result.stdout, stderr: result.stderr };
  }

  /**
   * Puts a `docker` before the real one, for commands that get the environment which is returned.
   *
   * @param onDocker Shell text that runs before each call, with its arguments in "$@"; `$DOCKER` is the real one, `$FOLDER` a
   *   folder of its own, which is returned too.
   */
  public async dockerBefore(onDocker: string): Promise<{ folder: string; env: { PATH: string } }> {
    const folder = mkdtempSync(join(this.folder, ".state", "bin-"));
    const { stdout: real } = await execa("sh", ["-c", "command -v docker"]);
    const script = `#!/bin/sh\nDOCKER=${real}\nFOLDER=${folder}\n${onDocker}\nexec "$DOCKER" "$@"\n`;
    writeFileSync(join(folder, "docker"), script, { mode: 0o755 });
    return { folder, env: { PATH: `${folder}${delimiter}${process.env["PATH"] ?? ""}` } };
  }

  /** Runs a command that must succeed. */
  public async must(name: string, ...args: string[]): Promise<Ran> {
    const ran = await this.run(name, args);
    if (ran.exitCode !== 0) {
      throw new Error(`${name} ${args.join(" ")} ended with ${ran.exitCode}\n${ran.stdout}\n${ran.stderr}`);
    }
    return ran;
  }

  /** Runs plain Pulumi with what `npm run env` prints, in a shell, as a user would. */
  public async pulumi(stack: string, ...args: string[]): Promise<Ran> {
    const script = `eval "$("$0" scripts/run.cjs env --stack "$1")" && shift && exec pulumi --non-interactive "$@"`;
    const result = await execa("/bin/sh", ["-c", script, process.execPath, stack, ...args], {
      cwd: this.folder,
      env: this.environment(),
      reject: false,
      stdin: "ignore",
      timeout: 300_000,
    });
    return { exitCode: result.exitCode, stdout: result.stdout, stderr: result.stderr };
  }

  /** The stack's outputs, secrets included. */
  public async outputs(stack: string): Promise<StackOutputs> {
    const ran = await this.pulumi(stack, "stack", "output", "--json", "--show-secrets");
    if (ran.exitCode !== 0) {
      throw new Error(ran.stderr);
    }
    return JSON.parse(ran.stdout) as StackOutputs;
  }

  public async status(stack: string): Promise<Status> {
    return JSON.parse((await this.run("status", ["--stack", stack, "--json"])).stdout) as Status;
  }

  /** Destroys every stack of the checkout, whatever state it is in, and removes the folder. Throws when Docker still holds anything. */
  public async remove(): Promise<void> {
    const left: string[] = [];
    try {
      for (const stack of this.stacks) {
        const down = await this.run("down", ["--stack", stack]);
        if (down.exitCode !== 0) {
          left.push(`down of ${stack} ended with ${down.exitCode}: ${down.stderr}`);
        }
        left.push(...(await leftovers(stack)));
        await removeLabelled(stack);
      }
    } finally {
      rmSync(this.folder, { recursive: true, force: true });
    }
    if (left.length > 0) {
      throw new Error(`the test left something behind: ${left.join(", ")}`);
    }
  }

  /** A stack whose `down` keeps volumes on purpose: take them away before the leak check. */
  public async dropVolumes(stack: string): Promise<void> {
    for (const line of (await leftovers(stack)).filter((object) => object.startsWith("volume "))) {
      await docker(["volume", "rm", "-f", line.slice("volume ".length)]);
    }
  }
}

/** The outputs of the design. */
export interface StackOutputs {
  nodes: Record<string, { host: string; port: number; container: string }>;
  writerUrl: string;
  readerUrl: string;
  primaryUrl: string;
  secondaryUrls: Record<string, string>;
  replicationSlots: Record<string, string>;
  lagChecks: Record<string, { sql: string; command: string; thresholdBytes: number }>;
  network: string;
}

/** Our own image, by the name under which containers use it. */
export const OWN_IMAGE = imageName(DEFAULTS.image);

/**
 * Runs psql (of the node's own container) against a libpq URL that is reachable from this machine.
 *
 * @param authority The text of the file that the URL names as the CA's certificate. @default it names none
 */
export async function psql(url: string, sql: string, authority = ""): Promise<Ran> {
  const [, file = "none.pem"] = /[?&]sslrootcert=([^&]*)/.exec(url) ?? [];
  const script = 'cd /tmp && printf %s "$AUTHORITY" >"$FILE" && psql -X -v ON_ERROR_STOP=1 "$URL"';
  // The container shares the host's network, so a URL with 127.0.0.1 means the same to it.
  const result = await docker(
    [
      ...["run", "--rm", "-i", "--network", "host", "-e", "URL", "-e", "FILE", "-e", "AUTHORITY"],
      ...["--entrypoint", "sh", OWN_IMAGE, "-c", script],
    ],
    {
      input: sql,
      env: { URL: url, FILE: decodeURIComponent(file), AUTHORITY: authority },
    },
  );
  return result;
}
