import { Listr, PRESET_TIMER } from "listr2";
import { enginesOf } from "../../core/model/place";
import { readStackConfig } from "../deploy/workspace";
import { placedHere } from "../engine/dockerHost";
import { checkSetup, provide, steps, type Wanted } from "./steps";

/**
 * Installs what is missing, and only that. Each step is looked at again right before it is done, so an
 * interrupted set-up is finished by the next one.
 *
 * @throws UserError
 */
export async function setup(wanted: Wanted = {}): Promise<void> {
  if ((await checkSetup(wanted)).every((step) => step.present)) {
    return;
  }
  const tasks = new Listr<object, "default", "verbose">(
    steps(wanted).map((step) => ({
      title: step.title,
      task: async (_context: object, task): Promise<void> => {
        const wasMissing = await provide(step, (line) => {
          task.output = line;
        });
        if (!wasMissing) {
          task.skip(`${step.title}: already there`);
        }
      },
      rendererOptions: { persistentOutput: false },
    })),
    {
      rendererOptions: { collapseErrors: false, showErrorMessage: false, timer: PRESET_TIMER },
      fallbackRenderer: "verbose",
      fallbackRendererOptions: { timer: PRESET_TIMER },
    },
  );
  await tasks.run();
}

/**
 * `npm run setup`. Returns the exit code: 1 when something is missing.
 *
 * @param how.check Only report.
 */
export async function runSetup(stack: string, how: { check: boolean; json: boolean }): Promise<number> {
  const { image, nodes } = placedHere(readStackConfig(stack));
  const wanted = { image, engines: enginesOf(nodes) };
  if (!how.check) {
    await setup(wanted);
  }
  const found = await checkSetup(wanted);
  if (how.json) {
    console.log(JSON.stringify(found, undefined, 2));
  } else {
    for (const step of found) {
      console.log(`${step.present ? "there  " : "MISSING"}  ${step.title}`);
    }
  }
  return found.every((step) => step.present) ? 0 : 1;
}
