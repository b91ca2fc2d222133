import type { WalEnd, Unreadable } from "../../core/judgement/election";
import type { PlacedNode } from "../../core/model/place";

/** A stack of made-up nodes for what changes roles: what is done to them is noted, and they answer as a test says. */
export interface Fakes {
  /** What was done to which node, in order. */
  did: string[];
  ends: Record<string, WalEnd | Unreadable>;
  /** What fails or answers in another way, by `what node`. */
  on: Record<string, () => Promise<unknown>>;
  hadMarks: string[];
}
export const fakes: Fakes = { did: [], ends: {}, on: {}, hadMarks: [] };
export function resetFakes(): void {
  Object.assign(fakes, { did: [], ends: {}, on: {}, hadMarks: [] });
}

/** Stands in for operations/engine/nodeControl.ts. */
export class FakeControl {
  public readonly container: string;
  public constructor(
    _config: unknown,
    public readonly node: PlacedNode,
  ) {
    this.container = `postgres-replica-dev-${node.name}`;
  }
  private async did<T>(what: string, result: T): Promise<T> {
    fakes.did.push(`${what} ${this.node.name}`);
    return ((await fakes.on[`${what} ${this.node.name}`]?.()) ?? result) as T;
  }
  /** An answer that changes nothing. */
  private async says<T>(what: string, result: T): Promise<T> {
    return ((await fakes.on[`${what} ${this.node.name}`]?.()) ?? result) as T;
  }
  public sql = (sql: string): Promise<string> =>
    /^SELECT greatest/.test(sql) ? this.says("received", "0/5000000") : this.did(sql.split(/[ (]/).slice(0, 2).join(" ").trim(), "");
  public fence = (): Promise<boolean> => this.did("stop", true);
  public walEnd = (): Promise<WalEnd | Unreadable> =>
    this.says("end", fakes.ends[this.node.name] ?? { timeline: 1, lsn: "0/5000000", clean: true, writable: true, history: {} });
  public mark = (...marks: string[]): Promise<void> => this.did(`mark ${marks.join(" ")}`, undefined);
  public unmark = (): Promise<void> => this.did("unmark", undefined);
  public hadMark = (mark: string): boolean => fakes.hadMarks.includes(`${mark} ${this.node.name}`);
  public isStopped = (): Promise<boolean> => this.says("isStopped", true);
  public start = (): Promise<void> => this.did("start", undefined);
  public write = (): Promise<void> => this.did("write", undefined);
  public promote = (): Promise<void> => this.did("promote", undefined);
  public makeSlots = (nodes: string[]): Promise<void> => this.did(`slots [${nodes.join(" ")}] on`, undefined);
  public checkpointTimeline = (): Promise<void> => this.did("checkpoint", undefined);
  public notCovered = (): Promise<string[]> => Promise.resolve([]);
  public passfile = (): Promise<string> => this.says("passfile", "secret");
  public takePassfile = (): Promise<void> => this.did("take the password file to", undefined);
  public reason = (): Promise<{ text: string; code?: string }> => this.says("reason", { text: "" });
  public lastWords = (): Promise<{ text: string; code?: string }> => this.says("lastWords", { text: "" });
  public clone = (): Promise<void> => this.did("clone", undefined);
  /** Only a head start; see nodes.test.ts. */
  public expectLook = (): void => undefined;
  public leave = (): void => undefined;
}
