import execa from "execa";
import { appendFileSync, mkdirSync } from "fs";
import { join } from "path";
import { createInterface } from "readline";
import { UserError } from "../errors";
import { STATE_DIR } from "../folders";

/** Where a step says what it is doing. */
export type Report = (line: string) => void;

/** What the long steps print goes here, for the case that one fails. */
export const SETUP_LOG = join(STATE_DIR, "setup.log");

/** Seconds between two signs of life of a step that prints nothing. */
const HEARTBEAT_SECONDS = 15;

/**
 * Runs a long program. What it prints goes to the set-up log; `report` is told every 15 s that it is
 * still alive.
 *
 * @param what What the program does, for messages.
 * @param options.minutes How long it may take. @default 20
 * @param options.ownErrors How the last line begins with which the program says itself why it failed and what to do.
 * Such a program says on standard error how far it is, too: `report` gets those lines, and nothing else.
 * @throws UserError with the program's last line when it fails or takes longer than `minutes`.
 */
export async function longRun(
  what: string,
  file: string,
  args: readonly string[],
  report: Report,
  options: execa.Options & { minutes?: number; ownErrors?: string } = {},
): Promise<void> {
  const { minutes = 20, ownErrors, ...rest } = options;
  const start = performance.now();
  mkdirSync(STATE_DIR, { recursive: true, mode: 0o700 });
  const beat =
    ownErrors === undefined
      ? setInterval(
          () => report(`${what}: still at it after ${Math.round((performance.now() - start) / 1000)} s`),
          HEARTBEAT_SECONDS * 1000,
        )
      : undefined;
  try {
    const child = execa(file, [...args], { all: true, reject: false, stdin: "ignore", timeout: minutes * 60_000, ...rest });
    if (ownErrors !== undefined && child.stderr !== null) {
      createInterface({ input: child.stderr }).on("line", report);
    }
    const result = await child;
    const output = result.all ?? "";
    appendFileSync(SETUP_LOG, `--- ${what}\n${output}\n`);
    if (result.exitCode !== 0) {
      const last = output.trim().split("\n").at(-1) ?? "";
      if (ownErrors !== undefined && last.startsWith(ownErrors)) {
        throw new UserError(`${last.slice(ownErrors.length)}. The whole output is in ${SETUP_LOG}`);
      }
      const why = result.timedOut
        ? `no end after ${minutes} minutes`
        : last || String((result as { originalMessage?: string }).originalMessage);
      throw new UserError(`${what} failed: ${why}. The whole output is in ${SETUP_LOG}`);
    }
  } finally {
    clearInterval(beat);
  }
}
