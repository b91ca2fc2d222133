import execa from "execa";
import { existsSync } from "fs";
import { join } from "path";
import { ROOT } from "../../operations/folders";
import { type Break, escaped, gitIn, groupOf, type JestReport, readBreaks, testText, whyNotNoticed } from "../breaks/breaks";

const BREAKS = readBreaks();
const byName = Object.fromEntries(BREAKS.map((found) => [found.name, found]));

describe("a break of tests/breaks", () => {
  test("is there, of both kinds: for unit tests and for real nodes", () => {
    expect([...new Set(BREAKS.map(groupOf))].sort()).toEqual(["faults", "integration", "plain", "programs", "unit"]);
  });

  /** What git says of each, by its name. One shell starts them all: a process that this one starts costs more than git's work. */
  let said: Record<string, string>;
  beforeAll(async () => {
    const each = 'for patch; do printf "%s\\n" "$patch"; git apply --check "$patch" 2>&1 && echo fits; printf "\\0"; done';
    const ran = await execa("/bin/sh", ["-c", each, "sh", ...BREAKS.map(({ patch }) => patch)], gitIn(ROOT));
    said = Object.fromEntries(ran.stdout.split("\0").map((text) => text.split(/\n(.*)/s).slice(0, 2) as [string, string]));
  });

  test.each(Object.keys(byName))("%s still applies to this tree", (name) => {
    // No word of what it skips, either: outside of the tree nothing is checked.
    expect(said[(byName[name] as Break).patch]).toBe("fits\n");
  });

  test.each(Object.keys(byName))("%s names a test that there is, and runs it", (name) => {
    const found = byName[name] as Break;
    expect(existsSync(join(ROOT, found.test))).toBe(true);
    const names = [...testText(found).matchAll(/"((?:\\.|[^"\\\n])*)"/g)].map(([, text = ""]) => text);
    // A row of a table stands for %s.
    const fits = (text: string): boolean => {
      const parts = text.split(/%[sji]|\$\{[^}]*\}/);
      return parts.join("").length > 10 && new RegExp(`^${parts.map((part) => escaped(part)).join(".+")}$`, "s").test(found.noticedBy);
    };
    expect(names.filter(fits)).toHaveLength(1);
    expect(found.says).not.toBe("");
  });
});

describe("a break", () => {
  const found: Break = {
    name: "x",
    what: "",
    patch: "",
    test: "tests/unit/x.test.ts",
    noticedBy: "is safe",
    says: "toBe(",
    run: "is safe",
  };
  const report = (...assertionResults: JestReport["testResults"][0]["assertionResults"]): JestReport => ({
    testResults: [{ message: "", assertionResults }],
  });
  const failed = (message: string): JestReport["testResults"][0]["assertionResults"][0] => ({
    fullName: "a node is safe",
    status: "failed",
    failureMessages: [message],
  });

  test("is noticed when its test fails with the words that it is to say, whatever else fails", () => {
    const other = { fullName: "another one", status: "failed", failureMessages: ["toBe("] };
    expect(whyNotNoticed(found, report(other, failed("expect(received).toBe(expected)")))).toBeUndefined();
  });

  test.each<[string, JestReport | undefined, string]>([
    ["passes", report({ ...failed(""), status: "passed", failureMessages: [] }), "the test passed"],
    ["is skipped", report({ ...failed(""), status: "pending", failureMessages: [] }), "the test pending"],
    ["fails for another reason", report(failed("Error: no space left")), "the test failed for another reason: Error: no space left"],
    ["is not there", report({ ...failed("toBe("), fullName: "another one" }), "no such test was run"],
    ["is there twice", report(failed("toBe("), failed("toBe(")), "2 tests of tests/unit/x.test.ts are called like that"],
    [
      "cannot be compiled",
      { testResults: [{ message: "x.test.ts: Unexpected token", assertionResults: [] }] },
      "no such test was run: x.test.ts: Unexpected token",
    ],
    ["cannot be run at all", undefined, "no such test was run"],
  ])("is not noticed when its test %s", (_how, results, why) => {
    expect(whyNotNoticed(found, results)).toBe(why);
  });
});
