import { existsSync } from "fs";
import { join } from "path";
import { Client } from "pg";
import { docker, sqlIn } from "../docker";
import { until } from "../../operations/engine/poll";
import { containerName, volumeName } from "../../core/model/names";
import type { Status } from "../../operations/look/documents";
import { Checkout, freePorts, OWN_IMAGE, type Ran, type StackFile, type StackOutputs } from "../integration/checkout";
import { killTree } from "./processes";

/** A stack that is up, and what fault tests do to it. */
export class Cluster {
  private constructor(
    public readonly checkout: Checkout,
    public readonly stack: string,
    public readonly outputs: StackOutputs,
  ) {}

  /** Builds a stack of `count` nodes, pg1 to pgN. */
  public static async build(count: number, config: StackFile = {}): Promise<Cluster> {
    const checkout = await Checkout.make();
    try {
      const ports = await freePorts(count);
      const stack = checkout.addStack("dev-fault", {
        nodes: ports.map((port, i) => ({ name: `pg${i + 1}`, port })),
        sampleDatabase: true,
        ...config,
      });
      await checkout.must("up", "--stack", stack);
      return new Cluster(checkout, stack, await checkout.outputs(stack));
    } catch (error) {
      await checkout.remove();
      throw error;
    }
  }

  public container(node: string): string {
    return containerName(this.stack, node);
  }

  /** Runs one of the project's commands on the stack. */
  public run(name: string, ...args: string[]): ReturnType<Checkout["run"]> {
    return this.checkout.run(name, [...args, "--stack", this.stack]);
  }

  /** Runs one of the project's commands, which must succeed. */
  public must(name: string, ...args: string[]): ReturnType<Checkout["must"]> {
    return this.checkout.must(name, ...args, "--stack", this.stack);
  }

  public async docker(...args: string[]): Promise<string> {
    const result = await docker(args);
    if (result.exitCode !== 0) {
      throw new Error(`docker ${args.join(" ")}: ${result.stderr}`);
    }
    return result.stdout;
  }

  public async sql(node: string, sql: string, database = "ecommerce"): Promise<string> {
    const result = await sqlIn(this.container(node), sql, { database, timeout: 30_000 });
    if (result.exitCode !== 0) {
      throw new Error(`${node}: ${result.stderr}`);
    }
    return result.stdout.trim();
  }

  public status(): Promise<Status> {
    return this.checkout.status(this.stack);
  }

  /** Waits until the status has no problem. */
  public async healthy(seconds = 60): Promise<Status> {
    const deadline = Date.now() + seconds * 1000;
    let status = await this.status();
    while (status.problems.length > 0 && Date.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 300));
      status = await this.status();
    }
    if (status.problems.length > 0) {
      throw new Error(`not healthy after ${seconds} s: ${JSON.stringify(status.problems)}`);
    }
    return status;
  }

  /** The roles by node. */
  public async roles(): Promise<Record<string, string>> {
    return Object.fromEntries((await this.status()).nodes.map((n) => [n.name, n.role]));
  }

  /** What no failover may change: refresh and up see nothing to do, and no node is started anew. */
  public async expectZeroDiff(): Promise<void> {
    const started = (): Promise<string> =>
      this.docker("inspect", "-f", "{{.Id}} {{.State.StartedAt}}", ...this.nodeNames().map((n) => this.container(n)));
    const before = await started();
    const refresh = await this.checkout.pulumi(this.stack, "refresh", "--yes", "--expect-no-changes");
    expect([refresh.exitCode, refresh.stderr]).toEqual([0, ""]);
    const up = await this.must("up");
    expect(up.stdout).toMatch(/\d+ unchanged/);
    expect(up.stdout).not.toMatch(/\d+ (created|updated|replaced|deleted)/);
    expect(await started()).toBe(before);
  }

  /** Inode and birth of a node's data, whether it runs or not: another one means another base backup. */
  public dataBirth(node: string): Promise<string> {
    const volume = `${volumeName(this.stack, node)}:/v`;
    return this.docker("run", "--rm", "-v", volume, "--entrypoint", "stat", OWN_IMAGE, "-c", "%i %w", "/v/data/PG_VERSION");
  }

  /** What the node's container has logged. */
  public async log(node: string): Promise<string> {
    const { stdout, stderr } = await docker(["logs", this.container(node)]);
    return stdout + stderr;
  }

  /** Waits for a condition. */
  public async until(what: string, condition: () => Promise<boolean>, seconds = 60): Promise<void> {
    await until(what, seconds, condition);
  }

  /**
   * Runs one of the project's commands until it has come to a call of docker, and kills it there with all that it has
   * started. The call does not return before, so that the command is never further than that.
   *
   * @param call Shell patterns that the arguments of the call match, and a line that is said to it. One that is said is only passed on
   *   where the call is still made, and its answer is not.
   * @param when Whether that call is still made.
   */
  public async killedAt(call: { args: string; input?: string }, when: "before" | "after", name: string, ...args: string[]): Promise<Ran> {
    const script = [
      `case "$*" in ${call.args}) ;; *) exec "$DOCKER" "$@" ;; esac`,
      'hold() { : >"$FOLDER/held"; sleep 120; exit 1; }',
      ...(call.input === undefined
        ? [...(when === "before" ? [] : ['"$DOCKER" "$@" >/dev/null || exit']), "hold"]
        : [
            // It may be talked to, line by line.
            "say() { while IFS= read -r line; do",
            `    case $line in ${call.input}) ${when === "before" ? "hold" : ': >"$FOLDER/said"'} ;; esac`,
            '    printf \'%s\\n\' "$line"; done; printf %s "$line"; }',
            "hear() { while IFS= read -r line; do",
            '    [ ! -e "$FOLDER/said" ] || hold',
            "    printf '%s\\n' \"$line\"; done; }",
            'say | { code=0; "$DOCKER" "$@" || code=$?; echo "$code" >"$FOLDER/code.$$"; } | hear',
            'exit "$(cat "$FOLDER/code.$$")"',
          ]),
    ];
    const { folder, env } = await this.checkout.dockerBefore(script.join("\n"));
    const held = join(folder, "held");
    const child = this.checkout.command(name, [...args, "--stack", this.stack], env);
    await this.until(`${name} to come to ${call.args}`, () => Promise.resolve(existsSync(held) || child.exitCode !== null));
    killTree(child.pid ?? 0);
    const ended = await child;
    if (!existsSync(held) || ended.signal !== "SIGKILL") {
      throw new Error(`${name} was not killed at ${call.args}; it ended with ${ended.exitCode}: ${ended.stderr}`);
    }
    return ended;
  }

  public nodeNames(): string[] {
    return Object.keys(this.outputs.nodes);
  }

  public remove(): Promise<void> {
    return this.checkout.remove();
  }
}

/** A client that writes one row after the other, to whichever node is primary, and keeps count of what was acknowledged. */
export class Writer {
  public readonly acknowledged: number[] = [];
  private stopped = false;
  private readonly done: Promise<void>;

  /**
   * @param urls One URL a node; node-postgres does not choose among several hosts itself.
   * @param next The first row's id. What the table has already is refused, and so is counted for nobody.
   */
  public constructor(
    private readonly urls: readonly string[],
    private readonly pauseMs = 50,
    private next = 1,
  ) {
    this.done = this.work();
  }

  /** Stops, and returns when the last write has been answered. */
  public async stop(): Promise<number[]> {
    this.stopped = true;
    await this.done;
    return this.acknowledged;
  }

  private async work(): Promise<void> {
    for (let i = 0; !this.stopped; i++) {
      const client = new Client({
        connectionString: this.urls[i % this.urls.length] ?? "",
        connectionTimeoutMillis: 1_000,
        query_timeout: 10_000,
      });
      client.on("error", () => undefined);
      try {
        await client.connect();
        while (!this.stopped) {
          const id = this.next;
          this.next += 1;
          await client.query("INSERT INTO written VALUES ($1)", [id]);
          this.acknowledged.push(id);
          await new Promise((resolve) => setTimeout(resolve, this.pauseMs));
        }
      } catch {
        // Not the primary, or not there: the next URL.
        await new Promise((resolve) => setTimeout(resolve, 20));
      } finally {
        await client.end().catch(() => undefined);
      }
    }
  }
}
