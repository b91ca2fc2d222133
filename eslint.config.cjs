"use strict";
const pulumi = require("@pulumi/eslint-plugin");
const tseslint = require("typescript-eslint");

/** The rooms as they are named in an import. */
const inside = (...names) => names.flatMap((name) => [`**/${name}`, `**/${name}/**`]);

/** Arrows run one way. What a room's files must not import, and why. */
const rooms = {
  core: [
    {
      group: inside("operations", "components", "scripts", "bench", "tests"),
      message: "core imports nothing but core.",
    },
    {
      group: ["@pulumi/*", "execa", "child_process", "node:child_process", "pg", "commander", "listr2"],
      message: "core knows neither Pulumi nor Docker nor npm, and starts no program: hand in what it needs.",
    },
  ],
  operations: [
    { group: inside("scripts", "bench", "tests"), message: "scripts call operations, never the other way." },
    { group: [...inside("components"), "../../index"], message: "The commands work on what is there, not on what is declared." },
    { group: ["@pulumi/*"], message: "Only the program declares resources." },
  ],
  components: [
    {
      // Before it declares anything, the program looks: operations/guard.
      group: [
        ...inside("scripts", "bench", "tests"),
        "**/operations/**",
        "!**/operations/guard",
        "!**/operations/guard/**",
        "!**/operations/errors",
      ],
      message: "components may use core, and of operations the look (operations/guard).",
    },
  ],
  scripts: [{ group: [...inside("components"), "@pulumi/*"], message: "scripts call operations." }],
};

/** The program itself, run beside the commands to be looked at. */
const RECORDER = "operations/adopt/record.ts";

module.exports = tseslint.config(
  { ignores: ["node_modules/", "coverage/", ".state/", "**/*.cjs"] },
  ...tseslint.configs.recommendedTypeChecked,
  {
    languageOptions: { parserOptions: { project: "./tsconfig.json", tsconfigRootDir: __dirname } },
    plugins: { "@pulumi": pulumi },
    rules: {
      "@pulumi/no-output-in-template-literal": "error",
      "@pulumi/no-output-instance-in-template-literal": "error",
      "@typescript-eslint/explicit-function-return-type": ["error", { allowExpressions: true }],
      "@typescript-eslint/explicit-member-accessibility": "error",
      "@typescript-eslint/no-unused-vars": ["error", { varsIgnorePattern: "^_", argsIgnorePattern: "^_" }],
      "@typescript-eslint/consistent-type-imports": "error",
      eqeqeq: ["error", "always", { null: "ignore" }],
    },
  },
  ...Object.entries(rooms).map(([room, patterns]) => ({
    files: [`${room}/**/*.ts`],
    ignores: [RECORDER],
    rules: { "@typescript-eslint/no-restricted-imports": ["error", { patterns }] },
  })),
);
