import { alert } from "../operations/look/alert";
import { commandLine, type CommonOptions, runCommand } from "./cli";
import { UserError } from "../operations/errors";
import { DEFAULT_LIMITS } from "../core/judgement/findings";

const program = commandLine(
  "alert",
  "One look, for cron: no replica connected, lag, a slot inactive or lost. Exit code 0 all well, 1 alert, 2 could not tell.",
  {
    json: true,
  },
)
  .option("--lag-bytes <bytes>", "bytes of lag above which to alert", String(DEFAULT_LIMITS.lagBytes))
  .option("--lag-seconds <seconds>", "seconds of lag above which to alert", String(DEFAULT_LIMITS.lagSeconds))
  .option("--webhook <url>", "post the alerts there as JSON, when there are any");

function count(option: string, text: string): number {
  if (!/^\d{1,15}$/.test(text)) {
    throw new UserError(`${option} is "${text}"; allowed is a whole number from 0`);
  }
  return Number(text);
}

void runCommand<CommonOptions & { lagBytes: string; lagSeconds: string; webhook?: string }>(program, (options) =>
  alert(options.stack, {
    lagBytes: count("--lag-bytes", options.lagBytes),
    lagSeconds: count("--lag-seconds", options.lagSeconds),
    json: options.json ?? false,
    ...(options.webhook === undefined ? {} : { webhook: options.webhook }),
  }),
);
