import execa from "execa";
import { join } from "path";
import { UserError } from "../errors";

/** What the program is told, in place of an engine with a state. */
export interface ProgramRequest {
  stack: string;
  /** The stack's config, decrypted, with namespaces. */
  config: Record<string, string>;
  /** Which of its keys are secret. */
  secretKeys: string[];
  /** What the state would know, as the engine answers; see operations/guard/prior.ts. */
  prior: { urn: string; type: string; outputs: Record<string, unknown> }[];
  /** The IDs of what is there, by the resource's name. Others get one that is made up. */
  ids: Record<string, string>;
  /** What commands have printed, by the resource's name. */
  stdout: Record<string, string>;
}

/** A resource as the program declares it. Secrets are in Pulumi's own wrapper. */
export interface Declared {
  type: string;
  name: string;
  urn: string;
  /** Empty for a component. */
  id: string;
  custom: boolean;
  parent: string;
  dependencies: string[];
  propertyDependencies: Record<string, string[]>;
  inputs: Record<string, unknown>;
  /** What a component, or the stack, says of itself. */
  outputs?: Record<string, unknown>;
  /** `URN::ID`; empty for the default one. */
  provider: string;
  /** Of the plugin. */
  version: string;
  protect: boolean;
  retainOnDelete: boolean;
  ignoreChanges: string[];
  replaceOnChanges: string[];
  secretOutputs: string[];
}

export type ProgramAnswer = { declared: Declared[] } | { error: string };

const MINUTE = 60_000;

/**
 * Runs the program in a process of its own (it has globals of Pulumi's) against a recorder, as if in a preview, and
 * returns what it declares. Nothing is built; it looks at the engine and the servers as it always does.
 *
 * @throws UserError with the program's own line when it refuses.
 */
export async function declaredBy(request: ProgramRequest): Promise<Declared[]> {
  // Standard input and output: what goes through them is secret.
  const child = await execa(process.execPath, ["--require", "tsx/cjs", join(__dirname, "record.ts")], {
    cwd: join(__dirname, "..", ".."),
    input: JSON.stringify(request),
    env: { PULUMI_CONFIG_SECRET_KEYS: JSON.stringify(request.secretKeys) },
    timeout: MINUTE,
    maxBuffer: 256 * 1024 * 1024,
    reject: false,
  });
  let answer: ProgramAnswer;
  try {
    answer = JSON.parse(child.stdout) as ProgramAnswer;
  } catch {
    throw new Error(`the program told nothing of what it declares: ${child.timedOut ? "no end after 60 s" : child.stderr.slice(-2000)}`);
  }
  if ("error" in answer) {
    throw new UserError(answer.error);
  }
  return answer.declared;
}
