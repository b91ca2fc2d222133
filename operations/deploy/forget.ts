import { PROJECT, slotName } from "../../core/model/names";
import { enginesOf, type PlacedConfig } from "../../core/model/place";
import { notOneWriter } from "../../core/judgement/findings";
import { exclusively } from "../change/exclusively";
import { placedHere } from "../engine/dockerHost";
import { observe } from "../engine/observe";
import { UserError } from "../errors";
import { endingAt, knownNodes, livingResources, nameIn, type PriorState, readPrior } from "../guard/prior";
import { everyNode, survey } from "../guard/survey";
import { explain, npmRun } from "../look/advice";
import { type ExportedResource, exportState, importState, withoutResources } from "./state";
import { readStackConfig } from "./workspace";

/**
 * `npm run forget -- NODE`: the Docker host of a node is gone for good, so nothing of the node can be removed there. Takes it
 * out of the state; the next `up`, with the node taken out of the config, drops its slot on the others. Returns the exit code.
 *
 * @throws UserError when the host answers, when no other node is primary, or when the node is still in the config.
 */
export async function forget(stack: string, name: string): Promise<number> {
  const config = placedHere(readStackConfig(stack));
  if (config.nodes.some((node) => node.name === name)) {
    throw new UserError(
      `node ${name} is in nodes in Pulumi.${stack}.yaml, so the next up would make it anew. Take it out, then run: ${npmRun("forget", stack, name)}`,
    );
  }
  return exclusively(config, "forget", async () => {
    const state = await exportState(stack);
    const resources = state.deployment.resources ?? [];
    const prior = readPrior(livingResources(resources));
    await refuseUnlessGone(config, prior, name);
    const goes = forgotten(resources, prior, name, new Set(enginesOf(config.nodes)));
    // What the next up removes for the node may be protected, as all of such a stack is.
    const ending = endingAt(prior, prior.places.get(name));
    const follows = [`${name}-slot-create`, ...(ending ? [`image${ending}`, `identity${ending}`] : [])];
    const rest = withoutResources(resources, goes).map((resource) =>
      follows.includes(nameIn(resource.urn)) ? { ...resource, protect: false } : resource,
    );
    await importState(stack, state, rest);
    console.log(
      `node ${name} is out of the state of stack ${stack}; its volume on the host that is gone is not removed. Next: ${npmRun("up", stack)}, which drops its slot ${slotName(name)} and tells the others`,
    );
    return 0;
  });
}

/** @throws UserError */
async function refuseUnlessGone(config: PlacedConfig, prior: PriorState, name: string): Promise<void> {
  const { stack } = config;
  if (!knownNodes(prior).includes(name)) {
    throw new UserError(`the state of stack "${stack}" has no node "${name}"; it has ${knownNodes(prior).join(", ") || "none"}`);
  }
  const nodes = everyNode(config, prior);
  const place = nodes.find((node) => node.name === name)?.place;
  const seen = await survey(config, nodes);
  if ("unreachable" in seen) {
    throw new UserError(seen.unreachable, 2);
  }
  if (place === undefined || !seen.silent.has(place.engine)) {
    throw new UserError(
      `the Docker host of node ${name}${place === undefined ? "" : ` at ${place.engine}`} answers, so there is nothing to forget: ${npmRun("up", stack)} removes the node and all that it has`,
    );
  }
  const nobody = notOneWriter(await observe(config));
  if (nobody !== undefined) {
    throw new UserError(`node ${name} may hold the newest data: ${explain(nobody, stack)}`);
  }
}

/**
 * What is to go: the node, and, when no other node is on its engine, what that engine has of the stack.
 *
 * @param stay The engines of the nodes that stay.
 */
export function forgotten(
  resources: readonly ExportedResource[],
  prior: PriorState,
  name: string,
  stay: ReadonlySet<string>,
): (resource: ExportedResource) => boolean {
  const roots = resources.filter(
    ({ urn, type }) =>
      nameIn(urn) === name && ["Node", "Primary", "StreamingSecondary"].some((kind) => type === `${PROJECT}:index:${kind}`),
  );
  const urns = new Set(roots.map(({ urn }) => urn));
  const engine = prior.places.get(name);
  const ending = endingAt(prior, engine);
  const ownHost =
    engine !== undefined && !stay.has(engine) && ![...prior.places].some(([other, host]) => other !== name && host === engine);
  return ({ urn, type, parent }) =>
    urns.has(urn) ||
    (parent !== undefined && urns.has(parent)) ||
    // The provider goes with the next up: nothing is left that needs it.
    (ownHost && ending !== undefined && type === "docker:index/network:Network" && nameIn(urn) === `network${ending}`);
}
