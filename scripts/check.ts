import { commandLine, runCommand } from "../commands/cli";
import { check } from "../commands/quality";

void runCommand(commandLine("check", "Format, lint and type-check."), () => check());
