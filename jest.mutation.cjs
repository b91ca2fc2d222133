"use strict";
const { projects } = require("./jest.config.cjs");

/** The groups that need no Docker as one, because Stryker does not tell projects apart: only tests of core/ alone, which are quick. */
module.exports = {
  rootDir: __dirname,
  testEnvironment: "node",
  setupFilesAfterEnv: ["<rootDir>/tests/mutation/fewer.cjs"],
  testSequencer: "<rootDir>/tests/mutation/order.cjs",
  transform: projects[0].transform,
  testMatch: [
    "<rootDir>/tests/property/*.test.ts",
    "<rootDir>/tests/unit/{alerts,bytes,cluster,config,conninfo,dockerHost,drift,election,findings,image,lsn,names,notCovered,observation,place,reason,settings,sql,topology}.test.ts",
  ],
};
