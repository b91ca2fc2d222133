import type * as command from "@pulumi/command";
import * as docker from "@pulumi/docker";
import type * as pulumi from "@pulumi/pulumi";
import type { Cluster } from "../core/model/cluster";
import { provideImage } from "../core/model/image";
import { labelsOf, networkName } from "../core/model/names";
import { isBySsh, SSH_OPTIONS } from "../core/model/ssh";
import type { Known, Look } from "../operations/guard/look";
import { IDENTITY_NAME } from "../operations/guard/prior";
import { factsOf } from "../operations/guard/survey";
import { local } from "./localCommand";

/** What comes before every Docker object. */

/** What an existing stack begins with while it is still being looked at: Pulumi starts both plugins meanwhile. */
export interface Foundation {
  identity: command.local.Command;
  /** By DOCKER_HOST value. */
  providers: ReadonlyMap<string, docker.Provider>;
}

export function foundation(cluster: Cluster, known: Known): Foundation {
  return {
    identity: stackIdentity(cluster, known),
    // Without a context of its own the provider would take DOCKER_CONTEXT, and that before the host that was looked at.
    providers: new Map([...known.endings].map(([host, ending]) => [host, new docker.Provider(`docker${ending}`, providerArgs(host))])),
  };
}

const providerArgs = (host: string): docker.ProviderArgs => ({
  host,
  context: "",
  ...(isBySsh(host) ? { sshOpts: [...SSH_OPTIONS] } : {}),
});

/** What every engine of a stack has of it. */
export interface Ground {
  provider: docker.Provider;
  network: docker.Network;
  image: command.local.Command;
  /** Of an engine that joined later: that it is this one. */
  identity: command.local.Command;
}

/**
 * The ground on which an engine's nodes stand.
 *
 * @param engine A DOCKER_HOST value.
 * @param from The ground of another engine, from which the image is brought when it can be had in no other way.
 */
export function groundAt(
  engine: string,
  settings: { cluster: Cluster; image: string; look: Look; foundation: Foundation; protectData: boolean },
  from?: Ground,
): Ground {
  const { cluster, look, foundation: begun } = settings;
  const ending = look.endings.get(engine) ?? "";
  const provider = begun.providers.get(engine);
  if (provider === undefined) {
    throw new Error(`no provider for the Docker engine at ${engine}`);
  }
  const id = look.survey === undefined ? "" : (factsOf(look.survey, engine)?.engine ?? "");
  const identity = ending === "" ? begun.identity : stackIdentity(cluster, { ...look, engine: id }, ending, engine);
  const image = stackImage(
    cluster,
    settings.image,
    look.imageGone.has(engine) ? ["the image is gone"] : [],
    { ending, engine, ...(from === undefined ? {} : { from: cluster.home }) },
    from === undefined ? [] : [from.image],
  );
  const labels = Object.entries(labelsOf(cluster.stack, undefined, look.identity)).map(([label, value]) => ({ label, value }));
  // Another label would replace the network, and every container with it.
  const network = new docker.Network(
    `network${ending}`,
    { name: networkName(cluster.stack), labels },
    { provider, dependsOn: [identity], protect: settings.protectData, ignoreChanges: ["labels"] },
  );
  return { provider, network, image, identity };
}

/**
 * Which state the stack belongs to, and on which engine it was begun. Recorded once; what the stack makes carries it.
 */
function stackIdentity(cluster: Cluster, { identity, engine }: Known, ending = "", at?: string): command.local.Command {
  return local(
    `${IDENTITY_NAME}${ending}`,
    {
      cluster,
      ...(at === undefined ? {} : { engine: at }),
      environment: { STACK_IDENTITY: identity.id, STACK_MADE_BY: identity.madeBy, STACK_ENGINE: engine },
    },
    { create: ":" },
    { ignoreChanges: ["create", "environment"] },
  );
}

/**
 * The PostgreSQL image on a Docker host: built from image/, or pulled, or brought from another host of the stack. Deleting the
 * resource leaves the image alone.
 *
 * @param configured The config key `image`.
 * @param drift That the image is gone, when it is.
 */
function stackImage(
  cluster: Cluster,
  configured: string,
  drift: readonly string[],
  where: { ending: string; engine: string; from?: string },
  dependsOn: pulumi.Resource[],
): command.local.Command {
  const { script, environment } = provideImage(configured);
  const { ending, engine, from } = where;
  return local(
    `image${ending}`,
    { cluster, engine, environment: { ...environment, ...(from === undefined ? {} : { IMAGE_FROM: from }) }, logging: "stderr", drift },
    { create: script },
    { dependsOn },
  );
}
