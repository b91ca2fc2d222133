import { existsSync, readdirSync, readFileSync, statSync } from "fs";
import { dirname, join, relative } from "path";
import { ROOT } from "../../operations/folders";

/** The documents of the project, by their paths. */
function documents(folder = ROOT): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) {
      return entry.name.startsWith(".") || entry.name === "node_modules" ? [] : documents(path);
    }
    return entry.isFile() && entry.name.endsWith(".md") ? [path] : [];
  });
}

/** The text without code, in which nothing is a link or a heading. */
const prose = (text: string): string => text.replace(/^ *(```|~~~)[\s\S]*?^ *\1/gm, "");

/** The anchors of a document's headings, as GitHub makes them. */
function anchors(text: string): Set<string> {
  const found = new Set<string>();
  for (const [, heading = ""] of prose(text).matchAll(/^#{1,6} +(.*)$/gm)) {
    const slug = heading
      .replace(/\[([^\]]*)\]\([^)]*\)/g, "$1")
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\-_ ]/gu, "")
      .replace(/ /g, "-");
    let anchor = slug;
    for (let i = 1; found.has(anchor); i++) {
      anchor = `${slug}-${i}`;
    }
    found.add(anchor);
  }
  return found;
}

/** The links of a text that lead to a file or a heading, and where they lead to. */
function links(text: string): string[] {
  const inline = prose(text).replace(/`[^`\n]*`/g, "");
  return [...inline.matchAll(/\]\(([^)\s]+)\)/g)].map(([, to = ""]) => to).filter((to) => !/^[a-z]+:/.test(to));
}

/** What is wrong with the links of a document. */
function broken(path: string, text = readFileSync(path, "utf8")): string[] {
  return links(text).filter((to) => {
    const [file = "", anchor] = to.split("#");
    const target = file === "" ? path : join(dirname(path), decodeURIComponent(file));
    if (target !== path && !existsSync(target)) {
      return true;
    }
    if (anchor === undefined) {
      return false;
    }
    return !anchors(target === path ? text : statSync(target).isFile() ? readFileSync(target, "utf8") : "").has(anchor);
  });
}

describe("the links in the documents", () => {
  test.each(documents().map((path) => [relative(ROOT, path), path]))("of %s lead to a file and a heading that are there", (_name, path) => {
    expect(broken(path)).toEqual([]);
  });

  test("are found, and so is one that is broken", () => {
    expect(documents().map((path) => relative(ROOT, path))).toEqual(
      expect.arrayContaining(["README.md", "docs/operations.md", join("toolchain", "README.md")]),
    );
    const text = [
      "# A `code` heading, and: more",
      "# Twice",
      "# Twice",
      "[a](#a-code-heading-and-more) [b](#twice-1) [c](README.md#start) [d](docs) [e](https://example.com/x#y) `[f](nowhere.md)`",
      "```",
      "# No heading",
      "[g](nowhere.md)",
      "```",
      "[h](nowhere.md) [i](#twice-2) [j](README.md#nowhere) [k](#no-heading)",
    ].join("\n");
    expect(broken(join(ROOT, "some.md"), text)).toEqual(["nowhere.md", "#twice-2", "README.md#nowhere", "#no-heading"]);
  });
});
