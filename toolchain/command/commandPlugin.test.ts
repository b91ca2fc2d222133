import * as command from "@pulumi/command";
import * as pulumi from "@pulumi/pulumi";
import { randomBytes } from "crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, writeFileSync } from "fs";
import { join } from "path";
import { Engine, type TestStack } from "../../tests/integration/engine";

jest.setTimeout(120_000);

type Program = pulumi.automation.PulumiFn;
type Declared = [name: string, args: command.local.CommandArgs, opts?: pulumi.CustomResourceOptions];

/**
 * What the stack relies on in `command:local:Command`, through the real engine, whichever way the plugin
 * was installed.
 */
describe("command:local:Command", () => {
  let engine: Engine;
  let stack: TestStack;
  let logFile: string;

  beforeAll(() => {
    engine = new Engine();
  });
  afterAll(() => engine.remove());
  beforeEach(async () => {
    stack = await engine.stack("command");
    logFile = join(engine.folder, `${stack.name}.log`);
  });

  /** What the commands have written since the last call, line by line: which of them ran, and in which order. */
  let taken = 0;
  const ran = (): string[] => {
    const lines = existsSync(logFile) ? readFileSync(logFile, "utf8").split("\n").slice(0, -1) : [];
    const fresh = lines.slice(taken);
    taken = lines.length;
    return fresh;
  };
  beforeEach(() => {
    taken = 0;
  });

  /** A shell command that notes that it ran. */
  const note = (line: string): string => `echo "${line}" >> '${logFile}'`;
  /** A program with these commands and no more. */
  const only =
    (...commands: Declared[]): Program =>
    () => {
      commands.forEach((declared) => new command.local.Command(...declared));
      return Promise.resolve();
    };
  const nothing = (): Promise<void> => Promise.resolve();

  test("create runs once and keeps both streams, without their last newline", async () => {
    const program = only(["c", { create: `${note("create")}; printf 'one\\n\\ntwo \\n\\n'; printf 'oh no\\n' >&2` }]);
    expect((await stack.up(program)).steps).toEqual(["create c"]);
    expect(ran()).toEqual(["create"]);
    expect(stack.resource("c").outputs).toMatchObject({ stdout: "one\n\ntwo \n", stderr: "oh no" });

    expect((await stack.up(program)).steps).toEqual([]);
    expect((await stack.refresh()).steps).toEqual([]);
    expect(ran()).toEqual([]);
  });

  test("a command without create, update and delete runs nothing in its life", async () => {
    await stack.up(only(["c", { stdin: "1" }]));
    expect(stack.resource("c").outputs).toMatchObject({ stdout: "", stderr: "" });
    expect((await stack.up(only(["c", { stdin: "2" }]))).steps).toEqual(["update c"]);
    expect((await stack.up(nothing)).steps).toEqual(["delete c"]);
  });

  test("an update runs update, or else create, and keeps what that printed", async () => {
    const program = (version: string): Program =>
      only(
        [
          "with",
          { create: `${note("create with $V")}; echo $V`, update: `${note("update with $V")}; echo to $V`, environment: { V: version } },
        ],
        ["without", { create: `${note("create without $V")}; echo $V`, environment: { V: version } }],
      );
    await stack.up(program("1"));
    expect(ran().sort()).toEqual(["create with 1", "create without 1"]);
    const before = stack.resource("with").id;

    expect((await stack.up(program("2"))).steps.sort()).toEqual(["update with", "update without"]);
    expect(ran().sort()).toEqual(["create without 2", "update with 2"]);
    expect(stack.resource("with").outputs["stdout"]).toBe("to 2");
    expect(stack.resource("without").outputs["stdout"]).toBe("2");
    expect(stack.resource("with").id).toBe(before);
  });

  test("delete runs what the state holds, with the inputs of the last run", async () => {
    const program = (version: string): Program =>
      only([
        "c",
        { create: "true", delete: note(`delete ${version} $V $(cat)`), stdin: `in${version}`, environment: { V: `env${version}` } },
      ]);
    await stack.up(program("1"));
    await stack.up(program("2"));
    expect(ran()).toEqual([]);
    expect((await stack.up(nothing)).steps).toEqual(["delete c"]);
    expect(ran()).toEqual(["delete 2 env2 in2"]);
    expect(stack.resources()).toEqual([]);
  });

  test("a changed trigger replaces: new before old, or old before new with deleteBeforeReplace", async () => {
    const program = (version: string): Program => {
      const args = (name: string): command.local.CommandArgs => ({
        create: note(`create ${name} $V`),
        update: note(`update ${name} $V`),
        delete: note(`delete ${name} $V`),
        environment: { V: version },
        triggers: ["same", { nested: [version] }],
      });
      return only(["a", args("a")], ["b", args("b"), { deleteBeforeReplace: true }]);
    };
    await stack.up(program("1"));
    ran();
    const { steps } = await stack.up(program("2"));
    const of = (name: string, lines: string[]): string[] => lines.filter((line) => line.includes(` ${name}`));
    const lines = ran();
    expect(of("a", lines)).toEqual(["create a 2", "delete a 1"]);
    expect(of("b", lines)).toEqual(["delete b 1", "create b 2"]);
    expect(of("a", steps)).toEqual(["create-replacement a", "delete-replaced a"]);
    expect(of("b", steps)).toEqual(["delete-replaced b", "create-replacement b"]);
  });

  test("stdin, environment, dir and interpreter reach the command as they are", async () => {
    const folder = join(realpathSync(engine.folder), "a folder");
    mkdirSync(folder);
    const awkward = `a 'b' "c" $HOME \`d\` \\n\nsecond line`;
    await stack.up(
      only(
        ["stdin", { create: "cat", stdin: awkward }],
        ["no-stdin", { create: "cat; echo end" }],
        ["environment", { create: `printf '%s|%s' "$AWKWARD" "\${PATH:+path}"`, environment: { AWKWARD: awkward } }],
        ["dir", { create: "pwd", dir: folder }],
        ["no-dir", { create: "pwd" }],
        ["interpreter", { create: "console.log(6 * 7, process.argv.length)", interpreter: [process.execPath, "--no-warnings", "-e"] }],
        ["large", { create: "head -c 300000 /dev/zero | tr '\\0' x", logging: "none" }],
      ),
    );
    const stdout = (name: string): unknown => stack.resource(name).outputs["stdout"];
    expect(stdout("stdin")).toBe(awkward);
    expect(stdout("no-stdin")).toBe("end");
    expect(stdout("environment")).toBe(`${awkward}|path`);
    expect(stdout("dir")).toBe(folder);
    expect(stdout("no-dir")).toBe(join(realpathSync(engine.folder), "project"));
    expect(stdout("interpreter")).toBe("42 1");
    expect(stdout("large")).toBe("x".repeat(300_000));
  });

  test("logging chooses what is shown; both streams are kept whatever it is", async () => {
    const create = (name: string): string => `echo ${name}-out; echo ${name}-err >&2`;
    const kinds = ["none", "stdout", "stderr", "stdoutAndStderr"] as const;
    const run = await stack.up(
      only(
        ["default", { create: create("default") }],
        ...kinds.map((logging): [string, command.local.CommandArgs] => [logging, { create: create(logging), logging }]),
      ),
    );
    const shown = (name: string): string[] => run.messagesOf(name).split("\n").sort();
    expect(shown("default")).toEqual(["default-err", "default-out"]);
    expect(shown("stdoutAndStderr")).toEqual(["stdoutAndStderr-err", "stdoutAndStderr-out"]);
    expect(shown("stdout")).toEqual(["stdout-out"]);
    expect(shown("stderr")).toEqual(["stderr-err"]);
    expect(run.shown).not.toMatch(/\b(none-(out|err)|stdout-err|stderr-out)\b/);
    for (const name of ["default", ...kinds]) {
      expect(stack.resource(name).outputs).toMatchObject({ stdout: `${name}-out`, stderr: `${name}-err` });
    }
  });

  test("update and delete see what the last run printed, unless addPreviousOutputInEnv is false", async () => {
    const seen = "out=${PULUMI_COMMAND_STDOUT-unset} err=${PULUMI_COMMAND_STDERR-unset}";
    const program = (version: string): Program => {
      const args = (name: string): command.local.CommandArgs => ({
        create: `${note(`create ${name} ${seen}`)}; echo o$V; echo e$V >&2`,
        update: `${note(`update ${name} ${seen}`)}; echo o$V`,
        delete: note(`delete ${name} ${seen}`),
        environment: { V: version },
      });
      return only(["on", args("on")], ["off", { ...args("off"), addPreviousOutputInEnv: false }]);
    };
    await stack.up(program("1"));
    expect(ran().sort()).toEqual(["create off out=unset err=unset", "create on out=unset err=unset"]);
    await stack.up(program("2"));
    expect(ran().sort()).toEqual(["update off out=unset err=unset", "update on out=o1 err=e1"]);
    await stack.up(nothing);
    // An empty stream is not handed on.
    expect(ran().sort()).toEqual(["delete off out=unset err=unset", "delete on out=o2 err=unset"]);
  });

  test("secret inputs, and outputs declared secret, are nowhere on disk nor on the screen", async () => {
    const secrets = Array.from({ length: 3 }, () => randomBytes(12).toString("hex"));
    const [environment, stdin, later] = secrets as [string, string, string];
    const program =
      (token: string): Program =>
      () => {
        const create = 'echo "$TOKEN"; cat >&2';
        const c = new command.local.Command(
          "c",
          {
            create,
            delete: create,
            environment: { TOKEN: pulumi.secret(token), OPEN: "open sesame" },
            stdin: pulumi.secret(stdin),
            logging: "none",
          },
          // A secret input alone does not make what the command prints secret: the stack declares it, always.
          { additionalSecretOutputs: ["stdout", "stderr"] },
        );
        const open = new command.local.Command("open", { create: "echo all may know" });
        return Promise.resolve({ stdout: c.stdout, stderr: c.stderr, open: open.stdout });
      };
    const onDisk = (): string =>
      readdirSync(engine.folder, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => readFileSync(join(entry.parentPath, entry.name), "utf8"))
        .join("\n");
    const hidden = (text: string): void => secrets.forEach((secret) => expect(text).not.toContain(secret));

    hidden((await stack.up(program(environment))).shown);
    expect(await stack.outputs()).toEqual({
      stdout: { value: environment, secret: true },
      stderr: { value: stdin, secret: true },
      open: { value: "all may know", secret: false },
    });
    hidden(stack.stateText());
    expect(stack.stateText()).toContain("all may know");

    expect((await stack.up(program(environment))).steps).toEqual([]);
    hidden((await stack.preview(program(later))).shown);
    const update = await stack.up(program(later));
    expect(update.steps).toEqual(["update c"]);
    hidden(update.shown);
    expect((await stack.outputs())["stdout"]).toEqual({ value: later, secret: true });
    hidden((await stack.up(nothing)).shown);
    // The backend keeps every earlier state.
    hidden(onDisk());
    expect(onDisk()).toContain("all may know");
  });

  test("a command that fails ends the run, is not in the state, and the next run repairs it", async () => {
    const gate = join(engine.folder, `${stack.name}.open`);
    const create = `${note("create c")}; echo some output; echo the reason >&2; test -e '${gate}' || exit 3`;
    const program = (): Promise<void> => {
      const c = new command.local.Command("c", { create, delete: note("delete c"), logging: "none" });
      new command.local.Command("after", { create: note("create after") }, { dependsOn: c });
      return Promise.resolve();
    };
    const { error } = await stack.failingUp(program);
    // The two streams come in any order.
    const said = String.raw`\s*(some output\n\s*the reason|the reason\n\s*some output)\n`;
    expect(error.message).toMatch(new RegExp(`exit status 3: running "echo .*some output; .*":\n${said}`));
    expect(ran()).toEqual(["create c"]);
    expect(stack.resources()).toEqual([]);

    writeFileSync(gate, "");
    expect((await stack.up(program)).steps).toEqual(["create c", "create after"]);
    expect(ran()).toEqual(["create c", "create after"]);
  });

  test("an update that fails keeps the state of the last good run, and the next run repairs it", async () => {
    const program = (version: string, update: string): Program =>
      only(["c", { create: "echo created", update, delete: note(`delete ${version} $V`), environment: { V: version } }]);
    await stack.up(program("1", "false"));
    const before = stack.resource("c");

    const { error } = await stack.failingUp(program("2", "echo half done; exit 4"));
    expect(error.message).toMatch(/exit status 4: running "echo half done; exit 4":\n\s*half done/);
    const { inputs, outputs, id } = stack.resource("c");
    expect({ inputs, outputs, id }).toEqual({ inputs: before.inputs, outputs: before.outputs, id: before.id });

    expect((await stack.up(program("2", "echo updated"))).steps).toEqual(["update c"]);
    expect(stack.resource("c").outputs["stdout"]).toBe("updated");
    await stack.up(nothing);
    expect(ran()).toEqual(["delete 2 2"]);
  });

  test("a delete that fails keeps the command in the state until it succeeds", async () => {
    const gate = join(engine.folder, `${stack.name}.open`);
    await stack.up(only(["c", { create: "true", delete: `${note("delete")}; test -e '${gate}' || { echo not yet; exit 5; }` }]));
    const { error } = await stack.failingUp(nothing);
    expect(error.message).toMatch(/exit status 5: running .*\n\s*not yet/);
    expect(stack.resources()).toHaveLength(1);

    writeFileSync(gate, "");
    expect((await stack.up(nothing)).steps).toEqual(["delete c"]);
    expect(ran()).toEqual(["delete", "delete"]);
    expect(stack.resources()).toEqual([]);
  });

  test("a preview names every step and runs none", async () => {
    const args = (name: string): command.local.CommandArgs => ({
      create: note(`create ${name}`),
      update: note(`update ${name}`),
      delete: note(`delete ${name}`),
    });
    await stack.up(only(["updated", args("updated")], ["replaced", args("replaced")], ["deleted", args("deleted")]));
    ran();
    const before = stack.stateText();
    const { steps } = await stack.preview(
      only(
        ["updated", { ...args("updated"), stdin: "new" }],
        ["replaced", { ...args("replaced"), triggers: ["new"] }],
        ["created", args("created")],
      ),
    );
    expect(steps.sort()).toEqual([
      "create created",
      "create-replacement replaced",
      "delete deleted",
      "delete-replaced replaced",
      "update updated",
    ]);
    expect(ran()).toEqual([]);
    expect(stack.stateText()).toBe(before);
  });

  test("an output is unknown in the preview that creates it, and known in the one that leaves it alone", async () => {
    const known: boolean[] = [];
    const program = (): Promise<void> => {
      const c = new command.local.Command("c", { create: "echo hello" });
      known.push(false);
      c.stdout.apply((text) => (known[known.length - 1] = text === "hello"));
      return Promise.resolve();
    };
    await stack.preview(program);
    await stack.up(program);
    await stack.preview(program);
    expect(known).toEqual([false, true, true]);
  });

  test("an input of the wrong kind is refused by name, before anything runs", async () => {
    const refused = async (args: Record<string, unknown>): Promise<string> =>
      (await stack.failingUp(only(["c", { create: note("create"), ...args }]))).shown;
    expect(await refused({ environment: ["not a map"] })).toContain("environment");
    expect(await refused({ create: ["not", "a", "string"] })).toContain("create");
    expect(await refused({ addPreviousOutputInEnv: "maybe" })).toContain("addPreviousOutputInEnv");
    expect(ran()).toEqual([]);
    expect(stack.resources()).toEqual([]);
  });
});
