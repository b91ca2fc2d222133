/**
 * A stack built, inspected and destroyed by Pulumi's Automation API: for a team whose own program owns the databases.
 *
 * Run it from the project's folder, with Pulumi and the Docker engine in place:
 *
 *     npx tsx examples/automation/index.ts STACK PORT PORT
 *
 * PULUMI_BACKEND_URL and PULUMI_CONFIG_PASSPHRASE are those of plain `pulumi`; without a backend the state goes where
 * `pulumi login` points. Each result is one line of JSON on standard output; progress goes to standard error.
 */
import { type ConfigMap, LocalWorkspace, type Stack } from "@pulumi/pulumi/automation";
import { join } from "path";

/** The project: the Automation API runs its index.ts, as `pulumi up` does there. */
const PROJECT_FOLDER = join(__dirname, "..", "..");

/** Selects the stack, or makes it, and sets its config; there need not be a Pulumi.STACK.yaml. */
async function stackOf(name: string, ports: readonly number[]): Promise<Stack> {
  const stack = await LocalWorkspace.createOrSelectStack({ stackName: name, workDir: PROJECT_FOLDER });
  // As `pulumi config set --path` would: one entry for each value of a structured key.
  const config: ConfigMap = { sampleDatabase: { value: "true" } };
  ports.forEach((port, i) => {
    config[`nodes[${i}].name`] = { value: `pg${i + 1}` };
    config[`nodes[${i}].port`] = { value: String(port) };
  });
  await stack.setAllConfig(config, true);
  return stack;
}

const print = (what: string, value: unknown): void => console.log(JSON.stringify({ what, value }));
const progress = { onOutput: (text: string): void => void process.stderr.write(text), color: "never" as const };

async function main(name: string, ports: readonly number[]): Promise<void> {
  const stack = await stackOf(name, ports);
  try {
    // What up would do: a refusal of the program ends this with its one line.
    const preview = await stack.preview(progress);
    print("planned", preview.changeSummary);

    const up = await stack.up(progress);
    print("built", up.summary.resourceChanges);

    // Secrets are marked as such; their values are in the clear here, so print only what is none.
    const outputs = await stack.outputs();
    print("nodes", outputs["nodes"]?.value);
    print("writerUrl is secret", outputs["writerUrl"]?.secret);

    // Nothing is left to do: an empty plan but for what stays the same.
    const again = await stack.preview({ ...progress, expectNoChanges: true });
    print("unchanged", again.changeSummary);
  } finally {
    // The example takes away all that it made; leave this out where the stack is to live.
    await stack.destroy(progress);
    await stack.workspace.removeStack(name);
    print("destroyed", name);
  }
}

const [name, ...ports] = process.argv.slice(2);
if (name === undefined || ports.length === 0 || !ports.every((port) => /^\d+$/.test(port))) {
  console.error("usage: tsx examples/automation/index.ts STACK PORT [PORT…]; STACK is dev-something, a PORT for each node");
  process.exitCode = 2;
} else {
  main(name, ports.map(Number)).catch((error: Error) => {
    console.error(error.message);
    process.exitCode = 1;
  });
}
