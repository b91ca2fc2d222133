import type { PlacedConfig } from "../../core/model/place";
import { readStackConfig, STATE_DIR } from "../deploy/workspace";
import { placedHere } from "../engine/dockerHost";
import { Engine } from "../engine/engine";
import type { Control } from "../engine/nodeControl";
import { controls } from "../engine/nodeControls";
import { diagnose, observe, runningNodes } from "../engine/observe";
import { type Clock, CLOCK } from "../engine/poll";
import { Journal } from "./journal";
import { acquireLock } from "./lock";

/** What failover, switchover and rejoin speak to. A command has the real ones; a test hands in made-up ones. */
export interface Ports {
  /** The stack's config, every node at its place. @throws UserError */
  config: (stack: string) => PlacedConfig;
  observe: typeof observe;
  diagnose: typeof diagnose;
  runningNodes: typeof runningNodes;
  /** The control of every node, by name. */
  controls: (config: PlacedConfig) => Map<string, Control>;
  /** Whether an engine, a DOCKER_HOST value, answers. */
  answers: (engine: string) => Promise<boolean>;
  lock: typeof acquireLock;
  /** The folder of the notes of changes that are under way. */
  notes: string;
  clock: Clock;
}

export const REAL: Ports = {
  config: (stack) => placedHere(readStackConfig(stack)),
  observe,
  diagnose,
  runningNodes,
  controls,
  answers: (engine) => new Engine(engine).answers(),
  lock: acquireLock,
  notes: STATE_DIR,
  clock: CLOCK,
};

/** What one change of roles works with. */
export interface Work {
  ports: Ports;
  config: PlacedConfig;
  nodes: Map<string, Control>;
  journal: Journal;
}

/** Everything for one change. The controls remember what it did to the nodes, so the next one has its own. */
export const workOn = (config: PlacedConfig, ports: Ports): Work => ({
  ports,
  config,
  nodes: ports.controls(config),
  journal: new Journal(config.stack, ports.notes),
});
