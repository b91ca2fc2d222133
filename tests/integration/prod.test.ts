import execa from "execa";
import { readFileSync } from "fs";
import { join } from "path";
import { Client } from "pg";
import { parse } from "yaml";
import { docker, sqlIn } from "../docker";
import { ROOT } from "../../operations/deploy/workspace";
import { Checkout, freePorts, psql, type StackOutputs } from "./checkout";

jest.setTimeout(300_000);

/** Every character that one of the grammars in between could take for its own. */
const AWKWARD = "'\\:@/#% $\"&?=+`{}|~^é";

/** Pulumi.prod.yaml itself, on other ports: three nodes, synchronous, data protected, TLS. */
describe("the production stack", () => {
  let checkout: Checkout;
  let stack: string;
  let outputs: StackOutputs;
  const passwords = { superuserPassword: `super${AWKWARD}`, replicationPassword: `repl${AWKWARD}`, appPassword: `app${AWKWARD}` };
  /** As node-postgres takes it: the CA's certificate by its whole path. */
  const whole = (url: string): string => url.replace("sslrootcert=", `sslrootcert=${encodeURIComponent(`${checkout.folder}/`)}`);
  const authority = (): string => readFileSync(join(checkout.folder, `ca-${stack}.pem`), "utf8");
  const container = (node: string): string => outputs.nodes[node]?.container ?? "";

  beforeAll(async () => {
    checkout = await Checkout.make();
    const { config } = parse(readFileSync(join(ROOT, "Pulumi.prod.yaml"), "utf8")) as { config: Record<string, unknown> };
    const plain = Object.fromEntries(Object.entries(config).map(([key, value]) => [key.replace("postgres-replica:", ""), value]));
    const ports = await freePorts(3);
    const nodes = (plain["nodes"] as { name: string }[]).map((node, i) => ({ ...node, port: ports[i] }));
    stack = checkout.addStack("prod", { ...plain, nodes });
  });
  afterAll(async () => {
    await checkout.run("down", ["--stack", stack]);
    await checkout.dropVolumes(stack);
    await checkout.remove();
  });

  test("up refuses to run until its own secrets are set, says how, and makes nothing", async () => {
    const ran = await checkout.run("up", ["--stack", stack]);
    expect(ran.exitCode).toBe(1);
    expect(ran.stderr).toContain(`pulumi config set --stack ${stack} --secret appPassword`);
    const made = await docker(["ps", "-aq", "--filter", `label=postgres-replica.stack=${stack}`]);
    expect(made.stdout).toBe("");
  });

  test("secrets init makes the ones that are missing, encrypted, once, and shows none", async () => {
    const file = (): string => readFileSync(join(checkout.folder, `Pulumi.${stack}.yaml`), "utf8");
    const first = await checkout.must("secrets", "init", "--stack", stack);
    const made = file();
    expect(made.match(/^ +postgres-replica:\w+Password:\n +secure: /gm)).toHaveLength(3);
    expect((await checkout.must("secrets", "init", "--stack", stack)).stdout).toContain("is set already");
    expect(file()).toBe(made);
    const values = JSON.parse((await checkout.pulumi(stack, "config", "--json", "--show-secrets")).stdout) as Record<
      string,
      { value: string }
    >;
    for (const key of Object.keys(passwords)) {
      const { value = "" } = values[`postgres-replica:${key}`] ?? {};
      expect(value).toMatch(/^[A-Za-z0-9_-]{32}$/);
      expect(first.stdout + first.stderr + made).not.toContain(value);
    }
  });

  test("up refuses a secret that is set in plain text", async () => {
    const set = await checkout.pulumi(stack, "config", "set", "--plaintext", "appPassword", "open");
    expect(set.exitCode).toBe(0);
    const ran = await checkout.run("up", ["--stack", stack]);
    expect(ran.exitCode).toBe(1);
    expect(ran.stdout + ran.stderr).toContain('config key "appPassword" is plain text');
  });

  test("up builds three nodes with passwords of every awkward character, the secondaries side by side", async () => {
    for (const [key, value] of Object.entries(passwords)) {
      // On standard input, as a user would who does not want it in the shell's history.
      const script = 'eval "$("$0" scripts/run.cjs env --stack "$1")" && exec pulumi config set --secret "$2"';
      const set = await execa("/bin/sh", ["-c", script, process.execPath, stack, key], {
        cwd: checkout.folder,
        env: checkout.environment(),
        input: value,
      });
      expect(set.exitCode).toBe(0);
    }
    const ran = await checkout.must("up", "--stack", stack);
    outputs = await checkout.outputs(stack);
    const at = (text: string): number => {
      expect(ran.stdout).toContain(text);
      return ran.stdout.indexOf(text);
    };
    expect(at("pg3-basebackup creating")).toBeLessThan(at("pg2-container created"));
    expect(at("pg2-basebackup creating")).toBeLessThan(at("pg3-container created"));
    const status = await checkout.status(stack);
    expect(status.problems).toEqual([]);
    expect(status.nodes.map((n) => [n.role, n.syncState])).toEqual([
      ["primary", null],
      ["standby", "quorum"],
      ["standby", "quorum"],
    ]);
  });

  test("every URL works with those passwords, in libpq and in node-postgres", async () => {
    for (const url of [outputs.writerUrl, outputs.readerUrl, outputs.primaryUrl, ...Object.values(outputs.secondaryUrls)]) {
      const ran = await psql(url, "SELECT 'in as ' || current_user;", authority());
      expect([ran.stderr, ran.stdout]).toEqual(["", expect.stringContaining("in as app") as string]);
    }
    const client = new Client({ connectionString: whole(outputs.primaryUrl) });
    await client.connect();
    await client.end();
    await checkout.must("verify", "--stack", stack);
  });

  test("the superuser's password works over TCP, a wrong one does not", async () => {
    const { port } = outputs.nodes["pg1"] ?? {};
    const login = async (password: string): Promise<string> => {
      const ssl = { ca: authority() };
      const client = new Client({ host: "127.0.0.1", port: port ?? 0, user: "postgres", password, database: "postgres", ssl });
      return client.connect().then(
        () => client.end().then(() => "in"),
        (error: Error) => error.message,
      );
    };
    expect(await login(passwords.superuserPassword)).toBe("in");
    expect(await login("wrong")).toContain("password authentication failed");
  });

  test("a commit waits while no standby can confirm it, and goes through when one can", async () => {
    await execa("docker", ["stop", container("pg2"), container("pg3")]);
    const client = new Client({ connectionString: whole(outputs.writerUrl).replace(/@[^/]*/, `@127.0.0.1:${outputs.nodes["pg1"]?.port}`) });
    await client.connect();
    let committed = false;
    try {
      const insert = client.query("CREATE TABLE kept (note text); INSERT INTO kept VALUES ('confirmed')").then(() => (committed = true));
      let waiting = "";
      for (let i = 0; i < 50 && waiting !== "SyncRep"; i++) {
        waiting = (
          await sqlIn(container("pg1"), "SELECT wait_event FROM pg_stat_activity WHERE usename = 'app' AND wait_event = 'SyncRep'")
        ).stdout;
      }
      expect(waiting).toBe("SyncRep");
      await new Promise((resolve) => setTimeout(resolve, 1_500));
      expect(committed).toBe(false);
      await execa("docker", ["start", container("pg3")]);
      await insert;
      expect(committed).toBe(true);
    } finally {
      await client.end();
      await execa("docker", ["start", container("pg2"), container("pg3")]);
    }
  });

  test("down after a change of primary keeps the data volumes, the next up begins with the newest of them, without another base backup", async () => {
    const nodes = ["pg1", "pg2", "pg3"];
    const born = (): Promise<string[]> =>
      Promise.all(
        nodes.map(async (node) => {
          const ran = await docker(["exec", container(node), "stat", "-c", "%w %i", "/var/lib/pgnode/data/PG_VERSION"]);
          return `${node} ${ran.exitCode} ${ran.stdout}`;
        }),
      );
    const before = await born();
    expect(before.join("\n")).toMatch(/^(pg\d 0 \d.*\n?){3}$/);
    await checkout.must("switchover", "--to", "pg3", "--stack", stack);
    await sqlIn(container("pg3"), "CREATE TABLE written_elsewhere AS SELECT 1 AS one", { database: "app" });
    const down = await checkout.must("down", "--stack", stack);
    for (const node of nodes) {
      expect(down.stderr).toMatch(new RegExp(`protectData is on: kept .*volume postgres-replica-${stack}-${node}-data`));
    }
    await checkout.must("up", "--stack", stack);
    expect(await born()).toEqual(before);
    expect(await checkout.status(stack)).toMatchObject({ primary: "pg3", problems: [] });
    const row = await psql(outputs.readerUrl, "SELECT note FROM kept;", authority());
    expect(row.stdout).toContain("confirmed");
    for (const node of nodes) {
      expect((await sqlIn(container(node), "SELECT one FROM written_elsewhere", { database: "app" })).stdout.trim()).toBe("1");
    }
    const preview = await checkout.pulumi(stack, "preview", "--expect-no-changes");
    expect([preview.exitCode, preview.stderr]).toEqual([0, ""]);
  });
});
