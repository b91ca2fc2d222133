import { randomBytes } from "crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "fs";
import { tmpdir } from "os";
import { delimiter, join } from "path";
import { type EngineEvent, LocalWorkspace, PulumiCommand, type PulumiFn, type Stack } from "@pulumi/pulumi/automation";
import { leftovers } from "../docker";
import { pulumiBin, pulumiHome } from "../../operations/deploy/workspace";
import { currentDockerHost } from "../../operations/engine/dockerHost";
import { PROJECT } from "../../core/model/names";
import { removeLabelled } from "./labelled";

/** What one run of the engine did. */
export interface Run {
  /** Undefined when the run succeeded. */
  error: Error | undefined;
  /** The steps that change something, in the order in which the engine began them, as `operation name`. */
  steps: string[];
  /** All that was shown: what the engine printed, and the message of every event. */
  shown: string;
  /** The messages of one resource (by name), one per line. */
  messagesOf(resource: string): string;
}

/** A resource as it is in the state. */
export interface StateResource {
  urn: string;
  type: string;
  id?: string;
  inputs: Record<string, unknown>;
  outputs: Record<string, unknown>;
}

/** How long one run of the engine may take, in ms. */
const RUN_LIMIT = 60_000;

/**
 * The real Pulumi engine with a backend, a passphrase and a Pulumi home of its own in a temporary folder,
 * over the plugins that set-up has put in place.
 */
export class Engine {
  /** Scratch space for the tests; removed with the engine. */
  public readonly folder = mkdtempSync(join(tmpdir(), "postgres-replica-engine-"));
  private readonly env: Record<string, string>;
  private readonly stacks: TestStack[] = [];
  private command: PulumiCommand | undefined;

  public constructor() {
    const home = join(this.folder, "home");
    for (const folder of [home, join(this.folder, "backend"), join(this.folder, "project")]) {
      mkdirSync(folder, { mode: 0o700 });
    }
    // The plugins are the machine's; which stack is selected, credentials and logs are not.
    symlinkSync(join(pulumiHome(), "plugins"), join(home, "plugins"));
    this.env = {
      PATH: `${pulumiBin()}${delimiter}${process.env["PATH"] ?? ""}`,
      PULUMI_HOME: home,
      PULUMI_BACKEND_URL: `file://${join(this.folder, "backend")}`,
      PULUMI_CONFIG_PASSPHRASE: randomBytes(16).toString("hex"),
      PULUMI_CONFIG_PASSPHRASE_FILE: "",
      PULUMI_SKIP_UPDATE_CHECK: "true",
      PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION: "true",
      DOCKER_HOST: currentDockerHost(),
    };
  }

  /** A new, empty stack. */
  public async stack(prefix: string): Promise<TestStack> {
    const installed = join(pulumiBin(), "pulumi");
    this.command ??= await PulumiCommand.get(existsSync(installed) ? { root: join(pulumiBin(), "..") } : {});
    const name = `${prefix}-${randomBytes(3).toString("hex")}`;
    const stack = await LocalWorkspace.createStack(
      { stackName: name, projectName: PROJECT, program: () => Promise.resolve() },
      {
        pulumiCommand: this.command,
        workDir: join(this.folder, "project"),
        envVars: this.env,
        projectSettings: { name: PROJECT, runtime: "nodejs" },
      },
    );
    const made = new TestStack(stack, name, join(this.folder, "backend", ".pulumi", "stacks", PROJECT, `${name}.json`));
    this.stacks.push(made);
    return made;
  }

  /** Destroys every stack and removes the folder. Throws when anything is left, which it removes by force. */
  public async remove(): Promise<void> {
    const left: string[] = [];
    try {
      await Promise.all(this.stacks.map(async (stack) => left.push(...(await stack.clear()))));
    } finally {
      rmSync(this.folder, { recursive: true, force: true });
    }
    if (left.length > 0) {
      throw new Error(`the test left something behind: ${left.join(", ")}`);
    }
  }
}

const nameOf = (urn: string): string => urn.slice(urn.lastIndexOf("::") + 2);

/** Steps that say that nothing changes, and the marker that the engine puts beside the two halves of a replacement. */
const QUIET = new Set(["same", "refresh", "read", "replace"]);

/** Collects what the engine tells while it runs. */
class Recorder {
  private readonly begun: string[] = [];
  private readonly found: string[] = [];
  private readonly messages: { resource: string; message: string }[] = [];
  private output = "";

  public readonly options = {
    onOutput: (text: string): void => void (this.output += text),
    onEvent: (event: EngineEvent): void => this.record(event),
  };

  private record(event: EngineEvent): void {
    const { resourcePreEvent: before, resOutputsEvent: after, diagnosticEvent: said } = event;
    // The stack itself and the providers are of no interest to the tests.
    const change = (metadata: { op: string; urn: string; type: string }): string[] =>
      metadata.type.startsWith("pulumi:") || QUIET.has(metadata.op) ? [] : [`${metadata.op} ${nameOf(metadata.urn)}`];
    if (before !== undefined) {
      this.begun.push(...change(before.metadata));
    }
    if (after !== undefined) {
      this.found.push(...change(after.metadata));
    }
    // Debugging messages hold inputs in the clear; the engine shows them to nobody.
    if (said !== undefined && (said.severity as string) !== "debug") {
      this.messages.push({ resource: nameOf(said.urn ?? ""), message: said.message });
    }
  }

  /** @param refresh - a refresh begins with every resource; only its end says what has changed */
  public run(error: Error | undefined, refresh = false): Run {
    const { output, messages } = this;
    return {
      error,
      steps: refresh ? [...this.found].sort() : this.begun,
      shown: [output, ...messages.map(({ message }) => message), error?.message ?? ""].join("\n"),
      messagesOf: (resource) =>
        messages
          .filter((m) => m.resource === resource)
          .map((m) => m.message.trimEnd())
          .join("\n"),
    };
  }
}

/** A stack of a test: every method is one run of the engine. */
export class TestStack {
  private readonly readOutputs: Stack["outputs"];

  public constructor(
    private readonly stack: Stack,
    public readonly name: string,
    private readonly stateFile: string,
  ) {
    this.readOutputs = stack.outputs.bind(stack);
    // After every run the Automation API asks for the outputs and the history: three more processes, two
    // thirds of a small run's time, for answers that nobody reads here.
    stack.outputs = () => Promise.resolve({});
    stack.info = () => Promise.resolve(undefined);
  }

  /** Runs `up`, which must succeed. */
  public async up(program: PulumiFn): Promise<Run> {
    return succeeded(await this.run((options) => this.stack.up({ ...options, program })));
  }

  /** Runs `up`, which must fail. */
  public async failingUp(program: PulumiFn): Promise<Run & { error: Error }> {
    return failed(await this.run((options) => this.stack.up({ ...options, program })));
  }

  public async preview(program: PulumiFn): Promise<Run> {
    return succeeded(await this.run((options) => this.stack.preview({ ...options, program })));
  }

  /** Runs a preview, which must fail. */
  public async failingPreview(program: PulumiFn): Promise<Run & { error: Error }> {
    return failed(await this.run((options) => this.stack.preview({ ...options, program })));
  }

  /** Runs `refresh`; its steps are sorted by text. */
  public async refresh(): Promise<Run> {
    return succeeded(await this.run((options) => this.stack.refresh(options), true));
  }

  public async destroy(): Promise<Run> {
    return succeeded(await this.run((options) => this.stack.destroy(options)));
  }

  /** The stack's outputs, secrets in the clear. */
  public async outputs(): Promise<Record<string, { value: unknown; secret: boolean }>> {
    return this.readOutputs();
  }

  /** The state as it is on disk. */
  public stateText(): string {
    return readFileSync(this.stateFile, "utf8");
  }

  /** The resources in the state, without the stack and the providers. */
  public resources(): StateResource[] {
    const state = JSON.parse(this.stateText()) as { checkpoint: { latest?: { resources?: StateResource[] } } };
    return (state.checkpoint.latest?.resources ?? []).filter((resource) => !resource.type.startsWith("pulumi:"));
  }

  /** One resource of the state, by its name. */
  public resource(name: string): StateResource {
    const found = this.resources().filter((resource) => nameOf(resource.urn) === name);
    if (found.length !== 1 || found[0] === undefined) {
      throw new Error(`the state holds ${found.length} resources named ${name}`);
    }
    return found[0];
  }

  /** Destroys what is left of the stack; returns what that did not remove, after removing it by force. */
  public async clear(): Promise<string[]> {
    const left: string[] = [];
    try {
      if (this.resources().length > 0) {
        await this.destroy();
      }
    } catch (error) {
      left.push(`destroy of ${this.name} failed: ${(error as Error).message}`);
    }
    left.push(...(await leftovers(this.name)));
    await removeLabelled(this.name);
    return left;
  }

  private async run(operation: (options: RunOptions) => Promise<unknown>, refresh = false): Promise<Run> {
    const recorder = new Recorder();
    const abort = new AbortController();
    const limit = setTimeout(() => abort.abort(), RUN_LIMIT);
    try {
      await operation({ ...recorder.options, signal: abort.signal, color: "never" });
      return recorder.run(undefined, refresh);
    } catch (error) {
      return recorder.run(error as Error, refresh);
    } finally {
      clearTimeout(limit);
    }
  }
}

type RunOptions = Recorder["options"] & { signal: AbortSignal; color: "never" };

function succeeded(run: Run): Run {
  if (run.error !== undefined) {
    throw run.error;
  }
  return run;
}

function failed(run: Run): Run & { error: Error } {
  if (run.error === undefined) {
    throw new Error(`the engine succeeded, but should not have:\n${run.shown}`);
  }
  return { ...run, error: run.error };
}
