import { spawnSync } from "child_process";
import { existsSync, readFileSync } from "fs";
import { homedir } from "os";
import { join } from "path";
import type { StackConfig } from "../../core/config";
import { placed, type PlacedConfig } from "../../core/model/place";
import { UserError } from "../errors";

const DEFAULT_HOST = "unix:///var/run/docker.sock";

/**
 * The Docker host that the docker command line would use: DOCKER_HOST, else its current context, else
 * the local socket. The provider knows nothing of contexts chosen with `docker context use`
 * (pulumi-docker #603), so the answer is found once and handed to everybody.
 *
 * @throws UserError when the context cannot be read
 */
export function currentDockerHost(env: NodeJS.ProcessEnv = process.env): string {
  if (env["DOCKER_HOST"]) {
    return env["DOCKER_HOST"];
  }
  const context = env["DOCKER_CONTEXT"] || chosenContext(join(env["DOCKER_CONFIG"] ?? join(homedir(), ".docker"), "config.json"));
  if (context === undefined || context === "default") {
    return DEFAULT_HOST;
  }
  const shown = spawnSync("docker", ["context", "inspect", context, "--format", "{{.Endpoints.docker.Host}}"], {
    encoding: "utf8",
    timeout: 10_000,
  });
  if (shown.status !== 0) {
    throw new UserError(
      `the Docker context "${context}" cannot be read: ${(shown.stderr || String(shown.error)).trim()}. Choose another with: docker context use default`,
    );
  }
  return shown.stdout.trim() || DEFAULT_HOST;
}

/** The config with every node's place: on the engine that it names, else on the current one. @throws UserError */
export function placedHere(config: StackConfig): PlacedConfig {
  const open = config.nodes.some(({ dockerHost }) => dockerHost === undefined);
  return placed(config, open ? currentDockerHost() : "");
}

function chosenContext(file: string): string | undefined {
  if (!existsSync(file)) {
    return undefined;
  }
  try {
    return (JSON.parse(readFileSync(file, "utf8")) as { currentContext?: string }).currentContext;
  } catch {
    return undefined; // the docker command line warns about a broken file and goes on as well
  }
}
