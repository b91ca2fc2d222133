import type { StackConfig } from "../../core/config";
import { homeOf, type PlacedConfig } from "../../core/model/place";
import { containerName, networkName, volumeName } from "../../core/model/names";
import { notOneWriter } from "../../core/judgement/findings";
import { isPrimary } from "../../core/judgement/observation";
import { wordsOf } from "../../core/judgement/words";
import { npmRun } from "../look/advice";
import { endingAt, isNew, knownNodes, type PriorState } from "./prior";
import { type EngineFacts, everyNode, factsOf, type Found, isSpread, type Survey } from "./survey";

/** Why `preview`, `up` and `down` go no further. Pure: what was found is judged, nothing is asked. */

/** What is judged. */
export interface Case {
  config: PlacedConfig;
  prior: PriorState;
  survey: Survey;
}

const NOTHING = "Nothing was changed.";

/** One of the stack's engines is another one than it was. The ID of an engine can change; then its containers are still there. */
export function wrongEngine(found: Case): string | undefined {
  const { config, prior, survey } = found;
  const { engine } = factsOf(survey, homeOf(config)) ?? survey.engines[0];
  if (isNew(prior)) {
    return undefined;
  }
  if (isSpread(config, prior)) {
    return movedNode(found);
  }
  // The stack may have begun on another engine than the one that it is on.
  const [ending = ""] = prior.providers.keys();
  const recorded = (ending === "" ? prior.identity?.engine : prior.engines.get(ending)) ?? "";
  if (recorded === engine) {
    return undefined;
  }
  const ids = new Set(survey.found.map((object) => object.id));
  if ([...prior.containers.values()].some((id) => ids.has(id))) {
    return undefined;
  }
  const dockerHost = homeOf(config);
  if (recorded === "") {
    // Version 0.1.0 noted no ID: only where nothing at all is found it must be the wrong one.
    return prior.containers.size === 0 || [...prior.volumes.values()].some((id) => ids.has(id))
      ? undefined
      : `nothing of stack "${config.stack}" is on the Docker engine at ${dockerHost}, and its state has ${prior.containers.size} containers. ${NOTHING} ` +
          `Choose its engine with DOCKER_HOST or docker context use NAME; when all of it is gone for good, run pulumi destroy first`;
  }
  return (
    `stack "${config.stack}" lives on another Docker engine (ID ${recorded}) than the one at ${dockerHost} (ID ${engine}). ${NOTHING} ` +
    `Choose its engine with DOCKER_HOST or docker context use NAME, or the config key nodes[].dockerHost; to build another stack here, choose another stack name; when that engine is gone for good, run pulumi destroy first`
  );
}

/**
 * A node's data is on one engine, and its place in the config is another: it would be made anew there. Another path to the
 * same engine is none, as long as that answers.
 */
function movedNode({ config, prior, survey }: Case): string | undefined {
  for (const { name, place } of config.nodes) {
    const id = prior.containers.get(name) ?? prior.volumes.get(name);
    const was = prior.places.get(name);
    if (id === undefined || was === undefined) {
      continue;
    }
    const at = survey.found.find((object) => object.id === id)?.dockerHost;
    const engine = factsOf(survey, place.engine)?.engine;
    const ending = endingAt(prior, was);
    const recorded = ending === undefined ? undefined : prior.engines.get(ending);
    const same = at === place.engine || (at === undefined && (engine === undefined || engine === recorded));
    if (was === place.engine ? !same : !same || engine === undefined) {
      return (
        `node ${name} of stack "${config.stack}" lives on the Docker engine at ${was}${recorded === undefined ? "" : ` (ID ${recorded})`}, and the one at ${place.engine} ${engine === undefined ? "does not answer" : `is another one (ID ${engine})`}. ${NOTHING} ` +
        `Put back dockerHost of node ${name} in Pulumi.${config.stack}.yaml; to move a node, add one with another name there and take ${name} out when it streams`
      );
    }
  }
  return undefined;
}

/** Two ways to one engine would be two networks of one name there. */
export function oneEngineTwice({ config, survey }: Case): string | undefined {
  for (const { dockerHost, engine } of survey.engines) {
    const other = survey.engines.find((one) => one.engine === engine && one.dockerHost !== dockerHost);
    if (other !== undefined) {
      return `${dockerHost} and ${other.dockerHost} are one Docker engine (ID ${engine}). ${NOTHING} Write it the same way for every node in Pulumi.${config.stack}.yaml`;
    }
  }
  return undefined;
}

/** The oldest Docker that will do. Its successor of 2020 is the first with cgroups of both kinds, and with what images are made by. */
const OLDEST = [20, 10] as const;

/** An engine that is older than that. */
export function oldEngine({ survey }: Case): string | undefined {
  for (const { dockerHost, version } of survey.engines) {
    const [, major, minor] = /^(\d+)\.(\d+)/.exec(version)?.map(Number) ?? [];
    // What counts from 1 to 5 is another program that speaks Docker's language.
    if (major !== undefined && minor !== undefined && major > 5 && (major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1]))) {
      return `the Docker engine at ${dockerHost} is version ${version}, and this project needs ${OLDEST.join(".")} or later. ${NOTHING} Upgrade it there: https://docs.docker.com/engine/install/`;
    }
  }
  return undefined;
}

/** How far the clocks of two hosts may be apart, in seconds. */
const CLOCKS_APART = 60;

/** Two engines whose clocks are further apart than that, as far as it is certain; undefined when none are. */
export function clocksApart({ survey }: Case): string | undefined {
  const known = survey.engines.flatMap(({ dockerHost, clock }) =>
    clock === undefined ? [] : [{ dockerHost, least: clock[0], most: clock[1] }],
  );
  const pairs = known.flatMap((ahead) => known.map((behind) => ({ ahead, behind, apart: ahead.least - behind.most })));
  const [worst] = pairs.sort((a, b) => b.apart - a.apart);
  if (worst === undefined || worst.apart <= CLOCKS_APART) {
    return undefined;
  }
  const { ahead, behind, apart } = worst;
  return `the clock of ${ahead.dockerHost} is ${Math.floor(apart)} s ahead of that of ${behind.dockerHost}; allowed is ${CLOCKS_APART} s, because certificates, lag in seconds and logs go by them. Set both by NTP (timedatectl set-ntp true)`;
}

/** Where a node is to be made, such clocks are refused. A stack that stands is told. */
function clocksOfNew(found: Case): string | undefined {
  const { config, prior } = found;
  const why = config.nodes.every(({ name }) => prior.containers.has(name)) ? undefined : clocksApart(found);
  return why === undefined ? undefined : `${why}. ${NOTHING}`;
}

/** A node that is not there yet cannot be made on an engine that does not answer. */
export function silentEngine(found: Case): string | undefined {
  const { config, prior, survey } = found;
  const [node] = config.nodes.filter(({ name, place }) => survey.silent.has(place.engine) && !prior.containers.has(name));
  return node === undefined ? undefined : `${survey.silent.get(node.place.engine)}. Node ${node.name} is to be made there. ${NOTHING}`;
}

/** Whether an object is this state's own: it carries its identity, or, from before there were any, the state knows it. */
export function isOwn(prior: PriorState, object: Found): boolean {
  return isKnown(prior, object) || (prior.identity !== undefined && object.identity === prior.identity.id);
}

/** Whether the state knows an object. */
export function isKnown(prior: PriorState, object: Found): boolean {
  switch (object.kind) {
    case "container":
      return [...prior.containers.values()].includes(object.id);
    case "volume":
      return [...prior.volumes.values()].includes(object.name);
    case "network":
      return prior.networks.includes(object.id);
  }
}

/**
 * Somebody else's stack has the name. Volumes alone are data that was kept, and are taken on; volumes of another identity
 * beside a state that has one are not.
 */
export function foreign({ config, prior, survey }: Case): string | undefined {
  const others = survey.found.filter((object) => !isOwn(prior, object));
  const inTheWay = others.filter(
    (object) =>
      object.kind !== "volume" || (!isNew(prior) && prior.identity !== undefined && object.identity !== "" && wanted(config, object)),
  );
  if (inTheWay.length === 0) {
    return undefined;
  }
  const whose = [...new Set(inTheWay.map((object) => object.madeBy).filter(Boolean))];
  return (
    `${inTheWay.map((object) => `${object.kind} ${object.name}`).join(", ")} of stack "${config.stack}" ${inTheWay.length === 1 ? "is" : "are"} there, and this state does not know ${inTheWay.length === 1 ? "it" : "them"} ` +
    `(made by ${whose.length > 0 ? whose.join(", ") : "version 0.1.0 or by hand"}). ${NOTHING} ` +
    `Use the backend that the stack was made with (PULUMI_BACKEND_URL or pulumi login); when its state is lost, take the stack over with: ${npmRun("adopt", config.stack)}; or choose another stack name`
  );
}

/** Whether a volume is one that the config asks for. */
const wanted = (config: StackConfig, object: Found): boolean =>
  config.nodes.some((node) => volumeName(config.stack, node.name) === object.name);

/**
 * Nodes that run, carry this state's identity, and are not in it: the state has lost them, by a refresh on another engine or
 * because an older state was put back. One is what an interrupted run leaves when it replaces nodes one at a time.
 */
export function lostFromState(found: Case): string | undefined {
  const { config, prior } = found;
  const lost = debris(found).filter(
    (object) => object.kind === "container" && object.state === "running" && prior.complete.has(object.node),
  );
  if (lost.length < 2) {
    return undefined;
  }
  return (
    `${lost.map((object) => object.name).join(", ")} of stack "${config.stack}" run, and this state, which has made them, has lost them (a refresh on another engine, or an older state put back). ${NOTHING} ` +
    `Put the right state back (pulumi stack history, pulumi stack export --version N, pulumi stack import); or empty it (pulumi stack rm --force --preserve-config) and run: ${npmRun("adopt", config.stack)}`
  );
}

/** Every Docker name follows the stack's: under another name nothing of it would be found, and everything be made anew. */
export function renamed({ config, prior }: Case): string | undefined {
  const wrong = [...prior.volumes].find(([node, name]) => name !== volumeName(config.stack, node));
  return wrong === undefined
    ? undefined
    : `stack "${config.stack}" has the volume ${wrong[1]} of node ${wrong[0]}: it was renamed, and its Docker objects were not. ${NOTHING} Rename it back: pulumi stack rename`;
}

/** A node that is taken out while it is primary, or while nobody is, would take the newest data with it. */
export function lostPrimary({ config, prior, survey }: Case): string | undefined {
  const { stack, nodes } = config;
  const dropped = knownNodes(prior).filter((name) => !nodes.some((node) => node.name === name));
  if (dropped.length === 0) {
    return undefined;
  }
  const primaries = survey.observed.filter(isPrimary).map((node) => node.name);
  const lost = primaries.filter((name) => dropped.includes(name));
  const to = nodes.find((node) => !lost.includes(node.name))?.name ?? "";
  if (lost.length > 0) {
    return (
      `${lost.join(" and ")} is primary, and nodes in the config of stack "${stack}" no longer has it, so its data would be deleted. ${NOTHING} ` +
      `Put it back, run: ${npmRun("switchover", stack)} --to ${to}; then take it out`
    );
  }
  // What is on a host that does not answer is there for all that anybody knows.
  const isAway = (name: string): boolean => survey.silent.has(prior.places.get(name) ?? "");
  const there = dropped.filter(
    (name) => isAway(name) || survey.found.some((object) => object.kind === "volume" && object.name === volumeName(stack, name)),
  );
  const nobody = notOneWriter(survey.observed);
  if (nobody?.kind === "no-primary" && there.length > 0) {
    return (
      `${wordsOf(nobody)}, so nobody can tell whether ${there.join(" or ")}, which nodes in the config of stack "${stack}" no longer has, holds the newest data. ${NOTHING} ` +
      `Put it back and run: ${npmRun("status", stack)}`
    );
  }
  return undefined;
}

/**
 * A port that another container holds; undefined when none does.
 *
 * @returns also the nodes whose port somebody else than Docker may hold, for whoever can look there.
 */
export function takenPort({ config, survey }: Case): { refusal?: string; ask: StackConfig["nodes"] } {
  const ask: StackConfig["nodes"] = [];
  for (const node of config.nodes) {
    const own = containerName(config.stack, node.name);
    const ports = factsOf(survey, node.place.engine)?.ports;
    if (ports === undefined) {
      continue;
    }
    const holders = ports.get(node.port) ?? [];
    if (holders.includes(own)) {
      continue;
    }
    const [other] = holders;
    // A node of this stack that gives the port away in this very run is not in the way.
    if (other !== undefined && !survey.found.some((object) => object.name === other)) {
      return { refusal: portTaken(config, node, `the container ${other}`), ask };
    }
    if (other === undefined && !comesAndGoes(survey, ports, own)) {
      ask.push(node);
    }
  }
  return { ask };
}

/** Whether a container stops again and again: it may have held no port at the look, and hold its own a moment later. */
function comesAndGoes({ found }: Survey, ports: EngineFacts["ports"], name: string): boolean {
  const own = found.find((object) => object.kind === "container" && object.name === name);
  return own?.state === "restarting" || (own?.state === "running" && ![...ports.values()].some((holders) => holders.includes(name)));
}

/** What to say of a port that somebody holds. */
export function portTaken(config: StackConfig, node: StackConfig["nodes"][number], by: string): string {
  return `port ${node.port} of node ${node.name} is taken on ${node.address} by ${by}. Stop that, or give node ${node.name} another port in Pulumi.${config.stack}.yaml`;
}

/** Every refusal that what was found gives, the most important first. */
export function refusal(found: Case): string | undefined {
  const place = oneEngineTwice(found) ?? oldEngine(found) ?? wrongEngine(found) ?? silentEngine(found) ?? clocksOfNew(found);
  return renamed(found) ?? place ?? foreign(found) ?? lostFromState(found) ?? lostPrimary(found) ?? takenPort(found).refusal;
}

/** What an interrupted run of this very state left behind and could not note down. Volumes are never among it. */
export function debris({ prior, survey }: Case): Found[] {
  return survey.found.filter((object) => object.kind !== "volume" && isOwn(prior, object) && !isKnown(prior, object));
}

/** The containers, volumes and networks that the state has and the engines have not, in words. What is on one that does not answer is not gone. */
export function gone({ config, prior, survey }: Case): string[] {
  const ids = new Set(survey.found.map((object) => object.id));
  const away = new Set(everyNode(config, prior).flatMap(({ name, place }) => (survey.silent.has(place.engine) ? [name] : [])));
  const names = (objects: ReadonlyMap<string, string>, name: (node: string) => string): string[] =>
    [...objects].filter(([node, id]) => !ids.has(id) && !away.has(node)).map(([node]) => name(node));
  return [
    ...names(prior.containers, (node) => `container ${containerName(config.stack, node)}`),
    ...names(prior.volumes, (node) => `volume ${volumeName(config.stack, node)}`),
    ...prior.networks.filter((id) => !ids.has(id) && survey.silent.size === 0).map(() => `network ${networkName(config.stack)}`),
  ];
}

/** What to say of them where the state is not refreshed: Pulumi believes it, and makes nothing anew. Undefined when nothing is gone. */
export function goneWarning(found: Case): string | undefined {
  const what = gone(found);
  return what.length === 0
    ? undefined
    : `removed from Docker by hand: ${what.join(", ")}. A refresh makes it anew, and nothing else does: pulumi up --refresh (or ${npmRun("up", found.config.stack)})`;
}
