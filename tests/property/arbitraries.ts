import fc from "fast-check";

const letter = fc.constantFrom(..."abcdefghijklmnopqrstuvwxyz");
const inner = fc.constantFrom(..."abcxyz0189-");
const last = fc.constantFrom(..."abcxyz0189");

const SURROGATES = { first: 0xd800, count: 0x800 };
/**
 * Any character. fast-check's own unit "binary" is the same, and builds a table of all 1.1 million when it is first used: most
 * of a second.
 */
export const character = fc.integer({ min: 0, max: 0x10ffff - SURROGATES.count }).map(
  (n) => String.fromCodePoint(n < SURROGATES.first ? n : n + SURROGATES.count),
  (value) => {
    const code = typeof value === "string" ? (value.codePointAt(0) ?? NaN) : NaN;
    if (Number.isNaN(code) || String.fromCodePoint(code) !== value) {
      throw new Error("not one character");
    }
    return code < SURROGATES.first ? code : code - SURROGATES.count;
  },
);

/** Every kind of name that a node may have. */
export const nodeName = fc.oneof(
  letter,
  fc.tuple(letter, fc.string({ unit: inner, maxLength: 61 }), last).map((parts) => parts.join("")),
);

/** Every kind of subnet that the config allows. */
export const subnet = fc.oneof(
  fc.constantFrom("samenet", "samehost", "0.0.0.0/0", "::/0"),
  fc.tuple(fc.ipV4(), fc.integer({ min: 0, max: 32 })).map(([ip, bits]) => `${ip}/${bits}`),
  fc.tuple(fc.ipV6(), fc.integer({ min: 0, max: 128 })).map(([ip, bits]) => `${ip}/${bits}`),
);

/** Text for people and for machines, line breaks and quotes among it. */
const anyText = fc.oneof(fc.string(), fc.string({ unit: fc.constantFrom(..."a'\"\\\n\r\t{[:,") }));

/** What YAML or JSON can hold. */
export const anyValue = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    anyText,
    fc.constantFrom<unknown>(null, true, false, "", "true", "false", 0, -1, 1e21, "5432"),
    fc.integer(),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.array(tie("value"), { maxLength: 4 }),
    fc.dictionary(
      fc.oneof(fc.constantFrom("name", "port", "address", "dockerHost", "mode", "count", "work_mem", "constructor"), anyText),
      tie("value"),
      {
        maxKeys: 4,
      },
    ),
  ),
})).value;

export { anyText };
