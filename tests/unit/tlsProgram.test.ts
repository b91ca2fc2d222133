import * as pulumi from "@pulumi/pulumi";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "fs";
import { tmpdir } from "os";
import { join } from "path";
import { tlsStageIn } from "../../core/settings/tls";
import { AUTHORITY, OTHER_KEY, PROVIDED, PROVIDED_AUTHORITY, PROVIDED_KEY } from "./certificates";
import { primary, standby } from "./observations";
import { AUTHORITY_KEY, declare, type Declared, type Program, redacted, revealed, valueOf } from "./program";

const COMMAND = "command:local:Command";
const nodes = [
  { name: "pg1", port: 5432 },
  { name: "pg2", port: 5433 },
];

// What is said has its own tests.
beforeAll(() => void jest.spyOn(pulumi.log, "warn").mockResolvedValue());

describe("a stack with TLS by a CA of its own", () => {
  let folder: string;
  let file: string;
  let made: Program;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "tls-program-"));
    file = join(folder, "ca.pem");
    made = await declare({ config: { nodes, tls: "generated", caFile: file } });
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test("makes the CA once, by the image, before any node has data", () => {
    expect(made.get("authority").ignoreChanges).toEqual(expect.arrayContaining(["create", "environment"]));
    expect(made.get("authority").secretOutputs).toContain("stdout");
    expect(made.waitsFor("authority", "image")).toBe(true);
    for (const birth of ["pg1-init", "pg2-basebackup"]) {
      expect([birth, made.waitsFor(birth, "authority")]).toEqual([birth, true]);
    }
  });

  /** Where a text is, by resource and input. */
  const placesOf = (text: string, read: (value: unknown) => unknown): string[] =>
    made.resources.flatMap((resource: Declared) =>
      Object.entries(resource.inputs).flatMap(([key, value]) =>
        JSON.stringify(read(value)).includes(text) ? [`${resource.name}.${key}`] : [],
      ),
    );

  test("hands the CA's key on by standard input alone, and keeps it secret there", () => {
    const [, secret = ""] = AUTHORITY_KEY.split("\n");
    expect(placesOf(secret, revealed).sort()).toEqual(
      ["pg1-config", "pg1-init", "pg1-ready", "pg2-basebackup", "pg2-config", "pg2-ready"].map((name) => `${name}.stdin`),
    );
    expect(placesOf(secret, redacted)).toEqual([]);
  });

  test("tells every node by what to check the others, and for whom its own certificate is, from its birth on", () => {
    for (const [birth, node] of [
      ["pg1-init", "pg1"],
      ["pg2-basebackup", "pg2"],
    ] as const) {
      for (const step of [birth, `${node}-config`, `${node}-ready`]) {
        expect([step, made.variable(step, "PGNODE_CA").text]).toEqual([step, AUTHORITY]);
        expect([step, made.variable(step, "PGNODE_ALTERNATIVE_NAMES").text]).toEqual([
          step,
          expect.stringContaining(`DNS:${node},DNS:postgres-replica-dev-${node},`),
        ]);
      }
      expect(made.variable(birth, "NODE_PASS").text.split(" ")).toEqual(expect.arrayContaining(["PGNODE_CA", "PGNODE_ALTERNATIVE_NAMES"]));
    }
    expect(tlsStageIn(made.variable("pg1-init", "PGNODE_CONF").text)).toBe("required");
  });

  test("has the CA's certificate as an output, no secret, and in the file that its URLs name", async () => {
    const certificate = made.outputs.caCertificate as pulumi.Output<string>;
    expect(await valueOf(certificate)).toBe(AUTHORITY);
    expect(await pulumi.isSecret(certificate)).toBe(false);
    expect(readFileSync(file, "utf8")).toBe(AUTHORITY);
    for (const url of [made.outputs.writerUrl, made.outputs.primaryUrl]) {
      expect(await valueOf(url)).toMatch(new RegExp(`[?&]sslmode=verify-full&sslrootcert=${encodeURIComponent(file)}$`));
    }
  });

  test("writes no file in a preview, and the file of a stack that stands into a fresh checkout", async () => {
    rmSync(file);
    await declare({ config: { nodes, tls: "generated", caFile: file }, state: made.state(), preview: true });
    expect(existsSync(file)).toBe(false);
    await declare({ config: { nodes, tls: "generated", caFile: file }, state: made.state() });
    expect(readFileSync(file, "utf8")).toBe(AUTHORITY);
  });

  test("goes there in two runs from a stack without", async () => {
    const observed = [primary("pg1", ["pg2"]), standby("pg2")];
    const config = { nodes, tls: "generated", caFile: file };
    const stage = (program: Program): unknown => tlsStageIn(program.variable("pg2-config", "PGNODE_CONF").text);
    const without = await declare({ config: { nodes } });
    expect([stage(without), without.resources.filter(({ name }) => name === "authority"), "caCertificate" in without.outputs]).toEqual([
      undefined,
      [],
      false,
    ]);
    const offered = await declare({ config, state: without.state(), observed });
    const required = await declare({ config, state: offered.state(), observed });
    expect([stage(offered), stage(required)]).toEqual(["offered", "required"]);
    expect(stage(await declare({ config, state: required.state(), observed }))).toBe("required");
  });
});

describe("a stack with certificates of the user's", () => {
  const config = (key = PROVIDED_KEY): object => ({
    nodes: [nodes[0]],
    ...{ tls: "provided", tlsCa: PROVIDED_AUTHORITY, caFile: "/dev/null" },
    tlsCertificates: { pg1: { certificate: PROVIDED, key } },
  });
  beforeEach(() =>
    jest.useFakeTimers({
      now: Date.parse("2026-06-01"),
      doNotFake: ["nextTick", "setImmediate", "setTimeout", "setInterval", "queueMicrotask"],
    }),
  );
  afterEach(() => jest.useRealTimers());

  test("hands each node its own, the key as a secret, and makes no CA", async () => {
    const made = await declare({ config: { ...config() }, secretKeys: ["tlsCertificates"] });
    expect(made.resources.filter(({ name }) => name === "authority")).toEqual([]);
    expect(made.variable("pg1-config", "PGNODE_CERTIFICATE").text).toBe(PROVIDED);
    expect(made.variable("pg1-config", "PGNODE_KEY")).toEqual({ text: PROVIDED_KEY, secret: true });
    expect(made.variable("pg1-config", "PGNODE_ALTERNATIVE_NAMES").text).toBe("");
    expect(made.input("pg1-init", "stdin")).toContain(PROVIDED_KEY);
    const plain = made.ofType(COMMAND).filter(({ inputs }) => JSON.stringify(redacted(inputs)).includes(PROVIDED_KEY.split("\n")[1] ?? ""));
    expect(plain.map(({ name }) => name)).toEqual([]);
  });

  test("is refused, before anything is declared, when a key is in plain text or does not fit", async () => {
    await expect(declare({ config: { ...config() } })).rejects.toThrow(
      /^config key "tlsCertificates" has keys in plain text; allowed is secrets\. Set each with: /,
    );
    await expect(declare({ config: { ...config(OTHER_KEY) }, secretKeys: ["tlsCertificates"] })).rejects.toThrow(
      /does not fit the certificate/,
    );
  });
});
