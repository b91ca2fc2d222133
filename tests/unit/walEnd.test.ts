import { readdirSync, readFileSync } from "fs";
import { join } from "path";
import type { Unreadable, WalEnd } from "../../core/judgement/election";
import { type Evidence, logicalSlotsIn, marksIn, parseEvidence, type Question, walEnd } from "../../core/judgement/walEnd";

/** What the programs of each major said of stopped servers; see tests/majors/recordWalEnd.ts. */
const FOLDER = join(__dirname, "walEnd");
const RECORDS = readdirSync(FOLDER).map((file) => file.replace(".txt", ""));

interface Talk {
  /** Where the WAL ends, by the server itself. */
  end: string;
  evidence: Evidence;
  /** What was asked, and the answers. */
  answers: Map<string, string>;
}
function record(name: string): Talk {
  const [head = "", ...talk] = readFileSync(join(FOLDER, `${name}.txt`), "utf8").split(/^> /m);
  const answers = new Map(talk.map((text) => [text.slice(0, text.indexOf("\n")), text.slice(text.indexOf("\n") + 1).trimEnd()]));
  return { end: /^= ends at (.*)$/m.exec(head)?.[1] ?? "", evidence: parseEvidence(answers.get("the facts") ?? ""), answers };
}

const lineOf = (question: Question): string =>
  "pages" in question
    ? `pages ${question.pages} ${question.step}`
    : `waldump ${question.waldump.from} ${question.waldump.first} ${question.waldump.last}${question.waldump.statistics ? " statistics" : ""}`;

/** Reads the end, with these answers; also what was asked. */
function read(evidence: Evidence, answer: (line: string) => string): { found: WalEnd | Unreadable; asked: string[] } {
  const asked: string[] = [];
  const reading = walEnd(evidence);
  let step = reading.next();
  while (step.done !== true) {
    const line = lineOf(step.value);
    asked.push(line);
    step = reading.next(answer(line));
  }
  return { found: step.value, asked };
}
/** Answers as recorded, and nothing else. */
const recorded =
  ({ answers }: Talk) =>
  (line: string): string => {
    const answer = answers.get(line);
    if (answer === undefined) {
      throw new Error(`nobody has asked "${line}" when this was recorded`);
    }
    return answer;
  };

describe("the end of a dead server's WAL, by what the programs of every major say", () => {
  test("was recorded of several majors", () => {
    expect([...new Set(RECORDS.map((name) => name.split("-")[1]))].sort()).toEqual(["15", "17", "18"]);
  });

  test.each(RECORDS)("%s", (name) => {
    const talk = record(name);
    const { found, asked } = read(talk.evidence, recorded(talk));
    const promoted = name.startsWith("promoted");
    expect(found).toMatchObject({
      ...{ timeline: promoted ? 2 : 1, lsn: talk.end, clean: name.startsWith("clean"), writable: true },
      logicalSlots: ["logical_one"],
    });
    expect("history" in found && Object.keys(found.history)).toEqual(promoted ? ["1"] : []);
    // On the usual way one look at the WAL is enough.
    expect(asked).toHaveLength(name.startsWith("cut") ? 2 : 1);
  });
});

describe("the end of a dead server's WAL", () => {
  const talk = record("killed-17");
  const changed = (changes: Partial<Evidence>): ReturnType<typeof read> => read({ ...talk.evidence, ...changes }, recorded(talk));
  const control = (name: string, value: string): string =>
    talk.evidence.control.replace(new RegExp(`^${name}: .*$`, "m"), `${name}: ${value}`);
  const unreadable = (text: string | RegExp): object => ({
    found: expect.objectContaining({ unreadable: typeof text === "string" ? text : (expect.stringMatching(text) as string) }) as object,
  });
  /** The file that pg_waldump was asked about. */
  const lastOf = ({ answers }: Talk): string => [...answers.keys()].at(-1)?.split(" ")[3] ?? "";
  const LAST = lastOf(talk);

  test("is in the last file that was written to, not in one that was prepared", () => {
    expect(talk.evidence.segments.at(-1)?.page).toEqual({ timeline: 0, position: 0n });
    expect(changed({}).asked).toEqual([expect.stringContaining(`${LAST} ${LAST} statistics`) as string]);
  });

  test("is that of a standby, without its logical slots: they are the primary's", () => {
    expect(changed({ standby: true }).found).toEqual({ timeline: 1, lsn: talk.end, clean: false, writable: false, history: {} });
    expect(logicalSlotsIn({ ...talk.evidence, standby: true })).toEqual([]);
  });

  test("does not count as of one that could write when a rewind of it was interrupted", () => {
    expect(changed({ volume: ["data", "rewinding"] }).found).toMatchObject({ lsn: talk.end, writable: false });
  });

  test("is of an old cluster while a clone is between its two renames", () => {
    expect(changed({ volume: ["data.old", "started"] }).found).toMatchObject({ lsn: talk.end, writable: true });
  });

  test.each<[string, string[]]>([
    ["was never complete", []],
    ["was given up for a clone", ["started", "drop-old"]],
  ])("is nothing when the cluster %s", (_what, volume) => {
    expect(changed({ volume, slots: [] }).found).toEqual({ timeline: 0, lsn: "0/0", clean: true, writable: false, history: {} });
  });

  test("cannot be read without a cluster, or in one that is not this node's: that is told with its code", () => {
    expect(changed({ volume: ["started"] })).toMatchObject(unreadable("there is no cluster in its volume"));
    expect(changed({ refusal: "pgnode: [wrong-volume] the volume of node pg1 holds the cluster of node other" }).found).toEqual({
      ...{ unreadable: "the volume of node pg1 holds the cluster of node other", code: "wrong-volume", logicalSlots: ["logical_one"] },
    });
    // A file of zeros is printed as values, after a warning.
    const zeros = talk.evidence.control.replace(/: .*$/gm, ": 0").replace(/location: 0/g, "location: 0/0");
    expect(changed({ control: zeros })).toMatchObject(unreadable("its files say what cannot be (Division by zero)"));
    expect(changed({ control: zeros.replace(/^.*location.*$/gm, "") }).found).toHaveProperty("unreadable");
    const said = "pg_controldata: error: could not open file";
    expect(changed({ control: `${said}\nmore` })).toMatchObject(unreadable(said));
  });

  test("cannot be read when a file is short, missing or unreadable", () => {
    const segments = talk.evidence.segments;
    const cut = segments.map((one) => (one.name === LAST ? { ...one, size: 5000 } : one));
    expect(changed({ segments: cut })).toMatchObject(unreadable(`the file ${LAST} in pg_wal has 5000 bytes instead of 1048576`));
    expect(changed({ segments: [] })).toMatchObject(
      unreadable(/^the file [0-9A-F]{24} in pg_wal, where its last checkpoint is, is missing$/),
    );
    const unknown = segments.map(({ name, size }) => ({ name, size }));
    expect(changed({ segments: unknown })).toMatchObject(unreadable(/^not all files in pg_wal let themselves be read/));
  });

  test("cannot be read when a file is gone that was read on to", () => {
    const left = record("switched-17");
    const last = lastOf(left);
    const after = (n: number): string => last.slice(0, 16) + (parseInt(last.slice(16), 16) + n).toString(16).toUpperCase().padStart(8, "0");
    const upTo = left.evidence.segments.filter(({ name }) => name <= last);
    const ofLater = { name: after(3), size: 1048576, page: { timeline: 0, position: 0n } };
    expect(read({ ...left.evidence, segments: [...upTo, ofLater] }, recorded(left))).toMatchObject(
      unreadable(`the file ${after(1)} in pg_wal is missing, though there are later ones`),
    );
    expect(read({ ...left.evidence, segments: upTo }, recorded(left)).found).toMatchObject({ lsn: left.end });
  });

  test("cannot be read when it ends before where it has been", () => {
    const beyond = control("Latest checkpoint location", "0/8FFFF0");
    const [end] = [/^(.*)$/.exec(talk.end)?.[1]];
    expect(changed({ control: beyond })).toMatchObject(
      unreadable(`it ends at ${end}, before 0/8FFFF0, where it has been: files in pg_wal are damaged`),
    );
  });

  test.each([
    ["", "pg_waldump ended with 1"],
    ["sh: out\npg_waldump: error: could not open file\n", "pg_waldump: error: could not open file"],
  ])("cannot be read for pg_waldump's reason: %j", (out, why) => {
    expect(read(talk.evidence, () => `${out}\nexit 1`)).toMatchObject(unreadable(why));
  });

  test("cannot be read when pg_waldump takes too long, or its answer is cut off", () => {
    expect(read(talk.evidence, () => "exit 124")).toMatchObject(unreadable(`pg_waldump did not read the file ${LAST} in time`));
    expect(read(talk.evidence, () => "WAL statistics between")).toMatchObject(unreadable("what the node said was cut off"));
  });

  test("is looked for in earlier files, twice as far each time, and nowhere when no record is there", () => {
    const { found, asked } = read(talk.evidence, () => "pg_waldump: error: could not find a valid record after 0/1\nexit 1");
    expect(found).toMatchObject({ unreadable: `no record is in the file ${LAST} in pg_wal, nor in those before` });
    const begins = asked.map((line) => line.split(" ")[2] ?? "");
    expect([...begins].sort().reverse()).toEqual(begins);
    expect(asked.length).toBeGreaterThan(1);
  });

  test("is in the last chunk of a large file that was written to", () => {
    const size = 64 * 1024 * 1024;
    const large = {
      control: control("Bytes per WAL segment", String(size)),
      segments: talk.evidence.segments.map((one) => ({ ...one, size })),
    };
    // Positions are of other files now: the first one is taken as it is.
    const file = "000000010000000000000000";
    const segments = [{ name: file, size, page: { timeline: 1, position: 0n } }];
    const header = (at: number, timeline = 1): string => `  1  ${timeline}  ${at}  0\n  0  ${at}`;
    const chunk = 16 * 1024 * 1024;
    const pages = [header(0), header(chunk), header(7), header(3 * chunk, 2)].join("\n");
    const { asked } = read({ ...talk.evidence, ...large, segments }, (line) => (line.startsWith("pages") ? `${pages}\nexit 0` : "exit 1"));
    expect(asked).toEqual([`pages ${file} ${chunk}`, `waldump 0/1000000 ${file} ${file} statistics`]);
  });

  describe("with the pg_waldump of versions 13 and 14", () => {
    const old = (records: string) => (line: string) => (line.endsWith("statistics") ? "Total Combined size\nexit 1" : `${records}\nexit 0`);
    const listed = (length: number, lsn: string, kind = "INSERT"): string =>
      `rmgr: Heap        len (rec/tot):     54/  ${length}, tx:        742, lsn: ${lsn}, prev 0/8DF000, desc: ${kind} off 1`;
    test.each([
      ["on the same page, at the next multiple of 8", listed(57, "0/8DF800"), "0/8DF840"],
      ["on the next page, after its header", listed(200, "0/8DFFC0"), "0/8E00A0"],
      ["on a page's boundary", listed(64, "0/8DFFC0"), "0/8E0000"],
      ["in the next file, after its longer header", listed(200, "0/8FFFC0"), "0/9000B0"],
      ["at the end of a file that was left early", listed(24, "0/8E0000", "SWITCH"), "0/900000"],
    ])("is where the last record ends: %s", (_where, records, end) => {
      expect(read(talk.evidence, old(records)).found).toMatchObject({ lsn: end });
    });
  });
});

describe("what a stopped node's volume holds", () => {
  test("tells its marks", () => {
    const evidence = parseEvidence("== check\n== volume\ndata\nfenced\nname\nrejoin-once\nstarted");
    expect(marksIn(evidence)).toEqual(["fenced", "rejoin-once"]);
  });

  test("tells logical slots that outlive a crash", () => {
    const evidence = parseEvidence(
      "== slots\nphysical_one           0          0\nlogical_one           5          0\ntemporary       5    2",
    );
    expect(logicalSlotsIn(evidence)).toEqual(["logical_one"]);
  });

  test("is nothing when nothing was said", () => {
    expect(parseEvidence("")).toEqual({ refusal: "", volume: [], standby: false, control: "", histories: {}, segments: [], slots: [] });
  });
});
