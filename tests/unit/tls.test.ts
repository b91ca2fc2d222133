import fc from "fast-check";
import { spawnSync } from "child_process";
import { parseConfig } from "../../core/config";
import { certificatesIn, keyIn } from "../../core/grammar/pem";
import {
  CERTIFICATE_DAYS,
  certificateDrift,
  certificateNames,
  plainAddress,
  readCertificate,
  RENEWAL_DAYS,
} from "../../core/model/certificate";
import { type Cluster, clusterOf, memberOf, nodeEnvironment, sourceConninfo } from "../../core/model/cluster";
import { placed } from "../../core/model/place";
import { type TlsStage, tlsStageIn } from "../../core/settings/tls";
import { authorityGeneration, authorityName, readPrior } from "../../operations/guard/prior";
import { authoritiesOf, authorityWords, tlsStageOf, tlsWords } from "../../operations/guard/tls";
import { ANOTHER_AUTHORITY, AUTHORITY, CERTIFICATE, PROVISIONAL } from "./certificates";
import { hbaMethod, parseConf, parseConninfo, parseHba } from "./grammars";
import { primary, standby } from "./observations";

const nodes = [
  { name: "pg1", port: 5432 },
  { name: "pg2", port: 5433, address: "2001:db8::17", seenFrom: ["10.0.0.0/8"], dockerHost: "ssh://two" },
];
const cluster = (stage?: TlsStage): Cluster =>
  clusterOf(
    placed(
      parseConfig("dev", { nodes: [{ ...nodes[0], address: "192.0.2.1" }, nodes[1]], tls: stage === undefined ? "off" : "generated" }),
      "unix:///x",
    ),
    stage,
  );

describe("what a node is told of TLS", () => {
  const told = (stage?: TlsStage): Record<string, string> => parseConf(nodeEnvironment(cluster(stage), "pg1").PGNODE_CONF);

  test("is nothing where it is off: not a byte differs from a stack that knows nothing of it", () => {
    const text = JSON.stringify([nodeEnvironment(cluster(), "pg1"), sourceConninfo(cluster(), "pg1")]);
    expect(text).not.toMatch(/ssl|tls/);
  });

  test("is a certificate, and no old protocol, as soon as it is offered", () => {
    for (const stage of ["offered", "required"] as const) {
      expect(told(stage)).toMatchObject({
        ssl: "on",
        ssl_cert_file: "/var/lib/pgnode/own/server.crt",
        ssl_key_file: "/var/lib/pgnode/own/server.key",
        ssl_min_protocol_version: "TLSv1.2",
      });
    }
  });

  test("is to check the others, by name, once it is required, and not before: they may have no certificate yet", () => {
    const checks = { sslmode: "verify-full", sslrootcert: "/var/lib/pgnode/own/ca.crt" };
    const required = [
      told("required")["primary_conninfo"],
      sourceConninfo(cluster("required"), "pg1"),
      `host=x ${told("required")["pgnode.tls"]}`,
    ];
    for (const text of required) {
      expect(parseConninfo(text ?? "")).toMatchObject(checks);
    }
    const offered = [told("offered")["primary_conninfo"], sourceConninfo(cluster("offered"), "pg1"), told("offered")["pgnode.tls"] ?? ""];
    expect(offered.join(" ")).not.toContain("ssl");
  });

  test("is to let nobody in over TCP without it once it is required, and everybody as before until then", () => {
    const rules = (stage?: TlsStage): ReturnType<typeof parseHba> => parseHba(nodeEnvironment(cluster(stage), "pg1").PGNODE_HBA);
    expect(rules("offered")).toEqual(rules());
    expect(new Set(rules("required").map(({ type }) => type))).toEqual(new Set(["local", "hostssl"]));
    expect(rules("required").map((rule) => ({ ...rule, type: rule.type.replace("hostssl", "host") }))).toEqual(rules());
    expect(hbaMethod(rules("required"), { type: "hostssl", database: "replication", user: "replica_user", address: "10.0.0.0/8" })).toBe(
      "scram-sha-256",
    );
  });

  test.each([undefined, "offered", "required"] as const)("says afterwards how far it is in force: %s", (stage) => {
    expect(tlsStageIn(nodeEnvironment(cluster(stage), "pg1").PGNODE_CONF)).toBe(stage);
  });

  test("is not taken for it where somebody has switched it on for himself", () => {
    const own = clusterOf(placed(parseConfig("dev", { parameters: { ssl: "on", ssl_cert_file: "/x", ssl_key_file: "/y" } }), "unix:///x"));
    expect(tlsStageIn(nodeEnvironment(own, "pg1").PGNODE_CONF)).toBeUndefined();
  });
});

describe("for whom a node's certificate is", () => {
  test("all names by which it is reached; libpq takes an address for a name before version 15", () => {
    expect(certificateNames(memberOf(cluster(), "pg1"))).toEqual([
      ...["DNS:pg1", "DNS:postgres-replica-dev-pg1", "DNS:localhost", "DNS:192.0.2.1", "DNS:127.0.0.1", "DNS:::1"],
      ...["IP:192.0.2.1", "IP:127.0.0.1", "IP:0:0:0:0:0:0:0:1"],
    ]);
    expect(certificateNames(memberOf(cluster(), "pg2"))).toContain("IP:2001:DB8:0:0:0:0:0:17");
  });

  test("no name twice", () => {
    const names = certificateNames(memberOf(clusterOf(placed(parseConfig("dev", {}), "unix:///x")), "pg1"));
    expect(names).toEqual([...new Set(names)]);
  });

  test.each([
    ["::", "0:0:0:0:0:0:0:0"],
    ["::1", "0:0:0:0:0:0:0:1"],
    ["fe80::", "FE80:0:0:0:0:0:0:0"],
    ["2001:0db8::00a:1", "2001:DB8:0:0:0:0:A:1"],
    ["1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"],
    ["::ffff:192.0.2.33", "0:0:0:0:0:FFFF:C000:221"],
    ["64:ff9b::192.0.2.33", "64:FF9B:0:0:0:0:C000:221"],
    ["10.0.0.1", "10.0.0.1"],
  ])("an address as OpenSSL prints it: %s", (address, printed) => {
    expect(plainAddress(address)).toBe(printed);
  });

  test("any address of eight groups is the same with and without its zeros", () => {
    fc.assert(
      fc.property(fc.ipV6(), (address) => {
        expect(plainAddress(plainAddress(address))).toBe(plainAddress(address));
        expect(plainAddress(address).split(":")).toHaveLength(8);
      }),
    );
  });
});

describe("a node's certificate", () => {
  const at = (day: string): number => Date.parse(day) / 1000;
  const names = certificateNames(memberOf(clusterOf(placed(parseConfig("dev", {}), "unix:///x")), "pg1"));
  const drift = (
    certificate: string | null,
    day = "2026-06-01",
    others: Partial<{ names: string[]; authority: string | undefined }> = {},
  ): string[] =>
    certificateDrift({ certificate, at: at(day) }, others.names ?? names, "authority" in others ? others.authority : AUTHORITY);

  test("is read as it was made", () => {
    expect(readCertificate(CERTIFICATE)).toMatchObject({ from: at("2026-01-01"), to: at("2027-01-01"), names, issuer: "postgres-replica" });
    expect(readCertificate(PROVISIONAL)).toMatchObject({ names: ["DNS:pg1"], issuer: "postgres-replica-provisional" });
    expect([null, undefined, "", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"].map(readCertificate)).toEqual(
      Array(4).fill(undefined),
    );
  });

  test("stays until its last third", () => {
    expect([CERTIFICATE_DAYS, RENEWAL_DAYS]).toEqual([365, 121]);
    expect(drift(CERTIFICATE, "2026-01-01")).toEqual([]);
    expect(drift(CERTIFICATE, "2026-09-02")).toEqual([]);
    expect(drift(CERTIFICATE, "2026-09-03")).toEqual(["its certificate ends on 2027-01-01"]);
    expect(drift(CERTIFICATE, "2028-01-01")).toEqual(["its certificate ends on 2027-01-01"]);
  });

  test("is made anew for other names, by another CA, and when it is gone or damaged", () => {
    expect(drift(CERTIFICATE, undefined, { names: [...names, "DNS:more"] })).toEqual(["its certificate is for other names"]);
    expect(drift(CERTIFICATE, undefined, { authority: ANOTHER_AUTHORITY })).toEqual(["its certificate is not of the stack's CA"]);
    expect(drift(null)).toEqual(["its certificate is gone"]);
    expect(drift("no certificate")).toEqual(["its certificate cannot be read"]);
  });

  test("is compared with no CA that is not known yet", () => {
    expect(drift(CERTIFICATE, undefined, { authority: undefined })).toEqual([]);
  });
});

describe("how TLS comes into force", () => {
  const step = (node: string, stage?: TlsStage): Parameters<typeof readPrior>[0][number] => ({
    ...{ urn: `urn:pulumi:dev::p::command:local:Command::${node}-config`, type: "command:local:Command" },
    outputs: { environment: { PGNODE_CONF: nodeEnvironment(cluster(stage), "pg1").PGNODE_CONF } },
  });
  const prior = (...stages: (TlsStage | undefined)[]): ReturnType<typeof readPrior> =>
    readPrior(stages.map((stage, i) => step(`pg${i + 1}`, stage)));

  test.each<[string, (TlsStage | undefined)[], TlsStage]>([
    ["is new", [], "required"],
    ["has run without", [undefined, undefined], "offered"],
    ["was cut off on the way there", ["offered", undefined], "offered"],
    ["offers it on every node", ["offered", "offered"], "required"],
    ["was cut off on the way to insist", ["required", "offered"], "required"],
    ["insists", ["required", "required"], "required"],
  ])("on a stack that %s", (_what, stages, next) => {
    expect(tlsStageOf(prior(...stages), [])).toBe(next);
  });

  const off = { on: false, certificate: null, at: 0, plainSessions: 0 };
  test("waits for a node that was down when it was to be offered", () => {
    expect(tlsStageOf(prior("offered", "offered"), [primary("pg1", []), standby("pg2", { tls: off })])).toBe("offered");
  });

  test("does not go back because somebody has switched it off on one node by hand", () => {
    expect(tlsStageOf(prior("required", "required"), [primary("pg1", []), standby("pg2", { tls: off })])).toBe("required");
  });

  test("is said when clients are concerned, and how many", () => {
    const observed = [primary("pg1", [], { tls: { ...off, plainSessions: 2 } }), standby("pg2", { tls: { ...off, plainSessions: 1 } })];
    expect(tlsWords(prior(undefined), "offered", observed)).toEqual([
      expect.stringMatching(/still let in \(3 sessions of clients are without it now\)\. The next up ends that/),
    ]);
    expect(tlsWords(prior("offered"), "required", [])).toEqual([
      expect.stringMatching(/^from this up on no client without TLS is let in \(0 sessions/),
    ]);
    expect(tlsWords(prior("required"), "required", observed)).toEqual([]);
    expect(tlsWords(prior(), "required", [])).toEqual([]);
    expect(tlsWords(prior("required"), undefined, observed)).toEqual([]);
  });
});

describe("a new CA in the place of the old one", () => {
  const made = (generation: number, certificate: string): Parameters<typeof readPrior>[0][number] => ({
    ...{ urn: `urn:pulumi:dev::p::command:local:Command::${authorityName(generation)}`, type: "command:local:Command" },
    outputs: { stdout: certificate },
  });
  const node = (name: string, trusted: string): Parameters<typeof readPrior>[0][number] => ({
    ...{ urn: `urn:pulumi:dev::p::command:local:Command::${name}-config`, type: "command:local:Command" },
    outputs: { environment: { PGNODE_CA: trusted } },
  });
  const [OLD, NEW] = [AUTHORITY, ANOTHER_AUTHORITY];
  const state = (authorities: Record<number, string>, ...trusted: string[]): ReturnType<typeof readPrior> =>
    readPrior([
      ...Object.entries(authorities).map(([generation, text]) => made(Number(generation), text)),
      ...trusted.map((text, i) => node(`pg${i + 1}`, text)),
    ]);

  test.each<[string, ReturnType<typeof readPrior>, number[], RegExp | undefined]>([
    ["a new stack", state({}), [2], undefined],
    ["a stack that has it", state({ 2: NEW }, NEW, NEW), [2], undefined],
    [
      "a stack with the old one",
      state({ 1: OLD }, OLD, OLD),
      [1, 2],
      /three steps\. With this up a new one is trusted .* both are in ca\.pem/,
    ],
    ["one that was cut off when the new one was made", state({ 1: OLD, 2: NEW }, OLD, OLD), [1, 2], /three steps/],
    ["one of which a node does not trust it yet", state({ 1: OLD, 2: NEW }, OLD + NEW, OLD), [1, 2], /three steps/],
    ["one of which every node trusts both", state({ 1: OLD, 2: NEW }, OLD + NEW, OLD + NEW), [2, 1], /issued by the new CA: .*ca\.pem/],
    ["one that was cut off in the middle of that", state({ 1: OLD, 2: NEW }, NEW + OLD, OLD + NEW), [2, 1], /issued by the new CA/],
    ["one of which every certificate is by the new one", state({ 1: OLD, 2: NEW }, NEW + OLD, NEW + OLD), [2], /old CA is trusted no more/],
    ["one that was cut off at the very end", state({ 1: OLD, 2: NEW }, NEW, NEW + OLD), [2], /old CA is trusted no more/],
  ])("goes as far as every node has come, on %s", (_what, prior, trusted, words) => {
    expect(authoritiesOf(prior, 2)).toEqual(trusted);
    const said = authorityWords(prior, 2, "ca.pem");
    expect(said).toEqual(words === undefined ? [] : [expect.stringMatching(words)]);
  });

  test("is not asked for by a state that knows another command of such a name", () => {
    expect(["authority", "authority-12", "authority-x", "my-authority", "authorityPassword"].map(authorityGeneration)).toEqual([
      1,
      12,
      ...Array<undefined>(3).fill(undefined),
    ]);
    expect([authorityName(1), authorityName(3)]).toEqual(["authority", "authority-3"]);
  });
});

describe("a text in PEM", () => {
  const KEY = "-----BEGIN PRIVATE KEY-----\nMIGH\nAgEA==\n-----END PRIVATE KEY-----\n";

  test("holds a key and certificates, in whatever order", () => {
    expect([keyIn(`${KEY}${AUTHORITY}`), certificatesIn(`${KEY}${AUTHORITY}`)]).toEqual([KEY, AUTHORITY]);
    expect(certificatesIn(`x\n${AUTHORITY}${KEY}${CERTIFICATE}y`)).toBe(`${AUTHORITY}${CERTIFICATE}`);
    expect([keyIn(AUTHORITY), certificatesIn(KEY)]).toEqual(["", ""]);
  });

  test("of our fixtures is what OpenSSL takes for one", () => {
    expect(
      spawnSync("node", ["-e", "new (require('crypto').X509Certificate)(require('fs').readFileSync(0))"], { input: AUTHORITY }).status,
    ).toBe(0);
  });
});
