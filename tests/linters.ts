import execa from "execa";
import { createHash } from "crypto";
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, readSync, writeFileSync } from "fs";
import { dirname, extname, join } from "path";
import { HOST_SCRIPTS } from "../core/model/hostScripts";
import { PGNODE_SCRIPT } from "../core/model/pgnode";
import { firstLine, UserError } from "../operations/errors";
import { ROOT, STATE_DIR } from "../operations/folders";
import type { Report } from "../operations/setup/progress";
import { GO, HADOLINT, SHELLCHECK, type Toolbox } from "./tools";

/** What is not the project's own. */
const FOREIGN = [".git", ".state", "coverage", "node_modules"];

/** The project's files, relative to the checkout, in order. */
export function projectFiles(folder = ""): string[] {
  return readdirSync(join(ROOT, folder), { withFileTypes: true })
    .filter((entry) => !FOREIGN.includes(entry.name))
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      return entry.isDirectory() ? projectFiles(path) : entry.isFile() ? [path] : [];
    })
    .sort();
}

const read = (file: string): string => readFileSync(join(ROOT, file), "utf8");

function begins(file: string): string {
  const buffer = Buffer.alloc(64);
  const descriptor = openSync(join(ROOT, file), "r");
  try {
    return buffer.toString("utf8", 0, readSync(descriptor, buffer));
  } finally {
    closeSync(descriptor);
  }
}
const startsAShell = (file: string): boolean => /^#!.*\b(ba|da|k)?sh\b/.test(begins(file));

/** Shell, by its name or, where the name says nothing, by its first line. */
export const isShell = (file: string): boolean => extname(file) === ".sh" || (extname(file) === "" && startsAShell(file));
export const isDockerfile = (file: string): boolean => /(^|\/)Dockerfile(\.[^/]*)?$|\.[dD]ockerfile$/.test(file);

/** What the project puts together of several files. */
export const JOINED: readonly string[] = [...Object.values(HOST_SCRIPTS), PGNODE_SCRIPT];

/** A piece of shell as a shell gets it. */
export interface Piece {
  /** The file whose text it is, or the files that are put together for it. */
  files: string[];
  text: string;
}

/**
 * The project's shell: files that run by themselves, and the texts that are put together of several files. In those a file
 * uses what another one sets, so only the whole can be judged.
 *
 * @param files Shell files. Each of them is in one of the pieces.
 * @param joined The texts that are put together.
 */
export function pieces(files: readonly string[], joined: readonly string[]): Piece[] {
  const texts = new Map(files.map((file) => [file, read(file)]));
  const whole = joined.map((text) => ({ text, files: files.filter((file) => text.includes(texts.get(file) ?? "")) }));
  const alone = files.filter((file) => !whole.some((piece) => piece.files.includes(file)));
  return [...alone.map((file) => ({ files: [file], text: texts.get(file) ?? "" })), ...whole];
}

/** Where a line of a piece comes from; a line that no file has was made by the program. */
export function placeOf(piece: Piece, line: number): string {
  for (const file of piece.files) {
    const text = read(file);
    const at = piece.text.indexOf(text);
    const first = piece.text.slice(0, at).split("\n").length;
    if (line >= first && line < first + linesOf(text)) {
      return `${file}:${line - first + 1}`;
    }
  }
  return `line ${line} of ${piece.files.join(" + ")}`;
}

const linesOf = (text: string): number => text.split("\n").length - (text.endsWith("\n") ? 1 : 0);

/** What shellcheck says of a line of a piece. */
export interface Comment {
  line: number;
  column: number;
  level: string;
  code: number;
  message: string;
}

/** That something is never used, or never reached. */
const UNUSED = [2034, 2317, 2329];

/**
 * What is wrong with which line of which file. What one text does not use of a file that is in several of them, another may:
 * only what none uses is a finding.
 */
export function judge(said: readonly { piece: Piece; comments: readonly Comment[] }[]): string[] {
  const lines = said.map(({ piece, comments }) => ({
    piece,
    comments: comments.map((c) => {
      const place = placeOf(piece, c.line);
      return { code: c.code, file: place.split(":")[0] ?? "", text: `${place}:${c.column} ${c.level}: ${c.message} [SC${c.code}]` };
    }),
  }));
  const everywhere = (file: string, text: string): boolean =>
    lines.every(({ piece, comments }) => !piece.files.includes(file) || comments.some((c) => c.text === text));
  const found = lines.flatMap(({ comments }) => comments.filter((c) => !UNUSED.includes(c.code) || everywhere(c.file, c.text)));
  return [...new Set(found.map(({ text }) => text))];
}

/** POSIX has no `local`, but every shell that is called sh has: dash, busybox, bash. */
const ALLOWED = ["SC3043"];

/** What a linter has to say; empty when nothing. */
type Findings = string[];

async function shellcheck(tools: Toolbox): Promise<Findings> {
  const program = await tools.path(SHELLCHECK);
  const files = projectFiles().filter(isShell);
  return judge(
    await Promise.all(
      pieces(files, JOINED).map(async (piece) => {
        // A first line says which shell runs a piece; the others are run by `sh`.
        const shell = piece.text.startsWith("#!") ? [] : ["--shell", "sh"];
        const args = ["--norc", "--format", "json1", `--exclude=${ALLOWED.join(",")}`];
        const ran = await execa(program, [...args, ...shell, "-"], { input: piece.text, reject: false });
        if (ran.exitCode !== 0 && ran.exitCode !== 1) {
          throw new UserError(`${piece.files.join(" + ")}: shellcheck ended with ${ran.exitCode}: ${firstLine(ran.stderr || ran.stdout)}`);
        }
        return { piece, comments: (JSON.parse(ran.stdout) as { comments: Comment[] }).comments };
      }),
    ),
  );
}

async function hadolint(tools: Toolbox): Promise<Findings> {
  const program = await tools.path(HADOLINT);
  const files = projectFiles().filter(isDockerfile);
  const ran = await execa(program, ["--config", join(ROOT, ".hadolint.yaml"), "--no-color", ...files], {
    cwd: ROOT,
    all: true,
    reject: false,
  });
  return ran.exitCode === 0 ? [] : [ran.all ?? `hadolint ended with ${ran.exitCode}`];
}

/** As set-up builds the modules: what was compiled for one is there for the other. */
const GO_ENVIRONMENT = { CGO_ENABLED: "0", GOFLAGS: "" };

async function gofmt(tools: Toolbox): Promise<Findings> {
  const go = await tools.path(GO);
  const folder = join(ROOT, "toolchain");
  const root = await execa(go, ["env", "GOROOT"], { cwd: join(folder, "command"), env: GO_ENVIRONMENT });
  const ran = await execa(join(root.stdout.trim(), "bin", "gofmt"), ["-l", "-s", "."], { cwd: folder, all: true, reject: false });
  if (ran.exitCode !== 0) {
    return [ran.all ?? `gofmt ended with ${ran.exitCode}`];
  }
  return (ran.all ?? "")
    .split("\n")
    .filter(Boolean)
    .map((file) => `toolchain/${file}: not formatted; run gofmt -s -w toolchain`);
}

/**
 * What a slow linter says, unless it had nothing to say of the same before.
 *
 * @param key What decides what it says. As a file name.
 * @param folder Where that is noted.
 */
export async function unlessClean(key: string, folder: string, look: () => Promise<Findings>): Promise<Findings> {
  const note = join(folder, key);
  if (existsSync(note)) {
    return [];
  }
  const found = await look();
  if (found.length === 0) {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    writeFileSync(note, "");
  }
  return found;
}

async function vet(tools: Toolbox, report: Report): Promise<Findings> {
  const go = await tools.path(GO);
  const files = projectFiles("toolchain");
  const modules = [...new Set(files.filter((file) => extname(file) === ".go").map(moduleOf))];
  const found: Findings = [];
  const cwd = join(ROOT, modules[0] ?? "");
  const environment = await execa(go, ["env", "GOVERSION", "GOOS", "GOARCH"], { cwd, env: GO_ENVIRONMENT });
  // Even when all is compiled, go reads 1,800 packages before it looks at one of ours: 4 s of work, a minute beside others.
  for (const module of modules) {
    const own = files.filter((file) => file.startsWith(`${module}/`) && [".go", ".mod", ".sum"].includes(extname(file)));
    const hash = createHash("sha256").update(environment.stdout).update(VET.join(" "));
    own.forEach((file) => hash.update(`${file}\n${read(file)}\n`));
    const key = `${module.replaceAll("/", "-")}-${hash.digest("hex").slice(0, 16)}`;
    found.push(...(await unlessClean(key, join(STATE_DIR, "vetted"), () => vetModule(go, module, report))));
  }
  return found;
}

const VET: readonly string[] = ["vet", "-mod=readonly", "-trimpath", "-buildvcs=false", "./..."];

async function vetModule(go: string, module: string, report: Report): Promise<Findings> {
  const start = performance.now();
  const beat = setInterval(
    () =>
      report(`go vet of ${module} takes ${Math.round((performance.now() - start) / 1000)} s; the first time it compiles all that is used`),
    15_000,
  );
  try {
    const ran = await execa(go, [...VET], {
      cwd: join(ROOT, module),
      env: GO_ENVIRONMENT,
      all: true,
      reject: false,
      timeout: 30 * 60_000,
    });
    return ran.exitCode === 0 ? [] : [`${module}: ${ran.all || `go vet ended with ${ran.exitCode}`}`];
  } finally {
    clearInterval(beat);
  }
}

/** The folder of the go.mod above a file. */
function moduleOf(file: string): string {
  const folder = dirname(file);
  return readdirSync(join(ROOT, folder)).includes("go.mod") ? folder : moduleOf(folder);
}

/** Linters of what npm's tools do not understand. */
export const LINTERS: readonly { name: string; run: (tools: Toolbox, report: Report) => Promise<Findings> }[] = [
  { name: "shellcheck", run: shellcheck },
  { name: "hadolint", run: hadolint },
  { name: "gofmt", run: gofmt },
  { name: "go vet", run: vet },
];
