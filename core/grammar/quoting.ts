/**
 * One value, five ways to write it down. A password that is right in SQL is wrong in a URL, so every
 * place where text meets a grammar goes through one of these.
 */

/** A SQL string literal. Backslashes need the E'' form, or `standard_conforming_strings` decides what they mean. */
export function sqlLiteral(value: string): string {
  const quoted = `'${value.replace(/'/g, "''").replace(/\\/g, "\\\\")}'`;
  return value.includes("\\") ? ` E${quoted}` : quoted;
}

/** A SQL identifier, always quoted. */
export function sqlIdentifier(name: string): string {
  return `"${name.replace(/"/g, '""')}"`;
}

/** One word of a POSIX shell command. */
export function shellWord(value: string): string {
  return /^[A-Za-z0-9_./:=@,+-]+$/.test(value) ? value : `'${value.replace(/'/g, `'\\''`)}'`;
}

/** A value of a libpq keyword/value connection string. */
export function conninfoValue(value: string): string {
  return /^[A-Za-z0-9_./:,@+-]+$/.test(value) ? value : `'${value.replace(/[\\']/g, (c) => `\\${c}`)}'`;
}

/** A value in postgresql.conf. */
export function confValue(value: string): string {
  return `'${value.replace(/\\/g, "\\\\").replace(/'/g, "''")}'`;
}

/** A field of a password file (`.pgpass`), in which `:` separates and `\` escapes. */
export function passfileField(value: string): string {
  return value.replace(/[\\:]/g, (c) => `\\${c}`);
}

/** A component of a URL (user, password, database or parameter); stricter than `encodeURIComponent`. */
export function urlComponent(value: string): string {
  return encodeURIComponent(value).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}
