import { commandLine, type CommonOptions, runCommand } from "./cli";
import { failover } from "../operations/change/failover";

const program = commandLine("failover", "The primary is gone: fences it, promotes the most advanced standby, waits for a write.", {
  json: true,
})
  .option("--allow-data-loss", "promote even when commits may be lost; says what is given up")
  .option("--dry-run", "show the plan, change nothing");

void runCommand<CommonOptions & { allowDataLoss?: boolean; dryRun?: boolean }>(program, (options) =>
  failover(options.stack, { allowDataLoss: options.allowDataLoss ?? false, dryRun: options.dryRun ?? false, json: options.json ?? false }),
);
