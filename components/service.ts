import * as docker from "@pulumi/docker";
import type * as pulumi from "@pulumi/pulumi";
import { createHash } from "crypto";
import { LABELS } from "../core/model/names";

/** A container that is to run as long as the stack is there, whatever is in it: a node, a router, a store of agreements. */
export interface ServiceArgs {
  /** The container's name in Docker. */
  container: string;
  image: string;
  /** Its name in the network, for the other containers. */
  hostname: string;
  network: pulumi.Input<string>;
  /** What runs; @default the image's own program */
  entrypoint?: string[];
  /** @default the image's own arguments */
  command?: string[];
  /** @default the image's own user */
  user?: string;
  /** Nothing secret: a container's environment is for everybody to inspect. @default none */
  environment?: Readonly<Record<string, string>>;
  /** What is put into it before it starts, by path. @default none */
  files?: Readonly<Record<string, { content: string; executable?: boolean }>>;
  /** Names of volumes, by where they are mounted. @default none */
  volumes?: Readonly<Record<string, pulumi.Input<string>>>;
  /** What is published. @default nothing */
  ports?: readonly { internal: number; external: number; address: string }[];
  labels: Readonly<Record<string, string>>;
  /** A command that ends with 0 while it is well. @default the image's own */
  health?: { command: string[]; everySeconds: number; timeoutSeconds: number; graceSeconds: number; retries: number };
  /** The signal that ends it in order, and how long it may take for that, in seconds. */
  stop: { signal: string; seconds: number };
  /** Shared memory, in MB. @default Docker's, 64 */
  sharedMemory?: number;
  /** The most memory, in MB. @default no limit */
  memory?: number;
  /** The most CPUs at a time. @default no limit */
  cpus?: number;
}

/** Docker's own file, of which the last 100 MB are kept. */
const LOG = { logDriver: "json-file", logOpts: { "max-size": "20m", "max-file": "5" } };

/** What a container is made with that is known before anything is declared, and cannot be changed without replacing it. */
export type Definition = Omit<ServiceArgs, "network" | "volumes" | "memory">;

/** A digest of it. */
export const digestOf = (definition: Definition): string =>
  createHash("sha256")
    .update(JSON.stringify([LOG, definition]))
    .digest("hex")
    .slice(0, 12);

/**
 * The one factory for containers. A container is there as long as the stack is; whether it runs is not Pulumi's business
 * (`mustRun: false`), or one that was stopped on purpose, as a fenced node is, would be started by the next `up`.
 */
export function service(name: string, args: ServiceArgs, opts: pulumi.CustomResourceOptions): docker.Container {
  const { network, volumes, memory, ...definition } = args;
  const { environment, files, ports, health } = definition;
  return new docker.Container(
    name,
    {
      name: args.container,
      image: args.image,
      hostname: args.hostname,
      ...(args.entrypoint === undefined ? {} : { entrypoints: args.entrypoint }),
      ...(args.command === undefined ? {} : { command: args.command }),
      ...(args.user === undefined ? {} : { user: args.user }),
      ...(environment === undefined ? {} : { envs: Object.entries(environment).map(([key, value]) => `${key}=${value}`) }),
      ...(files === undefined
        ? {}
        : {
            uploads: Object.entries(files).map(([file, { content, executable = false }]) => ({
              ...{ file, content, executable, permissions: executable ? "0755" : "0644" },
            })),
          }),
      ...(volumes === undefined ? {} : { mounts: Object.entries(volumes).map(([target, source]) => ({ type: "volume", source, target })) }),
      networksAdvanced: [{ name: network, aliases: [args.hostname] }],
      ...(ports === undefined ? {} : { ports: ports.map(({ internal, external, address }) => ({ internal, external, ip: address })) }),
      labels: Object.entries({ ...args.labels, [LABELS.definition]: digestOf(definition) }).map(([label, value]) => ({ label, value })),
      restart: "unless-stopped",
      mustRun: false,
      stopSignal: args.stop.signal,
      stopTimeout: args.stop.seconds,
      destroyGraceSeconds: args.stop.seconds,
      ...(args.sharedMemory === undefined ? {} : { shmSize: args.sharedMemory }),
      // Without swap: a server that swaps is worse than one that is told that there is no memory left.
      ...(memory === undefined ? {} : { memory, memorySwap: memory }),
      ...(args.cpus === undefined ? {} : { cpus: String(args.cpus) }),
      // What is logged is read by the commands, and never fills the host's disk.
      ...LOG,
      // An image may declare volumes of its own.
      removeVolumes: true,
      ...(health === undefined
        ? {}
        : {
            healthcheck: {
              tests: ["CMD", ...health.command],
              interval: `${health.everySeconds}s`,
              timeout: `${health.timeoutSeconds}s`,
              startPeriod: `${health.graceSeconds}s`,
              retries: health.retries,
            },
          }),
    },
    {
      ...opts,
      // Addresses change with every restart, and which networks there are is said above.
      ignoreChanges: ["networkDatas"],
      replaceOnChanges: ["healthcheck"],
      hideDiffs: ["uploads"],
      deleteBeforeReplace: true,
    },
  );
}
