import execa from "execa";
import { randomBytes } from "crypto";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "fs";
import { join } from "path";
import { PROJECT } from "../../core/model/names";
import { UserError } from "../errors";
import { fileBackend, lastError, pulumiEnvironment, STATE_DIR } from "../deploy/workspace";
import type { StateEntry } from "./deployment";

/** How long one run of Pulumi may take, in milliseconds. */
const LIMIT = 180_000;

/**
 * Lets the Docker provider fill in what only it knows of the objects, by a `pulumi refresh` of a state that nobody else
 * uses: the stack's own gets the whole at once, or nothing.
 *
 * @throws UserError when Pulumi fails, or an object is gone meanwhile.
 */
export async function filledIn(stack: string, resources: readonly StateEntry[]): Promise<object[]> {
  mkdirSync(STATE_DIR, { recursive: true, mode: 0o700 });
  const prefix = `adopt-${stack}-`;
  // A run that was killed leaves its folder behind, encrypted with a passphrase that nobody has.
  for (const old of readdirSync(STATE_DIR).filter((name) => name.startsWith(prefix))) {
    rmSync(join(STATE_DIR, old), { recursive: true, force: true });
  }
  const folder = mkdtempSync(join(STATE_DIR, prefix));
  try {
    writeFileSync(join(folder, "Pulumi.yaml"), `name: ${PROJECT}\nruntime: nodejs\n`);
    mkdirSync(join(folder, "backend"));
    const env = {
      ...pulumiEnvironment(stack),
      PULUMI_BACKEND_URL: fileBackend(join(folder, "backend")),
      PULUMI_CONFIG_PASSPHRASE: randomBytes(24).toString("hex"),
      PULUMI_CONFIG_PASSPHRASE_FILE: "",
    };
    const pulumi = async (args: readonly string[], input = ""): Promise<string> => {
      const ran = await execa("pulumi", ["--non-interactive", ...args, "--stack", stack], {
        ...{ cwd: folder, env, input, reject: false, timeout: LIMIT },
        maxBuffer: 256 * 1024 * 1024,
      });
      if (ran.exitCode !== 0) {
        const why = ran.timedOut ? "no end after 180 s" : lastError(`${ran.stderr}\n${ran.stdout}`);
        throw new UserError(
          `pulumi ${args.slice(0, 2).join(" ")} of the new state failed: ${why}. No state was written; run the same again`,
        );
      }
      return ran.stdout;
    };
    await pulumi(["stack", "init"]);
    const empty = JSON.parse(await pulumi(["stack", "export"])) as { deployment: object };
    await pulumi(["stack", "import"], JSON.stringify({ ...empty, deployment: { ...empty.deployment, resources } }));
    await pulumi(["refresh", "--yes", "--skip-preview"]);
    const filled = JSON.parse(await pulumi(["stack", "export", "--show-secrets"])) as { deployment: { resources: StateEntry[] } };
    const gone = resources.filter(({ urn }) => !filled.deployment.resources.some((resource) => resource.urn === urn));
    if (gone.length > 0) {
      const names = gone.map(({ urn }) => urn.split("::").at(-1) ?? "");
      throw new UserError(`${names.join(", ")} vanished while the stack was being adopted. No state was written; run adopt again`);
    }
    return filled.deployment.resources;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
