import execa from "execa";
import { existsSync } from "fs";
import { join } from "path";
import { freePorts } from "../integration/checkout";
import { leftovers } from "../docker";
import { PlainStack } from "./plainStack";

jest.setTimeout(300_000);

test("the example builds, inspects and destroys a stack by the Automation API", async () => {
  // Its clone and environment; the example makes a stack of its own.
  const plain = await PlainStack.make("api");
  try {
    const stack = `${plain.stack}-example`;
    const ports = await freePorts(2);
    const ran = await execa(
      process.execPath,
      ["--require", "tsx/cjs", join("examples", "automation", "index.ts"), stack, ...ports.map(String)],
      { cwd: plain.folder, env: plain.environment(), extendEnv: false, reject: false, stdin: "ignore", timeout: 240_000 },
    );
    expect([ran.exitCode, ran.exitCode === 0 ? "" : ran.stderr]).toEqual([0, ""]);
    const said = Object.fromEntries(
      ran.stdout.split("\n").map((line) => {
        const { what, value } = JSON.parse(line) as { what: string; value: unknown };
        return [what, value];
      }),
    );
    expect(said["built"]).toEqual({ create: expect.any(Number) as number });
    expect(said["planned"]).toEqual(said["built"]);
    expect(said["nodes"]).toEqual({
      pg1: { host: "127.0.0.1", port: ports[0], container: `postgres-replica-${stack}-pg1` },
      pg2: { host: "127.0.0.1", port: ports[1], container: `postgres-replica-${stack}-pg2` },
    });
    expect(said["writerUrl is secret"]).toBe(true);
    expect(Object.keys(said["unchanged"] as object)).toEqual(["same"]);
    expect(said["destroyed"]).toBe(stack);
    expect(await leftovers(stack)).toEqual([]);
    expect(existsSync(join(plain.folder, `Pulumi.${stack}.yaml`))).toBe(false);
  } finally {
    await plain.remove();
  }
});
