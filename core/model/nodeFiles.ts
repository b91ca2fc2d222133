import { passfile } from "../grammar/conninfo";
import { AUTHORITY_FILE, TLS_FILES } from "../settings/tls";
import { REPLICATION_ROLE, REWIND_ROLE } from "./names";

/**
 * The files that the stack writes into a node's volume. This list alone says which there are, who may read them, and what a
 * change of one needs; pgnode has its own list from here.
 */

/** One of them. */
export interface NodeFile {
  /** Where it is, below the volume's folder. */
  name: string;
  /** What a person calls it. */
  called: string;
  /** The environment variable in which its text travels. Empty, or not there: the node keeps what it has. */
  variable: string;
  mode: "0600";
  /** Its text is kept from everybody: it is encrypted in the state, and never in the environment that a container is made with. */
  secret: boolean;
  /** What makes the server use another text. Which of its settings wait for a restart all the same, the server says itself. */
  needs: "reload" | "restart";
  /** It belongs beside the cluster as well: pg_rewind and clones bring the other node's there. */
  inData: boolean;
}

const ofNode = { mode: "0600", secret: false, needs: "reload", inData: false } as const;

export const NODE_FILES = [
  { ...ofNode, name: "own/node.conf", called: "node.conf", variable: "PGNODE_CONF", inData: true },
  { ...ofNode, name: "own/pg_hba.conf", called: "pg_hba.conf", variable: "PGNODE_HBA", inData: true },
  { ...ofNode, name: "passfile", called: "the password file", variable: "PGNODE_PASSFILE", secret: true },
  { ...ofNode, name: AUTHORITY_FILE, called: "the CA's certificate", variable: "PGNODE_CA" },
  // Of `tls: provided`; what a node makes itself is no file of the stack's.
  { ...ofNode, name: TLS_FILES.provided.certificate, called: "its certificate", variable: "PGNODE_CERTIFICATE" },
  { ...ofNode, name: TLS_FILES.provided.key, called: "the key of its certificate", variable: "PGNODE_KEY", secret: true },
] as const satisfies readonly NodeFile[];

export type FileVariable = (typeof NODE_FILES)[number]["variable"];

/** The variables of the files that anybody may see, and of those that nobody may. */
export const fileVariables = (secret: boolean): FileVariable[] =>
  NODE_FILES.filter((file) => file.secret === secret).map(({ variable }) => variable);

/** The passwords by which a node logs in to the others. */
export interface NodePasswords {
  replication: string;
  /** Of the role that reads the primary's files. */
  rewind: string;
}

/** The text of a node's password file. */
export const nodePassfile = ({ replication, rewind }: NodePasswords): string =>
  passfile({ [REPLICATION_ROLE]: replication, [REWIND_ROLE]: rewind });

/** A file's places in the volume. */
export const placesOf = ({ name, inData }: NodeFile): string[] => (inData ? [name, name.replace(/^own\//, "data/")] : [name]);

/** The same list for pgnode: a line for each file, VARIABLE NAME MODE NEEDS PLACE. */
export const FILE_LINES = NODE_FILES.map(({ variable, name, mode, needs, inData }) =>
  [variable, name, mode, needs, inData ? "data" : "own"].join(" "),
).join("\n");
