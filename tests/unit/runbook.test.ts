import { readFileSync } from "fs";
import { join } from "path";
import { EXAMPLES } from "./examples";

/** What a person reads in status and alert, and looks up. */
const HEADINGS = [...readFileSync(join(__dirname, "../../docs/operations.md"), "utf8").matchAll(/^### (.*)$/gm)].map(
  ([, text]) => text ?? "",
);

/**
 * What a heading stands for, from its beginning: a single capital letter is a name or a figure, `(or x, y)` are other words
 * for the one before, and what stands in other brackets is an example.
 */
function pattern(heading: string): RegExp {
  const source = heading
    .replace(/[.*+?^${}|[\]\\]/g, "\\$&")
    .replace(/(\S+) \(or ([^)]*)\)/g, (_all, word: string, others: string) => `(?:${[word, ...others.split(", ")].join("|")})`)
    .replace(/ \((?!\?).*$/, " \\(")
    .replace(/\b[A-Z]\b/g, "\\S+(?: and \\S+)*");
  return new RegExp(`^${source}`);
}

test("a heading stands for what it says with other names and figures, and for nothing else", () => {
  expect("more than one writer: pg1 and pg2").toMatch(pattern("more than one writer: A and B"));
  expect("its container is dead").toMatch(pattern("its container is exited (or created, dead)"));
  expect("its container is running").not.toMatch(pattern("its container is exited (or created, dead)"));
  expect("it does not stream from pg1 (startup)").toMatch(pattern("it does not stream from A (not connected)"));
  expect("it does not stream from pg1 before it").not.toMatch(pattern("it does not stream from A (not connected)"));
  expect("it is 7 s behind pg1").not.toMatch(pattern("it is N bytes behind A"));
});

test.each(Object.entries(EXAMPLES))("the runbook has one heading for what is said when %s", (_when, { words }) => {
  expect(HEADINGS.filter((heading) => pattern(heading).test(words))).toHaveLength(1);
});
