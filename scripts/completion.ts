import type { RootCommand } from "@bomb.sh/tab" with { "resolution-mode": "import" };
import type { Command } from "commander";
import { readdirSync } from "fs";
import { join } from "path";
import { PROJECT } from "../core/model/names";
import { readStackConfig } from "../operations/deploy/workspace";
import { ROOT } from "../operations/folders";
import { shellWord } from "../core/grammar/quoting";

/** The words that the program knows, and those that only the checkout knows: its stacks and their nodes. */
async function completionOf(program: Command): Promise<RootCommand> {
  // The library brings its own in place of ours, which is there without it.
  const commands = program.commands as Command[];
  commands.splice(0, commands.length, ...commands.filter((command) => command.name() !== "complete"));
  const known = (await import("@bomb.sh/tab/commander")).default(program);
  known.commands.delete("complete");
  for (const command of known.commands.values()) {
    const stack = command.options.get("stack");
    if (stack !== undefined) {
      stack.handler = (complete) => stacks().forEach((name) => complete(name, ""));
    }
    const to = command.options.get("to");
    if (to !== undefined) {
      to.handler = (complete) => nodes().forEach((name) => complete(name, ""));
    }
    const node = command.arguments.get("node");
    if (node !== undefined) {
      node.handler = (complete) => nodes().forEach((name) => complete(name, ""));
    }
  }
  return known;
}

const stacks = (): string[] =>
  readdirSync(ROOT).flatMap((file) => {
    const name = /^Pulumi\.(.+)\.yaml$/.exec(file)?.[1];
    return name === undefined ? [] : [name];
  });

/** The nodes of every stack; a file that is not right has none. */
const nodes = (): string[] => {
  const found = stacks().flatMap((stack) => {
    try {
      return readStackConfig(stack).nodes.map(({ name }) => name);
    } catch {
      return [];
    }
  });
  return [...new Set(found)].sort();
};

/** `npm run -s completion -- SHELL`: defines the command `postgres-replica` in a shell, and what completes its words. */
export async function print(program: Command, shell: string): Promise<number> {
  const run = `${shellWord(process.execPath)} ${shellWord(join(ROOT, "scripts", "run.cjs"))}`;
  if (shell === "bash") {
    console.log(WORDS_OF_BASH);
  }
  console.log(shell === "fish" ? `function ${PROJECT}; ${run} $argv; end` : `${PROJECT}() { ${run} "$@"; }`);
  (await completionOf(program)).setup(PROJECT, PROJECT, shell);
  return 0;
}

/** What the library's script for bash takes from the package bash-completion, which not every machine has. */
const WORDS_OF_BASH =
  "declare -F _get_comp_words_by_ref >/dev/null || " +
  '_get_comp_words_by_ref() { words=("${COMP_WORDS[@]}") cword=$COMP_CWORD cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}; }';

/** What a shell asks at the press of the key. */
export async function answer(program: Command, words: readonly string[]): Promise<number> {
  (await completionOf(program)).parse([...words]);
  return 0;
}
