import execa from "execa";
import { symlinkSync } from "fs";
import { join } from "path";
import { docker } from "../docker";
import { ROOT } from "../../operations/deploy/workspace";
import { copyTree, OWN_IMAGE } from "../integration/checkout";
import { PlainStack } from "./plainStack";

jest.setTimeout(600_000);

/** The last commit of version 0.1.0. */
const FIRST = "ae4b2b8";
/** The last commit of version 0.2.0. */
const SECOND = "0860f70";
/** The one image name that version 0.1.0 knows. */
const OLD_IMAGE = "postgres-replica:17";

/** A stack that an older version has built goes on with this version, by plain `pulumi up`. */
describe("a stack", () => {
  let tagged = false;
  beforeAll(async () => {
    for (const commit of [FIRST, SECOND]) {
      const there = await execa("git", ["cat-file", "-e", `${commit}^{commit}`], { cwd: ROOT, reject: false });
      if (there.exitCode !== 0) {
        throw new Error(`this clone has no commit ${commit}. Fetch the whole history: git fetch --unshallow`);
      }
    }
    if ((await docker(["image", "inspect", OLD_IMAGE])).exitCode !== 0) {
      tagged = (await docker(["tag", OWN_IMAGE, OLD_IMAGE])).exitCode === 0;
    }
  });
  afterAll(async () => {
    if (tagged) {
      await docker(["image", "rm", OLD_IMAGE]);
    }
  });

  test.each([
    ["of version 0.1.0, as it was built", FIRST, "pg1", "keeps the role"],
    ["of version 0.1.0, after a failover, with pg2 as primary", FIRST, "pg2", "keeps the role"],
    ["of version 0.2.0, after a failover", SECOND, "pg2", "hands the role over before"],
  ])("%s, is taken on: no volume replaced, no row lost, standbys before the primary", async (_when, commit, primary, role) => {
    const plain = await PlainStack.make("upgrade", { sampleDatabase: true }, { tree: treeOf(commit), nodes: 3 });
    try {
      await plain.up();
      const standbys = ["pg1", "pg2", "pg3"].filter((node) => node !== primary);
      if (primary !== "pg1") {
        await plain.moveRole("pg1", primary);
      }
      await plain.sql(primary, "INSERT INTO customers (email, name) VALUES ('old@example.com', 'Old')");
      const births = await dataOf(plain);
      const before = await plain.containers();

      await plain.take(copyTree);
      const preview = await plain.preview();
      expect(preview).not.toMatch(/-data +(replace|delete|create)/);
      expect(preview).not.toMatch(/-(basebackup|init) +(replace|delete|update)/);
      expect(await plain.containers()).toEqual(before);

      await plain.up();
      expect(await dataOf(plain)).toEqual(births);
      const recovering = await Promise.all(standbys.map((node) => plain.sql(node, "SELECT pg_is_in_recovery()", "postgres")));
      // The node's program of version 0.1.0 would not come back beside a new primary by itself.
      expect([...recovering].sort()).toEqual(role === "keeps the role" ? ["t", "t"] : ["f", "t"]);
      const now = standbys[recovering.indexOf("f")] ?? primary;
      for (const node of ["pg1", "pg2", "pg3"].filter((name) => name !== now)) {
        await plain.expectStreaming(node, now);
        expect(await plain.sql(node, "SELECT count(*) FROM customers WHERE email = 'old@example.com'")).toBe("1");
      }
      expect(await plain.docker("inspect", "-f", "{{.Config.Image}}", plain.container(primary))).toBe(OWN_IMAGE);
      const reads = "has_function_privilege(rolname, 'pg_read_binary_file(text)', 'EXECUTE')";
      const roles = `SELECT rolname, ${reads} FROM pg_roles WHERE rolname IN ('replica_user', 'rewind_user') ORDER BY 1`;
      expect(await plain.sql(now, roles, "postgres")).toBe("replica_user|f\nrewind_user|t");
      await expectOneAtATime(plain, primary);
      await plain.expectIdleUp();
      expect(await plain.sql(now, "SELECT count(*) FROM customers")).toBe("4");
    } finally {
      await plain.remove();
    }
  });

  /** The last to be made anew is the primary, and each was made after the one before it had started. */
  async function expectOneAtATime(plain: PlainStack, primary: string): Promise<void> {
    const times = await Promise.all(
      plain.nodes.map(async ({ name }) => {
        const [created = "", started = ""] = (
          await plain.docker("inspect", "-f", "{{.Created}} {{.State.StartedAt}}", plain.container(name))
        ).split(" ");
        return { name, created: Date.parse(created), started: Date.parse(started) };
      }),
    );
    times.sort((a, b) => a.created - b.created);
    expect(times.at(-1)?.name).toBe(primary);
    times.slice(1).forEach((node, i) => expect(node.created).toBeGreaterThan(times[i]?.started ?? NaN));
  }

  const dataOf = async (plain: PlainStack): Promise<Record<string, string>> =>
    Object.fromEntries(await Promise.all(plain.nodes.map(async ({ name }) => [name, await plain.dataBirth(name)] as const)));
});

/** The program of a commit. */
const treeOf =
  (commit: string) =>
  async (folder: string): Promise<void> => {
    await execa("sh", ["-c", 'git archive "$1" | tar -x -C "$2"', "sh", commit, folder], { cwd: ROOT });
    symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
  };
