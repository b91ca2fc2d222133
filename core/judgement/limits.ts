import { DEFAULT_LAG_THRESHOLD_BYTES } from "../sql/queries";

/** From where on a standby is too far behind. */
export interface Limits {
  lagBytes: number;
  /** Not for a standby that is late on purpose. */
  lagSeconds: number;
}

/** Those of status, and of alert unless it is given others. */
export const DEFAULT_LIMITS: Limits = { lagBytes: DEFAULT_LAG_THRESHOLD_BYTES, lagSeconds: 60 };
