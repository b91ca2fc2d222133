import { isIPv4, isIPv6 } from "net";
import { z } from "zod";
import { isNodeName } from "../model/names";
import { CLONE_SOURCES, COMPRESSIONS, MAX_RATE } from "../settings/clone";
import { DEFAULTS } from "./defaults";
import { PROVIDED_KEYS } from "./provided";
import { OPTIONAL_SECRET_KEYS, OWNERS_KEY, SECRET_KEYS } from "./secrets";

const isAddress = (text: string): boolean => isIPv4(text) || isIPv6(text);

const isSubnet = (text: string): boolean => text === "samenet" || text === "samehost" || isRange(text);

function isRange(text: string): boolean {
  const [address = "", bits, ...rest] = text.split("/");
  if (rest.length > 0 || bits === undefined || !/^\d{1,3}$/.test(bits)) {
    return false;
  }
  return (isIPv4(address) && Number(bits) <= 32) || (isIPv6(address) && Number(bits) <= 128);
}

const boolean = z.union([z.boolean(), z.enum(["true", "false"]).transform((text) => text === "true")], {
  error: "true or false",
});

/** A whole number from 1, as YAML or as `pulumi config set` writes it. */
function wholeNumber(allowed: string, most = Infinity): z.ZodType<number> {
  return z
    .union(
      [
        z.number().int(),
        z
          .string()
          .regex(/^\d{1,9}$/)
          .transform(Number),
      ],
      { error: allowed },
    )
    .refine((number) => number >= 1 && number <= most, { error: allowed });
}

/** A size as text, in MB. */
function megabytes(least: number): z.ZodType<number> {
  const error = `a size from ${least}MB, such as 512MB or 2GB`;
  return z
    .string({ error })
    .regex(/^[1-9]\d{0,6}(MB|GB)$/, { error })
    .transform((text) => Number(text.slice(0, -2)) * (text.endsWith("GB") ? 1024 : 1))
    .refine((size) => size >= least, { error });
}

/** What may be sent in a second, as text, in kB of 1024 bytes. */
function rate(): z.ZodType<number> {
  const error = "what may be sent in a second, from 32kB to 1024MB, such as 100MB";
  const units: Record<string, number> = { kB: 1, MB: 1024, GB: 1024 * 1024 };
  return z
    .string({ error })
    .regex(/^[1-9]\d{0,6}(kB|MB|GB)$/, { error })
    .transform((text) => Number(text.slice(0, -2)) * (units[text.slice(-2)] ?? 0))
    .refine((kB) => kB >= MAX_RATE.least && kB <= MAX_RATE.most, { error });
}

/** A text of which not every one is right; what is no text at all is told the same. */
function textThat(isRight: (text: string) => boolean, allowed: string): z.ZodType<string> {
  return z.string({ error: allowed }).refine(isRight, { error: allowed });
}

const node = z.strictObject(
  {
    name: z.string({ error: "a DNS label such as pg1" }).refine(isNodeName, {
      error: "a DNS label: a lower-case letter, then letters, digits and hyphens, at most 63",
    }),
    port: wholeNumber("a TCP port, 1 to 65535", 65535),
    dockerHost: textThat(
      (text) => /^(unix|tcp|ssh|npipe):\/\/./.test(text),
      "a Docker host such as ssh://user@host or unix:///var/run/docker.sock",
    ).optional(),
    address: textThat(isAddress, "an IP address such as 127.0.0.1").default("127.0.0.1"),
    seenFrom: z
      .array(
        textThat((text) => isAddress(text) || isRange(text), "an IP address or a CIDR range"),
        { error: "a list of IP addresses or CIDR ranges" },
      )
      .min(1, "at least one address")
      .optional(),
    upstream: textThat(isNodeName, "the name of another node").optional(),
    memory: megabytes(256).optional(),
    cpus: z
      .union(
        [
          z.number(),
          z
            .string()
            .regex(/^\d+(\.\d+)?$/)
            .transform(Number),
        ],
        { error: "a number of CPUs such as 2 or 0.5" },
      )
      .refine((cpus) => cpus >= 0.1 && cpus <= 1024, { error: "a number of CPUs such as 2 or 0.5, from 0.1" })
      .optional(),
    sharedMemory: megabytes(64).optional(),
  },
  { error: "a node with name and port" },
);

/** A name that PostgreSQL keeps as it is: no longer than it keeps one, and none that it does not allow. */
const sqlName = textThat(
  (text) => /^[a-z_][a-z0-9_-]{0,62}$/.test(text) && !text.startsWith("pg_"),
  "a name of lower-case letters, digits, _ and -, at most 63, that begins with a letter or _ and not with pg_",
);

const database = z.strictObject(
  {
    name: sqlName,
    owner: sqlName.optional(),
    extensions: z
      .array(
        textThat((text) => /^[A-Za-z0-9_-]{1,63}$/.test(text), "an extension's name such as pg_trgm"),
        { error: "a list of extensions such as [pg_trgm]" },
      )
      .default([]),
  },
  { error: "a database with name, such as { name: shop, extensions: [pg_trgm] }" },
);

const parameterValue = z
  .union([z.string(), z.number(), z.boolean()], { error: "a string, number or boolean" })
  .transform((value) => (typeof value === "boolean" ? (value ? "on" : "off") : String(value)))
  .refine((value) => !/[\r\n\0]/.test(value), { error: "a value on one line" });

/** Every key, and what it may hold; what concerns more than one key is in parse.ts. */
export const schema = z.strictObject({
  nodes: z
    .array(node, { error: "a list of nodes, each with name and port" })
    .min(1, "at least one node")
    .default(() => node.array().parse(DEFAULTS.nodes)),
  image: textThat((text) => /^[a-z0-9][a-z0-9._/:@-]*$/.test(text), "an image name such as postgres:17").default(DEFAULTS.image),
  parameters: z.record(z.string(), parameterValue, { error: "an object of PostgreSQL settings" }).default({}),
  allowedSubnets: z
    .array(textThat(isSubnet, "a CIDR range such as 192.168.1.0/24, or samenet"), { error: "a list of CIDR ranges" })
    .default([...DEFAULTS.allowedSubnets]),
  sampleDatabase: boolean.default(DEFAULTS.sampleDatabase),
  databases: z.array(database, { error: "a list of databases, each with name" }).default([]),
  synchronous: z
    .strictObject(
      {
        mode: z.enum(["any", "first"], { error: "any or first" }).optional(),
        count: wholeNumber("a whole number from 1").optional(),
      },
      { error: "an object such as { mode: any, count: 1 }" },
    )
    .default({}),
  tls: z
    .union([boolean.transform((on) => (on ? "generated" : "off")), z.enum(["off", "generated", "provided"])], {
      error: "off, generated or provided",
    })
    .default(DEFAULTS.tls),
  caFile: textThat((text) => !/[\u0000-\u001f\u007f]/.test(text), "a path on one line").default(DEFAULTS.caFile),
  caGeneration: wholeNumber("a whole number from 1").default(DEFAULTS.caGeneration),
  failover: z.literal("manual", { error: "manual: this version has no automatic failover yet" }).default("manual"),
  protectData: boolean.default(DEFAULTS.protectData),
  maxSlotWalKeepSize: z
    .string({ error: "a size such as 1GB" })
    .regex(/^(-1|[1-9]\d*(MB|GB|TB))$/, "a size such as 512MB or 1GB, or -1 for no limit")
    .default(DEFAULTS.maxSlotWalKeepSize),
  clone: z
    .strictObject(
      {
        from: z.enum(CLONE_SOURCES, { error: CLONE_SOURCES.join(" or ") }).optional(),
        maxRate: rate().optional(),
        compress: z.enum(["none", ...COMPRESSIONS], { error: "none, gzip, lz4 or zstd" }).optional(),
      },
      { error: "an object such as { from: standby, maxRate: 100MB, compress: zstd }" },
    )
    .default({}),
  automaticRejoin: boolean.default(DEFAULTS.automaticRejoin),
  startStopped: boolean.default(DEFAULTS.startStopped),
});

/** Every key that Pulumi's config may hold. */
export const CONFIG_KEYS: readonly string[] = [
  ...Object.keys(schema.shape),
  ...PROVIDED_KEYS,
  ...SECRET_KEYS,
  ...OPTIONAL_SECRET_KEYS,
  OWNERS_KEY,
];
