import { UserError } from "../errors";

/** Time as a program sees it. Whoever waits is handed one, so that a test of it takes none. */
export interface Clock {
  /** Milliseconds of a clock that nobody sets. Only differences mean something. */
  now(): number;
  pause(milliseconds: number): Promise<void>;
}

/** The one of this machine. */
export const CLOCK: Clock = {
  now: () => performance.now(),
  pause: (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds)),
};

/** How somebody waits. */
export interface Patience {
  /** How long at the most. */
  seconds: number;
  /** Milliseconds between an answer and the next question. @default 100 */
  every?: number;
  /** @default this machine's */
  clock?: Clock;
}

/** What came of asking again and again. */
export interface Polled<T> {
  /** The last answer. */
  answer: T;
  /** Whether it was the right one; else the time was up. */
  right: boolean;
  /** How long it took. */
  seconds: number;
}

/** Asks until the answer is right or the time is up; at least once. */
export async function poll<T>(ask: () => Promise<T>, isRight: (answer: T) => boolean, patience: Patience): Promise<Polled<T>> {
  const { seconds, every = 100, clock = CLOCK } = patience;
  const start = clock.now();
  for (;;) {
    const answer = await ask();
    const right = isRight(answer);
    const taken = (clock.now() - start) / 1000;
    if (right || taken > seconds) {
      return { answer, right, seconds: taken };
    }
    await clock.pause(every);
  }
}

/** Waits for a condition. @throws UserError that says what was waited for. */
export async function until(
  what: string,
  seconds: number,
  condition: () => Promise<boolean>,
  how: Omit<Patience, "seconds"> = {},
): Promise<true> {
  const { right } = await poll(condition, Boolean, { ...how, seconds });
  if (!right) {
    throw new UserError(`waited ${seconds} s for ${what}`);
  }
  return true;
}

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
