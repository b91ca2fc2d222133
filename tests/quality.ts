import execa from "execa";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "fs";
import { availableParallelism, tmpdir } from "os";
import { join } from "path";
import { DEFAULTS } from "../core/config";
import { isForUser, UserError } from "../operations/errors";
import { ROOT } from "../operations/folders";
import { setup } from "../operations/setup";
import { LINTERS } from "./linters";
import { Toolbox } from "./tools";

const bin = (name: string): string => join(ROOT, "node_modules", ".bin", name);

/** npm's tools, which are there as soon as a command runs. */
const NPM_TOOLS: readonly [string, string[]][] = [
  ["prettier", ["--check", "--log-level", "warn", "."]],
  ["eslint", ["--max-warnings", "0", "."]],
  ["tsc", ["-p", "."]],
];

/** Format, lint and types of everything that there is a tool for. Tools that are missing are installed. Returns the exit code. */
export async function check(): Promise<number> {
  const start = performance.now();
  const say = (line: string): void => console.error(line);
  const tools = new Toolbox(say);
  const failed = (
    await Promise.all([
      ...NPM_TOOLS.map(async ([name, args]) => {
        const result = await execa(bin(name), args, { cwd: ROOT, reject: false, all: true, stdin: "ignore" });
        return { name, said: result.exitCode === 0 ? undefined : (result.all ?? "") };
      }),
      ...LINTERS.map(async ({ name, run }) => {
        try {
          const findings = await run(tools, say);
          return { name, said: findings.length === 0 ? undefined : findings.join("\n") };
        } catch (error) {
          if (isForUser(error)) {
            return { name, said: error.message };
          }
          throw error;
        }
      }),
    ])
  ).filter(({ said }) => said !== undefined);
  failed.forEach(({ name, said }) => say(`${name}:\n${said}`));
  const names = [...NPM_TOOLS.map(([name]) => name), ...LINTERS.map(({ name }) => name)];
  const verdict =
    failed.length === 0 ? "ok" : `FAILED: ${failed.map(({ name }) => name).join(", ")} (npm run format fixes most of TypeScript)`;
  say(`format, lint and types (${names.join(", ")}): ${verdict}, ${((performance.now() - start) / 1000).toFixed(0)} s`);
  return failed.length === 0 ? 0 : 1;
}

/**
 * The groups of tests, and how each is run: of the real stacks two beside each other, because they wait more than they work,
 * and each has names, ports and a backend of its own; of the others one more than there are cores, because some of their time
 * goes into waiting for programs that they start.
 */
const PURE = ["unit", "property", "programs"];
const REAL = ["integration", "plain", "faults"];
const TEST_GROUPS: readonly string[] = [...PURE, ...REAL];
/** Only when they are asked for: `npm run test:majors`, on servers of every tested major, and `npm run test:soak`, many repetitions. */
const ON_REQUEST: readonly string[] = ["majors", "soak"];

interface Totals {
  numPassedTests: number;
  numFailedTests: number;
  numPendingTests: number;
  numFailedTestSuites: number;
}

/**
 * `npm test`: format, lint, types, then groups of tests. Returns the exit code.
 *
 * @param groups @default all but those that have to be asked for
 * @param testName Only the tests whose name matches. @default all
 * @throws UserError when a group is none.
 */
export async function test(groups: readonly string[] = [], testName?: string): Promise<number> {
  const unknown = groups.find((group) => ![...TEST_GROUPS, ...ON_REQUEST].includes(group));
  if (unknown !== undefined) {
    throw new UserError(`"${unknown}" is no group of tests; allowed are ${TEST_GROUPS.join(", ")}`);
  }
  const chosen = groups.length === 0 ? TEST_GROUPS : groups;
  const checked = await check();
  if (checked !== 0) {
    return checked;
  }
  if (chosen.some((group) => !PURE.includes(group))) {
    await setup({ image: DEFAULTS.image });
  }
  return runTests(chosen, testName === undefined ? [] : ["-t", testName]);
}

/** Runs groups of tests; ends with one line of totals. Returns the exit code. */
async function runTests(groups: readonly string[], jestArgs: readonly string[]): Promise<number> {
  const runs = [
    { projects: PURE.filter((g) => groups.includes(g)), args: [`--maxWorkers=${availableParallelism() + 1}`] },
    { projects: REAL.filter((g) => groups.includes(g)), args: ["--maxWorkers=2"] },
    { projects: ON_REQUEST.filter((g) => groups.includes(g)), args: ["--runInBand"] },
  ].filter((run) => run.projects.length > 0);
  const totals = { passed: 0, failed: 0, skipped: 0 };
  let code = 0;
  const folder = mkdtempSync(join(tmpdir(), "postgres-replica-jest-"));
  try {
    for (const { projects, args } of runs) {
      const file = join(folder, `${projects.join("-")}.json`);
      const result = await execa(
        process.execPath,
        // A test file loads its modules anew and throws them away: with more room for the young, less time goes into collecting it.
        [
          "--max-semi-space-size=32",
          bin("jest"),
          "--selectProjects",
          ...projects,
          "--json",
          "--outputFile",
          file,
          "--passWithNoTests",
          ...args,
          ...jestArgs,
        ],
        {
          cwd: ROOT,
          reject: false,
          stdin: "ignore",
          // --json prints the document on standard output as well; people read the other one.
          stdout: "ignore",
          stderr: "inherit",
        },
      );
      code ||= result.exitCode;
      if (existsSync(file)) {
        const found = JSON.parse(readFileSync(file, "utf8")) as Totals;
        totals.passed += found.numPassedTests;
        totals.failed += found.numFailedTests + (found.numFailedTests === 0 ? found.numFailedTestSuites : 0);
        totals.skipped += found.numPendingTests;
      }
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  console.log(`${totals.passed} passed, ${totals.failed} failed${totals.skipped > 0 ? `, ${totals.skipped} skipped` : ""}`);
  return code === 0 && totals.passed > 0 ? 0 : 1;
}

/** `npm run test:mutation`, with options of Stryker's. Returns the exit code. */
export async function testMutation(options: readonly string[]): Promise<number> {
  const ran = await execa(bin("stryker"), ["run", "--incremental", ...options], { cwd: ROOT, reject: false, stdio: "inherit" });
  return ran.exitCode ?? 1;
}
