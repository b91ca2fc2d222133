import { randomUUID } from "crypto";
import { fileVariables } from "../../core/model/nodeFiles";
import type { Declared } from "./program";
import { inputsOf, type Standing } from "./standing";

/** From what the program declares and what Docker has to a state in which all of it is done. Pure, but for made-up IDs. */

const SIGNATURE = "4dabf18193072939515e22adb298388d";
const SECRET = "1b47061264138c4ac30d75fd1eb44270";

/** One resource, as `pulumi stack export` has it. */
export interface StateEntry {
  urn: string;
  custom: boolean;
  id?: string;
  type: string;
  inputs?: Record<string, unknown>;
  outputs?: Record<string, unknown>;
  parent?: string;
  dependencies?: string[];
  provider?: string;
  propertyDependencies?: Record<string, string[]>;
  protect?: boolean;
  retainOnDelete?: boolean;
  additionalSecretOutputs?: string[];
  ignoreChanges?: string[];
  replaceOnChanges?: string[];
  created: string;
  modified: string;
}

const isSecret = (value: object): value is { value?: unknown } => (value as Record<string, unknown>)[SIGNATURE] === SECRET;

/** A value without its secrets' wrappers. */
function plain(value: unknown): unknown {
  if (typeof value !== "object" || value === null) {
    return value;
  }
  if (isSecret(value)) {
    return plain(value.value);
  }
  return Array.isArray(value) ? value.map(plain) : Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)]));
}

const secret = (value: unknown): Record<string, unknown> => ({ [SIGNATURE]: SECRET, plaintext: JSON.stringify(plain(value)) });

/** A value in the form that `pulumi stack import` takes, which encrypts the secrets in it. */
function toState(value: unknown): unknown {
  if (typeof value !== "object" || value === null) {
    return value;
  }
  if (isSecret(value)) {
    return secret(value);
  }
  return Array.isArray(value) ? value.map(toState) : Object.fromEntries(Object.entries(value).map(([k, v]) => [k, toState(v)]));
}

/**
 * A drift that the program has found is not in the state: the first `up` finds it anew and puts it right.
 */
function withoutDrift(inputs: Record<string, unknown>): Record<string, unknown> {
  const { environment } = inputs;
  if (typeof environment !== "object" || environment === null || !("PGNODE_DRIFT" in environment)) {
    return inputs;
  }
  const { PGNODE_DRIFT: _drift, ...rest } = environment as Record<string, unknown>;
  return { ...inputs, environment: rest };
}

/** The configuration steps of the nodes that run another node program than this one: what that has written is not known. */
function configuredByOthers(declared: readonly Declared[], there: readonly Standing[]): Set<string> {
  return new Set(
    there.flatMap(({ node, container, program }) => {
      const resource = declared.find(({ id }) => id === container.Id);
      const uploads = (resource?.inputs["uploads"] ?? []) as { content?: string }[];
      return uploads.some(({ content }) => content === program) ? [] : [`${node}-config`];
    }),
  );
}

/** A configuration step as if it had never brought any settings: the first `up` brings them. */
function unconfigured(inputs: Record<string, unknown>): Record<string, unknown> {
  const environment = Object.entries(inputs["environment"] as Record<string, unknown>);
  const plain = fileVariables(false) as string[];
  return { ...inputs, environment: Object.fromEntries(environment.filter(([variable]) => !plain.includes(variable))) };
}

/** What is declared, but for one resource, and nothing that names it: what only the lost state knew is made anew by the next `up`. */
export function without(declared: readonly Declared[], name: string): Declared[] {
  const lost = declared.filter((resource) => resource.name === name).map(({ urn }) => urn);
  const others = (urns: readonly string[]): string[] => urns.filter((urn) => !lost.includes(urn));
  return declared
    .filter(({ urn }) => !lost.includes(urn))
    .map((resource) => ({
      ...resource,
      dependencies: others(resource.dependencies),
      propertyDependencies: Object.fromEntries(Object.entries(resource.propertyDependencies).map(([key, urns]) => [key, others(urns)])),
    }));
}

/**
 * Of the Docker provider (its version is in package.json): the version of its state's shape, and the defaults that a refresh
 * does not read. The rest is read.
 */
const MADE: Record<string, { shape: number; defaults: Record<string, unknown> }> = {
  "docker:index/container:Container": {
    shape: 2,
    defaults: { attach: false, logs: false, start: true, wait: false, waitTimeout: 60, containerReadRefreshTimeoutMilliseconds: 15_000 },
  },
  "docker:index/network:Network": { shape: 1, defaults: {} },
  "docker:index/volume:Volume": { shape: 1, defaults: {} },
};

function outputsOf(resource: Declared, inputs: Record<string, unknown>, stdout: string): Record<string, unknown> {
  if (resource.type === "command:local:Command") {
    return { ...(toState(inputs) as object), stdout: secret(stdout), stderr: secret("") };
  }
  const made = MADE[resource.type];
  return made === undefined
    ? (toState(inputs) as Record<string, unknown>)
    : {
        ...made.defaults,
        ...(toState(inputs) as object),
        id: resource.id,
        __meta: JSON.stringify({ schema_version: String(made.shape) }),
      };
}

/**
 * The resources of the state, in the order that Pulumi wants.
 *
 * @param stdout What commands have printed, by the resource's name.
 */
export function deploymentOf(
  declared: readonly Declared[],
  there: readonly Standing[],
  stdout: Readonly<Record<string, string>>,
  now = new Date(),
): StateEntry[] {
  const time = now.toISOString();
  const byOthers = configuredByOthers(declared, there);
  const defaults = new Map<string, { entry: StateEntry; reference: string }>();

  /** The provider that Pulumi makes itself for a package and a version. */
  const defaultProvider = ({ type, urn, version }: Declared): string => {
    const [packageName = ""] = type.split(":");
    const name = `default_${version.replace(/[.+-]/g, "_")}`;
    const known = defaults.get(`${packageName} ${name}`);
    if (known !== undefined) {
      return known.reference;
    }
    const [stack, project] = urn.split("::");
    const id = randomUUID();
    const own = `${stack}::${project}::pulumi:providers:${packageName}::${name}`;
    const entry: StateEntry = {
      urn: own,
      custom: true,
      id,
      type: `pulumi:providers:${packageName}`,
      inputs: { __internal: {}, version },
      outputs: { version },
      created: time,
      modified: time,
    };
    defaults.set(`${packageName} ${name}`, { entry, reference: `${own}::${id}` });
    return `${own}::${id}`;
  };

  const entries = declared.map((resource): StateEntry => {
    const common = {
      urn: resource.urn,
      custom: resource.custom,
      type: resource.type,
      ...(resource.parent === "" ? {} : { parent: resource.parent }),
      ...(resource.dependencies.length === 0 ? {} : { dependencies: resource.dependencies }),
      ...(resource.protect ? { protect: true } : {}),
      ...(resource.retainOnDelete ? { retainOnDelete: true } : {}),
      created: time,
      modified: time,
    };
    if (!resource.custom) {
      return { ...common, outputs: toState(resource.outputs ?? {}) as Record<string, unknown> };
    }
    const isProvider = resource.type.startsWith("pulumi:providers:");
    const found = there.find(({ container }) => container.Id === resource.id);
    const known = withoutDrift(found === undefined ? resource.inputs : inputsOf(resource.inputs, found));
    const inputs = byOthers.has(resource.name) ? unconfigured(known) : known;
    const all = isProvider && resource.version !== "" ? { ...inputs, version: resource.version } : inputs;
    return {
      ...common,
      id: resource.id,
      inputs: { ...(toState(all) as object), ...(isProvider ? { __internal: {} } : {}) },
      outputs: outputsOf(resource, all, stdout[resource.name] ?? ""),
      ...(isProvider ? {} : { provider: resource.provider || defaultProvider(resource) }),
      propertyDependencies: resource.propertyDependencies,
      ...(resource.secretOutputs.length === 0 ? {} : { additionalSecretOutputs: resource.secretOutputs }),
      ...(resource.ignoreChanges.length === 0 ? {} : { ignoreChanges: resource.ignoreChanges }),
      ...(resource.replaceOnChanges.length === 0 ? {} : { replaceOnChanges: resource.replaceOnChanges }),
    };
  });
  return [...[...defaults.values()].map(({ entry }) => entry), ...entries];
}
