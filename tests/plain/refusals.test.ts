import { createServer, type Server } from "net";
import { docker } from "../docker";
import { acquireLock } from "../../operations/change/lock";
import { currentDockerHost } from "../../operations/engine/dockerHost";
import { freePorts, OWN_IMAGE, type Ran } from "../integration/checkout";
import { PlainStack } from "./plainStack";

jest.setTimeout(300_000);

/**
 * What plain `pulumi` refuses, in preview and in up: one line that says what is wrong and what to do, and nothing of the
 * stack is another one, was started anew or lost a row.
 */
describe("plain pulumi refuses", () => {
  let plain: PlainStack;
  beforeAll(async () => {
    plain = await PlainStack.build("no", { sampleDatabase: true });
  });
  afterAll(() => plain.remove());

  /** Everything that must not change. */
  const everything = async (of = plain): Promise<unknown> => [
    await of.containers(),
    await docker(["network", "ls", "--no-trunc", "-q", "--filter", `name=${of.stack}`]),
    await docker(["volume", "ls", "-q", "--filter", `name=${of.stack}`]),
  ];
  const rows = (node = "pg1"): Promise<string> => plain.sql(node, "SELECT count(*) || ' ' || max(name) FROM customers");

  /** The errors that Pulumi shows, without its own last word. */
  const errors = (ran: Ran): string[] =>
    (ran.stdout + ran.stderr)
      .split("\n")
      .map((line) => line.trim())
      .filter((line) => line.startsWith("error: ") && line !== "error: update failed");

  /** Preview and up of `by` end with this one line. */
  async function refused(line: RegExp, by = plain, extra: Record<string, string> = {}): Promise<void> {
    const before = await everything();
    for (const args of [["preview"], ["up", "--yes", "--skip-preview"]]) {
      const ran = await by.pulumi(args, extra);
      expect([args[0], ran.exitCode]).toEqual([args[0], 1]);
      const said = [...new Set(errors(ran))];
      expect(said).toEqual([expect.stringMatching(line)]);
      // No stack trace below it.
      expect(ran.stdout + ran.stderr).not.toMatch(/^\s+at .*:\d+:\d+/m);
    }
    expect(await everything()).toEqual(before);
  }

  /** The same, with another config for the while. */
  async function refusedWith(change: Record<string, unknown>, line: RegExp): Promise<void> {
    const before = Object.fromEntries(Object.keys(change).map((key) => [key, plain.configured(key)]));
    plain.configure(change);
    try {
      await refused(line);
    } finally {
      plain.configure(before);
    }
  }

  const withPort = (port: number): unknown => [plain.nodes[0], { ...plain.nodes[1], port }];

  test("a config that is wrong", async () => {
    await refusedWith({ failover: "automatic" }, /config key "failover" is "automatic"; allowed is manual/);
    await refusedWith({ nodse: [] }, /config key "nodse" .*Did you mean nodes\?/);
  });

  test("a setting that PostgreSQL does not know, and a value that it does not take, in its words", async () => {
    await refusedWith(
      { parameters: { wrk_mem: "7MB" } },
      /^error: PostgreSQL refuses the settings: unrecognized configuration parameter "wrk_mem"\. /,
    );
    await refusedWith(
      { parameters: { work_mem: "7XB", shared_buffers: "1kB" } },
      /outside the valid range for parameter "shared_buffers" \(.*\); .*"7XB" \(Valid units for this parameter are "B", .*\)\. Nothing was changed\. /,
    );
  });

  test("a port that a program holds", async () => {
    const server = await new Promise<Server>((resolve) => {
      const listening = createServer().listen(0, "127.0.0.1", () => resolve(listening));
    });
    try {
      const { port } = server.address() as { port: number };
      await refusedWith({ nodes: withPort(port) }, new RegExp(`port ${port} of node pg2 is taken on 127.0.0.1 by another program`));
    } finally {
      server.close();
    }
  });

  test("a port that a container holds", async () => {
    const [port = 0] = await freePorts(1);
    const name = `${plain.stack}-holder`;
    await plain.docker("run", "-d", "--rm", "--name", name, "-p", `127.0.0.1:${port}:5432`, "--entrypoint", "sleep", OWN_IMAGE, "300");
    try {
      await refusedWith({ nodes: withPort(port) }, new RegExp(`port ${port} of node pg2 is taken on 127.0.0.1 by the container ${name}`));
    } finally {
      await docker(["rm", "-f", name]);
    }
  });

  test("an address that is none of the machine's", async () => {
    const [port] = await freePorts(1);
    const nodes = [plain.nodes[0], { name: "pg2", port, address: "192.0.2.7" }];
    await refusedWith({ nodes }, /the address 192\.0\.2\.7 of node pg2 is none of this machine's/);
  });

  test("a node that is taken out while it is primary", async () => {
    await refusedWith(
      { nodes: [plain.nodes[1]] },
      /pg1 is primary, and nodes in the config .* no longer has it, so its data would be deleted/,
    );
  });

  test("a living stack from a second clone whose state is empty, whatever the second clone's config says", async () => {
    const second = await PlainStack.make("no", { sampleDatabase: true }, { of: plain });
    try {
      await refused(/are there, and this state does not know them \(made by .+@.+\)\. Nothing was changed\. Use the backend/, second);
      second.configure({ nodes: plain.nodes });
      await refused(/are there, and this state does not know them/, second);
      // What the second one's own destroy may do is nothing: it knows nothing.
      const before = await everything();
      await second.must("destroy", "--yes", "--skip-preview");
      expect(await everything()).toEqual(before);
    } finally {
      await second.remove();
    }
    expect(await rows()).toBe("3 John Doe");
  });

  test("another Docker engine than the one that the stack lives on", async () => {
    // The engine that this state was begun on: another one, whose containers this engine has not.
    const exported = (await plain.must("stack", "export")).stdout;
    const engine = await plain.docker("info", "--format", "{{.ID}}");
    const ids = await plain.docker("inspect", "-f", "{{.Id}}", plain.container("pg1"), plain.container("pg2"));
    const elsewhere = ids.split("\n").reduce((text, id) => text.replaceAll(id, id.replace(/./g, "0")), exported);
    await plain.import(elsewhere.replaceAll(engine, "ANOTHER-ENGINE"));
    try {
      await refused(/lives on another Docker engine \(ID ANOTHER-ENGINE\) than the one at .* Choose its engine with DOCKER_HOST/);
      const before = await everything();
      const refreshing = await plain.pulumi(["up", "--yes", "--skip-preview", "--refresh", "--run-program"]);
      expect(refreshing.exitCode).not.toBe(0);
      expect(await everything()).toEqual(before);
    } finally {
      await plain.import(exported);
    }
    await plain.expectZeroDiff();
  });

  test("pulumi destroy --target of one node's container while others depend on it", async () => {
    const before = await everything();
    const urns = (await plain.must("stack", "--show-urns")).stdout;
    for (const part of ["pg1-container", "pg1-data"]) {
      const urn = new RegExp(`urn:\\S+::${part}$`, "m").exec(urns)?.[0] ?? "";
      expect(urn).not.toBe("");
      const ran = await plain.pulumi(["destroy", "--yes", "--skip-preview", "--target", urn]);
      expect(ran.exitCode).not.toBe(0);
      expect(ran.stdout + ran.stderr).toContain("--target-dependents");
    }
    expect(await everything()).toEqual(before);
  });

  test("to begin while another change of the stack holds its lock, and says who", async () => {
    const lock = await acquireLock({ stack: plain.stack, engines: [currentDockerHost()] }, "failover", { seconds: 10 });
    try {
      const seen = await plain.preview();
      expect(seen).toMatch(/failover \(process \d+ on .*\) is at work on this stack/);
      const before = await everything();
      const waiting = plain.start(["up", "--yes", "--skip-preview", "--stack", plain.stack]);
      let shown = "";
      const said = new Promise<void>((resolve) => {
        waiting.stdout?.on("data", (chunk: Buffer) => {
          shown += chunk.toString();
          if (/waiting for failover \(process \d+ on .*\), \d+ s at most/.test(shown)) {
            resolve();
          }
        });
        void waiting.then(() => resolve());
      });
      await said;
      expect(shown).toMatch(/waiting for failover \(process \d+ on .*\), \d+ s at most/);
      expect(waiting.exitCode).toBeNull();
      expect(await everything()).toEqual(before);
      await lock.release();
      // Then it goes on by itself, and has nothing to do.
      const ended = await waiting;
      expect([ended.exitCode, ended.stdout]).toEqual([0, expect.stringMatching(/\d+ unchanged/)]);
      expect(await everything()).toEqual(before);
    } finally {
      await lock.release();
    }
  });

  test("a node that is taken out while nobody is primary", async () => {
    await plain.docker("stop", plain.container("pg1"), plain.container("pg2"));
    try {
      await refusedWith({ nodes: [plain.nodes[1]] }, /no node is primary, so nobody can tell whether pg1, which .* holds the newest data/);
    } finally {
      await plain.docker("start", plain.container("pg1"), plain.container("pg2"));
      await plain.until("pg1", "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'", "1");
    }
    expect(await rows()).toBe("3 John Doe");
  });

  test("to destroy a stack whose data is protected", async () => {
    plain.configure({ protectData: true });
    await plain.up();
    const before = await everything();
    try {
      const ran = await plain.pulumi(["destroy", "--yes", "--skip-preview"]);
      expect(ran.exitCode).not.toBe(0);
      expect(ran.stdout + ran.stderr).toMatch(/cannot be deleted\s+because it is protected/);
      expect(await everything()).toEqual(before);
      expect(await rows("pg2")).toBe("3 John Doe");
    } finally {
      plain.configure({ protectData: undefined });
      await plain.up();
    }
    await plain.expectZeroDiff();
  });
});
