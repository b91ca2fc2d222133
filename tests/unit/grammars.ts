/**
 * The grammars that our values meet, written down a second time and from the reader's side: what
 * PostgreSQL, libpq and the shell make of a text. Tests compare that with what was meant.
 */

/** What was read, and what comes after it. */
export interface Read {
  value: string;
  rest: string;
}

/** Reads a SQL string constant at the start of a text, plain or E''. Spaces before it do not count. */
export function readSqlLiteral(text: string): Read {
  const match = /^\s*(E?)'((?:[^']|'')*)'/s.exec(text);
  const [whole, escapes, body] = match ?? [];
  if (whole === undefined || body === undefined) {
    throw new Error(`no SQL literal: ${text}`);
  }
  if (escapes === "") {
    // standard_conforming_strings decides what a backslash means here, so there must be none.
    if (body.includes("\\")) {
      throw new Error(`a plain SQL literal with a backslash: ${text}`);
    }
    return { value: body.replace(/''/g, "'"), rest: text.slice(whole.length) };
  }
  return readEscaped(text.slice(text.indexOf("'") + 1));
}

function readEscaped(text: string): Read {
  let value = "";
  for (let i = 0; i < text.length; i += 1) {
    const two = text.slice(i, i + 2);
    if (two === "''" || two === "\\\\" || two === "\\'") {
      value += two === "\\\\" ? "\\" : "'";
      i += 1;
    } else if (text[i] === "'") {
      return { value, rest: text.slice(i + 1) };
    } else if (text[i] === "\\") {
      throw new Error(`an escape that means something else: ${two}`);
    } else {
      value += text[i];
    }
  }
  throw new Error(`a SQL literal without end: ${text}`);
}

/** Reads a quoted SQL identifier at the start of a text. */
export function readSqlIdentifier(text: string): Read {
  const match = /^"((?:[^"]|"")*)"/s.exec(text);
  if (match?.[1] === undefined) {
    throw new Error(`no quoted identifier: ${text}`);
  }
  return { value: match[1].replace(/""/g, '"'), rest: text.slice(match[0].length) };
}

/** libpq's conninfo_parse: keyword = value, the value bare or in quotes, a backslash before any character. */
export function parseConninfo(text: string): Record<string, string> {
  const found: Record<string, string> = {};
  let i = 0;
  const skip = (): void => {
    while (/\s/.test(text[i] ?? "")) {
      i += 1;
    }
  };
  const take = (): string => {
    if (text[i] === "\\") {
      i += 1;
    }
    const taken = text[i] ?? "";
    i += 1;
    return taken;
  };
  for (skip(); i < text.length; skip()) {
    const key = /^[a-z_]+/.exec(text.slice(i))?.[0];
    if (key === undefined) {
      throw new Error(`no keyword at ${i}: ${text}`);
    }
    i += key.length;
    skip();
    if (text[i] !== "=") {
      throw new Error(`no = after ${key}: ${text}`);
    }
    i += 1;
    skip();
    let value = "";
    if (text[i] === "'") {
      i += 1;
      while (text[i] !== "'") {
        if (i >= text.length) {
          throw new Error(`a quoted value without end: ${text}`);
        }
        value += take();
      }
      i += 1;
    } else {
      while (i < text.length && !/\s/.test(text[i] ?? "")) {
        value += take();
      }
    }
    found[key] = value;
  }
  return found;
}

/** libpq's passwordFromFile: fields end at a colon, a backslash takes the next character as it is. */
export function parsePassfileLine(line: string): string[] {
  const fields = [""];
  for (let i = 0; i < line.length; i += 1) {
    if (line[i] === ":") {
      fields.push("");
      continue;
    }
    if (line[i] === "\\" && i + 1 < line.length) {
      i += 1;
    }
    fields[fields.length - 1] += line[i] ?? "";
  }
  return fields;
}

/** The lexer of postgresql.conf: `name = 'value'` lines and comments; the last of a name counts. */
export function parseConf(text: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const line of text.split("\n").filter((l) => l !== "" && !l.startsWith("#"))) {
    const match = /^([A-Za-z_][A-Za-z0-9_.]*) = '((?:[^'\\]|\\.|'')*)'$/.exec(line);
    if (match?.[1] === undefined || match[2] === undefined) {
      throw new Error(`not a line of postgresql.conf: ${line}`);
    }
    found[match[1]] = match[2].replace(/''|\\(.)/g, (pair, escaped: string | undefined) => {
      if (escaped !== undefined && /[bfnrt0-7]/.test(escaped)) {
        throw new Error(`an escape that means something else: ${pair}`);
      }
      return escaped ?? "'";
    });
  }
  return found;
}

/** A rule of pg_hba.conf. */
export interface HbaRule {
  type: string;
  database: string;
  user: string;
  /** Empty for a local rule. */
  address: string;
  method: string;
}

/** Reads pg_hba.conf; refuses a line that PostgreSQL would refuse. */
export function parseHba(text: string): HbaRule[] {
  return text
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => {
      const fields = line.split(/[\t ]+/);
      const [type = "", database = "", user = ""] = fields;
      const wanted = type === "local" ? 4 : 5;
      if (!["local", "host", "hostssl"].includes(type) || fields.length !== wanted || fields.includes("")) {
        throw new Error(`not a line of pg_hba.conf: ${line}`);
      }
      return { type, database, user, address: type === "local" ? "" : (fields[3] ?? ""), method: fields[wanted - 1] ?? "" };
    });
}

/** How PostgreSQL lets a connection in: the first rule that fits; undefined is a refusal. `all` is not replication. */
export function hbaMethod(
  rules: readonly HbaRule[],
  connection: { type?: string; database: string; user: string; address?: string },
): string | undefined {
  return rules.find(
    (rule) =>
      rule.type === (connection.type ?? "host") &&
      (rule.database === connection.database || (rule.database === "all" && connection.database !== "replication")) &&
      (rule.user === "all" || rule.user === connection.user) &&
      (rule.address === "all" || rule.address === (connection.address ?? "")),
  )?.method;
}

/** libpq's reading of a URL with any number of hosts. */
export function parseLibpqUrl(url: string): { user: string; password: string; hosts: string[]; database: string; query: string } {
  const match = /^postgresql:\/\/([^:@/?]*):([^:@/?]*)@([^@/?]*)\/([^?]*)(?:\?(.*))?$/.exec(url);
  if (match === null) {
    throw new Error(`not a URL for libpq: ${url}`);
  }
  const [, user = "", password = "", hosts = "", database = "", query = ""] = match;
  return {
    user: decodeURIComponent(user),
    password: decodeURIComponent(password),
    hosts: hosts.split(","),
    database: decodeURIComponent(database),
    query,
  };
}
