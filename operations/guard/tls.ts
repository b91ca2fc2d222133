import type { Observation } from "../../core/judgement/observation";
import type { TlsStage } from "../../core/settings/tls";
import type { PriorState } from "./prior";

/** How TLS comes into force: in two steps on a stack that runs, so that nobody is cut off who has not had the chance. Pure. */

/**
 * How far TLS is to be in force after this run, where the config asks for it. A new stack insists on it at once. One that runs
 * without offers it first; when every node does, the next run insists.
 */
export function tlsStageOf(prior: PriorState, observed: readonly Observation[]): TlsStage {
  const behind = [...prior.tls].some(
    ([node, stage]) =>
      stage === undefined ||
      // A node that was down was not brought what the state says.
      (stage === "offered" && observed.some(({ name, server }) => name === node && server?.tls?.on === false)),
  );
  return behind ? "offered" : "required";
}

/** What to tell of a change of that. */
export function tlsWords(prior: PriorState, stage: TlsStage | undefined, observed: readonly Observation[]): string[] {
  const before = [...prior.tls.values()];
  const sessions = observed.reduce((sum, { server }) => sum + (server?.tls?.plainSessions ?? 0), 0);
  const now = `${sessions} ${sessions === 1 ? "session of a client is" : "sessions of clients are"} without it now`;
  if (stage === "offered") {
    return [
      `TLS is switched on in two steps. With this up every node offers it, and clients without it are still let in (${now}). ` +
        `The next up ends that: give the clients the stack's URLs and the CA's certificate before`,
    ];
  }
  if (stage === "required" && before.includes("offered")) {
    return [`from this up on no client without TLS is let in (${now}; those that are connected stay)`];
  }
  return [];
}
