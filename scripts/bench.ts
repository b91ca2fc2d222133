import { benchUp } from "../bench/up";
import { commandLine, type CommonOptions, runCommand } from "../commands/cli";
import { UserError } from "../commands/errors";
import { setup } from "../commands/setup";
import { DEFAULTS } from "../core/config";

const program = commandLine(
  "bench",
  "Times pulumi up, unchanged up and destroy beside the same pair built by hand. It uses stacks of its own.",
  { json: true },
).option("-n, --trials <count>", "how often, after one trial to warm up", "5");

void runCommand<CommonOptions & { trials: string }>(program, async ({ trials, json }) => {
  if (!/^[1-9]\d?$/.test(trials)) {
    throw new UserError(`--trials is "${trials}"; allowed is 1 to 99`);
  }
  await setup(DEFAULTS.image);
  await benchUp(Number(trials), json ?? false);
  return 0;
});
