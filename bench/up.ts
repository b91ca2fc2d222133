import Table from "cli-table3";
import execa from "execa";
import { randomBytes } from "crypto";
import { mkdirSync, writeFileSync } from "fs";
import { cpus, totalmem } from "os";
import { join } from "path";
import { pulumiBin } from "../operations/deploy/workspace";
import { Checkout, freePorts, OWN_IMAGE } from "../tests/integration/checkout";

/** What is measured, in the order of one trial. */
const STEPS = [
  "by hand: up",
  "pulumi up",
  "pulumi up, unchanged",
  "pulumi up of an empty program, unchanged",
  "by hand: down",
  "pulumi destroy",
  "pulumi up, four secondaries",
] as const;
type Step = (typeof STEPS)[number];

/** The targets, as ratios of medians of one run. What Pulumi itself takes for a program that declares nothing is beside them. */
const TARGETS: readonly [Step, Step, number][] = [
  ["pulumi up", "by hand: up", 2.1],
  ["pulumi up, unchanged", "by hand: up", 0.6],
  ["pulumi destroy", "by hand: up", 1.1],
  ["pulumi up, four secondaries", "pulumi up", 1.5],
];

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? (sorted[middle] ?? NaN) : ((sorted[middle - 1] ?? NaN) + (sorted[middle] ?? NaN)) / 2;
}

/** Builds and removes the pair, by hand and by Pulumi in turn, and prints seconds and ratios. */
export async function benchUp(trials: number, json: boolean): Promise<void> {
  const seconds: Record<Step, number[]> = Object.fromEntries(STEPS.map((step) => [step, [] as number[]])) as Record<Step, number[]>;
  const time = async (step: Step, action: () => Promise<unknown>): Promise<void> => {
    const start = process.hrtime.bigint();
    await action();
    seconds[step].push(Number(process.hrtime.bigint() - start) / 1e9);
  };
  const name = `byhand-${randomBytes(3).toString("hex")}`;
  const byHand = (...args: string[]): Promise<unknown> => execa(join(__dirname, "byHand.sh"), args, { env: { IMAGE: OWN_IMAGE } });
  const checkout = await Checkout.make();
  try {
    const ports = await freePorts(9);
    const nodes = (count: number, from: number): { name: string; port: number | undefined }[] =>
      Array.from({ length: count }, (_, i) => ({ name: `pg${i + 1}`, port: ports[from + i] }));
    const pair = checkout.addStack("dev-bench", { nodes: nodes(2, 2) });
    const five = checkout.addStack("dev-bench", { nodes: nodes(5, 4) });
    // Made beforehand, as for every later up; `npm run env` does it.
    for (const stack of [pair, five]) {
      await checkout.must("env", "--stack", stack);
    }
    const run = (cwd: string, args: readonly string[]): Promise<unknown> =>
      execa(join(pulumiBin(), "pulumi"), [...args, "--non-interactive"], {
        cwd,
        env: {
          ...checkout.environment(),
          PATH: `${pulumiBin()}:${process.env["PATH"] ?? ""}`,
          PULUMI_CONFIG_PASSPHRASE_FILE: join(checkout.folder, ".state", "passphrase"),
          PULUMI_FALLBACK_TO_STATE_SECRETS_MANAGER: "true",
          PULUMI_SKIP_UPDATE_CHECK: "true",
          PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION: "true",
        },
      });
    const pulumi = (stack: string, verb: "up" | "destroy", cwd = checkout.folder): Promise<unknown> =>
      run(cwd, [verb, "--yes", "--skip-preview", "--stack", stack]);
    const empty = join(checkout.folder, ".state", "empty");
    mkdirSync(empty, { recursive: true });
    writeFileSync(join(empty, "package.json"), JSON.stringify({ name: "empty", main: "index.js" }));
    writeFileSync(join(empty, "Pulumi.yaml"), "name: empty\nruntime: nodejs\n");
    writeFileSync(join(empty, "index.js"), 'require("@pulumi/pulumi");\n');
    await run(empty, ["stack", "init", "dev-empty"]);
    for (let trial = 0; trial <= trials; trial++) {
      await time("by hand: up", () => byHand("up", name, String(ports[0]), String(ports[1])));
      await time("pulumi up of an empty program, unchanged", () => pulumi("dev-empty", "up", empty));
      await time("by hand: down", () => byHand("down", name));
      await time("pulumi up", () => pulumi(pair, "up"));
      await time("pulumi up, unchanged", () => pulumi(pair, "up"));
      await time("pulumi destroy", () => pulumi(pair, "destroy"));
      await time("pulumi up, four secondaries", () => pulumi(five, "up"));
      await pulumi(five, "destroy");
      if (trial === 0) {
        // The first trial warms the caches.
        STEPS.forEach((step) => (seconds[step].length = 0));
      }
      console.error(`trial ${trial} of ${trials} done`);
    }
  } finally {
    await byHand("down", name).catch(() => undefined); // as a rule it is down already
    await checkout.remove();
  }
  report(seconds, trials, json);
}

function report(seconds: Record<Step, number[]>, trials: number, json: boolean): void {
  const ratios = TARGETS.map(([step, base, most]) => ({ step, base, ratio: median(seconds[step]) / median(seconds[base]), most }));
  if (json) {
    console.log(JSON.stringify({ trials, seconds, ratios }, undefined, 2));
    return;
  }
  console.log(
    `${new Date().toISOString().slice(0, 10)}, ${cpus().length} cores, ${Math.round(totalmem() / 2 ** 30)} GiB, ${trials} trials, seconds`,
  );
  const figures = new Table({ head: ["", "min", "median", "max"], style: { head: [], border: [] } });
  for (const step of STEPS) {
    figures.push([step, ...[Math.min(...seconds[step]), median(seconds[step]), Math.max(...seconds[step])].map((s) => s.toFixed(2))]);
  }
  console.log(figures.toString());
  for (const { step, base, ratio, most } of ratios) {
    console.log(`${step} / ${base}: ${ratio.toFixed(2)} (at most ${most}: ${ratio <= most ? "reached" : "NOT reached"})`);
  }
}
