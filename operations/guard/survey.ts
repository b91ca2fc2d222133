import { imageName } from "../../core/model/image";
import { byName, LABELS, labelsOf } from "../../core/model/names";
import type { Observation } from "../../core/judgement/observation";
import { homeOf, type PlacedConfig, placedNode, type PlacedNode } from "../../core/model/place";
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
}

/** What there is on the stack's Docker engine, asked once, all at the same time. */
export interface Survey {
  /** The engine's own ID. */
  engine: string;
  dockerHost: string;
  /** Whether the engine has the image. */
  image: boolean;
  found: Found[];
  /** The names of the containers that hold a published TCP port, by port. */
  ports: ReadonlyMap<number, string[]>;
  /** Every node of the config and of the state. */
  observed: Observation[];
}

const TIMEOUT = 10_000;
const LABEL_FORMAT = [LABELS.stack, LABELS.project, LABELS.node, LABELS.identity, LABELS.madeBy].map((l) => `{{.Label "${l}"}}`).join("\t");

/**
 * Asks the engine and every server of the stack.
 *
 * @param nodes Whose servers; see {@link everyNode}.
 * @returns when the engine does not answer, one line that says why and what to do.
 */
export async function survey(config: PlacedConfig, nodes: readonly PlacedNode[]): Promise<Survey | { unreachable: string }> {
  const dockerHost = homeOf(config);
  const engine = new Engine(dockerHost);
  const ask = (...args: string[]): Promise<Ran> => engine.run(args, { timeout: TIMEOUT });
  const [info, containers, volumes, networks, image, observed] = await Promise.all([
    ask("info", "--format", "{{.ID}}"),
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
    observe({ ...config, nodes: [...nodes] }, { drift: true }).catch((error: unknown) => {
      if (error instanceof UserError) {
        return [];
      }
      throw error;
    }),
  ]);
  const failed = [info, containers, volumes, networks].find((result) => result.exitCode !== 0);
  if (failed !== undefined || info.stdout.trim() === "") {
    return { unreachable: whyNot(dockerHost, (failed ?? info).stderr) };
  }
  const lines = (text: string): string[][] =>
    text
      .split("\n")
      .filter(Boolean)
      .map((line) => line.split("\t"));
  const read =
    (kind: Found["kind"]) =>
    ([id = "", name = "", state = "", stack = "", project = "", node = "", identity = "", madeBy = ""]: string[]): Found[] =>
      stack === config.stack && project === labelsOf(stack)[LABELS.project] ? [{ kind, id, name, state, node, identity, madeBy }] : [];
  return {
    engine: info.stdout.trim(),
    dockerHost,
    image: image.exitCode === 0,
    found: [
      ...lines(containers.stdout).flatMap(read("container")),
      ...lines(volumes.stdout).flatMap(read("volume")),
      ...lines(networks.stdout).flatMap(read("network")),
    ],
    ports: publishedPorts(lines(containers.stdout).map((fields) => [fields[1] ?? "", fields[8] ?? ""])),
    observed,
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

/** The nodes of the config, and those that only the state knows: they may be the primary. */
export function everyNode(config: PlacedConfig, prior: PriorState): PlacedNode[] {
  const dropped = knownNodes(prior).filter((name) => !config.nodes.some((node) => node.name === name));
  return [...config.nodes, ...dropped.sort(byName).map((name) => placedNode({ name, port: 0, address: "" }, homeOf(config)))];
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
