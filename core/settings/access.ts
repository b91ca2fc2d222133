import { REPLICATION_ROLE, REWIND_ROLE } from "../model/names";
import type { TlsStage } from "./tls";

/** Who may connect. */

/**
 * pg_hba.conf: the socket for the node's own administrator, scram for everybody else. The replication role may always come
 * from the nodes' own network and from those on other Docker hosts, whatever is allowed: standbys have to stream. The rewind role,
 * which may read every file of the cluster, comes from nowhere else.
 *
 * @param farPeers From where nodes on other Docker hosts come: addresses or CIDR ranges.
 * @param tls Where it is required, nobody is let in over TCP without. @default off
 */
export function hbaConf(allowedSubnets: readonly string[], farPeers: readonly string[] = [], tls?: TlsStage): string {
  const host = tls === "required" ? "hostssl" : "host";
  const from = [...new Set(["127.0.0.1/32", "::1/128", ...allowedSubnets])];
  const nodes = ["samenet", ...farPeers.map(asRange)];
  const fromNodes = [...new Set([...from, ...nodes])];
  const rule = (type: string, database: string, user: string, address: string, method: string): string =>
    [type, database, user, address, method].filter((field) => field !== "").join("\t");
  return [
    "# Written by postgres-replica; `pulumi up` overwrites it.",
    rule("local", "all", "postgres", "", "peer"),
    rule("local", "all", "all", "", "scram-sha-256"),
    ...fromNodes.map((address) => rule(host, "replication", REPLICATION_ROLE, address, "scram-sha-256")),
    // A node asks its peers there who they are; no other database is the replication role's business.
    ...fromNodes.map((address) => rule(host, "postgres", REPLICATION_ROLE, address, "scram-sha-256")),
    ...fromNodes.map((address) => rule(host, "all", REPLICATION_ROLE, address, "reject")),
    // pg_rewind reads through database postgres.
    ...[...new Set(nodes)].map((address) => rule(host, "postgres", REWIND_ROLE, address, "scram-sha-256")),
    rule(host, "all", REWIND_ROLE, "all", "reject"),
    ...from.map((address) => rule(host, "all", "all", address, "scram-sha-256")),
    "",
  ].join("\n");
}

/** One address as the range that holds it alone. */
const asRange = (text: string): string => (text.includes("/") ? text : `${text}/${text.includes(":") ? 128 : 32}`);
