"use strict";

/** Mutation tests of core/: `npm run test:mutation`; see tests/mutation.md. */
module.exports = {
  testRunner: "jest",
  jest: { projectType: "custom", configFile: "jest.mutation.cjs" },
  mutate: ["core/**/*.ts"],
  coverageAnalysis: "perTest",
  concurrency: 2,
  // What is slow because the machine is busy must not count as noticed.
  timeoutMS: 60_000,
  tempDirName: ".state/mutation",
  cleanTempDir: "always",
  incrementalFile: ".state/mutation.json",
  reporters: ["clear-text", "progress-append-only", "json"],
  jsonReporter: { fileName: ".state/mutation-report.json" },
  clearTextReporter: { logTests: false, allowColor: false },
  thresholds: { high: 90, low: 85, break: 85 },
};
