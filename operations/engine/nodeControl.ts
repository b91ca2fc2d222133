import { mkdtempSync, rmSync, writeFileSync } from "fs";
import { tmpdir } from "os";
import { join } from "path";
import { clusterOf, nodeEnvironment, sourceConninfo } from "../../core/model/cluster";
import type { Unreadable, WalEnd } from "../../core/judgement/election";
import { birthSecrets, birthVariables } from "../../core/model/birth";
import { HOST_SCRIPTS } from "../../core/model/hostScripts";
import { imageName } from "../../core/model/image";
import type { PlacedConfig, PlacedNode } from "../../core/model/place";
import { containerName, labelsOf, type Mark, NODE_ROOT, slotName, volumeName } from "../../core/model/names";
import { aloneIn, type Answer, notCoveredIn, type Own, OWN_SQL, type Unlogged, UNLOGGED_SQL } from "../../core/sql/notCovered";
import { PGNODE_SCRIPT } from "../../core/model/pgnode";
import { lastSaid, reasonIn, type Said } from "../../core/judgement/reason";
import { createSlotSql } from "../../core/sql/slots";
import { AUTHORITY_FILE, tlsStageIn } from "../../core/settings/tls";
import { isGone, type Ran } from "./docker";
import { Engine } from "./engine";
import { NodeVolume } from "./nodeVolume";
import { SessionError } from "./session";
import { firstLine, UserError } from "../errors";

/** How long a clone may print nothing. It says each minute how far it is, and gives up itself when nothing moves; the disk's sync at its end is silent. */
const CLONE_SILENCE_SECONDS = 1_800;
/** How long a checkpoint may take: all that is in memory goes to the disk. */
const CHECKPOINT_SECONDS = 600;

/** Finds a node of the config by name. @throws UserError that lists the names there are. */
export function nodeOf(config: PlacedConfig, name: string): PlacedNode {
  const node = config.nodes.find((n) => n.name === name);
  if (node === undefined) {
    throw new UserError(`stack "${config.stack}" has no node "${name}"; its nodes are ${config.nodes.map((n) => n.name).join(", ")}`);
  }
  return node;
}

/** One node's container, and what failover, switchover and rejoin do to it. */
export class NodeControl {
  public readonly container: string;
  private readonly engine: Engine;
  /** The image of the container, as Docker said last. */
  private lastImage: string | undefined;
  /** The marks that the volume had when its WAL was looked at; they are somebody else's. */
  private readonly earlierMarks = new Set<string>();
  /** The marks that are this command's own. */
  private readonly ownMarks = new Set<Mark>();
  /** The volume of the stopped node, while it is looked at; see {@link leave}. */
  private volume?: NodeVolume;
  /** The last that was asked of it: one at a time. */
  private turn: Promise<unknown> = Promise.resolve();

  public constructor(
    private readonly config: PlacedConfig,
    public readonly node: PlacedNode,
  ) {
    this.container = containerName(config.stack, node.name);
    this.engine = new Engine(node.place.engine);
  }

  /** Docker's word for the container's state; null when there is none. @throws UserError when Docker does not answer. */
  public async state(): Promise<string | null> {
    const result = await this.engine.inspect("{{.State.Status}} {{.Config.Image}}", [this.container]);
    if (result.exitCode === 0) {
      const [state = "", image] = result.stdout.trim().split(" ");
      this.lastImage = image;
      return state;
    }
    if (isGone(result.stderr)) {
      return null;
    }
    throw new UserError(`Docker does not say what container ${this.container} does: ${firstLine(result.stderr)}`);
  }

  /** Whether Docker says that the container does not run and will not by itself. */
  public async isStopped(): Promise<boolean> {
    return isStopped(await this.state());
  }

  /**
   * Makes sure that the node does not write and does not come up again by itself: stops the container
   * (`unless-stopped` leaves it so) and looks that it is stopped.
   *
   * @param graceSeconds How long PostgreSQL may take; 0 kills it.
   * @returns whether the node is proven to be stopped.
   */
  public async fence(graceSeconds: number): Promise<boolean> {
    const before = await this.state();
    if (isStopped(before)) {
      return true;
    }
    // A frozen container gets no signal until it is thawed, and a thawed primary writes: kill, then thaw.
    const action =
      before === "paused" || graceSeconds === 0 ? ["kill", this.container] : ["stop", "-t", String(graceSeconds), this.container];
    await this.engine.run(action, { timeout: (graceSeconds + 20) * 1000 });
    const after = await this.state();
    if (after === "restarting" || after === "running") {
      await this.engine.run(["stop", "-t", "0", this.container], { timeout: 20_000 });
    }
    return this.isStopped();
  }

  /**
   * Takes back the marks of a change of roles that did not go through.
   *
   * @param marks @default those that this command has put there; the ones that {@link walEnd} has seen before stay
   */
  public async unmark(marks: readonly Mark[] = [...this.ownMarks]): Promise<void> {
    if (marks.length > 0) {
      await this.change("unmark", marks);
      marks.forEach((mark) => this.ownMarks.delete(mark));
    }
  }

  /** Whether the stopped node had this mark when {@link walEnd} looked, from an earlier run. */
  public hadMark(mark: Mark): boolean {
    return this.earlierMarks.has(mark);
  }

  /** The image of the node's container; null when there is no container. */
  private async image(): Promise<string | null> {
    if (this.lastImage === undefined) {
      await this.state();
    }
    return this.lastImage ?? null;
  }

  /** Puts marks into the volume of a stopped node, which it heeds at its next start. Without a volume there is nothing to mark. */
  public mark(...marks: readonly Mark[]): Promise<void> {
    return this.change("mark", marks);
  }

  private async change(verb: "mark" | "unmark", marks: readonly Mark[]): Promise<void> {
    try {
      await this.inTurn(async () => {
        const stay = this.volume?.isOpen === true;
        try {
          const volume = await this.look().catch(async (error: unknown) => {
            if (verb === "unmark" || !(await this.putAll(marks))) {
              throw error;
            }
            return undefined;
          });
          if (verb === "mark") {
            marks.filter((mark) => !this.earlierMarks.has(mark)).forEach((mark) => this.ownMarks.add(mark));
          }
          await volume?.change(verb, marks);
        } finally {
          if (!stay) {
            this.close();
          }
        }
      });
    } catch (error) {
      if (!(error instanceof SessionError)) {
        throw error;
      }
      const what = `mark ${marks.map((mark) => `"${mark}"`).join(", ")} cannot be ${verb === "mark" ? "put into" : "taken from"}`;
      throw new UserError(`the ${what} the volume of node ${this.node.name}: ${reasonOf(error)}`);
    }
  }

  /** The marks by the container that is there: a node that must not write is marked also where no helper container can be run. */
  private async putAll(marks: readonly Mark[]): Promise<boolean> {
    for (const mark of marks) {
      if ((await this.put(mark, "")).exitCode !== 0) {
        return false;
      }
    }
    return true;
  }

  /** One after the other: what asks next waits. */
  private inTurn<T>(action: () => Promise<T>): Promise<T> {
    const next = this.turn.catch(() => undefined).then(action);
    this.turn = next;
    return next;
  }

  /** What answers for the volume of the stopped node; undefined when there is none. @throws SessionError */
  private async look(): Promise<NodeVolume | undefined> {
    if (this.volume?.isOpen !== true) {
      const own = await this.image();
      // Without its container the volume may be gone too, and the look into it would make it anew.
      if (own === null && !(await this.hasVolume())) {
        return undefined;
      }
      this.volume = this.helper(own);
    }
    try {
      const before = await this.volume.marks();
      before.filter((mark) => !this.ownMarks.has(mark)).forEach((mark) => this.earlierMarks.add(mark));
    } catch (error) {
      this.close();
      throw error;
    }
    return this.volume;
  }

  /** @param image The one of the node's own container; null where there is none. */
  private helper(image: string | null): NodeVolume {
    const { stack } = this.config;
    const volume = volumeName(stack, this.node.name);
    return new NodeVolume({ stack, node: this.node.name, volume, image: image ?? imageName(this.config.image), engine: this.engine });
  }

  /**
   * Gets ready to look into the volume of the node, which is stopped or soon will be: nothing is read before somebody asks for it.
   * It is not waited for, and it never fails; then {@link leave}.
   *
   * @param known The image of the node's container, where that is known already.
   */
  public expectLook(known?: string): void {
    this.lastImage ??= known;
    void this.inTurn(async () => {
      const image = this.volume?.isOpen === true ? null : await this.image();
      if (image !== null) {
        this.volume = this.helper(image);
      }
    }).catch(() => undefined);
  }

  /** Ends the look into the volume of the stopped node, when there is one, or one is on its way. It is not waited for. */
  public leave(): void {
    void this.inTurn(() => Promise.resolve(this.close()));
  }

  private close(): void {
    this.volume?.close();
    delete this.volume;
  }

  /**
   * Gives the stopped node the password file of another one: its own may be of before a rotation.
   * @param text See {@link passfile}.
   * @throws UserError
   */
  public async takePassfile(text: string): Promise<void> {
    const result = await this.put("passfile", `${text.trimEnd()}\n`);
    if (result.exitCode !== 0) {
      throw new UserError(`the password file cannot be put into the volume of node ${this.node.name}: ${firstLine(result.stderr)}`);
    }
  }

  /** Makes a file of the stopped node's volume. The node gives it to postgres when it starts. */
  private async put(name: string, text: string): Promise<Ran> {
    const folder = mkdtempSync(join(tmpdir(), "postgres-replica-put-"));
    try {
      writeFileSync(join(folder, name), text, { mode: 0o600 });
      return await this.engine.run(["cp", join(folder, name), `${this.container}:${NODE_ROOT}/${name}`], { timeout: 20_000 });
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }

  /** How often Docker has started the container again since it was last started on purpose. */
  public async restarts(): Promise<number> {
    const result = await this.engine.inspect("{{.RestartCount}}", [this.container]);
    return Number(result.stdout.trim()) || 0;
  }

  public async start(): Promise<void> {
    this.leave();
    const result = await this.engine.run(["start", this.container]);
    if (result.exitCode !== 0) {
      throw new UserError(`container ${this.container} does not start: ${firstLine(result.stderr)}`);
    }
  }

  /** Runs SQL as postgres over the server's own socket. @throws UserError */
  public async sql(sql: string, timeoutMs = 10_000, database = "postgres"): Promise<string> {
    const result = await this.engine.sql(this.container, sql, { timeout: timeoutMs, database });
    if (result.exitCode !== 0) {
      throw new UserError(`node ${this.node.name}: ${firstLine(result.stderr)}`);
    }
    return result.stdout.trim();
  }

  /** Whether its engine has the node's volume. */
  public async hasVolume(): Promise<boolean> {
    const asked = await this.engine.run(["volume", "inspect", volumeName(this.config.stack, this.node.name)], { timeout: 10_000 });
    return asked.exitCode === 0;
  }

  /**
   * Where the WAL of the stopped node ends, or why that cannot be read.
   *
   * @param stay Go on looking at the volume, for marks that follow soon; then {@link leave}. @default false
   */
  public async walEnd(stay = false): Promise<WalEnd | Unreadable> {
    return this.inTurn(async () => {
      try {
        return (await (await this.look())?.walEnd()) ?? { unreadable: "its container and its volume are gone" };
      } catch (error) {
        if (error instanceof SessionError) {
          return { unreadable: reasonOf(error) };
        }
        throw error;
      } finally {
        if (!stay) {
          this.close();
        }
      }
    });
  }

  /**
   * Fills the node's volume, which is gone or empty, with a base backup of the primary: the same birth as the program has
   * for a secondary. The node's container is not running, or is not there.
   *
   * @throws UserError with the node's own last words when that fails; nothing half made stays.
   */
  public async clone(primary: Control): Promise<void> {
    const { stack } = this.config;
    // As far as the primary has come: that is in the state, and only `up` knows the state.
    const cluster = clusterOf(this.config, this.config.tls === undefined ? undefined : tlsStageIn(await primary.file("own/node.conf")));
    const volume = volumeName(stack, this.node.name);
    const labels = Object.entries(labelsOf(stack, this.node.name)).flatMap(([key, value]) => ["--label", `${key}=${value}`]);
    const made = await this.engine.run(["volume", "create", ...labels, volume]);
    if (made.exitCode !== 0) {
      throw new UserError(`the volume ${volume} cannot be made: ${firstLine(made.stderr)}`);
    }
    await primary.makeSlots([this.node.name]);
    const environment = {
      ...nodeEnvironment(cluster, this.node.name),
      PGNODE_SOURCE: sourceConninfo(cluster, this.node.name),
      // Of the CA it has the certificate, to check the primary by, and not the key: the next `up` brings the node its own.
      ...(cluster.settings.tls === undefined ? {} : { PGNODE_CA: await primary.file(AUTHORITY_FILE) }),
    };
    const result = await this.engine.script(`the clone of node ${this.node.name}`, HOST_SCRIPTS.birth, {
      env: { NODE_ACTION: "clone", ...birthVariables(cluster, this.node.name, { helper: "clone", environment }) },
      silence: CLONE_SILENCE_SECONDS * 1000,
      progress: true,
      input: `${birthSecrets({ files: { PGNODE_PASSFILE: await primary.passfile() } })}${PGNODE_SCRIPT}`,
    });
    if (result.exitCode !== 0) {
      const said = lastSaid(result.stderr.split("\n"));
      throw new UserError(said?.text ?? `node ${this.node.name} cannot be cloned: ${firstLine(result.stderr)}`);
    }
  }

  /** The text of the password file with which standbys connect; every node has the same. */
  public passfile(): Promise<string> {
    return this.file("passfile");
  }

  /** The text of one of the files that the stack has written into the node's volume; see core/model/nodeFiles.ts. @throws UserError */
  public async file(name: string): Promise<string> {
    const result = await this.engine.exec(this.container, ["cat", `${NODE_ROOT}/${name}`]);
    if (result.exitCode !== 0) {
      const what = name === "passfile" ? "password file" : `file ${name}`;
      throw new UserError(`node ${this.node.name} has no ${what}: ${firstLine(result.stderr)}`);
    }
    return result.stdout;
  }

  /** Promotes the standby. @throws UserError when it is not a primary within the time. */
  public async promote(seconds: number): Promise<void> {
    const answer = await this.sql(`SELECT NOT pg_is_in_recovery() OR pg_promote(true, ${seconds})`, (seconds + 5) * 1000);
    if (answer !== "t") {
      throw new UserError(`node ${this.node.name} did not become primary within ${seconds} s. Its log: docker logs ${this.container}`);
    }
  }

  /**
   * Makes a promoted node note its new timeline in a checkpoint, unless it has. Until then, which may take
   * minutes, pg_rewind before version 16 takes it for a node of the old timeline.
   */
  public async checkpointTimeline(): Promise<void> {
    await this.sql(
      [
        "SELECT timeline_id <> ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int AS old FROM pg_control_checkpoint() \\gset",
        "\\if :old",
        "CHECKPOINT;",
        "\\endif",
      ].join("\n"),
      CHECKPOINT_SECONDS * 1000,
    );
  }

  /**
   * What this node, which was promoted, has not, however much it has received; see {@link notCoveredIn}. Never throws: a
   * node that does not say it is an entry too.
   *
   * @param before The logical slots of the node that was primary.
   */
  public async notCovered(before: readonly string[] = []): Promise<string[]> {
    try {
      const own = await this.own();
      return notCoveredIn(before, own, await this.unlogged(own.databases));
    } catch (error) {
      return [`unlogged tables and logical slots: ${(error as Error).message}`];
    }
  }

  /**
   * What this node has and the standby that is to take its role has not, in words; see {@link aloneIn}. A database that does not
   * say it is an entry too.
   *
   * @param theirs The standby's {@link own}.
   * @throws UserError
   */
  public async ownAlone(theirs: Own): Promise<string[]> {
    const own = await this.own();
    return aloneIn(
      own,
      theirs,
      this.config.nodes.map(({ name }) => slotName(name)),
      await this.unlogged(own.databases),
    );
  }

  /** What each node has of its own. @throws UserError */
  public async own(): Promise<Own> {
    return JSON.parse(await this.sql(OWN_SQL)) as Own;
  }

  /** The unlogged tables of databases. One after the other and in no session that is kept: there may be many, and connections are few. */
  private async unlogged(databases: readonly string[]): Promise<Map<string, Answer>> {
    const found = new Map<string, Answer>();
    for (const database of databases) {
      const ran = await this.engine.sql(this.container, UNLOGGED_SQL, { database, once: true });
      found.set(database, ran.exitCode === 0 ? (JSON.parse(ran.stdout) as Unlogged) : { silent: firstLine(ran.stderr) });
    }
    return found;
  }

  /** Makes the slots through which other nodes stream from this one. */
  public async makeSlots(nodes: readonly string[]): Promise<void> {
    if (nodes.length > 0) {
      await this.sql(nodes.map((node) => createSlotSql(slotName(node))).join("\n"));
    }
  }

  /** Writes, and waits until the write is accepted; on a synchronous stack a standby has to confirm it. */
  public async write(seconds: number): Promise<void> {
    await this.sql("SELECT pg_logical_emit_message(true, 'postgres-replica', 'write probe');", seconds * 1000);
  }

  /** What the node's log gives as the reason why it is not well; empty when it gives none. */
  public async reason(): Promise<Said> {
    return reasonIn(await this.engine.logs(this.container, 30));
  }

  /** The last line of the node's log. */
  public async lastLine(): Promise<string> {
    return (await this.engine.logs(this.container, 1)).at(-1) ?? "";
  }

  /** The last thing that the node's own program has said since it was started; else the log's last line. */
  public async lastWords(): Promise<Said> {
    const lines = await this.engine.logs(this.container, 200);
    return lastSaid(lines) ?? { text: lines.at(-1) ?? "" };
  }
}

/** What can be asked of a node and done to it, whoever does that. */
export type Control = Pick<NodeControl, keyof NodeControl>;

/** Why a helper container did not do what it was asked: what the node's program said last, else the first line. */
const reasonOf = (error: SessionError): string => lastSaid(error.message.split("\n"))?.text ?? firstLine(error.message);

export const isStopped = (state: string | null): boolean => state === null || ["exited", "dead", "created"].includes(state);
