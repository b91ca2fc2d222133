"use strict";
// The commands as one file, made once for each state of the sources. To read and transpile some hundred small files takes most
// of a second, and a failover is counted in tenths.
const { createHash } = require("node:crypto");
const { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } = require("node:fs");
const Module = require("node:module");
const { dirname, join, relative, sep } = require("node:path");

/** The folders whose TypeScript the commands are made of. */
const SOURCES = ["core", "operations", "scripts"];
/** Those that a copy of the checkout may lack: their commands fail there, when they are called. */
const OPTIONAL = ["tests", "bench"];
/** How many bundles are kept: other checkouts may share node_modules. */
const KEPT = 5;

/** The names of the TypeScript files below a folder, in order. */
function sources(folder) {
  return readdirSync(folder, { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      return entry.isDirectory() ? sources(path) : /(?<!\.test)\.ts$|\.cjs$/.test(entry.name) ? [path] : [];
    });
}

/**
 * The exports of scripts/main.ts.
 *
 * @param root The checkout.
 * @param lock What stands for the versions of all packages.
 */
exports.load = async (root, lock) => {
  const hash = createHash("sha256").update(`${lock} ${process.version}`);
  for (const folder of [...SOURCES, ...OPTIONAL.filter((name) => existsSync(join(root, name)))]) {
    for (const path of sources(join(root, folder))) {
      hash.update(`\0${relative(root, path)}\0`).update(readFileSync(path));
    }
  }
  const cache = join(root, "node_modules", ".cache", "postgres-replica");
  const file = join(cache, `${hash.digest("hex").slice(0, 16)}.cjs`);
  let code;
  try {
    code = readFileSync(file, "utf8");
  } catch {
    code = await bundle(root);
    keep(cache, file, code);
  }
  // As if it stood in scripts/: its packages are found from there, and so are the files of the checkout.
  const module = new Module(join(root, "scripts", "main.cjs"));
  module.filename = module.id;
  module.paths = Module._nodeModulePaths(root);
  module._compile(code, module.filename);
  return module.exports;
};

/** All of it as CommonJS. What is loaded only when it is needed stays so. */
async function bundle(root) {
  const esbuild = require("esbuild");
  const { outputFiles } = await esbuild.build({
    entryPoints: [join(root, "scripts", "main.ts")],
    bundle: true,
    write: false,
    platform: "node",
    format: "cjs",
    target: `node${process.versions.node}`,
    // Error messages and class names are read by people.
    keepNames: true,
    // These are not made for it, or start other programs that look for them.
    external: [
      ...["@pulumi/*", "pulumi", "jest", "typescript", "tsx", "esbuild", "pg-native"],
      ...OPTIONAL.filter((name) => !existsSync(join(root, name))).map((name) => `../${name}*`),
    ],
    logLevel: "silent",
    plugins: [
      {
        name: "a file knows its folder",
        setup: (build) =>
          build.onLoad({ filter: /\.ts$/ }, ({ path }) => {
            const contents = readFileSync(path, "utf8");
            return /\b__dirname\b/.test(contents) && !path.includes(`${sep}node_modules${sep}`)
              ? {
                  loader: "ts",
                  contents: contents.replace(
                    /\b__dirname\b/g,
                    `require("path").join(__dirname, "..", ${JSON.stringify(relative(root, dirname(path)))})`,
                  ),
                }
              : undefined;
          }),
      },
    ],
  });
  await esbuild.stop();
  return outputFiles[0].text;
}

/** Keeps a bundle for the next time; where nothing can be written, it is made each time. */
function keep(cache, file, code) {
  try {
    mkdirSync(cache, { recursive: true });
    writeFileSync(`${file}.${process.pid}`, code);
    renameSync(`${file}.${process.pid}`, file);
    readdirSync(cache)
      .map((name) => ({ path: join(cache, name), time: statSync(join(cache, name)).mtimeMs }))
      .sort((a, b) => b.time - a.time)
      .slice(KEPT)
      .forEach(({ path }) => rmSync(path, { force: true }));
  } catch {
    // A folder of somebody else's, or one that another run tidies at this moment.
  }
}
