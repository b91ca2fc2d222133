/** The defaults of every key; Pulumi.yaml repeats them for `pulumi config`, a test compares the two. */
export const DEFAULTS = {
  nodes: [
    { name: "pg1", port: 5432 },
    { name: "pg2", port: 5433 },
  ],
  image: "postgres-replica:17",
  parameters: {},
  allowedSubnets: ["samenet"],
  sampleDatabase: false,
  synchronous: {},
  tls: "off",
  caFile: "",
  caGeneration: 1,
  tlsCa: "",
  tlsCertificates: {},
  failover: "manual",
  protectData: false,
  maxSlotWalKeepSize: "1GB",
  clone: {},
  automaticRejoin: true,
  startStopped: false,
} as const;
