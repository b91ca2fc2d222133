import execa from "execa";
import { randomBytes } from "crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "fs";
import { tmpdir } from "os";
import { delimiter, join } from "path";
import { parse, stringify } from "yaml";
import { docker, leftovers, sqlIn } from "../docker";
import { currentDockerHost } from "../../operations/engine/dockerHost";
import { fileBackend, pulumiBin, pulumiHome, withLoader } from "../../operations/deploy/workspace";
import { containerName, lockName, volumeName } from "../../core/model/names";
import { killWhen } from "../faults/processes";
import { copyTree, freePorts, OWN_IMAGE, type Ran, type StackFile, type StackOutputs } from "../integration/checkout";
import { removeLabelled } from "../integration/labelled";

/** How long one run of Pulumi may take, in ms. */
const RUN_LIMIT = 300_000;

/** What a fresh clone may be, beside what it usually is. */
export interface Options {
  /** Puts the program's files into the folder. @default the working tree */
  tree?: (folder: string) => Promise<void>;
  /** How many nodes, pg1 to pgN, on free ports. @default 2 */
  nodes?: number;
  /** A stack whose name is taken on: this is a second clone, which knows nothing of it. */
  of?: PlainStack;
  /** Nothing helps a language host that does not know Pulumi.yaml's options. @default false */
  bare?: boolean;
}

/**
 * A stack as a user of Pulumi has it: a fresh clone, a backend of its own, the passphrase in the environment, and plain
 * `pulumi`. None of the project's own commands is ever called.
 */
export class PlainStack {
  /** The clone. */
  public readonly folder = mkdtempSync(join(tmpdir(), "postgres-replica-plain-"));
  /** State, and Pulumi's own folder: outside the clone, as a team's would be. */
  private readonly home = mkdtempSync(join(tmpdir(), "postgres-replica-plain-home-"));
  private readonly passphrase = randomBytes(16).toString("hex");
  private config: StackFile = {};

  private constructor(
    public readonly stack: string,
    private readonly owner: boolean,
    private readonly bare: boolean,
  ) {}

  /** A clone with an empty stack: `pulumi stack init` is done, nothing is built. */
  public static async make(prefix: string, config: StackFile = {}, options: Options = {}): Promise<PlainStack> {
    const name = options.of?.stack ?? `dev-${prefix}-${randomBytes(3).toString("hex")}`;
    const plain = new PlainStack(name, options.of === undefined, options.bare ?? false);
    try {
      await (options.tree ?? copyTree)(plain.folder);
      mkdirSync(join(plain.home, "backend"), { mode: 0o700 });
      // The plugins are the machine's; which stack is selected, credentials and logs are not.
      symlinkSync(join(pulumiHome(), "plugins"), join(plain.home, "plugins"));
      const ports = await freePorts(options.nodes ?? 2);
      plain.configure({ nodes: ports.map((port, i) => ({ name: `pg${i + 1}`, port })), ...config });
      await plain.must("stack", "init", plain.stack);
      return plain;
    } catch (error) {
      await plain.remove();
      throw error;
    }
  }

  /** A stack that is built. */
  public static async build(prefix: string, config: StackFile = {}, options: Options = {}): Promise<PlainStack> {
    const plain = await PlainStack.make(prefix, config, options);
    try {
      await plain.up();
      return plain;
    } catch (error) {
      await plain.remove();
      throw error;
    }
  }

  /** Changes keys of the stack's config; undefined takes one out. */
  public configure(change: StackFile): void {
    this.config = Object.fromEntries(Object.entries({ ...this.config, ...change }).filter(([, value]) => value !== undefined));
    const named = Object.fromEntries(Object.entries(this.config).map(([key, value]) => [`postgres-replica:${key}`, value]));
    writeFileSync(this.configFile, `${stringify({ config: named })}${this.salt()}\n`);
  }

  /** A secret of the stack's file, as it is there. */
  public ciphertext(key: string): string {
    const { config } = parse(readFileSync(this.configFile, "utf8")) as { config: Record<string, { secure: string }> };
    return config[`postgres-replica:${key}`]?.secure ?? "";
  }

  /** Puts another program into the clone; the stack's config stays. */
  public async take(tree: (folder: string) => Promise<void>): Promise<void> {
    const config = readFileSync(this.configFile);
    rmSync(this.folder, { recursive: true, force: true });
    mkdirSync(this.folder);
    await tree(this.folder);
    writeFileSync(this.configFile, config);
  }

  /** The nodes of the config. */
  public get nodes(): { name: string; port: number; address?: string; dockerHost?: string }[] {
    return this.config["nodes"] as { name: string; port: number }[];
  }

  /** Where a test asks the Docker engine of a node, when that is not where the config says. */
  public readonly sockets = new Map<string, string>();

  /** The Docker engine of a node. */
  public engineOf(node: string): string {
    return this.sockets.get(node) ?? this.nodes.find(({ name }) => name === node)?.dockerHost ?? currentDockerHost();
  }

  private get engines(): string[] {
    return [...new Set(this.nodes.map(({ name }) => this.engineOf(name)))];
  }

  /** One key of the config; undefined when it is not set. */
  public configured(key: string): unknown {
    return this.config[key];
  }

  /** Puts a state in the place of the stack's own: `pulumi stack import`. */
  public async import(state: string): Promise<void> {
    const file = join(this.home, "state.json");
    writeFileSync(file, state, { mode: 0o600 });
    await this.must("stack", "import", "--file", file);
  }

  /** The file with the stack's config. */
  public get configFile(): string {
    return join(this.folder, `Pulumi.${this.stack}.yaml`);
  }

  /** Of the passphrase; `pulumi stack init` puts it into the config. */
  private salt(): string {
    try {
      return /^encryptionsalt:.*$/m.exec(readFileSync(this.configFile, "utf8"))?.[0] ?? "";
    } catch {
      return ""; // not made yet
    }
  }

  /** More of what the user has exported. */
  public variables: Record<string, string> = {};

  /** What a user has exported. */
  public environment(extra: Record<string, string> = {}): Record<string, string> {
    const own = Object.entries(process.env).filter(
      ([name, value]) => value !== undefined && !/^(PULUMI_|DOCKER_CONTEXT$|PGNODE_|npm_)/.test(name),
    ) as [string, string][];
    return {
      ...Object.fromEntries(own),
      PATH: `${pulumiBin()}${delimiter}${this.variables["PATH"] ?? process.env["PATH"] ?? ""}`,
      PULUMI_HOME: this.home,
      PULUMI_BACKEND_URL: fileBackend(join(this.home, "backend")),
      PULUMI_CONFIG_PASSPHRASE: this.passphrase,
      PULUMI_SKIP_UPDATE_CHECK: "true",
      // A machine without network would try for seconds.
      PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION: "true",
      ...this.loading(),
      NO_COLOR: "1",
      ...Object.fromEntries(Object.entries(this.variables).filter(([name]) => name !== "PATH")),
      ...extra,
    };
  }

  /** Official language hosts heed Pulumi.yaml's nodeargs. One that does not checks the program's types at every run: four times the work. */
  private loading(): Record<string, string> {
    const loader = join(this.folder, "scripts", "program.cjs");
    if (this.bare) {
      return {};
    }
    return existsSync(loader) ? { NODE_OPTIONS: withLoader(undefined, loader) } : { PULUMI_NODEJS_TRANSPILE_ONLY: "true" };
  }

  /** Starts `pulumi`, in a process group of its own. */
  public start(args: readonly string[], extra: Record<string, string> = {}, cwd = this.folder, input?: string): execa.ExecaChildProcess {
    return execa("pulumi", ["--non-interactive", ...args], {
      cwd,
      env: this.environment(extra),
      extendEnv: false,
      reject: false,
      ...(input === undefined ? { stdin: "ignore" } : { input }),
      timeout: RUN_LIMIT,
      detached: true,
    });
  }

  /** Starts `pulumi up` and kills it, with all below it, as soon as its output matches. */
  public async killUpWhen(marker: RegExp): Promise<void> {
    await killWhen(this.start(["up", "--yes", "--skip-preview", "--stack", this.stack]), marker);
  }

  /** Inode and birth of a node's data, from its volume, whether the node has a container or not; empty when there is none. */
  public async volumeBirth(node: string): Promise<string> {
    // docker run would make a volume that is not there.
    if ((await docker(["volume", "inspect", this.volume(node)])).exitCode !== 0) {
      return "";
    }
    const look = "stat -c '%i %w' /v/data/PG_VERSION 2>/dev/null || true";
    return this.docker("run", "--rm", "-v", `${this.volume(node)}:/v`, "--entrypoint", "sh", OWN_IMAGE, "-c", look);
  }

  /** Runs `pulumi ARGS --stack STACK` to its end. */
  public async pulumi(args: readonly string[], extra: Record<string, string> = {}): Promise<Ran> {
    const ended = await this.start(args.includes("init") ? args : [...args, "--stack", this.stack], extra);
    return { exitCode: ended.exitCode ?? -1, stdout: ended.stdout, stderr: ended.stderr };
  }

  /** Runs `pulumi`, which must succeed. */
  public async must(...args: string[]): Promise<Ran> {
    const ran = await this.pulumi(args);
    if (ran.exitCode !== 0) {
      throw new Error(`pulumi ${args.join(" ")} ended with ${ran.exitCode}\n${reason(ran)}`);
    }
    return ran;
  }

  /** `pulumi config set`, with the value on standard input. */
  public async set(value: string, ...args: string[]): Promise<void> {
    const ended = await this.start(["config", "set", ...args, "--stack", this.stack], {}, this.folder, value);
    if (ended.exitCode !== 0) {
      throw new Error(`pulumi config set ${args.join(" ")}: ${ended.stderr}`);
    }
  }

  public up(...args: string[]): Promise<Ran> {
    return this.must("up", "--yes", "--skip-preview", ...args);
  }

  /** What `preview` shows; it must succeed. */
  public async preview(...args: string[]): Promise<string> {
    const ran = await this.must("preview", ...args);
    return ran.stdout + ran.stderr;
  }

  /** The stack's outputs, secrets included. */
  public async outputs(): Promise<StackOutputs> {
    return JSON.parse((await this.must("stack", "output", "--json", "--show-secrets")).stdout) as StackOutputs;
  }

  /** Preview sees nothing to do. */
  public async expectZeroDiff(): Promise<void> {
    const preview = await this.pulumi(["preview", "--expect-no-changes"]);
    expect([preview.exitCode, preview.exitCode === 0 ? "" : preview.stdout + preview.stderr]).toEqual([0, ""]);
  }

  /** The same; then `up` has nothing to do either, and no container is another one or was started anew. */
  public async expectIdleUp(): Promise<void> {
    const before = await this.containers();
    await this.expectZeroDiff();
    const up = await this.up("--expect-no-changes");
    expect(up.stdout).toMatch(/\d+ unchanged/);
    expect(await this.containers()).toEqual(before);
  }

  public container(node: string): string {
    return containerName(this.stack, node);
  }

  /** The image that a node's container was made of. */
  public image(node: string): Promise<string> {
    return this.docker("inspect", "-f", "{{.Config.Image}}", this.container(node));
  }

  public volume(node: string): string {
    return volumeName(this.stack, node);
  }

  /** Runs docker, which must succeed. */
  public async docker(...args: string[]): Promise<string> {
    const ran = await docker(args);
    if (ran.exitCode !== 0) {
      throw new Error(`docker ${args.join(" ")}: ${ran.stderr}`);
    }
    return ran.stdout.trim();
  }

  /** ID, start and state of every container of the stack, by name. */
  public async containers(): Promise<string[]> {
    const format = "{{.Name}} {{.Id}} {{.State.StartedAt}} {{.State.Status}}";
    const at = async (host: string): Promise<string[]> => {
      const found = await leftovers(this.stack, [host]);
      const names = found.flatMap((line) => (line.startsWith("container ") ? [line.slice("container ".length)] : []));
      return names.length === 0 ? [] : (await docker(["inspect", "-f", format, ...names], { host })).stdout.trim().split("\n");
    };
    return (await Promise.all(this.engines.map(at))).flat().sort();
  }

  /** Runs SQL in a node, as postgres; it must succeed. */
  public async sql(node: string, text: string, database = "ecommerce"): Promise<string> {
    const ran = await sqlIn(this.container(node), text, { database, timeout: 30_000, host: this.engineOf(node) });
    if (ran.exitCode !== 0) {
      throw new Error(`${node}: ${ran.stderr}`);
    }
    return ran.stdout.trim();
  }

  /** Runs a shell script in a node's container, as postgres; it must succeed. */
  public sh(node: string, script: string): Promise<string> {
    return this.docker("exec", "-u", "postgres", this.container(node), "sh", "-ec", script);
  }

  /** Waits until the SQL says this, 60 s at most. */
  public async until(node: string, text: string, wanted: string): Promise<void> {
    const end = Date.now() + 60_000;
    let said = "";
    while (Date.now() < end) {
      said = await this.sql(node, text, "postgres").catch((error: Error) => error.message);
      if (said === wanted) {
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    throw new Error(`${node} says "${said}" to ${text} after 60 s, and not "${wanted}"`);
  }

  /** That a node streams from another one of the same cluster, through its own slot. */
  public async expectStreaming(standby: string, primary: string): Promise<void> {
    const streams = `SELECT r.active AND s.state = 'streaming' FROM pg_replication_slots r JOIN pg_stat_replication s ON s.pid = r.active_pid WHERE slot_name = '${standby}'`;
    expect(await this.sql(primary, streams, "postgres")).toBe("t");
    expect(await this.sql(standby, "SELECT pg_is_in_recovery()", "postgres")).toBe("t");
    const cluster = "SELECT system_identifier FROM pg_control_system()";
    expect(await this.sql(standby, cluster, "postgres")).toBe(await this.sql(primary, cluster, "postgres"));
  }

  /** A row that a client writes on the primary and that arrives on a standby. */
  public async expectNewRow(primary: string, standby: string): Promise<void> {
    const email = `${randomBytes(4).toString("hex")}@example.com`;
    await this.sql(primary, `SET synchronous_commit = local; INSERT INTO customers (email, name) VALUES ('${email}', 'New')`);
    const found = `SELECT count(*) FROM customers WHERE email = '${email}'`;
    const end = Date.now() + 10_000;
    while ((await this.sql(standby, found)) !== "1") {
      if (Date.now() > end) {
        throw new Error(`${email} has not arrived on ${standby} after 10 s`);
      }
    }
  }

  /**
   * Kills the primary, promotes a standby and starts the old primary again, which finds the new one and rejoins by
   * itself: what a person does without any of our commands.
   */
  public async moveRole(from: string, to: string): Promise<void> {
    await this.docker("kill", this.container(from));
    await this.sql(to, "SELECT pg_promote(true, 60)", "postgres");
    for (const { name } of this.nodes.filter((node) => node.name !== from && node.name !== to)) {
      await this.sql(to, `SELECT pg_create_physical_replication_slot('${name}', true)`, "postgres");
    }
    await this.docker("start", this.container(from));
    const streaming =
      "SELECT count(*) FROM pg_replication_slots r JOIN pg_stat_replication s ON s.pid = r.active_pid WHERE state = 'streaming'";
    await this.until(to, streaming, String(this.nodes.length - 1));
  }

  /** Inode and birth of a node's data: another one means that the data is not the same. */
  public dataBirth(node: string): Promise<string> {
    return this.docker("exec", this.container(node), "stat", "-c", "%i %w", "/var/lib/pgnode/data/PG_VERSION");
  }

  /** Destroys the stack, whatever state it is in, and removes the clone. Throws when Docker still holds anything. */
  public async remove(): Promise<void> {
    const left: string[] = [];
    try {
      if (this.owner) {
        const listed = await this.start(["stack", "ls"]);
        if (listed.stdout.includes(this.stack)) {
          await this.pulumi(["cancel", "--yes"]);
          await this.pulumi(["state", "unprotect", "--all", "--yes"]);
          const destroyed = await this.pulumi(["destroy", "--yes", "--skip-preview"]);
          if (destroyed.exitCode !== 0) {
            left.push(`pulumi destroy ended with ${destroyed.exitCode}: ${destroyed.stdout}${destroyed.stderr}`);
          }
        }
        left.push(...(await leftovers(this.stack, this.engines)));
        await removeLabelled(this.stack);
        left.push(...(await this.lockLeft()));
      }
    } finally {
      rmSync(this.folder, { recursive: true, force: true });
      rmSync(this.home, { recursive: true, force: true });
    }
    if (left.length > 0) {
      throw new Error(`the test left something behind: ${left.join(", ")}`);
    }
  }

  /** The stack's lock, when it is still there some seconds after the last run; it is removed. */
  private async lockLeft(): Promise<string[]> {
    const there = async (): Promise<boolean> => (await docker(["inspect", "--type", "container", lockName(this.stack)])).exitCode === 0;
    const end = Date.now() + 10_000;
    while (await there()) {
      if (Date.now() > end) {
        await docker(["rm", "-f", lockName(this.stack)]);
        return [`the lock ${lockName(this.stack)}`];
      }
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
    return [];
  }
}

/** Why Pulumi failed, first: a long output may be cut off where it is shown. */
function reason({ stdout, stderr }: Ran): string {
  const [why = ""] = /^ *Diagnostics:$[^]*?(?=^ *(?:Outputs|Resources):$)/m.exec(stdout) ?? [];
  return [why, stderr, stdout].filter((part) => part !== "").join("\n");
}
