import execa from "execa";
import { endProgram, GRACE, toEngine } from "./docker";

/** What ends each answer. */
export const DONE = "== done\n";

/**
 * A docker command that is talked to: what it prints up to {@link DONE} answers what was said to it. Whoever opens one closes it;
 * its end of the talk is the end of its input, so that nothing stays when this process is killed.
 */
export class DockerSession {
  private readonly child: execa.ExecaChildProcess;
  private readonly ended: Promise<string>;
  private output = "";
  private heard: () => void = () => undefined;
  private over = false;

  /** @param args.input What comes before everything that is said. */
  public constructor(
    private readonly args: {
      args: readonly string[];
      /** The engine, a DOCKER_HOST value. */
      host: string;
      env?: Record<string, string>;
      input: string;
    },
  ) {
    this.child = execa("docker", [...args.args], {
      env: { ...args.env, ...toEngine(args.host) },
      reject: false,
      stdin: "pipe",
    });
    this.child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      this.output += text;
      this.heard();
    });
    // It may have ended already; how is told by `ended`.
    this.child.stdin?.on("error", () => undefined);
    this.child.stdin?.write(args.input);
    this.ended = this.child.then((result) => {
      this.over = true;
      this.heard();
      return result.stderr || (result as { originalMessage?: string }).originalMessage || "";
    });
  }

  /** Whether it still answers. */
  public get isOpen(): boolean {
    return !this.over;
  }

  /**
   * Says a line, and waits for the answer.
   *
   * @param silence For how many milliseconds it may print nothing meanwhile.
   * @throws SessionError when there is none: what was printed last on standard error.
   */
  public async ask(line: string, silence: number): Promise<string> {
    this.child.stdin?.write(`${line}\n`);
    for (;;) {
      const at = this.output.startsWith(DONE) ? 0 : this.output.indexOf(`\n${DONE}`);
      if (at >= 0) {
        const answer = this.output.slice(0, at);
        this.output = this.output.slice(at + DONE.length + (at === 0 ? 0 : 1));
        return answer;
      }
      if (this.over) {
        throw new SessionError(await this.ended);
      }
      if (!(await this.hears(silence))) {
        this.end();
        throw new SilentSession(`docker ${this.args.args[0] ?? ""} printed nothing for ${silence / 1000} s`);
      }
    }
  }

  /** Waits until something is printed, or it is over. False: the time is over. */
  private hears(silence: number): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), silence);
      this.heard = () => {
        clearTimeout(timer);
        resolve(true);
      };
    });
  }

  /** Ends it; it is not waited for. */
  public close(): void {
    this.child.stdin?.end();
    // An engine that hangs must not keep this process.
    const timer = setTimeout(() => this.end(), GRACE);
    void this.ended.then(() => clearTimeout(timer));
  }

  private end(): void {
    this.over = true;
    const force = endProgram(this.child);
    void this.ended.then(() => clearTimeout(force));
  }
}

/** Why a {@link DockerSession} does not answer. */
export class SessionError extends Error {}

/** It lives, and has said nothing for as long as it may. */
export class SilentSession extends SessionError {}
