import type * as command from "@pulumi/command";
import * as docker from "@pulumi/docker";
import type { Cluster } from "../core/model/cluster";
import { provideImage } from "../core/model/image";
import type { Known } from "../operations/guard/look";
import { IDENTITY_NAME } from "../operations/guard/prior";
import { local } from "./localCommand";

/** What comes before every Docker object. */

/** What an existing stack begins with while it is still being looked at: Pulumi starts both plugins meanwhile. */
export interface Foundation {
  identity: command.local.Command;
  provider: docker.Provider;
}

export function foundation(cluster: Cluster, known: Known): Foundation {
  return {
    identity: stackIdentity(cluster, known),
    // Without a context of its own the provider would take DOCKER_CONTEXT, and that before the host that was looked at.
    provider: new docker.Provider("docker", { host: known.dockerHost, context: "" }),
  };
}

/**
 * Which state the stack belongs to, and on which engine it was begun. Recorded once; what the stack makes carries it.
 */
function stackIdentity(cluster: Cluster, { identity, engine }: Known): command.local.Command {
  return local(
    IDENTITY_NAME,
    { cluster, environment: { STACK_IDENTITY: identity.id, STACK_MADE_BY: identity.madeBy, STACK_ENGINE: engine } },
    { create: ":" },
    { ignoreChanges: ["create", "environment"] },
  );
}

/**
 * The PostgreSQL image on the Docker host: built from image/, or pulled. Deleting the resource leaves the image alone.
 *
 * @param configured The config key `image`.
 * @param drift That the image is gone, when it is.
 */
export function stackImage(cluster: Cluster, configured: string, drift: readonly string[]): command.local.Command {
  const { script, environment } = provideImage(configured);
  return local("image", { cluster, environment, logging: "stderr", drift }, { create: script }, {});
}
