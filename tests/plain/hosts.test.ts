import { Lan } from "../faults/lan";
import { PlainStack } from "./plainStack";

jest.setTimeout(600_000);

describe("a stack on two Docker hosts", () => {
  let lan: Lan;
  let plain: PlainStack;

  beforeAll(async () => {
    lan = await Lan.make();
    const far = await lan.host({ ssh: true });
    plain = await PlainStack.make("hosts", {
      sampleDatabase: true,
      nodes: [
        { name: "pg1", port: 15432, address: lan.address },
        { name: "pg2", port: 15432, address: far.address, dockerHost: far.ssh },
      ],
    });
    plain.sockets.set("pg2", far.socket);
    plain.variables = lan.environment();
    await plain.up();
  });
  afterAll(async () => {
    await plain?.remove();
    await lan?.remove();
  });

  test("streams from one to the other, by their addresses", async () => {
    await plain.expectStreaming("pg2", "pg1");
    await plain.expectZeroDiff();
  });
});
