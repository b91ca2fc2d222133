import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "fs";
import { tmpdir } from "os";
import { delimiter, join } from "path";
import { Engine } from "../../operations/engine/engine";
import { keepTalking } from "../../operations/engine/talks";

/**
 * SQL that is said to one psql. In the place of docker there is a program of ours that does what psql does with its input: it
 * answers each question by the question, and "bad" by an error that ends it.
 */
describe("SQL", () => {
  const PSQL = `
    echo "$@" >>"$0.started"
    while read -r line || [ -n "$line" ]; do
      case $line in
      bad) echo 'psql:<stdin>:1: ERROR:  bad' >&2; exit 3 ;;
      slow) sleep 0.4; echo slow ;;
      hang) exec sleep 20 ;;
      leave) echo "$line"; exec >&-; exit 0 ;;
      '\\echo '*) echo "\${line#'\\echo '}" ;;
      ';') ;;
      *) echo "$line" ;;
      esac
    done`;
  let folder: string;
  const PATH = process.env["PATH"];
  const here = new Engine("unix:///here.sock");
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "talks-"));
    writeFileSync(join(folder, "docker"), `#!/bin/sh${PSQL}\n`, { mode: 0o755 });
    process.env["PATH"] = `${folder}${delimiter}${PATH ?? ""}`;
  });
  afterEach(() => {
    process.env["PATH"] = PATH;
    rmSync(folder, { recursive: true });
  });
  /** How often a program was started for it. */
  const started = (): number => readFileSync(join(folder, "docker.started"), "utf8").trim().split("\n").length;
  const answers = async (engine: Engine, ...asked: string[]): Promise<string[]> => {
    const found: string[] = [];
    for (const sql of asked) {
      const { exitCode, stdout, stderr } = await engine.sql("pg1", sql, { timeout: 5_000 });
      found.push(exitCode === 0 ? stdout.trim() : `${exitCode}: ${stderr.trim()}`);
    }
    return found;
  };

  test("is said in a session of its own where nobody keeps talking", async () => {
    expect([await answers(here, "a", "b"), started()]).toEqual([["a", "b"], 2]);
  });

  test("is said in one session to one server, and an empty answer is one", async () => {
    await keepTalking(async () => {
      expect(await answers(here, "a", ";", "several\nlines", "b")).toEqual(["a", "", "several\nlines", "b"]);
      expect(started()).toBe(1);
      expect(await here.sql("pg2", "a")).toMatchObject({ stdout: "a" });
      expect(await here.sql("pg1", "a", { database: "other" })).toMatchObject({ stdout: "a" });
      expect(started()).toBe(3);
    });
  });

  test("that is asked at the same moment gets its own answer", async () => {
    await keepTalking(async () => {
      const ran = await Promise.all(["slow", "a", "b"].map((sql) => here.sql("pg1", sql)));
      expect([ran.map(({ stdout }) => stdout.trim()), started()]).toEqual([["slow", "a", "b"], 3]);
    });
  });

  test("that fails tells why, and the next question begins anew", async () => {
    await keepTalking(async () => {
      expect(await answers(here, "bad", "a")).toEqual(["1: psql:<stdin>:1: ERROR:  bad", "a"]);
      expect(started()).toBe(2);
    });
  });

  test("is said once more in a session of its own where the talk had begun before: the server may have been started anew", async () => {
    await keepTalking(async () => {
      expect(await answers(here, "a", "leave", "b", "bad", "c")).toEqual(["a", "leave", "b", "3: psql:<stdin>:1: ERROR:  bad", "c"]);
      expect(started()).toBe(5);
    });
  });

  test("that is not answered in time is given up, and no later answer is taken for the next one's", async () => {
    await keepTalking(async () => {
      const silent = { exitCode: 1, stdout: "", stderr: "docker exec printed nothing for 0.3 s" };
      expect(await here.sql("pg1", "hang", { timeout: 300 })).toEqual(silent);
      expect(await answers(here, "a")).toEqual(["a"]);
      expect(await here.sql("pg1", "hang", { timeout: 300 })).toEqual(silent);
      expect(started()).toBe(2);
    });
  });

  test("is said in a session of its own to a server by ssh", async () => {
    const far = new Engine("tcp://far:2375");
    await keepTalking(async () => expect([await answers(far, "a", "b"), started()]).toEqual([["a", "b"], 2]));
  });

  test("ends its sessions with the command, also with one that fails", async () => {
    const failing = keepTalking(async () => {
      await answers(here, "a");
      throw new Error("no");
    });
    await expect(failing).rejects.toThrow("no");
    expect([await answers(here, "a", "b"), started()]).toEqual([["a", "b"], 3]);
  });
});
