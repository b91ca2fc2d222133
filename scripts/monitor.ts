import { commandLine, type CommonOptions, runCommand } from "./cli";
import { UserError } from "../operations/errors";
import { monitor } from "../operations/look/monitor";

const program = commandLine(
  "monitor",
  "Watches replication: roles, lag, slots and the WAL rate; refreshes in a terminal, prints lines when piped.",
  { json: true },
)
  .option("-i, --interval <seconds>", "seconds between two looks", "2")
  .option("-n, --count <looks>", "end after so many looks");

void runCommand<CommonOptions & { interval: string; count?: string }>(program, (options) => {
  const interval = Number(options.interval);
  if (!(interval >= 0.2 && interval <= 3600)) {
    throw new UserError(`--interval is "${options.interval}"; allowed is 0.2 to 3600`);
  }
  if (options.count !== undefined && !/^[1-9]\d{0,8}$/.test(options.count)) {
    throw new UserError(`--count is "${options.count}"; allowed is a whole number from 1`);
  }
  return monitor(options.stack, {
    interval,
    json: options.json ?? false,
    ...(options.count === undefined ? {} : { count: Number(options.count) }),
  });
});
