import * as pulumi from "@pulumi/pulumi";
import type { StackConfig } from "../../core/config";
import { containerName, type Identity, LABELS, PROJECT, volumeName } from "../../core/model/names";
import type { Observation } from "../../core/judgement/observation";
import type { Look } from "../../operations/guard/look";
import type { PriorState, StateResource } from "../../operations/guard/prior";
import type { Found } from "../../operations/guard/survey";
import { endingsOf, enginesOf, homeOf, placed, type PlacedConfig } from "../../core/model/place";
import type Index from "../../index";
import { AUTHORITY } from "./certificates";
import { foundAt, surveyOf } from "./surveys";

// Pulumi notes down where every promise and every resource was made, and Jest looks each line of that up in a source map: a tenth
// of the time. No test asks for it; ten lines are enough to say where a test fails.
Error.stackTraceLimit = 10;
Object.assign(pulumi.Resource, { callsites: () => [] });

/** The outputs of index.ts. */
export type Outputs = Awaited<ReturnType<typeof Index>>;

/** The Docker host that the tests pretend to have. */
export const DOCKER_HOST = "unix:///test/docker.sock";

/** What the made-up password of a dev stack is; no character of it is harmless in every grammar. */
export function madeUp(key: string): string {
  return `${key}-p'w:\\"/@%`;
}

/** A resource as the program handed it to the engine, before any provider has seen it. */
export interface Declared {
  type: string;
  name: string;
  urn: string;
  custom: boolean;
  /** The parent's URN, empty when there is none. */
  parent: string;
  /** URNs of what has to be there before: said with dependsOn, or by an input that is another's output. */
  dependencies: string[];
  /** The inputs; a secret is still in its wrapper. */
  inputs: Record<string, unknown>;
  provider: string;
  protect: boolean;
  retainOnDelete: boolean;
  deleteBeforeReplace: boolean;
  /** The URN of the resource with which it is gone too, empty when there is none. */
  deletedWith: string;
  ignoreChanges: string[];
  replaceOnChanges: string[];
  secretOutputs: string[];
  hideDiffs: string[];
  /** The URNs that the resource had before. */
  aliases: string[];
}

interface SecretWrapper {
  value?: unknown;
}

function isWrapper(value: unknown): value is SecretWrapper {
  return (
    typeof value === "object" &&
    value !== null &&
    (value as Record<string, unknown>)[pulumi.runtime.specialSigKey] === pulumi.runtime.specialSecretSig
  );
}

function mapSecrets(value: unknown, onSecret: (wrapper: SecretWrapper) => unknown): unknown {
  if (isWrapper(value)) {
    return onSecret(value);
  }
  if (Array.isArray(value)) {
    return value.map((item) => mapSecrets(item, onSecret));
  }
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, mapSecrets(item, onSecret)]));
  }
  return value;
}

/** A value with its secrets laid open. */
export function revealed(value: unknown): unknown {
  return mapSecrets(value, (wrapper) => revealed(wrapper.value));
}

/** A value as someone sees it who may not read secrets. */
export function redacted(value: unknown): unknown {
  return mapSecrets(value, () => "[secret]");
}

/** What a run of index.ts declared. */
export class Program {
  public constructor(
    public readonly resources: readonly Declared[],
    public readonly outputs: Outputs,
  ) {}

  public get(name: string, type?: string): Declared {
    const found = this.resources.filter((r) => r.name === name && (type === undefined || r.type === type));
    const [only] = found;
    if (only === undefined || found.length > 1) {
      throw new Error(`${found.length} resources are named ${name} among ${this.resources.map((r) => r.name).join(", ")}`);
    }
    return only;
  }

  public ofType(type: string): Declared[] {
    return this.resources.filter((r) => r.type === type);
  }

  /** One input of a resource, secrets laid open. */
  public input(name: string, key: string): unknown {
    return revealed(this.get(name).inputs[key]);
  }

  /** One variable of a command's environment, and whether the state keeps it encrypted. */
  public variable(name: string, variable: string): { text: string; secret: boolean } {
    const environment = this.get(name).inputs["environment"];
    const all = revealed(environment) as Record<string, string>;
    const seen = redacted(environment);
    const secret = seen === "[secret]" || (seen as Record<string, unknown>)[variable] === "[secret]";
    return { text: all[variable] ?? "", secret };
  }

  /** What the state holds after this run: the prior state of the next one. */
  public state(): StateResource[] {
    return this.resources.map(({ urn, type, name, inputs }) => ({
      urn,
      type,
      outputs: outputsOf({ type, name, inputs: revealed(inputs) as Record<string, unknown> }),
    }));
  }

  /** Whether `later` waits for `earlier`, directly or through others. */
  public waitsFor(later: string, earlier: string): boolean {
    const goal = this.get(earlier).urn;
    const seen = new Set<string>();
    const visit = (urn: string): boolean => {
      if (seen.has(urn)) {
        return false;
      }
      seen.add(urn);
      const dependencies = this.resources.find((r) => r.urn === urn)?.dependencies ?? [];
      return dependencies.some((dependency) => dependency === goal || visit(dependency));
    };
    return visit(this.get(later).urn);
  }
}

interface Request {
  getType(): string;
  getName(): string;
  getParent(): string;
  getCustom(): boolean;
  getObject(): { toJavaScript(): Record<string, unknown> } | undefined;
  getDependenciesList(): string[];
  getProvider(): string;
  getProtect(): boolean | undefined;
  getRetainondelete(): boolean | undefined;
  getDeletebeforereplace(): boolean;
  getDeletedwith(): string;
  getIgnorechangesList(): string[];
  getReplaceonchangesList(): string[];
  getAdditionalsecretoutputsList(): string[];
  getHidediffsList(): string[];
  getAliasesList(): { getUrn(): string; getSpec(): { getName(): string; getType(): string; getParenturn(): string } | undefined }[];
}
interface Response {
  getUrn(): string;
}
type Callback = (error: unknown, response: Response | undefined) => void;
interface Monitor {
  registerResource(request: Request, callback: Callback): unknown;
}

/** The URN that an alias names, put together as the engine does it (for parents below the stack itself). */
function aliasUrn(alias: ReturnType<Request["getAliasesList"]>[number], stack: string, request: Request): string {
  const spec = alias.getSpec();
  if (spec === undefined) {
    return alias.getUrn();
  }
  const parentType = spec.getParenturn().split("::").at(-2);
  const type = spec.getType() || request.getType();
  return `urn:pulumi:${stack}::${PROJECT}::${parentType === undefined ? "" : `${parentType}$`}${type}::${spec.getName() || request.getName()}`;
}

/** Notes every registration down on its way to the mock monitor: mocks alone see neither parents nor dependencies. */
function record(monitor: Monitor, stack: string): Declared[] {
  const declared: Declared[] = [];
  const register = monitor.registerResource.bind(monitor);
  monitor.registerResource = (request, callback) =>
    register(request, (error, response) => {
      declared.push({
        type: request.getType(),
        name: request.getName(),
        urn: response?.getUrn() ?? "",
        custom: request.getCustom(),
        parent: request.getParent(),
        dependencies: request.getDependenciesList(),
        inputs: request.getObject()?.toJavaScript() ?? {},
        provider: request.getProvider(),
        protect: request.getProtect() ?? false,
        retainOnDelete: request.getRetainondelete() ?? false,
        deleteBeforeReplace: request.getDeletebeforereplace(),
        deletedWith: request.getDeletedwith(),
        ignoreChanges: request.getIgnorechangesList(),
        replaceOnChanges: request.getReplaceonchangesList(),
        secretOutputs: request.getAdditionalsecretoutputsList(),
        hideDiffs: request.getHidediffsList(),
        aliases: request.getAliasesList().map((alias) => aliasUrn(alias, stack, request)),
      });
      callback(error, response);
    });
  return declared;
}

export interface Scenario {
  stack?: string;
  /** Config without the project's namespace; structures as objects. */
  config?: Record<string, unknown>;
  /** Which of the keys are secret. @default none */
  secretKeys?: readonly string[];
  /** What Pulumi's state holds before the run. @default nothing */
  state?: readonly StateResource[];
  /** What every server says. @default no server is there yet */
  observed?: readonly Observation[];
  /** More of what a look at the engine finds; `survey: undefined` is an engine that does not answer. */
  look?: Partial<Look>;
  /** A run of `pulumi preview`. @default false */
  preview?: boolean;
  /** What PostgreSQL says against the settings. @default nothing */
  refused?: string;
}

/** The identity that a new state makes up, in the tests. */
export const IDENTITY: Identity = { id: "0123-4567", madeBy: "alice@laptop,2026-11-24" };
export const ENGINE = "ENGINE-ID";

let current: Scenario = {};

/** Stands in for operations/guard/look.ts: nothing is asked of Docker, the scenario says what there is. */
export const fakeLook = jest.fn(
  async (config: StackConfig, state: Promise<PriorState>, _dryRun: boolean, _warn: (line: string) => void): Promise<Look> => {
    const prior = await state;
    const dockerHost = current.look?.dockerHost ?? DOCKER_HOST;
    const there = placed(config, dockerHost);
    const home = homeOf(there);
    const [first = home, ...others] = enginesOf(there.nodes);
    const facts = surveyOf(first, { engine: ENGINE });
    return {
      survey: {
        ...facts,
        engines: [facts.engines[0], ...others.map((engine) => surveyOf(engine, { engine: `${ENGINE} of ${engine}` }).engines[0])],
        found: foundOf(there, prior),
        observed: [...(current.observed ?? [])],
      },
      dockerHost,
      identity: prior.identity ?? IDENTITY,
      engine: ENGINE,
      endings: endingsOf(enginesOf(there.nodes), prior.providers),
      imageGone: new Set(),
      kept: undefined,
      ...current.look,
    };
  },
);

/** Stands in for the change of roles in the middle of a run. */
export const fakeHandOver = jest.fn((_config: PlacedConfig, _from: string, _say: (line: string) => void) => Promise.resolve());

/** What is on the engine when nothing of the state is gone. */
function foundOf(config: PlacedConfig, prior: PriorState): Found[] {
  const { stack } = config;
  const found = (kind: Found["kind"], node: string, id: string, name: string): Found => {
    const made = current.state?.find(({ urn }) => urn.endsWith(`::${node}-container`))?.outputs["labels"] as {
      label: string;
      value: string;
    }[];
    const definition = (kind === "container" && made?.find(({ label }) => label === LABELS.definition)?.value) || "";
    const at = config.nodes.find((one) => one.name === node)?.place.engine ?? homeOf(config);
    return foundAt(at, kind, name, { id, node, state: "running", identity: IDENTITY.id, madeBy: IDENTITY.madeBy, definition });
  };
  return [
    ...[...prior.containers].map(([node, id]) => found("container", node, id, containerName(stack, node))),
    ...[...prior.volumes].map(([node, name]) => found("volume", node, name, volumeName(stack, node))),
  ];
}

/** Gives Pulumi a stack's config, as its language host would. */
export function configure(scenario: Scenario): void {
  const key = (name: string): string => `${PROJECT}:${name}`;
  const config = Object.entries(scenario.config ?? {}).map(([name, value]) => [
    key(name),
    typeof value === "string" ? value : JSON.stringify(value),
  ]);
  const secretKeys = (scenario.secretKeys ?? []).map(key);
  pulumi.runtime.setAllConfig(Object.fromEntries(config) as Record<string, string>, secretKeys);
  process.env["PULUMI_CONFIG_SECRET_KEYS"] = JSON.stringify(secretKeys);
  process.env["DOCKER_HOST"] = DOCKER_HOST;
}

/** The key of the CA that a stack makes, in the tests. */
export const AUTHORITY_KEY = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";

/** What a resource has become once it is made. */
function outputsOf({ type, name, inputs }: { type: string; name: string; inputs: Record<string, unknown> }): Record<string, unknown> {
  const stdout = /^authority/.test(name) ? `${AUTHORITY_KEY}${AUTHORITY}` : madeUp(name);
  return { ...inputs, id: `${name}-id`, ...(type === "command:local:Command" ? { stdout } : {}) };
}

/** Starts Pulumi's mocks for a stack. Returns the list to which registrations are added. */
export async function startMocks(scenario: Scenario): Promise<Declared[]> {
  current = scenario;
  const stack = scenario.stack ?? "dev";
  await pulumi.runtime.setMocks(
    {
      newResource: ({ type, name, inputs }) => {
        const { id, ...state } = outputsOf({ type, name, inputs: inputs as Record<string, unknown> });
        return { id: String(id), state };
      },
      call: ({ token, inputs }) => {
        if (token !== "pulumi:pulumi:readStackResourceOutputs") {
          throw new Error(`the program calls ${token}, which no test knows`);
        }
        // The engine has no answer for another name than the stack's own.
        expect(inputs).toEqual({ stackName: `organization/${PROJECT}/${stack}` });
        // What a command has printed is secret in the state.
        const hidden = ({ stdout, ...rest }: StateResource["outputs"]): object => ({
          ...rest,
          ...(stdout === undefined ? {} : { stdout: pulumi.secret(stdout) }),
        });
        return {
          outputs: Object.fromEntries((scenario.state ?? []).map(({ urn, type, outputs }) => [urn, { type, outputs: hidden(outputs) }])),
        };
      },
    },
    PROJECT,
    stack,
    scenario.preview ?? false,
    "organization",
  );
  configure(scenario);
  return record(pulumi.runtime.getMonitor() as unknown as Monitor, stack);
}

/** Runs index.ts on the mocks that were started last. */
export async function runIndex(): Promise<Outputs> {
  jest.doMock("../../operations/guard/look", () => ({ look: fakeLook }));
  jest.doMock("../../operations/guard/handover", () => ({ handOver: fakeHandOver }));
  jest.doMock("../../operations/guard/settings", () => ({ settingsRefused: () => Promise.resolve(current.refused) }));
  return jest.requireActual<typeof Index>("../../index")();
}

/** Runs index.ts against mocks and waits until everything is registered. */
export async function declare(scenario: Scenario): Promise<Program> {
  const declared = await startMocks(scenario);
  // No line at all, here. To see where the program itself fails, take this out.
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 0;
  try {
    const outputs = await runIndex();
    await pulumi.runtime.disconnect();
    return new Program(declared, outputs);
  } finally {
    Error.stackTraceLimit = limit;
  }
}

/** The value of an output. */
export function valueOf<T>(output: pulumi.Input<T>): Promise<pulumi.Unwrap<T>> {
  return new Promise((resolve) => {
    pulumi.output(output).apply((value) => resolve(value));
  });
}
