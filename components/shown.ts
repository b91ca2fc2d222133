import * as pulumi from "@pulumi/pulumi";
import { ConfigError } from "../core/config";
import { UserError } from "../operations/errors";

/**
 * An error as Pulumi is to show it: one line when it is meant for the user, else with its stack trace as text. Never as an
 * object that has a stack: Pulumi prints that with all that hangs on it, which took 40 s and 2.7 GB for the rejection of an
 * async program.
 */
export function shown(error: unknown): pulumi.RunError {
  const forUser = error instanceof ConfigError || error instanceof UserError;
  const text = error instanceof Error ? (forUser ? error.message : (error.stack ?? error.message)) : String(error);
  return Object.assign(new pulumi.RunError(text), { stack: "" });
}
