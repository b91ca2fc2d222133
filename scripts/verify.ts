import { commandLine, runCommand } from "./cli";
import { verify } from "../operations/look/verify";

const program = commandLine(
  "verify",
  "Checks live that replication works: streaming, reads and a refused write on every standby, new rows arriving. Leaves no rows behind.",
  { json: true },
);

void runCommand(program, ({ stack, json }) => verify(stack, json ?? false));
