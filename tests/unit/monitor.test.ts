import { type Look, monitor, type Sample, sparkline, walRate } from "../../operations/look/monitor";
import { bytesText } from "../../core/grammar/bytes";
import * as observing from "../../operations/engine/observe";
import { primary, replica, silent, standby } from "./observations";

jest.mock("../../operations/engine/observe");
const observe = jest.mocked(observing.diagnose);

describe("the WAL rate", () => {
  const look = (at: number, lsn: string | null, name: string | null = "pg1"): Look => ({ at, primary: name, lsn });

  test("is bytes per second between two looks", () => {
    expect(walRate(look(1000, "0/1000000"), look(3000, "0/1000400"))).toBe(512);
    expect(walRate(look(1000, "0/1000000"), look(1500, "0/1000001"))).toBe(2);
    expect(walRate(look(1000, "0/FFFFFFFF"), look(2000, "1/0"))).toBe(1);
    expect(walRate(look(1000, "0/1000000"), look(3000, "0/1000000"))).toBe(0);
  });

  test.each<[string, Look | undefined, Look]>([
    ["at the first look", undefined, look(2000, "0/2")],
    ["when another node is primary", look(1000, "0/1", "pg1"), look(2000, "0/2", "pg2")],
    ["when there is no primary any more", look(1000, "0/1"), look(2000, null, null)],
    ["when there was no primary", look(1000, null, null), look(2000, "0/1")],
    ["while there is none", look(1000, null, null), look(2000, null, null)],
    ["when no time has passed", look(1000, "0/1"), look(1000, "0/2")],
    ["when the clock was set back", look(2000, "0/1"), look(1000, "0/2")],
  ])("is unknown %s", (_when, before, now) => {
    expect(walRate(before, now)).toBeNull();
  });
});

describe("a sparkline", () => {
  test("has a bar for each value, the highest a full one", () => {
    expect(sparkline([0, 1, 2, 3, 4, 5, 6, 7, 8])).toBe("▁▂▃▄▅▆▇██");
    expect(sparkline([500, 1000])).toBe("▅█");
  });

  test("shows what is not known as a dot, not as nothing", () => {
    expect(sparkline([null, 0, null, 8])).toBe("·▁·█");
    expect(sparkline([null, null])).toBe("··");
  });

  test("of zeros is flat, and of no values empty", () => {
    expect(sparkline([0, 0, 0])).toBe("▁▁▁");
    expect(sparkline([])).toBe("");
  });
});

describe("bytes for people", () => {
  test.each([
    [0, "0 B"],
    [1, "1 B"],
    [1023, "1023 B"],
    [1024, "1.0 KiB"],
    [1536, "1.5 KiB"],
    [16 * 1024 ** 2, "16.0 MiB"],
    [3 * 1024 ** 3, "3.0 GiB"],
    [1024 ** 4, "1.0 TiB"],
    [5000 * 1024 ** 4, "5000.0 TiB"],
    [-2048, "-2.0 KiB"],
  ])("%d are %s", (bytes, text) => {
    expect(bytesText(bytes)).toBe(text);
  });

  test("of a rate, which is no whole number, are short enough for a column", () => {
    expect(bytesText(100 / 3).length).toBeLessThanOrEqual(10);
  });
});

describe("monitor", () => {
  const lines: string[] = [];
  beforeEach(() => {
    lines.length = 0;
    jest.spyOn(console, "log").mockImplementation((line: string) => void lines.push(line));
  });
  afterEach(() => jest.restoreAllMocks());

  test("prints as many looks as were asked for, each on a line of JSON, and succeeds", async () => {
    observe
      .mockResolvedValueOnce([primary("pg1", ["pg2"], { lsn: "0/5000000" }), standby("pg2")])
      .mockResolvedValueOnce([primary("pg1", ["pg2"], { lsn: "0/6000000", replicas: [replica("pg2", { lagBytes: 7 })] }), standby("pg2")])
      .mockResolvedValueOnce([silent("pg1", "exited"), primary("pg2", [], { timeline: 2 })]);
    expect(await monitor("dev", { interval: 0.01, count: 3, json: true })).toBe(0);
    const samples = lines.map((line) => JSON.parse(line) as Sample);
    expect(samples.map((s) => [s.primary, s.lagBytes, s.problems.length])).toEqual([
      ["pg1", { pg2: 0 }, 0],
      ["pg1", { pg2: 7 }, 0],
      ["pg2", { pg1: null }, 2],
    ]);
    expect(samples.map((s) => s.walBytesPerSecond)).toEqual([null, expect.any(Number), null]);
    expect(samples[1]?.walBytesPerSecond).toBeGreaterThan(0);
  });

  test("prints a line for people when nobody sees a terminal", async () => {
    observe.mockResolvedValueOnce([primary("pg1", ["pg2"], { replicas: [replica("pg2", { lagBytes: 2048 })] }), standby("pg2")]);
    await monitor("dev", { interval: 1, count: 1, json: false });
    expect(lines).toEqual([expect.stringMatching(/^\d{4}-\S+Z primary pg1, WAL -, lag pg2 2\.0 KiB$/)]);
  });
});
