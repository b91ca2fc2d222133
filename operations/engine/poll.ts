import { UserError } from "../errors";

/**
 * Waits for all of them, also when one fails: what is still under way would come after what is done about the failure.
 * @throws the first failure.
 */
export async function allDone(tasks: readonly Promise<unknown>[]): Promise<void> {
  const failed = (await Promise.allSettled(tasks)).find((result) => result.status === "rejected");
  if (failed !== undefined) {
    throw failed.reason;
  }
}

/** Waits for a condition; @throws UserError that says what was waited for. */
export async function until(what: string, seconds: number, condition: () => Promise<boolean>): Promise<true> {
  const deadline = performance.now() + seconds * 1000;
  for (;;) {
    if (await condition()) {
      return true;
    }
    if (performance.now() > deadline) {
      throw new UserError(`waited ${seconds} s for ${what}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
