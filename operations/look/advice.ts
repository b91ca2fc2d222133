import type { Finding, Remedy } from "../../core/judgement/findings";
import { wordsOf } from "../../core/judgement/words";

/** What to run: every command that the program tells people to type is put together here. */

/** The commands of package.json that are named to people. */
type Command = "up" | "down" | "status" | "monitor" | "failover" | "switchover" | "rejoin" | "adopt" | "forget";

/** `npm run NAME -- ARGS --stack STACK`. */
export const npmRun = (command: Command, stack: string, ...args: readonly string[]): string =>
  `npm run ${command} -- ${[...args, "--stack", stack].join(" ")}`;

/** A statement for the server in a container. */
const psql = (container: string, ...statements: readonly string[]): string =>
  `docker exec -u postgres ${container} psql ${statements.map((sql) => `-c "${sql}"`).join(" ")}`;

/** What to do, for people who use the npm commands. It is a command, perhaps with more in brackets, or a sentence. */
export function adviceOf(remedy: Remedy, stack: string): string {
  switch (remedy.do) {
    case "up":
      return npmRun("up", stack);
    case "failover":
      return `${npmRun("failover", stack)} (or, when it was only stopped, docker start its container)`;
    case "rejoin":
      return npmRun("rejoin", stack, remedy.node);
    case "start":
      return `docker start ${remedy.container}`;
    case "start-all":
      return `docker start ${remedy.containers.join(" ")} (no standby answers that could be promoted; each asks the others before it writes)`;
    case "unpause":
      return `docker unpause ${remedy.container}`;
    case "stop-one":
      return `stop the wrong one at once: ${remedy.containers.map((container) => `docker stop ${container}`).join(" or ")}`;
    case "read-log":
      return `docker logs ${remedy.container}`;
    case "free-disk":
      return `docker system df (and free space on the Docker host${remedy.comesBack ? "; the node then comes back by itself" : ""})`;
    case "replay-at-once":
      return psql(remedy.container, "ALTER SYSTEM SET recovery_min_apply_delay = 0", "SELECT pg_reload_conf()");
    case "resume-replay":
      return psql(remedy.container, "SELECT pg_wal_replay_resume()");
    case "make-slot":
      return psql(remedy.container, `SELECT pg_create_physical_replication_slot('${remedy.slot}', true)`);
    case "reach-host":
      return `docker -H ${remedy.engine} version (it has to answer; the node comes back with its host. Is the host of the primary gone: ${npmRun("failover", stack)})`;
    case "wait":
      return `watch whether it catches up: ${npmRun("monitor", stack)}`;
    case "leave-tablespaces":
      return "on the primary move what is in them (ALTER DATABASE or ALTER TABLE ... SET TABLESPACE pg_default), then DROP TABLESPACE";
  }
}

/** The same by plain Pulumi; undefined where that has no command of its own for it. A refresh sees what was removed by hand. */
export function pulumiAdviceOf(remedy: Remedy, stack: string): string | undefined {
  return remedy.do === "up" ? `pulumi up --stack ${stack}${remedy.gone === true ? " --refresh" : ""}` : undefined;
}

/** An advice as the end of a line: `Run: COMMAND`, or a sentence. */
export function toDo(advice: string): string {
  return /^(?:npm|docker|pulumi) /.test(advice) ? `Run: ${advice}` : advice.charAt(0).toUpperCase() + advice.slice(1);
}

/** What a refusal says of a finding: what is wrong, and what to do. */
export const explain = (finding: Finding, stack: string): string => `${wordsOf(finding)}. ${toDo(adviceOf(finding.remedy, stack))}`;
