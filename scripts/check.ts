import { commandLine, runCommand } from "./cli";
import { check } from "../tests/quality";

void runCommand(commandLine("check", "Format, lint and type-check."), () => check());
