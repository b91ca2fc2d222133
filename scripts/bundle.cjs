"use strict";
// The commands, and the program, each as one file that is made once for each state of the sources. To read and transpile some
// hundred small files takes most of a second, and a failover is counted in tenths.
const { spawnSync } = require("node:child_process");
const { createHash } = require("node:crypto");
const { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } = require("node:fs");
const Module = require("node:module");
const { dirname, join, relative, sep } = require("node:path");

/** What the commands are made of: where it begins, and the folders of its TypeScript. */
const COMMANDS = { entry: "scripts/main.ts", folders: ["core", "operations", "scripts"] };
/** The same of the program that Pulumi runs. */
const PROGRAM = { entry: "index.ts", folders: ["components", "core", "operations"] };
/** Those that a copy of the checkout may lack: their commands fail there, when they are called. */
const OPTIONAL = ["tests", "bench"];
/** What ends a bundle that is whole. */
const END = "\n// whole\n";
/** How many bundles are kept: other checkouts may share node_modules. */
const KEPT = 12;
/** How often a bundle is made anew whose sources change meanwhile. */
const TRIES = 3;

/** The names of the TypeScript files below a folder, in order. */
function sources(folder) {
  return readdirSync(folder, { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      return entry.isDirectory() ? sources(path) : /(?<!\.test)\.ts$|\.cjs$/.test(entry.name) ? [path] : [];
    });
}

/** The exports of scripts/main.ts of a checkout. */
exports.load = async (root) => {
  const optional = OPTIONAL.filter((name) => existsSync(join(root, name)));
  const what = { ...COMMANDS, folders: [...COMMANDS.folders, ...optional] };
  const code = kept(place(root, what)) ?? (await make(root, what));
  // As if it stood in scripts/: its packages are found from there, and so are the files of the checkout.
  const module = new Module(join(root, "scripts", "main.cjs"));
  module.filename = module.id;
  module.paths = Module._nodeModulePaths(root);
  module._compile(code, module.filename);
  return module.exports;
};

/**
 * The text of the program, for whoever can wait for nothing: where it has to be made, another process makes it. It is to be
 * loaded as if it stood in scripts/.
 *
 * @throws Error with esbuild's words when the sources are wrong.
 */
exports.program = (root) => {
  const code = kept(place(root, PROGRAM));
  if (code !== undefined) {
    return code;
  }
  const made = spawnSync(process.execPath, [__filename], {
    encoding: "utf8",
    maxBuffer: 64 * 1024 * 1024,
    env: { ...process.env, NODE_OPTIONS: "" },
  });
  if (made.status !== 0) {
    throw new Error(`the program cannot be put together: ${(made.stderr ?? "").trim() || made.error?.message || made.signal}`);
  }
  return made.stdout;
};

if (require.main === module) {
  const root = join(__dirname, "..");
  make(root, PROGRAM).then(
    (code) => process.stdout.write(code),
    (error) => {
      console.error(error.message);
      process.exitCode = 1;
    },
  );
}

/** Where the bundle of the sources is, as they are now, and of the packages that are installed. */
function place(root, { entry, folders }) {
  const hash = createHash("sha256").update(`${process.version} ${entry}`);
  // What npm has installed, and what it was to; other installers leave no note in node_modules.
  const packages = ["package-lock.json", join("node_modules", ".package-lock.json")].map((name) => join(root, name)).filter(existsSync);
  for (const path of [__filename, ...packages, join(root, entry), ...folders.flatMap((folder) => sources(join(root, folder)))]) {
    hash.update(`\0${relative(root, path)}\0`).update(readFileSync(path));
  }
  return join(root, "node_modules", ".cache", "postgres-replica", `${hash.digest("hex").slice(0, 16)}.cjs`);
}

function kept(file) {
  try {
    const code = readFileSync(file, "utf8");
    // A machine that was reset may have kept the name and not the content.
    return code.endsWith(END) ? code : undefined;
  } catch {
    return undefined;
  }
}

async function make(root, what) {
  for (let tries = 1; tries <= TRIES; tries++) {
    const file = place(root, what);
    const code = `${await bundle(root, what.entry)}${END}`;
    // Else it may be half of one state and half of another.
    if (place(root, what) === file) {
      keep(file, code);
      return code;
    }
  }
  throw new Error(`the sources in ${root} change again and again while they are put together. Try again when they do not`);
}

/** All of it as CommonJS. What is loaded only when it is needed stays so. */
async function bundle(root, entry) {
  const esbuild = require("esbuild");
  const { outputFiles } = await esbuild.build({
    entryPoints: [join(root, entry)],
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
function keep(file, code) {
  const cache = dirname(file);
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
