import { randomBytes } from "crypto";
import { mkdtempSync, rmSync, writeFileSync } from "fs";
import { tmpdir } from "os";
import { join } from "path";
import { docker, sqlIn } from "../docker";
import { NodeControl, nodeOf } from "../../operations/engine/nodeControl";
import { until } from "../../operations/engine/poll";
import { clusterOf, nodeEnvironment } from "../../core/model/cluster";
import { placed } from "../../core/model/place";
import { placedHere } from "../../operations/engine/dockerHost";
import { parseConfig, type StackConfig } from "../../core/config";
import { nodePassfile } from "../../core/model/nodeFiles";
import { labelFilter, labelsOf, LOCK_LABELS, networkName, NODE_ROOT, volumeName } from "../../core/model/names";
import { PGNODE_PATH, PGNODE_SCRIPT } from "../../core/model/pgnode";
import { rolesSql } from "../../core/sql/roles";
import type { Status } from "../../operations/look/documents";
import { Checkout, OWN_IMAGE, type Ran } from "../integration/checkout";

/** The password of every role at first. */
const PASSWORD = "hand made";
/** Where the programs of the server are in our image. */
const PROGRAMS = "/usr/lib/postgresql/17/bin";

/**
 * Nodes made by hand, without Pulumi: the real containers, volumes, configuration and program of a stack, in seconds.
 * They publish no ports. For what nodes and commands do, not for what the program declares.
 */
export class HandMade {
  public readonly config: StackConfig;
  private readonly image: string;
  private readonly file: Record<string, unknown>;
  private checkout: Checkout | undefined;

  /**
   * @param nodes The first one is to be the primary.
   * @param config More of the stack's config.
   * @param base What the nodes' image is made from; asked for by {@link begin}. @default our own image
   */
  public constructor(
    nodes: readonly string[],
    config: Record<string, unknown> = {},
    private readonly base: () => Promise<string> = () => Promise.resolve(OWN_IMAGE),
  ) {
    const stack = `dev-hand-${randomBytes(3).toString("hex")}`;
    this.image = `postgres-replica-${stack}:made`;
    this.file = { nodes: nodes.map((name, i) => ({ name, port: 5432 + i })), image: this.image, ...config };
    this.config = parseConfig(stack, this.file);
  }

  /**
   * Makes the network and the image, and starts the first node as a primary.
   *
   * @param programs Programs that take the place of PostgreSQL's, or come before the system's: a script by path. The
   *   program of PostgreSQL that it stands in for is beside it, with `.real` after its name.
   */
  public async begin(programs: Readonly<Record<string, string>> = {}): Promise<void> {
    const { stack } = this.config;
    const base = await this.base();
    const labels = Object.entries(labelsOf(stack)).flatMap(([key, value]) => ["--label", `${key}=${value}`]);
    await this.docker("network", "create", ...labels, networkName(stack));
    await this.makeImage(base, { [PGNODE_PATH]: PGNODE_SCRIPT, ...programs });
    const first = this.config.first;
    await this.docker("volume", "create", ...labels, volumeName(stack, first));
    await this.inVolume(first, "init");
    await this.start(first);
    await this.docker("exec", "-u", "postgres", this.container(first), PGNODE_PATH, "ready");
    await this.setPasswords(first, PASSWORD);
  }

  /** Begins, and joins every other node. */
  public async beginAll(programs: Readonly<Record<string, string>> = {}): Promise<void> {
    await this.begin(programs);
    for (const { name } of this.config.nodes.filter((node) => node.name !== this.config.first)) {
      await this.join(name);
    }
  }

  /** Makes the roles and the database, or gives the roles this password: what the program does on the primary. */
  public async setPasswords(primary: string, password: string): Promise<void> {
    const roles = rolesSql({
      superuser: password,
      replication: password,
      rewind: password,
      app: password,
      database: "app",
      monitoring: false,
    });
    // No standby may be there yet that could confirm it.
    await this.sql(primary, `SET synchronous_commit = local;\n${roles}`);
  }

  /** Gives the running node this password to connect with, and its configuration anew: what the program does on each node. */
  public async configure(node: string, password: string): Promise<void> {
    const env = {
      PGNODE_PASSFILE: nodePassfile({ replication: password, rewind: password }),
      ...nodeEnvironment(clusterOf(placed(this.config, "here")), node),
    };
    const names = Object.keys(env).flatMap((name) => ["-e", name]);
    const ran = await docker(["exec", "-u", "postgres", ...names, this.container(node), PGNODE_PATH, "configure"], { env });
    if (ran.exitCode !== 0) {
      throw new Error(`pgnode configure on ${node}: ${ran.stderr}`);
    }
  }

  /** Clones the node from the first one and starts it as a standby. */
  public async join(node: string): Promise<void> {
    await this.control(node).clone(this.control(this.config.first));
    await this.start(node);
    await this.until(`node ${node} to stream`, async () => (await this.receiver(node)) === "streaming");
  }

  public control(node: string): NodeControl {
    const config = placedHere(this.config);
    return new NodeControl(config, nodeOf(config, node));
  }

  public container(node: string): string {
    return this.control(node).container;
  }

  /** Makes the node's container on its volume, and starts it. */
  public async start(node: string): Promise<void> {
    const { stack } = this.config;
    const labels = Object.entries(labelsOf(stack, node)).flatMap(([key, value]) => ["--label", `${key}=${value}`]);
    await this.docker(
      ...["run", "-d", "--name", this.container(node), "--hostname", node, "--network", networkName(stack), "--network-alias", node],
      ...[...labels, "-v", `${volumeName(stack, node)}:${NODE_ROOT}`, "-e", `PGNODE_NAME=${node}`, "-e", `PGNODE_STACK=${stack}`],
      ...[
        "--user",
        "0:0",
        "--stop-signal",
        "SIGINT",
        "--health-cmd",
        `${PGNODE_PATH} healthy`,
        "--health-interval",
        "5s",
        "--health-timeout",
        "5s",
        "--entrypoint",
        PGNODE_PATH,
        this.image,
        "run",
      ],
    );
  }

  /** Runs a part of pgnode on the volume of a node, in a container of its own. */
  private async inVolume(node: string, action: string): Promise<void> {
    const env = {
      PGNODE_NAME: node,
      PGNODE_PASSFILE: nodePassfile({ replication: PASSWORD, rewind: PASSWORD }),
      ...nodeEnvironment(clusterOf(placed(this.config, "here")), node),
    };
    const ran = await docker(
      [
        ...["run", "--rm", "--network", "none", "--user", "0:0", ...Object.keys(env).flatMap((name) => ["-e", name])],
        ...["-v", `${volumeName(this.config.stack, node)}:${NODE_ROOT}`, "--entrypoint", PGNODE_PATH, this.image, action],
      ],
      { env },
    );
    if (ran.exitCode !== 0) {
      throw new Error(`pgnode ${action} on ${node}: ${ran.stderr}`);
    }
  }

  /** Runs a shell script in the data folder of a node that is down, as postgres. */
  public inData(node: string, script: string): Promise<string> {
    const volume = `${volumeName(this.config.stack, node)}:${NODE_ROOT}`;
    const run = ["run", "--rm", "--network", "none", "-u", "postgres", "-w", `${NODE_ROOT}/data`, "-v", volume];
    return this.docker(...run, "--entrypoint", "sh", this.image, "-ec", script);
  }

  private async makeImage(base: string, files: Readonly<Record<string, string>>): Promise<void> {
    const folder = mkdtempSync(join(tmpdir(), "hand-made-"));
    const container = this.image.replace(":", "-");
    try {
      // Whatever is replaced stays beside it.
      const keep = Object.keys(files).map((path) => `[ ! -e "${path}" ] || mv "${path}" "${path}.real"`);
      await this.docker("run", "--name", container, "--entrypoint", "sh", base, "-ec", keep.join("\n"));
      for (const [path, text] of Object.entries(files)) {
        writeFileSync(join(folder, "program"), text, { mode: 0o755 });
        await this.docker("cp", join(folder, "program"), `${container}:${path}`);
      }
      await this.docker("commit", container, this.image);
    } finally {
      await docker(["rm", "-f", "-v", container]);
      rmSync(folder, { recursive: true, force: true });
    }
  }

  public async sql(node: string, sql: string, database = "postgres"): Promise<string> {
    const result = await sqlIn(this.container(node), sql, { database, timeout: 60_000 });
    if (result.exitCode !== 0) {
      throw new Error(`${node}: ${result.stderr}`);
    }
    return result.stdout.trim();
  }

  public async docker(...args: string[]): Promise<string> {
    const result = await docker(args);
    if (result.exitCode !== 0) {
      throw new Error(`docker ${args.join(" ")}: ${result.stderr}`);
    }
    return result.stdout.trim();
  }

  /** Sends a signal to the processes of the node with this in their title: `postgres: walreceiver`. */
  public async signal(node: string, name: "STOP" | "CONT" | "TERM", title: string): Promise<void> {
    const processes = await this.docker("exec", this.container(node), "ps", "-eo", "pid=,args=");
    const pids = processes.split("\n").filter((line) => line.includes(title));
    if (pids.length === 0) {
      throw new Error(`node ${node} has no process ${title}:\n${processes}`);
    }
    await this.docker("exec", this.container(node), "sh", "-c", `kill -${name} ${pids.map((line) => parseInt(line, 10)).join(" ")}`);
  }

  /** What the node has logged. */
  public async log(node: string): Promise<string> {
    const { stdout, stderr } = await docker(["logs", this.container(node)]);
    return stdout + stderr;
  }

  /** The state of the node's WAL receiver; empty when it has none, or the node does not answer. */
  public receiver(node: string): Promise<string> {
    return this.sql(node, "SELECT status FROM pg_stat_wal_receiver").catch(() => "");
  }

  /**
   * Runs one of the project's commands on the nodes, in a checkout of its own.
   *
   * @param onDocker See {@link Checkout.dockerBefore}.
   */
  public async run(name: string, args: readonly string[] = [], onDocker?: string): Promise<Ran> {
    const { stack } = this.config;
    this.checkout ??= await Checkout.make();
    this.checkout.writeStack(stack, this.file);
    const env = onDocker === undefined ? {} : (await this.checkout.dockerBefore(onDocker)).env;
    return this.checkout.run(name, [...args, "--stack", stack], env);
  }

  /** Does something with commands that run from a checkout of their own, as on another machine. */
  public async elsewhere<T>(action: () => Promise<T>): Promise<T> {
    const own = this.checkout;
    this.checkout = undefined;
    try {
      return await action();
    } finally {
      await (this.checkout as Checkout | undefined)?.remove();
      this.checkout = own;
    }
  }

  /** What `status --json` says. */
  public async status(): Promise<Status> {
    return JSON.parse((await this.run("status", ["--json"])).stdout) as Status;
  }

  /** Runs one of the project's commands, which must succeed. */
  public async must(name: string, ...args: string[]): Promise<Ran> {
    const ran = await this.run(name, args);
    if (ran.exitCode !== 0) {
      throw new Error(`${name} ${args.join(" ")} ended with ${ran.exitCode}: ${ran.stderr}`);
    }
    return ran;
  }

  /** What is in the volume of a node beside its cluster. */
  public async marks(node: string): Promise<string[]> {
    const volume = `${volumeName(this.config.stack, node)}:/v`;
    const names = await this.docker("run", "--rm", "--network", "none", "-v", volume, "--entrypoint", "ls", this.image, "/v");
    return names.split("\n").filter((name) => ["fenced", "reclone", "rejoin-once"].includes(name));
  }

  /** Waits for a condition. */
  public async until(what: string, condition: () => Promise<boolean>, seconds = 90): Promise<void> {
    await until(what, seconds, condition);
  }

  /** Removes all of it. */
  public async remove(): Promise<void> {
    const list = async (...args: string[]): Promise<string[]> =>
      (await docker([...args, ...labelFilter(this.config.stack)])).stdout.split("\n").filter(Boolean);
    const [containers, volumes] = [await list("ps", "-aq"), await list("volume", "ls", "-q")];
    // A command that was killed leaves its lock.
    const locks = await docker(["ps", "-aq", "--filter", `label=${LOCK_LABELS.stack}=${this.config.stack}`]);
    await docker(["rm", "-f", "-v", ...containers, ...locks.stdout.split("\n").filter(Boolean)]);
    await docker(["volume", "rm", "-f", ...volumes]);
    await docker(["network", "rm", networkName(this.config.stack)]);
    await docker(["rmi", this.image]);
    await this.checkout?.remove();
  }
}

/** The path of a program of PostgreSQL in the image, for {@link HandMade.begin}. */
export const program = (name: string): string => `${PROGRAMS}/${name}`;
