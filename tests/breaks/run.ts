import Table from "cli-table3";
import execa from "execa";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "fs";
import { tmpdir } from "os";
import { join } from "path";
import { UserError } from "../../operations/errors";
import { ROOT } from "../../operations/folders";
import { copyTree } from "../integration/checkout";
import { DEFAULTS } from "../../core/config";
import { setup } from "../../operations/setup";
import { type Break, gitIn, groupOf, type JestReport, readBreaks, whyNotNoticed } from "./breaks";

/** One break, and whether its test has noticed it. */
interface Outcome {
  found: Break;
  why: string | undefined;
  seconds: number;
}

/**
 * `npm run test:breaks`. Returns the exit code.
 *
 * @param named Which ones. @default all
 * @param list Only list them.
 * @throws UserError when there is none of that name.
 */
export async function testBreaks(named: readonly string[], list: boolean): Promise<number> {
  const all = readBreaks();
  const unknown = named.find((name) => !all.some((found) => found.name === name));
  if (unknown !== undefined) {
    throw new UserError(`"${unknown}" is no break; there are ${all.map(({ name }) => name).join(", ")}`);
  }
  const chosen = all.filter(({ name }) => named.length === 0 || named.includes(name));
  if (list) {
    chosen.forEach(({ name, what }) => console.log(`${name}: ${what}`));
    return 0;
  }
  if (chosen.some((found) => groupOf(found) !== "unit")) {
    await setup({ image: DEFAULTS.image });
  }
  return runBreaks(chosen);
}

/**
 * Breaks the product, in copies of the working tree, and looks whether the tests notice. Returns the exit code: 1 when one
 * was not noticed.
 *
 * @throws UserError when a patch does not apply any more.
 */
async function runBreaks(breaks: readonly Break[]): Promise<number> {
  for (const { name, patch } of breaks) {
    const checked = await execa("git", ["apply", "--check", patch], { ...gitIn(ROOT), reject: false });
    if (checked.exitCode !== 0) {
      throw new UserError(`tests/breaks/${name}.patch does not apply any more: ${checked.stderr.split("\n")[0]}. Make it anew`);
    }
  }
  const outcomes: Outcome[] = [];
  for (const found of breaks) {
    console.error(`${found.name}: ${found.what}`);
    const start = performance.now();
    const why = await notNoticed(found);
    const seconds = (performance.now() - start) / 1000;
    console.error(`  ${why === undefined ? "noticed" : `NOT NOTICED: ${why}`} (${seconds.toFixed(0)} s)`);
    outcomes.push({ found, why, seconds });
  }
  console.log(render(outcomes));
  return outcomes.every(({ why }) => why === undefined) ? 0 : 1;
}

/** Runs a break's test on a copy of the tree that has it; returns why it was not noticed, if so. */
async function notNoticed(found: Break): Promise<string | undefined> {
  const folder = mkdtempSync(join(tmpdir(), "postgres-replica-break-"));
  const report = mkdtempSync(join(tmpdir(), "postgres-replica-break-report-"));
  try {
    await copyTree(folder, /^(toolchain|docs)\//);
    // The tests copy the tree in their turn, and ask git for what belongs to it.
    await execa("git", ["init", "-q"], { cwd: folder });
    writeFileSync(join(folder, ".git", "info", "exclude"), "/node_modules\n");
    await execa("git", ["apply", found.patch], gitIn(folder));
    const file = join(report, "report.json");
    await execa(
      join(folder, "node_modules", ".bin", "jest"),
      ["--selectProjects", groupOf(found), "--runInBand", "--json", "--outputFile", file, found.test, "-t", found.run],
      { cwd: folder, env: { FORCE_COLOR: "0" }, reject: false, stdin: "ignore", stdout: "ignore", stderr: "ignore" },
    );
    return whyNotNoticed(found, existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as JestReport) : undefined);
  } finally {
    rmSync(folder, { recursive: true, force: true });
    rmSync(report, { recursive: true, force: true });
  }
}

function render(outcomes: readonly Outcome[]): string {
  const table = new Table({ head: ["break", "test", "noticed", "seconds"], style: { head: [], border: [], compact: true } });
  for (const { found, why, seconds } of outcomes) {
    table.push([found.name, found.test.replace("tests/", ""), why === undefined ? "yes" : "NO", seconds.toFixed(0)]);
  }
  const missed = outcomes.filter(({ why }) => why !== undefined).length;
  return `${table.toString()}\n${outcomes.length - missed} of ${outcomes.length} noticed`;
}
