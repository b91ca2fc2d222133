import { CONTAINER_PORT, containerName, LABELS } from "../../core/model/names";
import type { PlacedConfig } from "../../core/model/place";
import { PGNODE_PATH } from "../../core/model/pgnode";
import { Engine } from "../engine/engine";
import { firstLine, UserError } from "../errors";

/** What a container was made from, as far as Docker tells: the fields of `docker inspect` that the program decides. */
export interface Container {
  Id: string;
  Image: string;
  Config: {
    Image: string;
    Hostname: string;
    User: string;
    Env: string[] | null;
    Cmd: string[] | null;
    Entrypoint: string[] | null;
    Labels: Record<string, string> | null;
    StopSignal?: string;
    StopTimeout?: number;
    Healthcheck?: { Test?: string[]; Interval?: number; Timeout?: number; StartPeriod?: number; Retries?: number };
  };
  HostConfig: {
    PortBindings: Record<string, { HostIp: string; HostPort: string }[] | null> | null;
    RestartPolicy: { Name: string };
    ShmSize: number;
  };
  Mounts: { Type: string; Name?: string; Destination: string }[];
  NetworkSettings: { Networks: Record<string, { Aliases: string[] | null }> | null };
}

/** A node's container as it is. */
export interface Standing {
  node: string;
  container: Container;
  /** The text of the node program in it. */
  program: string;
}

/** What Docker says of the containers of the nodes; every one has to be there. @throws UserError */
export async function standing(config: PlacedConfig): Promise<Standing[]> {
  return Promise.all(
    config.nodes.map(async ({ name, place }) => {
      const container = containerName(config.stack, name);
      const engine = new Engine(place.engine);
      const [inspected, copied] = await Promise.all([
        engine.run(["inspect", "--type", "container", container], { timeout: 10_000 }),
        // Also from a container that does not run.
        engine.run(["cp", `${container}:${PGNODE_PATH}`, "-"], { timeout: 10_000 }),
      ]);
      const failed = [inspected, copied].find((result) => result.exitCode !== 0);
      if (failed !== undefined) {
        throw new UserError(`the container ${container} cannot be read: ${firstLine(failed.stderr)}. Nothing was changed`);
      }
      return { node: name, container: (JSON.parse(inspected.stdout) as [Container])[0], program: firstFile(copied.stdout) };
    }),
  );
}

/** The text of the first file in a tar archive. */
export function firstFile(archive: string): string {
  const bytes = Buffer.from(archive, "utf8");
  const size = parseInt(bytes.subarray(124, 136).toString("latin1"), 8);
  return bytes.subarray(512, 512 + (Number.isNaN(size) ? 0 : size)).toString("utf8");
}

const seconds = (nanoseconds = 0): string => `${nanoseconds / 1e9}s`;
const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);
const sorted = (list: readonly unknown[]): string[] => list.map((item) => JSON.stringify(item)).sort();

/**
 * The inputs from which the container was made: what the program declares now, but where Docker says otherwise. A list
 * whose order means nothing keeps the program's.
 */
export function inputsOf(declared: Readonly<Record<string, unknown>>, { container, program }: Standing): Record<string, unknown> {
  const { Config: made, HostConfig: onHost } = container;
  const own = Object.values(LABELS) as string[];
  const health = made.Healthcheck;
  const found: Record<string, unknown> = {
    image: made.Image,
    hostname: made.Hostname,
    user: made.User,
    command: made.Cmd ?? [],
    entrypoints: made.Entrypoint ?? [],
    envs: (made.Env ?? []).filter((text) => text.startsWith("PGNODE_")),
    labels: Object.entries(made.Labels ?? {}).flatMap(([label, value]) => (own.includes(label) ? [{ label, value }] : [])),
    uploads: [{ file: PGNODE_PATH, content: program, executable: true, permissions: "0755" }],
    ports: (onHost.PortBindings?.[`${CONTAINER_PORT}/tcp`] ?? []).map(({ HostIp, HostPort }) => ({
      internal: CONTAINER_PORT,
      external: Number(HostPort),
      ip: HostIp,
    })),
    restart: onHost.RestartPolicy.Name,
    shmSize: onHost.ShmSize / 1024 / 1024,
    stopSignal: made.StopSignal ?? "",
    stopTimeout: made.StopTimeout ?? 0,
    ...(health === undefined
      ? {}
      : {
          healthcheck: {
            tests: health.Test ?? [],
            interval: seconds(health.Interval),
            timeout: seconds(health.Timeout),
            startPeriod: seconds(health.StartPeriod),
            retries: health.Retries ?? 0,
          },
        }),
  };
  return Object.fromEntries(
    Object.entries(declared).map(([key, value]) => [key, key in found && !isSame(value, found[key]) ? found[key] : value]),
  );
}

/** Whether two inputs mean the same. */
function isSame(declared: unknown, found: unknown): boolean {
  if (Array.isArray(declared) && Array.isArray(found)) {
    return same(sorted(declared.map(ordered)), sorted(found.map(ordered)));
  }
  return same(ordered(declared), ordered(found));
}

/** An object with its keys in order. */
function ordered(value: unknown): unknown {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
    : value;
}

/** In words, in what a container differs from what the program declares: the first `up` replaces it for that. */
export function differences(declared: Readonly<Record<string, unknown>>, found: Standing): string[] {
  const words: Record<string, string> = { uploads: "node program", envs: "environment", labels: "labels" };
  const inputs = inputsOf(declared, found);
  // The digest of the others says nothing of its own.
  const own = (labels: unknown): unknown[] =>
    ((labels as { label: string }[] | undefined) ?? []).filter(({ label }) => label !== LABELS.definition);
  return Object.keys(declared)
    .filter((key) => inputs[key] !== declared[key])
    .filter((key, _i, all) => key !== "labels" || all.length === 1 || !isSame(own(declared[key]), own(inputs[key])))
    .map((key) =>
      key === "image" ? `image (${String(inputs[key])}, and the config asks for ${String(declared[key])})` : (words[key] ?? key),
    );
}
