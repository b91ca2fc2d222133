import type { Observation } from "../../core/judgement/observation";
import { type Topology, topologyOf } from "../../core/judgement/topology";
import { primary, replica, silent, standby } from "./observations";

const look = (...observed: Observation[]): Topology => topologyOf(observed);

test("one node that is writable is the primary; of two nobody is, and of none", () => {
  expect(look(standby("pg1"), primary("pg2", [])).primary).toBe("pg2");
  expect(look(primary("pg1", []), primary("pg2", []), standby("pg3")).primary).toBeNull();
  expect(look(standby("pg1"), silent("pg2", "running")).primary).toBeNull();
});

test.each([
  ["exited", "down"],
  ["created", "down"],
  ["dead", "down"],
  ["restarting", "down"],
  [null, "down"],
  ["running", "unknown"],
  ["paused", "unknown"],
])("a node that does not answer, in a container that is %s, is %s", (state, role) => {
  expect(look(primary("pg1", []), silent("pg2", state)).nodes[1]).toMatchObject({
    role,
    timeline: null,
    lsn: null,
    lagBytes: null,
    lagSeconds: null,
  });
});

test("a node shows how much room its disk has", () => {
  const disk = { totalBytes: 1000, freeBytes: 900 };
  expect(look({ ...primary("pg1", []), disk }, { ...standby("pg2"), disk }).nodes.map((node) => node.diskFreeBytes)).toEqual([900, 900]);
});

test("a topology shows all that is known of each node", () => {
  expect(look(primary("pg1", ["pg2"]), standby("pg2")).nodes).toEqual([
    {
      name: "pg1",
      container: "postgres-replica-dev-pg1",
      host: "127.0.0.1",
      port: 5432,
      role: "primary",
      timeline: 1,
      lsn: "0/5000000",
      lagBytes: null,
      lagSeconds: null,
      state: null,
      syncState: null,
      upstream: null,
      slot: null,
      walStatus: null,
      walKeptBytes: null,
      diskFreeBytes: null,
    },
    {
      name: "pg2",
      container: "postgres-replica-dev-pg2",
      host: "127.0.0.1",
      port: 5433,
      role: "standby",
      timeline: 1,
      lsn: "0/5000000",
      lagBytes: 0,
      lagSeconds: 0,
      state: "streaming",
      syncState: "async",
      upstream: "pg1",
      slot: "pg2",
      walStatus: "reserved",
      walKeptBytes: 0,
      diskFreeBytes: null,
    },
  ]);
});

test("the slot of a node with a hyphen is found", () => {
  expect(look(primary("pg1", ["db-c"]), standby("db-c")).nodes[1]?.slot).toBe("db_c");
});

test("without a primary no claim is made on lag and slots, which only a primary knows", () => {
  expect(look(standby("pg2")).nodes[0]).toMatchObject({ role: "standby", lagBytes: null, syncState: null, slot: null, walStatus: null });
});

test("a node that does not answer shows no lag, connection or slot, also while the primary still lists it", () => {
  const lists = primary("pg1", ["pg2"], { replicas: [replica("pg2", { lagBytes: 5, lagSeconds: 7 })] });
  expect(look(lists, silent("pg2", "running")).nodes[1]).toMatchObject({
    role: "unknown",
    lagBytes: null,
    lagSeconds: null,
    state: null,
    syncState: null,
    slot: null,
    walStatus: null,
    walKeptBytes: null,
  });
});

test("a standby that has replayed nothing yet and is not connected has a lag that nobody knows", () => {
  const status = look(primary("pg1", ["pg2"], { replicas: [] }), standby("pg2", { replayLsn: null, lagSeconds: null }));
  expect(status.nodes[1]).toMatchObject({ role: "standby", lagBytes: null, lagSeconds: null });
});

test("a standby is never ahead of the primary: a position asked a moment later counts as no lag", () => {
  const status = look(primary("pg1", ["pg2"], { replicas: [] }), standby("pg2", { replayLsn: "0/5000100" }));
  expect(status.nodes[1]?.lagBytes).toBe(0);
});

test("a standby tells its lag in seconds itself, else the primary does", () => {
  const seconds = (own: number | null, primarys: number | null): number | null | undefined =>
    look(primary("pg1", ["pg2"], { replicas: [replica("pg2", { lagSeconds: primarys })] }), standby("pg2", { lagSeconds: own })).nodes[1]
      ?.lagSeconds;
  expect(seconds(1.5, 7)).toBe(1.5);
  expect(seconds(null, 7)).toBe(7);
  expect(seconds(null, null)).toBeNull();
});
