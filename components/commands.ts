import * as command from "@pulumi/command";
import * as pulumi from "@pulumi/pulumi";
import type { Cluster } from "../core/cluster";
import { labelsOf, NODE_ROOT } from "../core/names";
import { PGNODE_SCRIPT } from "../core/pgnode";
import { shellWord } from "../core/quoting";

/** Environment for a command. Values may be secret: they reach the container by name, never on a command line. */
export type Environment = Record<string, pulumi.Input<string>>;

/** How many seconds a command waits for a server before it gives up. */
const TIMEOUT_SECONDS = "120";

interface BaseArgs {
  cluster: Cluster;
  environment?: Environment;
  /** Which streams are shown as progress. @default none */
  logging?: command.types.enums.local.Logging;
}

/**
 * The one factory for commands: the stack's Docker host, no previous output in the environment (it may
 * not fit, pulumi-command #285), outputs always secret: a secret input alone does not make them so.
 */
function local(
  name: string,
  base: BaseArgs,
  scripts: { create: pulumi.Input<string>; delete?: pulumi.Input<string>; stdin?: pulumi.Input<string> },
  opts: pulumi.CustomResourceOptions,
): command.local.Command {
  return new command.local.Command(
    name,
    {
      ...scripts,
      environment: { DOCKER_HOST: base.cluster.dockerHost, PGNODE_TIMEOUT: TIMEOUT_SECONDS, ...base.environment },
      logging: base.logging ?? command.local.Logging.None,
      addPreviousOutputInEnv: false,
    },
    { ...opts, additionalSecretOutputs: ["stdout", "stderr"] },
  );
}

/** `-e NAME` for every variable: docker takes the value from its own environment. */
function passOn(environment: Environment): string {
  return ["PGNODE_TIMEOUT", ...Object.keys(environment)].map((name) => `-e ${name}`).join(" ");
}

/**
 * Runs `pgnode init` or `pgnode clone` on a node's volume in a container of its own, before the node's
 * container exists. This is how a node *began*, so it is never run again because an input changed.
 */
export function birthCommand(
  name: string,
  args: BaseArgs & {
    action: "init" | "clone";
    node: string;
    image: pulumi.Input<string>;
    volume: pulumi.Input<string>;
    /** The text of the node's password file. */
    passfile: pulumi.Input<string>;
    network?: pulumi.Input<string>;
  },
  opts: pulumi.CustomResourceOptions,
): command.local.Command {
  const environment = { PGNODE_NAME: args.node, ...args.environment };
  const helper = `${args.cluster.members.find((m) => m.name === args.node)?.container ?? args.node}-${args.action}`;
  const labels = Object.entries(labelsOf(args.cluster.stack, args.node))
    .map(([key, value]) => `--label ${shellWord(`${key}=${value}`)}`)
    .join(" ");
  const create = pulumi.all([args.image, args.volume, args.network]).apply(([image, volume, network]) =>
    [
      // A helper that an interrupted run left behind would work on the same volume.
      `docker rm -f -v ${helper} >/dev/null 2>&1 || true`,
      `exec docker run --rm -i --name ${helper} ${labels} --user 0:0 --entrypoint sh` +
        (network === undefined ? " --network none" : ` --network ${shellWord(network)}`) +
        ` -v ${shellWord(volume)}:${NODE_ROOT} ${passOn(environment)} ${shellWord(image)}` +
        ` -c 'cat >/tmp/pgnode && exec sh /tmp/pgnode ${args.action}'`,
    ].join("\n"),
  );
  // The password comes in with the script: a container's environment is for everybody to inspect.
  const stdin = pulumi.secret(pulumi.output(args.passfile).apply((text) => `export PGNODE_PASSFILE=${shellWord(text)}\n${PGNODE_SCRIPT}`));
  return local(
    name,
    { ...args, environment },
    { create, stdin },
    { ...opts, ignoreChanges: ["create", "stdin", "environment", "logging"] },
  );
}

/** What a node that stopped by itself has said last, or the last error of its server. Not the end of a server that was killed. */
const reasonOf = (container: string): string =>
  `{ docker logs --tail 1 ${container} 2>&1 | grep '^pgnode: '; docker logs --tail 20 ${container} 2>&1 | grep -E 'FATAL:|PANIC:' | grep -v -E 'terminating connection|the database system is' | tail -n 1; }`;

/** Ends a script whose container let it down: what the node itself said last is the reason to show. */
const withReason = (container: string): string => `{ ${reasonOf(container)} >&2; exit 1; }`;

/** Runs `pgnode ACTION` in a node's running container. */
export function nodeCommand(
  name: string,
  args: BaseArgs & { action: "streaming" | "configure"; container: string },
  opts: pulumi.CustomResourceOptions,
): command.local.Command {
  const container = shellWord(args.container);
  const exec = `docker exec -u postgres ${passOn(args.environment ?? {})} ${container} pgnode ${args.action}`;
  // Some settings only count after a restart; the server says which.
  const create =
    args.action === "configure"
      ? `out=$(${exec}) || ${withReason(container)}\ncase $out in "restart: "*) docker restart -t 60 ${container} >/dev/null && ${`docker exec -u postgres -e PGNODE_TIMEOUT ${container} pgnode ready`} ;; esac`
      : `${exec} || ${withReason(container)}`;
  return local(name, args, { create }, opts);
}

/** A script that pipes $PGNODE_SQL into whichever of the containers is primary now. */
function onPrimary(containers: readonly string[], whenNone: string): string {
  return [
    `said=`,
    `for c in ${containers.map(shellWord).join(" ")}; do`,
    `  out=$(printf '%s\\n' "$PGNODE_SQL" | docker exec -i -u postgres -e PGNODE_TIMEOUT "$c" pgnode sql 2>&1) && exit 0`,
    `  code=$?`,
    // 75 is a standby; a container that is not there, or not running, cannot be the primary.
    `  case "$code $out" in 75*) ;; *"No such container"*|*"is not running"*|*"is restarting"*|*"is paused"*) said="$said $out $(${reasonOf('"$c"')})" ;; *) echo "$out" >&2; [ -n "$out" ] && exit 1; ${withReason('"$c"')} ;; esac`,
    `done`,
    whenNone,
  ].join("\n");
}

/**
 * Runs SQL on the primary, whoever that is now, as postgres over the server's own socket (peer
 * authentication, so no password is needed). The SQL has to be idempotent: it runs again when it changes.
 * The `delete` SQL tolerates that there is no primary any more.
 */
export function sqlCommand(
  name: string,
  args: BaseArgs & { containers: pulumi.Input<string[]>; sql: pulumi.Input<string>; deleteSql?: pulumi.Input<string> },
  opts: pulumi.CustomResourceOptions,
): command.local.Command {
  const create = pulumi
    .output(args.containers)
    .apply((containers) => onPrimary(containers, `echo "no primary among ${containers.join(", ")}.$said" >&2; exit 1`));
  const deletion =
    args.deleteSql === undefined
      ? {}
      : {
          delete: pulumi
            .output(args.containers)
            .apply((containers) => `PGNODE_SQL=$PGNODE_DELETE_SQL PGNODE_TIMEOUT=5\n${onPrimary(containers, "exit 0")}`),
        };
  const environment: Environment = {
    PGNODE_SQL: args.sql,
    ...(args.deleteSql === undefined ? {} : { PGNODE_DELETE_SQL: args.deleteSql }),
    ...args.environment,
  };
  return local(name, { ...args, environment }, { create, ...deletion }, opts);
}

/** A password that is made once per stack and kept, encrypted, in the stack's state. */
export function generatedPassword(name: string, cluster: Cluster, opts: pulumi.CustomResourceOptions): pulumi.Output<string> {
  const made = local(
    name,
    { cluster },
    { create: "head -c 24 /dev/urandom | base64 | tr '+/' '-_'" },
    { ...opts, ignoreChanges: ["create", "environment"] },
  );
  return pulumi.secret(made.stdout);
}
