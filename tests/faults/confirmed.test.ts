import { docker } from "../docker";
import { PGNODE_PATH } from "../../core/model/pgnode";
import { HandMade } from "./handMade";

jest.setTimeout(180_000);

/** What the stack itself writes on the primary of a synchronous stack: roles, passwords, the sample. One story, test by test. */
describe("what up writes where standbys are synchronous", () => {
  const nodes = new HandMade(["pg1", "pg2"], { synchronous: { mode: "any", count: 1 } });
  beforeAll(() => nodes.beginAll());
  afterAll(() => nodes.remove());

  const write = (sql: string): ReturnType<typeof docker> =>
    docker(["exec", "-i", "-u", "postgres", nodes.container("pg1"), PGNODE_PATH, "sql"], { input: sql });
  const signal = (name: "STOP" | "CONT"): Promise<void> => nodes.signal("pg2", name, "postgres: walreceiver");
  const comment = (node: string): Promise<string> =>
    nodes.sql(node, "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = 'app'");

  test("is not done before a standby has it, so that a failover brings nothing back that was before", async () => {
    await signal("STOP");
    let done = false;
    const writing = write("COMMENT ON ROLE app IS 'second'").finally(() => (done = true));
    await nodes.until("the primary to have it", async () => (await comment("pg1")) === "second");
    // Longer than what is not waited for takes.
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    expect(done).toBe(false);
    await signal("CONT");
    expect(await writing).toEqual({ exitCode: 0, stdout: "", stderr: "" });
    await nodes.docker("kill", nodes.container("pg1"));
    await nodes.sql("pg2", "SELECT pg_promote()");
    expect(await comment("pg2")).toBe("second");
  });

  test("is done within a bound, and says so, when the standby does not confirm it or is away", async () => {
    await nodes.docker("start", nodes.container("pg1"));
    await nodes.until("pg1 to stream", async () => (await nodes.receiver("pg1")) === "streaming");
    await nodes.must("switchover", "--to", "pg1");
    await nodes.until("pg2 to stream", async () => (await nodes.receiver("pg2")) === "streaming");
    await signal("STOP");
    const line =
      /^pgnode: what up has written on node pg1 \(roles, passwords\) is confirmed by 0 of 1 synchronous standbys, (\d) of which stream: .* npm run status -- --stack /;
    const late = await write("COMMENT ON ROLE app IS 'third'");
    expect([late.exitCode, late.stderr]).toEqual([0, expect.stringMatching(line) as string]);
    await signal("CONT");
    await nodes.docker("stop", nodes.container("pg2"));
    await nodes.until("pg2 to be away", async () => (await nodes.sql("pg1", "SELECT count(*) FROM pg_stat_replication")) === "0");
    const away = await write("COMMENT ON ROLE app IS 'fourth'");
    expect([away.exitCode, line.exec(away.stderr)?.[1]]).toEqual([0, "0"]);
  });
});
