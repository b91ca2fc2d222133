"use strict";
const group = (name) => ({
  displayName: name,
  // The tests of the plugins stand beside them.
  testMatch: [`<rootDir>/tests/${name}/**/*.test.ts`, ...(name === "integration" ? ["<rootDir>/toolchain/**/*.test.ts"] : [])],
  testEnvironment: "node",
  // Stryker's copies of the project.
  modulePathIgnorePatterns: ["<rootDir>/.state/"],
  transform: { "^.+\\.ts$": ["ts-jest", { tsconfig: "<rootDir>/tsconfig.json", diagnostics: false }] },
});

module.exports = {
  // On a busy machine starting a program takes seconds. Tests of real nodes say themselves how long they may take.
  testTimeout: 30_000,
  projects: ["unit", "property", "integration", "faults", "plain", "majors", "soak"].map(group),
  collectCoverageFrom: ["index.ts", "core/**/*.ts", "components/**/*.ts", "operations/**/*.ts"],
  coverageReporters: ["text-summary"],
};
