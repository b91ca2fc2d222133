import { type Code, CODES } from "../model/names";

/** What happens to clients, and no reason for anything about the node. */
const HARMLESS =
  /^(?:the database system is |terminating |canceling |password authentication failed|no pg_hba\.conf entry|role "|database "|sorry, too many clients|remaining connection slots|connection to client lost|unsupported frontend protocol)/;

/** Something that a node has said: a sentence for people, a code for programs. */
export interface Said {
  text: string;
  /** @default it has none; PostgreSQL's words never have */
  code?: Code;
}

/** What the program of a container said before it had codes, as far as it matters. */
const BEFORE_CODES: readonly [RegExp, Code][] = [
  [/has no cluster in its volume/, "no-cluster"],
  [/^node \S+ cannot be cloned: the primary has tablespaces/, "tablespaces"],
  [/^node \S+ cannot be cloned: /, "no-room"],
  [/\bcloning node\b/, "cloning"],
];

/** What a line is that `pgnode` has said; undefined when it is not its own. */
export function saidIn(line: string): Said | undefined {
  const [, code, text] = /^pgnode: (?:\[([a-z-]+)\] )?(.*)$/s.exec(line) ?? [];
  if (text === undefined) {
    return undefined;
  }
  // A newer program may say what this one does not know; an older one, until the next up has replaced it, has no codes.
  const known = code === undefined ? BEFORE_CODES.find(([words]) => words.test(text))?.[1] : CODES.find((one) => one === code);
  return known === undefined ? { text } : { text, code: known };
}

/** The last that `pgnode` has said among these lines. */
export function lastSaid(lines: readonly string[]): Said | undefined {
  return lines.map(saidIn).findLast((said) => said !== undefined);
}

/**
 * The reason why a node is not well, from the last lines of its log: what `pgnode` said last, or the last
 * FATAL or PANIC of PostgreSQL (or what only a clone can fix), without time and process number. Empty when there is none.
 *
 * @param lines Oldest first. A line that begins with a tab goes on with the one before.
 */
export function reasonIn(lines: readonly string[]): Said {
  const messages: string[] = [];
  for (const line of lines) {
    const before = line.startsWith("\t") ? messages.splice(-1) : [];
    messages.push([...before, line.trim()].join("; "));
  }
  const own = saidIn(messages.at(-1) ?? "");
  if (own !== undefined) {
    return own;
  }
  const severe = messages
    .map((message) => {
      // A standby that has WAL which its primary has not tells it by the way, and tries for ever.
      const [, level, text = ""] = /\b(FATAL|PANIC|LOG): +(.*)$/.exec(message) ?? [];
      return level === "LOG" && !needsClone(text) ? "" : text;
    })
    .filter((text) => text !== "" && !HARMLESS.test(text));
  return { text: severe.at(-1) ?? "" };
}

/** Whether a standby that gives this reason can only be helped by a clone: WAL that it needs is nowhere, or it has WAL that the primary has not. */
export function needsClone(reason: string): boolean {
  return [
    /requested WAL segment \S+ has already been removed/,
    /requested starting point \S+ on timeline \d+ is not in this server's history/,
    /requested timeline \d+ is not a child of this server's history/,
    /new timeline \d+ forked off current database system timeline/,
  ].some((pattern) => pattern.test(reason));
}

/** Whether a server says that it does not start with the settings that it has; REFUSED in image/host/configure.sh says the same. */
export function refusesSettings(reason: string): boolean {
  return [
    /configuration file ".*" contains errors/,
    /insufficient parameter settings/,
    /could not load .*pg_hba\.conf/,
    /could not map anonymous shared memory/,
    /could not access file /,
    /could not (load|access) (server certificate|private key) file|private key file ".*" (must|has)|check of private key failed/,
  ].some((pattern) => pattern.test(reason));
}

/** Whether a node says that it cannot be cloned as things are. Nothing was changed. */
export function cannotClone({ code }: Pick<Said, "code">): boolean {
  return code === "no-room" || code === "tablespaces";
}

/** Whether what a node or its server says is that the disk is full. */
export function isDiskFull(text: string, code: Code | undefined): boolean {
  return code === "no-room" || code === "disk-full" || text.includes("No space left on device");
}

/** Whether a standby says that its primary refuses its login. Waiting does not change that. */
export function isRefused(reason: string): boolean {
  return /password authentication failed|no pg_hba\.conf entry|pg_hba\.conf rejects/.test(reason);
}
