import { commandLine, type CommonOptions, runCommand } from "./cli";
import { rejoin } from "../operations/change/rejoin";

const program = commandLine("rejoin", "Brings a failed node back as a standby: by pg_rewind, else by a fresh clone.")
  .argument("<node>", "the node's name")
  .option("--clone", "clone it anew, whatever is in its volume; the old data stays until the clone is complete")
  .option("--drop-old-data", "clone it anew, and remove what is in its volume before that, for a disk that cannot hold both");

void runCommand<CommonOptions & { clone?: boolean; dropOldData?: boolean }>(program, ({ stack, clone, dropOldData }, [node]) =>
  rejoin(stack, node ?? "", { anew: clone === true, dropOld: dropOldData === true }),
);
