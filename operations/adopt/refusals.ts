import type { StackConfig } from "../../core/config";
import { containerName, type Identity, networkName, NODE_ROOT, volumeName } from "../../core/model/names";
import { notOneWriter } from "../../core/judgement/findings";
import { wordsOf } from "../../core/judgement/words";
import type { Survey } from "../guard/survey";
import { npmRun } from "../look/advice";
import type { Standing } from "./standing";

/** Why a stack is not adopted. Pure. */

const NOTHING = "Nothing was changed";

/** What the engine shows of the stack as a whole; undefined when there is nothing against it. */
export function refusal(config: StackConfig, { found, observed, engines }: Survey): string | undefined {
  const { stack, nodes } = config;
  const [{ dockerHost }, ...others] = engines;
  if (others.length > 0) {
    return `its nodes are on several Docker hosts, and adopt can take over a stack on one only. ${NOTHING}. Put its state back from a backup of the backend: pulumi stack import`;
  }
  const containers = found.filter(({ kind }) => kind === "container");
  if (containers.length === 0) {
    const kept = found.filter(({ kind }) => kind === "volume").map(({ name }) => name);
    return (
      `there is no container of stack "${stack}" on the Docker engine at ${dockerHost}, so there is nothing to adopt. ${NOTHING}. ` +
      (kept.length === 0
        ? `Choose its engine with DOCKER_HOST or docker context use NAME; to build a new stack: ${npmRun("up", stack)}`
        : `Its volumes are there (${kept.join(", ")}): ${npmRun("up", stack)} takes them on, beginning with the newest`)
    );
  }
  const missing = nodes.filter(({ name }) => !containers.some((object) => object.name === containerName(stack, name)));
  if (missing.length > 0) {
    return (
      `node ${missing.map(({ name }) => name).join(" and ")} of the config has no container on the Docker engine at ${dockerHost}. ${NOTHING}. ` +
      `Take it out of nodes in Pulumi.${stack}.yaml for now; after the adoption put it back, and the next up makes it`
    );
  }
  const unknown = containers.filter(({ name }) => !nodes.some((node) => containerName(stack, node.name) === name));
  if (unknown.length > 0) {
    return (
      `the container ${unknown.map(({ name }) => name).join(" and ")} is of stack "${stack}", and nodes in its config has no such node. ${NOTHING}. ` +
      `Add the node to Pulumi.${stack}.yaml; when it is only what an interrupted run left behind, remove it: docker rm -f NAME`
    );
  }
  if (!found.some(({ kind, name }) => kind === "network" && name === networkName(stack))) {
    return `the network ${networkName(stack)} is gone, and the nodes need it. ${NOTHING}. Restore it first: docker network create ${networkName(stack)}, with the labels that the containers have, and docker network connect --alias NODE for each node`;
  }
  const nobody = notOneWriter(observed);
  if (nobody === undefined) {
    return undefined;
  }
  const then = nobody.kind === "no-primary" ? "; then start the primary (docker start NAME) or promote a standby (npm run failover)" : "";
  return `${wordsOf(nobody)}. ${NOTHING}. Look at: ${npmRun("status", stack)}${then}`;
}

/** What a container shows that could not be adopted. */
export function containerRefusal({ stack }: StackConfig, there: readonly Standing[]): string | undefined {
  for (const { node, container } of there) {
    const name = containerName(stack, node);
    const data = container.Mounts.find(({ Destination }) => Destination === NODE_ROOT);
    if (data?.Type !== "volume" || data.Name !== volumeName(stack, node)) {
      return `the container ${name} has ${data === undefined ? "nothing" : (data.Name ?? `a ${data.Type}`)} at ${NODE_ROOT}, and not the volume ${volumeName(stack, node)}: this program has not made it. ${NOTHING}`;
    }
    if (container.NetworkSettings.Networks?.[networkName(stack)] === undefined) {
      return `the container ${name} is not in the network ${networkName(stack)}. ${NOTHING}. Connect it: docker network connect --alias ${node} ${networkName(stack)} ${name}`;
    }
  }
  return undefined;
}

/**
 * The config asks for another PostgreSQL than the data is of; nothing is said where the config's image does not tell.
 *
 * @param server The major version of the primary, such as 17.
 * @param image The major version in the config's image.
 */
export function versionRefusal(config: StackConfig, server: number, image: number | undefined): string | undefined {
  return image === undefined || image === server
    ? undefined
    : `the nodes of stack "${config.stack}" run PostgreSQL ${server}, and the image ${config.image} of the config has PostgreSQL ${image}, which cannot read their data. ${NOTHING}. Set image to one of PostgreSQL ${server}`;
}

/**
 * The identity that the objects carry; undefined when they have none, as those of version 0.1.0.
 * A volume may carry an older one: it was kept and taken on.
 */
export function identityOf({ found }: Survey): Identity | undefined | { refusal: string } {
  const carried = found.filter(({ kind, identity }) => kind !== "volume" && identity !== "");
  const [first] = carried;
  if (first === undefined) {
    return undefined;
  }
  const others = carried.filter(({ identity }) => identity !== first.identity);
  if (others.length > 0) {
    const made = [first, ...others].map(({ kind, name, madeBy }) => `${kind} ${name} by ${madeBy}`);
    return {
      refusal: `the objects were made by more than one state (${made.join(", ")}). ${NOTHING}. Remove those that are not the stack's with docker`,
    };
  }
  return { id: first.identity, madeBy: first.madeBy };
}
