import { benchFailover } from "../bench/failover";
import { benchUp } from "../bench/up";
import { commandLine, type CommonOptions, runCommand } from "./cli";
import { UserError } from "../operations/errors";
import { setup } from "../operations/setup";
import { DEFAULTS } from "../core/config";

const program = commandLine(
  "bench",
  "Times pulumi up, unchanged up and destroy beside the same pair built by hand. It uses stacks of its own.",
  { json: true },
)
  .option("-n, --trials <count>", "how often, after one trial to warm up", "5")
  .option("--failover", "time failover, rejoin and switchover instead")
  .option("--data-mib <MiB>", "with --failover: how much data the nodes hold", "1024");

void runCommand<CommonOptions & { trials: string; dataMib: string; failover?: boolean }>(
  program,
  async ({ trials, dataMib, json, failover }) => {
    if (!/^[1-9]\d?$/.test(trials)) {
      throw new UserError(`--trials is "${trials}"; allowed is 1 to 99`);
    }
    if (!/^\d{1,5}$/.test(dataMib)) {
      throw new UserError(`--data-mib is "${dataMib}"; allowed is 0 to 99999`);
    }
    await setup(DEFAULTS.image);
    if (failover ?? false) {
      await benchFailover(Number(trials), Number(dataMib), json ?? false);
    } else {
      await benchUp(Number(trials), json ?? false);
    }
    return 0;
  },
);
