import { readFileSync } from "fs";
import { join } from "path";

const read = (name: string): string => readFileSync(join(__dirname, "..", "..", "image", "host", `${name}.sh`), "utf8");
const lib = read("lib");

/**
 * What the program's commands run on the machine that runs Pulumi, one step each; the head of a file says what it
 * needs in its environment. The texts travel in the environment: no path of a checkout comes into the state.
 */
export const HOST_SCRIPTS = {
  birth: read("birth"),
  makeAuthority: read("make-authority"),
  checkSettings: read("check-settings"),
  configure: lib + read("configure"),
  ready: lib + read("ready"),
  onPrimary: lib + read("on-primary"),
  narrow: lib + read("narrow") + read("on-primary"),
  slot: lib + read("slot") + read("on-primary"),
} as const;
