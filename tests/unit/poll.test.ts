import { CLOCK, poll, until } from "../../operations/engine/poll";
import { still } from "./clocks";

describe("asking again and again", () => {
  test("ends with the first right answer, and tells how long it took", async () => {
    const clock = still();
    let asked = 0;
    const found = await poll(
      () => Promise.resolve(++asked),
      (answer) => answer === 3,
      { seconds: 10, every: 250, clock },
    );
    expect(found).toEqual({ answer: 3, right: true, seconds: 0.5 });
    expect(clock.paused).toEqual([250, 250]);
  });

  test("ends with the last answer when the time is up, however often it was asked", async () => {
    const clock = still();
    const found = await poll(
      () => Promise.resolve("no"),
      () => false,
      { seconds: 1, every: 400, clock },
    );
    expect(found).toEqual({ answer: "no", right: false, seconds: 1.2 });
  });

  test("asks once even when there is no time", async () => {
    await expect(until("it", 0, () => Promise.resolve(true), { clock: still() })).resolves.toBe(true);
  });

  test("says what was waited for, and how long", async () => {
    await expect(until("a row to arrive", 2, () => Promise.resolve(false), { clock: still() })).rejects.toThrow(
      /^waited 2 s for a row to arrive$/,
    );
  });

  test("passes on why it could not be asked", async () => {
    await expect(until("it", 2, () => Promise.reject(new Error("no engine")), { clock: still() })).rejects.toThrow("no engine");
  });
});

test("this machine's clock waits as long as it is told, and goes forward", async () => {
  const start = CLOCK.now();
  await CLOCK.pause(30);
  expect(CLOCK.now() - start).toBeGreaterThanOrEqual(25);
});
