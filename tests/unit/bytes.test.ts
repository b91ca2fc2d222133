import { bytesText } from "../../core/grammar/bytes";

describe("bytes for people", () => {
  test.each([
    [0, "0 B"],
    [1023, "1023 B"],
    [1024, "1.0 KiB"],
    [1536, "1.5 KiB"],
    [1024 ** 2 - 1, "1024.0 KiB"],
    [1024 ** 2, "1.0 MiB"],
    [16 * 1024 ** 2, "16.0 MiB"],
    [1024 ** 3, "1.0 GiB"],
    [2.5 * 1024 ** 4, "2.5 TiB"],
  ])("%d are %s", (bytes, text) => {
    expect(bytesText(bytes)).toBe(text);
  });

  test("have no unit beyond TiB", () => {
    expect(bytesText(5000 * 1024 ** 4)).toBe("5000.0 TiB");
  });

  test("keep their sign", () => {
    expect(bytesText(-1536)).toBe("-1.5 KiB");
  });

  test("are whole when they are few", () => {
    expect(bytesText(12.4)).toBe("12 B");
  });
});
