import type { Ran } from "../integration/checkout";
import { PlainStack } from "./plainStack";

jest.setTimeout(400_000);

/**
 * What was removed by hand comes back with `pulumi up --refresh`, as a standby of the same cluster and never by initdb;
 * success is said when it streams.
 */
describe("what somebody has removed by hand", () => {
  let plain: PlainStack;
  beforeAll(async () => {
    plain = await PlainStack.build("heal", { sampleDatabase: true });
  });
  afterAll(() => plain.remove());

  /** After `up --refresh` both nodes are well, the rows are there, and nothing is left to do. */
  async function healed(primary: string, standby: string, other: () => Promise<void> = () => Promise.resolve()): Promise<Ran> {
    const ran = await plain.up("--refresh");
    await plain.expectStreaming(standby, primary);
    await plain.expectNewRow(primary, standby);
    expect(await plain.sql(standby, "SELECT count(*) FROM customers WHERE name = 'John Doe'")).toBe("1");
    await other();
    await plain.expectIdleUp();
    return ran;
  }

  test("the container of a standby; the primary goes on as it was, and the data is the same", async () => {
    const primary = await plain.docker("inspect", "-f", "{{.Id}} {{.State.StartedAt}}", plain.container("pg1"));
    const birth = await plain.dataBirth("pg2");
    await plain.docker("rm", "-f", plain.container("pg2"));
    // Pulumi believes its state; that says so, with the way out.
    const warning = `removed from Docker by hand: container ${plain.container("pg2")}. A refresh makes it anew, and nothing else does: pulumi up --refresh`;
    expect(await plain.preview()).toContain(warning);
    expect((await plain.up()).stdout).toContain(warning);
    expect(await plain.docker("ps", "-aq", "--filter", `name=${plain.container("pg2")}$`)).toBe("");

    await healed("pg1", "pg2", async () => {
      expect(await plain.dataBirth("pg2")).toBe(birth);
      expect(await plain.docker("inspect", "-f", "{{.Id}} {{.State.StartedAt}}", plain.container("pg1"))).toBe(primary);
    });
  });

  test("container and volume of a standby: a clone of the primary fills the new volume", async () => {
    await plain.docker("rm", "-f", plain.container("pg2"));
    await plain.docker("volume", "rm", plain.volume("pg2"));
    await healed("pg1", "pg2");
  });

  test("the network, with both containers out of it", async () => {
    const birth = await plain.dataBirth("pg1");
    const network = `postgres-replica-${plain.stack}`;
    for (const node of ["pg1", "pg2"]) {
      await plain.docker("network", "disconnect", "-f", network, plain.container(node));
    }
    await plain.docker("network", "rm", network);
    await healed("pg1", "pg2", async () => expect(await plain.dataBirth("pg1")).toBe(birth));
  });

  test("container and volume of the node that the cluster began with, after the role has moved: no initdb", async () => {
    await plain.moveRole("pg1", "pg2");
    await plain.docker("rm", "-f", plain.container("pg1"));
    await plain.docker("volume", "rm", plain.volume("pg1"));
    const cluster = await plain.sql("pg2", "SELECT system_identifier FROM pg_control_system()", "postgres");
    await healed("pg2", "pg1", async () => {
      expect(await plain.sql("pg1", "SELECT system_identifier FROM pg_control_system()", "postgres")).toBe(cluster);
    });
  });

  test("a volume while no node is primary: up fails, says so, and the node stays down until there is one", async () => {
    await plain.docker("stop", plain.container("pg2"));
    await plain.docker("rm", "-f", plain.container("pg1"));
    await plain.docker("volume", "rm", plain.volume("pg1"));
    const ran = await plain.pulumi(["up", "--yes", "--skip-preview", "--refresh"]);
    expect(ran.exitCode).not.toBe(0);
    expect(ran.stdout).toMatch(/the volume of node pg1 is empty, and no other node is primary to fill it from\. It stays down/);
    const data = await plain.docker("run", "--rm", "--entrypoint", "ls", "-v", `${plain.volume("pg1")}:/v`, await plain.image("pg2"), "/v");
    expect(data.split("\n")).not.toContain("data");

    await plain.docker("start", plain.container("pg2"));
    await plain.until("pg2", "SELECT pg_is_in_recovery()", "f");
    await healed("pg2", "pg1");
  });

  test("a stack whose primary does not answer any more goes by one destroy", async () => {
    // Its server is stopped in the middle of what it does: the container runs, and nobody is let in.
    const writer = (await plain.sql("pg1", "SELECT pg_is_in_recovery()", "postgres")) === "f" ? "pg1" : "pg2";
    await plain.docker("kill", "--signal", "STOP", plain.container(writer));
    await plain.must("destroy", "--yes", "--skip-preview");
  });
});
