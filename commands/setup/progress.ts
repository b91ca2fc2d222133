import execa from "execa";
import { appendFileSync, mkdirSync } from "fs";
import { join } from "path";
import { UserError } from "../errors";
import { STATE_DIR } from "../workspace";

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
 * @throws UserError with the program's last line when it fails or takes longer than `minutes`.
 */
export async function longRun(
  what: string,
  file: string,
  args: readonly string[],
  report: Report,
  options: execa.Options & { minutes?: number } = {},
): Promise<void> {
  const { minutes = 20, ...rest } = options;
  const start = Date.now();
  mkdirSync(STATE_DIR, { recursive: true, mode: 0o700 });
  const beat = setInterval(
    () => report(`${what}: still at it after ${Math.round((Date.now() - start) / 1000)} s`),
    HEARTBEAT_SECONDS * 1000,
  );
  try {
    const result = await execa(file, [...args], { all: true, reject: false, stdin: "ignore", timeout: minutes * 60_000, ...rest });
    const output = result.all ?? "";
    appendFileSync(SETUP_LOG, `--- ${what}\n${output}\n`);
    if (result.exitCode !== 0) {
      const why = result.timedOut
        ? `no end after ${minutes} minutes`
        : output.trim().split("\n").at(-1) || String((result as { originalMessage?: string }).originalMessage);
      throw new UserError(`${what} failed: ${why}. The whole output is in ${SETUP_LOG}`);
    }
  } finally {
    clearInterval(beat);
  }
}
