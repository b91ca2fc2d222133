import { Listr, PRESET_TIMER } from "listr2";
import { readStackConfig } from "../deploy/workspace";
import { UserError } from "../errors";
import { engineVersion, installEngine } from "./engine";
import { imagePresent, provideImage } from "./image";
import { partPresent, parts, providePart } from "./pulumi";
import type { Report } from "./progress";

/** One thing that has to be there. */
interface Step {
  title: string;
  present: () => Promise<boolean>;
  provide: (report: Report) => Promise<void>;
}

/** Everything that a command needs, in the order of installation. */
function steps(image: string | undefined): Step[] {
  return [
    { title: "Docker engine", present: async () => (await engineVersion()) !== undefined, provide: installEngine },
    ...(image === undefined
      ? []
      : [{ title: `image ${image}`, present: () => imagePresent(image), provide: (report: Report) => provideImage(image, report) }]),
    ...parts().map((part): Step => ({
      title: part.title,
      present: () => Promise.resolve(partPresent(part)),
      provide: (report) => providePart(part, report),
    })),
  ];
}

/** What is there and what is missing. */
export async function checkSetup(image?: string): Promise<{ title: string; present: boolean }[]> {
  return Promise.all(steps(image).map(async (step) => ({ title: step.title, present: await step.present() })));
}

/**
 * Installs what is missing, and only that. Each step is looked at again right before it is done, so an
 * interrupted set-up is finished by the next one.
 *
 * @param image The config key `image`. @default no image: the program provides it
 * @throws UserError
 */
export async function setup(image?: string): Promise<void> {
  if ((await checkSetup(image)).every((step) => step.present)) {
    return;
  }
  const tasks = new Listr<object, "default", "verbose">(
    steps(image).map((step) => ({
      title: step.title,
      task: async (_context: object, task): Promise<void> => {
        if (await step.present()) {
          task.skip(`${step.title}: already there`);
          return;
        }
        await step.provide((line) => {
          task.output = line;
        });
        if (!(await step.present())) {
          throw new UserError(`${step.title} is still missing after its installation`);
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
  const { image } = readStackConfig(stack);
  if (!how.check) {
    await setup(image);
  }
  const found = await checkSetup(image);
  if (how.json) {
    console.log(JSON.stringify(found, undefined, 2));
  } else {
    for (const step of found) {
      console.log(`${step.present ? "there  " : "MISSING"}  ${step.title}`);
    }
  }
  return found.every((step) => step.present) ? 0 : 1;
}
