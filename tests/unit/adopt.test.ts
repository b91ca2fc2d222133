import { PassThrough } from "stream";
import { passfile } from "../../core/grammar/conninfo";
import { parseConfig } from "../../core/config";
import { REPLICATION_ROLE } from "../../core/model/names";
import { deploymentOf, without } from "../../operations/adopt/deployment";
import { askHidden, findPasswords, fromPassfile, isPasswordOf, madeUp, type Sources } from "../../operations/adopt/passwords";
import type { Declared } from "../../operations/adopt/program";
import { containerRefusal, identityOf, refusal, versionRefusal } from "../../operations/adopt/refusals";
import { type Container, differences, firstFile, inputsOf, type Standing } from "../../operations/adopt/standing";
import type { Found, Survey } from "../../operations/guard/survey";
import { primary, silent, standby } from "./observations";
import { foundAt, type Seen, surveyOf } from "./surveys";

const config = parseConfig("dev", {});
const found = (kind: Found["kind"], name: string, identity = "id-1"): Found =>
  foundAt("unix:///test", kind, name, { id: `${name}-id`, identity, madeBy: identity && `by-${identity}` });
const whole = (): Found[] => [
  found("container", "postgres-replica-dev-pg1"),
  found("container", "postgres-replica-dev-pg2"),
  found("network", "postgres-replica-dev"),
  found("volume", "postgres-replica-dev-pg1-data", "older"),
];
const survey = (changes: Seen = {}): Survey =>
  surveyOf("unix:///test", { engine: "ENGINE", found: whole(), observed: [primary("pg1", ["pg2"]), standby("pg2")], ...changes });

describe("what is adopted", () => {
  test("a whole stack with one primary, whichever node that is, also with a node that is stopped", () => {
    expect(refusal(config, survey())).toBeUndefined();
    expect(refusal(config, survey({ observed: [silent("pg1", "exited"), primary("pg2", [])] }))).toBeUndefined();
  });

  test.each<[string, Partial<Survey>, RegExp]>([
    ["no container", { found: [] }, /there is no container of stack "dev".*to build a new stack: npm run up -- --stack dev$/],
    [
      "only volumes",
      { found: [found("volume", "postgres-replica-dev-pg1-data")] },
      /Its volumes are there \(postgres-replica-dev-pg1-data\)/,
    ],
    [
      "a node without a container",
      { found: whole().filter(({ name }) => !name.endsWith("pg2")) },
      /node pg2 of the config has no container/,
    ],
    [
      "a container too many",
      { found: [...whole(), found("container", "postgres-replica-dev-pg3")] },
      /pg3 is of stack "dev".*no such node/,
    ],
    ["no network", { found: whole().filter(({ kind }) => kind !== "network") }, /the network postgres-replica-dev is gone/],
    ["no primary", { observed: [standby("pg1"), standby("pg2")] }, /^no node is primary\. Nothing was changed/],
    [
      "two primaries",
      { observed: [primary("pg1", []), primary("pg2", [])] },
      /^more than one writer: pg1 and pg2\. Nothing was changed\. Look at: npm run status -- --stack dev$/,
    ],
  ])("not with %s, and the line says what to do", (_case, changes, line) => {
    const said = refusal(config, survey(changes));
    expect(said).toMatch(line);
    expect(said).toContain("Nothing was changed");
    expect(said).not.toContain("\n");
  });

  test("the identity is that of containers and network; a kept volume may have an older one", () => {
    expect(identityOf(survey())).toEqual({ id: "id-1", madeBy: "by-id-1" });
    expect(identityOf(survey({ found: whole().map((object) => ({ ...object, identity: "", madeBy: "" })) }))).toBeUndefined();
    expect(identityOf(survey({ found: [...whole(), found("container", "x", "id-2")] }))).toEqual({
      refusal: expect.stringMatching(/more than one state.*by-id-1.*by-id-2/) as string,
    });
  });

  test("another major version of PostgreSQL is refused, and an image that does not tell its version is not", () => {
    expect(versionRefusal(config, 16, 17)).toMatch(/run PostgreSQL 16, and the image postgres-replica:17 of the config has PostgreSQL 17/);
    expect(versionRefusal(config, 17, 17)).toBeUndefined();
    expect(versionRefusal(config, 16, undefined)).toBeUndefined();
  });
});

const container = (changes: { Config?: Partial<Container["Config"]>; Mounts?: Container["Mounts"] } = {}): Container => ({
  Id: "c1",
  Image: "sha256:1",
  Config: {
    ...{ Image: "postgres-replica:17-abc", Hostname: "pg1", User: "0:0", Cmd: ["run"], Entrypoint: ["/usr/local/bin/pgnode"] },
    Env: ["PGNODE_STACK=dev", "PGNODE_NAME=pg1", "PATH=/bin"],
    Labels: { "postgres-replica.recipe": "abc", "postgres-replica.stack": "dev", "postgres-replica.node": "pg1" },
    StopSignal: "SIGINT",
    StopTimeout: 60,
    Healthcheck: { Test: ["CMD", "x"], Interval: 5e9, Timeout: 5e9, StartPeriod: 30e9, Retries: 3 },
    ...changes.Config,
  },
  HostConfig: {
    PortBindings: { "5432/tcp": [{ HostIp: "127.0.0.1", HostPort: "5432" }] },
    RestartPolicy: { Name: "unless-stopped" },
    ShmSize: 256 * 1024 * 1024,
  },
  Mounts: changes.Mounts ?? [{ Type: "volume", Name: "postgres-replica-dev-pg1-data", Destination: "/var/lib/pgnode" }],
  NetworkSettings: { Networks: { "postgres-replica-dev": { Aliases: ["pg1"] } } },
});
const standing = (changes: Parameters<typeof container>[0] = {}, program = "#!/bin/sh\n"): Standing => ({
  node: "pg1",
  container: container(changes),
  program,
});
const declaredContainer = {
  image: "postgres-replica:17-abc",
  envs: ["PGNODE_NAME=pg1", "PGNODE_STACK=dev"],
  labels: [
    { label: "postgres-replica.stack", value: "dev" },
    { label: "postgres-replica.node", value: "pg1" },
  ],
  uploads: [{ content: "#!/bin/sh\n", permissions: "0755", file: "/usr/local/bin/pgnode", executable: true }],
  ports: [{ internal: 5432, external: 5432, ip: "127.0.0.1" }],
  healthcheck: { tests: ["CMD", "x"], interval: "5s", timeout: "5s", startPeriod: "30s", retries: 3 },
  shmSize: 256,
  mustRun: false,
};

describe("what a container was made from", () => {
  test("one as the program makes it has exactly the program's inputs", () => {
    expect(inputsOf(declaredContainer, standing())).toEqual(declaredContainer);
    expect(differences(declaredContainer, standing())).toEqual([]);
  });

  test("another image, another node program and missing labels are kept as they are, and said", () => {
    const old = standing({ Config: { Image: "postgres-replica:17", Labels: {} } }, "#!/bin/sh\n# older\n");
    expect(inputsOf(declaredContainer, old)).toMatchObject({
      image: "postgres-replica:17",
      labels: [],
      uploads: [{ content: "#!/bin/sh\n# older\n" }],
      ports: declaredContainer.ports,
    });
    expect(differences(declaredContainer, old)).toEqual([
      "image (postgres-replica:17, and the config asks for postgres-replica:17-abc)",
      "labels",
      "node program",
    ]);
  });

  test("the digest of what it was made with is said where nothing else is", () => {
    const labels = (digest: string): { label: string; value: string }[] => [
      ...declaredContainer.labels,
      { label: "postgres-replica.definition", value: digest },
    ];
    const now = { ...declaredContainer, labels: labels("new") };
    const Labels = Object.fromEntries(labels("old").map(({ label, value }) => [label, value]));
    expect(differences(now, standing({ Config: { Labels } }))).toEqual(["labels"]);
    expect(differences({ ...now, shmSize: 300 }, standing({ Config: { Labels } }))).toEqual(["shmSize"]);
    const { "postgres-replica.node": _node, ...without } = Labels;
    expect(differences({ ...now, shmSize: 300 }, standing({ Config: { Labels: without } }))).toEqual(["labels", "shmSize"]);
  });

  test("one without the node's own volume was not made by this program", () => {
    expect(containerRefusal(config, [standing()])).toBeUndefined();
    expect(containerRefusal(config, [standing({ Mounts: [] })])).toMatch(/has nothing at \/var\/lib\/pgnode.*this program has not made it/);
  });

  test("the node program is read out of docker's archive", () => {
    const text = "#!/bin/sh\necho ä\n";
    const header = Buffer.alloc(512);
    header.write("pgnode", 0);
    header.write(`${Buffer.byteLength(text).toString(8).padStart(11, "0")}\0`, 124);
    expect(firstFile(Buffer.concat([header, Buffer.from(text), Buffer.alloc(1024)]).toString("utf8"))).toBe(text);
  });
});

describe("the state", () => {
  const SIGNATURE = { "4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270" };
  const declare = (changes: Partial<Declared>): Declared => ({
    ...{ type: "command:local:Command", name: "x", urn: "urn:pulumi:dev::postgres-replica::command:local:Command::x", id: "x1" },
    ...{ custom: true, parent: "", dependencies: [], propertyDependencies: {}, inputs: {}, provider: "", version: "1.2.1" },
    ...{ protect: false, retainOnDelete: false, ignoreChanges: [], replaceOnChanges: [], secretOutputs: [] },
    ...changes,
  });

  test("secrets go in so that import encrypts them, and are nowhere else", () => {
    const inputs = { environment: { A: { ...SIGNATURE, value: "s3cret" }, B: "b" } };
    const state = deploymentOf([declare({ name: "appPassword", inputs })], [], { appPassword: "pass" });
    const entry = state.find(({ id }) => id === "x1");
    expect(entry?.inputs).toEqual({ environment: { A: { ...SIGNATURE, plaintext: '"s3cret"' }, B: "b" } });
    expect(entry?.outputs).toMatchObject({ stdout: { ...SIGNATURE, plaintext: '"pass"' }, environment: { B: "b" } });
    expect(JSON.stringify(state).match(/s3cret/g)).toHaveLength(2);
    expect(JSON.stringify(state).match(/"pass/g)).toHaveLength(1);
  });

  test("commands share the default provider, which comes first", () => {
    const state = deploymentOf(
      [declare({}), declare({ urn: "urn:pulumi:dev::postgres-replica::command:local:Command::y", id: "y1" })],
      [],
      {},
    );
    expect(state.map(({ type }) => type)).toEqual(["pulumi:providers:command", "command:local:Command", "command:local:Command"]);
    expect(state[0]?.urn).toBe("urn:pulumi:dev::postgres-replica::pulumi:providers:command::default_1_2_1");
    expect(state[2]?.provider).toBe(`${state[0]?.urn}::${state[0]?.id}`);
  });

  test("a drift that was found stays to be found by the next up", () => {
    const [, entry] = deploymentOf([declare({ inputs: { environment: { PGNODE_DRIFT: "now a file differs", A: "a" } } })], [], {});
    expect(entry?.inputs).toEqual({ environment: { A: "a" } });
  });

  test("what another node program has written is brought anew by the next up", () => {
    const node = declare({ type: "docker:index/container:Container", id: "c1", inputs: declaredContainer, provider: "p::1" });
    const inputs = { environment: { PGNODE_CONF: "port = 5432", PGNODE_HBA: "", NODE_NAME: "pg1" } };
    const step = declare({ name: "pg1-config", id: "pg1-config1", inputs });
    const environment = (found: Standing): unknown =>
      deploymentOf([node, step], [found], {}).find(({ id }) => id === "pg1-config1")?.inputs?.["environment"];
    expect(environment(standing())).toEqual(inputs.environment);
    expect(environment(standing({}, "#!/bin/sh\n# older\n"))).toEqual({ NODE_NAME: "pg1" });
  });

  test("what only the lost state knew is not in it, nor does anything name it: the next up makes it anew", () => {
    const lost = declare({ name: "authority", urn: "urn:lost" });
    const other = declare({ name: "pg1-config", urn: "urn:other", dependencies: ["urn:a", "urn:lost"] });
    const state = deploymentOf(
      without([lost, { ...other, propertyDependencies: { stdin: ["urn:lost"], environment: ["urn:a"] } }], "authority"),
      [],
      {},
    );
    expect(state.map(({ urn }) => urn)).toEqual([state[0]?.urn, "urn:other"]);
    expect(state[1]).toMatchObject({ dependencies: ["urn:a"], propertyDependencies: { stdin: [], environment: ["urn:a"] } });
  });

  test("a container is in the state as it was made, not as it is declared", () => {
    const resource = declare({ type: "docker:index/container:Container", id: "c1", inputs: declaredContainer, provider: "p::1" });
    const [entry] = deploymentOf([resource], [standing({ Config: { Image: "postgres-replica:17" } })], {});
    expect(entry?.inputs?.["image"]).toBe("postgres-replica:17");
    expect(entry?.outputs).toMatchObject({ image: "postgres-replica:17", id: "c1", __meta: '{"schema_version":"2"}' });
  });
});

describe("passwords", () => {
  // SELECT rolpassword FROM pg_authid, of a role with this password.
  const KNOWN = "it's: a \\ p@ss";
  const VERIFIER =
    "SCRAM-SHA-256$4096:uNTKteTiBfgs/Zk3p4ZXzg==$8vi/zO3aQiHJAwkOQtaHGj15QZCS1VuBNWUgCrv1PxQ=:cgYTEskHxNq5O/RMBo+gl65RB6Qf8mB/uh4hNthgep8=";
  const sources = (changes: Partial<Sources> = {}): Sources => ({
    ...{ configured: {}, passfiles: [], environment: {}, ask: undefined, say: () => undefined },
    verifiers: { app: VERIFIER, postgres: VERIFIER, [REPLICATION_ROLE]: VERIFIER },
    ...changes,
  });

  test("PostgreSQL's verifier tells whether a password is the right one", () => {
    expect(isPasswordOf(VERIFIER, KNOWN)).toBe(true);
    expect(isPasswordOf(VERIFIER, `${KNOWN} `)).toBe(false);
    expect(isPasswordOf("", KNOWN)).toBe(false);
    expect(isPasswordOf("md5abc", KNOWN)).toBe(false);
  });

  test.each(["plain", "a:b", "back\\slash", "\\:", "ends with \\", "ü 'x' \"y\""])("the password file gives back %j", (password) => {
    expect(fromPassfile(passfile({ [REPLICATION_ROLE]: password }))).toBe(password);
    expect(fromPassfile(passfile({ [REPLICATION_ROLE]: password }).trimEnd())).toBe(password);
    expect(fromPassfile(passfile({ [REPLICATION_ROLE]: password, rewind_user: "other" }))).toBe(password);
  });

  test("a password file of something else gives none", () => {
    expect(fromPassfile("")).toBeUndefined();
    expect(fromPassfile("localhost:5432:*:someone:x\n")).toBeUndefined();
    expect(fromPassfile("*:*:*:someone:x\n")).toBeUndefined();
  });

  test("of several files the one counts that the primary accepts", async () => {
    const passfiles = ["old", KNOWN].map((password) => passfile({ [REPLICATION_ROLE]: password }));
    const { replicationPassword } = await findPasswords(sources({ passfiles }));
    expect(replicationPassword).toEqual({ value: KNOWN, origin: "nodes", current: true });
  });

  test("the config wins; then the environment; without a terminal the rest is new", async () => {
    const all = await findPasswords(
      sources({ configured: { superuserPassword: "from config" }, environment: { APP_PASSWORD: KNOWN, SUPERUSER_PASSWORD: "no" } }),
    );
    expect(all.superuserPassword).toEqual({ value: "from config", origin: "config", current: false });
    expect(all.appPassword).toEqual({ value: KNOWN, origin: "given", current: true });
    expect(all.replicationPassword).toMatchObject({ origin: "new", current: false });
    expect(all.replicationPassword.value).toMatch(/^[\w-]{32}$/);
    expect(madeUp()).not.toBe(madeUp());
  });

  test("one that is typed wrong is asked for again; nothing typed is a new one", async () => {
    const answers = ["", "wrong", KNOWN];
    const asked: string[] = [];
    const said: string[] = [];
    const all = await findPasswords(
      sources({
        ask: (question) => {
          asked.push(question);
          return Promise.resolve(answers.shift() ?? "");
        },
        say: (line) => void said.push(line),
      }),
    );
    expect(asked.map((question) => /role (\w+)/.exec(question)?.[1])).toEqual(["postgres", "app", "app"]);
    expect(said).toEqual([expect.stringMatching(/^that is not the password that app has/)]);
    expect(all.superuserPassword.origin).toBe("new");
    expect(all.appPassword).toEqual({ value: KNOWN, origin: "given", current: true });
  });

  test("what is typed is not shown, and Ctrl-C ends it", async () => {
    const input = new PassThrough();
    const output = new PassThrough();
    const answer = askHidden("Password: ", input, output);
    input.write("s3cret\r");
    expect(await answer).toBe("s3cret");
    const second = askHidden("Password: ", input, output);
    input.write("\u0003");
    await expect(second).rejects.toThrow("interrupted. Nothing was changed");
    expect(String(output.read())).toMatch(/^Password: \nPassword: \n+$/);
  });
});
