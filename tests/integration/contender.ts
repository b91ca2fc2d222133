import { acquireLock, lockHolder, type LockOptions, type LockPlace, type StackLock } from "../../operations/change/lock";

/** A process that wants a stack's lock, for lock.test.ts: it does what its parent tells it, one thing at a time. */

export interface Task {
  act: "take" | "give" | "ask";
  place: LockPlace;
  who?: string;
  options?: LockOptions;
}
export interface Outcome {
  /** What went wrong, when something did. */
  error?: string;
  /** ask: who holds it. */
  holder?: string;
  /** What it said on the way. */
  said: string[];
  /** Milliseconds. */
  took: number;
}

const held: StackLock[] = [];

async function carryOut({ act, place, who = "contender", options }: Task): Promise<Outcome> {
  const said: string[] = [];
  const start = performance.now();
  const outcome: Omit<Outcome, "took"> = { said };
  try {
    if (act === "take") {
      held.unshift(await acquireLock(place, who, { ...options, say: (line) => void said.push(line) }));
    } else if (act === "give") {
      for (const lock of held.splice(0)) {
        await lock.release();
      }
    } else {
      const holder = await lockHolder(place);
      Object.assign(outcome, holder === undefined ? {} : { holder });
    }
  } catch (error) {
    outcome.error = (error as Error).message;
  }
  return { ...outcome, took: performance.now() - start };
}

process.on("message", (task: Task) => void carryOut(task).then((outcome) => process.send?.(outcome)));
process.send?.("ready");
