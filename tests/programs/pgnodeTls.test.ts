import { spawnSync } from "child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "fs";
import { tmpdir } from "os";
import { basename, join } from "path";
import { HOST_SCRIPTS } from "../../core/model/hostScripts";
import { PGNODE_SCRIPT } from "../../core/model/pgnode";
import { ANOTHER_AUTHORITY, AUTHORITY } from "../unit/certificates";

/** Notes down what it is told, by arguments, environment and standard input, and makes files. Nothing that it looks at is right. */
const OPENSSL = `#!/bin/sh
echo "$*" >>"$0.calls"
env >>"$0.env"
out=
for word; do [ "$before" != -out ] || out=$word; before=$word; done
case $* in
rand*) echo 00ff ;;
verify*) cat "$4" >"$0.issuer"; exit 1 ;;
x509\\ -req*) cat >"$0.stdin" ;;
pkey*) exit 0 ;;
esac
[ -z "$out" ] || echo "$*" | cut -d ' ' -f 1 >"$out"
`;
const KEY = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";

describe("the certificate of a node, by a made-up openssl,", () => {
  let folder: string;
  const path = (...parts: string[]): string => join(folder, ...parts);
  const own = (name: string): string => path("volume", "own", name);
  const seen = (what: string): string => readFileSync(path("bin", `openssl.${what}`), "utf8");
  /** Where the programs are that it needs besides. */
  let tools: string[];
  beforeAll(() => {
    const names = ["cat", "cp", "mv", "rm", "sed", "awk", "grep", "mkdir", "touch", "chmod", "env", "cut", "sort", "tr", "sh"];
    const found = spawnSync("sh", ["-c", `for name in ${names.join(" ")}; do command -v "$name"; done`], { encoding: "utf8" });
    tools = found.stdout.trim().split("\n");
    expect(tools.map((tool) => basename(tool))).toEqual(names);
  });
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "pgnode-tls-"));
    ["bin", "volume", "volume/data", "volume/own"].forEach((name) => mkdirSync(path(name)));
    writeFileSync(path("volume", "data", "PG_VERSION"), "17\n");
    ["postgresql.conf", "postgresql.auto.conf"].forEach((name) => writeFileSync(path("volume", "data", name), ""));
    const programs = { id: "echo 1000", pg_isready: "exit 0", psql: "exit 0", sleep: "exit 0" };
    Object.entries(programs).forEach(([name, text]) => writeFileSync(path("bin", name), `#!/bin/sh\n${text}\n`, { mode: 0o755 }));
    writeFileSync(path("bin", "openssl"), OPENSSL, { mode: 0o755 });
    // The system's own must not answer.
    tools.forEach((tool) => symlinkSync(tool, path("bin", basename(tool))));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const configure = (key: string | undefined, authority = AUTHORITY): { status: number | null; stderr: string } => {
    const script = PGNODE_SCRIPT.replace("ROOT=/var/lib/pgnode", `ROOT=${path("volume")}`).replace(
      "/usr/lib/postgresql/*/bin",
      path("bin"),
    );
    const conf = `ssl_cert_file = '${own("server.crt")}'\nssl_key_file = '${own("server.key")}'\n`;
    return spawnSync("/bin/sh", ["-c", script, "pgnode", "configure"], {
      env: {
        ...{ PATH: path("bin"), PGNODE_NAME: "pg1", PGNODE_CONF: conf, PGNODE_CA: authority },
        ...(key === undefined ? {} : { PGNODE_ALTERNATIVE_NAMES: "DNS:pg1,IP:127.0.0.1" }),
      },
      input: key ?? "",
      encoding: "utf8",
    });
  };

  test("is issued with the CA's key on the standard input of openssl: in no argument, no environment and no file", () => {
    expect(configure(KEY)).toMatchObject({ status: 0, stderr: "" });
    expect(seen("stdin")).toBe(KEY);
    expect(seen("calls")).toMatch(/^x509 -req .* -CAkey \/dev\/stdin .*-days 365 /m);
    expect(seen("calls") + seen("env")).not.toContain("c2VjcmV0");
    expect(spawnSync("grep", ["-rl", "c2VjcmV0", path("volume")], { encoding: "utf8" }).stdout).toBe("");
    // The node's own key is made here, and read by postgres alone.
    expect((statSync(own("server.key")).mode & 0o777).toString(8)).toBe("600");
    const left = spawnSync("ls", [path("volume", "own")], { encoding: "utf8" })
      .stdout.trim()
      .split("\n");
    expect(left).toEqual(["ca.crt", "node.conf", "server.crt", "server.key"]);
  });

  test("is asked for of the first CA alone, while two are trusted", () => {
    configure(KEY, `${ANOTHER_AUTHORITY}${AUTHORITY}`);
    configure(KEY, `${ANOTHER_AUTHORITY}${AUTHORITY}`);
    expect(seen("issuer")).toBe(ANOTHER_AUTHORITY);
  });

  test("keeps its key when it is made anew: one rename changes it", () => {
    configure(KEY);
    const before = statSync(own("server.key")).ino;
    configure(KEY);
    expect(statSync(own("server.key")).ino).toBe(before);
    expect(seen("calls").match(/^genpkey /gm)).toHaveLength(1);
  });

  test("is made by the node for itself where nobody has the CA's key, so that its server starts, and only where there is none", () => {
    const { status, stderr } = configure(undefined);
    expect([status, stderr]).toEqual([0, expect.stringMatching(/^pgnode: node pg1 has no certificate .* it makes one for itself/)]);
    expect(existsSync(own("server.crt"))).toBe(true);
    expect(configure(undefined)).toMatchObject({ status: 0, stderr: "" });
  });

  test("cannot be made in an image without openssl, which is told in one line", () => {
    rmSync(path("bin", "openssl"));
    const { status, stderr } = configure(KEY);
    expect([status, stderr]).toEqual([
      1,
      expect.stringMatching(/^pgnode: this image has no openssl, .* Set the config key image to .*\n$/),
    ]);
  });

  test("nor can a CA", () => {
    rmSync(path("bin", "openssl"));
    writeFileSync(path("bin", "docker"), '#!/bin/sh\nfor word; do [ "$word" != -s ] || exec sh -s; done\n', { mode: 0o755 });
    const ran = spawnSync("/bin/sh", ["-c", HOST_SCRIPTS.makeAuthority], {
      env: { PATH: path("bin"), NODE_IMAGE: "image", AUTHORITY_NAME: "dev", AUTHORITY_ORGANISATION: "o", AUTHORITY_DAYS: "1" },
      encoding: "utf8",
    });
    expect([ran.status, ran.stdout, ran.stderr]).toEqual([1, "", expect.stringMatching(/^pgnode: this image has no openssl, .*\n$/)]);
  });
});
