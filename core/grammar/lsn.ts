/** Arithmetic on WAL positions (`pg_lsn`), written `16/B374D848`: two 32-bit halves in hexadecimal. */

const LSN = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/;

/** The position as a number of bytes since the beginning of WAL. Throws when `text` is no LSN. */
export function parseLsn(text: string): bigint {
  const match = LSN.exec(text);
  if (!match) {
    throw new Error(`"${text}" is not a WAL position: expected two hexadecimal numbers such as 16/B374D848`);
  }
  return (BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`);
}

/** The inverse of {@link parseLsn}, in PostgreSQL's own spelling. */
export function formatLsn(position: bigint): string {
  if (position < 0n || position >= 1n << 64n) {
    throw new Error(`${position} is outside the range of a WAL position`);
  }
  const hex = (half: bigint): string => half.toString(16).toUpperCase();
  return `${hex(position >> 32n)}/${hex(position & 0xffffffffn)}`;
}

/** How many bytes `ahead` is in front of `behind`; negative when it is behind. Like `pg_wal_lsn_diff`. */
export function lsnDiff(ahead: string, behind: string): bigint {
  return parseLsn(ahead) - parseLsn(behind);
}
