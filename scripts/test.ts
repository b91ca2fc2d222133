import { commandLine, runCommand } from "./cli";
import { UserError } from "../operations/errors";
import { check, ON_REQUEST, runTests, TEST_GROUPS } from "../tests/quality";
import { setup } from "../operations/setup";
import { DEFAULTS } from "../core/config";

const program = commandLine(
  "test",
  "Format, lint, types, then all tests; the real ones use Docker and Pulumi, which are installed when they are missing.",
)
  .argument("[groups...]", `which groups: ${TEST_GROUPS.join(", ")}; all when none is named`)
  .option("-t, --test-name <pattern>", "only the tests whose name matches");

void runCommand<{ stack: string; testName?: string }>(program, async (options, named) => {
  const unknown = named.find((group) => ![...TEST_GROUPS, ...ON_REQUEST].includes(group));
  if (unknown !== undefined) {
    throw new UserError(`"${unknown}" is no group of tests; allowed are ${TEST_GROUPS.join(", ")}`);
  }
  const groups = named.length === 0 ? TEST_GROUPS : named;
  const checked = await check();
  if (checked !== 0) {
    return checked;
  }
  if (groups.some((group) => group !== "unit" && group !== "property")) {
    await setup(DEFAULTS.image);
  }
  return runTests(groups, options.testName === undefined ? [] : ["-t", options.testName]);
});
