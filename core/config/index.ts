import { PROJECT } from "../model/names";

export { DEFAULTS } from "./defaults";
export { ConfigError } from "./errors";
export { parseConfig } from "./parse";
export { type NodeCertificate, type Provided, providedCertificates } from "./provided";
export { CONFIG_KEYS } from "./schema";
export {
  checkPassword,
  generatesPasswords,
  OPTIONAL_SECRET_KEYS,
  type OptionalSecretKey,
  OWNERS_KEY,
  ownerPasswords,
  ownersOf,
  requireSecrets,
  SECRET_KEYS,
  type SecretKey,
} from "./secrets";
export type { DatabaseConfig, NodeConfig, StackConfig, SynchronousConfig, TlsConfig } from "./types";

/** The namespace of the project's keys in a stack's config file. */
export const CONFIG_NAMESPACE = `${PROJECT}:`;
