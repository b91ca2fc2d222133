import type { StackConfig } from "../core/config";
import { containerName } from "../core/names";
import { reasonIn } from "../core/reason";
import { NODE_SQL, type Observation, readReport } from "../core/topology";
import { docker, logLines, sqlIn } from "./docker";
import { UserError } from "./errors";

/** Asks Docker and every server of a stack for its state, all at the same time. */
export async function observe(config: StackConfig): Promise<Observation[]> {
  const alive = await docker(["version", "--format", "{{.Server.Version}}"], { ...hostOf(config), timeout: 10_000 });
  if (alive.exitCode !== 0) {
    throw new UserError(`the Docker engine does not answer: ${alive.stderr.trim().split("\n")[0]}. Start it with: npm run setup`, 2);
  }
  return Promise.all(
    config.nodes.map(async (node): Promise<Observation> => {
      const container = containerName(config.stack, node.name);
      const host = node.dockerHost === undefined ? {} : { host: node.dockerHost };
      const [state, report] = await Promise.all([
        docker(["inspect", "--type", "container", "--format", "{{.State.Status}}", container], { ...host, timeout: 10_000 }),
        sqlIn(container, NODE_SQL, { ...host, timeout: 5_000 }),
      ]);
      return {
        name: node.name,
        container,
        host: node.address,
        port: node.port,
        containerState: state.exitCode === 0 ? state.stdout.trim() : null,
        ...(report.exitCode === 0 ? readReport(report.stdout) : { server: null, disk: null }),
        reason: "",
      };
    }),
  );
}

/** What {@link observe} finds, and for every node that is not well the reason that its log gives. */
export async function diagnose(config: StackConfig): Promise<Observation[]> {
  const observed = await observe(config);
  return Promise.all(
    observed.map(async (node): Promise<Observation> => {
      const well = node.server !== null && (!node.server.inRecovery || node.server.receiver?.status === "streaming");
      if (well || node.containerState === null || node.containerState === "paused") {
        return node;
      }
      return { ...node, reason: reasonIn(await logLines(node.container, 30, hostOf(config))) };
    }),
  );
}

function hostOf(config: StackConfig): { host?: string } {
  const host = config.nodes[0]?.dockerHost;
  return host === undefined ? {} : { host };
}
