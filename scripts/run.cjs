#!/usr/bin/env node
"use strict";
// The first step of every command, in plain JavaScript because a fresh checkout has nothing else:
// installs node_modules when it is missing or older than package-lock.json, then runs the command.
const { spawnSync } = require("node:child_process");
const { createHash } = require("node:crypto");
const { existsSync, readFileSync, writeFileSync } = require("node:fs");
const { join } = require("node:path");

const root = join(__dirname, "..");
const [major, minor] = process.versions.node.split(".").map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  console.error(`error: Node.js ${process.versions.node} is too old; this project needs 20.19 or later`);
  process.exit(1);
}

const lock = createHash("sha256")
  .update(readFileSync(join(root, "package-lock.json")))
  .digest("hex");
const marker = join(root, "node_modules", ".postgres-replica-lock");
if (!existsSync(marker) || readFileSync(marker, "utf8") !== lock) {
  if (process.argv[2] === "setup" && process.argv.includes("--check")) {
    console.error("error: node_modules is missing or out of date; install it with: npm run setup");
    process.exit(1);
  }
  const start = Date.now();
  console.error("Installing node_modules from package-lock.json (half a minute or so)");
  // No package of the list needs its install script.
  const npm = spawnSync("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund"], {
    cwd: root,
    stdio: ["ignore", 2, 2],
    shell: process.platform === "win32",
  });
  if (npm.status !== 0) {
    console.error("error: npm ci failed (see above); check the connection to the npm registry and run the same command again");
    process.exit(1);
  }
  writeFileSync(marker, lock);
  console.error(`Installed node_modules in ${((Date.now() - start) / 1000).toFixed(0)} s`);
}

void require("./bundle.cjs")
  .load(root)
  .then(
    (main) => main.run(),
    (error) => {
      console.error(`error: ${error.message}`);
      process.exitCode = 1;
    },
  );
