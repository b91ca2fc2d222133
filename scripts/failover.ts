import { commandLine, type CommonOptions, runCommand } from "./cli";
import { bytesText } from "../core/grammar/bytes";
import { DEFAULT_LAG_THRESHOLD_BYTES } from "../core/sql/queries";
import { failover } from "../operations/change/failover";

const MOST = bytesText(DEFAULT_LAG_THRESHOLD_BYTES);

const program = commandLine(
  "failover",
  `The primary is gone: fences it, promotes the most advanced standby, waits for a write. Up to ${MOST} of WAL that this standby lacks are lost without a question; how many bytes it was is said at the end. More, or where nobody knows how much, is refused.`,
  { json: true },
)
  .option("--allow-data-loss", `promote even when more than ${MOST} of WAL are lost, or nobody knows how much; says what is given up`)
  .option("--dry-run", "show the plan, change nothing");

void runCommand<CommonOptions & { allowDataLoss?: boolean; dryRun?: boolean }>(program, (options) =>
  failover(options.stack, { allowDataLoss: options.allowDataLoss ?? false, dryRun: options.dryRun ?? false, json: options.json ?? false }),
);
