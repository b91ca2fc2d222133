import { rmSync } from "fs";
import { join } from "path";
import { docker, sqlIn } from "../docker";
import { acquireLock } from "../../operations/change/lock";
import { currentDockerHost } from "../../operations/engine/dockerHost";
import { containerName } from "../../core/model/names";
import { Checkout, freePorts, psql, type Ran, type StackOutputs } from "./checkout";

jest.setTimeout(600_000);

/** A stack whose state is lost is taken over by `npm run adopt`; the tests are one story. */
describe("a stack whose state was lost", () => {
  let checkout: Checkout;
  let stack: string;
  let ports: number[];
  let before: StackOutputs;
  const containers = (): string[] => ["pg1", "pg2"].map((node) => containerName(stack, node));
  /** IDs and when they were started: what changes when somebody touches a container. */
  const running = async (): Promise<string> =>
    (await docker(["inspect", "--format", "{{.Id}} {{.State.StartedAt}} {{.State.Status}}", ...containers()])).stdout;
  const rows = async (node: string): Promise<string> =>
    (await sqlIn(containerName(stack, node), "SELECT count(*) FROM kept", { database: "app" })).stdout;
  const loseState = (): void => rmSync(join(checkout.folder, ".state"), { recursive: true });
  const passwordIn = (url: string): string => decodeURIComponent(new URL(url.replace(/@.*\//, "@host/")).password);
  const adopt = (env: Record<string, string> = {}): Promise<Ran> => checkout.run("adopt", ["--stack", stack], env);
  const config = (): { nodes: { name: string; port: number }[] } => ({
    nodes: ["pg1", "pg2"].map((name, i) => ({ name, port: ports[i] ?? 0 })),
  });

  async function expectNoDiff(): Promise<void> {
    for (const args of [
      ["preview", "--expect-no-changes"],
      ["refresh", "--yes", "--skip-preview", "--expect-no-changes"],
      ["preview", "--expect-no-changes"],
    ]) {
      const ran = await checkout.pulumi(stack, ...args);
      expect(`${ran.exitCode} ${ran.stdout}\n${ran.stderr}`).toMatch(/^0 /);
    }
  }

  /** Adopt must refuse with one line and leave everything alone. */
  async function expectRefusal(words: RegExp): Promise<void> {
    const asItWas = await running();
    const ran = await adopt();
    expect(ran.exitCode).toBe(1);
    expect(ran.stderr.trim().split("\n")).toHaveLength(1);
    expect(ran.stderr).toMatch(words);
    expect(await running()).toBe(asItWas);
  }

  beforeAll(async () => {
    checkout = await Checkout.make();
    ports = await freePorts(3);
    stack = checkout.addStack("dev-adopt", config());
    await checkout.must("up", "--stack", stack);
    before = await checkout.outputs(stack);
    const wrote = await psql(before.writerUrl, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n;");
    expect(wrote.stderr).toBe("");
  });
  afterAll(() => checkout.remove());

  test("one whose state is there is not adopted", async () => {
    await expectRefusal(/its state is not empty \(\d+ resources, 2 of them containers\).*npm run up/);
  });

  test("without its state up refuses and names adopt, although the passphrase is gone as well", async () => {
    loseState();
    const asItWas = await running();
    const ran = await checkout.run("up", ["--stack", stack]);
    expect(ran.exitCode).toBe(1);
    expect(ran.stderr).toContain(`npm run adopt -- --stack ${stack}`);
    expect(await running()).toBe(asItWas);
  });

  test("adopt refuses in one line what is not the stack of the config, and while somebody else is at work", async () => {
    checkout.writeStack(stack, { nodes: [...config().nodes, { name: "pg3", port: ports[2] }] });
    await expectRefusal(/node pg3 of the config has no container/);
    checkout.writeStack(stack, { nodes: config().nodes.slice(0, 1) });
    await expectRefusal(/container postgres-replica-dev-adopt-\w+-pg2 is of stack .*, and nodes in its config has no such node/);
    checkout.writeStack(stack, config());

    const lock = await acquireLock({ stack, engines: [currentDockerHost()] }, "somebody");
    try {
      await expectRefusal(/somebody .* is at work on stack/);
    } finally {
      await lock.release();
    }

    const other = checkout.addStack("dev-adopt-none", config());
    const none = await checkout.run("adopt", ["--stack", other]);
    expect(none.exitCode).toBe(1);
    expect(none.stderr).toMatch(/there is no container of stack .*npm run up/);
  });

  test("adopt refuses a password that cannot be one, and never shows it", async () => {
    const ran = await adopt({ APP_PASSWORD: "two\nlines" });
    expect(ran.exitCode).toBe(1);
    expect(ran.stderr).toMatch(/APP_PASSWORD holds 9 characters/);
    expect(ran.stderr).not.toContain("two");
  });

  test("adopt takes it over without touching a container, keeps the password that was given and says which is new", async () => {
    const asItWas = await running();
    const ran = await adopt({ APP_PASSWORD: passwordIn(before.writerUrl) });
    expect(ran.stderr).toMatch(/was adopted: pg1, pg2/);
    expect(ran.exitCode).toBe(0);
    expect(ran.stderr).toMatch(/password of postgres \(superuserPassword\) was set anew/);
    expect(ran.stderr).not.toMatch(/appPassword|replicationPassword/);
    expect(ran.stderr + ran.stdout).not.toContain(passwordIn(before.writerUrl));
    expect(await running()).toBe(asItWas);
    await expectNoDiff();
    expect(await running()).toBe(asItWas);
    expect(await rows("pg1")).toBe("1000");
    expect(await rows("pg2")).toBe("1000");
    expect(await checkout.outputs(stack)).toEqual(before);
    expect((await psql(before.writerUrl, "INSERT INTO kept VALUES (1001);")).stderr).toBe("");
  });

  test("the adopted stack fails over, takes the old primary back, and shows no diff after either", async () => {
    await docker(["kill", containerName(stack, "pg1")]);
    await checkout.must("failover", "--stack", stack);
    await expectNoDiff();
    await checkout.must("rejoin", "pg1", "--stack", stack);
    await expectNoDiff();
    const status = await checkout.status(stack);
    expect(status.primary).toBe("pg2");
    expect(status.problems).toEqual([]);
  });

  test("while nobody is primary adopt refuses", async () => {
    loseState();
    await docker(["stop", containerName(stack, "pg2")]);
    await expectRefusal(/no node is primary.*npm run status/);
    await docker(["start", containerName(stack, "pg2")]);
    for (let i = 0; i < 60 && (await checkout.status(stack)).problems.length > 0; i += 1) {
      await new Promise((resolve) => setTimeout(resolve, 1_000));
    }
    expect((await checkout.status(stack)).problems).toEqual([]);
  });

  test("one whose role had moved is adopted as well, with the role where it is, and comes up unchanged", async () => {
    const asItWas = await running();
    const ran = await adopt();
    expect(ran.stderr).toMatch(/password of app \(appPassword\) was set anew/);
    expect(ran.exitCode).toBe(0);
    await expectNoDiff();
    const up = await checkout.must("up", "--stack", stack);
    expect(up.stdout).toMatch(/\d+ unchanged/);
    expect(up.stdout).not.toMatch(/created|updated|replaced|deleted/);
    expect(await running()).toBe(asItWas);
    expect((await checkout.status(stack)).primary).toBe("pg2");
    expect(await rows("pg1")).toBe("1001");
    const outputs = await checkout.outputs(stack);
    expect(passwordIn(outputs.writerUrl)).not.toBe(passwordIn(before.writerUrl));
    expect((await psql(outputs.writerUrl, "INSERT INTO kept VALUES (1002);")).stderr).toBe("");
    expect((await psql(before.writerUrl, "SELECT 1;")).stderr).toContain("password authentication failed");
  });

  test("what is not as the config says now is told, and is an ordinary change of the next up", async () => {
    loseState();
    const [pg1, pg2] = config().nodes;
    checkout.writeStack(stack, { nodes: [{ ...pg1, port: ports[2] }, pg2] });
    const pg1WasAs = (await running()).split("\n")[0];
    const ran = await adopt();
    expect(ran.exitCode).toBe(0);
    expect(ran.stderr).toMatch(/the next up replaces them one at a time, the primary last: pg1: ports/);
    expect((await running()).split("\n")[0]).toBe(pg1WasAs);
    await checkout.must("up", "--stack", stack);
    expect((await running()).split("\n")[0]).not.toBe(pg1WasAs);
    expect((await psql((await checkout.outputs(stack)).primaryUrl, "SELECT 1;")).stderr).toBe("");
    await expectNoDiff();
    expect(await rows("pg1")).toBe("1002");
    const left = await docker(["ps", "-a", "--format", "{{.Names}}", "--filter", `name=${stack}`]);
    expect(left.stdout.split("\n").sort()).toEqual(containers());
  });
});
