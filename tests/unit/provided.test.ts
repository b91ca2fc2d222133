import { ConfigError, parseConfig, type Provided, providedCertificates } from "../../core/config";
import {
  AUTHORITY,
  CERTIFICATE,
  ENCRYPTED_KEY,
  OTHER_KEY,
  PROVIDED,
  PROVIDED_AUTHORITY,
  PROVIDED_CHAIN,
  PROVIDED_KEY,
} from "./certificates";

const DAY = Date.parse("2026-06-01") / 1000;
const pg1 = { certificate: PROVIDED, key: PROVIDED_KEY };

function read(certificates: unknown, authority: unknown = PROVIDED_AUTHORITY, now = DAY, node: object = {}): Provided {
  const config = parseConfig("prod", { nodes: [{ name: "pg1", port: 5432, ...node }], tls: "provided" });
  return providedCertificates(config, { tlsCa: authority, tlsCertificates: certificates }, now);
}

describe("certificates that the user has brought", () => {
  test("are taken as they are when all is right with them, as an object or as JSON text", () => {
    const expected = { authority: PROVIDED_AUTHORITY, nodes: { pg1 } };
    expect(read({ pg1 })).toEqual(expected);
    expect(read(JSON.stringify({ pg1 }))).toEqual(expected);
  });

  test("may come with those between them and the CA, which may be several", () => {
    expect(read({ pg1: { ...pg1, certificate: PROVIDED_CHAIN } }, `${AUTHORITY}${PROVIDED_AUTHORITY}`).nodes["pg1"]?.certificate).toBe(
      PROVIDED_CHAIN,
    );
  });

  test.each<[string, () => unknown, string]>([
    [
      "no CA",
      () => read({ pg1 }, ""),
      'config key "tlsCa" holds no certificate; allowed is the certificate of the CA in PEM, or several. ',
    ],
    ["a CA that is none", () => read({ pg1 }, PROVIDED_KEY), 'config key "tlsCa" holds no certificate; '],
    [
      "a node that is none",
      () => read({ pg1, pg9: pg1 }),
      'config key "tlsCertificates" has a node "pg9"; allowed is one of pg1. Remove it with: pulumi config rm --stack prod --path \'tlsCertificates.pg9\'',
    ],
    ["nothing", () => read(undefined), 'config key "tlsCertificates.pg1.certificate" holds no certificate; '],
    ["no JSON", () => read("{"), 'config key "tlsCertificates.pg1.certificate" holds no certificate; '],
    ["a node without one", () => read({ pg1: 7 }), 'config key "tlsCertificates.pg1.certificate" holds no certificate; '],
    [
      "one that is not valid yet",
      () => read({ pg1 }, PROVIDED_AUTHORITY, Date.parse("2025-12-31") / 1000),
      'config key "tlsCertificates.pg1.certificate" is not valid before 2026-01-01; allowed is a certificate that is valid now. ',
    ],
    [
      "one that has ended",
      () => read({ pg1 }, PROVIDED_AUTHORITY, Date.parse("2027-01-01") / 1000),
      'config key "tlsCertificates.pg1.certificate" has ended on 2027-01-01; ',
    ],
    [
      "one for another address",
      () => read({ pg1 }, PROVIDED_AUTHORITY, DAY, { address: "192.0.2.1" }),
      'config key "tlsCertificates.pg1.certificate" is not for IP:192.0.2.1; allowed is a certificate whose alternative names have the node\'s name and its address. ',
    ],
    [
      "one for another node",
      () => {
        const config = parseConfig("prod", { nodes: [{ name: "pg2", port: 5432 }], tls: "provided" });
        return providedCertificates(config, { tlsCa: PROVIDED_AUTHORITY, tlsCertificates: { pg2: pg1 } }, DAY);
      },
      'config key "tlsCertificates.pg2.certificate" is not for DNS:pg2; ',
    ],
    [
      "one of another CA",
      () => read({ pg1 }, AUTHORITY),
      'config key "tlsCertificates.pg1.certificate" was not issued by a CA of tlsCa; allowed is a certificate of that CA, followed by those between. ',
    ],
    [
      "one that is followed by another that has not issued it",
      () => read({ pg1: { ...pg1, certificate: `${PROVIDED}${CERTIFICATE}` } }),
      'config key "tlsCertificates.pg1.certificate" is followed by one that has not issued it; ',
    ],
    [
      "no key",
      () => read({ pg1: { certificate: PROVIDED } }),
      "config key \"tlsCertificates.pg1.key\" holds no private key that can be read; allowed is the certificate's key in PEM, without a passphrase. Set it with: pulumi config set --stack prod --secret --path 'tlsCertificates.pg1.key' < FILE.pem",
    ],
    [
      "a key with a passphrase",
      () => read({ pg1: { ...pg1, key: ENCRYPTED_KEY } }),
      'config key "tlsCertificates.pg1.key" holds no private key',
    ],
    [
      "a key that does not fit",
      () => read({ pg1: { ...pg1, key: OTHER_KEY } }),
      'config key "tlsCertificates.pg1.key" does not fit the certificate; allowed is the key that the certificate was made for. ',
    ],
  ])("are refused in one line when there is %s, and no line holds a key", (_what, wrong, line) => {
    let said = "";
    try {
      wrong();
    } catch (error) {
      expect(error).toBeInstanceOf(ConfigError);
      said = (error as Error).message;
    }
    expect(said.startsWith(line) ? line : said).toBe(line);
    expect(said).not.toMatch(/\n|MIG|BEGIN/);
  });

  test("are of no concern to whoever only reads the config: a secret in its file is not text", () => {
    const raw = {
      tls: "provided",
      tlsCa: PROVIDED_AUTHORITY,
      tlsCertificates: { pg1: { certificate: PROVIDED, key: { secure: "v1:x" } } },
    };
    expect(parseConfig("prod", raw).tls).toEqual({ certificates: "provided", caFile: "ca-prod.pem", caGeneration: 1 });
  });
});
