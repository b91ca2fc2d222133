import { type Finding, findingsOf, type Kind, type Severity } from "../../core/judgement/findings";
import type { Observation } from "../../core/judgement/observation";
import { type Topology, topologyOf } from "../../core/judgement/topology";
import { saidOf, wordsOf } from "../../core/judgement/words";
import { adviceOf, pulumiAdviceOf } from "./advice";

/** The documents that `status --json` and `alert --json` print: findings, with what is said of them. Pure. */

/** A finding, as `status --json` prints it. */
export interface Problem {
  node: string;
  what: string;
  /** What to run, with the npm commands. */
  fix: string;
  kind: Kind;
  severity: Severity;
  /** What to run instead with plain Pulumi, where that can do it. */
  fixByPulumi?: string;
}

/** The document of `status --json`. */
export interface Status extends Topology {
  stack: string;
  problems: Problem[];
}

/** One reason to wake somebody. */
export interface Alert {
  /** The node it is about; empty when it is about the stack. */
  node: string;
  kind: Kind | "could-not-tell";
  message: string;
  severity: Severity;
}

/** What there is, and what is wrong with it. */
export function assess(stack: string, observed: readonly Observation[]): Status {
  return { stack, ...topologyOf(observed), problems: findingsOf(observed).flatMap((finding) => problemsOf(stack, finding)) };
}

function problemsOf(stack: string, finding: Finding): Problem[] {
  const { kind, node, severity, remedy } = finding;
  if (kind === "several-primaries") {
    // Each of them may be the wrong one, and has a command of its own.
    return finding.facts.writers.map(({ name, container }) => ({
      node: name,
      what: wordsOf(finding),
      fix: adviceOf({ do: "stop-one", containers: [container] }, stack),
      kind,
      severity,
    }));
  }
  const fixByPulumi = pulumiAdviceOf(remedy, stack);
  return [
    {
      node,
      what: wordsOf(finding),
      fix: adviceOf(remedy, stack),
      kind,
      severity,
      ...(fixByPulumi === undefined ? {} : { fixByPulumi }),
    },
  ];
}

/** 0 healthy, 1 degraded, 2 more than one writer, or none that can be told. */
export function exitCodeOf({ problems }: Status): 0 | 1 | 2 {
  if (problems.some(({ severity }) => severity === "critical")) {
    return 2;
  }
  return problems.length === 0 ? 0 : 1;
}

/** The alerts for these findings. */
export function alertsOf(findings: readonly Finding[]): Alert[] {
  return findings.map((finding) => ({ node: finding.node, kind: finding.kind, message: saidOf(finding), severity: finding.severity }));
}
