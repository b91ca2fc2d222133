import { DEFAULTS } from "../core/config";
import { setup } from "../operations/setup";
import { benchFailover } from "./failover";
import { benchUp } from "./up";

/** `npm run bench`. Returns the exit code. */
export async function bench(how: { trials: number; dataMib: number; failover: boolean; json: boolean }): Promise<number> {
  await setup({ image: DEFAULTS.image });
  if (how.failover) {
    await benchFailover(how.trials, how.dataMib, how.json);
  } else {
    await benchUp(how.trials, how.json);
  }
  return 0;
}
