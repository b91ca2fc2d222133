import { NODE_ROOT } from "../model/names";

/** The settings of TLS: what a server offers, what it insists on, and how the nodes check each other. */

/**
 * How far TLS is in force. `offered`: the servers have certificates, and whoever comes without TLS is let in as before: so that
 * a stack that runs without it is switched over with nobody cut off. `required`: nobody is let in without, and the nodes check
 * each other's certificates.
 */
export type TlsStage = "offered" | "required";

/** Where a stack's certificates come from: its own authority, or the user. */
export type TlsOrigin = "generated" | "provided";

/** How far, and by which certificates. */
export interface NodeTls {
  stage: TlsStage;
  certificates: TlsOrigin;
}

/**
 * Where a node has its certificate and its key, below the volume's folder. Those that the node makes are apart from those that it is
 * brought, so that one never takes the place of the other.
 */
export const TLS_FILES = {
  generated: { certificate: "own/server.crt", key: "own/server.key" },
  provided: { certificate: "own/provided.crt", key: "own/provided.key" },
} as const satisfies Record<TlsOrigin, object>;

/** By what it checks others, and clients check it. */
export const AUTHORITY_FILE = "own/ca.crt";

/** How a client checks a server: that its certificate is of the stack's CA, and that it is the one that was asked for. */
export const verified = (authorityFile: string): { sslmode: string; sslrootcert: string } => ({
  sslmode: "verify-full",
  sslrootcert: authorityFile,
});

/** How the nodes check each other. */
export const BETWEEN_NODES = verified(`${NODE_ROOT}/${AUTHORITY_FILE}`);

/** What the server is told. */
const server = (certificates: TlsOrigin): Record<string, string> => ({
  ssl: "on",
  ssl_cert_file: `${NODE_ROOT}/${TLS_FILES[certificates].certificate}`,
  ssl_key_file: `${NODE_ROOT}/${TLS_FILES[certificates].key}`,
  ssl_min_protocol_version: "TLSv1.2",
});

/** The parameters that the stack decides itself where TLS is on. */
export const TLS_PARAMETERS: readonly string[] = Object.keys(server("generated"));

/** Of a node's settings. Nothing where TLS is off. */
export function tlsParameters(tls: NodeTls | undefined): Record<string, string> {
  return {
    ...(tls === undefined ? {} : server(tls.certificates)),
    // For pgnode, which asks the peers.
    ...(tls?.stage === "required" ? { "pgnode.tls": `sslmode=${BETWEEN_NODES.sslmode} sslrootcert=${BETWEEN_NODES.sslrootcert}` } : {}),
  };
}

/** How far TLS is in force by a node's settings; undefined where it is off. */
export function tlsStageIn(nodeConf: string): TlsStage | undefined {
  if (/^pgnode\.tls = './m.test(nodeConf)) {
    return "required";
  }
  // What the user may have set for himself names another file.
  return Object.values(TLS_FILES).some(({ certificate }) => nodeConf.includes(`\nssl_cert_file = '${NODE_ROOT}/${certificate}'\n`))
    ? "offered"
    : undefined;
}
