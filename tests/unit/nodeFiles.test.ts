import { spawnSync } from "child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "fs";
import { tmpdir } from "os";
import { join } from "path";
import { birthSecrets, birthVariables } from "../../core/model/birth";
import { type Cluster, clusterOf } from "../../core/model/cluster";
import { FILE_LINES, fileVariables, NODE_FILES, placesOf } from "../../core/model/nodeFiles";
import { PGNODE_SCRIPT } from "../../core/model/pgnode";
import { placed } from "../../core/model/place";
import { parseConfig } from "../../core/config";

describe("the files of a node", () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "pgnode-files-"));
    mkdirSync(join(folder, "bin"));
    mkdirSync(join(folder, "volume", "data"), { recursive: true });
    mkdirSync(join(folder, "volume", "own"));
    writeFileSync(join(folder, "volume", "data", "PG_VERSION"), "17\n");
    writeFileSync(join(folder, "volume", "data", "postgresql.conf"), "");
    writeFileSync(join(folder, "volume", "data", "postgresql.auto.conf"), "");
    for (const [name, text] of Object.entries({ id: "echo 1000", pg_isready: "exit 0", psql: "exit 0", sleep: "exit 0" })) {
      writeFileSync(join(folder, "bin", name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
    }
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  /** Configures a running node of which psql says nothing, by the program with this list of files. */
  const configure = (environment: Record<string, string>, lines = FILE_LINES): string => {
    const script = PGNODE_SCRIPT.replace("ROOT=/var/lib/pgnode", `ROOT=${folder}/volume`)
      .replace("/usr/lib/postgresql/*/bin", `${folder}/bin`)
      .replace(FILE_LINES, lines);
    const ran = spawnSync("sh", ["-c", script, "pgnode", "configure"], {
      env: { PATH: process.env["PATH"], PGNODE_NAME: "pg1", ...environment },
      encoding: "utf8",
    });
    expect([ran.status, ran.stderr]).toEqual([0, ""]);
    return ran.stdout;
  };
  const file = (name: string): string => join(folder, "volume", name);
  const texts = Object.fromEntries(NODE_FILES.map(({ variable, called }) => [variable, `# the text of ${called}\nport = '1'\n`]));

  test("are all that are listed, each in its places and with its mode, and a change takes a reload", () => {
    expect(configure(texts)).toBe("");
    for (const one of NODE_FILES) {
      for (const place of placesOf(one)) {
        expect([place, readFileSync(file(place), "utf8").trimEnd()]).toEqual([place, texts[one.variable]?.trimEnd()]);
        expect([place, (statSync(file(place)).mode & 0o777).toString(8).padStart(4, "0")]).toEqual([place, one.mode]);
      }
    }
    expect(existsSync(file("own/unapplied"))).toBe(false);
  });

  test("stay as they are where nothing is said of them", () => {
    configure(texts);
    configure({ PGNODE_CONF: "# other" });
    expect(readFileSync(file("data/node.conf"), "utf8")).toBe("# other\n");
    expect(readFileSync(file("passfile"), "utf8").trimEnd()).toBe(texts["PGNODE_PASSFILE"]?.trimEnd());
  });

  test("of which one needs a restart ask for it when that one changes, also after a run that was cut off", () => {
    const lines = `${FILE_LINES}\nPGNODE_OTHER own/other 0640 restart own`;
    expect(configure({ ...texts, PGNODE_OTHER: "one" }, lines)).toBe("restart:  own/other\n");
    expect((statSync(file("own/other")).mode & 0o777).toString(8)).toBe("640");
    // It waits for the start that takes it up.
    expect(configure({ ...texts, PGNODE_OTHER: "one" }, lines)).toBe("restart:  own/other\n");
    rmSync(file("own/unapplied"));
    expect(configure({ ...texts, PGNODE_OTHER: "one" }, lines)).toBe("");
  });

  test("are secret where a password is in them, and only there", () => {
    expect([fileVariables(false), fileVariables(true)]).toEqual([
      ["PGNODE_CONF", "PGNODE_HBA", "PGNODE_CA", "PGNODE_CERTIFICATE"],
      ["PGNODE_PASSFILE", "PGNODE_KEY"],
    ]);
  });
});

describe("the birth of a node", () => {
  const cluster = (): Cluster => ({
    ...clusterOf(placed(parseConfig("prod", { nodes: [{ name: "pg1", port: 1 }] }), "unix:///x")),
    identity: { id: "i", madeBy: "me" },
  });

  test("by a command is that by the program, but for the helper's name and labels", () => {
    const by = (helper: "birth" | "clone"): Record<string, string> =>
      birthVariables(cluster(), "pg1", { helper, environment: { PGNODE_SLOT: "pg1" } });
    expect(by("birth")).toMatchObject({
      NODE_HELPER: "postgres-replica-prod-pg1-birth",
      NODE_LABELS: expect.stringMatching(/(^| )postgres-replica\.node=pg1 .*postgres-replica\.identity=i/) as string,
      NODE_VOLUME: "postgres-replica-prod-pg1-data",
      NODE_NETWORK: "postgres-replica-prod",
      NODE_PASS: "PGNODE_TIMEOUT PGNODE_STALL_SECONDS PGNODE_NAME PGNODE_STACK PGNODE_SLOT",
      PGNODE_NAME: "pg1",
    });
    expect(by("clone")).toEqual({ ...by("birth"), NODE_HELPER: "postgres-replica-prod-pg1-clone", NODE_LABELS: "" });
  });

  test("gets what is secret as the shell reads it", () => {
    const text = birthSecrets({ files: { PGNODE_PASSFILE: "it's: a \\ 'secret'\n" }, authorityKey: "two\nlines\n" });
    const input = `${text}printf '%s' "$AUTHORITY_KEY"; exec env`;
    const shell = spawnSync("/bin/sh", ["-eu"], { input, encoding: "utf8", env: {} });
    expect(shell.stdout).toContain("PGNODE_PASSFILE=it's: a \\ 'secret'\n");
    // The shell has it, and none of its programs.
    expect(shell.stdout).toMatch(/^two\nlines\n/);
    expect(shell.stdout).not.toContain("AUTHORITY_KEY");
    expect(birthSecrets({ files: {} })).toBe("");
  });
});
