import { inTalk } from "./talks";
import { docker, hostScript, isGone, noAnswer, type Ran, type RunOptions } from "./docker";

/** How long a question may take that Docker answers out of its own memory, in milliseconds. */
const ASK = 10_000;

/** What Docker says of a container. */
export interface ContainerState {
  /** Docker's word for it. */
  state: string;
  image: string;
}

/** The docker command that runs a program in a container, as postgres. */
function execArgs(container: string, command: readonly string[], how: { input: boolean; variables?: readonly string[] }): string[] {
  const env = (how.variables ?? []).flatMap((variable) => ["-e", variable]);
  return ["exec", ...(how.input ? ["-i"] : []), "-u", "postgres", ...env, container, ...command];
}

/** One Docker engine, and all that is said to it. Nothing here throws because of what a program says: look at `exitCode`. */
export class Engine {
  /** @param host A DOCKER_HOST value; see {@link Place} in core/model/place.ts. */
  public constructor(public readonly host: string) {}

  /** Runs the docker command line. */
  public run(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
    return docker(args, { ...options, host: this.host });
  }

  /** The same for work that may take any time: it ends when nothing was printed for `silence` milliseconds. */
  public stream(args: readonly string[], options: Omit<RunOptions, "timeout"> & { silence: number }): Promise<Ran> {
    return this.run(args, options);
  }

  /** Whether it answers now. */
  public async answers(): Promise<boolean> {
    return (await this.run(["version", "--format", "{{.Server.Version}}"], { timeout: ASK })).exitCode === 0;
  }

  /** Runs one of the scripts of image/host; how long it may be silent is as in {@link stream}. */
  public script(name: string, text: string, options: Omit<RunOptions, "timeout"> & { silence: number }): Promise<Ran> {
    return hostScript(name, text, { ...options, host: this.host });
  }

  /** Runs a program in a container that runs, as postgres. */
  public exec(container: string, command: readonly string[], options: RunOptions = {}): Promise<Ran> {
    return this.run(execArgs(container, command, { input: options.input !== undefined }), { timeout: ASK, ...options });
  }

  /** What Docker says of containers, one line each. */
  public inspect(format: string, containers: readonly string[], options: RunOptions = {}): Promise<Ran> {
    return this.run(["inspect", "--type", "container", "--format", format, ...containers], { timeout: ASK, ...options });
  }

  /**
   * Runs SQL in a node's container, as postgres over the server's socket. Unaligned, tuples only.
   *
   * @param options.once Whether it is said in a session of its own. @default in the one that is kept, if any is
   */
  public async sql(
    container: string,
    sql: string,
    options: { database?: string; timeout?: number; look?: boolean; once?: boolean } = {},
  ): Promise<Ran> {
    const { database = "postgres", timeout = ASK, look = false, once = false } = options;
    // A server that is frozen lets nobody in, and Docker does not end what it has started in a container: psql has to
    // give up by itself, or every look would leave one behind.
    // As a superuser: nothing is looked up where others may have put something.
    const variables = [`PGCONNECT_TIMEOUT=${Math.ceil(timeout / 1000)}`, "PGOPTIONS=-c search_path=pg_catalog"];
    const psql = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", "-"];
    const args = execArgs(container, psql, { input: true, variables });
    const said = once ? undefined : await inTalk({ host: this.host, container, database }, args, sql, timeout);
    return said ?? this.run(args, { input: sql, timeout, look });
  }

  /**
   * The last lines that a container has logged, oldest first.
   *
   * @param earlier Also those from before it was last started. @default false
   */
  public async logs(container: string, count: number, earlier = false): Promise<string[]> {
    const since = earlier ? [] : ["--since", (await this.inspect("{{.State.StartedAt}}", [container])).stdout.trim()];
    const log = await this.run(["logs", ...since, "--tail", String(count), container], { timeout: ASK });
    return `${log.stdout}\n${log.stderr}`.split("\n").filter((line) => line.trim() !== "");
  }

  /**
   * Docker's words for the states of containers, and their images, by name. One that is not there has none.
   * @throws UserError, exit code 2, when the engine does not answer.
   */
  public async states(containers: readonly string[]): Promise<Map<string, ContainerState>> {
    const asked = await this.inspect("{{.Name}} {{.State.Status}} {{.Config.Image}}", containers, { look: true });
    if (asked.exitCode !== 0 && !isGone(asked.stderr)) {
      throw noAnswer(asked.stderr, this.host);
    }
    const lines = asked.stdout.split("\n").filter(Boolean);
    return new Map(
      lines.map((line) => {
        const [name = "", state = "", image = ""] = line.replace(/^\//, "").split(" ");
        return [name, { state, image }];
      }),
    );
  }
}
