import { NODE_ROOT } from "../model/names";

/** The settings of TLS: what a server offers, what it insists on, and how the nodes check each other. */

/**
 * How far TLS is in force. `offered`: the servers have certificates, and whoever comes without TLS is let in as before: so that
 * a stack that runs without it is switched over with nobody cut off. `required`: nobody is let in without, and the nodes check
 * each other's certificates.
 */
export type TlsStage = "offered" | "required";

/** Where a node has its certificate, its key, and what it checks others by; below the volume's folder. */
export const TLS_FILES = { certificate: "own/server.crt", key: "own/server.key", authority: "own/ca.crt" } as const;

/** How a client checks a server: that its certificate is of the stack's CA, and that it is the one that was asked for. */
export const verified = (authorityFile: string): { sslmode: string; sslrootcert: string } => ({
  sslmode: "verify-full",
  sslrootcert: authorityFile,
});

/** How the nodes check each other. */
export const BETWEEN_NODES = verified(`${NODE_ROOT}/${TLS_FILES.authority}`);

/** What the server is told. */
const SERVER = {
  ssl: "on",
  ssl_cert_file: `${NODE_ROOT}/${TLS_FILES.certificate}`,
  ssl_key_file: `${NODE_ROOT}/${TLS_FILES.key}`,
  ssl_min_protocol_version: "TLSv1.2",
};

/** The parameters that the stack decides itself where TLS is on. */
export const TLS_PARAMETERS: readonly string[] = Object.keys(SERVER);

/** Of a node's settings. Nothing where TLS is off. */
export function tlsParameters(stage: TlsStage | undefined): Record<string, string> {
  return {
    ...(stage === undefined ? {} : SERVER),
    // For pgnode, which asks the peers.
    ...(stage === "required" ? { "pgnode.tls": `sslmode=${BETWEEN_NODES.sslmode} sslrootcert=${BETWEEN_NODES.sslrootcert}` } : {}),
  };
}

/** How far TLS is in force by a node's settings; undefined where it is off. */
export function tlsStageIn(nodeConf: string): TlsStage | undefined {
  if (/^pgnode\.tls = './m.test(nodeConf)) {
    return "required";
  }
  return nodeConf.includes(`\nssl_cert_file = '${SERVER.ssl_cert_file}'\n`) ? "offered" : undefined;
}
