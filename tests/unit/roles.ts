import type { Own } from "../../core/sql/notCovered";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "fs";
import { tmpdir } from "os";
import { dirname, join } from "path";
import { parseConfig } from "../../core/config";
import type { Unreadable, WalEnd } from "../../core/judgement/election";
import { isPrimary, type Observation } from "../../core/judgement/observation";
import type { Said } from "../../core/judgement/reason";
import type { Mark } from "../../core/model/names";
import { placed, type PlacedConfig, type PlacedNode } from "../../core/model/place";
import type { StackLock } from "../../operations/change/lock";
import type { Ports } from "../../operations/change/ports";
import type { Control } from "../../operations/engine/nodeControl";
import { still } from "./clocks";
import { primary, replica, slot, standby } from "./observations";

type Fake<T extends (...args: never[]) => unknown> = jest.Mock<ReturnType<T>, Parameters<T>>;
const fake = <T extends (...args: never[]) => unknown>(answer?: () => ReturnType<T>): Fake<T> =>
  jest.fn<ReturnType<T>, Parameters<T>>(answer);

export const NODES = ["pg1", "pg2", "pg3"].map((name, i) => ({ name, port: 5432 + i }));

/**
 * A stack of made-up nodes for what changes roles: what is done to them is noted, and they answer as a test says. What was done
 * shows in the looks that follow: who was promoted is primary, and who was started to rejoin streams from whoever is.
 */
export class FakeStack {
  /** What was done to which node, in order. */
  public readonly did: string[] = [];
  /** What fails or answers in another way, by `what node`, as in `did`. */
  public readonly on: Record<string, () => Promise<unknown>> = {};
  /** Where a node's WAL ends, if not at `end`. */
  public ends: Record<string, WalEnd | Unreadable> = {};
  public end: WalEnd = { timeline: 1, lsn: "0/5000000", clean: true, writable: true, history: {} };
  /** Marks of an earlier run, as `mark node`. */
  public hadMarks: string[] = [];
  /** The nodes that run although they were stopped. */
  public startedAgain: string[] = [];
  /** The nodes that do not come up, whatever they are told. */
  public stayDown: string[] = [];
  /** The nodes whose volumes their engines have. */
  public volumes = NODES.map(({ name }) => name);
  public config: PlacedConfig = placed(parseConfig("dev", { nodes: NODES }), "unix:///x");

  public readonly observe = fake<Ports["observe"]>();
  public readonly diagnose = fake<Ports["diagnose"]>();
  public readonly runningNodes = fake<Ports["runningNodes"]>(() => Promise.resolve([]));
  public readonly answers = fake<Ports["answers"]>(() => Promise.resolve(false));
  public readonly release = jest.fn(() => Promise.resolve());
  public readonly held: StackLock = { waited: false, release: this.release, releaseNow: () => undefined };
  public readonly lock = fake<Ports["lock"]>(() => Promise.resolve(this.held));
  public readonly clock = still();
  /** The note of a change that is under way; its folder is not there yet. */
  public readonly note: string;
  public readonly ports: Ports;

  private promoted?: string;
  private readonly told = new Set<string>();
  private readonly back = new Set<string>();

  public constructor() {
    const notes = join(mkdtempSync(join(tmpdir(), "roles-")), "state");
    this.note = join(notes, "promotion-dev.json");
    this.ports = {
      config: () => this.config,
      observe: async (...args) => this.since(await this.observe(...args)),
      diagnose: async (...args) => this.since(await this.diagnose(...args)),
      runningNodes: this.runningNodes,
      controls: ({ nodes }) => new Map(nodes.map((node) => [node.name, new FakeControl(this, node)])),
      answers: this.answers,
      lock: this.lock,
      notes,
      clock: this.clock,
    };
  }

  public configure(more: object): void {
    this.config = placed(parseConfig("dev", { nodes: NODES, ...more }), "unix:///x");
  }

  /** A run that was interrupted has left this. */
  public noted(text: string): void {
    mkdirSync(dirname(this.note), { recursive: true });
    writeFileSync(this.note, text);
  }

  /** Removes what lies on the disk. */
  public remove(): void {
    rmSync(dirname(dirname(this.note)), { recursive: true, force: true });
  }

  /** Something was done to a node that shows when it is looked at. */
  public happened(what: "promoted" | "told to rejoin" | "told otherwise" | "started", node: string): void {
    if (what === "promoted") {
      this.promoted = node;
    } else if (what === "told to rejoin") {
      this.told.add(node);
    } else if (what === "told otherwise") {
      this.told.delete(node);
    } else if (this.told.has(node) && !this.stayDown.includes(node)) {
      this.back.add(node);
    }
  }

  private since(observed: readonly Observation[]): Observation[] {
    const others = <T extends { name: string }>(found: readonly T[]): T[] => found.filter(({ name }) => !this.back.has(name));
    return observed.map((node) => {
      if (this.back.has(node.name)) {
        return standby(node.name);
      }
      const now = node.name === this.promoted && !isPrimary(node) ? primary(node.name, [], { timeline: 2 }) : node;
      if (!isPrimary(now)) {
        return now;
      }
      const replicas = [...others(now.server.replicas), ...[...this.back].map((name) => replica(name))];
      const slots = [...others(now.server.slots), ...[...this.back].map((name) => slot(name))];
      return { ...now, server: { ...now.server, replicas, slots } };
    });
  }
}

/** Stands in for the control of one node. */
class FakeControl implements Control {
  public readonly container: string;
  public constructor(
    private readonly stack: FakeStack,
    public readonly node: PlacedNode,
  ) {
    this.container = `postgres-replica-dev-${node.name}`;
  }
  private async did<T>(what: string, result: T): Promise<T> {
    this.stack.did.push(`${what} ${this.node.name}`);
    return this.says(what, result);
  }
  /** An answer that changes nothing. */
  private async says<T>(what: string, result: T): Promise<T> {
    return ((await this.stack.on[`${what} ${this.node.name}`]?.()) ?? result) as T;
  }
  private happened(what: Parameters<FakeStack["happened"]>[0]): void {
    this.stack.happened(what, this.node.name);
  }
  public sql = (sql: string): Promise<string> =>
    /^SELECT greatest/.test(sql) ? this.says("received", "0/5000000") : this.did(sql.split(/[ (]/).slice(0, 2).join(" ").trim(), "");
  public fence = (graceSeconds: number): Promise<boolean> => this.did(graceSeconds === 0 ? "fence" : "stop", true);
  public walEnd = (): Promise<WalEnd | Unreadable> => this.did("read", this.stack.ends[this.node.name] ?? this.stack.end);
  public mark = async (...marks: readonly Mark[]): Promise<void> => {
    await this.did(`mark ${marks.join(" ")}`, undefined);
    if (marks.includes("rejoin-once")) {
      this.happened("told to rejoin");
    }
  };
  public unmark = async (): Promise<void> => {
    await this.did("unmark", undefined);
    this.happened("told otherwise");
  };
  public hadMark = (mark: Mark): boolean => this.stack.hadMarks.includes(`${mark} ${this.node.name}`);
  public state = (): Promise<string | null> => this.says("state", "running");
  public isStopped = (): Promise<boolean> => this.says("isStopped", !this.stack.startedAgain.includes(this.node.name));
  public restarts = (): Promise<number> => this.says("restarts", 0);
  public start = async (): Promise<void> => {
    await this.did("start", undefined);
    this.happened("started");
  };
  public write = (): Promise<void> => this.did("write", undefined);
  public promote = async (): Promise<void> => {
    await this.did("promote", undefined);
    this.happened("promoted");
  };
  public makeSlots = (nodes: readonly string[]): Promise<void> => this.did(`slots [${nodes.join(" ")}] on`, undefined);
  public checkpointTimeline = (): Promise<void> => this.did("checkpoint", undefined);
  public notCovered = (slots: readonly string[] = []): Promise<string[]> => Promise.resolve(slots.map((name) => `logical slot ${name}`));
  public own = (): Promise<Own> => this.says("own", { databases: [], logicalSlots: [], physicalSlots: [], altered: {} });
  public ownAlone = (theirs: Own): Promise<string[]> => this.says(`own alone beside ${JSON.stringify(theirs.altered)}`, []);
  public hasVolume = (): Promise<boolean> => Promise.resolve(this.stack.volumes.includes(this.node.name));
  public passfile = (): Promise<string> => this.says("passfile", `password file of ${this.node.name}`);
  public file = (name: string): Promise<string> => this.says(`file ${name}`, "");
  public takePassfile = (text: string): Promise<void> => this.did(`take the ${text} to`, undefined);
  public reason = (): Promise<Said> => this.says("reason", { text: "" });
  public lastWords = (): Promise<Said> => this.says("lastWords", { text: "" });
  public lastLine = (): Promise<string> => this.says("lastLine", "");
  public clone = (from: Control): Promise<void> => this.did(`clone from ${from.node.name} to`, undefined);
  public expectLook = (image?: string): void =>
    void this.stack.did.push(`expect a look into ${this.node.name}${image === undefined ? "" : ` by ${image}`}`);
  /** Whether it leaves is looked at in nodes.test.ts. */
  public leave = (): void => undefined;
}
