"use strict";
// TypeScript for jest, transpiled by esbuild: the types were checked before. jest keeps what comes out, so that esbuild is only
// loaded for a file that it has not seen yet.
const { createHash } = require("node:crypto");
const { readFileSync } = require("node:fs");

/** What the output depends on besides the file itself. */
const SALT = createHash("sha256")
  .update(`${process.version} ${require("esbuild/package.json").version}`)
  .update(readFileSync(__filename))
  .digest();

/** A statement that begins in the first column, up to the line that ends it: esbuild indents all between. */
const MOCK = /^jest\.mock\(.*(?:\n(?:[ \t].*|$))*(?:\n[}\])].*)?;$/gm;
const FIRST_IMPORT = /^(var|const|let) \w+ = (__toESM\()?require\(/m;

/**
 * Puts jest.mock(…) of a file's top before its imports, so that they get what stands in. Lines of the source map move along: each
 * says how far it is from the one before, so that all below the imports are still right.
 */
function mocksFirst(code, map) {
  const found = [...code.matchAll(MOCK)];
  if (found.length !== code.split("\njest.mock(").length - 1) {
    throw new Error("a jest.mock(…) whose end is not found; write it as prettier does");
  }
  const lines = code.split("\n");
  const mappings = map.mappings.split(";");
  const lineOf = (index) => code.slice(0, index).split("\n").length - 1;
  let to = lineOf(code.search(FIRST_IMPORT));
  for (const { 0: text, index } of found) {
    const [from, count] = [lineOf(index), text.split("\n").length];
    lines.splice(to, 0, ...lines.splice(from, count));
    mappings.splice(to, 0, ...mappings.splice(from, count));
    to += count;
  }
  return { code: lines.join("\n"), map: { ...map, mappings: mappings.join(";") } };
}

exports.process = (text, path) => {
  const made = require("esbuild").transformSync(text, {
    loader: "ts",
    format: "cjs",
    target: `node${process.versions.node}`,
    sourcefile: path,
    sourcemap: "external",
  });
  const map = JSON.parse(made.map);
  return made.code.includes("\njest.mock(") ? mocksFirst(made.code, map) : { code: made.code, map };
};

exports.getCacheKey = (text, path, { instrument }) =>
  createHash("sha256")
    .update(SALT)
    .update(`${path}\0${String(instrument)}\0${text}`)
    .digest("hex")
    .slice(0, 32);
