import execa from "execa";
import { createServer, type Server } from "net";
import { docker, leftovers, sqlIn } from "../docker";
import { containerName, labelsOf, volumeName } from "../../core/model/names";
import { Checkout, freePorts, OWN_IMAGE, type Ran, type StackFile } from "../integration/checkout";

jest.setTimeout(300_000);

/** Proves that what a user gets wrong is answered by one line with the way out, and that nothing is half made. */
describe("bad input", () => {
  let checkout: Checkout;
  let ports: number[];
  const nodes = (): StackFile => ({
    nodes: [
      { name: "pg1", port: ports[0] },
      { name: "pg2", port: ports[1] },
    ],
  });
  /** The last line, which is where people look. */
  const lastError = (ran: Ran): string =>
    ran.stderr
      .split("\n")
      .filter((line) => line.startsWith("error: "))
      .at(-1) ?? `no error in:\n${ran.stdout}\n${ran.stderr}`;

  beforeEach(async () => {
    checkout = await Checkout.make();
    ports = await freePorts(2);
  });
  afterEach(() => checkout.remove());

  test.each<[string, StackFile, RegExp]>([
    ["a misspelt key", { sampleDatabse: true }, /^error: config key "sampleDatabse".*Did you mean sampleDatabase\?/],
    [
      "a node name that is no DNS label",
      { nodes: [{ name: "PG_1", port: 15432 }] },
      /^error: config key "nodes\[0\]\.name" is "PG_1"; allowed is a DNS label/,
    ],
    [
      "a port out of range",
      { nodes: [{ name: "pg1", port: 70000 }] },
      /^error: config key "nodes\[0\]\.port" is 70000; allowed is a TCP port, 1 to 65535/,
    ],
  ])("%s is refused before anything is made", async (_what, config, message) => {
    const stack = checkout.addStack("dev-bad", config);
    const ran = await checkout.run("up", ["--stack", stack]);
    expect(ran.exitCode).toBe(1);
    expect(lastError(ran)).toMatch(message);
    expect(ran.stderr.trim().split("\n")).toHaveLength(1);
    expect(await leftovers(stack)).toEqual([]);
    // The next command of the clean-up needs a config that can be read.
    checkout.writeStack(stack, nodes());
  });

  test("plain pulumi refuses a bad config as well, without a stack trace", async () => {
    const stack = checkout.addStack("dev-bad", { ...nodes(), maxSlotWalKeepSize: "lots" });
    const ran = await checkout.pulumi(stack, "preview");
    expect(ran.exitCode).not.toBe(0);
    expect(ran.stdout + ran.stderr).toContain('config key "maxSlotWalKeepSize" is "lots"; allowed is a size');
    expect(ran.stdout + ran.stderr).not.toMatch(/\n\s+at .*\.ts:/);
    checkout.writeStack(stack, nodes());
  });

  test("a port that another program holds", async () => {
    const stack = checkout.addStack("dev-bad", nodes());
    const server = await new Promise<Server>((resolve) => {
      const made = createServer().listen(ports[1], "127.0.0.1", () => resolve(made));
    });
    try {
      const ran = await checkout.run("up", ["--stack", stack]);
      expect(ran.exitCode).toBe(1);
      expect(lastError(ran)).toMatch(
        new RegExp(
          `^error: port ${ports[1]} of node pg2 is taken on 127.0.0.1 by another program\\. Stop that, or give node pg2 another port in Pulumi\\.${stack}\\.yaml`,
        ),
      );
      expect(await leftovers(stack)).toEqual([]);
    } finally {
      await new Promise((resolve) => server.close(resolve));
    }
  });

  test("a Docker engine that does not answer", async () => {
    const stack = checkout.addStack("dev-bad", nodes());
    const env = { DOCKER_HOST: "unix:///nonexistent/docker.sock" };
    const ran = await checkout.run("up", ["--stack", stack], env);
    expect(ran.exitCode).toBe(1);
    expect(lastError(ran)).toMatch(
      /^error: the Docker engine at unix:\/\/\/nonexistent\/docker.sock does not answer. Start it, or unset DOCKER_HOST/,
    );
    const status = await checkout.run("status", ["--stack", stack], env);
    expect(status.exitCode).toBe(2);
    expect(lastError(status)).toMatch(/^error: the Docker engine does not answer/);
  });

  test("a stack that does not exist, an option that does not exist", async () => {
    const noStack = await checkout.run("up", ["--stack", "nosuch"]);
    expect([noStack.exitCode, lastError(noStack)]).toEqual([1, expect.stringMatching(/^error: there is no stack "nosuch"/) as string]);
    const noOption = await checkout.run("status", ["--jsn"]);
    expect([noOption.exitCode, lastError(noOption)]).toEqual([1, expect.stringMatching(/unknown option '--jsn'/) as string]);
  });

  test("a passphrase that does not fit", async () => {
    const stack = checkout.addStack("dev-bad", nodes());
    expect((await checkout.pulumi(stack, "stack", "select", stack)).exitCode).toBe(0);
    const ran = await checkout.run("up", ["--stack", stack], { PULUMI_CONFIG_PASSPHRASE: "wrong" });
    expect(ran.exitCode).toBe(1);
    expect(lastError(ran)).toMatch(/^error: .*passphrase.*PULUMI_CONFIG_PASSPHRASE/);
    expect(await leftovers(stack)).toEqual([]);
  });

  test("an image without PostgreSQL; with the right one up goes on from there", async () => {
    const image = "postgres-replica-test-without:1";
    const build = `FROM ${OWN_IMAGE}\nRUN rm -rf /usr/lib/postgresql/*/bin\n`;
    await execa("docker", ["build", "-q", "-t", image, "-"], { input: build, env: { DOCKER_BUILDKIT: "0" } });
    try {
      const stack = checkout.addStack("dev-bad", { ...nodes(), image });
      const ran = await checkout.run("up", ["--stack", stack]);
      expect(ran.exitCode).toBe(1);
      expect(lastError(ran)).toMatch(/^error: this image has no PostgreSQL: the program postgres is missing. Set the config key image/);
      checkout.writeStack(stack, nodes());
      await checkout.must("up", "--stack", stack);
      expect((await checkout.status(stack)).problems).toEqual([]);
    } finally {
      await execa("docker", ["image", "rm", "-f", image], { reject: false });
    }
  });

  test.each<[string, string, RegExp]>([
    [
      "files of somebody else",
      "echo precious >/v/letter.txt",
      /^error: the volume of node pg1 holds files that are not ours \(letter.txt\). Nothing was changed/,
    ],
    [
      "another node's cluster",
      "mkdir /v/data && echo 17 >/v/data/PG_VERSION && echo other >/v/name",
      /^error: the volume of node pg1 holds the cluster of node other. Nothing was changed/,
    ],
    [
      "a cluster of another major version",
      "mkdir /v/data && echo 12 >/v/data/PG_VERSION && echo pg1 >/v/name",
      /^error: the volume of node pg1 holds a cluster of PostgreSQL 12, but the image has PostgreSQL 17. Nothing was changed/,
    ],
  ])("a volume that holds %s is left as it is", async (_what, fill, message) => {
    const stack = checkout.addStack("dev-bad", nodes());
    const volume = volumeName(stack, "pg1");
    const labels = Object.entries(labelsOf(stack, "pg1")).flatMap(([key, value]) => ["--label", `${key}=${value}`]);
    await execa("docker", ["volume", "create", ...labels, volume]);
    const inVolume = (script: string): Promise<Ran> =>
      docker(["run", "--rm", "-v", `${volume}:/v`, "--entrypoint", "sh", OWN_IMAGE, "-c", script]);
    await inVolume(fill);
    const listing = "cd /v && find . -type f | sort | xargs sha256sum";
    const before = (await inVolume(listing)).stdout;
    const ran = await checkout.run("up", ["--stack", stack]);
    expect(ran.exitCode).toBe(1);
    expect(lastError(ran)).toMatch(message);
    expect((await inVolume(listing)).stdout).toBe(before);
    expect(before).not.toBe("");
    // Nobody but its owner takes it away.
    expect((await docker(["volume", "rm", volume])).stderr).toBe("");
  });

  test("of two clusters among the kept volumes, the newer one goes on and the other is left as it is", async () => {
    const stack = checkout.addStack("dev-bad", nodes());
    const shell = (script: string, ...mounts: string[]): Promise<Ran> =>
      docker(["run", "--rm", ...mounts.flatMap((m) => ["-v", m]), "--entrypoint", "sh", OWN_IMAGE, "-c", script]);
    const aside = (node: string): string => `${volumeName(stack, node)}-aside`;
    const keep = async (node: string): Promise<void> => {
      const ran = await shell("cp -a /v/. /k/", `${volumeName(stack, node)}:/v:ro`, `${aside(node)}:/k`);
      expect([ran.exitCode, ran.stderr]).toEqual([0, ""]);
    };
    const identifier = (node: string): Promise<string> =>
      shell(
        "/usr/lib/postgresql/*/bin/pg_controldata /v/data | sed -n 's/^Database system identifier: *//p'",
        `${volumeName(stack, node)}:/v:ro`,
      ).then((ran) => ran.stdout.trim());
    try {
      await checkout.must("up", "--stack", stack);
      await docker(["stop", containerName(stack, "pg2")]);
      await keep("pg2");
      await checkout.must("down", "--stack", stack);
      await checkout.must("up", "--stack", stack);
      const written = "CREATE TABLE kept AS SELECT 1 AS one; SELECT pg_switch_wal(); CREATE TABLE more (); SELECT pg_switch_wal();";
      expect((await sqlIn(containerName(stack, "pg1"), written)).exitCode).toBe(0);
      await docker(["stop", containerName(stack, "pg1")]);
      await keep("pg1");
      await checkout.must("down", "--stack", stack);
      for (const node of ["pg1", "pg2"]) {
        const labels = Object.entries(labelsOf(stack, node)).flatMap(([key, value]) => ["--label", `${key}=${value}`]);
        await execa("docker", ["volume", "create", ...labels, volumeName(stack, node)]);
        expect((await shell("cp -a /k/. /v/", `${volumeName(stack, node)}:/v`, `${aside(node)}:/k:ro`)).exitCode).toBe(0);
      }
      const before = await Promise.all(["pg1", "pg2"].map(identifier));
      expect(before[0]).toMatch(/^\d+$/);
      expect(before[1]).not.toBe(before[0]);
      const ran = await checkout.run("up", ["--stack", stack]);
      expect(ran.exitCode).toBe(1);
      expect(lastError(ran)).toMatch(
        new RegExp(
          `^error: the volume of node pg2 holds another cluster \\(system identifier ${before[1]}, the primary's is ${before[0]}\\). Nothing was changed`,
        ),
      );
      expect(await Promise.all(["pg1", "pg2"].map(identifier))).toEqual(before);
      expect((await sqlIn(containerName(stack, "pg1"), "SELECT one FROM kept")).stdout.trim()).toBe("1");
    } finally {
      await execa("docker", ["volume", "rm", "-f", aside("pg1"), aside("pg2")]);
    }
  });
});
