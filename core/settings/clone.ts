/** How a node copies another one, when it is added or cloned anew: the settings that only pgnode reads. */

/** From whom a copy is preferred; without a standby that streams it comes from the primary all the same. */
export const CLONE_SOURCES = ["primary", "standby"] as const;

/** How the server compresses what it sends; the node takes it apart again. */
export const COMPRESSIONS = ["gzip", "lz4", "zstd"] as const;

export interface CloneSettings {
  /** @default primary */
  from?: (typeof CLONE_SOURCES)[number];
  /** The most that the server may send of the data, in kB (of 1024 bytes) per second. @default no limit */
  maxRate?: number;
  /** @default nothing is compressed */
  compress?: (typeof COMPRESSIONS)[number];
}

/** What pg_basebackup takes as --max-rate, in kB per second. */
export const MAX_RATE = { least: 32, most: 1024 * 1024 } as const;

/** Of a node's settings. What is the default has no line, so that a stack that asks for nothing has the file that it had. */
export function cloneParameters({ from, maxRate, compress }: CloneSettings = {}): Record<string, string> {
  return {
    ...(from === undefined || from === "primary" ? {} : { "pgnode.clone_from": from }),
    ...(maxRate === undefined ? {} : { "pgnode.clone_max_rate": String(maxRate) }),
    ...(compress === undefined ? {} : { "pgnode.clone_compress": compress }),
  };
}

/** The names of these settings. */
export const CLONE_PARAMETERS: readonly string[] = Object.keys(cloneParameters({ from: "standby", maxRate: 32, compress: "gzip" }));
