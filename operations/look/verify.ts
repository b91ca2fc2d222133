import { randomBytes } from "crypto";
import { existsSync } from "fs";
import { resolve } from "path";
import { Client, type ClientConfig } from "pg";
import { SAMPLE_DATABASE } from "../../core/model/names";
import type { PlacedConfig } from "../../core/model/place";
import { REPLICATION_STATUS } from "../../core/sql/queries";
import { sqlIdentifier } from "../../core/grammar/quoting";
import { findingsOf, notOneWriter } from "../../core/judgement/findings";
import { isStandby } from "../../core/judgement/observation";
import { nodeStatus, onlyPrimary, roleOf } from "../../core/judgement/topology";
import { wordsOf } from "../../core/judgement/words";
import { UserError } from "../errors";
import { placedHere } from "../engine/dockerHost";
import type { Control } from "../engine/nodeControl";
import { controlOf, controls } from "../engine/nodeControls";
import { observe, refuseUnlessUp } from "../engine/observe";
import { type Clock, CLOCK, poll } from "../engine/poll";
import { pulumiOutput, readStackConfig, ROOT } from "../deploy/workspace";
import { explain, npmRun } from "./advice";

/** One thing that was tried. */
export interface Check {
  node: string;
  what: string;
  ok: boolean;
  /** What was seen. */
  seen: string;
}

/** How long a row may take to reach a standby, in milliseconds, before that counts as a failure. */
const ARRIVAL_MS = 10_000;

/** The guide's own words of what a standby answers to a write. */
export const READ_ONLY_ERROR = "cannot execute INSERT in a read-only transaction";

/** A database that somebody is logged in to. */
export interface Database {
  query<Row extends object>(sql: string, values?: unknown[]): Promise<{ rows: Row[] }>;
  end(): Promise<void>;
}

/** What `verify` speaks to. The command has the real ones; a test hands in made-up ones. */
export interface VerifyPorts {
  /** The stack's config, every node at its place. @throws UserError */
  config: (stack: string) => PlacedConfig;
  observe: typeof observe;
  /** The control of every node, by name. Only `sql` is asked of it. */
  controls: (config: PlacedConfig) => Map<string, Control>;
  /** The stack's outputs with their secrets, as JSON. @throws UserError */
  outputs: (stack: string) => Promise<string>;
  /** @throws when the server does not let it in. */
  connect: (options: ClientConfig) => Promise<Database>;
  clock: Clock;
}

const REAL: VerifyPorts = {
  config: (stack) => placedHere(readStackConfig(stack)),
  observe,
  controls,
  outputs: (stack) => pulumiOutput(stack, ["stack", "output", "--json", "--show-secrets", "--stack", stack]),
  connect: async (options) => {
    const client = new Client(options);
    await client.connect();
    return client;
  },
  clock: CLOCK,
};

/** `npm run verify`: the guide's steps 5 and 6 on the living stack. Returns the exit code. */
export async function verify(stack: string, json: boolean, ports: VerifyPorts = REAL): Promise<number> {
  const checks: Check[] = [];
  const show = (check: Check): void => {
    checks.push(check);
    if (!json) {
      console.log(`${check.ok ? "ok  " : "FAIL"}  ${check.node}: ${check.what}: ${check.seen}`);
    }
  };
  await runChecks(stack, show, ports);
  const ok = checks.every((check) => check.ok);
  if (json) {
    console.log(JSON.stringify({ stack, ok, checks }, undefined, 2));
  }
  return ok ? 0 : 1;
}

async function runChecks(stack: string, show: (check: Check) => void, ports: VerifyPorts): Promise<void> {
  const config = ports.config(stack);
  const observed = await ports.observe(config);
  refuseUnlessUp(stack, observed);
  const nobody = notOneWriter(observed);
  if (nobody !== undefined) {
    throw new UserError(`stack "${stack}" cannot be verified: ${explain(nobody, stack)}`);
  }
  const primary = onlyPrimary(observed);
  const standbys = observed.filter(isStandby);
  if (primary === undefined || standbys.length === 0) {
    const others = observed.filter((node) => node !== primary).map((node) => `${node.name} (${roleOf(node)})`);
    const why = others.length === 0 ? "its only node is the primary" : `of ${others.join(", ")} none answers as one`;
    throw new UserError(`stack "${stack}" has no standby to verify: ${why}. Run: ${npmRun("status", stack)}`);
  }
  const urls = nodeUrls(stack, await ports.outputs(stack));
  const connect = async (node: string): Promise<Database> => {
    const url = urls[node];
    if (url === undefined) {
      throw new UserError(`the stack's outputs hold no URL of node ${node}. Run: ${npmRun("up", stack)}`);
    }
    return ports.connect(clientConfig(stack, url)).catch((error: Error) => {
      throw new UserError(`node ${node} does not let the role app in: ${error.message}. Run: ${npmRun("status", stack)}`);
    });
  };

  const wrong = findingsOf(observed);
  const why = (node: string): string =>
    wrong
      .filter((finding) => finding.node === node)
      .map(wordsOf)
      .join("; ");
  const replication = await controlOf(ports.controls(config), primary.name).sql(
    `SELECT application_name, state, send_lag_bytes, receive_lag_bytes, replay_lag_bytes FROM (${REPLICATION_STATUS.replace("client_addr,", "client_addr, application_name,")}) AS s`,
  );
  for (const standby of standbys) {
    const { upstream, state, lagBytes } = nodeStatus(standby, primary, observed);
    if (upstream !== null && upstream !== primary.name) {
      const seen = `${state}, ${lagBytes} bytes behind ${primary.name}`;
      show({ node: standby.name, what: `streams from ${upstream}`, ok: state === "streaming", seen });
      continue;
    }
    const row = replication
      .split("\n")
      .map((line) => line.split("|"))
      .find(([name]) => name === standby.name);
    show({
      node: standby.name,
      what: `streams from ${primary.name}`,
      ok: row?.[1] === "streaming",
      seen:
        row === undefined
          ? why(standby.name) || "not connected"
          : `${row[1]}, lag in bytes: send ${row[2]}, receive ${row[3]}, replay ${row[4]}`,
    });
  }
  for (const { name } of observed.filter((node) => node.server === null)) {
    show({ node: name, what: "is a standby", ok: false, seen: why(name) });
  }

  const writer = await connect(primary.name);
  const table = sqlIdentifier(`postgres_replica_verify_${randomBytes(4).toString("hex")}`);
  const readers = new Map<string, Database>();
  try {
    await writer.query(`CREATE TABLE ${table} (id integer PRIMARY KEY, note text NOT NULL)`);
    for (const standby of standbys) {
      const reader = await connect(standby.name);
      readers.set(standby.name, reader);
      show(await readCheck(standby.name, reader, config.sampleDatabase));
      await arrival(reader, `SELECT to_regclass('${table.replace(/'/g, "''")}') IS NOT NULL AS there`, ports.clock);
      show(await refusedWrite(standby.name, reader, table));
    }
    let id = 0;
    for (const [name, reader] of readers) {
      id += 1;
      await writer.query(`INSERT INTO ${table} VALUES ($1, 'a new row')`, [id]);
      const delay = await arrival(reader, `SELECT EXISTS (SELECT FROM ${table} WHERE id = ${id}) AS there`, ports.clock);
      show({
        node: name,
        what: "a new row arrives",
        ok: delay !== undefined,
        seen: delay === undefined ? `not within ${ARRIVAL_MS} ms` : `${delay.toFixed(1)} ms after its commit`,
      });
    }
  } finally {
    await writer.query(`DROP TABLE IF EXISTS ${table}`).catch(() => undefined);
    await Promise.all([writer, ...readers.values()].map((client) => client.end().catch(() => undefined)));
  }
}

/** The CA's certificate is where the URL says, seen from the project's folder. @throws UserError when it is not */
function clientConfig(stack: string, url: string): ClientConfig {
  const [, key = "", file = ""] = /([?&]sslrootcert=)([^&]*)/.exec(url) ?? [];
  const path = resolve(ROOT, decodeURIComponent(file));
  if (file !== "" && !existsSync(path)) {
    throw new UserError(`the CA's certificate is not at ${path}, where the stack's URLs say. Run: ${npmRun("up", stack)}`);
  }
  return {
    connectionString: file === "" ? url : url.replace(`${key}${file}`, `${key}${encodeURIComponent(path)}`),
    connectionTimeoutMillis: 10_000,
    statement_timeout: 30_000,
    application_name: "verify",
  };
}

/** Step 5: reads work on the secondary. */
async function readCheck(node: string, reader: Database, sample: boolean): Promise<Check> {
  if (!sample) {
    const answer = await reader.query<{ standby: boolean; tables: string }>(
      "SELECT pg_is_in_recovery() AS standby, count(*) AS tables FROM pg_class WHERE relkind = 'r'",
    );
    return { node, what: "answers reads", ok: answer.rows[0]?.standby === true, seen: `it sees ${answer.rows[0]?.tables} tables` };
  }
  const answer = await reader.query<{ customers: string; orders: string; john: string }>(
    "SELECT (SELECT count(*) FROM customers) AS customers, (SELECT count(*) FROM orders) AS orders, (SELECT count(*) FROM customers WHERE name LIKE 'John%') AS john",
  );
  const row = answer.rows[0];
  return {
    node,
    what: `answers reads of ${SAMPLE_DATABASE}`,
    ok: Number(row?.john) >= 1,
    seen: `${row?.customers} customers, ${row?.orders} orders`,
  };
}

/** Step 5: a write on the secondary is refused, in PostgreSQL's words. */
async function refusedWrite(node: string, reader: Database, table: string): Promise<Check> {
  const seen = await reader.query(`INSERT INTO ${table} VALUES (0, 'must not be')`).then(
    () => "the write was accepted",
    (error: Error) => `ERROR:  ${error.message}`,
  );
  return { node, what: "refuses a write", ok: seen.includes(READ_ONLY_ERROR), seen };
}

/** Milliseconds until a query's column `there` is true; undefined when that takes too long. */
async function arrival(reader: Database, sql: string, clock: Clock): Promise<number | undefined> {
  const ask = (): Promise<boolean> => reader.query<{ there: boolean }>(sql).then(({ rows }) => rows[0]?.there === true);
  const { right, seconds } = await poll(ask, Boolean, { seconds: ARRIVAL_MS / 1000, every: 1, clock });
  return right ? seconds * 1000 : undefined;
}

/** The URL of every node, from the stack's outputs. */
function nodeUrls(stack: string, text: string): Record<string, string> {
  const outputs = JSON.parse(text) as {
    nodes?: Record<string, unknown>;
    primaryUrl?: string;
    secondaryUrls?: Record<string, string>;
  };
  const first = Object.keys(outputs.nodes ?? {}).find((name) => !(name in (outputs.secondaryUrls ?? {})));
  if (outputs.primaryUrl === undefined || first === undefined) {
    throw new UserError(`stack "${stack}" is not up. Run: ${npmRun("up", stack)}`);
  }
  return { ...outputs.secondaryUrls, [first]: outputs.primaryUrl };
}
