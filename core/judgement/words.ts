import { bytesText } from "../grammar/bytes";
import type { Facts, Finding, Kind } from "./findings";
import { UNREACHABLE } from "./observation";

/** What is said of a finding. Its beginning is a heading of docs/operations.md; a test compares the two. */

/** Names in a sentence: `pg1 and pg2`. */
export const and = (names: readonly string[]): string => names.join(" and ");

const because = (reason: string): string => (reason === "" ? "" : `: ${reason}`);

/** Why a standby is late on purpose. */
export const lateBy = (delay: string): string => `late because recovery_min_apply_delay is ${delay}`;

/** What is wrong with tablespaces. @param who The primary, or `it`. */
export const tablespacesOf = (who: string, found: readonly string[]): string =>
  `${who} has tablespaces (${found.join(", ")}), and a node's volume holds nothing but its data directory: they are lost with the container, and no node can be cloned`;

/** @param on The node, where that is not said before. */
export const passwordChanged = (roles: readonly string[], on?: string): string =>
  `the password of ${and(roles)}${on === undefined ? "" : ` on ${on}`} is not the one that the stack has set`;

const WORDS: { readonly [K in Kind]: (facts: Facts[K]) => string } = {
  "no-primary": ({ nothing }) => `no node is primary${nothing === true ? ": the stack is not up, none of its containers is there" : ""}`,
  "several-primaries": ({ writers }) => `more than one writer: ${and(writers.map(({ name }) => name))}`,
  "no-replica": ({ primary }) => `no standby streams from ${primary}`,
  "node-down": ({ role, containerState, reason }) => {
    if (containerState === null) {
      return "its container is not there";
    }
    if (containerState === UNREACHABLE) {
      return `its Docker host does not answer, so nobody knows what it does${because(reason)}`;
    }
    if (containerState === "restarting") {
      return `its container stops again and again${because(reason)}`;
    }
    return `its container is ${containerState}${role === "unknown" ? ", but the server does not answer" : ""}${because(reason)}`;
  },
  "not-streaming": ({ primary, state, from, delay, reason }) => {
    if (from !== null) {
      return `it streams from ${from}, not from ${primary}`;
    }
    return delay === null
      ? `it does not stream from ${primary} (${state ?? "not connected"})${because(reason)}`
      : `it does not stream from ${primary} before it has replayed the WAL that it has, which is ${lateBy(delay)}`;
  },
  lag: ({ primary, amount, unit, limit, delay }) =>
    `it is ${amount} ${unit} behind ${primary}, more than ${limit}${delay === null ? "" : `, ${lateBy(delay)}`}`,
  "replay-paused": () => "its replay is paused: it receives WAL and shows nothing new",
  "slot-missing": ({ primary, slot }) => `${primary} has no slot ${slot}, so it may throw away WAL that the node needs`,
  "slot-inactive": ({ slot, heldBytes }) => `its slot ${slot} is inactive and holds ${heldBytes} bytes of WAL`,
  "slot-lost": ({ slot }) => `its slot ${slot} is lost: WAL that the node needs is gone`,
  "disk-nearly-full": ({ freeBytes, totalBytes }) =>
    `the disk of its volume is nearly full: ${bytesText(freeBytes)} of ${bytesText(totalBytes)} are free`,
  "password-changed": ({ roles }) => passwordChanged(roles),
  tablespaces: ({ found }) => tablespacesOf("it", found),
  "certificate-expiring": ({ on, days }) =>
    `its certificate ends on ${on}, in ${days} days: then no client that checks it gets in, and no node`,
  "certificate-expired": ({ on }) => `its certificate has ended on ${on}: no client that checks it gets in, and no node`,
  "certificate-provisional": () => "its certificate is one that it has made for itself: no client that checks it gets in, and no node",
};

/** What is wrong, without the node's name and without what to do. */
export function wordsOf<K extends Kind>({ kind, facts }: Finding<K>): string {
  return (WORDS[kind] as (facts: Facts[K]) => string)(facts);
}

/** The same with the node's name before it. */
export const saidOf = (finding: Finding): string => `${finding.node === "" ? "" : `${finding.node}: `}${wordsOf(finding)}`;
