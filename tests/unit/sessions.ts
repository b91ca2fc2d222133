import { readFileSync } from "fs";
import { join } from "path";
import * as session from "../../operations/engine/session";

const RECORDED = readFileSync(join(__dirname, "walEnd", "killed-17.txt"), "utf8").split(/^> .*\n/m);
/** Where the WAL of {@link facts} ends. */
export const END = /^= ends at (.*)$/m.exec(RECORDED[0] ?? "")?.[1] ?? "";

/** What `pgnode look` says of a server that was killed, with these marks in its volume. */
export const facts = (...marks: string[]): string => (RECORDED[1] ?? "").replace(/^== volume\n/m, ["== volume", ...marks, ""].join("\n"));

/** A helper container in the place of a real one; the test has to mock `DockerSession` of operations/engine/session. */
export interface FakeSession {
  /** The docker command. */
  command: string;
  /** What was asked, but for the facts. */
  asked: string[];
  /** Whether the facts were asked. */
  read: boolean;
  closed: boolean;
}

/**
 * Has every new session tell these facts, and answer like a server that was killed.
 *
 * @param told The facts, or why the helper container does not run.
 * @param answers By what a question begins with. @default as recorded; to a mark that it is done
 * @returns the sessions, as they are opened.
 */
export function answering(told: string | Error, answers: Readonly<Record<string, string>> = {}): FakeSession[] {
  const opened: FakeSession[] = [];
  const all: Record<string, string> = { ...answers, waldump: answers["waldump"] ?? RECORDED[2] ?? "", mark: "exit 0", unmark: "exit 0" };
  jest.mocked(session.DockerSession).mockImplementation((args) => {
    const fake: FakeSession = { command: args.args.join(" "), asked: [], read: false, closed: false };
    opened.push(fake);
    return {
      get isOpen(): boolean {
        return !fake.closed;
      },
      ask: (line: string): Promise<string> => {
        if (fake.closed) {
          return Promise.reject(new session.SessionError("it was closed"));
        }
        if (line === "") {
          fake.read = true;
          return told instanceof Error ? Promise.reject(told) : Promise.resolve(told);
        }
        fake.asked.push(line);
        return Promise.resolve({ ...all, ...answers }[line.split(" ")[0] ?? ""] ?? "");
      },
      close: (): void => void (fake.closed = true),
    } as unknown as session.DockerSession;
  });
  return opened;
}
