/**
 * What PostgreSQL's parser says against settings, one entry for each thing that is wrong. Pure.
 *
 * @param said Its log, in English, without a prefix before each line, as `postgres -C` writes it.
 */
export function refusedSettings(said: string): string[] {
  const refused: string[] = [];
  for (const line of said.split("\n")) {
    const [, level, words = ""] = /^(LOG|FATAL|ERROR|HINT|DETAIL): +(.*)$/.exec(line) ?? [];
    // Where a line stands in a file that nobody has ever seen is of no use.
    const what = words.replace(/ in file "[^"]*" line \d+/, "");
    if (level === undefined || /^configuration file ".*" contains errors$/.test(what)) {
      continue;
    }
    const last = refused.length - 1;
    if (level === "LOG" || level === "FATAL" || level === "ERROR") {
      refused.push(what);
    } else if (last >= 0) {
      refused[last] += ` (${what.replace(/\.$/, "")})`;
    }
  }
  return refused;
}
