import execa from "execa";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "fs";
import { tmpdir } from "os";
import { delimiter, dirname, join } from "path";
import { isForUser, UserError } from "../../operations/errors";
import {
  backendFolder,
  backendUrl,
  ensureStack,
  exportLines,
  fileBackend,
  lastError,
  pulumiBin,
  pulumiEnvironment,
  readStackConfig,
  SALT_FILTER,
  stackFile,
  STATE_DIR,
  VERSIONS,
  withLoader,
} from "../../operations/deploy/workspace";
import { ConfigError, parseConfig } from "../../core/config";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "workspace-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe("a stack's config file", () => {
  const read = (text: string): ReturnType<typeof readStackConfig> => {
    const file = join(folder, "Pulumi.test.yaml");
    writeFileSync(file, text);
    return readStackConfig("test", file);
  };

  test("is read as Pulumi reads it, with the project's prefix or without", () => {
    const config = read(
      [
        "config:",
        "  postgres-replica:nodes:",
        "    - name: a",
        "      port: 7001",
        "  protectData: true",
        '  postgres-replica:sampleDatabase: "true"',
      ].join("\n"),
    );
    expect(config).toMatchObject({ stack: "test", nodes: [{ name: "a", port: 7001 }], protectData: true, sampleDatabase: true });
  });

  test("may hold encrypted secrets and other projects' keys", () => {
    const config = read(
      "config:\n  postgres-replica:appPassword:\n    secure: v1:AAAA\n  aws:region: eu-west-1\nencryptionsalt: v1:BBBB\n",
    );
    expect(config).toEqual(parseConfig("test", {}));
  });

  test.each(["", "# nothing yet\n", "config: {}\n", "encryptionsalt: v1:x\n"])("may say nothing at all: %j", (text) => {
    expect(read(text)).toEqual(parseConfig("test", {}));
  });

  test("that does not exist is the user's mistake", () => {
    expect(() => readStackConfig("nowhere", join(folder, "no.yaml"))).toThrow(
      new UserError(`there is no stack "nowhere": ${join(folder, "no.yaml")} does not exist`),
    );
  });

  test("that is no YAML is named, in one line", () => {
    const error = ((): unknown => {
      try {
        return read("config:\n  a: [1, 2\n b: }\n");
      } catch (thrown) {
        return thrown;
      }
    })();
    expect(error).toBeInstanceOf(UserError);
    expect((error as Error).message).toMatch(/^.*Pulumi\.test\.yaml is not valid YAML: .+$/);
  });

  test("with a wrong value is refused as the program refuses it", () => {
    expect(() => read("config:\n  postgres-replica:failover: automatic\n")).toThrow(ConfigError);
  });

  test.each(["dev", "staging", "prod"])("of stack %s is in the checkout and is right", (stack) => {
    const config = readStackConfig(stack);
    expect(config.stack).toBe(stack);
    expect(config.nodes.length).toBeGreaterThanOrEqual(2);
    expect(stackFile(stack)).toMatch(new RegExp(`Pulumi\\.${stack}\\.yaml$`));
  });
});

describe("the salt in Pulumi.dev.yaml", () => {
  const filtered = async (text: string): Promise<string> =>
    (await execa("sh", ["-c", SALT_FILTER], { input: text, stripFinalNewline: false })).stdout;
  const FILE = '# A comment.\nconfig:\n  postgres-replica:sampleDatabase: "true"\n';
  const SALT = "encryptionsalt: v1:SE0V20DOiH0=:v1:kwB4CKjQ8pFh54Nx:yOm5SBRrOJBGK8vX+LkmaUKwulBApg==\n";
  const SECRET = "  postgres-replica:appPassword:\n    secure: v1:AAAA\n";

  test("stays out of git while nothing in the file was encrypted with it", async () => {
    expect(await filtered(FILE + SALT)).toBe(FILE);
    expect(await filtered(SALT + FILE)).toBe(FILE);
    expect(await filtered(FILE)).toBe(FILE);
  });

  test("goes into git with the secrets that nobody could read without it", async () => {
    expect(await filtered(FILE + SECRET + SALT)).toBe(FILE + SECRET + SALT);
    expect(await filtered(SALT + FILE + SECRET)).toBe(SALT + FILE + SECRET);
  });
});

describe("making a stack in the backend", () => {
  jest.setTimeout(20_000);
  const calls = (): string[] =>
    readFileSync(join(folder, "fake", "calls"), "utf8")
      .split("\n")
      .filter(Boolean);
  /** A pulumi of our own; what it is told is noted down. */
  function pulumiSays(script: string): void {
    mkdirSync(join(folder, "fake"), { recursive: true });
    writeFileSync(join(folder, "fake", "calls"), "");
    writeFileSync(join(folder, "fake", "pulumi"), `#!/bin/sh\necho "$*" >>${join(folder, "fake", "calls")}\n${script}\n`, { mode: 0o755 });
  }
  const before = { ...process.env };
  beforeEach(() => {
    const bin = join(folder, "made", "versions", VERSIONS.pulumi, "bin");
    mkdirSync(bin, { recursive: true });
    mkdirSync(join(folder, "fake"), { recursive: true });
    // This checkout's own git is no business of a test.
    writeFileSync(join(folder, "fake", "git"), "#!/bin/sh\nexit 1\n", { mode: 0o755 });
    process.env["PULUMI_HOME"] = join(folder, "made");
    process.env["PULUMI_BACKEND_URL"] = `file://${join(folder, "backend")}`;
    process.env["PULUMI_CONFIG_PASSPHRASE"] = "";
    process.env["PATH"] = [join(folder, "fake"), bin, before["PATH"] ?? ""].join(delimiter);
  });
  afterEach(() => {
    process.env = { ...before };
  });

  test("is done where there is none, and selects it for nobody", async () => {
    pulumiSays('case "$*" in *"stack ls"*) echo "[]" ;; esac');
    await ensureStack("dev");
    expect(calls()).toEqual(["--non-interactive stack ls --json", "--non-interactive stack init --no-select dev"]);
  });

  test("is not done where there is one, and which one is selected stays as it is", async () => {
    pulumiSays('case "$*" in *"stack ls"*) echo \'[{"name":"dev"},{"name":"prod","current":true}]\' ;; esac');
    await ensureStack("dev");
    expect(calls()).toEqual(["--non-interactive stack ls --json"]);
  });

  test("is well when another command was faster", async () => {
    pulumiSays('case "$*" in *"stack ls"*) echo "[]" ;; *) echo "error: stack \'organization/x/dev\' already exists" >&2; exit 1 ;; esac');
    await ensureStack("dev");
    expect(calls()).toHaveLength(2);
  });

  test("is not done without the stack's file", async () => {
    pulumiSays("exit 1");
    await expect(ensureStack("nowhere")).rejects.toThrow(/^there is no stack "nowhere": \S+ does not exist\. Known stacks are/);
    expect(calls()).toEqual([]);
  });
});

describe("what Pulumi says", () => {
  test.each([
    ["the line with its error", "Previewing\nerror: no stack named 'x' found\nhint: none", "no stack named 'x' found"],
    ["the first of several errors", "  error: one\nerror: two", "one"],
    ["its last words when no line is an error", "something\nfailed badly\n\n", "failed badly"],
    ["that it said nothing", " \n", "no output"],
  ])("%s", (_what, output, expected) => {
    expect(lastError(output)).toBe(expected);
  });
});

describe("the environment for plain pulumi", () => {
  const own = (): NodeJS.ProcessEnv => ({
    PULUMI_HOME: join(folder, "home"),
    PULUMI_BACKEND_URL: `file://${join(folder, "backend")}`,
    PULUMI_CONFIG_PASSPHRASE: "",
    PATH: "/usr/bin",
  });

  test("leaves the user's backend and passphrase alone, an empty one as well", () => {
    const environment = pulumiEnvironment("dev", own());
    expect(environment["PULUMI_BACKEND_URL"]).toBe(own()["PULUMI_BACKEND_URL"]);
    expect(environment).not.toHaveProperty("PULUMI_CONFIG_PASSPHRASE_FILE");
    expect(environment["PULUMI_STACK"]).toBe("dev");
  });

  test("has Node.js load what the program is loaded by, beside what the user has it load, and not in the user's shell", async () => {
    const loader = join(folder, 'a "home\\', "loader.cjs");
    mkdirSync(dirname(loader), { recursive: true });
    writeFileSync(loader, 'console.log("loaded");');
    const ran = await execa(process.execPath, ["-p", "process.title"], { env: { NODE_OPTIONS: withLoader("--title=mine", loader) } });
    expect(ran.stdout.split("\n")).toEqual(["loaded", "mine"]);
    expect(pulumiEnvironment("dev", own())["NODE_OPTIONS"]).toBe(withLoader(undefined));
    expect(exportLines("dev", own()).filter((line) => line.includes("NODE_OPTIONS"))).toEqual([]);
  });

  test("puts Pulumi on the path, once", () => {
    const bin = pulumiBin(own());
    expect(bin.startsWith(join(folder, "home"))).toBe(true);
    expect(pulumiEnvironment("dev", own())["PATH"]).toBe(`${bin}${delimiter}/usr/bin`);
    expect(pulumiEnvironment("dev", { ...own(), PATH: `/bin${delimiter}${bin}` })["PATH"]).toBe(`/bin${delimiter}${bin}`);
  });

  test("is taken over by a shell, whose own path stays as it is behind Pulumi, blanks and all", async () => {
    const env = { ...own(), PULUMI_HOME: join(folder, "a home"), PATH: "/npm/node_modules/.bin:/usr/bin" };
    const lines = exportLines("staging", env);
    expect(lines[0]).toBe(`export PATH='${pulumiBin(env)}':"$PATH"`);
    expect(lines.join("\n")).not.toContain("/npm/");
    const shell = await execa("sh", ["-c", `${lines.join("\n")}\necho "$PATH"; echo "$PULUMI_STACK"`], {
      env: { PATH: "/opt/my tools:/usr/bin:/bin" },
    });
    expect(shell.stdout.split("\n")).toEqual([`${pulumiBin(env)}:/opt/my tools:/usr/bin:/bin`, "staging"]);
    expect(exportLines("staging", { ...env, PATH: `${pulumiBin(env)}:/usr/bin` }).filter((line) => line.includes("PATH="))).toEqual([]);
  });

  test("knows the folder of a file backend, and that others have none", () => {
    expect(backendFolder(fileBackend("/some/where"))).toBe("/some/where");
    expect(backendFolder("file:///some/where")).toBe("/some/where");
    expect(["s3://bucket/where", "https://api.example.com", "file://~"].map(backendFolder)).toEqual([undefined, undefined, undefined]);
  });

  test("takes the backend of pulumi login, else files inside the checkout", () => {
    const home = join(folder, "logged-in");
    mkdirSync(home);
    expect(backendUrl({ PULUMI_HOME: home })).toBe(fileBackend(join(STATE_DIR, "backend")));
    writeFileSync(join(home, "credentials.json"), '{"current":"s3://states"}');
    expect(backendUrl({ PULUMI_HOME: home })).toBe("s3://states");
    expect(backendUrl({ PULUMI_HOME: home, PULUMI_BACKEND_URL: "file:///elsewhere" })).toBe("file:///elsewhere");
  });
});

test("errors are for the user when they are written for the user", () => {
  expect([new UserError("x"), new ConfigError("x"), new Error("x"), "x", undefined].map(isForUser)).toEqual([
    true,
    true,
    false,
    false,
    false,
  ]);
});
