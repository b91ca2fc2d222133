import { readFileSync } from "fs";
import { join } from "path";
import { type Change, type Row, rowOf, type Standing, standing, type Step, stepOf, TABLE } from "../../core/judgement/changeOfRoles";
import type { Observation } from "../../core/judgement/observation";
import { ROOT } from "../../operations/folders";
import { primary, silent, standby } from "./observations";

const NOTED: Standing["noted"][] = ["nothing", "failover, promoting", "switchover, stopping", "switchover, promoting"];
const TARGET: Standing["target"][] = ["primary", "waiting", "standby", "neither"];
const OTHERS: Standing["others"][] = ["answer", "silent"];
const EVERY = NOTED.flatMap((noted) => TARGET.flatMap((target) => OTHERS.map((others): Standing => ({ noted, target, others }))));

describe("the table of a change of roles", () => {
  test("has a line for whatever there may be", () => {
    expect(EVERY.map((found) => rowOf(found)).filter((row) => row === undefined)).toEqual([]);
  });

  test("has no line that never counts", () => {
    const used = new Set(EVERY.map((found) => rowOf(found)));
    expect(TABLE.filter((row) => !used.has(row))).toEqual([]);
  });

  test("finishes only what has become primary, and goes on only where nobody writes", () => {
    for (const found of EVERY) {
      const { failover, switchover } = rowOf(found);
      if (failover === "finish" || switchover === "finish") {
        expect(found.target).toBe("primary");
      }
      if (switchover === "go on") {
        expect(found).toMatchObject({ target: "waiting", others: "answer" });
      }
      expect(failover).not.toBe("go on");
    }
  });

  test("never lets another node be promoted while one that was asked for may still become primary", () => {
    const asked = EVERY.filter(({ noted, target }) => noted.endsWith("promoting") && (target === "waiting" || target === "standby"));
    expect(asked.map((found) => rowOf(found).failover)).toEqual(asked.map(() => "hold"));
  });

  test("is the one of docs/changing-roles.md", () => {
    const cells = (row: Row): string[] => [
      row.noted ?? "",
      row.target ?? "",
      row.others ?? "",
      row.failover,
      row.switchover,
      row.marks,
      row.why,
    ];
    const text = readFileSync(join(ROOT, "docs", "changing-roles.md"), "utf8");
    const shown = (/<!-- table -->\n([^]*)<!-- \/table -->/.exec(text)?.[1] ?? "")
      .split("\n")
      .filter((line) => line.startsWith("|"))
      .slice(2)
      .map((line) =>
        line
          .split("|")
          .slice(1, -1)
          .map((cell) => cell.trim()),
      );
    expect(shown).toEqual(TABLE.map(cells));
  });
});

describe("where a change of roles stands", () => {
  const failover: Change = { promoted: "pg2", phase: "promoting" };
  const switchover: Change = { promoted: "pg2", from: "pg1", timeline: 1, phase: "promoting" };
  const on = (timeline: number, node: Observation): Observation => ({
    ...node,
    ...(node.server === null ? {} : { server: { ...node.server, timeline } }),
  });

  test.each<[string, Change | undefined, Observation[], Standing]>([
    ["nothing is noted", undefined, [primary("pg1", []), standby("pg2")], { noted: "nothing", target: "neither", others: "answer" }],
    [
      "its target is the only primary",
      failover,
      [silent("pg1", "exited"), primary("pg2", []), standby("pg3")],
      { noted: "failover, promoting", target: "primary", others: "silent" },
    ],
    [
      "its target is one of two that write",
      failover,
      [primary("pg1", []), primary("pg2", [])],
      { noted: "failover, promoting", target: "neither", others: "answer" },
    ],
    [
      "another is primary",
      failover,
      [primary("pg1", []), standby("pg2")],
      { noted: "failover, promoting", target: "standby", others: "answer" },
    ],
    [
      "its target is silent",
      failover,
      [standby("pg1"), silent("pg2", "exited")],
      { noted: "failover, promoting", target: "neither", others: "answer" },
    ],
    ["its target is gone", failover, [standby("pg1")], { noted: "failover, promoting", target: "neither", others: "answer" }],
    [
      "a failover's target waits",
      failover,
      [silent("pg1", "exited"), standby("pg2")],
      { noted: "failover, promoting", target: "waiting", others: "silent" },
    ],
    [
      "a switchover's target waits, and only the old primary is silent",
      switchover,
      [silent("pg1", "exited"), standby("pg2"), standby("pg3")],
      { noted: "switchover, promoting", target: "waiting", others: "answer" },
    ],
    [
      "a third node is silent as well",
      { ...switchover, phase: "stopping" },
      [silent("pg1", "exited"), standby("pg2"), silent("pg3", "exited")],
      { noted: "switchover, stopping", target: "waiting", others: "silent" },
    ],
    [
      "the target is on another timeline than the one to leave",
      switchover,
      [silent("pg1", "exited"), on(2, standby("pg2"))],
      { noted: "switchover, promoting", target: "standby", others: "answer" },
    ],
    [
      "the old primary is back as a standby",
      switchover,
      [standby("pg1"), standby("pg2")],
      { noted: "switchover, promoting", target: "standby", others: "answer" },
    ],
    [
      "the old primary is no node any more",
      switchover,
      [standby("pg2")],
      { noted: "switchover, promoting", target: "standby", others: "answer" },
    ],
    [
      "a third node writes",
      switchover,
      [silent("pg1", "exited"), standby("pg2"), primary("pg3", [])],
      { noted: "switchover, promoting", target: "standby", others: "answer" },
    ],
  ])("is told when %s", (_when, change, observed, expected) => {
    expect(standing(change, observed)).toEqual(expected);
  });

  test.each<["failover" | "switchover", Change | undefined, Observation[], Step]>([
    ["failover", failover, [silent("pg1", "exited"), primary("pg2", [])], "finish"],
    ["failover", { ...switchover, phase: "stopping" }, [silent("pg1", "exited"), primary("pg2", [])], "begin"],
    ["switchover", switchover, [silent("pg1", "exited"), standby("pg2")], "go on"],
    ["switchover", switchover, [silent("pg1", "exited"), standby("pg2"), silent("pg3", "exited")], "refuse"],
    ["switchover", undefined, [primary("pg1", []), standby("pg2")], "begin"],
    ["failover", failover, [standby("pg1"), standby("pg2")], "hold"],
  ])("decides what a %s does", (command, change, observed, step) => {
    expect(stepOf(command, change, observed)).toBe(step);
  });
});
