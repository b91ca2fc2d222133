import { UserError } from "../errors";
import { engineVersion, installEngine } from "./engine";
import { imagePresent, provideImage } from "./image";
import { type Machine, THIS_MACHINE } from "./machine";
import type { Report } from "./progress";
import { partPresent, parts, providePart } from "./pulumi";

/** One thing that has to be there. */
export interface Step {
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
export function steps(wanted: Wanted = {}, machine: Machine = THIS_MACHINE): Step[] {
  const { engines = [machine.currentEngine()], image } = wanted;
  const at = (engine: string): string => (engines.length === 1 ? "" : ` at ${engine}`);
  const perEngine = (engine: string): Step[] => [
    {
      title: `Docker engine${at(engine)}`,
      present: async () => (await engineVersion(engine, machine)) !== undefined,
      provide: (report) => installEngine(engine, report, machine),
    },
    ...(image === undefined
      ? []
      : [
          {
            title: `image ${image}${at(engine)}`,
            present: () => imagePresent(image, engine, machine),
            provide: (report: Report) => provideImage(image, engine, report, machine),
          },
        ]),
  ];
  return [
    ...engines.flatMap(perEngine),
    ...parts().map((part): Step => ({
      title: part.title,
      present: () => Promise.resolve(partPresent(part, machine)),
      provide: (report) => providePart(part, report, machine),
    })),
  ];
}

/** What is there and what is missing. */
export async function checkSetup(wanted: Wanted = {}, machine: Machine = THIS_MACHINE): Promise<{ title: string; present: boolean }[]> {
  return Promise.all(steps(wanted, machine).map(async (step) => ({ title: step.title, present: await step.present() })));
}

/**
 * Installs one thing, if it is missing now: another step, or a run that was interrupted, may have brought it.
 *
 * @returns whether it was missing.
 * @throws UserError also when it is missing still.
 */
export async function provide(step: Step, report: Report): Promise<boolean> {
  if (await step.present()) {
    return false;
  }
  await step.provide(report);
  if (!(await step.present())) {
    throw new UserError(`${step.title} is still missing after its installation`);
  }
  return true;
}
