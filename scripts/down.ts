import { commandLine, runCommand } from "./cli";
import { down } from "../operations/deploy/deploy";

const program = commandLine("down", "Removes everything of the stack: pulumi destroy. With protectData the data volumes stay.");

void runCommand(program, ({ stack }) => down(stack));
