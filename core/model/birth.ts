import { shellWord } from "../grammar/quoting";
import { type Cluster, memberOf } from "./cluster";
import { labelsOf, networkName, volumeName } from "./names";

/** The birth of a node: the helper container in which its data is made or copied, before its own container exists. */

/** What it is told. */
export interface BirthFacts<Value> {
  /** What runs it, the end of the helper's name: the program or a command. Two of one name never work on a volume at once. */
  helper: "birth" | "clone";
  /** What pgnode needs to know besides, by variable. Nothing secret: a container's environment is for everybody to inspect. */
  environment: Readonly<Record<string, Value>>;
}

/** The variables of image/host/birth.sh, for a node that is to reach the others. */
export function birthVariables<Value = string>(
  cluster: Cluster,
  node: string,
  { helper, environment }: BirthFacts<Value>,
): Record<string, string | Value> {
  const { stack } = cluster;
  const told = { PGNODE_NAME: node, PGNODE_STACK: stack, ...environment };
  // The helper of a command is none of the stack's objects, and gone when it has ended.
  const labels = helper === "birth" ? Object.entries(labelsOf(stack, node, cluster.identity)) : [];
  return {
    NODE_HELPER: `${memberOf(cluster, node).container}-${helper}`,
    NODE_LABELS: labels.map(([key, value]) => `${key}=${value}`).join(" "),
    NODE_IMAGE: cluster.image,
    NODE_VOLUME: volumeName(stack, node),
    NODE_NETWORK: networkName(stack),
    NODE_PASS: ["PGNODE_TIMEOUT", "PGNODE_STALL_SECONDS", ...Object.keys(told)].join(" "),
    ...told,
  };
}

/** What is secret of it. */
export interface BirthSecrets {
  /** The texts of the node's secret files, by variable. */
  files: Readonly<Record<string, string>>;
  /** The key of the stack's certificate authority. @default the node has its certificate, or uses none */
  authorityKey?: string;
}

/** The beginning of the standard input of birth.sh, which the text of pgnode follows. */
export function birthSecrets({ files, authorityKey }: BirthSecrets): string {
  return [
    ...Object.entries(files).map(([variable, text]) => `export ${variable}=${shellWord(text)}\n`),
    // Not exported: no program that pgnode runs is to have it in its environment.
    ...(authorityKey === undefined ? [] : [`AUTHORITY_KEY=${shellWord(authorityKey)}\n`]),
  ].join("");
}
