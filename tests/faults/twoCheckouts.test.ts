import { HandMade } from "./handMade";

jest.setTimeout(300_000);

/** A switchover that was interrupted in one checkout, and what happens to the stack before that one goes on. One story, test by test. */
describe("an interrupted switchover", () => {
  const nodes = new HandMade(["pg1", "pg2", "pg3"]);
  beforeAll(() => nodes.beginAll());
  afterAll(() => nodes.remove());

  const writers = async (): Promise<string[]> =>
    (await nodes.status()).nodes.filter(({ role }) => role === "primary").map(({ name }) => name);
  /** Runs a switchover, which is killed when it has stopped the primary. */
  async function interrupted(to: string): Promise<void> {
    const ran = await nodes.run("switchover", ["--to", to], 'case "$*" in "stop "*) "$DOCKER" "$@"; kill -9 $PPID; exit 1 ;; esac');
    expect(ran.exitCode).not.toBe(0);
    expect(ran.stderr.trimEnd().split("\n").at(-1)).toMatch(/^stopping pg\d; /);
  }

  test("does not go on while a node is silent that may have become primary meanwhile", async () => {
    await interrupted("pg2");
    await nodes.docker("pause", nodes.container("pg3"));
    const refused = await nodes.run("switchover", ["--to", "pg2"]);
    await nodes.docker("unpause", nodes.container("pg3"));
    expect([refused.exitCode, refused.stderr]).toEqual([
      1,
      expect.stringMatching(
        /^error: an interrupted switchover from pg1 to pg2 cannot go on: pg3 does not answer, and may have become primary meanwhile\. /m,
      ),
    ]);
    expect(await writers()).toEqual([]);
  });

  test("goes on when all others answer", async () => {
    const { stdout } = await nodes.must("switchover", "--to", "pg2", "--json");
    expect(JSON.parse(stdout)).toMatchObject({ promoted: "pg2", bytesLost: 0 });
    expect(await writers()).toEqual(["pg2"]);
  });

  test("is forgotten when the role has moved on from another checkout: nobody is promoted beside a primary that is silent", async () => {
    await interrupted("pg1");
    await nodes.elsewhere(async () => {
      expect(JSON.parse((await nodes.must("failover", "--json")).stdout)).toMatchObject({ promoted: "pg1" });
      await nodes.until("pg3 to follow", async () => (await nodes.receiver("pg3")) === "streaming");
      await nodes.must("switchover", "--to", "pg3");
    });
    await nodes.sql("pg3", "CREATE TABLE acknowledged AS SELECT 1 AS one");
    await nodes.docker("pause", nodes.container("pg3"));
    const refused = await nodes.run("switchover", ["--to", "pg1"]);
    await nodes.docker("unpause", nodes.container("pg3"));
    expect([refused.exitCode, refused.stderr]).toEqual([
      1,
      expect.stringMatching(/^error: switchover refused: no node is primary\. Run: npm run failover /m),
    ]);
    expect(await writers()).toEqual(["pg3"]);
    expect(await nodes.sql("pg3", "SELECT one FROM acknowledged")).toBe("1");
  });
});
