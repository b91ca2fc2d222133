import execa from "execa";
import { currentDockerHost } from "../core/dockerHost";
import { firstLine, UserError } from "./errors";

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
    timeout: options.silence === undefined ? (options.timeout ?? 60_000) : 0,
    ...(options.input === undefined ? { stdin: "ignore" as const } : { input: options.input }),
  });
  if (options.progress === true) {
    child.stderr?.pipe(process.stderr);
  }
  const silent = options.silence === undefined ? undefined : killWhenSilent(child, options.silence);
  const result = await child;
  const late = result.timedOut ? `did not answer within ${(options.timeout ?? 60_000) / 1000} s` : silent?.();
  const stderr = late === undefined ? result.stderr : `docker ${args[0] ?? ""} ${late}`;
  // A program that is not there has no exit code.
  return {
    exitCode: result.exitCode ?? 127,
    stdout: result.stdout ?? "",
    stderr: stderr || (result as { originalMessage?: string }).originalMessage || "",
  };
}

/** Kills a program that prints nothing for so long. Returns what to call when it has ended: it says so, if that was why. */
function killWhenSilent(child: execa.ExecaChildProcess, milliseconds: number): () => string | undefined {
  let killed = false;
  const timer = setTimeout(() => {
    killed = true;
    child.kill("SIGTERM", { forceKillAfterTimeout: 5_000 });
  }, milliseconds);
  child.stdout?.on("data", () => timer.refresh());
  child.stderr?.on("data", () => timer.refresh());
  return () => {
    clearTimeout(timer);
    return killed ? `printed nothing for ${milliseconds / 1000} s` : undefined;
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
    throw new UserError(
      `the Docker engine does not answer: ${firstLine(asked.stderr).replace(/[.?]+$/, "")}. Start it with: npm run setup`,
      2,
    );
  }
  const lines = asked.stdout.split("\n").filter(Boolean);
  return new Map(lines.map((line) => line.replace(/^\//, "").split(" ") as [string, string]));
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

/** The last lines that a container has logged since it was last started, oldest first. */
export async function logLines(container: string, count: number, on: { host?: string }): Promise<string[]> {
  const options = { ...on, timeout: 10_000 };
  const started = await docker(["inspect", "--type", "container", "--format", "{{.State.StartedAt}}", container], options);
  const log = await docker(["logs", "--since", started.stdout.trim(), "--tail", String(count), container], options);
  return `${log.stdout}\n${log.stderr}`.split("\n").filter((line) => line.trim() !== "");
}
