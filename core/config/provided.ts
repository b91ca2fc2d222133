import { createPrivateKey, type KeyObject } from "crypto";
import { certificateList, type Certificate, dateOf, isIssuedBy } from "../model/certificate";
import { certificatesIn } from "../grammar/pem";
import { ConfigError } from "./errors";
import { fromJson } from "./structured";
import type { StackConfig } from "./types";

/** Certificates that the user has brought (`tls: provided`), checked before anything is changed. */

/** Their keys in Pulumi's config. */
export const PROVIDED_KEYS = ["tlsCa", "tlsCertificates"] as const;

/** What a node is given, PEM. */
export interface NodeCertificate {
  /** With the certificates between it and the CA, when there are any. */
  certificate: string;
  key: string;
}

export interface Provided {
  /** The certificates of the CA, PEM. */
  authority: string;
  /** By node. */
  nodes: Readonly<Record<string, NodeCertificate>>;
}

/** One line; no message holds a key. @throws ConfigError always */
function refuse(stack: string, key: string, is: string, allowed: string): never {
  throw new ConfigError(
    `config key "${key}" ${is}; allowed is ${allowed}. Set it with: pulumi config set --stack ${stack} ${key.endsWith(".key") ? "--secret " : ""}--path '${key}' < FILE.pem`,
  );
}

/**
 * Reads and checks them.
 *
 * @param raw The keys as Pulumi hands them over: text, and JSON text.
 * @param now Seconds since 1970.
 * @throws ConfigError for the first thing that is wrong.
 */
export function providedCertificates(config: StackConfig, raw: Readonly<Record<string, unknown>>, now: number): Provided {
  const { stack } = config;
  const authority = certificatesIn(textOf(raw["tlsCa"]));
  const authorities = certificateList(authority);
  if (authorities === undefined || authorities.length === 0) {
    refuse(stack, "tlsCa", "holds no certificate", "the certificate of the CA in PEM, or several");
  }
  const given = objectOf(raw["tlsCertificates"]);
  for (const node of Object.keys(given)) {
    if (!config.nodes.some(({ name }) => name === node)) {
      throw new ConfigError(
        `config key "tlsCertificates" has a node ${JSON.stringify(node)}; allowed is one of ${config.nodes.map(({ name }) => name).join(", ")}. Remove it with: pulumi config rm --stack ${stack} --path 'tlsCertificates.${node}'`,
      );
    }
  }
  return {
    authority,
    nodes: Object.fromEntries(config.nodes.map((node) => [node.name, checked(config, node, objectOf(given[node.name]), authorities, now)])),
  };
}

function checked(
  { stack }: StackConfig,
  node: StackConfig["nodes"][number],
  given: Readonly<Record<string, unknown>>,
  authorities: readonly Certificate[],
  now: number,
): NodeCertificate {
  const path = `tlsCertificates.${node.name}`;
  const certificate = certificatesIn(textOf(given["certificate"]));
  const key = textOf(given["key"]);
  const [own, ...between] = certificateList(certificate) ?? [];
  if (own === undefined) {
    refuse(stack, `${path}.certificate`, "holds no certificate", "the node's certificate in PEM, followed by those between it and the CA");
  }
  const wrong = (is: string, allowed: string): never => refuse(stack, `${path}.certificate`, is, allowed);
  if (now < own.from) {
    wrong(`is not valid before ${dateOf(own.from)}`, "a certificate that is valid now");
  }
  if (now >= own.to) {
    wrong(`has ended on ${dateOf(own.to)}`, "a certificate that is valid now");
  }
  const missing = [
    ...(own.x509.checkHost(node.name, { subject: "never" }) === undefined ? [`DNS:${node.name}`] : []),
    ...(own.x509.checkIP(node.address) === undefined ? [`IP:${node.address}`] : []),
  ];
  if (missing.length > 0) {
    wrong(`is not for ${missing.join(" and ")}`, "a certificate whose alternative names have the node's name and its address");
  }
  let last = own;
  for (const next of between) {
    if (!isIssuedBy(last, next)) {
      wrong("is followed by one that has not issued it", "each certificate followed by the one that has issued it");
    }
    last = next;
  }
  if (!authorities.some((one) => isIssuedBy(last, one) || one.x509.fingerprint256 === last.x509.fingerprint256)) {
    wrong("was not issued by a CA of tlsCa", "a certificate of that CA, followed by those between");
  }
  const privateKey = keyOf(key);
  if (privateKey === undefined) {
    refuse(stack, `${path}.key`, "holds no private key that can be read", "the certificate's key in PEM, without a passphrase");
  }
  if (!own.x509.checkPrivateKey(privateKey)) {
    refuse(stack, `${path}.key`, "does not fit the certificate", "the key that the certificate was made for");
  }
  return { certificate, key };
}

function keyOf(pem: string): KeyObject | undefined {
  try {
    return createPrivateKey(pem);
  } catch {
    return undefined; // what is wrong with it may hold some of it
  }
}

const textOf = (value: unknown): string => (typeof value === "string" ? value : "");

/** Whatever is no object has nothing in it. */
function objectOf(value: unknown): Record<string, unknown> {
  const object = fromJson(value);
  return typeof object === "object" && object !== null ? (object as Record<string, unknown>) : {};
}
