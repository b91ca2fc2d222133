import type { Clock } from "../../operations/engine/poll";

/** A clock that only moves when somebody waits for it; `paused` is what was waited, in milliseconds. */
export function still(): Clock & { paused: number[] } {
  let now = 0;
  const paused: number[] = [];
  return {
    paused,
    now: () => now,
    pause: (milliseconds) => {
      paused.push(milliseconds);
      now += milliseconds;
      return Promise.resolve();
    },
  };
}
