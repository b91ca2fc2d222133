import execa from "execa";
import { existsSync, mkdirSync, renameSync, writeFileSync } from "fs";
import { homedir, userInfo } from "os";
import { delimiter, join } from "path";
import { isHere } from "../../core/model/place";
import { isBySsh, SSH_FOLDER, SSH_WRAPPER } from "../../core/model/ssh";
import { firstLine, UserError } from "../errors";

/** How docker is run. */
export interface RunOptions {
  input?: string;
  /** Milliseconds. @default 60 000 */
  timeout?: number;
  /** Instead of a timeout: for how many milliseconds it may print nothing. However long the work is, it ends only when it stands still. */
  silence?: number;
  env?: Record<string, string>;
  /** Show what it writes to standard error while it runs. */
  progress?: boolean;
  /** A mere look: when the host could not be reached a moment ago, that is the answer, without another try. @default false */
  look?: boolean;
}

/** How docker has ended. */
export interface Ran {
  exitCode: number;
  stdout: string;
  stderr: string;
}

/**
 * The environment in which docker, and whatever runs it, speaks to this engine and to no other. A DOCKER_CONTEXT of the user
 * has been heeded when the engine was chosen; some versions of docker, and the provider, would prefer it to the host.
 */
export const toEngine = (host: string): { DOCKER_HOST: string; DOCKER_CONTEXT: undefined; PATH?: string } => ({
  DOCKER_HOST: host,
  DOCKER_CONTEXT: undefined,
  ...(isBySsh(host) ? { PATH: `${sshFolder()}${delimiter}${process.env["PATH"] ?? ""}` } : {}),
});

/** The folder of the program that stands before the user's own ssh; it is put there when it is missing. */
function sshFolder(): string {
  const folder = join(process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), SSH_FOLDER);
  const file = join(folder, "ssh");
  if (!existsSync(file)) {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    // Whole or not at all: another run may start it meanwhile.
    writeFileSync(`${file}.${process.pid}`, SSH_WRAPPER, { mode: 0o700 });
    renameSync(`${file}.${process.pid}`, file);
    // Where the connections meet; ssh makes no folder for that.
    mkdirSync(join(userInfo().homedir, ".ssh"), { recursive: true, mode: 0o700 });
  }
  return folder;
}

/** What docker, or ssh for it, says of a host that cannot be reached; never what a program in a container says. */
const NO_HOST =
  /^(?:ssh: |Host key verification failed|\S+: Permission denied \(|kex_exchange_identification: |Connection (?:closed|reset|timed out)|(?:docker: )?(?:error during connect: |Cannot connect to the Docker daemon|failed to connect to the docker API))/m;

/** What ssh says where a connection has as many sessions as it may, before it opens another one. */
const NO_MORE_SESSIONS = /^(?:mux_client_request_session: .*|ControlSocket .* already exists, disabling multiplexing)\r?\n?/gm;

/** What docker says around the words of ssh. */
const AROUND_SSH = /^error during connect: .* has exited with exit status 255, .*?stderr=/m;

/** What went wrong, in the words of whoever met it. */
const said = (stderr: string): string => stderr.replace(NO_MORE_SESSIONS, "").replace(AROUND_SSH, "");

/** How long a host that could not be reached is not looked at again, in milliseconds: each try would take seconds. What changes something is always tried. */
const FORGET_AFTER = 10_000;

/** The hosts that could not be reached, and what was said of them. */
const unreached = new Map<string, { at: number; ran: Ran }>();

/** Runs the docker command line against one Docker host. Never throws: look at `exitCode`. */
export async function docker(args: readonly string[], options: RunOptions & { host: string }): Promise<Ran> {
  const { host } = options;
  const before = unreached.get(host);
  if (options.look === true && before !== undefined && performance.now() - before.at < FORGET_AFTER) {
    return before.ran;
  }
  const ran = await overOneConnection(host, () => run("docker", args, `docker ${args[0] ?? ""}`, options));
  // A socket of this machine says at once that nobody listens.
  if (ran.exitCode !== 0 && NO_HOST.test(ran.stderr) && !isHere(host)) {
    unreached.set(host, { at: performance.now(), ran });
  } else {
    unreached.delete(host);
  }
  return ran;
}

/** The first of all that is run on a host by ssh: it opens the connection that the others share. */
const openers = new Map<string, Promise<unknown>>();

/** Waits for a task, and no longer than this, in milliseconds. */
function within(task: Promise<unknown>, milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    const end = (): void => {
      clearTimeout(timer);
      resolve();
    };
    task.then(end, end);
  });
}

/** How long the others wait for it, in milliseconds: it may be one that takes long. */
const OPENING = 3_000;

/** sshd lets ten come in at a time, and one look asks for more: so the first one goes alone. */
async function overOneConnection(host: string, ran: () => Promise<Ran>): Promise<Ran> {
  const opener = openers.get(host);
  if (opener !== undefined) {
    await within(opener, OPENING);
  }
  if (opener !== undefined || !isBySsh(host)) {
    return ran();
  }
  const first = ran();
  openers.set(host, first);
  return first;
}

/**
 * Runs one of the scripts of image/host against one Docker host: what the program's commands run there.
 *
 * @param name What it is called where it does not answer.
 */
export function hostScript(name: string, text: string, options: RunOptions & { host: string }): Promise<Ran> {
  return run("/bin/sh", ["-c", text], name, options);
}

async function run(program: string, args: readonly string[], name: string, options: RunOptions & { host: string }): Promise<Ran> {
  const child = execa(program, [...args], {
    env: { ...options.env, ...toEngine(options.host) },
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
  const stderr = ended ? `${name} ${late} ${bound / 1000} s` : said(result.stderr ?? "");
  // A program that is not there has no exit code; docker exec that is ended has 0, as if it had an answer.
  return {
    exitCode: ended ? 127 : (result.exitCode ?? 127),
    stdout: result.stdout ?? "",
    stderr: stderr || (result as { originalMessage?: string }).originalMessage || "",
  };
}

/** How long a program that is ended may take for that, in milliseconds; `docker run` passes the signal on and waits for the container. */
export const GRACE = 5_000;

/** Ends a program, by force after a while. @returns the timer of that, to be cleared when the program has ended. */
export function endProgram(child: execa.ExecaChildProcess): NodeJS.Timeout {
  child.kill("SIGTERM", { forceKillAfterTimeout: false });
  return setTimeout(() => {
    child.kill("SIGKILL");
    // What it has started may hold them open.
    child.stdout?.destroy();
    child.stderr?.destroy();
  }, GRACE);
}

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
    force = endProgram(child);
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

/** A Docker engine does not answer; exit code 2. */
export class SilentEngine extends UserError {
  public constructor(
    message: string,
    /** What the docker command line said of it. */
    public readonly reason: string,
  ) {
    super(message, 2);
  }
}

/** @param host The engine, a DOCKER_HOST value. */
export function noAnswer(stderr: string, host: string): SilentEngine {
  const [at, remedy] = isHere(host)
    ? ["", "Start it with: npm run setup"]
    : [` at ${host}`, "Look whether the host runs, and whether this works: docker -H HOST version"];
  const reason = firstLine(stderr).replace(/[.?]+$/, "");
  return new SilentEngine(`the Docker engine${at} does not answer: ${reason}. ${remedy.replace("HOST", host)}`, reason);
}

/** Whether Docker says that there is no such container. */
export const isGone = (stderr: string): boolean => /No such container/i.test(stderr);
