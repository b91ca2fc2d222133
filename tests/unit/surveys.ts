import type { EngineFacts, Found, Survey } from "../../operations/guard/survey";

/** What differs from a survey of one engine that has the image and nothing of the stack; facts of an engine are the first one's. */
export type Seen = Partial<Survey & EngineFacts>;

/** A survey. @param dockerHost Where the stack's first engine is. */
export function surveyOf(dockerHost: string, changes: Seen = {}): Survey {
  const {
    engine = "engine",
    image = true,
    ports = new Map<number, string[]>(),
    dockerHost: at = dockerHost,
    version = "27.1.1",
    clock,
    ...rest
  } = changes;
  const facts = { engine, dockerHost: at, version, image, ports, ...(clock === undefined ? {} : { clock }) };
  return { engines: [facts], silent: new Map(), found: [], observed: [], ...rest };
}

/** An object of the stack's on an engine: as a rule one that runs, where it can. */
export function foundAt(dockerHost: string, kind: Found["kind"], name: string, more: Partial<Found> = {}): Found {
  return {
    ...{ kind, id: name, name, state: kind === "container" ? "running" : "", node: "", identity: "me", madeBy: "alice@laptop" },
    definition: "",
    ...{ dockerHost, ...more },
  };
}
