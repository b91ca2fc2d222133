import { isPrimary, isStandby, type Observation } from "./observation";

/** A change of primary that is under way, as the run that began it has noted it. */
export interface Change {
  /** The node that is to be primary. */
  promoted: string;
  /** switchover: the node that was. */
  from?: string;
  /** switchover: its timeline. */
  timeline?: number;
  /** Before `promoting`, everything can still go back to how it was. */
  phase: "stopping" | "promoting";
}

/** What the note says, what its target is now, and whether all the others can be asked. */
export interface Standing {
  noted: "nothing" | "failover, promoting" | "switchover, stopping" | "switchover, promoting";
  /**
   * `primary`: the only one; `waiting`: a standby while nobody is primary, for a switchover on the timeline that it is to leave and with
   * the node that was primary down; `standby`: any other standby; `neither`: it is silent, gone, or one of two that write.
   */
  target: "primary" | "waiting" | "standby" | "neither";
  /** Whether a node that is neither of the two is silent: it may have become primary meanwhile. */
  others: "answer" | "silent";
}

/**
 * What a command does about it. `begin`: as if nothing were noted. `finish`: the promotion has taken place, what comes after it is left to do. `go on`: the switchover
 * goes on where it stopped. `hold`: a promotion that was asked for cannot be taken back, so no other node may be promoted. `refuse`: start the silent ones first.
 */
export type Step = "begin" | "finish" | "go on" | "hold" | "refuse";

/** One line of the table: a field that is not there may be anything. */
export interface Row extends Partial<Standing> {
  failover: Step;
  switchover: Step;
  /** What an interruption there leaves on the node that was primary; see the head of image/pgnode. */
  marks: string;
  why: string;
}

/** The phases of the note against what there is. The first line that fits counts. docs/changing-roles.md shows the same table. */
export const TABLE: readonly Row[] = [
  {
    noted: "nothing",
    failover: "begin",
    switchover: "begin",
    marks: "none, or fenced",
    why: "nobody was asked to become primary",
  },
  {
    noted: "failover, promoting",
    target: "primary",
    failover: "finish",
    switchover: "finish",
    marks: "fenced, perhaps reclone",
    why: "slots, a confirmed write and a checkpoint are left to do",
  },
  {
    noted: "switchover, promoting",
    target: "primary",
    failover: "finish",
    switchover: "finish",
    marks: "fenced, rejoin-once",
    why: "the same, and the old primary comes back",
  },
  {
    noted: "failover, promoting",
    target: "waiting",
    failover: "hold",
    switchover: "begin",
    marks: "fenced, perhaps reclone",
    why: "it may become primary at any moment, so it alone may be promoted",
  },
  {
    noted: "switchover, promoting",
    target: "waiting",
    others: "silent",
    failover: "hold",
    switchover: "refuse",
    marks: "fenced, rejoin-once",
    why: "who is silent may have become primary meanwhile",
  },
  {
    noted: "switchover, promoting",
    target: "waiting",
    failover: "hold",
    switchover: "go on",
    marks: "fenced, rejoin-once",
    why: "the target has every byte, and nobody writes",
  },
  {
    noted: "switchover, stopping",
    target: "waiting",
    others: "silent",
    failover: "begin",
    switchover: "refuse",
    marks: "none, or fenced, rejoin-once",
    why: "who is silent may have become primary meanwhile",
  },
  {
    noted: "switchover, stopping",
    target: "waiting",
    failover: "begin",
    switchover: "go on",
    marks: "none, or fenced, rejoin-once",
    why: "the old primary is down, and nobody writes",
  },
  {
    noted: "switchover, stopping",
    failover: "begin",
    switchover: "begin",
    marks: "none, or fenced, rejoin-once",
    why: "the old primary is back, or the role has moved on: nothing was asked for",
  },
  {
    target: "standby",
    failover: "hold",
    switchover: "begin",
    marks: "fenced",
    why: "a promotion that was asked for cannot be taken back",
  },
  {
    failover: "begin",
    switchover: "begin",
    marks: "fenced",
    why: "a server that is silent or was started again has forgotten what it was asked",
  },
];

/** What there is, in the words of the table. A failover notes nothing before it promotes. */
export function standing(change: Change | undefined, observed: readonly Observation[]): Standing {
  if (change === undefined) {
    return { noted: "nothing", target: "neither", others: "answer" };
  }
  const target = observed.find((node) => node.name === change.promoted);
  const old = observed.find((node) => node.name === change.from);
  const primaries = observed.filter(isPrimary);
  const silent = observed.some((node) => node.server === null && node !== old && node !== target);
  return {
    noted: change.from === undefined && change.phase === "promoting" ? "failover, promoting" : `switchover, ${change.phase}`,
    target: stateOf(change, target, old, primaries),
    others: silent ? "silent" : "answer",
  };
}

function stateOf(
  change: Change,
  target: Observation | undefined,
  old: Observation | undefined,
  primaries: readonly Observation[],
): Standing["target"] {
  if (target === undefined || !isStandby(target)) {
    return target !== undefined && primaries.length === 1 && primaries[0] === target ? "primary" : "neither";
  }
  const stillThere = change.from === undefined || (target.server.timeline === change.timeline && old !== undefined && old.server === null);
  return primaries.length === 0 && stillThere ? "waiting" : "standby";
}

/** The line of the table that fits. */
export function rowOf(found: Standing): Row {
  const fits = (row: Row): boolean =>
    (row.noted ?? found.noted) === found.noted &&
    (row.target ?? found.target) === found.target &&
    (row.others ?? found.others) === found.others;
  const row = TABLE.find(fits);
  if (row === undefined) {
    throw new Error(`no line of the table fits ${JSON.stringify(found)}`);
  }
  return row;
}

/** What a command does, after what an earlier run has noted and what there is now. */
export function stepOf(command: "failover" | "switchover", change: Change | undefined, observed: readonly Observation[]): Step {
  return rowOf(standing(change, observed))[command];
}
