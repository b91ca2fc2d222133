import { commandLine, runCommand } from "../commands/cli";
import { rejoin } from "../commands/rejoin";

const program = commandLine("rejoin", "Brings a failed node back as a standby: by pg_rewind, else by a fresh clone.").argument(
  "<node>",
  "the node's name",
);

void runCommand(program, ({ stack }, [node]) => rejoin(stack, node ?? ""));
