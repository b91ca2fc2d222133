import { formatLsn, parseLsn } from "../grammar/lsn";
import { type Code, type Mark, MARKS } from "../model/names";
import type { Unreadable, WalEnd } from "./election";
import { lastSaid } from "./reason";

/**
 * Where the WAL of a stopped node ends, from what its volume holds. The node hands over what there is, as it is (`pgnode look`,
 * image/pgnode/evidence.sh); all judgement is here. Which WAL to read is only known on the way, so the reading asks, step by
 * step, whoever can run pg_waldump.
 */

/** What a stopped node's volume holds, in the words of the programs that say it. */
export interface Evidence {
  /** Why the volume is not this node's, as `pgnode` says it; empty when it is. */
  refusal: string;
  /** The names in the volume's top folder. */
  volume: readonly string[];
  /** Whether the cluster has standby.signal. */
  standby: boolean;
  /** What pg_controldata prints. */
  control: string;
  /** The files of timelines' histories, by name. */
  histories: Readonly<Record<string, string>>;
  /** The WAL files, by name; pages: what the first page, and one each {@link CHUNK} after it, says of itself where it is known. */
  segments: readonly { name: string; size: number; page?: Page }[];
  /** Its replication slots: two numbers of each one's state file. */
  slots: readonly { name: string; database: number; persistency: number }[];
}

/** What a page of WAL says of itself. */
export interface Page {
  timeline: number;
  position: bigint;
}

/** What is asked of the node next, and is answered by what the program says, with `exit CODE` as the last line. */
export type Question = { waldump: { from: string; first: string; last: string; statistics: boolean } } | { pages: string; step: number };

/** A WAL file that is larger is read in chunks of this, in bytes. */
const CHUNK = 16n * 1024n * 1024n;
/** Ours, not pg_waldump's; it is the exit code of `timeout`. */
const OUT_OF_TIME = 124;
const SEGMENT_NAME = /^[0-9A-F]{24}$/;

/** Thrown inside, and caught by {@link walEnd}. */
class Obstacle extends Error {
  public constructor(
    text: string,
    public readonly code?: Code,
  ) {
    super(text);
  }
}

/** The blocks of a text: `== NAME` begins each. */
function blocksOf(text: string): Map<string, string[]> {
  const blocks = new Map<string, string[]>();
  let lines: string[] = [];
  for (const line of text.split("\n")) {
    const [, name] = /^== (.+)$/.exec(line) ?? [];
    if (name === undefined) {
      lines.push(line);
    } else {
      lines = [];
      blocks.set(name, lines);
    }
  }
  return blocks;
}

/** What od says of pages' first 16 bytes: for each one a line of four numbers and one of two. */
export function pagesIn(lines: readonly string[]): Page[] {
  const numbers = lines.map((line) => line.trim().split(/ +/));
  return numbers.flatMap((four, i) => {
    const two = numbers[i + 1];
    return i % 2 === 1 || four.length !== 4 || two?.length !== 2 ? [] : [{ timeline: Number(four[1]), position: BigInt(two[1] ?? 0) }];
  });
}

/** Reads what `pgnode look` prints. */
export function parseEvidence(text: string): Evidence {
  const blocks = blocksOf(text);
  const of = (name: string): string[] => (blocks.get(name) ?? []).filter((line) => line !== "");
  const files = of("segments").map((line) => line.split(" "));
  const pages = pagesIn(of("pages"));
  // A file that cannot be read is missing among the pages, and nobody knows which.
  const known = pages.length === files.length;
  return {
    refusal: of("check").join("\n"),
    volume: of("volume"),
    standby: of("signal").includes("standby.signal"),
    control: of("control").join("\n"),
    histories: Object.fromEntries(
      [...blocks.keys()].filter((name) => name.endsWith(".history")).map((name): [string, string] => [name, of(name).join("\n")]),
    ),
    segments: files.map(([size = "", name = ""], i) => {
      const page = pages[i];
      return { name, size: Number(size), ...(known && page !== undefined ? { page } : {}) };
    }),
    slots: of("slots").map((line) => {
      const [name = "", database, persistency] = line.split(/ +/);
      return { name, database: Number(database), persistency: Number(persistency) };
    }),
  };
}

/** The marks that a stopped node has, so that whoever marks it next knows which ones are not its own. */
export const marksIn = (evidence: Evidence): Mark[] => MARKS.filter((mark) => evidence.volume.includes(mark));

/** The logical slots of a stopped primary, without temporary ones: no standby has them. */
export function logicalSlotsIn(evidence: Evidence): string[] {
  return evidence.standby ? [] : evidence.slots.filter((slot) => slot.database > 0 && slot.persistency === 0).map((slot) => slot.name);
}

/** Where WAL is, by the sizes that a cluster was made with. */
class Geometry {
  public constructor(
    public readonly segment: bigint,
    public readonly block: bigint,
    public readonly timeline: number,
  ) {}

  /** The name of the WAL file that holds this position. */
  public fileAt(position: bigint): string {
    const hex = (n: bigint): string => n.toString(16).toUpperCase().padStart(8, "0");
    return hex(BigInt(this.timeline)) + hex(position >> 32n) + hex((position & 0xffffffffn) / this.segment);
  }

  /** The position at which this WAL file begins. */
  public beginOf(name: string): bigint {
    return (BigInt(`0x${name.slice(8, 16)}`) << 32n) + BigInt(`0x${name.slice(16)}`) * this.segment;
  }

  /** Where a record ends. Every page begins with a header, the first of a file with a longer one. */
  public recordEnd(begin: bigint, length: bigint): bigint {
    let at = begin;
    let left = ((length + 7n) / 8n) * 8n;
    let room = this.block - (at % this.block);
    while (left > room) {
      left -= room;
      at += room;
      const header = at % this.segment === 0n ? 40n : 24n;
      at += header;
      room = this.block - header;
    }
    return at + left;
  }
}

/** A value of what pg_controldata prints; empty when it is not there. */
const controlValue = (control: string, name: string): string =>
  control
    .split("\n")
    .find((line) => line.startsWith(`${name}:`))
    ?.slice(name.length + 1)
    .trim() ?? "";

/** What a program said, and its exit code. */
function answerOf(text: string): { out: string; code: number } {
  const [, out = "", code] = /^(.*?)\n?exit (\d+)\s*$/s.exec(text) ?? [];
  if (code === undefined) {
    throw new Obstacle("what the node said was cut off");
  }
  return { out, code: Number(code) };
}

/** Where its WAL ends, or why that cannot be read. It yields what it has to ask for, and goes on with the answer. */
export function* walEnd(evidence: Evidence): Generator<Question, WalEnd | Unreadable, string> {
  const slots = logicalSlotsIn(evidence);
  const logicalSlots = slots.length === 0 ? {} : { logicalSlots: slots };
  try {
    return { ...(yield* readEnd(evidence)), ...logicalSlots };
  } catch (error) {
    if (!(error instanceof Obstacle)) {
      // Damaged files say what cannot be. That is no reason to end without an answer.
      return { unreadable: `its files say what cannot be (${(error as Error).message})`, ...logicalSlots };
    }
    return { unreadable: error.message, ...(error.code === undefined ? {} : { code: error.code }), ...logicalSlots };
  }
}

function* readEnd(evidence: Evidence): Generator<Question, WalEnd, string> {
  const { control, volume, standby } = evidence;
  const has = (name: string): boolean => volume.includes(name);
  if (evidence.refusal !== "") {
    const said = lastSaid(evidence.refusal.split("\n"));
    throw new Obstacle(said?.text ?? evidence.refusal, said?.code);
  }
  if (!has("data") && !has("data.old")) {
    // One whose first clone is not complete holds nothing. The same goes for one that has given up its data for a clone.
    if (!has("started") || has("drop-old")) {
      return { timeline: 0, lsn: "0/0", clean: true, writable: false, history: {} };
    }
    throw new Obstacle("there is no cluster in its volume");
  }
  const state = controlValue(control, "Database cluster state");
  if (state === "") {
    throw new Obstacle(control.split("\n")[0] || "pg_controldata says nothing");
  }
  // A pg_rewind that was interrupted may have left what says that this node was on the other one's timeline.
  const writable = !standby && !has("rewinding");
  const { geometry, written } = whereWritten(evidence, writable);
  const { end, readOn } = yield* findEnd(evidence, geometry, lastWritten(evidence, geometry, written));
  if (readOn !== undefined) {
    throw new Obstacle(`the file ${readOn} in pg_wal is missing, though there are later ones`);
  }
  if (writable && end < written) {
    throw new Obstacle(`it ends at ${formatLsn(end)}, before ${formatLsn(written)}, where it has been: files in pg_wal are damaged`);
  }
  return {
    ...{ timeline: geometry.timeline, lsn: formatLsn(end), clean: state === "shut down", writable },
    history: historyOf(evidence.histories[`${geometry.fileAt(0n).slice(0, 8)}.history`] ?? ""),
  };
}

/** Where the timelines before this one ended, so that a node of an older one can be compared. */
function historyOf(text: string): Record<number, string> {
  return Object.fromEntries(
    [...text.matchAll(/^(\d+)\s*([0-9A-F]+\/[0-9A-F]+)/gm)].map(([, timeline = "", lsn = ""]): [string, string] => [timeline, lsn]),
  );
}

/** The timeline that the node is on, and a position on it that was written. */
function whereWritten({ control, segments }: Evidence, writable: boolean): { geometry: Geometry; written: bigint } {
  const value = (name: string): string => controlValue(control, name);
  const on = (timeline: number): Geometry =>
    new Geometry(BigInt(value("Bytes per WAL segment")), BigInt(value("WAL block size")), timeline);
  const checkpoint = Number(value("Latest checkpoint's TimeLineID"));
  const recovery = Number(value("Min recovery ending loc's timeline"));
  const before = { geometry: on(checkpoint), written: parseLsn(value("Latest checkpoint location")) };
  if (recovery <= checkpoint) {
    return before;
  }
  // Promoted, and no checkpoint since: the new timeline begins where recovery ended.
  const promoted = { geometry: on(recovery), written: parseLsn(value("Minimum recovery ending location")) };
  const file = promoted.geometry.fileAt(promoted.written - 1n);
  // A standby that was rewound may have to get there yet.
  return !writable && !segments.some(({ name }) => name === file) ? before : promoted;
}

/**
 * The last WAL file that was written to, given a position that was, and the last one that there is. A file may be there before it
 * is written to: it is zero, or has what it held under an older name. Only a page that was written says that it belongs where it
 * is, and on this timeline.
 */
function lastWritten({ segments }: Evidence, geometry: Geometry, written: bigint): { last: string; newest: string } {
  const first = geometry.fileAt(written - 1n);
  const files = segments
    .filter(({ name }) => SEGMENT_NAME.test(name) && name.slice(0, 8) === first.slice(0, 8) && name >= first)
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  const missing = new Obstacle(`the file ${first} in pg_wal, where its last checkpoint is, is missing`);
  if (files.length === 0) {
    throw missing;
  }
  // PostgreSQL makes its files whole: what is missing of one was there.
  const short = files.find(({ size }) => BigInt(size) !== geometry.segment);
  if (short !== undefined) {
    throw new Obstacle(`the file ${short.name} in pg_wal has ${short.size} bytes instead of ${geometry.segment}`);
  }
  if (files.some(({ page }) => page === undefined)) {
    throw new Obstacle("not all files in pg_wal let themselves be read; the kernel's log on the Docker host may say why");
  }
  // The first one may begin with a page of the timeline before.
  const last = files.findLast(
    ({ name, page }) => name === first || (page?.timeline === geometry.timeline && page.position === geometry.beginOf(name)),
  );
  if (last === undefined) {
    throw missing;
  }
  return { last: last.name, newest: files.at(-1)?.name ?? last.name };
}

/** The position of the last chunk of this WAL file that was written to. */
function* lastChunk(geometry: Geometry, file: string): Generator<Question, bigint, string> {
  const begin = geometry.beginOf(file);
  if (geometry.segment <= CHUNK) {
    return begin;
  }
  const answer = yield { pages: file, step: Number(CHUNK) };
  // The first of them is the file's own first one.
  return pagesIn(answerOf(answer).out.split("\n"))
    .map(({ timeline, position }, i) => ({ at: begin + BigInt(i) * CHUNK, timeline, position }))
    .filter(({ at, timeline, position }) => timeline === geometry.timeline && position === at)
    .reduce((found, { at }) => (at > found ? at : found), begin);
}

/**
 * Where the last complete record ends that is in this file or reaches into it. It reads little, however much WAL there is: all
 * before the last file was written, or that would not be there.
 *
 * @returns readOn: the file that is missing, when the WAL was read without an error to the end of its last file, and there are later ones
 */
function* findEnd(
  { segments }: Evidence,
  geometry: Geometry,
  { last, newest }: { last: string; newest: string },
): Generator<Question, { end: bigint; readOn?: string }, string> {
  const there = new Set(segments.map(({ name }) => name));
  let from = yield* lastChunk(geometry, last);
  let step = CHUNK;
  for (;;) {
    const first = geometry.fileAt(from);
    const { out, code } = answerOf(yield { waldump: { from: formatLsn(from), first, last, statistics: true } });
    let end: bigint | undefined;
    if (out.includes("WAL statistics between ")) {
      end = parseLsn(/^WAL statistics between .* and (.*):$/m.exec(out)?.[1] ?? "");
    } else if (out.includes("could not find a valid record after")) {
      // No record begins there: the end of a long one, or the beginning of one that was cut off.
    } else if (out.includes("Combined size")) {
      // Up to version 14 the statistics do not say where the last record ends.
      const records = answerOf(yield { waldump: { from: formatLsn(from), first, last, statistics: false } });
      end = lastRecordEnd(geometry, records.out);
    } else {
      throw new Obstacle(
        code === OUT_OF_TIME
          ? `pg_waldump did not read the file ${first} in time`
          : (out.split("\n").find((line) => line.includes("pg_waldump")) ?? `pg_waldump ended with ${code}`),
      );
    }
    if (end !== undefined) {
      const next = geometry.fileAt(geometry.beginOf(last) + geometry.segment);
      return code === 0 && last !== newest && !there.has(next) ? { end, readOn: next } : { end };
    }
    const upper = from;
    from = upper > step ? upper - step : 0n;
    step *= 2n;
    while (from < upper && !there.has(geometry.fileAt(from))) {
      from = from - (from % geometry.segment) + geometry.segment;
    }
    if (from >= upper) {
      throw new Obstacle(`no record is in the file ${last} in pg_wal, nor in those before`);
    }
  }
}

/** Where the last record ends of those that pg_waldump lists; undefined when it lists none. */
function lastRecordEnd(geometry: Geometry, out: string): bigint | undefined {
  const records = [...out.matchAll(/^rmgr: [^,]*\/ *(\d+), tx: *\d+, lsn: ([0-9A-F]+\/[0-9A-F]+), prev [^ ]*, desc: ([A-Z_]*)/gm)];
  const [, length = "", lsn = "", kind] = records.at(-1) ?? [];
  if (lsn === "") {
    return undefined;
  }
  const at = parseLsn(lsn);
  // The record with which a file is left early takes up the rest of it.
  return kind === "SWITCH" ? (at / geometry.segment + 1n) * geometry.segment : geometry.recordEnd(at, BigInt(length));
}
