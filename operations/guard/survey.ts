import { imageName } from "../../core/model/image";
import { byName, LABELS, labelsOf } from "../../core/model/names";
import type { Observation } from "../../core/judgement/observation";
import { enginesOf, homeOf, type PlacedConfig, placedNode, type PlacedNode } from "../../core/model/place";
import type { Ran } from "../engine/docker";
import { Engine } from "../engine/engine";
import { firstLine, UserError } from "../errors";
import { observe } from "../engine/observe";
import { knownNodes, type PriorState } from "./prior";

/** A Docker object that carries the stack's name. */
export interface Found {
  kind: "container" | "volume" | "network";
  /** A volume has none but its name. */
  id: string;
  name: string;
  /** Of a container: Docker's word for it. */
  state: string;
  /** The node that it belongs to; empty when to none. */
  node: string;
  /** Which state made it; empty for version 0.1.0 and for what was made by hand. */
  identity: string;
  madeBy: string;
  /** Of a container: what it was made with, see components/service.ts; empty where that was not noted. */
  definition: string;
  /** The engine that has it, a DOCKER_HOST value. */
  dockerHost: string;
}

/** A Docker engine that answers. */
export interface EngineFacts {
  /** The engine's own ID. */
  engine: string;
  dockerHost: string;
  /** Docker's version there, as it says it; empty when it does not. */
  version: string;
  /** How far its clock is ahead of this machine's, in seconds: at least, and at most. @default it does not say */
  clock?: readonly [least: number, most: number];
  /** Whether the engine has the image. */
  image: boolean;
  /** The names of the containers that hold a published TCP port, by port. */
  ports: ReadonlyMap<number, string[]>;
}

/** What there is on the stack's Docker engines, asked once, all at the same time. */
export interface Survey {
  /** The engines that answer; that of what belongs to no node is the first one, when it does. At least one. */
  engines: readonly [EngineFacts, ...EngineFacts[]];
  /** Why the others do not, in one line, by DOCKER_HOST value. */
  silent: ReadonlyMap<string, string>;
  found: Found[];
  /** Every node of the config and of the state. */
  observed: Observation[];
}

/** What is known of one engine; undefined when it does not answer. */
export const factsOf = ({ engines }: Survey, dockerHost: string): EngineFacts | undefined =>
  engines.find((engine) => engine.dockerHost === dockerHost);

const TIMEOUT = 10_000;
const LABEL_FORMAT = [LABELS.stack, LABELS.project, LABELS.node, LABELS.identity, LABELS.madeBy, LABELS.definition]
  .map((l) => `{{.Label "${l}"}}`)
  .join("\t");

/**
 * Asks every engine and every server of the stack.
 *
 * @param nodes Whose servers; see {@link everyNode}.
 * @returns when no engine answers, one line that says why and what to do.
 */
export async function survey(config: PlacedConfig, nodes: readonly PlacedNode[]): Promise<Survey | { unreachable: string }> {
  const hosts = [...new Set([homeOf(config), ...enginesOf(nodes)])];
  const [asked, observed] = await Promise.all([
    Promise.all(hosts.map((dockerHost) => surveyEngine(config, dockerHost))),
    observe({ ...config, nodes: [...nodes] }, { drift: true }).catch((error: unknown) => {
      if (error instanceof UserError) {
        return [];
      }
      throw error;
    }),
  ]);
  const [first, ...others] = asked.flatMap((engine) => ("unreachable" in engine ? [] : [engine]));
  if (first === undefined) {
    return { unreachable: asked.flatMap((engine) => ("unreachable" in engine ? [engine.unreachable] : []))[0] ?? "" };
  }
  const facts = ({ found: _found, ...rest }: EngineSurvey): EngineFacts => rest;
  return {
    engines: [facts(first), ...others.map(facts)],
    silent: new Map(asked.flatMap((engine, i) => ("unreachable" in engine ? [[hosts[i] ?? "", engine.unreachable] as const] : []))),
    found: [first, ...others].flatMap(({ found }) => found),
    observed,
  };
}

interface EngineSurvey extends EngineFacts {
  found: Found[];
}

async function surveyEngine(config: PlacedConfig, dockerHost: string): Promise<EngineSurvey | { unreachable: string }> {
  const engine = new Engine(dockerHost);
  const ask = (...args: string[]): Promise<Ran> => engine.run(args, { timeout: TIMEOUT, look: true });
  const asked = Date.now();
  const [{ info, answered }, containers, volumes, networks, image] = await Promise.all([
    ask("info", "--format", "{{.ID}}\t{{.ServerVersion}}\t{{.SystemTime}}").then((info) => ({ info, answered: Date.now() })),
    ask("ps", "-a", "--no-trunc", "--format", `{{.ID}}\t{{.Names}}\t{{.State}}\t${LABEL_FORMAT}\t{{.Ports}}`),
    ask("volume", "ls", "--filter", `label=${LABELS.stack}=${config.stack}`, "--format", `{{.Name}}\t{{.Name}}\t\t${LABEL_FORMAT}`),
    ask(
      "network",
      "ls",
      "--no-trunc",
      "--filter",
      `label=${LABELS.stack}=${config.stack}`,
      "--format",
      `{{.ID}}\t{{.Name}}\t\t${LABEL_FORMAT}`,
    ),
    ask("image", "inspect", "--format", "{{.Id}}", imageName(config.image)),
  ]);
  const failed = [info, containers, volumes, networks].find((result) => result.exitCode !== 0);
  const [id = "", version = "", time = ""] = info.stdout.trim().split("\t");
  if (failed !== undefined || id === "") {
    return { unreachable: whyNot(dockerHost, (failed ?? info).stderr) };
  }
  const lines = (text: string): string[][] =>
    text
      .split("\n")
      .filter(Boolean)
      .map((line) => line.split("\t"));
  const read =
    (kind: Found["kind"]) =>
    ([
      id = "",
      name = "",
      state = "",
      stack = "",
      project = "",
      node = "",
      identity = "",
      madeBy = "",
      definition = "",
    ]: string[]): Found[] =>
      stack === config.stack && project === labelsOf(stack)[LABELS.project]
        ? [{ kind, id, name, state, node, identity, madeBy, definition, dockerHost }]
        : [];
  const there = Date.parse(time);
  return {
    engine: id,
    dockerHost,
    version,
    ...(Number.isNaN(there) ? {} : { clock: [(there - answered) / 1000, (there - asked) / 1000] as const }),
    image: image.exitCode === 0,
    found: [
      ...lines(containers.stdout).flatMap(read("container")),
      ...lines(volumes.stdout).flatMap(read("volume")),
      ...lines(networks.stdout).flatMap(read("network")),
    ],
    ports: publishedPorts(lines(containers.stdout).map((fields) => [fields[1] ?? "", fields[9] ?? ""])),
  };
}

/** One line for an engine that does not answer. */
function whyNot(dockerHost: string, stderr: string): string {
  if (/ENOENT/.test(stderr)) {
    return "the command docker is not on PATH. Install Docker Engine with its command line (https://docs.docker.com/engine/install/)";
  }
  if (/permission denied/i.test(stderr)) {
    return `no permission to use the Docker engine at ${dockerHost}. Run as root, or join its group with: sudo usermod -aG docker "$USER" (then log in again)`;
  }
  return `the Docker engine at ${dockerHost} does not answer: ${firstLine(stderr).replace(/[.?]+$/, "")}. Start it, or choose another with DOCKER_HOST or docker context use NAME`;
}

/**
 * The Docker hosts of the state, as its engines are reached now: by its ID or by its containers an engine is known that the
 * config gives another path.
 */
export function reachedNow(prior: PriorState, seen: Survey): Map<string, string> {
  const now = (ending: string, host: string): string => {
    if (factsOf(seen, host) !== undefined || seen.silent.has(host)) {
      return host;
    }
    const own = [...prior.containers].filter(([node]) => prior.places.get(node) === host).map(([, id]) => id);
    return (
      seen.engines.find(({ engine }) => engine === prior.engines.get(ending))?.dockerHost ??
      seen.found.find(({ id }) => own.includes(id))?.dockerHost ??
      host
    );
  };
  return new Map([...prior.providers].map(([ending, host]) => [ending, now(ending, host)]));
}

/** Whether a stack is on several engines, or was. */
export const isSpread = (config: PlacedConfig, prior: PriorState): boolean =>
  enginesOf(config.nodes).length > 1 || prior.providers.size > 1;

/** The nodes of the config, and those that only the state knows: they may be the primary. */
export function everyNode(config: PlacedConfig, prior: PriorState): PlacedNode[] {
  const dropped = knownNodes(prior).filter((name) => !config.nodes.some((node) => node.name === name));
  // Of a stack on one engine it is that one, by whatever path it is reached now.
  const where = (name: string): string => (isSpread(config, prior) ? prior.places.get(name) : undefined) ?? homeOf(config);
  return [...config.nodes, ...dropped.sort(byName).map((name) => placedNode({ name, port: 0, address: "" }, where(name)))];
}

/** From `0.0.0.0:5432->5432/tcp, …` of `docker ps`. */
function publishedPorts(containers: readonly (readonly [string, string])[]): Map<number, string[]> {
  const ports = new Map<number, string[]>();
  for (const [name, text] of containers) {
    for (const [, from, to] of text.matchAll(/:(\d+)(?:-(\d+))?->/g)) {
      for (let port = Number(from); port <= Number(to ?? from); port += 1) {
        ports.set(port, [...new Set([...(ports.get(port) ?? []), name])]);
      }
    }
  }
  return ports;
}
