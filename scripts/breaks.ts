import { commandLine, runCommand } from "./cli";
import { UserError } from "../operations/errors";
import { setup } from "../operations/setup";
import { DEFAULTS } from "../core/config";
import { groupOf, readBreaks } from "../tests/breaks/breaks";
import { runBreaks } from "../tests/breaks/run";

const program = commandLine(
  "test:breaks",
  "Breaks the product in the ways of tests/breaks, one at a time, and looks whether the tests notice.",
)
  .argument("[breaks...]", "which ones, by the names of their patches; all when none is named")
  .option("-l, --list", "list them, run nothing");

void runCommand<{ stack: string; list?: boolean }>(program, async ({ list }, named) => {
  const all = readBreaks();
  const unknown = named.find((name) => !all.some((found) => found.name === name));
  if (unknown !== undefined) {
    throw new UserError(`"${unknown}" is no break; there are ${all.map(({ name }) => name).join(", ")}`);
  }
  const chosen = all.filter(({ name }) => named.length === 0 || named.includes(name));
  if (list ?? false) {
    chosen.forEach(({ name, what }) => console.log(`${name}: ${what}`));
    return 0;
  }
  if (chosen.some((found) => groupOf(found) !== "unit")) {
    await setup(DEFAULTS.image);
  }
  return runBreaks(chosen);
});
