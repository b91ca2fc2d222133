import { execFileSync, spawnSync } from "child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "fs";
import { tmpdir } from "os";
import { join } from "path";
import { PGNODE_SCRIPT } from "../../core/model/pgnode";

/** Options of initdb as of version 13, with which a cluster has to be made on every version; `--set` came with 16. */
const OF_13 = [
  ...[
    "--pgdata",
    "--username",
    "--encoding",
    "--locale",
    "--data-checksums",
    "--no-sync",
    "--no-clean",
    "--auth",
    "--auth-local",
    "--auth-host",
  ],
  ...["--pwfile", "--pwprompt", "--waldir", "--wal-segsize", "--allow-group-access", "--lc-collate", "--lc-ctype", "--text-search-config"],
];
const INITDB = `#!/bin/sh
printf '%s\\n' "$@" >"$0.asked"
for word; do
  case $word in
  -D | --*) ;;
  *) data=$word; continue ;;
  esac
  case " -D ${OF_13.join(" ")} " in *" \${word%%=*} "*) ;; *) echo "initdb: unrecognized option '$word'" >&2; exit 1 ;; esac
done
mkdir -p "$data"
echo 13 >"$data/PG_VERSION"
touch "$data/postgresql.conf"
`;

describe("pgnode init, with an initdb of version 13", () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "pgnode-init-"));
    mkdirSync(join(folder, "bin"));
    mkdirSync(join(folder, "volume"));
    // Not as root, and of no server that may be on this machine.
    const programs: Record<string, string> = {
      initdb: INITDB,
      id: "#!/bin/sh\necho 1000\n",
      postgres: "#!/bin/sh\necho 'postgres (PostgreSQL) 13.22'\n",
    };
    for (const name of ["pg_basebackup", "psql", "pg_isready", "pg_controldata"]) {
      programs[name] = "#!/bin/sh\nexit 1\n";
    }
    Object.entries(programs).forEach(([name, text]) => writeFileSync(join(folder, "bin", name), text, { mode: 0o755 }));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const init = (): ReturnType<typeof spawnSync> => {
    // The same program on a volume of its own.
    const script = PGNODE_SCRIPT.replace("ROOT=/var/lib/pgnode", `ROOT=${folder}/volume`).replace(
      "/usr/lib/postgresql/*/bin",
      `${folder}/bin`,
    );
    return spawnSync("sh", ["-c", script, "pgnode", "init"], {
      env: { PATH: process.env["PATH"], PGNODE_NAME: "pg1", PGNODE_CONF: "port = 5432" },
      encoding: "utf8",
      timeout: 60_000,
    });
  };
  const inVolume = (): string[] =>
    execFileSync("ls", [join(folder, "volume")], { encoding: "utf8" })
      .split("\n")
      .filter(Boolean);

  test("makes nothing with settings that the server refuses, and says them", () => {
    // As postgres -C says it; a parser that is not given the settings has nothing against them.
    const parser = `#!/bin/sh
for word; do case $word in config_file=*) file=\${word#*=} ;; esac; done
[ "\${file:-}" != "" ] && grep -q '^port = 5432$' "$file" || exit 0
echo "2026-11-28 22:00:00.000 UTC [7] LOG:  unrecognized configuration parameter \\"prt\\" in file \\"$file\\" line 1" >&2
echo "2026-11-28 22:00:00.000 UTC [7] FATAL:  configuration file \\"$file\\" contains errors" >&2
exit 1
`;
    writeFileSync(join(folder, "bin", "postgres"), parser, { mode: 0o755 });
    const ran = init();
    expect([ran.status, ran.stderr]).toEqual([
      1,
      'pgnode: PostgreSQL refuses the settings: unrecognized configuration parameter "prt". Nothing was made. Fix the config key parameters, then run up again\n',
    ]);
    expect(inVolume()).toEqual([]);
  });

  test("makes a cluster that hashes passwords with scram-sha-256 and has checksums", () => {
    const ran = init();
    expect([ran.status, ran.stderr]).toEqual([0, "pgnode: creating the cluster of node pg1\n"]);
    expect(inVolume()).toEqual(["data", "name", "own"]);
    const asked = readFileSync(join(folder, "bin", "initdb.asked"), "utf8").split("\n");
    // Up to version 13 it is this option that makes initdb set password_encryption.
    expect(asked).toEqual(expect.arrayContaining(["--auth-host=scram-sha-256", "--data-checksums"]));
  });
});
