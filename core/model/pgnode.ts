import { readFileSync } from "fs";
import { join } from "path";
import { DEFAULT_LAG_THRESHOLD_BYTES } from "../sql/queries";
import { READS_FILES } from "../sql/roles";
import { CONTAINER_PORT, MARKS, NODE_ROOT, REPLICATION_ROLE, REWIND_ROLE } from "./names";
import { CERTIFICATE_DAYS, PROVISIONAL_ORGANISATION, RENEWAL_DAYS } from "./certificate";
import { FILE_LINES } from "./nodeFiles";

/** The parts of the program, in the order in which they are joined: constants are set before a function is called. */
const PARTS = [
  "head",
  "lib",
  "room",
  "tls",
  "config",
  "birth",
  "source",
  "peers",
  "guard",
  "rejoin",
  "serve",
  "marks",
  "evidence",
  "main",
] as const;

/** What the program and the rest of the project know by the same name. No value has a character that a shell minds. */
const NAMES = `#!/bin/sh
# pgnode, joined of image/pgnode/*.sh. The names that the rest of the project uses too:
ROOT=${NODE_ROOT}
PORT=${CONTAINER_PORT}
REPLICATION_ROLE=${REPLICATION_ROLE}
REWIND_ROLE=${REWIND_ROLE}
# The functions that the rewind role may call, with ; between.
READS_FILES='${READS_FILES.join(";")}'
MARKS='${MARKS.join(" ")}'
# VARIABLE NAME MODE NEEDS PLACE of each file that the stack writes.
FILES='${FILE_LINES}'
# How far behind the primary a standby that is copied may be, in bytes: status calls that lag.
COPIED_LAG=${DEFAULT_LAG_THRESHOLD_BYTES}
CERTIFICATE_DAYS=${CERTIFICATE_DAYS}
RENEWAL_DAYS=${RENEWAL_DAYS}
PROVISIONAL=${PROVISIONAL_ORGANISATION}
`;

const read = (part: string): string => readFileSync(join(__dirname, "..", "..", "image", "pgnode", `${part}.sh`), "utf8");

/** The program that runs in every container; see image/pgnode/head.sh for what it does. */
export const PGNODE_SCRIPT = [NAMES, ...PARTS.map(read)].join("\n");

/** Where the program is in a node's container. */
export const PGNODE_PATH = "/usr/local/bin/pgnode";
