import { adopt } from "../operations/adopt";
import { commandLine, runCommand } from "./cli";

const program = commandLine(
  "adopt",
  "Takes a stack whose state was lost into a new one, without touching a container. Passwords that only the lost state knew are asked for.",
);

void runCommand(program, ({ stack }) => adopt(stack));
