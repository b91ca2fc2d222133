import { Command } from "commander";
import { isForUser, UserError } from "../operations/errors";

/** The options that every command has. */
export interface CommonOptions {
  stack: string;
  json?: boolean;
}

const STACK_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,99}$/;

/** A command line with the project's conventions: `--stack`, and `--json` where there is something to read. */
export function commandLine(name: string, description: string, features: { json?: boolean } = {}): Command {
  const program = new Command(`npm run ${name} --`).description(description).option("-s, --stack <name>", "the stack", "dev");
  if (features.json ?? false) {
    program.option("--json", "print JSON for machines");
  }
  return program.showHelpAfterError("(--help lists the options)").allowExcessArguments(false);
}

/**
 * Runs a command: parses the arguments, hands over to `action`, and turns what it returns into the exit
 * code. An error for the user becomes one line; anything else is a defect and keeps its stack trace.
 */
export async function runCommand<T extends CommonOptions>(
  program: Command,
  action: (options: T, args: string[]) => Promise<number>,
): Promise<void> {
  program.exitOverride();
  try {
    program.parse(process.argv);
    const options = program.opts<T>();
    if (!STACK_NAME.test(options.stack)) {
      throw new UserError(`--stack is "${options.stack}"; allowed are letters, digits, ".", "_" and "-"`);
    }
    process.exitCode = await action(options, program.args);
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
