import { conninfoValue, passfileField, urlComponent } from "./quoting";

/** Where a server listens. */
export interface Endpoint {
  /** A host name or an IP address. */
  host: string;
  /** A TCP port. */
  port: number;
}

/** Which server of a list libpq picks (its `target_session_attrs`). */
export type SessionAttributes = "any" | "read-write" | "read-only" | "primary" | "standby" | "prefer-standby";

/** A libpq keyword/value string; parameters keep their order, absent ones are left out. */
export function conninfo(parameters: Record<string, string | number | undefined>): string {
  return Object.entries(parameters)
    .filter((entry): entry is [string, string | number] => entry[1] !== undefined)
    .map(([key, value]) => `${key}=${conninfoValue(String(value))}`)
    .join(" ");
}

/** The host and port lists of a connection that may go to any of `endpoints`. */
export function hostLists(endpoints: readonly Endpoint[]): { host: string; port: string } {
  return {
    host: endpoints.map((e) => e.host).join(","),
    port: endpoints.map((e) => e.port).join(","),
  };
}

/** A libpq URL. It names every endpoint, so it stays right when another one becomes primary. */
export function libpqUrl(args: {
  user: string;
  password: string;
  endpoints: readonly Endpoint[];
  database: string;
  target?: SessionAttributes;
  /** More parameters, in their order. @default none */
  parameters?: Readonly<Record<string, string>>;
}): string {
  const hosts = args.endpoints.map((e) => `${e.host.includes(":") ? `[${e.host}]` : e.host}:${e.port}`).join(",");
  const parameters = { ...(args.target === undefined ? {} : { target_session_attrs: args.target }), ...args.parameters };
  const query = Object.entries(parameters).map(([key, value], i) => `${i === 0 ? "?" : "&"}${key}=${urlComponent(value)}`);
  return `postgresql://${urlComponent(args.user)}:${urlComponent(args.password)}@${hosts}/${urlComponent(args.database)}${query.join("")}`;
}

/** A password file: each role's password, for every host and database, one line each. */
export function passfile(passwords: Readonly<Record<string, string>>): string {
  return Object.entries(passwords)
    .map(([user, password]) => `*:*:*:${passfileField(user)}:${passfileField(password)}\n`)
    .join("");
}

/** What PostgreSQL cannot store or transmit in a password file: a line break or a NUL ends the field. */
export function isUsablePassword(password: string): boolean {
  return password.length > 0 && !/[\u0000-\u001f\u007f]/.test(password);
}
