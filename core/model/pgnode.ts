import { readFileSync } from "fs";
import { join } from "path";

/** The program that runs in every container; see its head for what it does. */
export const PGNODE_SCRIPT = readFileSync(join(__dirname, "..", "..", "image", "pgnode.sh"), "utf8");

/** Where the program is in a node's container. */
export const PGNODE_PATH = "/usr/local/bin/pgnode";
