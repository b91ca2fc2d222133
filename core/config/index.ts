import { PROJECT } from "../model/names";

export { DEFAULTS } from "./defaults";
export { ConfigError } from "./errors";
export { parseConfig } from "./parse";
export { type NodeCertificate, type Provided, providedCertificates } from "./provided";
export { CONFIG_KEYS } from "./schema";
export { checkPassword, generatesPasswords, requireSecrets, SECRET_KEYS, type SecretKey } from "./secrets";
export type { NodeConfig, StackConfig, SynchronousConfig, TlsConfig } from "./types";

/** The namespace of the project's keys in a stack's config file. */
export const CONFIG_NAMESPACE = `${PROJECT}:`;
