/** How long the parts of a failover or switchover may take, in seconds; `rejoin` is how long one may show no progress. */
export const BOUNDS = {
  promote: 60,
  write: 60,
  confirm: 20,
  drain: 15,
  lock: 120,
  shutdown: 60,
  refused: 20,
  away: 30,
  rejoin: 1_800,
} as const;
