import { isHere } from "../../core/model/place";
import type { Ran } from "./docker";
import { DONE, DockerSession, SessionError, SilentSession } from "./session";

/** Where SQL is said. */
export interface Server {
  /** The engine, a DOCKER_HOST value. */
  host: string;
  container: string;
  database: string;
}

/** One psql in a node's container that is asked again and again. */
interface Talk {
  session: DockerSession;
  busy: boolean;
}

/** The talks that go on; undefined while nobody keeps any. */
let talks: Map<string, Talk> | undefined;

/**
 * While this runs, what is asked of one server is asked in one session of psql: to start a program in a container takes a
 * multiple of the answer's time. What is said in a session must leave none of it behind, a setting or a lock.
 */
export async function keepTalking<T>(action: () => Promise<T>): Promise<T> {
  const own = new Map<string, Talk>();
  talks = own;
  try {
    return await action();
  } finally {
    talks = undefined;
    own.forEach(({ session }) => session.close());
  }
}

/**
 * Says SQL in the talk with a server, which begins when there is none.
 *
 * @param args The docker command of a psql that reads its standard input.
 * @param timeout For how many milliseconds it may say nothing.
 * @returns undefined when it has to be said in a session of its own: nobody keeps talks, this one is busy or has just ended.
 */
export async function inTalk(server: Server, args: readonly string[], sql: string, timeout: number): Promise<Ran | undefined> {
  // One by ssh is held open by few connections, which have other work, and a host that is away is remembered elsewhere.
  if (talks === undefined || !isHere(server.host)) {
    return undefined;
  }
  const key = [server.host, server.container, server.database].join(" ");
  const before = talks.get(key);
  if (before?.busy === true) {
    return undefined;
  }
  const isNew = before?.session.isOpen !== true;
  const talk = isNew ? { session: new DockerSession({ args, host: server.host, input: "" }), busy: false } : before;
  talks.set(key, talk);
  talk.busy = true;
  try {
    // The semicolon ends what does not end itself; on its own it asks nothing.
    return { exitCode: 0, stdout: await talk.session.ask(`${sql}\n;\n\\echo ${DONE.trim()}`, timeout), stderr: "" };
  } catch (error) {
    if (!(error instanceof SessionError)) {
      throw error;
    }
    // The server of an earlier talk may have been started anew since then; one that is silent would be so once more.
    return isNew || error instanceof SilentSession ? { exitCode: 1, stdout: "", stderr: error.message } : undefined;
  } finally {
    talk.busy = false;
  }
}
