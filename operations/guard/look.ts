import { randomUUID } from "crypto";
import { connect, createServer } from "net";
import { hostname, userInfo } from "os";
import type { StackConfig } from "../../core/config";
import { isOwnAddress } from "../../core/grammar/address";
import { endingsOf, enginesOf, homeOf, isHere, placed, type PlacedConfig } from "../../core/model/place";
import { placedHere } from "../engine/dockerHost";
import type { Identity } from "../../core/model/names";
import { Engine } from "../engine/engine";
import { UserError } from "../errors";
import { finishMove } from "./handover";
import { acquireLock, lockHolder } from "../change/lock";
import { clearUp } from "./debris";
import { keptNodes, newestKept } from "./kept";
import { provideImage } from "../setup/image";
import { isNew, type PriorState } from "./prior";
import { type Case, clocksApart, goneWarning, portTaken, refusal, takenPort } from "./refusals";
import { upLock } from "./upLock";
import { everyNode, factsOf, reachedNow, type Survey, survey } from "./survey";

/** Where a stack is, and whose. */
export interface Known {
  /** The Docker engine of every node of which the config does not say it. */
  dockerHost: string;
  identity: Identity;
  /** The ID of the engine of what belongs to no node, as it is recorded with a new identity. */
  engine: string;
  /** What the names of each engine's resources end with, by DOCKER_HOST value; see {@link endingsOf}. */
  endings: ReadonlyMap<string, string>;
}

/** What the program knows before it declares anything of the stack. */
export interface Look extends Known {
  /** What is on the engines; undefined when none answers. */
  survey: Survey | undefined;
  /** The engines that had the image and have it no more, by DOCKER_HOST value. */
  imageGone: ReadonlySet<string>;
  /** A new stack begins with the newest data that was kept, when there is any: that node. */
  kept: string | undefined;
}

/**
 * Looks at the engine and at every server, and refuses what would harm a stack. A run that changes something also takes
 * the stack's lock, held as long as the `pulumi` above lives, and removes what its own interrupted run has left behind.
 *
 * @param dryRun Whether this is a preview: nothing is locked and nothing removed.
 * @param known Called before the look, as soon as it is certain where the stack is and whose: not for a new one.
 * @throws UserError when it goes no further: one line. Nothing was changed.
 */
export async function look(
  config: StackConfig,
  state: PriorState | Promise<PriorState>,
  dryRun: boolean,
  warn: (line: string) => void,
  known: (place: Known) => void = () => undefined,
): Promise<Look> {
  // While the engine of Pulumi is asked what the state has. As a rule that changes neither whom to ask nor what.
  const here = placedHere(config);
  const current = currentOf(here);
  const early = survey(here, here.nodes);
  early.catch(() => undefined);
  const prior = await state;
  const dockerHost = await chooseHost(here, prior);
  const there = placed(config, dockerHost);
  const home = homeOf(there);
  const nodes = everyNode(there, prior);
  const engines = enginesOf(there.nodes);
  const recorded = endingsOf(engines, prior.providers);
  if (prior.identity !== undefined && [...recorded].every(([engine, ending]) => prior.providers.get(ending) === engine)) {
    known({ dockerHost, identity: prior.identity, engine: prior.identity.engine, endings: recorded });
  }
  const place = { stack: config.stack, engines: enginesOf(nodes) };
  // Beside the look, which tells better why an engine does not answer.
  // Where a node is taken out, it is deleted after the program has ended: the lock stays until `pulumi` has, unless this
  // run is refused.
  let atExit = nodes.length === config.nodes.length;
  const locked = dryRun ? undefined : acquireLock(place, "pulumi up", { ...upLock(), seconds: LOCK_SECONDS, say: warn });
  locked?.then(
    (lock) => process.once("exit", () => atExit && lock.releaseNow()),
    () => undefined,
  );
  const seenEarly = dockerHost === current && nodes.length === config.nodes.length;
  const judge = async (seen: Awaited<ReturnType<typeof survey>>): ReturnType<typeof judged> => {
    try {
      return await judged(there, prior, seen);
    } catch (error) {
      atExit = true;
      throw error;
    }
  };
  let found = await judge(seenEarly ? await early : await survey(there, nodes));
  if ("unreachable" in found) {
    if (!dryRun) {
      throw new UserError(found.unreachable);
    }
    warn(`${found.unreachable}. What is on the engine is not part of this preview`);
    // Nothing is known, so nothing is a change: a Docker host that no node's config says neither.
    const assumed = config.nodes.every((node) => node.dockerHost === undefined) ? (prior.dockerHost ?? dockerHost) : dockerHost;
    const endings = endingsOf(enginesOf(placed(config, assumed).nodes), prior.providers);
    const known = { dockerHost: assumed, identity: prior.identity ?? newIdentity(), endings };
    return { ...known, survey: undefined, engine: "", imageGone: new Set(), kept: undefined };
  }
  if (dryRun) {
    const holder = await lockHolder(place);
    if (holder !== undefined) {
      warn(`${holder} is at work on this stack: what this preview shows may be half done`);
    }
  } else {
    const lock = await locked;
    if (lock?.waited === true || nodes.length !== config.nodes.length) {
      // Whoever held the lock may have built or moved anything meanwhile.
      found = await judge(await survey(there, nodes));
      if ("unreachable" in found) {
        throw new UserError(found.unreachable);
      }
    }
    if (await finishMove(there, found.survey.observed, warn)) {
      found = await judge(await survey(there, nodes));
      if ("unreachable" in found) {
        throw new UserError(found.unreachable);
      }
    }
    await clearUp(found, warn);
  }
  for (const line of [goneWarning(found), clocksApart(found)]) {
    if (line !== undefined) {
      warn(line);
    }
  }
  const { survey: what } = found;
  for (const why of what.silent.values()) {
    warn(`${why}. What is there is left as it is, and counts as unchanged`);
  }
  return {
    survey: what,
    dockerHost,
    identity: prior.identity ?? newIdentity(),
    engine: factsOf(what, home)?.engine ?? "",
    endings: endingsOf(engines, reachedNow(prior, what)),
    imageGone: new Set(what.engines.filter(({ image }) => !image && !prior.empty).map((engine) => engine.dockerHost)),
    kept: isNew(prior) ? await keptNode(there, what, dryRun, warn) : undefined,
  };
}

/** The node to begin with, when data was kept. To read it takes the image. */
async function keptNode(config: PlacedConfig, seen: Survey, dryRun: boolean, warn: (line: string) => void): Promise<string | undefined> {
  const without = seen.engines.filter(({ image }) => !image);
  if (without.length > 0 && keptNodes(seen).length > 0) {
    if (dryRun) {
      warn("the data volumes of an earlier stack are there; which has the newest data is read when the image is there");
      return undefined;
    }
    for (const { dockerHost } of without) {
      await provideImage(config.image, dockerHost, warn);
    }
  }
  return newestKept(config, seen);
}

/** How long `up` waits for a failover, switchover, rejoin or another `up`, in seconds. */
const LOCK_SECONDS = 120;

/** What was found, unless it is to be refused. @throws UserError */
async function judged(
  config: PlacedConfig,
  prior: PriorState,
  seen: Awaited<ReturnType<typeof survey>>,
): Promise<Case | { unreachable: string }> {
  if ("unreachable" in seen) {
    return seen;
  }
  const found: Case = { config, prior, survey: seen };
  const why = refusal(found) ?? (await takenByProgram(found));
  if (why !== undefined) {
    throw new UserError(why);
  }
  return found;
}

/** Random, and by whom: only words that need no quoting anywhere. */
export function newIdentity(): Identity {
  const word = (text: string): string => text.replace(/[^A-Za-z0-9._-]/g, "") || "somebody";
  let user = "";
  try {
    user = userInfo().username;
  } catch {
    // A user without an entry in the machine's list has no name.
  }
  return { id: randomUUID(), madeBy: `${word(user)}@${word(hostname())},${new Date().toISOString().slice(0, 10)}` };
}

/** The engine of the nodes of which the config does not say it; when it says it of all, that of what belongs to no node. */
const currentOf = (config: PlacedConfig): string =>
  config.nodes.find((node) => node.dockerHost === undefined)?.place.engine ?? homeOf(config);

/**
 * The config's Docker host; else the one that the state has, when it leads to the same engine as the current one, so that
 * another path to the same socket is no change; else the current one.
 */
async function chooseHost(config: PlacedConfig, prior: PriorState): Promise<string> {
  const current = currentOf(config);
  const recorded = prior.dockerHost;
  if (config.nodes.every((node) => node.dockerHost !== undefined) || recorded === undefined || recorded === current) {
    return current;
  }
  const [here, there] = await Promise.all(
    [current, recorded].map((host) => new Engine(host).run(["info", "--format", "{{.ID}}"], { timeout: 5_000 })),
  );
  return there?.exitCode === 0 && there.stdout.trim() !== "" && there.stdout === here?.stdout ? recorded : current;
}

/** A port that is free in Docker and taken all the same. Of another machine's only that is seen which answers. */
async function takenByProgram(found: Case): Promise<string | undefined> {
  const { config } = found;
  for (const node of takenPort(found).ask) {
    if (!isHere(config.nodes.find(({ name }) => name === node.name)?.place.engine ?? "")) {
      // An address such as 127.0.0.1 is of that machine, and here it would be another one.
      if (!isOwnAddress(node.address) && (await isListening(node.address, node.port))) {
        return portTaken(config, node, "another program there");
      }
      continue;
    }
    const why = await listenError(node.address, node.port);
    if (why === "EADDRINUSE") {
      return portTaken(config, node, "another program");
    }
    if (why === "EADDRNOTAVAIL") {
      return `the address ${node.address} of node ${node.name} is none of this machine's. Give node ${node.name} another address in Pulumi.${config.stack}.yaml`;
    }
  }
  return undefined;
}

/** Whether somebody answers there, as far as this machine can tell. */
function isListening(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: 2_000 });
    const end = (answers: boolean): void => {
      socket.destroy();
      resolve(answers);
    };
    socket
      .once("connect", () => end(true))
      .once("error", () => end(false))
      .once("timeout", () => end(false));
  });
}

/** Why this machine cannot listen there; undefined when it can. */
function listenError(address: string, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", (error: NodeJS.ErrnoException) => resolve(error.code));
    server.listen({ host: address, port, exclusive: true }, () => server.close(() => resolve(undefined)));
  });
}
