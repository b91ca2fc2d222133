import { readdirSync, readFileSync } from "fs";
import { basename, join } from "path";
import { ROOT } from "../../operations/folders";

/**
 * Ways to break the product on purpose, each one safety property: a patch in this folder, whose head says which test has to
 * notice it.
 */
export interface Break {
  /** The patch's name, without its folder and `.patch`. */
  name: string;
  /** What the product does wrong with it. */
  what: string;
  patch: string;
  /** The file with the test. */
  test: string;
  /** The end of the name of the test that has to fail. */
  noticedBy: string;
  /** What that test says then, so that it does not count when it fails for another reason. */
  says: string;
  /** Which tests to run: those of a story before it, where it needs them. */
  run: string;
}

const FOLDER = __dirname;

/** A text as a regular expression that matches it alone. */
export const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/** Every break there is, by name. @throws Error when a patch's head is not complete. */
export function readBreaks(): Break[] {
  const files = readdirSync(FOLDER).filter((file) => file.endsWith(".patch"));
  return files.sort().map((file) => {
    const patch = join(FOLDER, file);
    const [head = ""] = readFileSync(patch, "utf8").split(/^diff --git /m);
    const [what = "", ...lines] = head.trim().split("\n");
    const facts = new Map(lines.map((line) => line.split(/: (.*)/s).slice(0, 2) as [string, string]));
    const fact = (name: string): string => {
      const value = facts.get(name);
      if (what === "" || value === undefined || value === "") {
        throw new Error(`${file} does not begin with a line that says what it breaks and one that begins with "${name}: "`);
      }
      return value;
    };
    const noticedBy = fact("Noticed by");
    const run = facts.get("Run") ?? escaped(noticedBy);
    return { name: basename(file, ".patch"), what, patch, test: fact("Test"), noticedBy, says: fact("Says"), run };
  });
}

/** The environment for `git apply` in a tree that may have no repository, and lie in the folder of another one. */
export const gitIn = (tree: string): { cwd: string; env: Record<string, string> } => ({
  cwd: tree,
  env: { GIT_CEILING_DIRECTORIES: join(tree, "..") },
});

/** What jest writes with --json, as far as it is read here. */
export interface JestReport {
  testResults: { message: string; assertionResults: { fullName: string; status: string; failureMessages: string[] }[] }[];
}

/** Why a run of the tests with a break does not count as noticed; undefined when it does. */
export function whyNotNoticed(found: Break, report: JestReport | undefined): string | undefined {
  const results = report?.testResults ?? [];
  const tests = results.flatMap((file) => file.assertionResults).filter(({ fullName }) => fullName.endsWith(found.noticedBy));
  const [test] = tests;
  if (test === undefined || tests.length > 1) {
    const message = results.map((file) => file.message.trim()).find(Boolean);
    return tests.length > 1
      ? `${tests.length} tests of ${found.test} are called like that`
      : `no such test was run${message === undefined ? "" : `: ${message.split("\n").slice(0, 5).join("\n")}`}`;
  }
  if (test.status !== "failed") {
    return `the test ${test.status}`;
  }
  const said = test.failureMessages.join("\n");
  return said.includes(found.says) ? undefined : `the test failed for another reason: ${said.split("\n").slice(0, 5).join("\n")}`;
}

/** The folder of a test in tests/, which is its group. */
export const groupOf = ({ test }: Break): string => test.split("/")[1] ?? "";

/** The text of a break's test file. */
export const testText = ({ test }: Break): string => readFileSync(join(ROOT, test), "utf8");
