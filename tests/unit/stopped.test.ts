import { parseConfig } from "../../core/config";
import { stoppedNodes } from "../../operations/guard/stopped";
import type { Survey } from "../../operations/guard/survey";
import { foundAt } from "./surveys";

const config = (startStopped: boolean): ReturnType<typeof parseConfig> => parseConfig("dev-s", { startStopped });
const seen = (pg2: string, primary = true): Pick<Survey, "found" | "observed"> => ({
  found: ["pg1", "pg2"].map((node) =>
    foundAt("unix:///x", "container", `postgres-replica-dev-s-${node}`, { node, state: node === "pg2" ? pg2 : "running" }),
  ),
  observed: (primary ? [{ name: "pg1", server: { inRecovery: false } }] : []) as unknown as Survey["observed"],
});

describe("a node that is stopped", () => {
  test("is reported, and not started, by default", () => {
    const { start, report } = stoppedNodes(config(false), seen("exited"));
    expect(start).toEqual({});
    expect(report).toEqual([expect.stringMatching(/^node pg2 is stopped \(container postgres-replica-dev-s-pg2\); up leaves it alone\./)]);
  });

  test("is started when the config says so and somebody is primary", () => {
    expect(stoppedNodes(config(true), seen("exited"))).toEqual({ start: { pg2: ["node pg2 is stopped"] }, report: [] });
    expect(stoppedNodes(config(true), seen("exited", false))).toEqual({
      start: {},
      report: [expect.stringContaining("no node is primary, so up starts none")],
    });
  });

  test.each(["running", "restarting", "paused"])("is not one that is %s", (state) => {
    expect(stoppedNodes(config(true), seen(state))).toEqual({ start: {}, report: [] });
  });
});
