import { leftovers as leftoversOn } from "../operations/deploy/deploy";
import type { Ran, RunOptions } from "../operations/engine/docker";
import { currentDockerHost } from "../operations/engine/dockerHost";
import { Engine } from "../operations/engine/engine";

/** Docker as the tests speak to it: on the engine that the docker command line would use, now or at that time. */

export const currentEngine = (): Engine => new Engine(currentDockerHost());

/** Runs the docker command line. Never throws: look at `exitCode`. @param options.host Another engine. */
export function docker(args: readonly string[], options: RunOptions & { host?: string } = {}): Promise<Ran> {
  const { host, ...rest } = options;
  return (host === undefined ? currentEngine() : new Engine(host)).run(args, rest);
}

/** Runs SQL in a node's container, as postgres over the server's socket. Unaligned, tuples only. */
export function sqlIn(container: string, sql: string, options: { database?: string; timeout?: number; host?: string } = {}): Promise<Ran> {
  const { host, ...rest } = options;
  // As somebody who looks at it by hand: the product's own sessions look into no schema of others.
  return (host === undefined ? currentEngine() : new Engine(host)).sql(container, `SET search_path = "$user", public;\n${sql}`, rest);
}

/** The Docker objects that carry a stack's label. @param engines @default the machine's */
export const leftovers = (stack: string, engines: readonly string[] = [currentDockerHost()]): Promise<string[]> =>
  leftoversOn(stack, engines);
