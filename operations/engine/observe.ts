import { randomBytes } from "crypto";
import { driftSql, readDriftFacts } from "../../core/judgement/drift";
import { containerName, labelFilter, LABELS } from "../../core/model/names";
import { reasonIn, refusesSettings } from "../../core/judgement/reason";
import { enginesOf, type PlacedConfig } from "../../core/model/place";
import { NODE_SQL, type Observation, readReport } from "../../core/judgement/observation";
import { Engine } from "./engine";
import { firstLine, UserError } from "../errors";

/**
 * Asks Docker and every server of a stack for its state, all at the same time.
 *
 * @param options.drift Ask in the same session what a person may have changed; see core/judgement/drift.ts. @default false
 */
export async function observe(config: PlacedConfig, options: { drift?: boolean } = {}): Promise<Observation[]> {
  const { database, sampleDatabase: sample } = config;
  // No digest of one look says anything about the next one.
  const sql = options.drift === true ? NODE_SQL + driftSql({ salt: randomBytes(16).toString("hex"), database, sample }) : NODE_SQL;
  const nodes = config.nodes.map((node) => ({ node, container: containerName(config.stack, node.name) }));
  const statesAt = (engine: string): Promise<Map<string, string>> =>
    new Engine(engine).states(nodes.filter(({ node }) => node.place.engine === engine).map(({ container }) => container));
  const [states, reports] = await Promise.all([
    Promise.all(enginesOf(config.nodes).map(statesAt)).then((all) => new Map(all.flatMap((one) => [...one]))),
    Promise.all(nodes.map(({ node, container }) => new Engine(node.place.engine).sql(container, sql, { timeout: 5_000 }))),
  ]);
  const observed = nodes.map(({ node, container }, i): Observation => {
    const report = reports[i];
    const drift = options.drift === true && report?.exitCode === 0 ? readDriftFacts(report.stdout) : null;
    return {
      name: node.name,
      container,
      ...node.place.published,
      containerState: states.get(container) ?? null,
      ...(report?.exitCode === 0 ? readReport(report.stdout) : { server: null, disk: null }),
      reason: "",
      ...(drift === null ? {} : { drift }),
    };
  });
  // Of a server that ends at every start only its log says what somebody has changed.
  return options.drift === true ? withReasons(config, observed, mayLoop) : observed;
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
    return !well && node.containerState !== null && node.containerState !== "paused";
  });
}

/** The nodes of a stack whose containers run, in the config or not. */
export async function runningNodes(config: PlacedConfig): Promise<string[]> {
  const running = async (engine: string): Promise<string[]> => {
    const args = ["ps", "--format", `{{.Label "${LABELS.node}"}}`, ...labelFilter(config.stack)];
    const listed = await new Engine(engine).run(args, { timeout: 10_000 });
    if (listed.exitCode !== 0) {
      throw new UserError(`docker ps failed: ${firstLine(listed.stderr)}`);
    }
    return listed.stdout.split("\n").filter(Boolean);
  };
  return (await Promise.all(enginesOf(config.nodes).map(running))).flat();
}

/** @throws UserError when no node of the stack has a container. */
export function refuseUnlessUp(stack: string, observed: readonly Observation[]): void {
  if (observed.every((node) => node.containerState === null)) {
    throw new UserError(`stack "${stack}" is not up. Run: npm run up -- --stack ${stack}`);
  }
}
