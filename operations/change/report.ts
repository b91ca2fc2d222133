import type { BytesAtRisk } from "../../core/judgement/election";
import type { Observation } from "../../core/judgement/observation";

/** What a failover or switchover did. */
export interface Report {
  stack: string;
  /** The nodes that were fenced. */
  fenced: string[];
  promoted: string;
  /** Seconds from the start of the command (failover) or from the stop of the primary (switchover) to the first accepted write. */
  seconds: number;
  /** Bytes of the old primary's WAL that the new one never received; null when nobody can tell. */
  bytesLost: BytesAtRisk;
  /** How that is known. */
  howKnown: string;
  /** What `bytesLost` says nothing of, because no standby gets it; empty when there is nothing. */
  notCovered: string[];
}

/** Says what is being done; standard output is for results. */
export const say = (line: string): void => console.error(line);

/** What a change of primary gives up. */
export type Loss = Pick<Report, "fenced" | "bytesLost" | "howKnown">;

/** Names for a message. */
export const names = (nodes: readonly Observation[]): string => nodes.map((node) => node.name).join(", ") || "nobody";

/** Prints a report. */
export function show(report: Report, json: boolean): void {
  if (json) {
    console.log(JSON.stringify(report, undefined, 2));
    return;
  }
  const loss =
    report.bytesLost === null
      ? "an unknown number of bytes may be lost"
      : report.bytesLost === 0
        ? "nothing is lost"
        : `${report.bytesLost} bytes of WAL are lost`;
  const notCovered = report.notCovered.length === 0 ? "" : `; not covered, because no standby gets it: ${report.notCovered.join("; ")}`;
  console.log(
    `${report.promoted} is primary; first accepted write after ${report.seconds.toFixed(1)} s; ${loss} (${report.howKnown})${notCovered}`,
  );
}
