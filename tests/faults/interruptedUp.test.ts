import { finishesUp, STAGES } from "./killedUp";

jest.setTimeout(300_000);

/** Proves that `up`, killed at a stage of each kind with everything below it, is finished by the next `up`. */
describe("an up that was killed", () => {
  test.each(STAGES)("$when is finished by the next one", finishesUp);
});
