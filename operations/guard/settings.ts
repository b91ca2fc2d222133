import { type Cluster, nodeEnvironment } from "../../core/model/cluster";
import { HOST_SCRIPTS } from "../../core/model/hostScripts";
import { refusedSettings } from "../../core/settings/refused";
import { Engine } from "../engine/engine";
import { isNew, type PriorState } from "./prior";
import type { Survey } from "./survey";

/** How long the parser may be silent, in milliseconds: a helper container starts, and nothing else happens. */
const SILENCE = 60_000;

/** What is asked: PostgreSQL's parser, in a container of the image. */
export type AskParser = (engine: string, image: string, conf: string) => Promise<{ exitCode: number; stdout: string }>;

const askParser: AskParser = (engine, image, conf) =>
  new Engine(engine).script("the check of the settings", HOST_SCRIPTS.checkSettings, {
    env: { NODE_IMAGE: image, PGNODE_CONF: conf },
    silence: SILENCE,
  });

/**
 * Asks PostgreSQL about settings that differ from those that the nodes have, before anything is touched: the programs of the very
 * image that is to run them, on an engine that has it. Where none has it yet, the first node's birth asks before it makes anything.
 *
 * @returns what is wrong, in one line; undefined when nothing is, or nobody can tell.
 */
export async function settingsRefused(
  cluster: Cluster,
  prior: PriorState,
  survey: Survey | undefined,
  ask: AskParser = askParser,
): Promise<string | undefined> {
  const able = (survey?.engines ?? []).filter(({ image }) => image).map(({ dockerHost }) => dockerHost);
  const confOf = (node: string): string => nodeEnvironment(cluster, node).PGNODE_CONF;
  // Those that the stack has of itself are right.
  const isOfUser = Object.keys(cluster.settings.parameters).length > 0;
  const isOther = (node: string): boolean => (isNew(prior) ? isOfUser : prior.settings.get(node) !== confOf(node));
  // What differs from node to node is written by this program. A node's own engine has the image that will run it.
  const changed = cluster.members.filter(({ name }) => isOther(name));
  const asked = changed.find(({ place }) => able.includes(place.engine)) ?? changed[0];
  const engine = able.find((host) => host === asked?.place.engine) ?? able[0];
  if (engine === undefined || asked === undefined) {
    return undefined;
  }
  const { exitCode, stdout } = await ask(engine, cluster.image, confOf(asked.name));
  const wrong = exitCode === 1 ? refusedSettings(stdout) : [];
  return wrong.length === 0
    ? undefined
    : `PostgreSQL refuses the settings: ${wrong.join("; ")}. Nothing was changed. Fix the config key parameters in Pulumi.${cluster.stack}.yaml`;
}
