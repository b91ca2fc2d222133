import { spawnSync } from "child_process";
import { readFileSync } from "fs";
import { join } from "path";
import { commandLine, type CommonOptions, does, program, runProgram } from "../../scripts/cli";
import { main } from "../../scripts/main";
import { errorLines } from "../../operations/deploy/deploy";
import { UserError } from "../../operations/errors";
import { ROOT } from "../../operations/folders";
import { render } from "../../operations/look/status";
import { ConfigError } from "../../core/config";
import { assess } from "../../operations/look/documents";
import { primary, replica, silent, standby } from "./observations";

// Set-up draws its progress with an ES module, which has nothing to do here.
jest.mock("../../operations/setup", () => ({}));

describe("a command line", () => {
  interface Ran {
    code: typeof process.exitCode;
    stdout: string;
    stderr: string;
    options?: CommonOptions;
    args?: string[];
  }

  const { argv, exitCode } = process;
  afterEach(() => {
    process.argv = argv;
    process.exitCode = exitCode;
    jest.restoreAllMocks();
  });

  /** Runs a command with these arguments and notes what is seen of it outside. */
  async function run(
    args: string[],
    features: { json?: boolean } = {},
    action: () => Promise<number> = () => Promise.resolve(0),
  ): Promise<Ran> {
    const ran: Ran = { code: undefined, stdout: "", stderr: "" };
    process.argv = ["node", "run.cjs", "status", ...args];
    jest.spyOn(process.stdout, "write").mockImplementation((text) => Boolean((ran.stdout += String(text))));
    jest.spyOn(process.stderr, "write").mockImplementation((text) => Boolean((ran.stderr += String(text))));
    jest.spyOn(console, "error").mockImplementation((text) => {
      ran.stderr += text instanceof Error ? `${text.stack}\n` : `${String(text)}\n`;
    });
    const all = program("x", "All of it.");
    does<CommonOptions>(commandLine(all, "status", "Says how things are.", features), (options, rest) => {
      ran.options = options;
      ran.args = rest;
      return action();
    });
    await runProgram(all);
    return { ...ran, code: process.exitCode };
  }

  test("is for the stack dev unless it says otherwise", async () => {
    expect((await run([])).options).toEqual({ stack: "dev" });
    expect((await run(["--stack", "prod"])).options).toEqual({ stack: "prod" });
    expect((await run(["-s", "dev-2.b_c"])).options).toEqual({ stack: "dev-2.b_c" });
  });

  test("takes --json where there is something to read, and nowhere else", async () => {
    expect((await run(["--json"], { json: true })).options).toEqual({ stack: "dev", json: true });
    const refused = await run(["--json"]);
    expect(refused).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^error: unknown option '--json'\n.*--help lists the options/) as string,
    });
    expect(refused.options).toBeUndefined();
  });

  test("shows its help and succeeds", async () => {
    const help = await run(["--help"], { json: true });
    expect(help.code).toBe(0);
    expect(help.options).toBeUndefined();
    expect(help.stdout).toMatch(/^Usage: (npm run status --|x status) \[options\]$/m);
    expect(help.stdout).toContain("Says how things are.");
    expect(help.stdout).toContain("--stack <name>");
    expect(help.stdout).toContain("--json");
  });

  test.each([
    ["an unknown option", ["--stak", "dev"], /unknown option '--stak'[^]*Did you mean --stack/],
    ["an argument too many", ["dev"], /too many arguments/],
    ["an option without its value", ["--stack"], /option '-s, --stack <name>' argument missing/],
  ])("refuses %s without starting anything", async (_what, args, message) => {
    const ran = await run(args);
    expect(ran).toMatchObject({ code: 1, stderr: expect.stringMatching(message) as string });
    expect(ran.options).toBeUndefined();
  });

  test.each(["", "../prod", "-x", "a b", "a/b", "$(id)", "x".repeat(101)])("refuses %j as a stack's name", async (name) => {
    const ran = await run([`--stack=${name}`]);
    expect(ran).toMatchObject({ code: 1, stderr: `error: --stack is "${name}"; allowed are letters, digits, ".", "_" and "-"\n` });
    expect(ran.options).toBeUndefined();
  });

  test.each([0, 1, 2])("ends with the exit code %i that the command says", async (code) => {
    expect(await run([], {}, () => Promise.resolve(code))).toMatchObject({ code, stderr: "" });
  });

  test.each([
    ["a mistake of the user", new UserError("no such thing. Run: x"), 1, "error: no such thing. Run: x\n"],
    ["what could not be told", new UserError("nobody answers", 2), 2, "error: nobody answers\n"],
    ["a wrong config", new ConfigError('config key "a" is 1'), 1, 'error: config key "a" is 1\n'],
  ])("shows %s as one line", async (_what, error, code, stderr) => {
    expect(await run([], {}, () => Promise.reject(error))).toMatchObject({ code, stderr });
  });

  test("keeps the stack trace of a defect", async () => {
    const ran = await run([], {}, () => Promise.reject(new TypeError("x is not a function")));
    expect(ran).toMatchObject({ code: 1, stderr: expect.stringMatching(/^TypeError: x is not a function\n\s+at /) as string });
  });
});

describe("the one program", () => {
  const scripts = (JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { scripts: Record<string, string> }).scripts;
  const commands = main().commands.map((command) => command.name());

  test("has every alias of npm's as a command", () => {
    const called = Object.values(scripts).flatMap((line) => /^node scripts\/run\.cjs (\S+)/.exec(line)?.[1] ?? []);
    expect(called.length).toBeGreaterThan(15);
    expect(called.filter((name) => !commands.includes(name))).toEqual([]);
  });

  test("has an alias of npm's for every command", () => {
    expect(commands.filter((name) => name !== "complete" && scripts[name] === undefined)).toEqual([]);
  });

  test("lists every command in its help but the shell's own", () => {
    const help = main().helpInformation();
    expect(commands.filter((name) => !new RegExp(`^  ${name} `, "m").test(help))).toEqual(["complete"]);
  });

  test("completes commands, options, stacks and nodes in bash", () => {
    const lines = ["fail", "failover --dry", "status --stack st", "rejoin pg1"];
    const script = `eval "$("$NODE" scripts/run.cjs completion bash)"; compopt() { :; }
      for line; do
        COMP_WORDS=(postgres-replica $line) COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); __postgres_replica_complete; echo \${COMPREPLY[@]}
      done`;
    const ran = spawnSync("bash", ["-c", script, "bash", ...lines], {
      cwd: ROOT,
      encoding: "utf8",
      env: { ...process.env, NODE: process.execPath },
    });
    expect([ran.stdout, ran.stderr]).toEqual(["failover\n--dry-run\nstaging\npg1\n", ""]);
  });
});

describe("the errors of a Pulumi run", () => {
  const urn = "urn:pulumi:dev::postgres-replica::postgres-replica:index:Primary$command:local:Command::pg1-roles";
  const log = (...events: object[]): string => events.map((event) => `${JSON.stringify(event)}\n`).join("");
  const diagnostic = (message: string, more: { severity?: string; urn?: string } = {}): object => ({
    diagnosticEvent: { severity: "error", message, ...more },
  });

  test("are one line each, with the resource", () => {
    expect(errorLines(log(diagnostic("<{%reset%}>1 error occurred:\n\t* creating urn: exit status 1\n\n<{%reset%}>", { urn })))).toEqual([
      "pg1-roles: * creating urn: exit status 1",
    ]);
  });

  test("are what the node's own program said, when it said something", () => {
    const message = `exit status 1: running "docker exec":\npgnode: trying\npgnode: node pg1 does not accept connections after 120 s\n`;
    expect(errorLines(log(diagnostic(message, { urn })))).toEqual(["node pg1 does not accept connections after 120 s"]);
  });

  test("of a command that printed nothing do not show the command's whole text", () => {
    expect(errorLines(log(diagnostic('exit status 1: running "for c in a b; do docker exec; done"', { urn })))).toEqual([
      "pg1-roles: its command failed without a word",
    ]);
  });

  test("without a resource are shown as they are", () => {
    expect(errorLines(log(diagnostic("\u001b[31mno such plugin\u001b[0m")))).toEqual(["no such plugin"]);
  });

  test("are named once, and the end of the run is none of them", () => {
    const twice = diagnostic("port is taken", { urn });
    expect(errorLines(log(twice, twice, diagnostic("update failed"), diagnostic(" \n")))).toEqual(["pg1-roles: port is taken"]);
  });

  test("are not warnings, progress and other events", () => {
    expect(
      errorLines(log({ preludeEvent: {} }, diagnostic("slow", { severity: "warning" }), diagnostic("copying", { severity: "info#err" }))),
    ).toEqual([]);
  });

  test("are found as well when Pulumi was killed in the middle of a line", () => {
    expect(errorLines(`${log(diagnostic("port is taken", { urn }))}{"diagnosticEvent":{"seve`)).toEqual(["pg1-roles: port is taken"]);
  });
});

describe("the table of status", () => {
  const plain = process.env["NO_COLOR"];
  beforeAll(() => {
    process.env["NO_COLOR"] = "1";
  });
  afterAll(() => {
    if (plain === undefined) {
      delete process.env["NO_COLOR"];
    } else {
      process.env["NO_COLOR"] = plain;
    }
  });
  /** The cells of a node's row. */
  const row = (text: string, node: string): string[] => (text.split("\n").find((line) => line.startsWith(`${node} `)) ?? "").split(/ {2,}/);

  test("has a row for each node, and says that all is well", () => {
    const text = render(assess("dev", [primary("pg1", ["pg2"]), standby("pg2", { lagSeconds: 0.04 })]));
    expect(text.split("\n")[0]).toBe("stack dev, primary pg1");
    expect(row(text, "pg1")).toEqual(["pg1", "primary", "1", "0/5000000", "-", "-", "-", "127.0.0.1:5432"]);
    expect(row(text, "pg2")).toEqual(["pg2", "standby", "1", "0/5000000", "0 B, 0.0 s", "async", "reserved, 0 B kept", "127.0.0.1:5433"]);
    expect(text.split("\n").at(-1)).toBe("healthy");
  });

  test("stays within 110 columns when there is much to tell", () => {
    const far = { lagBytes: 512 * 1024 ** 2, lagSeconds: 600 };
    const slots = [{ name: "pg2", active: true, walStatus: "unreserved", retainedBytes: 512 * 1024 ** 2 }];
    const text = render(
      assess("dev", [primary("pg1", ["pg2"], { replicas: [replica("pg2", far)], slots, lsn: "16/B374D848" }), standby("pg2", far)]),
    );
    const table = text.split("\n").filter((line) => !line.startsWith("!"));
    expect(Math.max(...table.map((line) => line.length))).toBeLessThanOrEqual(110);
  });

  test("lists the problems under it, each with what to do, and does not say healthy", () => {
    const text = render(
      assess("dev", [
        primary("pg1", ["pg2"], { replicas: [replica("pg2", { state: "catchup" })] }),
        standby("pg2"),
        silent("pg3", "exited"),
      ]),
    );
    expect(text.split("\n").slice(-2)).toEqual([
      "! pg2: it does not stream from pg1 (catchup). Run: docker logs postgres-replica-dev-pg2",
      "! pg3: its container is exited. Run: npm run rejoin -- pg3 --stack dev",
    ]);
    expect(text).not.toContain("healthy");
    expect(row(text, "pg3")[1]).toBe("down");
  });

  test("says that there is no primary", () => {
    const text = render(assess("dev", [standby("pg2")]));
    expect(text.split("\n")[0]).toBe("stack dev, primary none");
    expect(text).toContain("! no node is primary. Run: ");
  });

  test("has no colours where there is no terminal", () => {
    expect(render(assess("dev", [silent("pg1", "exited")]))).not.toContain("\u001b");
  });
});
