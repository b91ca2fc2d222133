"use strict";
const Sequencer = require("@jest/test-sequencer").default;

/** Mutation tests stop at the first file that notices: those that notice most and are quick come first, properties last. */
module.exports = class extends Sequencer {
  sort(tests) {
    const rank = ({ path }) => (/[\\/]property[\\/]/.test(path) ? 2 : /[\\/](config|settings)\.test/.test(path) ? 0 : 1);
    return [...tests].sort((a, b) => rank(a) - rank(b) || (a.path < b.path ? -1 : 1));
  }
};
