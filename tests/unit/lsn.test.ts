import { formatLsn, lsnDiff, parseLsn } from "../../core/grammar/lsn";

describe("a WAL position", () => {
  test.each([
    ["0/0", 0n],
    ["0/1", 1n],
    ["1/0", 0x1_0000_0000n],
    ["16/B374D848", 0x16_b374_d848n],
    ["16/b374d848", 0x16_b374_d848n],
    ["FFFFFFFF/FFFFFFFF", (1n << 64n) - 1n],
  ])("%s counts bytes from the beginning of WAL", (text, position) => {
    expect(parseLsn(text)).toBe(position);
    expect(formatLsn(position)).toBe(text.toUpperCase());
  });

  test.each(["", "0", "0/", "/0", "0/0/0", "x0/0", "0/0x", " 0/0", "0/0\n", "G/0", "100000000/0", "0/100000000", "0x1/0"])(
    "%j is none, and the error says what one is",
    (text) => {
      expect(() => parseLsn(text)).toThrow(`"${text}" is not a WAL position: expected two hexadecimal numbers such as 16/B374D848`);
    },
  );

  test.each([-1n, 1n << 64n])("%d is outside what PostgreSQL can write", (position) => {
    expect(() => formatLsn(position)).toThrow(`${position} is outside the range of a WAL position`);
  });

  test("is ahead of another one by a number of bytes, or behind it", () => {
    expect(lsnDiff("1/0", "0/FFFFFFFF")).toBe(1n);
    expect(lsnDiff("0/FFFFFFFF", "1/0")).toBe(-1n);
    expect(lsnDiff("0/5", "0/5")).toBe(0n);
  });
});
