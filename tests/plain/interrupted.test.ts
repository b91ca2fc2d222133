import { PlainStack } from "./plainStack";

jest.setTimeout(400_000);

/** Plain `pulumi up`, killed with all below it, is finished by `pulumi cancel` and another `pulumi up`. */
describe("a plain pulumi up that was killed", () => {
  test.each([
    ["after the network", /network created/, false],
    ["while the primary's container is made", /pg1-container creating/, false],
    ["during the base backup", /pg2-basebackup creating/, false],
    ["while the secondary's container is made, with its base backup complete", /pg2-container creating/, true],
  ])("%s is finished by the next one", async (_when, marker, backupComplete) => {
    const plain = await PlainStack.make("cut", { sampleDatabase: true });
    try {
      await plain.killUpWhen(marker);
      const born = backupComplete ? await plain.volumeBirth("pg2") : "";
      await plain.must("cancel", "--yes");
      await plain.up();
      await plain.expectStreaming("pg2", "pg1");
      await plain.expectNewRow("pg1", "pg2");
      if (backupComplete) {
        // One and the same file: no second base backup took its place.
        expect(born).toMatch(/^\d+ /);
        expect(await plain.volumeBirth("pg2")).toBe(born);
      }
      await plain.expectZeroDiff();
    } finally {
      await plain.remove();
    }
  });
});
