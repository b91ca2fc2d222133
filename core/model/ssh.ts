import { createHash } from "crypto";
import { readFileSync } from "fs";
import { join } from "path";

/**
 * How Docker hosts are reached by ssh. The docker command line and the provider start one ssh for each of their connections;
 * sshd lets ten come in at a time (MaxStartups) and ten sessions share a connection (MaxSessions). So the connections to one host
 * share one, which the first look at it opens; where it has as many sessions as it may, ssh itself opens another connection.
 */
export const SSH_OPTIONS: readonly string[] = [
  "ControlMaster=auto",
  // %d is the user's home, so it is the same text on every machine; a socket in a folder of everybody could be somebody else's.
  "ControlPath=%d/.ssh/pgr-%C",
  "ControlPersist=60",
  "ConnectTimeout=5",
  "ServerAliveInterval=5",
  "ServerAliveCountMax=3",
].flatMap((option) => ["-o", option]);

/** Whether a Docker host is reached by ssh. */
export const isBySsh = (engine: string): boolean => engine.startsWith("ssh://");

/** The program that stands before the user's own ssh. */
export const SSH_WRAPPER = readFileSync(join(__dirname, "..", "..", "image", "host", "ssh.sh"), "utf8").replace(
  "OPTIONS",
  SSH_OPTIONS.join(" "),
);

/** Where it is put, below the user's cache folder: another text, another folder. */
export const SSH_FOLDER = join("postgres-replica", `ssh-${createHash("sha256").update(SSH_WRAPPER).digest("hex").slice(0, 12)}`);

/** A shell command that puts it there, from $PGNODE_SSH, and sets PATH. */
export const SSH_FIRST = [
  `ssh_folder=\${XDG_CACHE_HOME:-$HOME/.cache}/${SSH_FOLDER}`,
  '[ -x "$ssh_folder/ssh" ] || { mkdir -p -m 700 "$ssh_folder" && printf %s "$PGNODE_SSH" >"$ssh_folder/ssh.$$" && chmod 700 "$ssh_folder/ssh.$$" && mv "$ssh_folder/ssh.$$" "$ssh_folder/ssh"; }',
  "export PATH=$ssh_folder:$PATH",
].join("; ");
