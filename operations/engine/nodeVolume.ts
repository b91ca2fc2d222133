import { HELPER_LABEL, type Mark, NODE_ROOT } from "../../core/model/names";
import { PGNODE_SCRIPT } from "../../core/model/pgnode";
import type { Unreadable, WalEnd } from "../../core/judgement/election";
import { type Evidence, marksIn, parseEvidence, type Question, walEnd } from "../../core/judgement/walEnd";
import { firstLine } from "../errors";
import type { Engine } from "./engine";
import { DockerSession, SessionError } from "./session";

/** How long the look into a volume may print nothing. What it runs gives up itself before that. */
const SILENCE_SECONDS = 60;

/**
 * The volume of a node that is stopped: what is in it, and marks for the node's next start. One helper container (`pgnode look`)
 * answers all of that, because starting one is what takes time.
 */
export class NodeVolume {
  private readonly session: DockerSession;
  private evidence?: Promise<Evidence>;

  /** Starts the helper container; it reads nothing yet. Whoever makes one closes it. */
  public constructor(of: { stack: string; node: string; volume: string; image: string; engine: Engine }) {
    const length = Buffer.byteLength(PGNODE_SCRIPT);
    this.session = new DockerSession({
      args: [
        ...["run", "--rm", "-i", "--network", "none", "--user", "0:0", "-e", "PGNODE_NAME"],
        ...["--label", `${HELPER_LABEL}=${of.stack}`, "-v", `${of.volume}:${NODE_ROOT}`, "--entrypoint", "sh", of.image],
        // What follows the program is what is asked.
        ...["-c", `head -c ${length} >/tmp/pgnode && exec sh /tmp/pgnode look`],
      ],
      host: of.engine.host,
      env: { PGNODE_NAME: of.node },
      input: PGNODE_SCRIPT,
    });
  }

  private ask(line: string): Promise<string> {
    return this.session.ask(line, SILENCE_SECONDS * 1000);
  }

  /**
   * What the volume holds, as it was when that was asked first: not before nobody writes there any more.
   *
   * @throws SessionError when the helper container does not run
   */
  private read(): Promise<Evidence> {
    this.evidence ??= this.ask("").then(parseEvidence);
    return this.evidence;
  }

  /** Whether it still answers. */
  public get isOpen(): boolean {
    return this.session.isOpen;
  }

  /** The marks that it had when it was read first. @throws SessionError */
  public async marks(): Promise<Mark[]> {
    return marksIn(await this.read());
  }

  /** Where its WAL ends, or why that cannot be read. @throws SessionError when the helper container does not run */
  public async walEnd(): Promise<WalEnd | Unreadable> {
    const reading = walEnd(await this.read());
    try {
      let step = reading.next();
      while (step.done !== true) {
        step = reading.next(await this.ask(lineOf(step.value)));
      }
      return step.value;
    } catch (error) {
      if (error instanceof SessionError) {
        return { unreadable: firstLine(error.message) };
      }
      throw error;
    }
  }

  /** Puts marks there, or takes them away. @throws SessionError when that does not work: why. */
  public async change(verb: "mark" | "unmark", marks: readonly Mark[]): Promise<void> {
    await this.read();
    const answer = await this.ask([verb, ...marks].join(" "));
    if (!/^exit 0$/m.test(answer)) {
      throw new SessionError(answer);
    }
  }

  public close(): void {
    this.session.close();
  }
}

/** A question in the words of `pgnode look`. */
function lineOf(question: Question): string {
  if ("pages" in question) {
    return `pages ${question.pages} ${question.step}`;
  }
  const { from, first, last, statistics } = question.waldump;
  return `waldump ${from} ${first} ${last}${statistics ? " statistics" : ""}`;
}
