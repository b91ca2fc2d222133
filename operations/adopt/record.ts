import * as pulumi from "@pulumi/pulumi";
import { createHash, randomUUID } from "crypto";
import { readFileSync } from "fs";
import { PROJECT } from "../../core/model/names";
// eslint-disable-next-line @typescript-eslint/no-require-imports -- index.ts is loaded by Pulumi, so it is CommonJS
import program = require("../../index");
import type { Declared, ProgramAnswer, ProgramRequest } from "./program";

/** The child process of program.ts: index.ts under Pulumi's mocks, every registration noted down. */

interface Struct {
  toJavaScript(): Record<string, unknown>;
}
interface Request {
  getType(): string;
  getName(): string;
  getParent(): string;
  getCustom(): boolean;
  getObject(): Struct | undefined;
  getDependenciesList(): string[];
  getPropertydependenciesMap(): { forEach(each: (value: { getUrnsList(): string[] }, key: string) => void): void };
  getProvider(): string;
  getVersion(): string;
  getProtect(): boolean | undefined;
  getRetainondelete(): boolean | undefined;
  getIgnorechangesList(): string[];
  getReplaceonchangesList(): string[];
  getAdditionalsecretoutputsList(): string[];
}
interface Response {
  setUrn(urn: string): void;
  getId(): string;
}
interface Monitor {
  registerResource(request: Request, callback: (error: unknown, response: Response | undefined) => void): unknown;
  registerResourceOutputs(
    request: { getUrn(): string; getOutputs(): Struct | undefined },
    callback: (error: unknown, response: object) => void,
  ): void;
}

/** As the engine makes them: the mocks know only one parent. */
function urnOf(stack: string, parent: string, type: string, name: string): string {
  const above = parent.split("::")[2] ?? "";
  const path = above === "" || above === "pulumi:pulumi:Stack" ? type : `${above}$${type}`;
  return `urn:pulumi:${stack}::${PROJECT}::${path}::${name}`;
}

/** Notes down what is registered, in an order in which everything comes after what it needs. */
function record(monitor: Monitor, stack: string): Declared[] {
  const declared: Declared[] = [];
  const register = monitor.registerResource.bind(monitor);
  monitor.registerResource = (request, callback) => {
    const dependencies: Record<string, string[]> = {};
    request.getPropertydependenciesMap().forEach((value, key) => (dependencies[key] = value.getUrnsList()));
    const [type, name, parent] = [request.getType(), request.getName(), request.getParent()];
    const resource: Declared = {
      ...{ type, name, parent },
      urn: urnOf(stack, parent, type, name),
      id: "",
      custom: request.getCustom(),
      dependencies: request.getDependenciesList(),
      propertyDependencies: dependencies,
      inputs: request.getObject()?.toJavaScript() ?? {},
      provider: request.getProvider(),
      version: request.getVersion(),
      protect: request.getProtect() ?? false,
      retainOnDelete: request.getRetainondelete() ?? false,
      ignoreChanges: request.getIgnorechangesList(),
      replaceOnChanges: request.getReplaceonchangesList(),
      secretOutputs: request.getAdditionalsecretoutputsList(),
    };
    declared.push(resource);
    return register(request, (error, response) => {
      response?.setUrn(resource.urn);
      resource.id = response?.getId() ?? "";
      callback(error, response);
    });
  };
  monitor.registerResourceOutputs = (request, callback) => {
    const resource = declared.find(({ urn }) => urn === request.getUrn());
    if (resource !== undefined) {
      resource.outputs = request.getOutputs()?.toJavaScript() ?? {};
    }
    callback(null, {});
  };
  return declared;
}

function madeUpId(type: string, name: string): string {
  return type.startsWith("pulumi:providers:")
    ? randomUUID()
    : `${name}${createHash("sha256").update(randomUUID()).digest("hex").slice(0, 8)}`;
}

async function run(request: ProgramRequest): Promise<ProgramAnswer> {
  const { stack, config, secretKeys, prior, ids, stdout } = request;
  await pulumi.runtime.setMocks(
    {
      newResource: ({ type, name, inputs, custom }) => ({
        id: custom === true ? (ids[name] ?? madeUpId(type, name)) : undefined,
        state: { ...(inputs as object), ...(type === "command:local:Command" ? { stdout: stdout[name] ?? "", stderr: "" } : {}) },
      }),
      call: ({ token, inputs }) =>
        token === "pulumi:pulumi:readStackResourceOutputs"
          ? { outputs: Object.fromEntries(prior.map(({ urn, type, outputs }) => [urn, { type, outputs }])) }
          : (inputs as Record<string, unknown>),
    },
    PROJECT,
    stack,
    true,
    "organization",
  );
  pulumi.runtime.setAllConfig(config, secretKeys);
  const declared = record(pulumi.runtime.getMonitor() as unknown as Monitor, stack);
  await pulumi.runtime.runInPulumiStack(program);
  await pulumi.runtime.disconnect();
  return { declared };
}

const request = JSON.parse(readFileSync(0, "utf8")) as ProgramRequest;
// Nothing else may come between the lines of the answer.
console.log = console.error;
run(request)
  .catch((error: unknown) => {
    if (error instanceof pulumi.RunError) {
      return { error: error.message };
    }
    throw error;
  })
  .then((answer) => process.stdout.write(JSON.stringify(answer), () => process.exit(0)))
  .catch((error: unknown) => {
    console.error(error);
    process.exit(1);
  });
