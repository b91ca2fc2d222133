import { createServer } from "net";
import { existsSync, readdirSync, readFileSync } from "fs";
import { hostname } from "os";
import { join } from "path";
import type { StackConfig } from "../core/config";
import { containerName, labelFilter, PROJECT } from "../core/names";
import { docker } from "./docker";
import { firstLine, UserError } from "./errors";
import { backendFolder, backendUrl, pulumiOutput } from "./workspace";

/** What Pulumi's state knows of a stack: IDs of containers and networks, names of volumes and nodes. */
export interface KnownObjects {
  containers: Set<string>;
  networks: Set<string>;
  volumes: Set<string>;
  /** The node with which the cluster began; undefined in a stack that is not up. */
  first: string | undefined;
  /** The nodes that began as secondaries. */
  secondaries: string[];
}

interface ExportedState {
  deployment: { resources?: { type: string; urn?: string; id?: string; delete?: boolean }[] };
}

/** Picks the Docker objects and the nodes out of `pulumi stack export`. */
export function knownObjects(exported: string): KnownObjects {
  const resources = (JSON.parse(exported) as ExportedState).deployment.resources ?? [];
  const ids = (type: string): Set<string> =>
    new Set(resources.filter((r) => r.type === type && r.id !== undefined).map((r) => r.id as string));
  // A component has its node's name; see index.ts.
  const components = (type: string): string[] =>
    resources.filter((r) => r.type === `${PROJECT}:index:${type}`).flatMap((r) => r.urn?.split("::").at(-1) ?? []);
  return {
    containers: ids("docker:index/container:Container"),
    networks: ids("docker:index/network:Network"),
    volumes: ids("docker:index/volume:Volume"),
    first: components("Primary")[0],
    secondaries: components("StreamingSecondary"),
  };
}

/** A lock of the file backend: who holds the stack. A killed run may leave one without content. */
interface StackLock {
  pid?: number;
  hostname?: string;
}

/** The locks of a stack in a file backend. */
function stackLocks(stack: string): StackLock[] {
  const backend = backendFolder(backendUrl());
  const folder = join(backend ?? "", ".pulumi", "locks", "organization", PROJECT, stack);
  if (backend === undefined || !existsSync(folder)) {
    return [];
  }
  return readdirSync(folder)
    .filter((name) => name.endsWith(".json"))
    .map((name) => {
      try {
        return JSON.parse(readFileSync(join(folder, name), "utf8")) as StackLock;
      } catch {
        return {};
      }
    });
}

/** Whether the process that made a lock is gone, as far as this machine can tell. */
function isStale(lock: StackLock): boolean {
  if (lock.pid === undefined) {
    return true;
  }
  if (lock.hostname !== hostname()) {
    return false;
  }
  return !isRunning(lock.pid, /pulumi/);
}

/**
 * Whether a process of this machine is alive and is still the one that was meant.
 *
 * @param command What its command line has to contain, as far as this machine can tell.
 */
export function isRunning(pid: number, command: RegExp): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ESRCH";
  }
  // Where /proc tells more: a dead process that nobody has reaped yet has no command line any more, and
  // another program may have got the number.
  if (!existsSync("/proc/self/cmdline")) {
    return true;
  }
  try {
    return command.test(readFileSync(`/proc/${pid}/cmdline`, "utf8"));
  } catch {
    return false;
  }
}

/** Frees the stack from the locks of runs that were killed; refuses when a run is still going. */
export async function releaseStaleLocks(stack: string, say: (line: string) => void): Promise<void> {
  const locks = stackLocks(stack);
  if (locks.length === 0) {
    return;
  }
  const living = locks.find((lock) => !isStale(lock));
  if (living !== undefined) {
    throw new UserError(
      `stack "${stack}" is in use by process ${living.pid} on ${living.hostname}. Wait for it to end; if it is gone for certain, run: eval "$(npm run -s env -- --stack ${stack})" && pulumi cancel --yes`,
    );
  }
  say("an earlier run was killed; taking over its lock");
  await pulumiOutput(stack, ["cancel", "--yes", "--stack", stack]);
}

/** What {@link reconcile} has found. */
export interface Found extends Pick<KnownObjects, "first" | "secondaries"> {
  /** Whether something of the state is gone from Docker, so that the state has to be refreshed. */
  lost: boolean;
  /** The volumes of the stack that Docker has, by name. */
  volumes: string[];
  /** The volumes of the state that Docker has no more, by name. */
  lostVolumes: string[];
}

/**
 * Makes Docker and the state agree before an update. What a killed run created but could not note down
 * (containers and networks of this stack; never volumes) is removed, because its name is in the way.
 */
export async function reconcile(config: StackConfig, say: (line: string) => void): Promise<Found> {
  const { stack } = config;
  const host = config.nodes[0]?.dockerHost;
  const on = host === undefined ? {} : { host };
  const filter = labelFilter(stack);
  const list = async (...args: string[]): Promise<string[]> => {
    const result = await docker(args, on);
    if (result.exitCode !== 0) {
      throw new UserError(`docker ${args.slice(0, 2).join(" ")} failed: ${firstLine(result.stderr)}`);
    }
    return result.stdout.split("\n").filter(Boolean);
  };
  const [known, containers, networks, volumes] = await Promise.all([
    pulumiOutput(stack, ["stack", "export", "--stack", stack]).then(knownObjects),
    list("ps", "-a", "--no-trunc", "-q", ...filter),
    list("network", "ls", "--no-trunc", "-q", ...filter),
    list("volume", "ls", "-q", ...filter),
  ]);
  for (const id of containers.filter((found) => !known.containers.has(found))) {
    say(`removing container ${id.slice(0, 12)}, which an interrupted run left behind`);
    await list("rm", "-f", "-v", id);
  }
  for (const id of networks.filter((found) => !known.networks.has(found))) {
    say(`removing network ${id.slice(0, 12)}, which an interrupted run left behind`);
    await list("network", "rm", id);
  }
  const lost = (had: Set<string>, has: string[]): boolean => [...had].some((id) => !has.includes(id));
  return {
    lost: lost(known.containers, containers) || lost(known.networks, networks) || lost(known.volumes, volumes),
    volumes,
    lostVolumes: [...known.volumes].filter((name) => !volumes.includes(name)),
    first: known.first,
    secondaries: known.secondaries,
  };
}

/** Refuses ports that something else holds, before anything is made. @throws UserError */
export async function checkPorts(config: StackConfig): Promise<void> {
  const host = config.nodes[0]?.dockerHost;
  for (const [i, node] of config.nodes.entries()) {
    const own = containerName(config.stack, node.name);
    const listed = await docker(["ps", "--filter", `publish=${node.port}`, "--format", "{{.Names}}"], host === undefined ? {} : { host });
    const holders = listed.stdout.split("\n").filter(Boolean);
    if (holders.includes(own)) {
      continue;
    }
    const other = holders[0];
    const where = `port ${node.port} of node ${node.name} is taken on ${node.address}`;
    const fix = `Stop that, or give nodes[${i}] another port in Pulumi.${config.stack}.yaml`;
    if (other !== undefined) {
      throw new UserError(`${where} by the container ${other}. ${fix}`);
    }
    const why = host === undefined ? await listenError(node.address, node.port) : undefined;
    if (why === "EADDRINUSE") {
      throw new UserError(`${where} by another program. ${fix}`);
    }
    if (why === "EADDRNOTAVAIL") {
      throw new UserError(
        `the address ${node.address} of node ${node.name} is none of this machine's. Give nodes[${i}] another address in Pulumi.${config.stack}.yaml`,
      );
    }
  }
}

/** Why this machine cannot listen there; undefined when it can. */
function listenError(address: string, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", (error: NodeJS.ErrnoException) => resolve(error.code));
    server.listen({ host: address, port, exclusive: true }, () => server.close(() => resolve(undefined)));
  });
}
