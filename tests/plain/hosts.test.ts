import execa from "execa";
import { currentDockerHost } from "../../operations/engine/dockerHost";
import { docker, leftovers } from "../docker";
import { type FarHost, Lan } from "../faults/lan";
import type { Status } from "../../operations/look/documents";
import type { Ran } from "../integration/checkout";
import { PlainStack } from "./plainStack";

jest.setTimeout(600_000);

/** One story: a node here, one on each of two other hosts, which are reached by ssh; any one standby confirms a commit. */
describe("a stack on three Docker hosts", () => {
  let lan: Lan;
  let plain: PlainStack;
  let second: FarHost;
  let third: FarHost;

  /** Runs one of the project's commands, as a person on this machine would. */
  const command = async (name: string, ...args: string[]): Promise<Ran> => {
    const ran = await execa("node", ["scripts/run.cjs", name, ...args, "--stack", plain.stack], {
      ...{ cwd: plain.folder, env: plain.environment(), extendEnv: false, reject: false, stdin: "ignore", timeout: 300_000 },
    });
    return { exitCode: ran.exitCode, stdout: ran.stdout, stderr: ran.stderr };
  };
  const must = async (name: string, ...args: string[]): Promise<Ran> => {
    const ran = await command(name, ...args);
    if (ran.exitCode !== 0) {
      throw new Error(`${name} ended with ${ran.exitCode}: ${ran.stdout}${ran.stderr}`);
    }
    return ran;
  };
  const status = async (): Promise<Status> => JSON.parse((await command("status", "--json")).stdout) as Status;
  const roles = async (): Promise<Record<string, string>> =>
    Object.fromEntries((await status()).nodes.map((node) => [node.name, node.role]));
  const untilRoles = async (wanted: Record<string, string>, healthy = false): Promise<void> => {
    const end = Date.now() + 90_000;
    let found = await status();
    const right = (): boolean => found.nodes.every(({ name, role }) => wanted[name] === role) && (!healthy || found.problems.length === 0);
    while (!right() && Date.now() < end) {
      await new Promise((resolve) => setTimeout(resolve, 500));
      found = await status();
    }
    expect([Object.fromEntries(found.nodes.map((node) => [node.name, node.role])), healthy ? found.problems : []]).toEqual([wanted, []]);
  };

  beforeAll(async () => {
    lan = await Lan.make();
    second = await lan.host({ ssh: true });
    third = await lan.host({ ssh: true });
    plain = await PlainStack.make("hosts", {
      ...{ sampleDatabase: true, tls: "generated", synchronous: { mode: "any", count: 1 } },
      nodes: [
        { name: "pg1", port: 15432, address: lan.address },
        { name: "pg2", port: 15432, address: second.address, dockerHost: second.ssh, memory: "1GB", cpus: 1.5, sharedMemory: "128MB" },
        { name: "pg3", port: 15433, address: third.address, dockerHost: third.ssh },
      ],
    });
    plain.sockets.set("pg2", second.socket).set("pg3", third.socket);
    // The user's own choice of a context leads to yet another engine than DOCKER_HOST, which wins.
    const context = { DOCKER_CONFIG: lan.folder, DOCKER_CONTEXT: "elsewhere" };
    await execa("docker", ["context", "create", "elsewhere", "--docker", `host=${third.socket}`], { env: { DOCKER_CONFIG: lan.folder } });
    plain.variables = { ...lan.environment(), ...context, DOCKER_HOST: currentDockerHost() };
    await plain.up();
  });
  afterAll(async () => {
    try {
      await plain?.remove();
    } finally {
      await lan?.remove();
    }
  });

  test("streams from one to the others by their addresses, and is up to date at once", async () => {
    await plain.expectStreaming("pg2", "pg1");
    await plain.expectStreaming("pg3", "pg1");
    await plain.expectIdleUp();
    await untilRoles({ pg1: "primary", pg2: "standby", pg3: "standby" }, true);
  });

  test("is where the config and DOCKER_HOST say, whatever DOCKER_CONTEXT is", async () => {
    const at = async (host: string): Promise<string[]> =>
      (await leftovers(plain.stack, [host])).filter((line) => line.startsWith("container"));
    expect([await at(currentDockerHost()), await at(second.socket), await at(third.socket)]).toEqual(
      ["pg1", "pg2", "pg3"].map((node) => [`container ${plain.container(node)}`]),
    );
  });

  test("speaks to its own by TLS alone", async () => {
    const plainText = "SELECT count(*) FROM pg_stat_replication JOIN pg_stat_ssl USING (pid) WHERE NOT ssl";
    expect(await plain.sql("pg1", plainText, "postgres")).toBe("0");
    const rules = "SELECT count(*) FROM pg_hba_file_rules WHERE type NOT IN ('local', 'hostssl')";
    expect(await plain.sql("pg2", rules, "postgres")).toBe("0");
    const modes = "SELECT current_setting('primary_conninfo') LIKE '%sslmode=verify-full%'";
    expect(await plain.sql("pg2", modes, "postgres")).toBe("t");
  });

  test("a node has the memory and the CPUs of the config, and what it logs never fills a disk", async () => {
    const format = "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.ShmSize}} {{json .HostConfig.LogConfig.Config}}";
    const limits = async (host: string, node: string): Promise<string> =>
      (await docker(["inspect", "-f", format, plain.container(node)], { host })).stdout.trim();
    const log = JSON.stringify({ "max-file": "5", "max-size": "20m" });
    expect(await limits(second.socket, "pg2")).toBe(`${1 << 30} 1500000000 ${128 << 20} ${log}`);
    expect(await limits(third.socket, "pg3")).toBe(`0 0 ${256 << 20} ${log}`);
  });

  test("lets in as a standby only those that are its own: of the others each host is named by its address", async () => {
    const rules = await plain.sql(
      "pg2",
      "SELECT string_agg(address || '/' || netmask, ' ') FROM pg_hba_file_rules WHERE 'replication' = ANY (database)",
      "postgres",
    );
    expect(rules).toContain(`${lan.address}/255.255.255.255`);
    expect(rules).toContain(`${third.address}/255.255.255.255`);
    expect(rules).not.toContain("10.77.0.0");
  });

  test("shares few connections to a host among all that is run there", async () => {
    await plain.preview();
    expect(second.logins()).toBeLessThan(10);
  });

  test("while a host is away nothing is a change; what there is to change elsewhere is done, and the rest is said and left", async () => {
    await third.link("down");
    try {
      const preview = await plain.must("preview", "--expect-no-changes");
      expect(preview.stdout + preview.stderr).toContain(`the Docker engine at ${third.ssh} does not answer`);
      await plain.up("--expect-no-changes");
      await untilRoles({ pg1: "primary", pg2: "standby", pg3: "unknown" });

      plain.configure({ parameters: { work_mem: "7MB" } });
      const failed = await plain.pulumi(["up", "--yes", "--skip-preview"]);
      expect(failed.exitCode).not.toBe(0);
      expect(failed.stdout).toContain(`the Docker engine of node pg3 at ${third.ssh} does not answer`);
      expect(await plain.sql("pg1", "SHOW work_mem", "postgres")).toBe("7MB");
      expect(await plain.sql("pg2", "SHOW work_mem", "postgres")).toBe("7MB");
      expect(await plain.sql("pg3", "SHOW work_mem", "postgres")).toBe("4MB");
      expect(await plain.preview()).toMatch(/pg3-config/);
    } finally {
      await third.link("up");
    }
    await untilRoles({ pg1: "primary", pg2: "standby", pg3: "standby" }, true);
    await plain.up();
    expect(await plain.sql("pg3", "SHOW work_mem", "postgres")).toBe("7MB");
    await plain.expectZeroDiff();
  });

  test("the role moves to another host, and every string still leads there", async () => {
    await must("switchover", "--to", "pg2");
    await untilRoles({ pg1: "standby", pg2: "primary", pg3: "standby" }, true);
    await plain.expectZeroDiff();
  });

  test("the host of the primary dies: nobody is promoted until a person says that it cannot write; then nothing confirmed is lost, and what comes back is a standby", async () => {
    await plain.sql("pg2", "CREATE TABLE confirmed AS SELECT 1 AS id", "ecommerce");
    await second.link("down");
    await second.kill();
    const refused = await command("failover");
    expect([refused.exitCode, refused.stderr]).toEqual([1, expect.stringContaining(`pg2 at ${second.ssh}`)]);
    expect(refused.stderr).toContain("--i-have-fenced pg2");
    expect(await roles()).toEqual({ pg1: "standby", pg2: "unknown", pg3: "standby" });
    // Not one that answers.
    expect((await command("failover", "--i-have-fenced", "pg1")).stderr).toContain("node pg1 answers");

    // What the lost primary had been told of its standbys, nobody can read: a person gives that up as well.
    expect((await command("failover", "--i-have-fenced", "pg2")).stderr).toContain("it lacks no acknowledged commit, if");
    const giveUp = ["--i-have-fenced", "pg2", "--allow-data-loss"];
    const done = JSON.parse((await must("failover", ...giveUp, "--json")).stdout) as { promoted: string };
    expect(["pg1", "pg3"]).toContain(done.promoted);
    expect(await plain.sql(done.promoted, "SELECT count(*) FROM confirmed")).toBe("1");
    await plain.sql(done.promoted, "INSERT INTO confirmed VALUES (2)");
    await plain.must("preview", "--expect-no-changes");

    // Docker starts the old primary again as soon as its host is there, before anybody can ask it anything.
    await second.start();
    const end = Date.now() + 20_000;
    let writable = 0;
    while (Date.now() < end) {
      const said = await plain.sql("pg2", "SELECT pg_is_in_recovery()", "postgres").catch(() => "");
      writable += said === "f" ? 1 : 0;
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
    await second.link("up");
    await untilRoles({ pg1: "standby", pg2: "standby", pg3: "standby", [done.promoted]: "primary" }, true);
    process.stderr.write(`        while it was cut off, the old primary said ${writable} times that it can write\n`);
    expect(await plain.sql("pg2", "SELECT count(*) FROM confirmed")).toBe("2");
    await plain.expectZeroDiff();
  });

  test("a host is gone for good: its node is forgotten, and the next up drops its slot on the others", async () => {
    const nodes = plain.nodes;
    const primary = (await status()).primary ?? "";
    expect(primary).not.toBe("pg2");
    const stays = nodes.filter(({ name }) => name !== "pg2");
    // Not while it answers, and not while the config has it.
    expect((await command("forget", "pg2")).stderr).toContain("is in nodes in");
    plain.configure({ nodes: stays });
    expect((await command("forget", "pg2")).stderr).toContain("answers, so there is nothing to forget");
    await second.link("down");
    await second.kill();
    expect((await plain.pulumi(["up", "--yes", "--skip-preview"])).exitCode).not.toBe(0);
    await must("forget", "pg2");
    await plain.up();
    expect(await plain.sql(primary, "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'pg2'", "postgres")).toBe("0");
    await untilRoles(Object.fromEntries(stays.map(({ name }) => [name, name === primary ? "primary" : "standby"])), true);
    await plain.expectZeroDiff();
  });
});
