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

/**
 * The generations of the stack's own authority that are trusted after this run, that one first by which certificates are issued.
 * A new one takes the old one's place in three steps, each when every node has taken the one before: it is trusted beside the old
 * one; it issues the certificates; the old one is no more.
 *
 * @param generation The one that the config asks for.
 */
export function authoritiesOf(prior: PriorState, generation: number): [number, ...number[]] {
  const [old] = [...prior.authorities.keys()].filter((number) => number !== generation).sort((a, b) => b - a);
  if (old === undefined) {
    return [generation];
  }
  const next = prior.authorities.get(generation);
  const every = (has: (trusted: string) => boolean): boolean => [...prior.trusted.values()].every(has);
  if (next === undefined || !every((trusted) => trusted.includes(next))) {
    return [old, generation];
  }
  return every((trusted) => trusted.startsWith(next)) ? [generation] : [generation, old];
}

/** What to tell of a change of the authority. */
export function authorityWords(prior: PriorState, generation: number, file: string): string[] {
  const [issuer, ...others] = authoritiesOf(prior, generation);
  if (issuer !== generation) {
    return [
      `the stack's CA is replaced in three steps. With this up a new one is trusted beside the old one, and both are in ${file}: give that to the clients. ` +
        `The next up issues the certificates by the new one, and the one after it ends the old one`,
    ];
  }
  if (others.length > 0) {
    return [`with this up every certificate is issued by the new CA: a client that does not have it yet (${file}) is not served any more`];
  }
  return prior.authorities.size > 1 ? ["with this up the old CA is trusted no more"] : [];
}
