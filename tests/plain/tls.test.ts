import { readFileSync } from "fs";
import { join } from "path";
import { Client } from "pg";
import { docker } from "../docker";
import { parseConfig } from "../../core/config";
import { findingsOf } from "../../core/judgement/findings";
import { placedHere } from "../../operations/engine/dockerHost";
import { diagnose } from "../../operations/engine/observe";
import { NodeControl } from "../../operations/engine/nodeControl";
import { until } from "../../operations/engine/poll";
import { freePorts, OWN_IMAGE } from "../integration/checkout";
import { PlainStack } from "./plainStack";

jest.setTimeout(600_000);

/** The image's own psql, as a client outside of the stack's network, with this CA in the file that the URL names. */
async function psql(url: string, sql: string, authority: string): Promise<{ code: number; said: string }> {
  const file = /sslrootcert=([^&]*)/.exec(url)?.[1] ?? "none.pem";
  const script = `cd /tmp && cat >'${file}' && exec psql -XAtq -d "$URL" -c "$SQL"`;
  const ran = await docker(
    ["run", "--rm", "-i", "--network", "host", "-e", "URL", "-e", "SQL", "--entrypoint", "sh", OWN_IMAGE, "-c", script],
    {
      env: { URL: url, SQL: sql },
      input: authority,
    },
  );
  return { code: ran.exitCode, said: `${ran.stdout}${ran.stderr}`.trim() };
}
const IN_USE = "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
const withoutTls = (url: string): string => url.replace("sslmode=verify-full", "sslmode=disable");

const STREAMS_BY_TLS =
  "SELECT count(*) FROM pg_stat_replication JOIN pg_stat_ssl USING (pid) WHERE state = 'streaming' AND ssl AND version >= 'TLSv1.2'";

const caFile = (plain: PlainStack): string => readFileSync(join(plain.folder, `ca-${plain.stack}.pem`), "utf8");

describe("a stack that begins with TLS", () => {
  let plain: PlainStack;
  let authority: string;
  beforeAll(async () => {
    plain = await PlainStack.build("tls", { sampleDatabase: true, tls: "generated" });
    authority = caFile(plain);
  });
  afterAll(() => plain.remove());

  test("writes the CA's certificate to where its URLs say, and it is an output", async () => {
    const { writerUrl, caCertificate } = (await plain.outputs()) as unknown as { writerUrl: string; caCertificate: string };
    expect(writerUrl).toContain(`sslmode=verify-full&sslrootcert=ca-${plain.stack}.pem`);
    expect(authority).toMatch(/^-----BEGIN CERTIFICATE-----\n[^-]*-----END CERTIFICATE-----\n$/);
    expect(caCertificate).toBe(authority);
  });

  test("lets clients in by its URLs, encrypted", async () => {
    const { writerUrl, readerUrl, primaryUrl } = await plain.outputs();
    for (const url of [writerUrl, readerUrl, primaryUrl]) {
      expect(await psql(url, IN_USE, authority)).toEqual({ code: 0, said: "t|TLSv1.3" });
    }
  });

  test("lets nobody in without TLS, with the right password", async () => {
    const { primaryUrl, secondaryUrls } = await plain.outputs();
    for (const url of [primaryUrl, ...Object.values(secondaryUrls)]) {
      expect(await psql(withoutTls(url), "SELECT 1", authority)).toEqual({
        code: 2,
        said: expect.stringContaining("no encryption") as string,
      });
    }
  });

  test("is not taken for itself by a client that trusts another CA", async () => {
    const other = await plain.sh(
      "pg1",
      "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -subj /O=postgres-replica -days 1 2>/dev/null",
    );
    const { primaryUrl } = await plain.outputs();
    expect(await psql(primaryUrl, "SELECT 1", `${other}\n`)).toEqual({
      code: 2,
      said: expect.stringContaining("certificate verify failed") as string,
    });
  });

  test("replicates by TLS, each node checked by its name", async () => {
    expect(await plain.sql("pg1", STREAMS_BY_TLS, "postgres")).toBe("1");
    expect(await plain.sql("pg2", "SELECT conninfo ~ 'sslmode=verify-full' FROM pg_stat_wal_receiver", "postgres")).toBe("t");
  });

  test("keeps a node's key in the node: the CA's key is nowhere", async () => {
    const files = await plain.sh("pg1", "cd /var/lib/pgnode/own && stat -c '%a %U %n' server.* ca.crt && ls");
    expect(files).toMatch(/^600 postgres server.crt\n600 postgres server.key\n600 postgres ca.crt\n/);
    const keys = await plain.sh(
      "pg1",
      "grep -rlE 'BEGIN.* PRIVATE KEY' /var/lib/pgnode /tmp /run 2>/dev/null | grep -v /data/base || true",
    );
    expect(keys).toBe("/var/lib/pgnode/own/server.key");
  });

  test("shows no change", () => plain.expectIdleUp());

  test("has a node that rejoin has cloned, without the CA's key, make a certificate for itself, which status names and up replaces", async () => {
    const config = placedHere(parseConfig(plain.stack, { nodes: plain.nodes, tls: "generated" }));
    const [one, two] = config.nodes.map((node) => new NodeControl(config, node));
    await plain.docker("stop", plain.container("pg2"));
    await plain.docker("run", "--rm", "-v", `${plain.volume("pg2")}:/v`, "--entrypoint", "sh", OWN_IMAGE, "-c", "rm -rf /v/*");
    await two?.clone(one as NodeControl);
    await plain.docker("start", plain.container("pg2"));
    await plain.until("pg1", STREAMS_BY_TLS, "1");
    expect(findingsOf(await diagnose(config)).map(({ kind, node }) => `${kind} ${node}`)).toEqual(["certificate-provisional pg2"]);
    const { secondaryUrls } = await plain.outputs();
    expect((await psql(secondaryUrls["pg2"] ?? "", "SELECT 1", authority)).said).toContain("certificate verify failed");
    await plain.up();
    expect(await psql(secondaryUrls["pg2"] ?? "", IN_USE, authority)).toEqual({ code: 0, said: "t|TLSv1.3" });
    await plain.expectZeroDiff();
  });

  test("goes on after a failover, and back", async () => {
    await plain.moveRole("pg1", "pg2");
    expect(await plain.sql("pg2", STREAMS_BY_TLS, "postgres")).toBe("1");
    const { writerUrl } = await plain.outputs();
    expect(await psql(writerUrl, IN_USE, authority)).toEqual({ code: 0, said: "t|TLSv1.3" });
    await plain.expectZeroDiff();
  });

  test("takes in a new node, cloned by TLS, with a certificate of its own", async () => {
    const [one, two] = plain.nodes;
    const [port] = await freePorts(1);
    plain.configure({ nodes: [one, two, { name: "pg3", port }] });
    await plain.up();
    expect(await plain.sql("pg2", STREAMS_BY_TLS, "postgres")).toBe("2");
    const { secondaryUrls } = await plain.outputs();
    expect(await psql(secondaryUrls["pg3"] ?? "", IN_USE, authority)).toEqual({ code: 0, said: "t|TLSv1.3" });
    await plain.expectZeroDiff();
  });

  test("has certificates made anew that end soon, or have ended, by a reload: no session is dropped", async () => {
    const key = await authorityKey(plain);
    const session = await connected((await plain.outputs()).secondaryUrls["pg2"] ?? "", authority);
    try {
      await replaceCertificate(plain, "pg2", key, "-days 2");
      await replaceCertificate(plain, "pg1", key, "-not_before 20200101000000Z -not_after 20210101000000Z");
      const { primaryUrl } = await plain.outputs();
      expect((await psql(primaryUrl, "SELECT 1", authority)).said).toContain("certificate verify failed");
      const config = placedHere(parseConfig(plain.stack, { nodes: plain.nodes, tls: "generated" }));
      expect(findingsOf(await diagnose(config)).map(({ kind, node }) => `${kind} ${node}`)).toEqual([
        "certificate-expired pg1",
        // Of a life of two days nothing is gone yet: that is for status to say, and another matter than to make it anew in time.
      ]);
      const preview = await plain.preview("--diff");
      expect(preview).toContain("its certificate ends on 2021-01-01");
      expect(preview.match(/its certificate ends on/g)).toHaveLength(2);
      const before = [await plain.sql("pg2", SESSIONS, "postgres"), ...(await plain.containers())];

      await plain.up();
      expect([await plain.sql("pg2", SESSIONS, "postgres"), ...(await plain.containers())]).toEqual(before);
      expect((await session.query<{ ssl: boolean }>(IN_USE)).rows[0]?.ssl).toBe(true);
      for (const node of ["pg1", "pg2"]) {
        expect(await daysLeft(plain, node)).toBeGreaterThan(360);
      }
      expect(await psql(primaryUrl, IN_USE, authority)).toEqual({ code: 0, said: "t|TLSv1.3" });
      await plain.expectZeroDiff();
    } finally {
      await session.end();
    }
  });

  test("comes back by up, twice, when every certificate has ended and its primary was started anew", async () => {
    const key = await authorityKey(plain);
    const ended = "-not_before 20200101000000Z -not_after 20210101000000Z";
    await Promise.all(plain.nodes.map(({ name }) => replaceCertificate(plain, name, key, ended)));
    await plain.docker("restart", plain.container("pg2"));
    const said = async (): Promise<string> => {
      const { stdout, stderr } = await docker(["logs", "--tail", "5", plain.container("pg2")]);
      return stdout + stderr;
    };
    // It writes for nobody whom it cannot ask whether there is another writer.
    await until("pg2 to stay down", 60, async () =>
      (await said()).includes("may be the primary, and the certificate of it is not one that this node takes"),
    );
    await plain.up();
    await plain.until("pg2", "SELECT pg_is_in_recovery()", "f");
    await plain.up();
    await plain.until("pg2", STREAMS_BY_TLS, "2");
    await plain.expectZeroDiff();
  });

  test("gets a new key for one that is damaged, on a node that does not start with it", async () => {
    await plain.sh("pg3", "echo damaged >/var/lib/pgnode/own/server.key");
    await plain.docker("restart", plain.container("pg3"));
    await until("pg3 not to start", 60, async () => {
      const { stdout, stderr } = await docker(["logs", "--tail", "5", plain.container("pg3")]);
      return (stdout + stderr).includes("could not load private key file");
    });
    expect(await plain.preview("--diff")).toContain("its server does not start with the settings that it has");
    await plain.up();
    await plain.until("pg2", STREAMS_BY_TLS, "2");
    await plain.expectZeroDiff();
  });

  test("has a certificate made anew that is for other names, or of another CA, or gone", async () => {
    const other = await plain.sh("pg2", "cat /var/lib/pgnode/own/server.crt");
    await plain.sh("pg1", "rm /var/lib/pgnode/own/server.crt");
    await plain.sh("pg3", `cat >/var/lib/pgnode/own/server.crt <<'END'\n${other}\nEND`);
    await plain.sh("pg2", "cd /var/lib/pgnode/own && openssl req -x509 -new -key server.key -subj /CN=pg2 -days 300 -out server.crt");
    const preview = await plain.preview("--diff");
    for (const reason of ["its certificate is gone", "its certificate is for other names", "its certificate is not of the stack's CA"]) {
      expect(preview).toContain(reason);
    }
    await plain.up();
    await plain.expectZeroDiff();
    const { primaryUrl, secondaryUrls } = await plain.outputs();
    for (const url of [primaryUrl, ...Object.values(secondaryUrls)]) {
      expect(await psql(url, IN_USE, authority)).toEqual({ code: 0, said: "t|TLSv1.3" });
    }
  });

  test("gets a new CA in three steps, both trusted in between: clients and standbys are served all the time", async () => {
    await plain.set("2", "--plaintext", "caGeneration");
    const { primaryUrl, secondaryUrls } = await plain.outputs();
    const urls = [primaryUrl, ...Object.values(secondaryUrls)];
    const served = async (by: string): Promise<string[]> => Promise.all(urls.map(async (url) => (await psql(url, IN_USE, by)).said));
    const all = urls.map(() => "t|TLSv1.3");
    const before = [await plain.sql("pg2", SESSIONS, "postgres"), ...(await plain.containers())];

    expect(await plain.preview()).toMatch(/warning: the stack's CA is replaced in three steps/);
    await plain.up();
    const both = caFile(plain);
    expect(both.match(/BEGIN CERTIFICATE/g)).toHaveLength(2);
    const renewed = both.replace(authority, "");
    // Who has the old one and who has both are served; only the new one serves nobody yet.
    expect([await served(authority), await served(both)]).toEqual([all, all]);
    expect(await served(renewed)).not.toEqual(all);

    expect(await plain.preview()).toMatch(/warning: with this up every certificate is issued by the new CA/);
    await plain.up();
    expect([await served(both), await served(renewed)]).toEqual([all, all]);

    expect(await plain.preview()).toMatch(/warning: with this up the old CA is trusted no more/);
    await plain.up();
    expect(caFile(plain)).toBe(renewed);
    expect(await served(renewed)).toEqual(all);
    expect([await plain.sql("pg2", SESSIONS, "postgres"), ...(await plain.containers())]).toEqual(before);
    await plain.expectZeroDiff();
  });
});

/** The client sessions and WAL senders of a server. */
const SESSIONS = "SELECT string_agg(pid || ' ' || backend_start, ',' ORDER BY pid) FROM pg_stat_activity WHERE client_addr IS NOT NULL";

/** A session by a URL of one node; without a CA it is not encrypted. */
async function connected(text: string, authority?: string): Promise<Client> {
  const url = new URL(text);
  const client = new Client({
    ...{ host: url.hostname, port: Number(url.port), database: url.pathname.slice(1) },
    ...{ user: decodeURIComponent(url.username), password: decodeURIComponent(url.password) },
    ...(authority === undefined ? {} : { ssl: { ca: authority } }),
  });
  await client.connect();
  return client;
}

/** The key of the stack's CA, which is in the state and nowhere else. */
async function authorityKey(plain: PlainStack): Promise<string> {
  const exported = JSON.parse((await plain.must("stack", "export", "--show-secrets")).stdout) as {
    deployment: { resources: { urn: string; outputs?: { stdout?: { plaintext?: string } } }[] };
  };
  const made = exported.deployment.resources.find(({ urn }) => urn.endsWith("::authority"))?.outputs?.stdout?.plaintext ?? '""';
  return (JSON.parse(made) as string).replace(/-----BEGIN CERTIFICATE[^]*/, "");
}

/** Makes a node use a certificate that lasts as the options of `openssl x509` say, for its own names and by the stack's CA. */
async function replaceCertificate(plain: PlainStack, node: string, key: string, options: string): Promise<void> {
  const script = `cd /var/lib/pgnode/own
    printf '[req]\ndistinguished_name=n\nprompt=no\n[n]\nCN=%s\n[leaf]\nsubjectAltName=%s\n' "$(hostname)" \
      "$(openssl x509 -in server.crt -noout -ext subjectAltName | sed -n '2{s/ //g;s/IPAddress:/IP:/g;p;}')" >/tmp/config
    openssl req -new -key server.key -config /tmp/config -out /tmp/request
    cat >/tmp/authority
    openssl x509 -req -in /tmp/request -CA ca.crt -CAkey /tmp/authority ${options} -extfile /tmp/config -extensions leaf -out server.crt
    rm /tmp/authority /tmp/request /tmp/config
    psql -d postgres -c 'SELECT pg_reload_conf()'; sleep 0.5`;
  const ran = await docker(["exec", "-i", "-u", "postgres", plain.container(node), "sh", "-ec", script], { input: key });
  if (ran.exitCode !== 0) {
    throw new Error(ran.stderr);
  }
}

/** How many days the certificate lasts that a node's server shows to clients. */
async function daysLeft(plain: PlainStack, node: string): Promise<number> {
  const end = await plain.sh(
    node,
    "openssl s_client -starttls postgres -connect 127.0.0.1:5432 </dev/null 2>/dev/null | openssl x509 -noout -enddate",
  );
  return (Date.parse(end.replace("notAfter=", "")) - Date.now()) / 86_400_000;
}

describe("a stack that runs without TLS", () => {
  let plain: PlainStack;
  let session: Client;
  beforeAll(async () => {
    plain = await PlainStack.build("tls-on", { sampleDatabase: true }, { nodes: 3 });
    session = await connected((await plain.outputs()).primaryUrl);
  });
  afterAll(async () => {
    await session.end();
    await plain.remove();
  });
  const stillThere = async (): Promise<void> => {
    expect((await session.query<{ n: number }>("SELECT 1 AS n")).rows).toEqual([{ n: 1 }]);
  };
  const sends = (pattern: string): Promise<string> =>
    plain.sql("pg2", `SELECT conninfo ~ '${pattern}' FROM pg_stat_wal_receiver`, "postgres");

  test("has no trace of it, whether the config says so or not", async () => {
    expect(await plain.sh("pg1", "cat /var/lib/pgnode/own/node.conf /var/lib/pgnode/own/pg_hba.conf; ls /var/lib/pgnode/own")).not.toMatch(
      /ssl|tls|server\.|ca\.crt/,
    );
    for (const tls of [false, "off"]) {
      plain.configure({ tls });
      await plain.expectZeroDiff();
    }
  });

  test("offers it after one up, which says so, and lets everybody in as before", async () => {
    plain.configure({ tls: "generated" });
    const before = await plain.containers();
    const said = await plain.preview();
    expect(said).toMatch(
      /warning: TLS is switched on in two steps\. .*still let in \(1 session of a client is without it now\)\. The next up ends that/,
    );
    await plain.up();
    expect(await plain.containers()).toEqual(before);
    await stillThere();
    const { primaryUrl, writerUrl } = await plain.outputs();
    expect(await psql(withoutTls(primaryUrl), "SELECT 1", caFile(plain))).toEqual({ code: 0, said: "1" });
    expect(await psql(writerUrl, IN_USE, caFile(plain))).toEqual({ code: 0, said: "t|TLSv1.3" });
    expect(await sends("verify-full")).toBe("f");
  });

  test("insists on it after the next one, between the nodes too, and drops nobody who is connected", async () => {
    const before = await plain.containers();
    expect(await plain.preview()).toMatch(
      /warning: from this up on no client without TLS is let in \(1 session of a client is without it now/,
    );
    await plain.up();
    expect(await plain.containers()).toEqual(before);
    await stillThere();
    const { primaryUrl, writerUrl } = await plain.outputs();
    expect((await psql(withoutTls(primaryUrl), "SELECT 1", caFile(plain))).said).toContain("no encryption");
    expect(await psql(writerUrl, IN_USE, caFile(plain))).toEqual({ code: 0, said: "t|TLSv1.3" });
    expect(await sends("verify-full")).toBe("t");
    await plain.until("pg1", STREAMS_BY_TLS, "2");
    await plain.expectZeroDiff();
  });

  test("goes back to none", async () => {
    plain.configure({ tls: "off" });
    await plain.up();
    await stillThere();
    const { primaryUrl } = await plain.outputs();
    expect(primaryUrl).not.toContain("ssl");
    expect(await psql(primaryUrl, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", "")).toEqual({ code: 0, said: "f" });
    await plain.until("pg1", "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'", "2");
    await plain.expectZeroDiff();
  });
});

describe("a stack with certificates that the user has brought", () => {
  let plain: PlainStack;
  let made: Record<"authority" | "pg1" | "pg1-key" | "pg2" | "pg2-key" | "again", string>;
  beforeAll(async () => {
    plain = await PlainStack.make("tls-own", { sampleDatabase: true, tls: "provided" });
    made = await ownCertificates();
    await plain.set(made.authority, "--plaintext", "tlsCa");
    for (const node of ["pg1", "pg2"] as const) {
      await set(node, "certificate", made[node]);
      await set(node, "key", made[`${node}-key`]);
    }
  });
  afterAll(() => plain.remove());
  const set = (node: string, part: "certificate" | "key", text: string): Promise<void> =>
    plain.set(text, ...(part === "key" ? ["--secret"] : ["--plaintext"]), "--path", `tlsCertificates.${node}.${part}`);

  test("is refused in one line, and nothing is made, when a key does not fit", async () => {
    await set("pg2", "key", made["pg1-key"]);
    const ran = await plain.pulumi(["up", "--yes", "--skip-preview"]);
    expect([ran.exitCode, ran.stdout]).toEqual([
      1,
      expect.stringContaining('error: config key "tlsCertificates.pg2.key" does not fit the certificate; allowed is') as string,
    ]);
    expect(await plain.containers()).toEqual([]);
    await set("pg2", "key", made["pg2-key"]);
  });

  test("uses them, insists on TLS, and shows no change", async () => {
    await plain.up();
    const { primaryUrl, secondaryUrls } = await plain.outputs();
    expect(caFile(plain)).toBe(made.authority);
    for (const url of [primaryUrl, ...Object.values(secondaryUrls)]) {
      expect(await psql(url, IN_USE, made.authority)).toEqual({ code: 0, said: "t|TLSv1.3" });
      expect((await psql(withoutTls(url), "SELECT 1", made.authority)).said).toContain("no encryption");
    }
    expect(await plain.sql("pg1", STREAMS_BY_TLS, "postgres")).toBe("1");
    expect(await plain.sh("pg1", "ls /var/lib/pgnode/own")).not.toContain("server.key");
    await plain.expectZeroDiff();
  });

  test("takes another one by a reload: no session is dropped", async () => {
    const before = [await plain.sql("pg1", SESSIONS, "postgres"), ...(await plain.containers())];
    await set("pg1", "certificate", made.again);
    await plain.up();
    expect([await plain.sql("pg1", SESSIONS, "postgres"), ...(await plain.containers())]).toEqual(before);
    expect(await daysLeft(plain, "pg1")).toBeGreaterThan(50);
    await plain.expectZeroDiff();
  });
});

/** A CA of somebody else's, and certificates by it: of each node for 40 days, and another one of pg1 for 60. */
async function ownCertificates(): Promise<Record<"authority" | "pg1" | "pg1-key" | "pg2" | "pg2-key" | "again", string>> {
  const script = `cd /tmp
    ec='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
    openssl req -x509 $ec -keyout ca.key -subj /O=Example -days 50 -out authority
    sign() { openssl x509 -req -in "$1.csr" -CA authority -CAkey ca.key -days "$2" -copy_extensions copy -out "$3"; }
    for node in pg1 pg2; do
      openssl req $ec -keyout "$node-key" -subj "/CN=$node" -addext "subjectAltName=DNS:$node,IP:127.0.0.1,DNS:127.0.0.1" -out "$node.csr"
      sign "$node" 40 "$node"
    done
    sign pg1 60 again
    for file in authority pg1 pg1-key pg2 pg2-key again; do echo "== $file"; cat "$file"; done`;
  const ran = await docker(["run", "--rm", "--network", "none", "--entrypoint", "sh", OWN_IMAGE, "-ec", script]);
  if (ran.exitCode !== 0) {
    throw new Error(ran.stderr);
  }
  const parts = ran.stdout.split(/^== /m).slice(1);
  return Object.fromEntries(
    parts.map((part) => [part.split("\n")[0] ?? "", `${part.split("\n").slice(1).join("\n").trim()}\n`]),
  ) as Awaited<ReturnType<typeof ownCertificates>>;
}
