import { acquireLock, lockHolder } from "../../operations/change/lock";
import { currentDockerHost } from "../../operations/engine/dockerHost";
import * as docker from "../../operations/engine/docker";
import * as processes from "../../operations/engine/process";
import { labelsOf, LOCK_LABELS } from "../../core/model/names";

jest.mock("../../operations/engine/docker", () => ({ ...jest.requireActual<object>("../../operations/engine/docker"), docker: jest.fn() }));
jest.mock("../../operations/engine/process", () => {
  const real = jest.requireActual<typeof processes>("../../operations/engine/process");
  return { ...real, thisMachine: jest.fn(real.thisMachine) };
});
const run = jest.mocked(docker.docker);

interface Container {
  id: string;
  name: string;
  created: string;
  labels: Record<string, string>;
}
type Answer = Awaited<ReturnType<typeof docker.docker>>;

const PLACE = { stack: "dev", engines: ["unix:///fake.sock"] };
const NAME = "postgres-replica-dev.lock";
const NOW = "2026-11-24T12:00:00.5Z";

/** An engine that knows what a lock needs. */
class Engine {
  public containers: Container[] = [];
  public image: string | undefined = "sha256:one";
  /** What happens right before a verb is carried out; an answer of its own takes its place. */
  public before: Record<string, () => Answer | undefined> = {};
  public calls: string[][] = [];
  private count = 0;

  public answer(args: readonly string[]): Answer {
    this.calls.push([...args]);
    const own = this.before[args[0] ?? ""]?.();
    return own ?? this.carryOut(args);
  }

  public add(labels: Record<string, string>, created = NOW): Container {
    const container = { id: `id${++this.count}`, name: NAME, created, labels };
    this.containers.push(container);
    return container;
  }

  private carryOut(args: readonly string[]): Answer {
    const last = args.at(-1) ?? "";
    const found = this.containers.find((c) => c.id === last || c.name === last);
    switch (args[0]) {
      case "create": {
        if (this.image === undefined) {
          return failed("Error response from daemon: No such image: postgres-replica-lock:1");
        }
        if (this.containers.some((c) => c.name === args[args.indexOf("--name") + 1])) {
          return failed(`Error response from daemon: Conflict. The container name "/${NAME}" is already in use by container "id"`);
        }
        const labels = args.flatMap((arg, i) => (args[i - 1] === "--label" ? [arg.split(/=(.*)/s).slice(0, 2) as [string, string]] : []));
        return done(this.add(Object.fromEntries(labels)).id);
      }
      case "inspect":
        return found === undefined
          ? failed(`Error response from daemon: No such container: ${last}`)
          : done(`${found.id} ${found.created} ${JSON.stringify(found.labels)}`);
      case "rm":
        this.containers = this.containers.filter((c) => c !== found);
        return found === undefined ? failed(`Error response from daemon: No such container: ${last}`) : done(last);
      case "info":
        return done(NOW);
      case "import":
        return done((this.image = "sha256:two"));
      default:
        return failed(`unknown command ${args[0]}`);
    }
  }
}
const done = (stdout: string): Answer => ({ exitCode: 0, stdout: `${stdout}\n`, stderr: "" });
const failed = (stderr: string): Answer => ({ exitCode: 1, stdout: "", stderr });

/** The labels of a holder that lives: what has started this process. */
function holder(more: Partial<Record<keyof typeof LOCK_LABELS, string>> = {}): Record<string, string> {
  const facts = {
    ...processes.thisMachine(),
    ...{
      stack: "dev",
      command: "switchover",
      pid: String(process.ppid),
      start: processes.startOf(process.ppid),
      token: "theirs",
      ttl: "3600",
    },
    ...more,
  };
  return Object.fromEntries(Object.entries(facts).map(([fact, value]) => [LOCK_LABELS[fact as keyof typeof LOCK_LABELS], value]));
}
const DEAD = { pid: "999999999", start: "1" };

let engine: Engine;
let said: string[];
const say = (line: string): void => void said.push(line);
const acquire = (seconds = 0): ReturnType<typeof acquireLock> => acquireLock(PLACE, "failover", { seconds, say });
const verbs = (): string[] => engine.calls.map(([verb]) => verb ?? "");
beforeEach(() => {
  engine = new Engine();
  said = [];
  run.mockImplementation((args) => Promise.resolve(engine.answer(args)));
});

describe("a lock that nobody holds", () => {
  test("costs one call to take and one to give back", async () => {
    const lock = await acquire();
    expect(verbs()).toEqual(["create"]);
    const [made] = engine.containers;
    await lock.release();
    expect(engine.calls.slice(1)).toEqual([["rm", made?.id]]);
    expect(engine.containers).toEqual([]);
  });

  test("says on its container who holds it, and is none of the objects by which a stack is found", async () => {
    await acquire();
    const [args = []] = engine.calls;
    expect(args.join(" ")).toContain(`--pull never --network none --name ${NAME}`);
    const labels = engine.containers[0]?.labels ?? {};
    expect(labels).toMatchObject({
      "postgres-replica.lock": "dev",
      "postgres-replica.lock.command": "failover",
      "postgres-replica.lock.pid": String(process.pid),
      "postgres-replica.lock.start": processes.startOf(process.pid),
      "postgres-replica.lock.ttl": "3600",
    });
    expect(processes.startOf(process.pid)).not.toBe("");
    expect(Object.keys(labels).filter((label) => label in labelsOf("dev", "pg1"))).toEqual([]);
  });

  test("is made with an image of nothing, which is made where it is missing", async () => {
    engine.image = undefined;
    await acquire();
    expect(verbs()).toEqual(["create", "import", "create"]);
    expect(engine.containers).toHaveLength(1);
  });

  test("is taken when the engine made it and could not say so", async () => {
    engine.before["create"] = () => {
      const { labels } = engine.containers[0] ?? { labels: undefined };
      if (labels !== undefined) {
        return undefined;
      }
      delete engine.before["create"];
      engine.answer(engine.calls.at(-1) ?? []);
      return failed("docker create did not answer within 20 s");
    };
    const lock = await acquire();
    await lock.release();
    expect(engine.containers).toEqual([]);
  });
});

describe("a lock whose holder lives", () => {
  test("is refused in one line: who, since when, and the way out", async () => {
    engine.add(holder());
    await expect(acquireLock({ stack: "dev", engines: [currentDockerHost()] }, "failover", { say })).rejects.toThrow(
      new Error(
        `switchover (process ${process.ppid} on ${processes.thisMachine().host}) is at work on stack "dev" since 2026-11-24T12:00:00Z. ` +
          `Wait for it to end; if it is gone for certain, run: docker rm ${NAME}`,
      ),
    );
    expect(said).toEqual([]);
    expect(engine.containers).toHaveLength(1);
    await expect(acquire()).rejects.toThrow(`run: docker -H unix:///fake.sock rm ${NAME}`);
  });

  test("is waited for as long as was asked, and whom for is said once", async () => {
    engine.add(holder());
    const start = Date.now();
    await expect(acquire(1)).rejects.toThrow("is at work");
    expect(Date.now() - start).toBeGreaterThanOrEqual(1000);
    expect(said).toEqual([`waiting for switchover (process ${process.ppid} on ${processes.thisMachine().host}), 1 s at most`]);
  });

  test("is taken as soon as it is given back", async () => {
    engine.add(holder());
    setTimeout(() => (engine.containers = []), 300);
    const start = Date.now();
    await acquire(60);
    expect(Date.now() - start).toBeLessThan(5_000);
    expect(engine.containers[0]?.labels["postgres-replica.lock.command"]).toBe("failover");
  });

  test("is there for the same process: a command that another one calls gives nothing back", async () => {
    const outer = await acquireLock(PLACE, "down", { say });
    const inner = await acquire();
    await inner.release();
    expect(engine.containers).toHaveLength(1);
    await outer.release();
    expect(engine.containers).toEqual([]);
  });

  test.each<[string, Parameters<typeof holder>[0]]>([
    ["of another name", { host: "elsewhere" }],
    ["of the same name", { machine: "another", boot: "another" }],
    ["that may be this one after a boot, or not", { boot: "" }],
    ["that is a container of this one with process numbers of its own", { pids: "pid:[1]" }],
  ])("on a machine %s is believed for its time to live, by the engine's clock", async (_which, where) => {
    const found = engine.add(holder({ ...DEAD, ...where, ttl: "60" }), "2026-11-24T11:59:30Z");
    await expect(acquire()).rejects.toThrow("is at work");
    found.created = "2026-11-24T11:58:30Z";
    await acquire();
    expect(said).toEqual([expect.stringMatching(/^switchover \(process 999999999 on .*\) is gone; taking over its lock$/)]);
    expect(engine.containers.map((c) => c.labels["postgres-replica.lock.command"])).toEqual(["failover"]);
  });
});

test("a lock of a machine of the same name, where none has an ID, is not taken over because the machine was booted since", async () => {
  const { thisMachine } = jest.requireActual<typeof processes>("../../operations/engine/process");
  const machine = jest.mocked(processes.thisMachine).mockReturnValue({ ...thisMachine(), machine: "" });
  engine.add(holder({ ...DEAD, machine: "", boot: "another", ttl: "60" }), "2026-11-24T11:59:30Z");
  await expect(acquire()).rejects.toThrow("is at work");
  machine.mockImplementation(thisMachine);
});

describe("a lock whose holder is dead", () => {
  test.each<[string, Parameters<typeof holder>[0]]>([
    ["because its process is gone", DEAD],
    ["because another process has its number", { start: "1" }],
    ["because the machine was booted since", { boot: "another" }],
  ])("%s is taken over at once", async (_why, facts) => {
    engine.add(holder(facts));
    const lock = await acquire();
    expect(verbs()).toEqual(["create", "inspect", "rm", "create"]);
    await lock.release();
    expect(engine.containers).toEqual([]);
  });

  test("is waited for without a word where somebody removes it then, as after a run that has ended well", async () => {
    engine.add(holder({ ...DEAD, watched: "yes" }));
    setTimeout(() => (engine.containers = []), 300);
    await acquire();
    expect(said).toEqual([]);
    expect(engine.containers.map((c) => c.labels["postgres-replica.lock.command"])).toEqual(["failover"]);
  });

  test("is taken over a few seconds later when whoever should have removed it has not", async () => {
    engine.add(holder({ ...DEAD, watched: "yes" }));
    const clock = jest.spyOn(performance, "now");
    let now = 0;
    clock.mockImplementation(() => (now += 1_000));
    try {
      await acquire();
    } finally {
      clock.mockRestore();
    }
    expect(said).toEqual([expect.stringMatching(/^switchover \(process 999999999 on .*\) is gone; taking over its lock$/)]);
  });

  test("is not waited for when the machine was booted since: nobody removes it any more", async () => {
    engine.add(holder({ boot: "another", watched: "yes" }));
    await acquire();
    expect(verbs()).toEqual(["create", "inspect", "rm", "create"]);
  });

  test("is taken over by one of two: the slower one does not remove the lock of the faster one", async () => {
    const old = engine.add(holder(DEAD));
    engine.before["rm"] = () => {
      // Between the look and the removal the other one has done both.
      engine.containers = engine.containers.filter((c) => c !== old);
      engine.add(holder({ command: "rejoin" }));
      return undefined;
    };
    await expect(acquire()).rejects.toThrow(/^rejoin .* is at work/);
    expect(engine.containers.map((c) => c.labels["postgres-replica.lock.command"])).toEqual(["rejoin"]);
  });
});

describe("the lock of a stack on several engines", () => {
  const [A, B, C] = ["unix:///a.sock", "tcp://b:1", "tcp://c:1"] as const;
  const SILENT = failed("Cannot connect to the Docker daemon at x. Is the docker daemon running?");
  let engines: Record<string, Engine>;
  let order: string[];
  const everywhere = (seconds = 0): ReturnType<typeof acquireLock> =>
    acquireLock({ stack: "dev", engines: [A, B, C] }, "failover", { seconds, say });
  const held = (): number[] => [A, B, C].map((host) => engines[host]?.containers.length ?? 0);
  const silence = (...hosts: string[]): void =>
    hosts.forEach((host) => ["create", "inspect", "rm"].forEach((verb) => ((engines[host] as Engine).before[verb] = () => SILENT)));
  beforeEach(() => {
    engines = Object.fromEntries([A, B, C].map((host) => [host, new Engine()]));
    order = [];
    run.mockImplementation((args, { host }) => {
      order.push(`${args[0]} ${host}`);
      return Promise.resolve((engines[host] as Engine).answer(args));
    });
  });

  test("is taken on each, one after the other, so that of two who want it one gets all, and is given back on each", async () => {
    const lock = await everywhere();
    expect(order).toEqual([A, B, C].map((host) => `create ${host}`));
    expect([held(), lock.waited]).toEqual([[1, 1, 1], false]);
    await lock.release();
    expect(held()).toEqual([0, 0, 0]);
  });

  test("is taken where an engine answers, and the others are named", async () => {
    silence(B);
    const lock = await everywhere();
    expect(held()).toEqual([1, 0, 1]);
    expect(said).toEqual(["the Docker engine at tcp://b:1 does not answer, so the stack's lock is not taken there"]);
    await lock.release();
    expect(held()).toEqual([0, 0, 0]);
  });

  test("is none when no engine answers: exit code 2", async () => {
    silence(A, B, C);
    await expect(everywhere()).rejects.toMatchObject({
      message:
        "the Docker engine does not answer: Cannot connect to the Docker daemon at x. Is the docker daemon running. Start it with: npm run setup",
      exitCode: 2,
    });
    expect(said).toEqual([]);
  });

  test("is given back on the first when somebody else has it on the second", async () => {
    engines[B]?.add(holder());
    await expect(everywhere()).rejects.toThrow(/^switchover .* is at work on stack "dev" .* run: docker -H tcp:\/\/b:1 rm /);
    expect([held(), order.filter((call) => call.endsWith(C))]).toEqual([[0, 1, 0], []]);
  });

  test("is given back as well when an engine refuses to make it", async () => {
    (engines[C] as Engine).before["create"] = () => failed("Error response from daemon: no space left on device");
    await expect(everywhere()).rejects.toThrow("no space left on device");
    expect(held()).toEqual([0, 0, 0]);
  });

  test("was waited for when it was on any of them", async () => {
    engines[B]?.add(holder());
    setTimeout(() => ((engines[B] as Engine).containers = []), 300);
    expect((await everywhere(60)).waited).toBe(true);
    expect(held()).toEqual([1, 1, 1]);
  });

  test("is not skipped where somebody was seen at work and the engine falls silent then", async () => {
    const theirs = engines[B] as Engine;
    theirs.add(holder());
    const answer = theirs.answer.bind(theirs);
    let asked = 0;
    jest.spyOn(theirs, "answer").mockImplementation((args) => (args[0] === "inspect" && ++asked > 1 ? SILENT : answer(args)));
    await expect(everywhere(60)).rejects.toThrow(/^switchover \(process .* is at work on stack "dev"/);
    expect(engines[A]?.containers).toEqual([]);
  });

  test("is somebody's when it is so on any engine; a silent one holds nothing", async () => {
    const whoever = (): Promise<string | undefined> => lockHolder({ stack: "dev", engines: [A, B, C] });
    silence(A);
    expect(await whoever()).toBeUndefined();
    engines[C]?.add(holder());
    expect(await whoever()).toMatch(/^switchover \(process /);
  });
});

describe("when Docker fails", () => {
  test("an engine that does not answer is said with exit code 2", async () => {
    engine.before["create"] = engine.before["inspect"] = () => failed("Cannot connect to the Docker daemon at x. Is it running?");
    await expect(acquire()).rejects.toMatchObject({
      message: "the Docker engine does not answer: Cannot connect to the Docker daemon at x. Is it running. Start it with: npm run setup",
      exitCode: 2,
    });
  });

  test("an engine that refuses is quoted", async () => {
    engine.before["create"] = () => failed("Error response from daemon: no space left on device\nmore");
    await expect(acquire()).rejects.toThrow('the lock of stack "dev" cannot be made: Error response from daemon: no space left on device');
  });

  test("a container of somebody else with the lock's name is left alone", async () => {
    engine.add({});
    await expect(acquire()).rejects.toThrow(`the container ${NAME} has the name of the stack's lock, and is not one. Remove it: docker`);
    expect(engine.containers).toHaveLength(1);
  });

  test("a name that stays taken by nobody is given up", async () => {
    const clock = jest.spyOn(performance, "now");
    let now = 0;
    clock.mockImplementation(() => (now += 4_000));
    try {
      engine.before["create"] = () => failed("Conflict. The container name is already in use by container x");
      await expect(acquire()).rejects.toThrow(`the name ${NAME} is taken in Docker, and nobody has it`);
    } finally {
      clock.mockRestore();
    }
  });

  test("a lock that cannot be given back spoils nothing", async () => {
    const lock = await acquire();
    engine.before["rm"] = () => failed("Cannot connect to the Docker daemon");
    await expect(lock.release()).resolves.toBeUndefined();
  });
});

describe("who holds a lock", () => {
  const whoever = (): Promise<string | undefined> => lockHolder(PLACE);

  test("is said in words while that one lives", async () => {
    engine.add(holder());
    expect(await whoever()).toBe(`switchover (process ${process.ppid} on ${processes.thisMachine().host})`);
  });

  test("is nobody: when there is none, or a dead one, or this process, or the engine is silent", async () => {
    expect(await whoever()).toBeUndefined();
    engine.add(holder(DEAD));
    expect(await whoever()).toBeUndefined();
    await acquire();
    expect(await whoever()).toBeUndefined();
    engine.before["inspect"] = () => failed("Cannot connect to the Docker daemon");
    expect(await whoever()).toBeUndefined();
  });
});
