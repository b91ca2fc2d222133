import { Engine } from "../../operations/engine/engine";
import { UserError } from "../../operations/errors";
import { diagnose, observe, runningNodes } from "../../operations/engine/observe";
import { type NodeConfig, parseConfig } from "../../core/config";
import { placed, placedNode } from "../../core/model/place";

jest.mock("execa");
import execa from "execa";
const run = jest.mocked(execa) as unknown as jest.Mock<Promise<object>, [string, string[]]>;

const nodes = [
  { name: "pg1", port: 5432 },
  { name: "pg2", port: 5433 },
];
const config = placed(parseConfig("dev", { nodes }), "unix:///x");
const PG1 = "postgres-replica-dev-pg1";
const PG2 = "postgres-replica-dev-pg2";

/** Lets `docker inspect` end so; no server answers. */
function inspectPrints(exitCode: number, stdout: string, stderr = ""): void {
  run.mockImplementation((_docker, [verb]) =>
    Promise.resolve(verb === "inspect" ? { exitCode, stdout, stderr } : { exitCode: 1, stdout: "", stderr: "no server" }),
  );
}

describe("what Docker says of the containers", () => {
  test("is asked once for all of them", async () => {
    inspectPrints(0, `/${PG1} running\n/${PG2} exited\n`);
    const observed = await observe(config);
    expect(observed.map((node) => [node.name, node.containerState, node.server])).toEqual([
      ["pg1", "running", null],
      ["pg2", "exited", null],
    ]);
    expect(run.mock.calls.filter(([, args]) => args[0] === "inspect")).toHaveLength(1);
  });

  test("is null for one that is not there, and the others count all the same", async () => {
    inspectPrints(1, `/${PG2} paused\n`, `Error: No such container: ${PG1}`);
    expect((await observe(config)).map((node) => node.containerState)).toEqual([null, "paused"]);
  });

  test.each([
    ["Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?\nmore"],
    ["permission denied while trying to connect"],
  ])("is nothing when the engine does not answer (%j): that is an error with exit code 2, not a stack that is down", async (stderr) => {
    inspectPrints(1, "", stderr);
    await expect(observe(config)).rejects.toThrow(
      new UserError(`the Docker engine does not answer: ${stderr.split(/\?|\n/)[0]}. Start it with: npm run setup`),
    );
    await expect(new Engine("unix:///x").states([PG1])).rejects.toMatchObject({ exitCode: 2 });
  });
});

describe("what a person may have changed", () => {
  const REPORT = '{"inRecovery":false}\noverlay 1000 600 400 60% /var/lib/pgnode\n';
  const FACTS = '{"facts": {"files":{},"altered":["work_mem"]} ,"sampleTables": null }\n';
  const asked = (): string[] =>
    (run.mock.calls as unknown as [string, string[], { input?: string }][]).map(([, , { input }]) => input ?? "");

  beforeEach(() => {
    run.mockReset();
    run.mockImplementation((_docker, [verb]) =>
      Promise.resolve({ exitCode: 0, stdout: verb === "inspect" ? "" : REPORT + FACTS, stderr: "" }),
    );
  });

  test("is not asked unless somebody wants to know", async () => {
    expect((await observe(config)).every((node) => !("drift" in node))).toBe(true);
    expect(asked().join("")).not.toContain("drift");
  });

  test("is asked in the same session, with a salt that no other look has", async () => {
    const observed = await observe(config, { drift: true });
    expect(observed.map((node) => [node.server?.inRecovery, node.disk?.totalBytes, node.drift?.altered])).toEqual([
      [false, 1024000, ["work_mem"]],
      [false, 1024000, ["work_mem"]],
    ]);
    expect(run.mock.calls).toHaveLength(3);
    await observe(config, { drift: true });
    const salts = asked().flatMap((sql) => /'drift.salt', '([0-9a-f]{32})'/.exec(sql)?.[1] ?? []);
    expect([salts.length, new Set(salts).size]).toEqual([4, 2]);
  });

  test("is left out when the server does not say", async () => {
    run.mockImplementation((_docker, [verb]) => Promise.resolve({ exitCode: 0, stdout: verb === "inspect" ? "" : REPORT, stderr: "" }));
    expect((await observe(config, { drift: true })).map((node) => [node.server?.inRecovery, node.drift])).toEqual([
      [false, undefined],
      [false, undefined],
    ]);
  });
});

describe("of a node that stops again and again its log is asked", () => {
  const refused = '2026-11-28 10:00:00.000 UTC [7] FATAL:  configuration file "/x" contains errors';
  /** The state of the second node; what it has logged since it was last started, and before. */
  function nodeIs(state: string, since: string, before: string): void {
    run.mockReset();
    run.mockImplementation((_docker, [verb, ...args]) => {
      const log = args.includes("--since") ? since : `${before}\n${since}`;
      const out =
        verb === "logs" ? log : args.includes("{{.State.StartedAt}}") ? "2026-11-28T10:00:00Z" : `/${PG1} paused\n/${PG2} ${state}\n`;
      return Promise.resolve({ exitCode: verb === "exec" ? 1 : 0, stdout: out, stderr: "" });
    });
  }
  const reasons = async (drift: boolean): Promise<string[]> => (await observe(config, { drift })).map(({ reason }) => reason);
  const why = 'configuration file "/x" contains errors';

  test("where it is asked what a person may have changed, and nowhere else", async () => {
    nodeIs("restarting", refused, "");
    expect(await reasons(true)).toEqual(["", why]);
    expect(await reasons(false)).toEqual(["", ""]);
  });

  test("also when it was just started anew and has said nothing yet", async () => {
    nodeIs("running", "", refused);
    expect(await reasons(true)).toEqual(["", why]);
    nodeIs("running", "", "2026-11-28 10:00:00.000 UTC [7] FATAL:  another story of before");
    expect(await reasons(true)).toEqual(["", ""]);
    nodeIs("exited", refused, "");
    expect(await reasons(true)).toEqual(["", ""]);
  });
});

describe("nodes on several Docker hosts", () => {
  const [A, B] = ["unix:///a.sock", "tcp://b:1"] as const;
  const NO_ANSWER = "Cannot connect to the Docker daemon at it. Is the docker daemon running?\nmore";
  const there = placed(
    parseConfig("dev", { nodes: nodes.map((node, i) => ({ ...node, dockerHost: [A, B][i], address: `10.0.0.${i + 1}` })) }),
    "unix:///x",
  );
  /** What a standby says that receives from this host and port. */
  const receiving = (from: string | null, fromPort?: number): string =>
    `${JSON.stringify({ inRecovery: true, receiver: { status: "streaming", slot: "pg2", from, fromPort } })}\n`;
  function hostsAnswer(answering: readonly string[], report = '{"inRecovery":false,"receiver":null}\n'): void {
    run.mockReset();
    const called = (_docker: string, [verb]: string[], { env }: { env: { DOCKER_HOST: string } }): Promise<object> =>
      Promise.resolve(
        !answering.includes(env.DOCKER_HOST)
          ? { exitCode: 1, stdout: "", stderr: NO_ANSWER }
          : {
              exitCode: verb === "exec" && report === "" ? 1 : 0,
              stdout: verb === "inspect" ? `/${env.DOCKER_HOST === A ? PG1 : PG2} running\n` : report,
              stderr: "",
            },
      );
    run.mockImplementation(called as unknown as (docker: string, args: string[]) => Promise<object>);
  }
  // A host that could not be reached is not asked again at once.
  beforeEach(() => jest.spyOn(performance, "now").mockReturnValue((clock += 60_000)));
  afterEach(() => jest.restoreAllMocks());
  let clock = 0;

  test("of which one does not answer are all told: what is there is unknown, not gone", async () => {
    hostsAnswer([A]);
    const [one, two] = await observe(there, { drift: true });
    expect([one?.containerState, one?.server?.inRecovery]).toEqual(["running", false]);
    expect(two).toEqual({
      ...{ name: "pg2", container: PG2, host: "10.0.0.2", port: 5433, containerState: "unreachable", silentEngine: B },
      ...{ server: null, disk: null, reason: "Cannot connect to the Docker daemon at it. Is the docker daemon running" },
    });
    expect(run.mock.calls.filter(([, args]) => args[0] === "logs")).toEqual([]);
  });

  test("of which one does not answer have a log only where somebody answers", async () => {
    hostsAnswer([A], "");
    expect((await diagnose(there)).map(({ containerState, server, reason }) => [containerState, server, reason])).toEqual([
      ["running", null, ""],
      ["unreachable", null, "Cannot connect to the Docker daemon at it. Is the docker daemon running"],
    ]);
    const asked = run.mock.calls as unknown as [string, string[], { env: { DOCKER_HOST: string } }][];
    expect([...new Set(asked.filter(([, args]) => args[0] === "logs").map(([, , { env }]) => env.DOCKER_HOST))]).toEqual([A]);
  });

  test("are an error with exit code 2 when no host answers", async () => {
    hostsAnswer([]);
    await expect(observe(there)).rejects.toMatchObject({
      exitCode: 2,
      message: expect.stringMatching(/^the Docker engine does not answer: /) as string,
    });
    hostsAnswer([A]);
    const onlyFar = { ...there, nodes: there.nodes.slice(1) };
    await expect(observe(onlyFar)).rejects.toThrow(
      new UserError(
        "the Docker engine at tcp://b:1 does not answer: Cannot connect to the Docker daemon at it. Is the docker daemon running. Look whether the host runs, and whether this works: docker -H tcp://b:1 version",
      ),
    );
  });

  test.each([
    ["a node of another host, by its published address and port", receiving("10.0.0.1", 5432), "pg1"],
    ["a node beside it, by its name", receiving("pg1", 5432), "pg1"],
    ["a server that is none of the stack's, by its host", receiving("10.0.0.1", 6000), "10.0.0.1"],
    ["nobody", '{"inRecovery":true,"receiver":null}\n', undefined],
  ])("receive from %s", async (_whom, report, from) => {
    hostsAnswer([A, B], report);
    expect((await observe(there))[1]?.server?.receiver?.from).toBe(from);
  });

  test("are asked which of them run on the hosts alone that are not left out", async () => {
    hostsAnswer([A]);
    await expect(runningNodes(there)).rejects.toThrow(UserError);
    clock += 60_000;
    run.mockImplementation(() => Promise.resolve({ exitCode: 0, stdout: "pg1\n", stderr: "" }));
    expect(await runningNodes(there, [B])).toEqual(["pg1"]);
  });
});

test("every node is asked at its own place, and every engine once for what it runs", async () => {
  inspectPrints(0, "");
  run.mockClear();
  const [one, two] = [placedNode(config.nodes[0] as NodeConfig, "tcp://one:1"), placedNode(config.nodes[1] as NodeConfig, "tcp://two:2")];
  await observe({ ...config, nodes: [one, two] });
  const asked = (run.mock.calls as unknown as [string, string[], { env: { DOCKER_HOST: string } }][]).map(
    ([, args, { env }]) => `${env.DOCKER_HOST} ${args[0]} ${args.find((arg) => arg.includes("-dev-"))}`,
  );
  expect(asked.sort()).toEqual([
    `tcp://one:1 exec ${PG1}`,
    `tcp://one:1 inspect ${PG1}`,
    `tcp://two:2 exec ${PG2}`,
    `tcp://two:2 inspect ${PG2}`,
  ]);
});
