"use strict";
const group = (name, extra = {}) => ({
  displayName: name,
  testMatch: [`<rootDir>/tests/${name}/**/*.test.ts`],
  testEnvironment: "node",
  // Stryker's copies of the project.
  modulePathIgnorePatterns: ["<rootDir>/.state/"],
  transform: { "^.+\\.ts$": ["ts-jest", { tsconfig: "<rootDir>/tsconfig.json", diagnostics: false }] },
  ...extra,
});

module.exports = {
  projects: ["unit", "property", "integration", "faults", "plain", "majors", "soak"].map((name) => group(name)),
  collectCoverageFrom: ["index.ts", "core/**/*.ts", "components/**/*.ts", "operations/**/*.ts"],
  coverageReporters: ["text-summary"],
};
