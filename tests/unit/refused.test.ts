import { clusterOf, nodeEnvironment } from "../../core/model/cluster";
import { placed } from "../../core/model/place";
import { parseConfig } from "../../core/config";
import { refusedSettings } from "../../core/settings/refused";
import { type AskParser, settingsRefused } from "../../operations/guard/settings";
import { readPrior, type PriorState } from "../../operations/guard/prior";
import type { Survey } from "../../operations/guard/survey";
import { declare } from "./program";
import { surveyOf } from "./surveys";

/** As versions 15 to 18 write it. */
const SAID = `LOG:  invalid value for parameter "work_mem": "7XB"
HINT:  Valid units for this parameter are "B", "kB", "MB", "GB", and "TB".
LOG:  1 8kB is outside the valid range for parameter "shared_buffers" (16 8kB .. 1073741823 8kB)
FATAL:  configuration file "/tmp/tmp.1/node.conf" contains errors
`;

describe("what PostgreSQL says against settings", () => {
  test.each([
    [
      SAID,
      [
        'invalid value for parameter "work_mem": "7XB" (Valid units for this parameter are "B", "kB", "MB", "GB", and "TB")',
        '1 8kB is outside the valid range for parameter "shared_buffers" (16 8kB .. 1073741823 8kB)',
      ],
    ],
    [
      'LOG:  unrecognized configuration parameter "wrk_mem" in file "/tmp/tmp.1/node.conf" line 12\nFATAL:  configuration file "/tmp/tmp.1/node.conf" contains errors\n',
      ['unrecognized configuration parameter "wrk_mem"'],
    ],
    ["FATAL:  x\n", ["x"]],
    ["HINT:  of nothing\nanother line\n", []],
    ["", []],
  ])("%j", (said, refused) => {
    expect(refusedSettings(said)).toEqual(refused);
  });
});

describe("before anything is touched", () => {
  const NODES = ["pg1", "pg2"].map((name, i) => ({ name, port: 5432 + i }));
  const clusterWith = (parameters: object): ReturnType<typeof clusterOf> =>
    clusterOf(placed(parseConfig("dev", { nodes: NODES, parameters }), "unix:///x"));
  const WAS = clusterWith({ work_mem: "7MB" });
  /** A state in which the nodes were brought their settings. */
  const stands = (cluster = WAS): PriorState => ({
    ...readPrior([]),
    born: new Set(["pg1", "pg2"]),
    settings: new Map(NODES.map(({ name }) => [name, nodeEnvironment(cluster, name).PGNODE_CONF])),
  });
  const there = surveyOf("unix:///x");
  const ask = jest.fn<ReturnType<AskParser>, Parameters<AskParser>>();
  beforeEach(() => ask.mockReset().mockResolvedValue({ exitCode: 1, stdout: SAID }));

  test("the parser of the image is asked, and its words are the refusal", async () => {
    const now = clusterWith({ work_mem: "7XB" });
    expect(await settingsRefused(now, stands(), there, ask)).toMatch(
      /^PostgreSQL refuses the settings: invalid value for parameter "work_mem": "7XB" \(.*\); 1 8kB is outside .*\. Nothing was changed\. Fix .* Pulumi\.dev\.yaml$/,
    );
    expect(ask.mock.calls).toEqual([["unix:///x", now.image, nodeEnvironment(now, "pg1").PGNODE_CONF]]);
  });

  test("the engine of the node that is changed is asked, where it has the image; it may have another one than the others", async () => {
    const nodes = NODES.map((node, i) => ({ ...node, dockerHost: `ssh://h${i}`, address: `10.0.0.${i + 1}` }));
    const now = clusterOf(placed(parseConfig("dev", { nodes, parameters: { work_mem: "7XB" } }), "unix:///x"));
    const asked = async (...images: [boolean, boolean, boolean]): Promise<unknown[]> => {
      ask.mockClear();
      const [first, second, third] = ["unix:///x", "ssh://h0", "ssh://h1"].map(
        (host, i) => surveyOf(host, { image: images[i] === true }).engines[0],
      );
      const engines = [first, second, third] as Survey["engines"];
      await settingsRefused(now, stands(), { ...there, engines }, ask);
      return ask.mock.calls.map(([engine, , conf]) => [
        engine,
        NODES.find(({ name }) => nodeEnvironment(now, name).PGNODE_CONF === conf)?.name,
      ]);
    };
    expect(await asked(true, true, true)).toEqual([["ssh://h0", "pg1"]]);
    expect(await asked(true, false, true)).toEqual([["ssh://h1", "pg2"]]);
    expect(await asked(true, false, false)).toEqual([["unix:///x", "pg1"]]);
  });

  test.each([
    ["of a new stack", clusterWith({ work_mem: "7XB" }), readPrior([])],
    ["of a node that is new", clusterWith({ work_mem: "7MB" }), { ...stands(), settings: new Map([...stands().settings].slice(0, 1)) }],
  ])("also %s", async (_what, now, prior) => {
    expect(await settingsRefused(now, prior, there, ask)).toMatch(/^PostgreSQL refuses the settings: /);
  });

  test.each([
    ["nothing differs", WAS, stands(), there],
    ["a new stack has no settings of the user", clusterWith({}), readPrior([]), there],
    ["no engine has the image yet", clusterWith({ work_mem: "7XB" }), readPrior([]), surveyOf("unix:///x", { image: false })],
    ["no engine answers", clusterWith({ work_mem: "7XB" }), stands(), undefined],
  ])("nobody is asked when %s", async (_when, now, prior, survey) => {
    expect(await settingsRefused(now, prior, survey, ask)).toBeUndefined();
    expect(ask).not.toHaveBeenCalled();
  });

  test.each([
    ["they are right", { exitCode: 0, stdout: "" }],
    ["the helper container does not run", { exitCode: 125, stdout: "docker: no space left on device" }],
    ["it says nothing that can be told", { exitCode: 1, stdout: "" }],
  ])("nothing is refused when %s", async (_when, answer) => {
    ask.mockResolvedValue(answer);
    expect(await settingsRefused(clusterWith({ work_mem: "8MB" }), stands(), there, ask)).toBeUndefined();
  });

  test("the program ends with it", async () => {
    await expect(declare({ refused: "PostgreSQL refuses the settings: x" })).rejects.toThrow("PostgreSQL refuses the settings: x");
  });
});
