import { enginesOf, type PlacedConfig } from "../../core/model/place";
import { acquireLock } from "./lock";
import { say } from "./report";

/**
 * Runs what fences or promotes: while it does, nothing else changes the stack.
 *
 * @param action Is told whether somebody else was at work just before.
 * @param who The command, in words, for those who have to wait for it.
 * @param seconds How long to wait for another one. @default 0
 * @throws UserError when that one still runs.
 */
export async function exclusively<T>(config: PlacedConfig, who: string, action: (waited: boolean) => Promise<T>, seconds = 0): Promise<T> {
  const lock = await acquireLock({ stack: config.stack, engines: enginesOf(config.nodes) }, who, { seconds, say });
  try {
    return await action(lock.waited);
  } finally {
    await lock.release();
  }
}
