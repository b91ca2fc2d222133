import * as pulumi from "@pulumi/pulumi";
import { writeFileSync } from "fs";
import { resolve } from "path";
import { AUTHORITY_DAYS, AUTHORITY_ORGANISATION } from "../core/model/certificate";
import type { Cluster } from "../core/model/cluster";
import { HOST_SCRIPTS } from "../core/model/hostScripts";
import { certificatesIn, keyIn } from "../core/grammar/pem";
import { authorityName } from "../operations/guard/prior";
import { ConfigError } from "../core/config";
import { local } from "./localCommand";
import { shown } from "./shown";

/** The stack's certificate authority. */
export interface Authority {
  /** PEM. It is no secret: clients check the servers by it. */
  certificate: pulumi.Output<string>;
  /** PEM; it is in the state alone, encrypted. Nobody has it here when the user provides the certificates. */
  key?: pulumi.Output<string>;
}

/** The user's own, whose certificates they provide. */
export const providedAuthority = (certificate: string): Authority => ({ certificate: pulumi.output(certificate) });

/**
 * A certificate authority that is made once per stack, by a helper container, and kept in the stack's state. While one takes
 * another's place there are two.
 *
 * @param generations Those that are trusted; the first one issues the certificates.
 */
export function stackAuthority(
  cluster: Cluster,
  [issuer, ...others]: readonly [number, ...number[]],
  dependsOn: pulumi.Resource[],
): Authority {
  const own = oneAuthority(cluster, issuer, dependsOn);
  const all = [own, ...others.map((generation) => oneAuthority(cluster, generation, dependsOn))];
  return {
    key: pulumi.secret(own.apply(keyIn)),
    certificate: pulumi.unsecret(pulumi.all(all).apply((texts) => texts.map(certificatesIn).join(""))),
  };
}

/** Its key and its certificate. */
function oneAuthority(cluster: Cluster, generation: number, dependsOn: pulumi.Resource[]): pulumi.Output<string> {
  return local(
    authorityName(generation),
    {
      cluster,
      environment: {
        NODE_IMAGE: cluster.image,
        AUTHORITY_NAME: cluster.stack,
        AUTHORITY_ORGANISATION,
        AUTHORITY_DAYS: String(AUTHORITY_DAYS),
      },
    },
    { create: HOST_SCRIPTS.makeAuthority },
    { dependsOn, ignoreChanges: ["create", "environment"] },
  ).stdout;
}

/**
 * Writes the authority's certificate to where the URLs say that it is. Not a resource: a fresh checkout, as in CI, has to
 * have it too, and that is no change of the stack. A preview writes nothing.
 */
export function writeAuthority({ certificate }: Authority, file: string): void {
  if (!pulumi.runtime.isDryRun()) {
    certificate.apply((text) => {
      try {
        writeFileSync(resolve(file), text);
      } catch (error) {
        throw shown(
          new ConfigError(
            `config key "caFile": ${file} cannot be written (${(error as Error).message}); allowed is a file in a folder that is there`,
          ),
        );
      }
    });
  }
}
