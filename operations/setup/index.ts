import { Listr, PRESET_TIMER } from "listr2";
import { enginesOf } from "../../core/model/place";
import { readStackConfig } from "../deploy/workspace";
import { currentDockerHost, placedHere } from "../engine/dockerHost";
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

/** What is to be there. */
export interface Wanted {
  /** The Docker engines, DOCKER_HOST values. @default the one that the docker command line uses */
  engines?: readonly string[];
  /** The config key `image`. @default no image: the program provides it */
  image?: string;
}

/** Everything that a command needs, in the order of installation. */
function steps({ engines = [currentDockerHost()], image }: Wanted): Step[] {
  const at = (engine: string): string => (engines.length === 1 ? "" : ` at ${engine}`);
  const perEngine = (engine: string): Step[] => [
    {
      title: `Docker engine${at(engine)}`,
      present: async () => (await engineVersion(engine)) !== undefined,
      provide: (report) => installEngine(engine, report),
    },
    ...(image === undefined
      ? []
      : [
          {
            title: `image ${image}${at(engine)}`,
            present: () => imagePresent(image, engine),
            provide: (report: Report) => provideImage(image, engine, report),
          },
        ]),
  ];
  return [
    ...engines.flatMap(perEngine),
    ...parts().map((part): Step => ({
      title: part.title,
      present: () => Promise.resolve(partPresent(part)),
      provide: (report) => providePart(part, report),
    })),
  ];
}

/** What is there and what is missing. */
export async function checkSetup(wanted: Wanted = {}): Promise<{ title: string; present: boolean }[]> {
  return Promise.all(steps(wanted).map(async (step) => ({ title: step.title, present: await step.present() })));
}

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
