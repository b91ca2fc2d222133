import { Command, Option } from "commander";
import { isForUser, UserError } from "../operations/errors";

/** The options that the commands of a stack have. */
export interface CommonOptions {
  stack: string;
  json?: boolean;
}

const STACK_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,99}$/;

/** How a command is called: by npm's alias, or as a subcommand of the one program. */
const called = (program: string, name: string): string =>
  process.env["npm_lifecycle_event"] === undefined ? `${program} ${name}` : `npm run ${name} --`;

/** The one program of which every command is a part. */
export function program(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .exitOverride()
    .helpCommand(false)
    .showHelpAfterError("(--help lists the options)")
    .configureHelp({
      commandUsage: (command) =>
        command.parent === null ? `${name} COMMAND [options]` : `${called(name, command.name())} ${command.usage()}`.trim(),
      subcommandTerm: (command) =>
        [command.name(), ...command.registeredArguments.map((a) => (a.required ? `<${a.name()}>` : `[${a.name()}…]`))].join(" "),
    });
}

/**
 * A command with the project's conventions.
 *
 * @param features.stack Whether it is about one stack: `--stack`. @default true
 * @param features.json Whether there is something for machines to read: `--json`. @default false
 */
export function commandLine(
  parent: Command,
  name: string,
  description: string,
  features: { stack?: boolean; json?: boolean } = {},
): Command {
  const command = parent.command(name).description(description).allowExcessArguments(false);
  if (features.stack ?? true) {
    command.addOption(
      new Option("-s, --stack <name>", "the stack").default("dev").argParser((value: string) => {
        if (!STACK_NAME.test(value)) {
          throw new UserError(`--stack is "${value}"; allowed are letters, digits, ".", "_" and "-"`);
        }
        return value;
      }),
    );
  }
  if (features.json ?? false) {
    command.option("--json", "print JSON for machines");
  }
  return command;
}

/** What a command does with its options and arguments; returns the exit code. */
export function does<T>(command: Command, action: (options: T, args: string[]) => Promise<number>): void {
  command.action(async () => {
    process.exitCode = await action(command.opts() as T, command.args);
  });
}

/**
 * Runs the program with the arguments of the process. An error for the user becomes one line; anything else is a defect and
 * keeps its stack trace.
 */
export async function runProgram(program: Command): Promise<void> {
  try {
    await program.parseAsync(process.argv);
  } catch (error) {
    const code = (error as { code?: unknown }).code;
    if (typeof code === "string" && code.startsWith("commander.")) {
      process.exitCode = (error as { exitCode: number }).exitCode;
    } else if (isForUser(error)) {
      console.error(`error: ${error.message}`);
      process.exitCode = error instanceof UserError ? error.exitCode : 1;
    } else {
      console.error(error);
      process.exitCode = 1;
    }
  }
}
