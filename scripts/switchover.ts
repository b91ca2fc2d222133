import { commandLine, type CommonOptions, runCommand } from "./cli";
import { switchover } from "../operations/change/switchover";

const program = commandLine(
  "switchover",
  "Planned: the primary stops cleanly, a standby takes over with every byte, the old primary comes back as a standby.",
  {
    json: true,
  },
).option("--to <node>", "the node that becomes primary; the most advanced standby when not given");

void runCommand<CommonOptions & { to?: string }>(program, (options) => switchover(options.stack, options.to, options.json ?? false));
