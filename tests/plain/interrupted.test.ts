import { finishesPlainUp, PLAIN_STAGES } from "../faults/killedUp";

jest.setTimeout(400_000);

describe("a plain pulumi up that was killed", () => {
  test.each(PLAIN_STAGES)("$when is finished by the next one", finishesPlainUp);
});
