import { certificatesIn } from "../../core/grammar/pem";
import { PROJECT } from "../../core/model/names";
import { type TlsStage, tlsStageIn } from "../../core/settings/tls";

/** What Pulumi's state knows of the stack before this run. */
export interface PriorState {
  /** Whether the state holds nothing of the stack yet. */
  empty: boolean;
  /** Which state it is; undefined in an empty one and in one of version 0.1.0. */
  identity?: { id: string; madeBy: string; engine: string };
  /** The Docker host on which the stack began, as its provider was given it last: that of `providers` without an ending. */
  dockerHost?: string;
  /** The Docker hosts by what the names of their own resources end with: empty for the one that the stack began on. */
  providers: ReadonlyMap<string, string>;
  /** The IDs of the engines, by the same endings. */
  engines: ReadonlyMap<string, string>;
  /** The Docker host of every node, by the node's name. */
  places: ReadonlyMap<string, string>;
  /** IDs of the containers, by the node's name. */
  containers: ReadonlyMap<string, string>;
  /** Names of the volumes, by the node's name. */
  volumes: ReadonlyMap<string, string>;
  /** The nodes whose data was made: their birth is in the state. */
  born: ReadonlySet<string>;
  /** The nodes that were complete once: their readiness is in the state. */
  complete: ReadonlySet<string>;
  /** IDs of the networks. */
  networks: readonly string[];
  /** The node that began as the primary; undefined when it was taken out, or nothing was built. */
  first?: string;
  /** How far TLS is in force by the settings that each node was brought last, by its name. */
  tls: ReadonlyMap<string, TlsStage | undefined>;
  /** The settings that each node was brought last, by its name. */
  settings: ReadonlyMap<string, string>;
  /** The certificates of the stack's own authorities, PEM, by generation. */
  authorities: ReadonlyMap<number, string>;
  /** The certificates that each node was brought last, to check others by, PEM. */
  trusted: ReadonlyMap<string, string>;
  /** Passwords that a dev stack has made up, by config key. */
  passwords: ReadonlyMap<string, string>;
}

/** One resource of a state, as `pulumi stack export` and the engine's own look into the state have it in common. */
export interface StateResource {
  urn: string;
  type: string;
  outputs: Record<string, unknown>;
}

/** The resource that carries the stack's identity; see index.ts. */
export const IDENTITY_NAME = "identity";

/** The resource that is a certificate authority of the stack; see components/authority.ts. */
export const authorityName = (generation: number): string => (generation === 1 ? "authority" : `authority-${generation}`);

/** Which one a resource is; undefined when it is none. */
export function authorityGeneration(name: string): number | undefined {
  const [match, number = "1"] = /^authority(?:-(\d+))?$/.exec(name) ?? [];
  return match === undefined ? undefined : Number(number);
}

/** Reads a state. Pure. */
export function readPrior(resources: readonly StateResource[]): PriorState {
  const nameOf = ({ urn }: StateResource): string => nameIn(urn);
  const ofType = (type: string): StateResource[] => resources.filter((r) => r.type === type);
  const named = (type: string, suffix: string, key: string): Map<string, string> =>
    new Map(
      ofType(type)
        .filter((r) => nameOf(r).endsWith(suffix) && typeof r.outputs[key] === "string")
        .map((r) => [nameOf(r).slice(0, -suffix.length), r.outputs[key] as string]),
    );
  const commands = ofType("command:local:Command");
  const environment = commands.find((r) => nameOf(r) === IDENTITY_NAME)?.outputs["environment"] as Record<string, string> | undefined;
  const [primary] = ofType(`${PROJECT}:index:Primary`);
  const endings = (resources: readonly StateResource[], name: string, value: (r: StateResource) => unknown): Map<string, string> =>
    new Map(
      resources.flatMap((r) => {
        const ending = nameOf(r).slice(name.length);
        const found = value(r);
        return nameOf(r).startsWith(name) && /^(-|$)/.test(ending) && typeof found === "string" ? [[ending, found] as const] : [];
      }),
    );
  const environmentOf = (r: StateResource): Record<string, string> => (r.outputs["environment"] ?? {}) as Record<string, string>;
  /** One variable of a command that each node has, by the node's name. */
  const variable = (command: RegExp, name: string): (readonly [node: string, value: string | undefined])[] =>
    commands.flatMap((r) => (command.exec(nameOf(r))?.slice(1) ?? []).map((node) => [node, environmentOf(r)[name]] as const));
  const told = (command: RegExp, name: string): [node: string, value: string][] =>
    variable(command, name).flatMap(([node, value]): [string, string][] => (value === undefined ? [] : [[node, value]]));
  const [birth, config] = [/^(.+)-(?:init|basebackup)$/, /^(.+)-config$/];
  const settings = new Map(told(config, "PGNODE_CONF"));
  const providers = endings(ofType("pulumi:providers:docker"), "docker", (r) => r.outputs["host"]);
  const host = providers.get("");
  const containers = named("docker:index/container:Container", "-container", "id");
  const volumes = named("docker:index/volume:Volume", "-data", "name");
  const networks = ofType("docker:index/network:Network").flatMap((r) => (typeof r.outputs["id"] === "string" ? [r.outputs["id"]] : []));
  return {
    empty: containers.size === 0 && volumes.size === 0 && networks.length === 0 && environment === undefined,
    ...(environment?.["STACK_IDENTITY"] === undefined
      ? {}
      : {
          identity: {
            id: environment["STACK_IDENTITY"],
            madeBy: environment["STACK_MADE_BY"] ?? "",
            engine: environment["STACK_ENGINE"] ?? "",
          },
        }),
    ...(host === undefined ? {} : { dockerHost: host }),
    providers,
    engines: endings(commands, IDENTITY_NAME, (r) => environmentOf(r)["STACK_ENGINE"]),
    // The last one counts: an interrupted deletion leaves the birth, which is never told of another way to the engine.
    places: new Map([birth, config].flatMap((command) => told(command, "DOCKER_HOST"))),
    containers,
    volumes,
    born: new Set(commands.flatMap((r) => birth.exec(nameOf(r))?.slice(1) ?? [])),
    complete: new Set(commands.flatMap((r) => /^(.+)-(?:ready|streaming)$/.exec(nameOf(r))?.slice(1) ?? [])),
    networks,
    ...(primary === undefined ? {} : { first: nameOf(primary) }),
    settings,
    tls: new Map([...settings].map(([node, conf]) => [node, tlsStageIn(conf)])),
    authorities: new Map(
      commands.flatMap((r) => {
        const generation = authorityGeneration(nameOf(r));
        const certificate = typeof r.outputs["stdout"] === "string" ? certificatesIn(r.outputs["stdout"]) : "";
        return generation === undefined || certificate === "" ? [] : [[generation, certificate] as const];
      }),
    ),
    trusted: new Map(variable(config, "PGNODE_CA").map(([node, certificates]) => [node, certificates ?? ""])),
    passwords: new Map(
      commands.flatMap((r) =>
        nameOf(r).endsWith("Password") && typeof r.outputs["stdout"] === "string" ? [[nameOf(r), r.outputs["stdout"]]] : [],
      ),
    ),
  };
}

/** Whether no node was ever completed: the stack is new, or an `up` of it was interrupted before its first node had data. */
export function isNew(prior: PriorState): boolean {
  return prior.born.size === 0 && prior.containers.size === 0;
}

/** Every node that the state knows, by its volume or its container. */
export function knownNodes(prior: PriorState): string[] {
  return [...new Set([...prior.volumes.keys(), ...prior.containers.keys()])];
}

/** What the names of an engine's own resources end with in this state; undefined when it has none there. */
export function endingAt(prior: Pick<PriorState, "providers">, engine: string | undefined): string | undefined {
  return [...prior.providers].find(([, host]) => host === engine)?.[0];
}

/** The name that a resource has in the program. */
export const nameIn = (urn: string): string => urn.split("::").at(-1) ?? "";

/** Reads `pulumi stack export`. Its secrets stay what they are: nothing that is read here is one, but the passwords. */
export function exportedResources(exported: string): StateResource[] {
  return livingResources((JSON.parse(exported) as { deployment: { resources?: Exported[] } }).deployment.resources ?? []);
}

/** One resource of an export, as far as it is read here. */
interface Exported {
  urn: string;
  type: string;
  id?: string;
  outputs?: Record<string, unknown>;
  delete?: boolean;
}

/** The resources of an export, without what only waits for its deletion. */
export function livingResources(resources: readonly Exported[]): StateResource[] {
  return resources
    .filter((r) => r.delete !== true)
    .map(({ urn, type, id, outputs }) => ({ urn, type, outputs: { ...(id === undefined ? {} : { id }), ...outputs } }));
}
