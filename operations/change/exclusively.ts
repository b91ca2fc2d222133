import { enginesOf, type PlacedConfig } from "../../core/model/place";
import { acquireLock } from "./lock";
import { say } from "./report";

/**
 * Runs what fences or promotes: while it does, nothing else changes the stack.
 *
 * @param action Is told whether somebody else was at work just before.
 * @param who The command, in words, for those who have to wait for it.
 * @param how.seconds How long to wait for another one. @default 0
 * @param how.lock What takes the stack's lock. @default the real one
 * @throws UserError when that one still runs.
 */
export async function exclusively<T>(
  config: PlacedConfig,
  who: string,
  action: (waited: boolean) => Promise<T>,
  how: { seconds?: number; lock?: typeof acquireLock } = {},
): Promise<T> {
  const { seconds = 0, lock = acquireLock } = how;
  const held = await lock({ stack: config.stack, engines: enginesOf(config.nodes) }, who, { seconds, say });
  try {
    return await action(held.waited);
  } finally {
    await held.release();
  }
}
