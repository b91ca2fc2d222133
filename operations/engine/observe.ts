import { randomBytes } from "crypto";
import { driftSql, readDriftFacts } from "../../core/judgement/drift";
import { containerName, labelFilter, LABELS } from "../../core/model/names";
import { reasonIn, refusesSettings } from "../../core/judgement/reason";
import { enginesOf, type PlacedConfig } from "../../core/model/place";
import { NODE_SQL, type Observation, readReport, type ServerReport, UNREACHABLE } from "../../core/judgement/observation";
import { type ContainerState, Engine } from "./engine";
import { SilentEngine } from "./docker";
import { firstLine, UserError } from "../errors";

/**
 * Asks Docker and every server of a stack for its state, all at the same time.
 *
 * @throws UserError, exit code 2, when no engine answers. One that does not is a fact of its nodes.
 * @param options.drift Ask in the same session what a person may have changed; see core/judgement/drift.ts. @default false
 * @param options.told Is told what Docker says of each node's container as soon as it is there: a server may take longer. @default nobody
 */
export async function observe(
  config: PlacedConfig,
  options: { drift?: boolean; told?: (node: string, container: ContainerState) => void } = {},
): Promise<Observation[]> {
  const { database, sampleDatabase: sample } = config;
  // No digest of one look says anything about the next one.
  const sql = options.drift === true ? NODE_SQL + driftSql({ salt: randomBytes(16).toString("hex"), database, sample }) : NODE_SQL;
  const nodes = config.nodes.map((node) => ({ node, container: containerName(config.stack, node.name) }));
  const engines = enginesOf(config.nodes);
  const statesAt = async (engine: string): Promise<Map<string, ContainerState> | SilentEngine> => {
    const here = nodes.filter(({ node }) => node.place.engine === engine);
    try {
      const found = await new Engine(engine).states(here.map(({ container }) => container));
      for (const { node, container } of here) {
        const seen = found.get(container);
        if (seen !== undefined) {
          options.told?.(node.name, seen);
        }
      }
      return found;
    } catch (error) {
      if (error instanceof SilentEngine) {
        return error;
      }
      throw error;
    }
  };
  const [states, reports] = await Promise.all([
    Promise.all(engines.map(statesAt)),
    Promise.all(nodes.map(({ node, container }) => new Engine(node.place.engine).sql(container, sql, { timeout: 5_000, look: true }))),
  ]);
  const [silent] = states.filter((state) => state instanceof SilentEngine);
  if (silent !== undefined && states.every((state) => state instanceof SilentEngine)) {
    throw silent;
  }
  const observed = nodes.map(({ node, container }, i): Observation => {
    const report = reports[i];
    const state = states[engines.indexOf(node.place.engine)];
    if (state === undefined || state instanceof SilentEngine) {
      return {
        ...{ name: node.name, container, ...node.place.published, containerState: UNREACHABLE, silentEngine: node.place.engine },
        ...{ server: null, disk: null, reason: state?.reason ?? "" },
      };
    }
    const said = report?.exitCode === 0 ? readReport(report.stdout) : { server: null, disk: null };
    const drift = options.drift === true && report?.exitCode === 0 ? readDriftFacts(report.stdout) : null;
    return {
      name: node.name,
      container,
      ...node.place.published,
      containerState: state.get(container)?.state ?? null,
      ...said,
      server: said.server === null ? null : withSender(config, said.server),
      reason: "",
      ...(drift === null ? {} : { drift }),
    };
  });
  // Of a server that ends at every start only its log says what somebody has changed.
  return options.drift === true ? withReasons(config, observed, mayLoop) : observed;
}

/** Whom a standby receives from, by name: a node on another engine it knows by its address. */
function withSender({ nodes }: PlacedConfig, server: ServerReport): ServerReport {
  const { receiver } = server;
  const sender = nodes.find(({ place: { published } }) => published.host === receiver?.from && published.port === receiver.fromPort);
  return receiver === null || sender === undefined ? server : { ...server, receiver: { ...receiver, from: sender.name } };
}

/** Whether a node may be one that ends soon after every start: between two of them, or just started anew. */
const mayLoop = ({ server, containerState }: Observation): boolean =>
  server === null && (containerState === "restarting" || containerState === "running");

/** Asks the log of some of the nodes. */
function withReasons(
  config: PlacedConfig,
  observed: readonly Observation[],
  which: (node: Observation) => boolean,
): Promise<Observation[]> {
  return Promise.all(
    observed.map(async (node, i): Promise<Observation> => {
      if (!which(node)) {
        return node;
      }
      const engine = new Engine(config.nodes[i]?.place.engine ?? "");
      const { text, ...code } = reasonIn(await engine.logs(node.container, 30));
      if (text !== "" || !mayLoop(node)) {
        return { ...node, reason: text, ...code };
      }
      // Just started anew, it has said nothing yet, and what it said before is still so.
      const { text: before } = reasonIn(await engine.logs(node.container, 30, true));
      return refusesSettings(before) ? { ...node, reason: before } : node;
    }),
  );
}

/** What {@link observe} finds, and for every node that is not well the reason that its log gives. */
export async function diagnose(config: PlacedConfig): Promise<Observation[]> {
  return withReasons(config, await observe(config), (node) => {
    const well = node.server !== null && (!node.server.inRecovery || node.server.receiver?.status === "streaming");
    return !well && ![null, "paused", UNREACHABLE].includes(node.containerState);
  });
}

/**
 * The nodes of a stack whose containers run, in the config or not.
 *
 * @param without Engines that are not asked, because they do not answer. @default none
 */
export async function runningNodes(config: PlacedConfig, without: readonly string[] = []): Promise<string[]> {
  const running = async (engine: string): Promise<string[]> => {
    const args = ["ps", "--format", `{{.Label "${LABELS.node}"}}`, ...labelFilter(config.stack)];
    const listed = await new Engine(engine).run(args, { timeout: 10_000, look: true });
    if (listed.exitCode !== 0) {
      throw new UserError(`docker ps failed: ${firstLine(listed.stderr)}`);
    }
    return listed.stdout.split("\n").filter(Boolean);
  };
  const asked = enginesOf(config.nodes).filter((engine) => !without.includes(engine));
  return (await Promise.all(asked.map(running))).flat();
}

/** @throws UserError when no node of the stack has a container. */
export function refuseUnlessUp(stack: string, observed: readonly Observation[]): void {
  if (observed.every((node) => node.containerState === null)) {
    throw new UserError(`stack "${stack}" is not up. Run: npm run up -- --stack ${stack}`);
  }
}
