import { ConfigError } from "../core/config";

/** A mistake of the user or a fact of the machine: shown as one line, never with a stack trace. */
export class UserError extends Error {
  public constructor(
    message: string,
    /** The exit code. @default 1 */
    public readonly exitCode = 1,
  ) {
    super(message);
    this.name = "UserError";
  }
}

/** Whether an error's message is meant for the user as it is. */
export function isForUser(error: unknown): error is Error {
  return error instanceof UserError || error instanceof ConfigError;
}

/** The first line of what a program said, for a message of one line. */
export function firstLine(text: string): string {
  return text.trim().split("\n")[0] || "no reason given";
}
