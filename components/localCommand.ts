import * as command from "@pulumi/command";
import * as pulumi from "@pulumi/pulumi";
import { type Cluster, type Member, memberOf } from "../core/model/cluster";
import { birthSecrets, type BirthSecrets, birthVariables } from "../core/model/birth";
import { HOST_SCRIPTS } from "../core/model/hostScripts";
import { PGNODE_SCRIPT } from "../core/model/pgnode";
import { isBySsh, SSH_FIRST, SSH_WRAPPER } from "../core/model/ssh";

/** Environment for a command. Values may be secret: they reach the container by name, never on a command line. */
export type Environment = Record<string, pulumi.Input<string>>;

/** How many seconds a command waits for a server before it gives up. */
const TIMEOUT_SECONDS = "120";

/** What every command is: the step itself is in its environment, so that an error or a preview shows one short line. */
const RUN_STEP = 'exec /bin/sh -c "$PGNODE_STEP"';
const DELETE_STEP = 'exec /bin/sh -c "$PGNODE_DELETE_STEP"';

/** What nobody wants to read in a preview. */
const TEXTS = [
  "environment.PGNODE_STEP",
  "environment.PGNODE_DELETE_STEP",
  "environment.NODE_CLONE",
  "environment.IMAGE_RECIPE",
  "environment.PGNODE_SSH",
  "stdin",
];

export interface BaseArgs {
  cluster: Pick<Cluster, "home" | "protectData">;
  /** The Docker engine that it works on, where that is a node's. @default the one of what belongs to no node */
  engine?: string;
  environment?: Environment;
  /** Which streams are shown as progress. @default none */
  logging?: command.types.enums.local.Logging;
  /**
   * What was found that Pulumi cannot see and the step fixes, in words. Not empty: the step runs again. Empty: what the
   * state has stays, so that a drift that was fixed is no diff, and the same one again is.
   */
  drift?: readonly string[];
}

/**
 * The one factory for commands: a Docker engine, no previous output in the environment (it may
 * not fit, pulumi-command #285), outputs always secret: a secret input alone does not make them so.
 *
 * @param step Shell scripts, one for each occasion; without `create`, creating it does nothing.
 */
export function local(
  name: string,
  base: BaseArgs,
  step: { create?: string; update?: string; delete?: string; stdin?: pulumi.Input<string> },
  opts: pulumi.CustomResourceOptions,
): command.local.Command {
  const drift = base.drift ?? [];
  const engine = base.engine ?? base.cluster.home;
  const ssh = [engine, ...engineNames(base.environment)].some(isBySsh);
  const run = (text: string): string => (ssh ? `${SSH_FIRST}; ${text}` : text);
  return new command.local.Command(
    name,
    {
      create: step.create === undefined ? ":" : run(RUN_STEP),
      ...(step.create === undefined ? { update: run(RUN_STEP) } : {}),
      ...(step.delete === undefined ? {} : { delete: run(DELETE_STEP) }),
      ...(step.stdin === undefined ? {} : { stdin: step.stdin }),
      environment: {
        DOCKER_HOST: engine,
        ...(ssh ? { PGNODE_SSH: SSH_WRAPPER } : {}),
        PGNODE_TIMEOUT: TIMEOUT_SECONDS,
        PGNODE_STEP: step.create ?? step.update ?? "",
        ...(step.delete === undefined ? {} : { PGNODE_DELETE_STEP: step.delete }),
        ...base.environment,
        // With the time, or a second drift of the same kind would look like the first one.
        ...(drift.length === 0 ? {} : { PGNODE_DRIFT: `${new Date().toISOString()} ${drift.join("; ")}` }),
      },
      logging: base.logging ?? command.local.Logging.None,
      addPreviousOutputInEnv: false,
    },
    {
      ...opts,
      // A destroy begins with what depends on everything else. A container cannot be protected, or it could not be
      // replaced; nothing is deleted that a protected step depends on.
      protect: opts.protect ?? base.cluster.protectData ?? false,
      additionalSecretOutputs: ["stdout", "stderr"],
      ignoreChanges: [...(opts.ignoreChanges ?? []), ...(drift.length === 0 ? ["environment.PGNODE_DRIFT"] : [])],
      hideDiffs: TEXTS,
    },
  );
}

/** The engines of NODE_ENGINES and IMAGE_FROM. */
const engineNames = (environment: Environment = {}): string[] =>
  [environment["NODE_ENGINES"], environment["IMAGE_FROM"]].flatMap((text) => (typeof text === "string" ? text.split(/\s/) : []));

/** A container and where it is. */
export type Located = Pick<Member, "container" | "place">;

/** The containers that a step may speak to, in the variables of image/host/lib.sh. */
export function containersOf(members: readonly Located[]): Environment {
  return {
    NODE_CONTAINERS: members.map(({ container }) => container).join(" "),
    NODE_ENGINES: members.map(({ container, place }) => `${container} ${place.engine}`).join("\n"),
  };
}

/** What `pgnode init` and `pgnode clone` need to work on a node's volume, in the variables of birth.sh. */
export interface BirthArgs {
  cluster: Cluster;
  node: string;
  volume: pulumi.Input<string>;
  /** @default none */
  network?: pulumi.Input<string>;
  /** What pgnode needs to know, by variable; and what of that is secret. */
  environment: Environment;
  secrets: pulumi.Input<BirthSecrets>;
}

/** The variables and the standard input of birth.sh; the text of pgnode is to follow it. */
export function birthInput(args: BirthArgs): { environment: Environment; stdin: pulumi.Output<string> } {
  return {
    environment: {
      ...birthVariables(args.cluster, args.node, { helper: "birth", environment: args.environment }),
      // The resources' own outputs, so that what makes them comes before.
      NODE_VOLUME: args.volume,
      NODE_NETWORK: args.network ?? "",
    },
    stdin: pulumi.secret(pulumi.output(args.secrets).apply(birthSecrets)),
  };
}

/**
 * Runs `pgnode init` or `pgnode clone` on a node's volume in a container of its own, before the node's
 * container exists. This is how a node *began*, so it is never run again because an input changed.
 */
export function birthCommand(
  name: string,
  args: BirthArgs & { action: "init" | "clone"; logging?: command.types.enums.local.Logging },
  opts: pulumi.CustomResourceOptions,
): command.local.Command {
  const { environment, stdin } = birthInput(args);
  return local(
    name,
    { ...args, engine: memberOf(args.cluster, args.node).place.engine, environment: { NODE_ACTION: args.action, ...environment } },
    { create: HOST_SCRIPTS.birth, stdin: pulumi.interpolate`${stdin}${PGNODE_SCRIPT}` },
    { ...opts, ignoreChanges: ["create", "stdin", "environment", "logging"] },
  );
}

/**
 * Runs SQL on the primary, whoever that is now, as postgres over the server's own socket (peer
 * authentication, so no password is needed). The SQL has to be idempotent: it runs again when it changes.
 * The `delete` SQL tolerates that there is no primary any more.
 *
 * @param args.script What runs the SQL. @default on-primary.sh
 */
export function sqlCommand(
  name: string,
  args: BaseArgs & { containers: readonly Located[]; sql: pulumi.Input<string>; deleteSql?: string; script?: string },
  opts: pulumi.CustomResourceOptions,
): command.local.Command {
  const { deleteSql } = args;
  const environment: Environment = {
    ...containersOf(args.containers),
    PGNODE_SQL: args.sql,
    ...(deleteSql === undefined ? {} : { PGNODE_DELETE_SQL: deleteSql }),
    ...args.environment,
  };
  return local(
    name,
    { ...args, environment },
    {
      create: args.script ?? HOST_SCRIPTS.onPrimary,
      ...(deleteSql === undefined
        ? {}
        : { delete: `PGNODE_SQL=$PGNODE_DELETE_SQL PGNODE_TIMEOUT=5 NODE_NONE_OK=yes\nexport PGNODE_TIMEOUT\n${HOST_SCRIPTS.onPrimary}` }),
    },
    opts,
  );
}

/** A password that is made once per stack and kept, encrypted, in the stack's state. */
export function generatedPassword(name: string, cluster: BaseArgs["cluster"], opts: pulumi.CustomResourceOptions): pulumi.Output<string> {
  const made = local(
    name,
    { cluster },
    { create: "head -c 24 /dev/urandom | base64 | tr '+/' '-_'" },
    { ...opts, ignoreChanges: ["create", "environment"] },
  );
  return pulumi.secret(made.stdout);
}
