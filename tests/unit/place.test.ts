import { parseConfig } from "../../core/config";
import { isOwnAddress } from "../../core/grammar/address";
import { endingsOf, enginesOf, homeOf, placed, placedNode, reach } from "../../core/model/place";

const A = "unix:///var/run/docker.sock";
const B = "ssh://ops@db2.example.com:22";
const C = "tcp://10.0.0.3:2376";
const endings = (engines: readonly string[], recorded: readonly [string, string][] = []): unknown =>
  Object.fromEntries(endingsOf(engines, new Map(recorded)));

describe("what the names of an engine's resources end with", () => {
  test("is nothing on the engine of a stack on one: its names are what they were when there was no other", () => {
    expect(endings([A])).toEqual({ [A]: "" });
    expect(endings([A], [["", A]])).toEqual({ [A]: "" });
  });

  test("stays nothing when that engine is reached by another path", () => {
    expect(endings([B], [["", A]])).toEqual({ [B]: "" });
  });

  test("is nothing on the engine on which a stack began, and the host of every other one", () => {
    expect(endings([A, B, C])).toEqual({ [A]: "", [B]: "-at-db2-example-com", [C]: "-at-10-0-0-3" });
  });

  test("of an engine stays, in whatever order they are named, when others join", () => {
    expect(endings([B, A], [["", A]])).toEqual({ [A]: "", [B]: "-at-db2-example-com" });
    const recorded: [string, string][] = [
      ["", A],
      ["-at-db2-example-com", B],
    ];
    expect(endings([C, B, A], recorded)).toEqual({ [A]: "", [B]: "-at-db2-example-com", [C]: "-at-10-0-0-3" });
  });

  test("of an engine stays when the one on which the stack began has left, and nobody takes that one's", () => {
    const recorded: [string, string][] = [
      ["", A],
      ["-at-db2-example-com", B],
    ];
    expect(endings([B], recorded)).toEqual({ [B]: "-at-db2-example-com" });
    expect(endings([B, C], recorded)).toEqual({ [B]: "-at-db2-example-com", [C]: "-at-10-0-0-3" });
    expect(endings([C], [["-at-db2-example-com", B]])).toEqual({ [C]: "-at-db2-example-com" });
  });

  test("is no other engine's, of this run or of the state", () => {
    const [one, two, three] = ["ssh://a@db", "ssh://b@db", "ssh://c@db:2222"];
    expect(endings([A, one, two, three])).toEqual({ [A]: "", [one]: "-at-db", [two]: "-at-db-2", [three]: "-at-db-3" });
    const left: [string, string][] = [
      ["", A],
      ["-at-db", one],
    ];
    expect(endings([A, two], left)).toEqual({ [A]: "", [two]: "-at-db-2" });
  });

  test.each([
    ["unix:///run/user/1000/docker.sock", "-at-run-user-1000-docker-sock"],
    ["npipe:////./pipe/docker_engine", "-at-pipe-docker-engine"],
    ["tcp://[fd00::7]:2375", "-at-fd00-7"],
    ["ssh://user@db_1", "-at-db-1"],
    ["ssh://-", "-at-host"],
  ])("are only letters, digits and hyphens: of %s it is %s", (engine, ending) => {
    expect(endings([A, engine])).toEqual({ [A]: "", [engine]: ending });
  });
});

describe("the place of a node", () => {
  const node = { name: "pg1", port: 5433, address: "10.0.0.1" };

  test("is the Docker host of the config, else the current one", () => {
    expect(placedNode({ ...node, dockerHost: B }, A).place.engine).toBe(B);
    expect(placedNode(node, A).place.engine).toBe(A);
  });

  test("is seen from where it publishes its port, unless the config says from where", () => {
    expect(placedNode(node, A).place.seenFrom).toEqual(["10.0.0.1"]);
    expect(placedNode({ ...node, seenFrom: ["192.0.2.7", "198.51.100.0/24"] }, A).place.seenFrom).toEqual(["192.0.2.7", "198.51.100.0/24"]);
  });

  test("is reached by name and PostgreSQL's own port on one engine, and by what is published from another", () => {
    const [one, two, far] = [placedNode(node, A).place, placedNode({ ...node, name: "pg2" }, A).place, placedNode(node, B).place];
    expect([reach(two, one), reach(one, one)]).toEqual(Array(2).fill({ host: "pg1", port: 5432 }));
    expect(reach(far, one)).toEqual({ host: "10.0.0.1", port: 5433 });
  });

  test("of what belongs to no node is that of the first by name", () => {
    const nodes = ["pg2", "pg1"].map((name, i) => ({ ...node, name, address: `10.0.0.${i + 1}`, dockerHost: i === 0 ? B : C }));
    const there = placed(parseConfig("dev", { nodes: [...nodes, { ...nodes[1], name: "pg3", port: 1 }] }), A);
    expect([homeOf(there), enginesOf(there.nodes)]).toEqual([C, [C, B]]);
  });
});

test.each([
  ["127.0.0.1", true],
  ["127.9.9.9", true],
  ["0.0.0.0", true],
  ["::", true],
  ["::1", true],
  ["0:0:0:0:0:0:0:1", true],
  ["::ffff:127.0.0.1", true],
  ["10.0.0.1", false],
  ["128.0.0.1", false],
  ["::2", false],
  ["::ffff:10.0.0.1", false],
])("the address %s is that of whoever uses it: %s", (address, own) => {
  expect(isOwnAddress(address)).toBe(own);
});
