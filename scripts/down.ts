import { commandLine, runCommand } from "../commands/cli";
import { down } from "../commands/deploy";

const program = commandLine("down", "Removes everything of the stack: pulumi destroy. With protectData the data volumes stay.");

void runCommand(program, ({ stack }) => down(stack));
