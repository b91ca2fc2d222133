"use strict";

/** Mutation tests repeat every test many times: a quarter of the usual runs, where a test does not say how many it needs. */
const { testPath = "" } = expect.getState();
if (/[\\/]property[\\/]|drift\.test/.test(testPath)) {
  require("fast-check").configureGlobal({ numRuns: 25 });
}
