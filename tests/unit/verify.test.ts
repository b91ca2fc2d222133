import { verify } from "../../operations/look/verify";
import * as observing from "../../operations/engine/observe";
import * as workspace from "../../operations/deploy/workspace";
import { UserError } from "../../operations/errors";
import { parseConfig } from "../../core/config";
import type { Observation } from "../../core/judgement/observation";
import { primary, silent } from "./observations";

jest.mock("../../operations/engine/observe", () => ({
  ...jest.requireActual<object>("../../operations/engine/observe"),
  observe: jest.fn(),
}));
jest.mock("../../operations/deploy/workspace", () => ({ readStackConfig: jest.fn(), pulumiOutput: jest.fn() }));

describe("verify, before it tries anything,", () => {
  const seen = (...observed: Observation[]): void => {
    jest.mocked(workspace.readStackConfig).mockReturnValue(parseConfig("dev", {}));
    jest.mocked(observing.observe).mockResolvedValue(observed);
  };

  test("names the standbys of which none answers, and how each is", async () => {
    seen(primary("pg1", []), silent("pg2", "exited"), silent("pg3", "running"));
    await expect(verify("dev", false)).rejects.toThrow(
      new UserError(
        'stack "dev" has no standby to verify: of pg2 (down), pg3 (unknown) none answers as one. Run: npm run status -- --stack dev',
      ),
    );
  });

  test("says that a node is alone", async () => {
    seen(primary("pg1", []));
    await expect(verify("dev", false)).rejects.toThrow(/has no standby to verify: its only node is the primary\. Run: /);
  });

  test("says that there is no primary", async () => {
    seen(silent("pg1", "exited"), silent("pg2", "exited"));
    await expect(verify("dev", false)).rejects.toThrow(/cannot be verified: no node is primary\. Run: docker start /);
  });
});
