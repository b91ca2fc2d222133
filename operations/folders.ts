import { join } from "path";

/** The checkout. */
export const ROOT = join(__dirname, "..");

/** What belongs to this checkout alone and is never committed: state, passphrase, logs. */
export const STATE_DIR = join(ROOT, ".state");
