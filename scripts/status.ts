import { commandLine, runCommand } from "./cli";
import { status } from "../operations/look/status";

const program = commandLine(
  "status",
  "The topology now: each node's role, timeline, LSN, lag and slot. Exit code 0 healthy, 1 degraded, 2 no single primary.",
  { json: true },
);

void runCommand(program, ({ stack, json }) => status(stack, json ?? false));
