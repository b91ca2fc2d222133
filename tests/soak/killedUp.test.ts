import { finishesPlainUp, finishesUp, MORE_PLAIN_STAGES, MORE_STAGES } from "../faults/killedUp";

jest.setTimeout(400_000);

/** The stages between those that `npm test` kills an `up` at. */
describe("an up that was killed", () => {
  test.each(MORE_STAGES)("$when is finished by the next one", finishesUp);
  test.each(MORE_PLAIN_STAGES)("$when, plain pulumi, is finished by the next one", finishesPlainUp);
});
