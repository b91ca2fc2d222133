import { X509Certificate } from "crypto";
import { isIPv4, isIPv6 } from "net";
import type { Member } from "./cluster";

/** The certificates of a stack's nodes: for whom they are, and how long they last. */

/** How long a certificate that the stack makes is good for, and when it is made anew: in the last third. In days. */
export const CERTIFICATE_DAYS = 365;
export const RENEWAL_DAYS = Math.floor(CERTIFICATE_DAYS / 3);
/** The same of the stack's own certificate authority. */
export const AUTHORITY_DAYS = 3_650;
/** The organisation in the certificate of that, and in one that a node makes for itself until it gets its own. */
export const AUTHORITY_ORGANISATION = "postgres-replica";
export const PROVISIONAL_ORGANISATION = "postgres-replica-provisional";

/**
 * The names by which a node is reached, as OpenSSL writes them: in the network by its own and its container's, from elsewhere by
 * the published address, from within as localhost. libpq takes an IP address for a DNS name before version 15.
 */
export function certificateNames({ name, container, place }: Member): string[] {
  const { host } = place.published;
  const addresses = [...new Set([host, "127.0.0.1", "::1"])];
  return [
    ...[...new Set([name, container, "localhost", ...addresses])].map((text) => `DNS:${text}`),
    ...addresses.map((text) => `IP:${plainAddress(text)}`),
  ];
}

/** An IP address as OpenSSL prints it: every group of an IPv6 address, in upper case, without zeros before. */
export function plainAddress(text: string): string {
  if (!isIPv6(text)) {
    return text;
  }
  const [, last = ""] = /:(\d+\.\d+\.\d+\.\d+)$/.exec(text) ?? [];
  const [a = 0, b = 0, c = 0, d = 0] = last.split(".").map(Number);
  const groups = isIPv4(last) ? text.replace(last, `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`) : text;
  const [before = "", after] = groups.split("::");
  const list = (part: string): string[] => part.split(":").filter((group) => group !== "");
  const known = [...list(before), ...list(after ?? "")];
  const zeros = after === undefined ? [] : Array<string>(8 - known.length).fill("0");
  return [...list(before), ...zeros, ...list(after ?? "")].map((group) => parseInt(group, 16).toString(16).toUpperCase()).join(":");
}

/** What a certificate says. */
export interface Certificate {
  /** Seconds since 1970. */
  from: number;
  to: number;
  /** As {@link certificateNames} has them. */
  names: string[];
  /** The organisation that has issued it; empty when it says none. */
  issuer: string;
  x509: X509Certificate;
}

/** Reads the first certificate of a text in PEM; undefined when there is none that can be read. */
export function readCertificate(pem: string | null | undefined): Certificate | undefined {
  try {
    const x509 = new X509Certificate(pem ?? "");
    return {
      from: Date.parse(x509.validFrom) / 1000,
      to: Date.parse(x509.validTo) / 1000,
      names: (x509.subjectAltName ?? "").split(", ").map((name) => name.replace(/^IP Address:/, "IP:")),
      issuer: /^O=(.*)$/m.exec(x509.issuer)?.[1] ?? "",
      x509,
    };
  } catch {
    return undefined;
  }
}

/** Reads every certificate of a text in PEM; undefined when one of them cannot be read. */
export function certificateList(pem: string): Certificate[] | undefined {
  const read = pem
    .split(/(?=-----BEGIN )/)
    .filter((part) => part.trim() !== "")
    .map((part) => readCertificate(part));
  return read.every((certificate) => certificate !== undefined) ? read : undefined;
}

/** Whether a certificate was issued by this one. */
export const isIssuedBy = ({ x509 }: Certificate, authority: Certificate): boolean =>
  x509.checkIssued(authority.x509) && x509.verify(authority.x509.publicKey);

/** In seconds. */
export const DAY = 86_400;

/**
 * Why the certificate of a node that the stack makes is to be made anew; empty when it is right. The same is asked by pgnode,
 * which does it (image/pgnode/tls.sh).
 *
 * @param of What the node has, and its time in seconds since 1970.
 * @param names See {@link certificateNames}.
 * @param authority The certificate of the stack's CA. @default it is not known, and not compared
 */
export function certificateDrift(
  of: { certificate: string | null; at: number },
  names: readonly string[],
  authority: string | undefined,
): string[] {
  const certificate = readCertificate(of.certificate);
  if (certificate === undefined) {
    return [`its certificate ${of.certificate === null ? "is gone" : "cannot be read"}`];
  }
  const issuer = readCertificate(authority);
  return [
    ...(issuer === undefined || isIssuedBy(certificate, issuer) ? [] : ["its certificate is not of the stack's CA"]),
    ...(certificate.names.join() === names.join() ? [] : ["its certificate is for other names"]),
    ...(certificate.to - of.at < RENEWAL_DAYS * DAY ? [`its certificate ends on ${dateOf(certificate.to)}`] : []),
  ];
}

/** The day of a moment, which is in seconds since 1970. */
export const dateOf = (moment: number): string => new Date(moment * 1000).toISOString().slice(0, 10);
