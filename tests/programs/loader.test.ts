import execa from "execa";
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "fs";
import { tmpdir } from "os";
import { dirname, join } from "path";
import { PROGRAM_LOADER, ROOT, withLoader } from "../../operations/deploy/workspace";

/** Runs JavaScript as Pulumi's language host runs the program, by NODE_OPTIONS or by Pulumi.yaml's nodeargs. */
const run = (script: string, args: readonly string[] = [], env: Record<string, string> = {}, cwd = ROOT): Promise<execa.ExecaReturnValue> =>
  execa(process.execPath, [...args, "-e", script], { cwd, env, reject: false });

const BY_OPTIONS = { NODE_OPTIONS: withLoader(undefined) };
const BY_ARGUMENT = ["--require", "postgres-replica/program"];

describe("what loads the program", () => {
  test.each([
    ["Pulumi.yaml's nodeargs", BY_ARGUMENT, {}, ROOT],
    ["nodeargs in a folder of the checkout", BY_ARGUMENT, {}, join(ROOT, "components")],
    ["NODE_OPTIONS", [], BY_OPTIONS, ROOT],
    ["both", BY_ARGUMENT, BY_OPTIONS, ROOT],
  ])("is found by %s, and gives the program without ts-node and the compiler", async (_by, args, env, cwd) => {
    const script = `
      process.env.PULUMI_NODEJS_TYPESCRIPT === undefined || console.log("ts-node is asked for");
      const program = require(${JSON.stringify(join(ROOT, "index.ts"))});
      const loaded = Object.keys(require.cache).filter((file) => /node_modules.(typescript|ts-node|@npmcli|tsx)/.test(file));
      console.log(typeof program, loaded.length);`;
    const ran = await run(script, args, { ...env, PULUMI_NODEJS_TYPESCRIPT: "true" }, cwd);
    expect([ran.stdout, ran.stderr]).toEqual(["function 0", ""]);
  });

  test("leaves nothing out of Pulumi's SDK: what comes later is the real thing", async () => {
    const script = `
      const { LATER } = require(${JSON.stringify(PROGRAM_LOADER)});
      const { runtime } = require("@pulumi/pulumi");
      const at = (file) => require("@pulumi/pulumi/runtime/closure/" + file);
      const names = Object.fromEntries(Object.keys(LATER).map((file) => [file, Object.keys(at(file))]));
      runtime.serializeFunction(() => 42).then(({ text }) => console.log(JSON.stringify([LATER, names, text.includes("42")])));`;
    const ran = await run(script, BY_ARGUMENT, { NODE_NO_WARNINGS: "1" });
    expect(ran.stderr).toBe("");
    const [later, names, serialized] = JSON.parse(ran.stdout) as [unknown, unknown, boolean];
    expect([later, serialized]).toEqual([names, true]);
  });

  test("takes no empty program, by which Pulumi would delete the stack", async () => {
    const script = `
      require(${JSON.stringify(join(ROOT, "scripts", "bundle.cjs"))}).program = () => "";
      require(${JSON.stringify(PROGRAM_LOADER)});
      require(${JSON.stringify(join(ROOT, "index.ts"))});`;
    const ran = await run(script);
    expect([ran.exitCode, ran.stderr]).toEqual([1, expect.stringContaining("the program was put together without its content")]);
  });

  test("loads another program's TypeScript as well", async () => {
    const ran = await run(`console.log(typeof require(${JSON.stringify(join(ROOT, "core", "grammar", "lsn.ts"))}).lsnDiff)`, BY_ARGUMENT);
    expect([ran.stdout, ran.stderr]).toEqual(["function", ""]);
  });
});

describe("the bundle of the program", () => {
  let root: string;
  const write = (name: string, text: string): void => {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), text);
  };
  /** How esbuild begins; what it puts together is the text of index.ts. */
  const esbuild = (meanwhile: string): string => `
    const { readFileSync, appendFileSync } = require("fs");
    let runs = 0;
    exports.build = async ({ entryPoints: [entry] }) => {
      const text = readFileSync(entry, "utf8");
      runs++;
      ${meanwhile}
      return { outputFiles: [{ text }] };
    };
    exports.stop = async () => undefined;`;
  const made = (): Promise<execa.ExecaReturnValue> => execa(process.execPath, [join(root, "scripts", "bundle.cjs")], { reject: false });
  const kept = (): string[] => readdirSync(join(root, "node_modules", ".cache", "postgres-replica"));

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), "postgres-replica-bundle-"));
    ["components", "core", "operations"].forEach((folder) => write(join(folder, "a.ts"), "// a"));
    write("index.ts", "// begin");
    write("package-lock.json", "{}");
    write(join("node_modules", ".package-lock.json"), "{}");
    write(join("node_modules", "esbuild", "index.js"), esbuild(""));
    mkdirSync(join(root, "scripts"));
    copyFileSync(join(ROOT, "scripts", "bundle.cjs"), join(root, "scripts", "bundle.cjs"));
  });
  afterEach(() => rmSync(root, { recursive: true, force: true }));

  test("is another one when a source, a package that is installed, or what makes it is another", async () => {
    expect((await made()).stdout).toMatch(/^\/\/ begin\n/);
    const changes = ["core/a.ts", "package-lock.json", "node_modules/.package-lock.json", "scripts/bundle.cjs"];
    for (const [i, name] of changes.entries()) {
      await execa("sh", ["-c", `printf '\n' >>${name}`], { cwd: root });
      await made();
      expect([name, kept().length]).toEqual([name, i + 2]);
    }
  });

  test("is made where npm has left no note of what it has installed", async () => {
    rmSync(join(root, "package-lock.json"));
    rmSync(join(root, "node_modules", ".package-lock.json"));
    expect(await made()).toMatchObject({ exitCode: 0, stderr: "" });
  });

  test("is made anew when a source changes meanwhile, and is of one state", async () => {
    write(join("node_modules", "esbuild", "index.js"), esbuild(`if (runs === 1) appendFileSync(entry, " and end");`));
    expect((await made()).stdout).toMatch(/^\/\/ begin and end\n/);
    expect(kept()).toHaveLength(1);
  });

  test("is not made of sources that change all the time", async () => {
    write(join("node_modules", "esbuild", "index.js"), esbuild(`appendFileSync(entry, " x");`));
    expect(await made()).toMatchObject({
      exitCode: 1,
      stdout: "",
      stderr: expect.stringMatching(/^the sources in .* change again and again/) as string,
    });
  });
});
