import { readdirSync, readFileSync } from "fs";
import { join } from "path";

const FAULTS = join(__dirname, "../faults");
const text = (file: string): string => readFileSync(join(FAULTS, file), "utf8");

/** Each file that a case names, with the names of tests that it gives; without any, the tests are found by the case's number. */
const shown = [...text("README.md").matchAll(/^\| (\d+) .*\| ([^|]*) \|$/gm)].flatMap(([, number = "", cell = ""]) =>
  [...cell.matchAll(/`(\S+\.test\.ts)`((?:,? "[^"]*")*)/g)].map(([, file = "", quoted = ""]) => ({
    number,
    file,
    names: [...quoted.matchAll(/"([^"]*)"/g)].map(([, name = ""]) => name),
  })),
);

test("the list of fault cases goes from 1 to 16", () => {
  expect([...new Set(shown.map(({ number }) => Number(number)))]).toEqual(Array.from({ length: 16 }, (_, i) => i + 1));
});

test.each(shown)("case $number is shown by $file", ({ number, file, names }) => {
  for (const name of names.length > 0 ? names : [`case ${number}: `]) {
    expect(text(file)).toContain(`("${name}`);
  }
});

test("every test that is named after a case is in the list", () => {
  const listed = shown.map(({ number, file }) => `${number} ${file}`);
  const named = readdirSync(FAULTS)
    .filter((file) => file.endsWith(".test.ts"))
    .flatMap((file) => [...text(file).matchAll(/\("case (\d+): /g)].map(([, number]) => `${number} ${file}`));
  expect([...new Set(named)].filter((one) => !listed.includes(one))).toEqual([]);
});
