import { type ChildProcess, spawn } from "child_process";
import { randomUUID } from "crypto";
import { LOCK_LABELS, lockName } from "../../core/model/names";
import { isGone, noAnswer, type Ran, type RunOptions, SilentEngine, toEngine } from "../engine/docker";
import { currentDockerHost } from "../engine/dockerHost";
import { Engine } from "../engine/engine";
import { CLOCK } from "../engine/poll";
import { firstLine, UserError } from "../errors";
import { isSame, type Machine, pulumiProcess, startOf, thisMachine } from "../engine/process";

/**
 * One change of a stack at a time, whoever makes it and wherever: the lock is a container on the stack's own Docker
 * engine that is made and never started. Two containers cannot have one name, so the engine says who was first.
 */

export { pulumiProcess };

/** Which stack, and the engines that have its lock: those of its nodes, always in the order of the nodes. */
export interface LockPlace {
  stack: string;
  /** DOCKER_HOST values, at least one. */
  engines: readonly string[];
}

export interface StackLock {
  /** Whether somebody else had it first: what was seen before may not be so any more. */
  waited: boolean;
  /** Never throws: a lock that stays behind is taken over when its holder is dead. */
  release(): Promise<void>;
  /** The same without being waited for, for a process that is about to exit: it is done a moment later. */
  releaseNow(): void;
}

export interface LockOptions {
  /** How long to wait for another holder. @default 0 */
  seconds?: number;
  /** Where to say what is waited for. @default standard error */
  say?: (line: string) => void;
  /** The process whose death frees the lock, when it is not this one. A watcher then removes the lock after it. */
  holderPid?: number;
  /** How long other machines, which cannot see whether the holder lives, believe that it does, in seconds. @default 3600 */
  ttl?: number;
}

/** An image of nothing, made where it is missing: a container has to have one. */
const IMAGE = "postgres-replica-lock:1";
/** The end of a tar archive, so an empty one. */
const EMPTY_TAR = "\0".repeat(1024);
const TTL = 3_600;
/** How often a holder that is waited for is looked at, in milliseconds. */
const PAUSE = 250;
/** How long a lock may be between two states (made and not there yet, gone and its name still taken), in milliseconds. */
const UNSETTLED = 10_000;

/** How long a lock that somebody removes as soon as its holder has ended may take for that, in milliseconds. */
const WATCHED = 5_000;

/** What a lock says of its holder. */
interface Holder extends Machine {
  id: string;
  command: string;
  pid: number;
  start: string;
  token: string;
  ttl: number;
  /** Whether somebody removes the lock when the holder has ended, well or not; see {@link Lock.watch}. */
  watched: boolean;
  /** When it was made, by the engine's clock. */
  created: string;
}

type Claim = Omit<Holder, "id" | "created">;

/** One stack's lock on one engine. */
class Lock {
  public readonly name: string;
  private readonly engine: Engine;

  public constructor(
    private readonly stack: string,
    engine: string,
  ) {
    this.name = lockName(stack);
    this.engine = new Engine(engine);
  }

  private docker(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
    return this.engine.run(args, { timeout: 20_000, ...options });
  }

  /** Makes the lock; returns its container's ID, or undefined when there is one. @throws UserError */
  public async make(claim: Claim): Promise<string | undefined> {
    const facts: Record<keyof typeof LOCK_LABELS, string> = {
      ...claim,
      stack: this.stack,
      pid: String(claim.pid),
      ttl: String(claim.ttl),
      watched: claim.watched ? "yes" : "",
    };
    const labels = Object.entries(LOCK_LABELS).flatMap(([fact, label]) => [
      "--label",
      `${label}=${facts[fact as keyof typeof LOCK_LABELS]}`,
    ]);
    const create = (): Promise<Ran> =>
      this.docker(["create", "--pull", "never", "--network", "none", "--name", this.name, ...labels, IMAGE, "none"]);
    let made = await create();
    if (made.exitCode !== 0 && /No such image/i.test(made.stderr)) {
      await this.makeImage();
      made = await create();
    }
    if (made.exitCode === 0) {
      return made.stdout.trim();
    }
    if (/is already in use/.test(made.stderr)) {
      return undefined;
    }
    // What has not reached the host has made nothing there.
    if (/^ssh: connect to host /m.test(made.stderr)) {
      throw this.failed("made", made.stderr);
    }
    // The engine may have made it and not been able to say so in time.
    const found = await this.read();
    if (found?.token === claim.token) {
      return found.id;
    }
    throw this.failed("made", made.stderr);
  }

  /** Two that do this at once leave an image of no bytes without a name, once in an engine's life. */
  private async makeImage(): Promise<void> {
    const made = await this.docker(["import", "-", IMAGE], { input: EMPTY_TAR });
    if (made.exitCode !== 0) {
      throw this.failed("made", made.stderr);
    }
  }

  /** Who holds the lock, dead or alive; undefined when nobody does. @throws UserError */
  public async read(): Promise<Holder | undefined> {
    const format = "{{.Id}} {{.Created}} {{json .Config.Labels}}";
    const asked = await this.docker(["inspect", "--type", "container", "--format", format, this.name]);
    if (asked.exitCode !== 0) {
      if (isGone(asked.stderr)) {
        return undefined;
      }
      throw this.failed("read", asked.stderr);
    }
    const [, id = "", created = "", json = "{}"] = /^(\S+) (\S+) (.*)$/.exec(asked.stdout.trim()) ?? [];
    const labels = (JSON.parse(json) ?? {}) as Record<string, string>;
    if (labels[LOCK_LABELS.stack] !== this.stack) {
      throw new UserError(`the container ${this.name} has the name of the stack's lock, and is not one. Remove it: ${this.removal}`);
    }
    const fact = (name: keyof typeof LOCK_LABELS): string => labels[LOCK_LABELS[name]] ?? "";
    return {
      id,
      created,
      command: fact("command"),
      pid: Number(fact("pid")),
      start: fact("start"),
      host: fact("host"),
      machine: fact("machine"),
      boot: fact("boot"),
      pids: fact("pids"),
      token: fact("token"),
      ttl: Number(fact("ttl")),
      watched: fact("watched") === "yes",
    };
  }

  /**
   * Whether the holder counts as dead. Where this machine cannot see it, it is believed for its time to live.
   * @throws UserError when the engine does not say what time it is.
   */
  public async isDead(holder: Holder): Promise<boolean> {
    const here = thisMachine();
    if (holder.host === here.host && holder.machine === here.machine) {
      // Without an ID two machines of one name look alike.
      if (here.machine !== "" && holder.boot !== here.boot && holder.boot !== "" && here.boot !== "") {
        return true; // nothing outlives a reboot
      }
      if (holder.boot === here.boot && holder.pids === here.pids) {
        return !isSame(holder.pid, holder.start);
      }
    }
    // Both times by the engine's clock: this machine's may differ.
    const asked = await this.docker(["info", "--format", "{{.SystemTime}}"]);
    const age = Date.parse(asked.stdout.trim()) - Date.parse(holder.created);
    if (asked.exitCode !== 0 || Number.isNaN(age)) {
      throw this.failed("read", asked.stderr);
    }
    return age > holder.ttl * 1000;
  }

  /** Removes one lock and never the next: by its ID, because the name may be somebody else's by now. @throws UserError */
  public async remove(id: string): Promise<void> {
    const removed = await this.docker(["rm", id]);
    if (removed.exitCode !== 0 && !isGone(removed.stderr) && !/already in progress/.test(removed.stderr)) {
      throw this.failed("removed", removed.stderr);
    }
  }

  /** The same by a process that outlives this one, which is about to exit and waits for nothing. Never throws. */
  public removeNow(id: string): void {
    this.leave("docker", ["rm", id]);
  }

  /** Starts a program that works on the lock's engine and goes on when this process has ended. */
  private leave(file: string, args: readonly string[]): ChildProcess {
    const env = { ...process.env, ...toEngine(this.engine.host) };
    const child = spawn(file, args, { cwd: "/", detached: true, stdio: "ignore", env });
    // Whoever wants the lock next finds that its holder is dead.
    child.on("error", () => undefined);
    child.unref();
    return child;
  }

  /** Removes the lock as soon as its holder is dead, also when this process has long ended. Returns how to end that. */
  public watch(id: string, { pid, start, ttl }: Claim): () => void {
    const watcher = this.leave("sh", ["-c", WATCHER, "sh", String(pid), start, String(ttl), id]);
    return () => {
      if (watcher.pid !== undefined && watcher.exitCode === null && watcher.signalCode === null) {
        try {
          process.kill(-watcher.pid);
        } catch {
          // It has just ended by itself.
        }
      }
    };
  }

  /** Why a holder that lives, as far as anybody can tell, is in the way. */
  public refusal(holder: Holder): UserError {
    return new UserError(
      `${words(holder)} is at work on stack "${this.stack}" since ${holder.created.replace(/\.\d+/, "")}. ` +
        `Wait for it to end; if it is gone for certain, run: ${this.removal}`,
    );
  }

  private get removal(): string {
    return `docker ${this.engine.host === currentDockerHost() ? "" : `-H ${this.engine.host} `}rm ${this.name}`;
  }

  private failed(done: string, stderr: string): UserError {
    return /^Error response from daemon/m.test(stderr)
      ? new UserError(`the lock of stack "${this.stack}" cannot be ${done}: ${firstLine(stderr)}`)
      : noAnswer(stderr, this.engine.host);
  }
}

/** Looks once a second. Where Linux tells when a process was started, another one that has got its number is not taken for it. */
const WATCHER = `
pid=$1 start=$2 left=$3 id=$4
lives() {
  [ -e /proc/self/stat ] || { kill -0 "$pid"; return; }
  read -r stat <"/proc/$pid/stat" || return 1
  set -- \${stat##*) }
  [ "$1" != Z ] && { [ "$start" = "" ] || [ "\${20}" = "$start" ]; }
}
while lives; do
  [ "$left" -gt 0 ] || exit 0
  left=$((left - 1))
  sleep 1
done
docker rm "$id" || { sleep 10; docker rm "$id"; }
`;

const words = (holder: Holder): string => `${holder.command || "something"} (process ${holder.pid} on ${holder.host})`;

/** Whether two claims are of the same process. */
const isBy = (holder: Holder, claim: Claim): boolean =>
  (["pid", "start", "host", "machine", "boot", "pids"] as const).every((fact) => holder[fact] === claim[fact]);

/**
 * Takes a stack's lock on every engine that answers, one after the other, so that of two who want it one gets all. A dead
 * holder's is taken over. A process that holds it already gets it again, and gives it back with the first one: a command may
 * call another.
 *
 * @param who The command, in words, for those who have to wait for it.
 * @throws UserError when another one holds it and does not give it back in time, or no engine answers.
 */
export async function acquireLock(place: LockPlace, who: string, options: LockOptions = {}): Promise<StackLock> {
  const { say = (line: string) => console.error(line) } = options;
  const held: StackLock[] = [];
  const silent: { engine: string; why: SilentEngine }[] = [];
  try {
    for (const engine of place.engines) {
      try {
        held.push(await acquireAt(new Lock(place.stack, engine), who, options));
      } catch (error) {
        if (!(error instanceof SilentEngine)) {
          throw error;
        }
        silent.push({ engine, why: error });
      }
    }
    if (held.length === 0 && silent[0] !== undefined) {
      throw silent[0].why;
    }
  } catch (error) {
    await Promise.all(held.map((lock) => lock.release()));
    throw error;
  }
  silent.forEach(({ engine }) => say(`the Docker engine at ${engine} does not answer, so the stack's lock is not taken there`));
  return {
    waited: held.some((lock) => lock.waited),
    release: async () => void (await Promise.all(held.map((lock) => lock.release()))),
    releaseNow: () => held.forEach((lock) => lock.releaseNow()),
  };
}

async function acquireAt(lock: Lock, who: string, options: LockOptions): Promise<StackLock> {
  const { seconds = 0, say = (line: string) => console.error(line), holderPid, ttl = TTL } = options;
  const pid = holderPid ?? process.pid;
  const watched = holderPid !== undefined;
  const claim: Claim = { ...thisMachine(), command: who, pid, start: startOf(pid), token: randomUUID(), ttl, watched };
  const deadline = performance.now() + seconds * 1000;
  let unsettled = 0;
  let dying = 0;
  let told = false;
  for (let waited = false; ; waited = true) {
    const id = await lock.make(claim);
    if (id !== undefined) {
      const stop = holderPid === undefined ? (): void => undefined : lock.watch(id, claim);
      return {
        waited,
        release: async () => {
          stop();
          await lock.remove(id).catch(() => undefined);
        },
        releaseNow: () => {
          stop();
          lock.removeNow(id);
        },
      };
    }
    let holder = await lock.read();
    while (holder !== undefined && !isBy(holder, claim) && !(await lock.isDead(holder))) {
      unsettled = 0;
      dying = 0;
      if (performance.now() >= deadline) {
        throw lock.refusal(holder);
      }
      if (!told) {
        say(`waiting for ${words(holder)}, ${seconds} s at most`);
        told = true;
      }
      await CLOCK.pause(PAUSE);
      const living = holder;
      holder = await lock.read().catch((error: unknown) => {
        // Somebody who was seen at work there is at work, whether the engine can be asked or not.
        throw error instanceof SilentEngine ? lock.refusal(living) : error;
      });
    }
    if (holder !== undefined && isBy(holder, claim)) {
      return { waited, release: () => Promise.resolve(), releaseNow: () => undefined };
    }
    // As a rule its holder has ended well, a moment ago.
    dying ||= performance.now();
    if (holder?.watched === true && holder.boot === claim.boot && performance.now() - dying < WATCHED) {
      await CLOCK.pause(50);
      continue;
    }
    unsettled ||= performance.now();
    if (performance.now() - unsettled > UNSETTLED) {
      throw new UserError(`the name ${lock.name} is taken in Docker, and nobody has it. Restart the engine, then try again`);
    }
    if (holder === undefined) {
      await CLOCK.pause(50); // given back just now, or taken and not there yet
    } else {
      say(`${words(holder)} is gone; taking over its lock`);
      await lock.remove(holder.id);
    }
  }
}

/**
 * Who holds a stack's lock now, in words; undefined when nobody does, or nobody who lives. For previews: it never
 * throws, this process and the Pulumi that has started it do not count, and a silent engine holds nothing.
 */
export async function lockHolder({ stack, engines }: LockPlace): Promise<string | undefined> {
  const holders = await Promise.all(engines.map((engine) => holderAt(new Lock(stack, engine))));
  return holders.find((holder) => holder !== undefined);
}

async function holderAt(lock: Lock): Promise<string | undefined> {
  try {
    const holder = await lock.read();
    if (holder === undefined || (await lock.isDead(holder))) {
      return undefined;
    }
    const own = [process.pid, pulumiProcess()].some(
      (pid) => pid !== undefined && isBy(holder, { ...holder, ...thisMachine(), pid, start: startOf(pid) }),
    );
    return own ? undefined : words(holder);
  } catch {
    return undefined;
  }
}
