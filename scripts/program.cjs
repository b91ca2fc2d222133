"use strict";
// What Node.js loads before the program (nodeargs in Pulumi.yaml): the program is one file that is made once for each state of
// the sources, and what of Pulumi's SDK takes longest to load waits until somebody asks for it. Without the two an `up` that
// changes nothing takes a third longer.
const Module = require("node:module");
const { join } = require("node:path");
const { program } = require("./bundle.cjs");

const root = join(__dirname, "..");

// An older language host does not know the option `typescript: false` of Pulumi.yaml, and has ts-node and the TypeScript compiler
// loaded, which nothing here needs.
delete process.env.PULUMI_NODEJS_TYPESCRIPT;

/**
 * Pulumi's way to put functions into the state, by the file that has it: with it come TypeScript and npm's own code. Nothing of this
 * project has functions there. Whoever has gets the real ones.
 */
const LATER = {
  serializeClosure: ["serializeFunction", "serializeFunctionAsync"],
  codePaths: ["computeCodePaths", "findWorkspaceRoot"],
};
exports.LATER = LATER;

const load = Module._load;
Module._load = function (request, parent, isMain) {
  const [, file = ""] = /\/closure\/(\w+)$/.exec(request) ?? [];
  if (
    !Object.hasOwn(LATER, file) ||
    parent?.filename === undefined ||
    !/[\\/]@pulumi[\\/]pulumi[\\/]runtime[\\/]index\.js$/.test(parent.filename)
  ) {
    return load.call(this, request, parent, isMain);
  }
  const real = () => load.call(this, request, parent, isMain);
  return Object.fromEntries(LATER[file].map((name) => [name, (...args) => real()[name](...args)]));
};

const typescript = Module._extensions[".ts"];
Module._extensions[".ts"] = (module, filename) => {
  if (filename === join(root, "index.ts")) {
    // As if it stood here: it finds the files of the checkout from its own folder.
    module._compile(program(root), join(__dirname, "index.cjs"));
    // Without a function Pulumi takes the program for one that declares nothing, and deletes the stack.
    if (typeof module.exports !== "function") {
      throw new Error(`the program was put together without its content. Remove ${join(root, "node_modules", ".cache")}, then try again`);
    }
    return;
  }
  // A program of somebody else's, beside this one.
  Module._extensions[".ts"] = typescript;
  require("tsx/cjs");
  Module._extensions[".ts"](module, filename);
};
