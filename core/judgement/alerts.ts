import { bytesText } from "../grammar/bytes";
import { slotName } from "../model/names";
import { isPrimary, type Observation } from "./observation";
import { changedPasswords, nearlyFull, type Status, tablespaces } from "./topology";

/** One reason to wake somebody. */
export interface Alert {
  /** The node it is about; empty when it is about the stack. */
  node: string;
  kind:
    | "could-not-tell"
    | "no-primary"
    | "several-primaries"
    | "no-replica"
    | "node-down"
    | "not-streaming"
    | "lag"
    | "slot-missing"
    | "slot-inactive"
    | "slot-lost"
    | "replay-paused"
    | "disk-nearly-full"
    | "password-changed"
    | "tablespaces";
  message: string;
}

/**
 * The guide's alerts, and what the field adds: lag is what is written and not replayed, in bytes and in
 * seconds; a slot that is inactive or lost, a paused replay, a disk that is nearly full and a password that
 * was changed by hand are reasons too.
 */
export function alertsOf(status: Status, observed: readonly Observation[], limits: { lagBytes: number; lagSeconds: number }): Alert[] {
  const alerts: Alert[] = [];
  const primaries = observed.filter(isPrimary);
  if (primaries.length > 1) {
    alerts.push({ node: "", kind: "several-primaries", message: `${primaries.map((p) => p.name).join(" and ")} are all writable` });
  }
  for (const { name, disk } of observed) {
    if (disk !== null && nearlyFull(disk)) {
      const message = `${name}: the disk of its volume is nearly full: ${bytesText(disk.freeBytes)} of ${bytesText(disk.totalBytes)} are free`;
      alerts.push({ node: name, kind: "disk-nearly-full", message });
    }
  }
  const [writer] = primaries;
  if (writer === undefined) {
    alerts.push({ node: "", kind: "no-primary", message: "no node is primary" });
    return alerts;
  }
  const primary = writer.server;
  if (primaries.length === 1 && observed.length > 1 && !primary.replicas.some((replica) => replica.state === "streaming")) {
    alerts.push({ node: "", kind: "no-replica", message: "no replica is connected" });
  }
  if (primary.changedPasswords.length > 0) {
    alerts.push({ node: writer.name, kind: "password-changed", message: `${writer.name}: ${changedPasswords(writer)}` });
  }
  if (primary.tablespaces.length > 0) {
    alerts.push({ node: writer.name, kind: "tablespaces", message: tablespaces(writer.name, primary.tablespaces) });
  }
  for (const node of status.nodes) {
    const { server, reason } = observed.find((o) => o.name === node.name) ?? { server: null, reason: "" };
    const because = reason === "" ? "" : `: ${reason}`;
    const add = (kind: Alert["kind"], message: string): number =>
      alerts.push({ node: node.name, kind, message: `${node.name}: ${message}` });
    if (node.role === "primary") {
      continue;
    }
    if (node.role === "down" || node.role === "unknown") {
      add("node-down", `the server does not answer (${node.role})${because}`);
    } else if (!primary.replicas.some((replica) => replica.name === node.name && replica.state === "streaming")) {
      add("not-streaming", `it does not stream from the primary${because}`);
    } else if (server?.replayPaused === true) {
      add("replay-paused", "its replay is paused");
    }
    if (node.lagBytes !== null && node.lagBytes > limits.lagBytes) {
      add("lag", `replication lag is ${node.lagBytes} bytes, more than ${limits.lagBytes}`);
    }
    if (node.lagBytes !== null && node.lagBytes > 0 && node.lagSeconds !== null && node.lagSeconds > limits.lagSeconds) {
      add("lag", `replication lag is ${node.lagSeconds.toFixed(0)} s, more than ${limits.lagSeconds} s`);
    }
    const slot = primary.slots.find((s) => s.name === slotName(node.name));
    if (slot === undefined) {
      if (node.role === "standby") {
        add("slot-missing", "the primary has no slot for it");
      }
    } else if (slot.walStatus === "lost") {
      add("slot-lost", `its slot ${slot.name} is lost`);
    } else if (!slot.active) {
      add("slot-inactive", `its slot ${slot.name} is inactive and holds ${slot.retainedBytes ?? 0} bytes of WAL`);
    }
  }
  return alerts;
}
