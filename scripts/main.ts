/* Every command is loaded when it is called, and not before: starting is most of what a short command takes. */
/* eslint-disable @typescript-eslint/no-require-imports, @typescript-eslint/consistent-type-imports */
import { Argument, type Command } from "commander";
import { bytesText } from "../core/grammar/bytes";
import { DEFAULT_LAG_THRESHOLD_BYTES } from "../core/sql/queries";
import { DEFAULT_LIMITS } from "../core/judgement/limits";
import { PROJECT } from "../core/model/names";
import { UserError } from "../operations/errors";
import { commandLine, type CommonOptions, does, program, runProgram } from "./cli";

/** What failover loses without a question. */
const MOST_LOST = bytesText(DEFAULT_LAG_THRESHOLD_BYTES);

/** The one command line: what `npm run NAME -- OPTIONS` calls, and `--help` of the whole lists all. */
export function main(): Command {
  const all = program(PROJECT, "A PostgreSQL primary with streaming secondaries on Docker, by Pulumi.");

  all.commandsGroup("The stack:");
  does<CommonOptions>(
    commandLine(all, "up", "Builds the stack, or brings it up to date: installs what is missing, then pulumi up."),
    ({ stack }) => deploy().up(stack),
  );
  does<CommonOptions>(
    commandLine(all, "down", "Removes everything of the stack: pulumi destroy. With protectData the data volumes stay."),
    ({ stack }) => deploy().down(stack),
  );
  does<CommonOptions>(
    commandLine(
      all,
      "adopt",
      "Takes a stack whose state was lost into a new one, without touching a container. Passwords that only the lost state knew are asked for.",
    ),
    ({ stack }) => (require("../operations/adopt") as typeof import("../operations/adopt")).adopt(stack),
  );

  all.commandsGroup("How it is:");
  does<CommonOptions>(
    commandLine(
      all,
      "status",
      "The topology now: each node's role, timeline, LSN, lag and slot. Exit code 0 healthy, 1 degraded, 2 no single primary.",
      { json: true },
    ),
    ({ stack, json }) => (require("../operations/look/status") as typeof import("../operations/look/status")).status(stack, json ?? false),
  );
  does<CommonOptions>(
    commandLine(
      all,
      "verify",
      "Checks live that replication works: streaming, reads and a refused write on every standby, new rows arriving. Leaves no rows behind.",
      { json: true },
    ),
    ({ stack, json }) => (require("../operations/look/verify") as typeof import("../operations/look/verify")).verify(stack, json ?? false),
  );
  does<CommonOptions & { interval: string; count?: string }>(
    commandLine(
      all,
      "monitor",
      "Watches replication: roles, lag, slots and the WAL rate; refreshes in a terminal, prints lines when piped.",
      {
        json: true,
      },
    )
      .option("-i, --interval <seconds>", "seconds between two looks", "2")
      .option("-n, --count <looks>", "end after so many looks"),
    ({ stack, json, interval, count }) => {
      const seconds = Number(interval);
      if (!(seconds >= 0.2 && seconds <= 3600)) {
        throw new UserError(`--interval is "${interval}"; allowed is 0.2 to 3600`);
      }
      return (require("../operations/look/monitor") as typeof import("../operations/look/monitor")).monitor(stack, {
        interval: seconds,
        json: json ?? false,
        ...(count === undefined ? {} : { count: wholeNumber("--count", count, 1) }),
      });
    },
  );
  does<CommonOptions & { lagBytes: string; lagSeconds: string; webhook?: string }>(
    commandLine(all, "alert", "One look, for cron: what status shows as wrong. Exit code 0 all well, 1 alert, 2 could not tell.", {
      json: true,
    })
      .option("--lag-bytes <bytes>", "bytes of lag above which to alert", String(DEFAULT_LIMITS.lagBytes))
      .option("--lag-seconds <seconds>", "seconds of lag above which to alert", String(DEFAULT_LIMITS.lagSeconds))
      .option("--webhook <url>", "post the alerts there as JSON, when there are any"),
    ({ stack, json, lagBytes, lagSeconds, webhook }) =>
      (require("../operations/look/alert") as typeof import("../operations/look/alert")).alert(stack, {
        lagBytes: wholeNumber("--lag-bytes", lagBytes),
        lagSeconds: wholeNumber("--lag-seconds", lagSeconds),
        json: json ?? false,
        ...(webhook === undefined ? {} : { webhook }),
      }),
  );

  all.commandsGroup("Who is primary:");
  does<CommonOptions & { allowDataLoss?: boolean; iHaveFenced?: string[]; dryRun?: boolean }>(
    commandLine(
      all,
      "failover",
      `The primary is gone: fences it, promotes the most advanced standby, waits for a write. Up to ${MOST_LOST} of WAL that this standby lacks are lost without a question; how many bytes it was is said at the end. More, or where nobody knows how much, is refused.`,
      { json: true },
    )
      .option(
        "--allow-data-loss",
        `promote even when more than ${MOST_LOST} of WAL are lost, or nobody knows how much; says what is given up`,
      )
      .option(
        "--i-have-fenced <node>",
        "the Docker host of this node does not answer, and you have made certain that it cannot write: powered off, or cut off from every client and node; once for each such node",
        (name: string, before: string[]) => [...before, name],
        [],
      )
      .option("--dry-run", "show the plan, change nothing"),
    ({ stack, json, allowDataLoss, iHaveFenced, dryRun }) =>
      (require("../operations/change/failover") as typeof import("../operations/change/failover")).failover(stack, {
        allowDataLoss: allowDataLoss ?? false,
        fencedByHand: iHaveFenced ?? [],
        dryRun: dryRun ?? false,
        json: json ?? false,
      }),
  );
  does<CommonOptions & { to?: string }>(
    commandLine(
      all,
      "switchover",
      "Planned: the primary stops cleanly, a standby takes over with every byte, the old primary comes back as a standby.",
      { json: true },
    ).option("--to <node>", "the node that becomes primary; the most advanced standby when not given"),
    ({ stack, to, json }) =>
      (require("../operations/change/switchover") as typeof import("../operations/change/switchover")).switchover(stack, to, json ?? false),
  );
  does<CommonOptions & { clone?: boolean; dropOldData?: boolean }>(
    commandLine(all, "rejoin", "Brings a failed node back as a standby: by pg_rewind, else by a fresh clone.")
      .argument("<node>", "the node's name")
      .option("--clone", "clone it anew, whatever is in its volume; the old data stays until the clone is complete")
      .option("--drop-old-data", "clone it anew, and remove what is in its volume before that, for a disk that cannot hold both"),
    ({ stack, clone, dropOldData }, [node]) =>
      (require("../operations/change/rejoin") as typeof import("../operations/change/rejoin")).rejoin(stack, node ?? "", {
        anew: clone === true,
        dropOld: dropOldData === true,
      }),
  );

  does<CommonOptions>(
    commandLine(
      all,
      "forget",
      "The Docker host of a node is gone for good, and the node is taken out of the config: takes it out of the state too, because nothing can be removed there any more.",
    ).argument("<node>", "the node's name"),
    ({ stack }, [node]) =>
      (require("../operations/deploy/forget") as typeof import("../operations/deploy/forget")).forget(stack, node ?? ""),
  );

  does<CommonOptions>(
    commandLine(all, "secrets", "Makes a strong password for each secret that a new stack has none of, encrypted in its config.").argument(
      "<what>",
      "init",
    ),
    ({ stack }, [what]) => {
      if (what !== "init") {
        throw new UserError(`secrets ${what ?? ""}: allowed is init. Run: npm run secrets -- init --stack ${stack}`);
      }
      return (require("../operations/deploy/secrets") as typeof import("../operations/deploy/secrets")).initSecrets(stack);
    },
  );

  all.commandsGroup("The machine:");
  does<CommonOptions & { check?: boolean }>(
    commandLine(all, "setup", "Installs what is missing: Docker engine, PostgreSQL image, Pulumi and its plugins.", { json: true }).option(
      "--check",
      "only report what is there and what is missing; exit code 1 when something is",
    ),
    ({ stack, json, check }) => setup().runSetup(stack, { check: check ?? false, json: json ?? false }),
  );
  does<CommonOptions>(
    commandLine(
      all,
      "env",
      `Prints the export lines with which plain pulumi works in this checkout: eval "$(npm run -s env)". Makes the stack in the backend when it is not there yet; the one that you have selected stays selected.`,
    ),
    ({ stack }) =>
      (require("../operations/deploy/environment") as typeof import("../operations/deploy/environment")).printEnvironment(stack),
  );
  does(
    commandLine(
      all,
      "completion",
      `Prints the shell's completion: eval "$(npm run -s completion -- bash)", then ${PROJECT} is a command.`,
      {
        stack: false,
      },
    ).addArgument(new Argument("<shell>").choices(["bash", "zsh", "fish"])),
    (_options, [shell]) => completion().print(all, shell ?? ""),
  );
  // What the completion calls at each press of the key.
  does(all.command("complete", { hidden: true }).argument("[words...]").allowUnknownOption().helpOption(false), (_options, words) =>
    completion().answer(all, words),
  );

  all.commandsGroup("The project:");
  does<{ testName?: string }>(
    commandLine(
      all,
      "test",
      "Format, lint, types, then all tests; the real ones use Docker and Pulumi, which are installed when they are missing.",
      { stack: false },
    )
      .argument("[groups...]", "which groups: unit, property, programs, integration, plain, faults (all when none is named), majors, soak")
      .option("-t, --test-name <pattern>", "only the tests whose name matches"),
    ({ testName }, groups) => quality().test(groups, testName),
  );
  does(
    commandLine(all, "check", "Format, lint and types of all: TypeScript, shell, Dockerfiles, Go. Tools that are missing are installed.", {
      stack: false,
    }),
    () => quality().check(),
  );
  does(
    commandLine(
      all,
      "test:mutation",
      "Changes core/ in small ways, one at a time, and looks whether a test notices; an hour and more for all of it. See tests/mutation.md.",
      { stack: false },
    )
      .argument("[options...]", "Stryker's own, such as --mutate core/grammar/lsn.ts, or --force")
      .allowUnknownOption(),
    (_options, given) => quality().testMutation(given),
  );
  does<{ list?: boolean }>(
    commandLine(all, "test:breaks", "Breaks the product in the ways of tests/breaks, one at a time, and looks whether the tests notice.", {
      stack: false,
    })
      .argument("[breaks...]", "which ones, by the names of their patches; all when none is named")
      .option("-l, --list", "list them, run nothing"),
    ({ list }, named) => (require("../tests/breaks/run") as typeof import("../tests/breaks/run")).testBreaks(named, list ?? false),
  );
  does<{ trials: string; dataMib: string; failover?: boolean; json?: boolean }>(
    commandLine(all, "bench", "Times pulumi up, unchanged up and destroy beside the same pair built by hand. It uses stacks of its own.", {
      stack: false,
      json: true,
    })
      .option("-n, --trials <count>", "how often, after one trial to warm up", "5")
      .option("--failover", "time failover, rejoin and switchover instead")
      .option("--data-mib <MiB>", "with --failover: how much data the nodes hold", "1024"),
    ({ trials, dataMib, failover, json }) =>
      (require("../bench") as typeof import("../bench")).bench({
        trials: wholeNumber("--trials", trials, 1, 99),
        dataMib: wholeNumber("--data-mib", dataMib, 0, 99_999),
        failover: failover ?? false,
        json: json ?? false,
      }),
  );
  return all;
}

const deploy = (): typeof import("../operations/deploy/deploy") =>
  require("../operations/deploy/deploy") as typeof import("../operations/deploy/deploy");
const setup = (): typeof import("../operations/setup") => require("../operations/setup") as typeof import("../operations/setup");
const quality = (): typeof import("../tests/quality") => require("../tests/quality") as typeof import("../tests/quality");
const completion = (): typeof import("./completion") => require("./completion") as typeof import("./completion");

/** An option's number. @throws UserError */
function wholeNumber(option: string, text: string, least = 0, most = 999_999_999_999_999): number {
  const number = Number(text);
  if (!/^\d{1,15}$/.test(text) || number < least || number > most) {
    throw new UserError(`${option} is "${text}"; allowed is a whole number from ${least}${most > 999_999 ? "" : ` to ${most}`}`);
  }
  return number;
}

export const run = (): Promise<void> => runProgram(main());
