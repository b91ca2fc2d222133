import { mkdtempSync, rmSync, writeFileSync } from "fs";
import { tmpdir } from "os";
import { join } from "path";
import type { ClientConfig } from "pg";
import type { Observation } from "../../core/judgement/observation";
import { type Check, type Database, verify, type VerifyPorts } from "../../operations/look/verify";
import { UserError } from "../../operations/errors";
import { primary, silent, standby } from "./observations";
import { FakeStack } from "./roles";

const READ_ONLY = "cannot execute INSERT in a read-only transaction";

/** What is said of the standbys when the primary is asked who streams from it. */
const LAGS = "SELECT application_name, pg1";

let fakes: FakeStack;
let printed: string[];
/** How every login was asked for, and every statement, as `node: statement`. */
let logins: ClientConfig[];
let asked: string[];
/** Who is logged in. */
let open: string[];
/** Milliseconds until a standby has what the primary has. */
let delays: Record<string, number>;
/** What fails or answers in another way, by `node` (the login) or `node: how the statement begins`. */
let on: Record<string, () => { rows: object[] }>;
let outputs: object;

beforeEach(() => {
  fakes = new FakeStack();
  fakes.configure({ sampleDatabase: true });
  fakes.on[LAGS] = () => Promise.resolve("pg2|streaming|1|2|3\npg3|streaming|0|0|0");
  printed = [];
  logins = [];
  asked = [];
  open = [];
  delays = {};
  on = {};
  outputs = {
    nodes: { pg1: {}, pg2: {}, pg3: {} },
    primaryUrl: urlOf("pg1"),
    secondaryUrls: { pg2: urlOf("pg2"), pg3: urlOf("pg3") },
  };
  jest.spyOn(console, "log").mockImplementation((line: string) => void printed.push(line));
});
afterEach(() => {
  fakes.remove();
  jest.restoreAllMocks();
});

const urlOf = (node: string, more = ""): string => `postgresql://app:s3cret@${node}:5432/ecommerce${more}`;
const seen = (...observed: Observation[]): void => void fakes.observe.mockResolvedValue(observed);
const fails = (message: string) => (): never => {
  throw new Error(message);
};

/** Databases of which pg1 is the primary's: what is written there is on the others after their delays. */
function connecting(): VerifyPorts["connect"] {
  /** When a table was made, or a row was written, by the clock of the test. */
  const since = new Map<string, number>();
  const isAt = (node: string, what: string): boolean => fakes.clock.now() >= (since.get(what) ?? Infinity) + (delays[node] ?? 0);
  const answerTo = (node: string, sql: string, values: unknown[] = []): { rows: object[] } => {
    const special = Object.entries(on).find(([begin]) => `${node}: ${sql}`.startsWith(begin) && begin.includes(":"));
    if (special !== undefined) {
      return special[1]();
    }
    if (node !== "pg1" && /^(INSERT|CREATE|DROP)/.test(sql)) {
      throw new Error(READ_ONLY);
    }
    if (/^CREATE TABLE/.test(sql)) {
      since.set("table", fakes.clock.now());
    } else if (/^INSERT/.test(sql)) {
      since.set(`row ${String(values[0])}`, fakes.clock.now());
    } else if (/to_regclass/.test(sql)) {
      return { rows: [{ there: isAt(node, "table") }] };
    } else if (/^SELECT EXISTS/.test(sql)) {
      return { rows: [{ there: isAt(node, `row ${/id = (\d+)/.exec(sql)?.[1] ?? ""}`) }] };
    }
    return { rows: [{ customers: "3", orders: "4", john: "1", standby: node !== "pg1", tables: "70" }] };
  };
  return (options) => {
    const node = new URL(options.connectionString ?? "").hostname;
    logins.push(options);
    on[node]?.();
    open.push(node);
    const database: Database = {
      query: <Row extends object>(sql: string, values?: unknown[]) => {
        asked.push(`${node}: ${sql}`);
        return Promise.resolve().then(() => answerTo(node, sql, values) as { rows: Row[] });
      },
      end: () => Promise.resolve(void open.splice(open.indexOf(node), 1)),
    };
    return Promise.resolve(database);
  };
}
const run = (json = false): Promise<number> =>
  verify("dev", json, {
    ...fakes.ports,
    outputs: () => Promise.resolve(JSON.stringify(outputs)),
    connect: (options) => Promise.resolve(options).then(connect),
  });
let connect: VerifyPorts["connect"];
beforeEach(() => (connect = connecting()));
/** What is printed, when it is not all in order. */
async function failures(): Promise<string[]> {
  expect(await run()).toBe(1);
  return printed.filter((line) => line.startsWith("FAIL"));
}
const WELL = [primary("pg1", ["pg2", "pg3"]), standby("pg2"), standby("pg3")];

describe("verify, before it tries anything,", () => {
  afterEach(() => expect(logins).toEqual([]));

  test("names the standbys of which none answers, and how each is", async () => {
    seen(primary("pg1", []), silent("pg2", "exited"), silent("pg3", "running"));
    await expect(run()).rejects.toThrow(
      new UserError(
        'stack "dev" has no standby to verify: of pg2 (down), pg3 (unknown) none answers as one. Run: npm run status -- --stack dev',
      ),
    );
  });

  test("says that a node is alone", async () => {
    seen(primary("pg1", []));
    await expect(run()).rejects.toThrow(/has no standby to verify: its only node is the primary\. Run: /);
  });

  test("says that there is no primary", async () => {
    seen(silent("pg1", "exited"), silent("pg2", "exited"));
    await expect(run()).rejects.toThrow(/cannot be verified: no node is primary\. Run: docker start /);
  });

  test("says that nothing is up", async () => {
    seen(silent("pg1", null), silent("pg2", null), silent("pg3", null));
    await expect(run()).rejects.toThrow(/^stack "dev" is not up\. Run: npm run up /);
  });

  test("says that the stack's outputs have no URLs", async () => {
    seen(...WELL);
    outputs = {};
    await expect(run()).rejects.toThrow(/^stack "dev" is not up\. Run: npm run up /);
  });

  test("says that the primary does not tell who streams from it, and calls nobody cut off", async () => {
    seen(...WELL);
    fakes.on[LAGS] = () => Promise.reject(new UserError("node pg1: too many clients"));
    await expect(run()).rejects.toThrow("node pg1: too many clients");
    expect(printed).toEqual([]);
  });

  test("says where the CA's certificate should be", async () => {
    seen(...WELL);
    outputs = { ...outputs, primaryUrl: urlOf("pg1", "?sslrootcert=.state%2Fno-such-ca.crt&sslmode=verify-full") };
    await expect(run()).rejects.toThrow(/^the CA's certificate is not at \/.*\/\.state\/no-such-ca\.crt, .*\. Run: npm run up /);
  });
});

describe("verify", () => {
  afterEach(() => expect(open).toEqual([])); // nobody stays logged in, however it ends

  test("finds everything in order: lag, reads, a refused write, and a new row at each standby", async () => {
    seen(...WELL);
    delays = { pg2: 37, pg3: 2 };
    expect(await run()).toBe(0);
    expect(printed).toEqual([
      "ok    pg2: streams from pg1: streaming, lag in bytes: send 1, receive 2, replay 3",
      "ok    pg3: streams from pg1: streaming, lag in bytes: send 0, receive 0, replay 0",
      "ok    pg2: answers reads of ecommerce: 3 customers, 4 orders",
      `ok    pg2: refuses a write: ERROR:  ${READ_ONLY}`,
      "ok    pg3: answers reads of ecommerce: 3 customers, 4 orders",
      `ok    pg3: refuses a write: ERROR:  ${READ_ONLY}`,
      "ok    pg2: a new row arrives: 37.0 ms after its commit",
      "ok    pg3: a new row arrives: 2.0 ms after its commit",
    ]);
  });

  test("tries the write only when its table has arrived: else the standby would refuse it for that", async () => {
    seen(...WELL);
    delays = { pg2: 500 };
    await run();
    const said = asked.filter((what) => what.startsWith("pg2"));
    expect(said.findIndex((what) => what.includes("INSERT"))).toBeGreaterThan(said.findLastIndex((what) => what.includes("to_regclass")));
    expect(said.filter((what) => what.includes("to_regclass"))).toHaveLength(501);
  });

  test("leaves nothing behind: it makes a table of its own name and drops that one", async () => {
    seen(...WELL);
    await run();
    const [, table] =
      /^pg1: CREATE TABLE ("postgres_replica_verify_[0-9a-f]{8}") /.exec(asked.find((what) => what.includes("CREATE")) ?? "") ?? [];
    expect(asked.filter((what) => what.startsWith("pg1"))).toEqual([
      `pg1: CREATE TABLE ${table} (id integer PRIMARY KEY, note text NOT NULL)`,
      `pg1: INSERT INTO ${table} VALUES ($1, 'a new row')`,
      `pg1: INSERT INTO ${table} VALUES ($1, 'a new row')`,
      `pg1: DROP TABLE IF EXISTS ${table}`,
    ]);
    expect(asked.at(-1)).toBe(`pg1: DROP TABLE IF EXISTS ${table}`);
  });

  test("gives a row that does not arrive 10 s, and says so; the other standby is looked at all the same", async () => {
    seen(...WELL);
    on["pg2: SELECT EXISTS"] = () => ({ rows: [{ there: false }] });
    expect(await failures()).toEqual(["FAIL  pg2: a new row arrives: not within 10000 ms"]);
    expect(printed.at(-1)).toBe("ok    pg3: a new row arrives: 0.0 ms after its commit");
    expect(fakes.clock.now()).toBeCloseTo(10_000, -2);
    expect(asked.at(-1)).toMatch(/^pg1: DROP TABLE/);
  });

  test.each<[string, () => { rows: object[] }, string]>([
    ["a standby that accepts a write", () => ({ rows: [] }), "the write was accepted"],
    ["one that refuses it for another reason", fails('relation "x" does not exist'), 'ERROR:  relation "x" does not exist'],
  ])("does not pass %s", async (_which, answer, line) => {
    seen(...WELL);
    on["pg3: INSERT"] = answer;
    expect(await failures()).toEqual([`FAIL  pg3: refuses a write: ${line}`]);
  });

  test("does not pass a standby that the primary does not list, or that only catches up", async () => {
    seen(primary("pg1", ["pg3"]), standby("pg2", { receiver: null }), standby("pg3"));
    fakes.on[LAGS] = () => Promise.resolve("pg3|catchup|1|2|3");
    expect(await failures()).toEqual([
      expect.stringMatching(/^FAIL {2}pg2: streams from pg1: (?!undefined)./),
      "FAIL  pg3: streams from pg1: catchup, lag in bytes: send 1, receive 2, replay 3",
    ]);
  });

  test("does not pass a node that does not answer beside one that does", async () => {
    seen(primary("pg1", ["pg2"]), standby("pg2"), silent("pg3", "exited"));
    expect(await failures()).toEqual([expect.stringMatching(/^FAIL {2}pg3: is a standby: ./)]);
    expect(logins).toHaveLength(2);
  });

  test("does not pass a standby that has not the sample's rows", async () => {
    seen(...WELL);
    on["pg2: SELECT (SELECT count"] = () => ({ rows: [{ customers: "0", orders: "0", john: "0" }] });
    expect(await failures()).toEqual(["FAIL  pg2: answers reads of ecommerce: 0 customers, 0 orders"]);
  });

  test.each([
    [true, 0, "ok    pg2: answers reads: it sees 70 tables"],
    [false, 1, "FAIL  pg2: answers reads: it sees 70 tables"],
  ])("without the sample reads what every database has (from a standby: %s)", async (is, code, line) => {
    fakes.configure({ sampleDatabase: false });
    seen(primary("pg1", ["pg2"]), standby("pg2"));
    on["pg2: SELECT pg_is_in_recovery"] = () => ({ rows: [{ standby: is, tables: "70" }] });
    expect(await run()).toBe(code);
    expect(printed).toContain(line);
  });

  test.each(["pg1", "pg3"])("says in one line that %s does not let the application in; the table goes all the same", async (node) => {
    seen(...WELL);
    on[node] = fails('password authentication failed for user "app"');
    await expect(run()).rejects.toThrow(
      new UserError(
        `node ${node} does not let the role app in: password authentication failed for user "app". Run: npm run status -- --stack dev`,
      ),
    );
    expect(asked.filter((what) => /^pg1: (CREATE|DROP)/.test(what))).toHaveLength(node === "pg1" ? 0 : 2);
  });

  test("says of which node the outputs have no URL", async () => {
    seen(...WELL);
    outputs = { ...outputs, secondaryUrls: { pg2: urlOf("pg2") }, nodes: { pg1: {}, pg2: {} } };
    await expect(run()).rejects.toThrow("the stack's outputs hold no URL of node pg3. Run: npm run up -- --stack dev");
    expect(asked.at(-1)).toMatch(/^pg1: DROP TABLE/);
  });

  test("tells why it ends, also when the table cannot be dropped any more", async () => {
    seen(...WELL);
    on["pg1: INSERT"] = fails("terminating connection");
    on["pg1: DROP"] = fails("Connection terminated");
    await expect(run()).rejects.toThrow("terminating connection");
  });

  test("writes at the primary of now, whichever node that is", async () => {
    seen(primary("pg3", ["pg1", "pg2"]), standby("pg1"), standby("pg2"));
    fakes.on["SELECT application_name, pg3"] = () => Promise.resolve("pg1|streaming|0|0|0\npg2|streaming|0|0|0");
    on["pg3: CREATE"] = fails("as far as here");
    await expect(run()).rejects.toThrow("as far as here");
    expect(printed.map((line) => line.slice(0, 29))).toEqual(["ok    pg1: streams from pg3: ", "ok    pg2: streams from pg3: "]);
  });

  test("checks a server by the CA's certificate that its URL names; a login and a statement have bounds", async () => {
    const folder = mkdtempSync(join(tmpdir(), "verify ca-"));
    try {
      const file = join(folder, "ca.crt");
      writeFileSync(file, "");
      seen(primary("pg1", ["pg2"]), standby("pg2"));
      outputs = {
        nodes: { pg1: {}, pg2: {} },
        primaryUrl: urlOf("pg1"),
        secondaryUrls: { pg2: urlOf("pg2", `?sslrootcert=${encodeURIComponent(file)}`) },
      };
      expect(await run()).toBe(0);
      expect(logins).toEqual(
        [urlOf("pg1"), urlOf("pg2", `?sslrootcert=${encodeURIComponent(file)}`)].map((connectionString) => ({
          connectionString,
          connectionTimeoutMillis: 10_000,
          statement_timeout: 30_000,
          application_name: "verify",
        })),
      );
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test("for machines prints one document, without a password", async () => {
    seen(...WELL);
    on["pg3: INSERT"] = () => ({ rows: [] });
    expect(await run(true)).toBe(1);
    expect(printed).toHaveLength(1);
    const { checks, ...rest } = JSON.parse(printed[0] ?? "") as { stack: string; ok: boolean; checks: Check[] };
    expect(rest).toEqual({ stack: "dev", ok: false });
    expect(checks).toHaveLength(8);
    expect(checks.filter(({ ok }) => !ok)).toEqual([{ node: "pg3", what: "refuses a write", ok: false, seen: "the write was accepted" }]);
    expect(printed[0]).not.toContain("s3cret");
  });
});
