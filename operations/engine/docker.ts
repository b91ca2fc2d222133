import execa from "execa";
import { currentDockerHost } from "./dockerHost";
import { firstLine, UserError } from "../errors";

/**
 * Runs the docker command line against one Docker host. Never throws: look at `exitCode`.
 *
 * @param options.timeout Milliseconds. @default 60 000
 * @param options.silence Instead of a timeout: for how many milliseconds it may print nothing. However long the work is, it ends only when it stands still.
 * @param options.progress Show what it writes to standard error while it runs.
 */
export async function docker(
  args: readonly string[],
  options: { host?: string; input?: string; timeout?: number; silence?: number; env?: Record<string, string>; progress?: boolean } = {},
): Promise<{ exitCode: number; stdout: string; stderr: string }> {
  const child = execa("docker", [...args], {
    env: { DOCKER_HOST: options.host ?? currentDockerHost(), ...options.env },
    reject: false,
    ...(options.input === undefined ? { stdin: "ignore" as const } : { input: options.input }),
  });
  if (options.progress === true) {
    child.stderr?.pipe(process.stderr);
  }
  const bound = options.silence ?? options.timeout ?? 60_000;
  const wasEnded = endAfter(child, bound, options.silence !== undefined);
  const result = await child;
  const ended = wasEnded();
  const late = options.silence === undefined ? "did not answer within" : "printed nothing for";
  const stderr = ended ? `docker ${args[0] ?? ""} ${late} ${bound / 1000} s` : result.stderr;
  // A program that is not there has no exit code; docker exec that is ended has 0, as if it had an answer.
  return {
    exitCode: ended ? 127 : (result.exitCode ?? 127),
    stdout: result.stdout ?? "",
    stderr: stderr || (result as { originalMessage?: string }).originalMessage || "",
  };
}

/** How long a program that is ended may take for that, in milliseconds; `docker run` passes the signal on and waits for the container. */
const GRACE = 5_000;

/**
 * Ends a program after some time; with `restart`, whatever it prints makes that begin anew.
 * (Of execa's own timeout the result does not always tell that it was the reason.)
 * @returns what to call when the program has ended: whether it was this that ended it.
 */
function endAfter(child: execa.ExecaChildProcess, milliseconds: number, restart: boolean): () => boolean {
  let ended = false;
  let force: NodeJS.Timeout | undefined;
  const timer = setTimeout(() => {
    ended = true;
    child.kill("SIGTERM", { forceKillAfterTimeout: false });
    force = setTimeout(() => {
      child.kill("SIGKILL");
      // What it has started may hold them open.
      child.stdout?.destroy();
      child.stderr?.destroy();
    }, GRACE);
  }, milliseconds);
  if (restart) {
    child.stdout?.on("data", () => void (ended || timer.refresh()));
    child.stderr?.on("data", () => void (ended || timer.refresh()));
  }
  return () => {
    clearTimeout(timer);
    clearTimeout(force);
    return ended;
  };
}

/**
 * Docker's words for the states of containers, by name. One that is not there has none.
 * @throws UserError, exit code 2, when the engine does not answer.
 */
export async function containerStates(containers: readonly string[], on: { host?: string }): Promise<Map<string, string>> {
  const asked = await docker(["inspect", "--type", "container", "--format", "{{.Name}} {{.State.Status}}", ...containers], {
    ...on,
    timeout: 10_000,
  });
  if (asked.exitCode !== 0 && !isGone(asked.stderr)) {
    throw noAnswer(asked.stderr);
  }
  const lines = asked.stdout.split("\n").filter(Boolean);
  return new Map(lines.map((line) => line.replace(/^\//, "").split(" ") as [string, string]));
}

/** What to say when the engine does not answer; exit code 2. */
export function noAnswer(stderr: string): UserError {
  return new UserError(`the Docker engine does not answer: ${firstLine(stderr).replace(/[.?]+$/, "")}. Start it with: npm run setup`, 2);
}

/** Whether Docker says that there is no such container. */
export const isGone = (stderr: string): boolean => /No such container/i.test(stderr);

/** Runs SQL in a node's container, as postgres over the server's socket. Unaligned, tuples only. */
export async function sqlIn(
  container: string,
  sql: string,
  options: { host?: string; database?: string; timeout?: number } = {},
): Promise<{ exitCode: number; stdout: string; stderr: string }> {
  const timeout = options.timeout ?? 10_000;
  // A server that is frozen lets nobody in, and Docker does not end what it has started in a container: psql has to
  // give up by itself, or every look would leave one behind.
  const bound = `PGCONNECT_TIMEOUT=${Math.ceil(timeout / 1000)}`;
  return docker(
    [
      ...["exec", "-i", "-u", "postgres", "-e", bound, container],
      ...["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", options.database ?? "postgres", "-f", "-"],
    ],
    {
      input: sql,
      timeout,
      ...(options.host === undefined ? {} : { host: options.host }),
    },
  );
}

/**
 * The last lines that a container has logged, oldest first.
 *
 * @param earlier Also those from before it was last started. @default false
 */
export async function logLines(container: string, count: number, on: { host?: string }, earlier = false): Promise<string[]> {
  const options = { ...on, timeout: 10_000 };
  const started = earlier
    ? undefined
    : await docker(["inspect", "--type", "container", "--format", "{{.State.StartedAt}}", container], options);
  const since = started === undefined ? [] : ["--since", started.stdout.trim()];
  const log = await docker(["logs", ...since, "--tail", String(count), container], options);
  return `${log.stdout}\n${log.stderr}`.split("\n").filter((line) => line.trim() !== "");
}
