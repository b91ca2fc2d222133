import fc from "fast-check";
import { passfile } from "../../core/grammar/conninfo";
import { type Cluster, clusterOf, nodeEnvironment } from "../../core/model/cluster";
import { placed, type PlacedConfig } from "../../core/model/place";
import { parseConfig } from "../../core/config";
import {
  type Drift,
  DRIFT_FILES,
  type DriftFacts,
  driftOf,
  driftSql,
  type ExpectedFiles,
  expectedFiles,
  fileDigest,
  ownedSettings,
  readDriftFacts,
} from "../../core/judgement/drift";
import { REPLICATION_ROLE } from "../../core/model/names";
import { hbaConf } from "../../core/settings/access";
import type { Observation } from "../../core/judgement/observation";
import { primary, silent, slot, standby } from "./observations";

const SALT = "0123456789abcdef";
const PASSFILE = passfile({ [REPLICATION_ROLE]: "secret" });
let config: PlacedConfig;
let cluster: Cluster;
let expected: Record<string, ExpectedFiles>;
let two: Observation;
let three: Observation;
beforeAll(() => {
  config = placed(
    parseConfig("dev", {
      nodes: [1, 2, 3].map((n) => ({ name: `pg-${n}`, port: 5430 + n })),
      parameters: { work_mem: "8MB", "auto_explain.log_min_duration": "1s" },
      sampleDatabase: true,
    }),
    "unix:///x",
  );
  cluster = clusterOf(config);
  expected = Object.fromEntries(config.nodes.map(({ name }) => [name, expectedFiles(cluster, name, { PGNODE_PASSFILE: PASSFILE })]));
  two = seen(standby("pg-2"));
  three = seen(standby("pg-3"));
});

/** What a node says of which nothing was changed. */
function facts(node: string, changes: Partial<DriftFacts> = {}): DriftFacts {
  const files = Object.fromEntries(DRIFT_FILES.map((file) => [file, fileDigest(SALT, expected[node]?.[file] ?? "")]));
  return {
    salt: SALT,
    files: files,
    altered: [],
    restarts: ["max_connections", "shared_buffers"],
    unapplied: false,
    systemIdentifier: "7000000000000000000",
    roles: ["app", "postgres", "replica_user", "rewind_user"],
    database: true,
    sampleTables: null,
    ...changes,
  };
}
const seen = (node: Observation, changes: Partial<DriftFacts> = {}): Observation => ({ ...node, drift: facts(node.name, changes) });
const first = (changes: Partial<DriftFacts> = {}): Observation =>
  seen(primary("pg-1", ["pg-2", "pg-3"]), { sampleTables: true, ...changes });

const look = (observed: readonly Observation[], sample = true): Drift => driftOf({ observed, expected, database: "ecommerce", sample });
const NONE: Drift = {
  config: { "pg-1": [], "pg-2": [], "pg-3": [] },
  roles: [],
  databases: [],
  rights: [],
  sample: [],
  slots: { "pg-1": [], "pg-2": [], "pg-3": [] },
};

describe("drift is nothing", () => {
  test("when nothing was changed, and the same look says so again", () => {
    const observed = [first(), two, three];
    expect(look(observed)).toEqual(NONE);
    expect(look(observed)).toEqual(NONE);
  });

  test("for a node that was not asked, does not answer, or is not there", () => {
    expect(look([primary("pg-1", ["pg-2", "pg-3"]), silent("pg-2", "exited"), silent("pg-3", null)])).toEqual(NONE);
  });

  test.each([
    ["no primary", (): Observation[] => [silent("pg-1", "exited"), two]],
    ["two primaries", (): Observation[] => [seen(primary("pg-1", []), { database: false }), seen(primary("pg-2", []), { roles: [] })]],
  ])("but for the files when there is %s: nobody knows what the cluster should have", (_what, observed) => {
    expect(look([...observed(), three])).toEqual(NONE);
  });

  test("of what a standby says of roles and databases, which it has from the primary", () => {
    const late = seen(standby("pg-2", { changedPasswords: ["app"] }), { database: false, roles: [] });
    expect(look([first(), late, three])).toEqual(NONE);
  });

  test("of a node that is down for a reason that no configuration changes", () => {
    for (const reason of ["", "node pg-2 has no cluster in its volume", "could not write to file: No space left on device"]) {
      expect(look([first(), { ...silent("pg-2", "restarting"), reason }, three])).toEqual(NONE);
    }
  });

  test("of a password file that the caller does not know yet", () => {
    const known = Object.fromEntries(config.nodes.map(({ name }) => [name, expectedFiles(cluster, name)]));
    const observed = [first({ files: { ...facts("pg-1").files, passfile: null } }), two, three];
    expect(driftOf({ observed, expected: known, database: "ecommerce", sample: true })).toEqual(NONE);
  });
});

describe("a node's configuration", () => {
  const reasons = (changes: Partial<DriftFacts>, node = "pg-2"): string[] | undefined =>
    look(
      [first(), two, three].map((n) => (n.name === node ? seen({ ...n }, { sampleTables: n.drift?.sampleTables ?? null, ...changes }) : n)),
    ).config[node];
  const withFile = (file: string, digest: string | null): Partial<DriftFacts> => ({
    files: { ...facts("pg-2").files, [file]: digest },
  });

  test.each([
    ["own/node.conf", "node.conf"],
    ["data/node.conf", "node.conf"],
    ["own/pg_hba.conf", "pg_hba.conf"],
    ["data/pg_hba.conf", "pg_hba.conf"],
    ["passfile", "the password file"],
  ])("%s that differs, is gone, or cannot be read is drift of that node alone", (file, name) => {
    expect(reasons(withFile(file, fileDigest(SALT, "other")))).toEqual([`${name} differs`]);
    expect(reasons(withFile(file, null))).toEqual([`${name} is gone`]);
    expect(reasons(withFile(file, "unreadable"))).toEqual([`${name} cannot be read`]);
    expect(look([first(), seen(standby("pg-2"), withFile(file, null)), three]).config).toMatchObject({ "pg-1": [], "pg-3": [] });
  });

  test("of which a server cannot tell the digests is not known to differ", () => {
    expect(reasons({ files: {} })).toEqual([]);
  });

  test("with which its server does not start is drift, though nobody can be asked", () => {
    const reason = 'configuration file "/var/lib/pgnode/data/postgresql.conf" contains errors';
    expect(look([first(), { ...silent("pg-2", "restarting"), reason }, three])).toEqual({
      ...NONE,
      config: { ...NONE.config, "pg-2": ["its server does not start with the settings that it has"] },
    });
  });

  test("two files that differ in the same way are one reason", () => {
    const files = { ...facts("pg-2").files, "own/node.conf": null, "data/node.conf": null };
    expect(reasons({ files })).toEqual(["node.conf is gone"]);
  });

  test("ALTER SYSTEM counts for the stack's settings and the user's, not for pgnode's and those of nobody", () => {
    const altered = ["work_mem", "auto_explain.log_min_duration", "primary_conninfo", "pgnode.rejoin", "maintenance_work_mem", "work"];
    expect(reasons({ altered })).toEqual([
      "ALTER SYSTEM has set work_mem",
      "ALTER SYSTEM has set auto_explain.log_min_duration",
      "ALTER SYSTEM has set primary_conninfo",
    ]);
  });

  test("that was cut off on its way is to be finished", () => {
    expect(reasons({ unapplied: true })).toEqual(["its configuration was written and the server may not use it yet"]);
  });

  test("no text but a setting's own line makes a setting the stack's", () => {
    expect(ownedSettings("# a = 'x'\n b = 'x'\nc='x'\nD = 'x'\n1e = 'x'\nf.g_2 = 'x = y'\n_h = ''\npgnode.x = '1'\npgnodes = '1'")).toEqual(
      ["f.g_2", "_h", "pgnodes"],
    );
  });

  test("of a node that the config does not have is compared with nothing", () => {
    const observed = [first(), seen(standby("stray"), { altered: ["work_mem"] })];
    expect(look(observed).config).toEqual({ "pg-1": [], stray: [] });
  });

  test("every setting of node.conf but pgnode's own is the stack's", () => {
    const text = nodeEnvironment(cluster, "pg-1").PGNODE_CONF;
    const names = [...text.matchAll(/^(\S+) = /gm)].map((match) => match[1]);
    expect(names.length).toBeGreaterThan(15);
    expect(ownedSettings(text)).toEqual(names.filter((name) => name !== "pgnode.members" && name !== "pgnode.rejoin"));
  });
});

describe("what the cluster holds", () => {
  test("a changed password and a role that is gone are for the roles' SQL", () => {
    const observed = seen(primary("pg-1", ["pg-2", "pg-3"], { changedPasswords: ["postgres"] }), {
      roles: ["postgres", "replica_user", "rewind_user", "shop"],
      sampleTables: true,
    });
    expect(look([observed, two, three])).toEqual({
      ...NONE,
      roles: ["the password of postgres was changed by hand", "role app is missing"],
    });
  });

  test("roles and databases of the config that are missing, or another one's, are each for the SQL that makes them", () => {
    const observed = [
      first({ roles: ["app", "postgres", "replica_user", "rewind_user"], databases: { a: "shop", c: "old" }, sampleTables: true }),
      two,
      three,
    ];
    const roles = ["app", "shop"];
    const databases = ["a", "b", "c"].map((name) => ({ name, owner: "shop" }));
    expect(driftOf({ observed, expected, database: "ecommerce", roles, databases, sample: true })).toEqual({
      ...NONE,
      roles: ["role shop is missing"],
      databases: ["database b is missing", "database c belongs to old, not to shop"],
    });
  });

  test("rights that are gone or that everybody has are for the SQL that sets them", () => {
    const facts = { rewindReads: false, open: ["ecommerce", "a", "postgres"], databases: { a: "app", b: "app" }, sampleTables: true };
    const databases = ["a", "b"].map((name) => ({ name, owner: "app" }));
    expect(driftOf({ observed: [first(facts), two, three], expected, database: "ecommerce", databases, sample: true })).toEqual({
      ...NONE,
      roles: ["rewind_user may not read the servers' files", "everybody may connect to database ecommerce"],
      databases: ["everybody may connect to database a"],
    });
  });

  test("a replication role that may read files, as in version 0.2.0, is for the SQL that narrows it", () => {
    expect(look([first({ replicationReads: true, sampleTables: true }), two, three])).toEqual({
      ...NONE,
      rights: ["replica_user may read the servers' files"],
    });
    expect(look([first({ replicationReads: false, sampleTables: true }), two, three])).toEqual(NONE);
  });

  test("a database that is gone is for the roles' SQL, and the sample has to be loaded into it again", () => {
    const observed = [first({ database: false, sampleTables: null }), two, three];
    expect(look(observed)).toEqual({ ...NONE, roles: ["database ecommerce is gone"], sample: ["database ecommerce is gone"] });
    expect(look(observed, false)).toEqual({ ...NONE, roles: ["database ecommerce is gone"] });
  });

  test("tables of the sample that are gone count only where the stack has loaded it", () => {
    const observed = [first({ sampleTables: false }), two, three];
    expect(look(observed)).toEqual({ ...NONE, sample: ["tables of the sample are gone from database ecommerce"] });
    expect(look(observed, false)).toEqual(NONE);
  });
});

describe("slots", () => {
  const slotsOf = (observed: readonly Observation[]): Drift["slots"] => look(observed).slots;

  test("every standby that runs has one, under its own name", () => {
    const observed = seen(primary("pg-1", [], { slots: [slot("pg_3")] }));
    expect(slotsOf([observed, two, three])).toEqual({ ...NONE.slots, "pg-2": ["slot pg_2 is missing on pg-1"] });
  });

  test("after a failover the first node has one too, when it runs again, and the new primary has none", () => {
    const observed = seen(primary("pg-2", [], { slots: [] }));
    expect(slotsOf([seen(standby("pg-1")), observed, three])).toEqual({
      "pg-1": ["slot pg_1 is missing on pg-2"],
      "pg-2": [],
      "pg-3": ["slot pg_3 is missing on pg-2"],
    });
  });

  test.each([null, "exited", "running"])("a node that does not answer (container: %s) has none kept for it", (state) => {
    expect(slotsOf([seen(primary("pg-1", ["pg-3"])), silent("pg-2", state), three])).toEqual(NONE.slots);
  });
});

describe("the digest of a file", () => {
  test("is the same for the texts that pgnode takes for the same, and for no other", () => {
    fc.assert(
      fc.property(fc.string(), fc.nat(3), (text, breaks) => {
        expect(fileDigest(SALT, text + "\n".repeat(breaks))).toBe(fileDigest(SALT, text));
        expect(fileDigest(SALT, `${text}x`)).not.toBe(fileDigest(SALT, text));
        expect(fileDigest(SALT, `\n${text}x`)).not.toBe(fileDigest(SALT, `${text}x`));
      }),
    );
  });

  test("of one look says nothing about another's", () => {
    expect(fileDigest(SALT, PASSFILE)).not.toBe(fileDigest("fedcba9876543210", PASSFILE));
  });

  test("sees any change of a setting or a subnet", () => {
    fc.assert(
      fc.property(fc.string({ minLength: 1 }), (value) => {
        const files: ExpectedFiles = expectedFiles(
          clusterOf({ ...config, parameters: { ...config.parameters, search_path: value }, allowedSubnets: ["samehost"] }),
          "pg-1",
          { PGNODE_PASSFILE: PASSFILE },
        );
        const changed = driftOf({
          observed: [first(), two, three],
          expected: { ...expected, "pg-1": files },
          database: "ecommerce",
          sample: true,
        });
        expect(changed.config["pg-1"]).toEqual(["node.conf differs", "pg_hba.conf differs"]);
      }),
      { numRuns: 30 },
    );
    expect(hbaConf(["samehost"])).not.toBe(hbaConf(config.allowedSubnets));
  });
});

describe("the question", () => {
  const ask = (changes: Partial<Parameters<typeof driftSql>[0]> = {}): string =>
    driftSql({ salt: SALT, database: "app", sample: false, ...changes });

  test.each(["", "abc", "0123456789ABCDEF", "0123456789abcdef'", "'0123456789abcdef"])(
    "needs a salt that is random enough and safe in SQL, not %j",
    (salt) => {
      expect(() => ask({ salt })).toThrow(`a salt of ${salt.length} characters: expected at least 16 hexadecimal digits`);
    },
  );

  test("takes a longer salt, and hands it over as it is", () => {
    expect(ask({ salt: SALT + SALT })).toContain(`set_config('drift.salt', '${SALT}${SALT}', false)`);
  });

  test("is for every file that the stack writes, each by its name in the answer", () => {
    expect(ask()).toContain(`ARRAY[${DRIFT_FILES.map((file) => `'${file}'`).join(", ")}]`);
    expect(ask()).toContain("pg_read_binary_file('/var/lib/pgnode/' || file, 0, 1048576, true)");
    expect(ask()).toContain("digest := 'unreadable';");
  });

  test("is for all that the answer holds", () => {
    const { sampleTables: _apart, ...rest } = facts("pg-1");
    for (const key of [...Object.keys(rest), "databases", "replicationReads"]) {
      expect(ask()).toMatch(new RegExp(`'${key}', \\S`));
    }
  });

  test("is for the application database by its name, whatever is in that", () => {
    expect(ask({ database: "o'brien" }).match(/EXISTS \(SELECT FROM pg_database WHERE datname = 'o''brien'\)/g)).toHaveLength(2);
  });

  test("goes on whatever of it fails, and ends in the line that is read", () => {
    for (const sample of [false, true]) {
      expect(ask({ sample })).toMatch(/^\n\\set ON_ERROR_STOP off\n/);
      expect(ask({ sample })).toMatch(/\n\\echo '\{"facts":' :drift_facts ',"sampleTables":' :drift_tables '\}'\n$/);
    }
    expect(ask({ sample: true })).toMatch(/ \|\| echo null`\n\\endif\n/);
  });

  test("about the sample is for all of its tables, where the sample's SQL may have made them", () => {
    const asked = ask({ database: "ecommerce", sample: true });
    expect(asked).toMatch(
      /count\(DISTINCT relname\) = 2\) FROM pg_class .*relname IN \(.*customers.*, .*orders.*\).* nspname IN \(.*public.*, .*app.*\)/,
    );
    expect(ask()).not.toContain("customers");
  });

  test("goes to the application database only for the sample", () => {
    expect(driftSql({ salt: SALT, database: "app", sample: false })).not.toContain("psql -XAtq -d");
    expect(driftSql({ salt: SALT, database: "ecommerce", sample: true })).toContain("psql -XAtq -d ecommerce -c ");
  });
});

describe("the answer", () => {
  test("is the last line, as psql's echo puts it together", () => {
    const { sampleTables: _none, ...rest } = facts("pg-1");
    const line = `{"facts": ${JSON.stringify(rest)} ,"sampleTables": true }`;
    expect(readDriftFacts(`{"inRecovery":false}\noverlay 1 2 3 4% /\n${line}\n`)).toEqual(facts("pg-1", { sampleTables: true }));
  });

  test("is null, never an error, when the server did not say", () => {
    expect(readDriftFacts('{"facts": :drift_facts ,"sampleTables": null }')).toBeNull();
    expect(readDriftFacts('{"inRecovery":false}')).toBeNull();
    expect(readDriftFacts("null")).toBeNull();
    expect(readDriftFacts("")).toBeNull();
    expect(readDriftFacts('{"facts":{"salt":"0"},"sampleTables":null}')).toBeNull();
    fc.assert(fc.property(fc.oneof(fc.string(), fc.json()), (text) => expect(readDriftFacts(text)).toBeNull()));
  });
});
