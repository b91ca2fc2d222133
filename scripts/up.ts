import { commandLine, runCommand } from "./cli";
import { up } from "../operations/deploy/deploy";

const program = commandLine("up", "Builds the stack, or brings it up to date: installs what is missing, then pulumi up.");

void runCommand(program, ({ stack }) => up(stack));
