import { REPLICATION_ROLE, REWIND_ROLE } from "../model/names";
import type { TlsStage } from "./tls";

/** Who may connect. */

/**
 * pg_hba.conf: the socket for the node's own administrator, scram for everybody else. The replication role may always come
 * from the nodes' own network and from those on other Docker hosts, whatever is allowed: standbys have to stream, and by the rewind
 * role they read the primary's files.
 *
 * @param farPeers From where nodes on other Docker hosts come: addresses or CIDR ranges.
 * @param tls Where it is required, nobody is let in over TCP without. @default off
 */
export function hbaConf(allowedSubnets: readonly string[], farPeers: readonly string[] = [], tls?: TlsStage): string {
  const host = tls === "required" ? "hostssl" : "host";
  const from = [...new Set(["127.0.0.1/32", "::1/128", ...allowedSubnets])];
  const fromNodes = [...new Set([...from, "samenet", ...farPeers.map(asRange)])];
  const rule = (type: string, database: string, user: string, address: string, method: string): string =>
    [type, database, user, address, method].filter((field) => field !== "").join("\t");
  return [
    "# Written by postgres-replica; `pulumi up` overwrites it.",
    rule("local", "all", "postgres", "", "peer"),
    rule("local", "all", "all", "", "scram-sha-256"),
    ...fromNodes.map((address) => rule(host, "replication", REPLICATION_ROLE, address, "scram-sha-256")),
    // A node asks its peers there who they are, and pg_rewind reads there; no other database is the business of these two.
    ...[REPLICATION_ROLE, REWIND_ROLE].flatMap((role) => [
      ...fromNodes.map((address) => rule(host, "postgres", role, address, "scram-sha-256")),
      ...fromNodes.map((address) => rule(host, "all", role, address, "reject")),
    ]),
    ...from.map((address) => rule(host, "all", "all", address, "scram-sha-256")),
    "",
  ].join("\n");
}

/** One address as the range that holds it alone. */
const asRange = (text: string): string => (text.includes("/") ? text : `${text}/${text.includes(":") ? 128 : 32}`);
