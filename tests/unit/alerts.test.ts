import { findingsOf } from "../../core/judgement/findings";
import type { Observation } from "../../core/judgement/observation";
import { type Alert, alertsOf } from "../../operations/look/documents";
import { primary, replica, silent, slot, standby } from "./observations";

const LIMITS = { lagBytes: 1000, lagSeconds: 60 };
const alertsFor = (...observed: Observation[]): Alert[] => alertsOf(findingsOf(observed, LIMITS));
/** `kind node` of every alert. */
const kinds = (...observed: Observation[]): string[] => alertsFor(...observed).map((a) => `${a.kind} ${a.node}`.trim());

describe("nobody is woken", () => {
  test("by a healthy stack, before and after a failover", () => {
    expect(alertsFor(primary("pg1", ["pg2", "db-c"]), standby("pg2"), standby("db-c"))).toEqual([]);
    expect(alertsFor(standby("pg1"), primary("pg2", ["pg1"]))).toEqual([]);
  });

  test("by a node alone, which has no replicas to miss", () => {
    expect(alertsFor(primary("pg1", []))).toEqual([]);
  });
});

describe("somebody is woken", () => {
  test("when no node is primary, and by nothing that only a primary could tell", () => {
    const alert = { node: "", kind: "no-primary", message: "no node is primary", severity: "critical" };
    expect(alertsFor(standby("pg1"), standby("pg2"))).toEqual([alert]);
    expect(alertsFor({ ...silent("pg1", "exited"), reason: "PANIC" }, standby("pg2"))).toEqual([
      alert,
      { node: "pg1", kind: "node-down", message: "pg1: its container is exited: PANIC", severity: "error" },
    ]);
  });

  test("when several nodes are writable, and all of them are named", () => {
    expect(alertsFor(primary("pg1", ["pg3"]), primary("pg2", []), standby("pg3"))).toEqual([
      { node: "", kind: "several-primaries", message: "more than one writer: pg1 and pg2", severity: "critical" },
    ]);
    expect(kinds(primary("pg1", []), primary("pg2", []))).toEqual(["several-primaries"]);
  });

  test("when no replica is connected, or none streams yet", () => {
    for (const replicas of [[], [replica("pg2", { state: "catchup" })]]) {
      const alerts = alertsFor(primary("pg1", ["pg2"], { replicas }), standby("pg2"));
      expect(alerts).toContainEqual({ node: "", kind: "no-replica", message: "no standby streams from pg1", severity: "error" });
    }
  });

  test("not for the whole stack when one of several replicas is away", () => {
    expect(kinds(primary("pg1", ["pg2", "pg3"], { replicas: [replica("pg3")] }), standby("pg2"), standby("pg3"))).toEqual([
      "not-streaming pg2",
    ]);
  });

  test.each([
    ["exited", "its container is exited"],
    [null, "its container is not there"],
    ["running", "its container is running, but the server does not answer"],
    ["paused", "its container is paused, but the server does not answer"],
  ])("when a node in a container that is %s does not answer", (state, words) => {
    expect(alertsFor(primary("pg1", ["pg3"]), silent("pg2", state), standby("pg3"))).toEqual([
      { node: "pg2", kind: "node-down", message: `pg2: ${words}`, severity: "error" },
    ]);
  });

  test("when a standby answers and does not stream", () => {
    expect(
      alertsFor(
        primary("pg1", ["pg2", "pg3"], { replicas: [replica("pg2", { state: "startup" }), replica("pg3")] }),
        standby("pg2"),
        standby("pg3"),
      ),
    ).toEqual([{ node: "pg2", kind: "not-streaming", message: "pg2: it does not stream from pg1 (startup)", severity: "error" }]);
  });

  test("when a standby lags by more bytes than allowed, and not by just as many", () => {
    const lagging = (lagBytes: number): Alert[] =>
      alertsFor(primary("pg1", ["pg2"], { replicas: [replica("pg2", { lagBytes })] }), standby("pg2"));
    expect(lagging(1000)).toEqual([]);
    expect(lagging(1001)).toEqual([
      { node: "pg2", kind: "lag", message: "pg2: it is 1001 bytes behind pg1, more than 1000", severity: "warning" },
    ]);
  });

  test("when a standby lags by more seconds than allowed, and not by just as many", () => {
    const lagging = (lagSeconds: number): Alert[] =>
      alertsFor(primary("pg1", ["pg2"], { replicas: [replica("pg2", { lagBytes: 1 })] }), standby("pg2", { lagSeconds }));
    expect(lagging(60)).toEqual([]);
    expect(lagging(61.2)).toEqual([{ node: "pg2", kind: "lag", message: "pg2: it is 61 s behind pg1, more than 60", severity: "warning" }]);
  });

  test("not by an old last commit when there is nothing left to replay", () => {
    const quiet = primary("pg1", ["pg2"], { replicas: [replica("pg2", { lagBytes: 0 })] });
    expect(alertsFor(quiet, standby("pg2", { lagSeconds: 86_400 }))).toEqual([]);
  });

  test("by the lag of a standby that is not connected, which its positions tell", () => {
    const away = standby("pg2", { replayLsn: "0/4000000" });
    expect(kinds(primary("pg1", ["pg2"], { replicas: [] }), away)).toEqual(["no-replica", "not-streaming pg2", "lag pg2"]);
  });

  test("when the primary has no slot for a standby; a node that is down is alert enough", () => {
    expect(
      alertsFor(primary("pg1", ["db-c"], { slots: [slot("other")] }), standby("db-c")).map(({ node, kind, message }) => [
        node,
        kind,
        message,
      ]),
    ).toEqual([["db-c", "slot-missing", "db-c: pg1 has no slot db_c, so it may throw away WAL that the node needs"]]);
    expect(kinds(primary("pg1", ["pg3"]), silent("pg2", "exited"), standby("pg3"))).toEqual(["node-down pg2"]);
  });

  test("when a slot is inactive, with the WAL that it holds back", () => {
    const slots = [slot("db_c", { active: false, retainedBytes: 12345 })];
    expect(alertsFor(primary("pg1", ["db-c"], { slots }), standby("db-c"))).toEqual([
      { node: "db-c", kind: "slot-inactive", message: "db-c: its slot db_c is inactive and holds 12345 bytes of WAL", severity: "warning" },
    ]);
  });

  test("when the slot of a node that is down fills the primary's disk", () => {
    const slots = [slot("pg2", { active: false, retainedBytes: null }), slot("pg3")];
    expect(kinds(primary("pg1", ["pg3"], { slots }), silent("pg2", "exited"), standby("pg3"))).toEqual([
      "node-down pg2",
      "slot-inactive pg2",
    ]);
  });

  test.each([true, false])("when a slot is lost, and not once more because it is inactive (active: %s)", (active) => {
    const slots = [slot("pg2", { active, walStatus: "lost" })];
    expect(alertsFor(primary("pg1", ["pg2"], { slots }), standby("pg2"))).toEqual([
      { node: "pg2", kind: "slot-lost", message: "pg2: its slot pg2 is lost: WAL that the node needs is gone", severity: "error" },
    ]);
  });

  test("when somebody has paused the replay of a standby", () => {
    expect(alertsFor(primary("pg1", ["pg2"]), standby("pg2", { replayPaused: true }))).toEqual([
      {
        node: "pg2",
        kind: "replay-paused",
        message: "pg2: its replay is paused: it receives WAL and shows nothing new",
        severity: "warning",
      },
    ]);
  });

  test("when a disk is nearly full, also when there is no primary any more", () => {
    const disk = { totalBytes: 1000 * 1024 ** 2, freeBytes: 10 * 1024 ** 2 };
    const message = "pg2: the disk of its volume is nearly full: 10.0 MiB of 1000.0 MiB are free";
    const full = { ...standby("pg2"), disk };
    expect(alertsFor(primary("pg1", ["pg2"]), full)).toEqual([{ node: "pg2", kind: "disk-nearly-full", message, severity: "error" }]);
    expect(kinds(silent("pg1", "exited"), full)).toEqual(["no-primary", "node-down pg1", "disk-nearly-full pg2"]);
  });

  test("when a password is not the stack's any more, before a standby has to connect anew", () => {
    expect(alertsFor(primary("pg1", ["pg2"], { changedPasswords: ["replica_user"] }), standby("pg2"))).toEqual([
      {
        node: "pg1",
        kind: "password-changed",
        message: "pg1: the password of replica_user is not the one that the stack has set",
        severity: "warning",
      },
    ]);
  });

  test("when the primary has tablespaces, which no volume holds", () => {
    const [alert, ...more] = alertsFor(primary("pg1", ["pg2"], { tablespaces: ["big in /mnt/big"] }), standby("pg2"));
    expect([alert?.kind, alert?.message, more]).toEqual([
      "tablespaces",
      expect.stringMatching(/^pg1: it has tablespaces \(big in \/mnt\/big\), .* no node can be cloned$/) as string,
      [],
    ]);
  });

  test("and told the reason that the log gives", () => {
    const away = { ...standby("pg2"), reason: "password authentication failed" };
    expect(alertsFor(primary("pg1", ["pg2"], { replicas: [] }), away).map((a) => a.message)).toContain(
      "pg2: it does not stream from pg1 (not connected): password authentication failed",
    );
  });
});
