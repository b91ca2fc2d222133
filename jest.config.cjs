"use strict";
/**
 * What takes long to load and is called by no unit test: Pulumi's way to put functions into the state, with npm's and TypeScript's
 * own code in it, and the words of zod in every language.
 */
const UNLOADED = ["/closure/(serializeClosure|codePaths)$", "^\\.\\./locales/index\\.cjs$"];
const group = (name) => ({
  displayName: name,
  // The tests of the plugins stand beside them.
  testMatch: [`<rootDir>/tests/${name}/**/*.test.ts`, ...(name === "integration" ? ["<rootDir>/toolchain/**/*.test.ts"] : [])],
  testEnvironment: "node",
  // Stryker's copies of the project.
  modulePathIgnorePatterns: ["<rootDir>/.state/"],
  moduleNameMapper: ["unit", "property", "programs"].includes(name)
    ? Object.fromEntries(UNLOADED.map((module) => [module, "<rootDir>/tests/unloaded.cjs"]))
    : {},
  transform: { "^.+\\.ts$": "<rootDir>/tests/transform.cjs" },
});

module.exports = {
  // On a busy machine starting a program takes seconds. Tests of real nodes say themselves how long they may take.
  testTimeout: 30_000,
  projects: ["unit", "property", "programs", "integration", "faults", "plain", "majors", "soak"].map(group),
  collectCoverageFrom: ["index.ts", "core/**/*.ts", "components/**/*.ts", "operations/**/*.ts"],
  coverageReporters: ["text-summary"],
};
