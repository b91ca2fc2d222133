import { firstLine, UserError } from "../errors";
import { pulumiOutput, runPulumi } from "./workspace";

/** One resource as `pulumi stack export` writes it; its secrets stay encrypted. */
export interface ExportedResource {
  urn: string;
  type: string;
  parent?: string;
  provider?: string;
  dependencies?: string[];
  propertyDependencies?: Record<string, string[] | null>;
  deletedWith?: string;
  id?: string;
  outputs?: Record<string, unknown>;
  delete?: boolean;
  [key: string]: unknown;
}

/** A stack's state: `pulumi stack export`. */
export interface ExportedState {
  version: number;
  deployment: { resources?: ExportedResource[]; [key: string]: unknown };
}

export async function exportState(stack: string): Promise<ExportedState> {
  return JSON.parse(await pulumiOutput(stack, ["stack", "export", "--stack", stack])) as ExportedState;
}

/** Puts other resources in the place of those of a state, in one step. @throws UserError */
export async function importState(stack: string, state: ExportedState, resources: readonly object[]): Promise<void> {
  // Not a file: there may be passwords in it.
  const text = JSON.stringify({ ...state, deployment: { ...state.deployment, resources } });
  const ran = await runPulumi(stack, ["stack", "import", "--stack", stack], text);
  if (ran.exitCode !== 0) {
    throw new UserError(
      `pulumi stack import failed: ${firstLine(`${ran.stderr}\n${ran.stdout}`.replace(/^.*?error: /s, ""))}. Run the same again`,
    );
  }
}

/**
 * A state without some of its resources, and without what the others say of them. Pure.
 *
 * @param goes Whether a resource is to go.
 */
export function withoutResources(
  resources: readonly ExportedResource[],
  goes: (resource: ExportedResource) => boolean,
): ExportedResource[] {
  const gone = new Set(resources.filter(goes).map(({ urn }) => urn));
  const kept = (urns: readonly string[]): string[] => urns.filter((urn) => !gone.has(urn));
  return resources
    .filter(({ urn }) => !gone.has(urn))
    .map((resource) => ({
      ...resource,
      ...(resource.dependencies === undefined ? {} : { dependencies: kept(resource.dependencies) }),
      ...(resource.propertyDependencies === undefined
        ? {}
        : {
            propertyDependencies: Object.fromEntries(
              Object.entries(resource.propertyDependencies).map(([name, urns]) => [name, kept(urns ?? [])]),
            ),
          }),
    }));
}
