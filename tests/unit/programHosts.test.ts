import { endingsOf } from "../../core/model/place";
import type { Look } from "../../operations/guard/look";
import { readPrior } from "../../operations/guard/prior";
import { parseConf, parseConninfo } from "./grammars";
import { primary, silent, standby } from "./observations";
import { declare, type Declared, ENGINE, type Program, type Scenario } from "./program";
import { foundAt, surveyOf } from "./surveys";

jest.mock("../../operations/guard/look", () => ({}));

/** The program of a stack on two Docker hosts: pg1 on the first, pg2 and pg3 on the second. */
const [ONE, TWO] = ["tcp://db1:2376", "tcp://db2:2376"] as const;
const HOSTS: Record<string, string> = { pg1: ONE, pg2: TWO, pg3: TWO };
const NODES = Object.entries(HOSTS).map(([name, dockerHost], i) => ({
  ...{ name, port: 5432 + i, dockerHost, address: dockerHost === ONE ? "10.0.0.1" : "10.0.0.2" },
}));
const WELL = [primary("pg1", ["pg2", "pg3"]), standby("pg2"), standby("pg3")];
const COMMAND = "command:local:Command";

let program: Program;
beforeAll(async () => {
  program = await declare({ config: { nodes: NODES, protectData: "true", sampleDatabase: "true" } });
});

const providerOf = (resource: Declared, of = program): string =>
  of.resources.find(({ urn }) => resource.provider.startsWith(`${urn}::`))?.name ?? "";
const ofNode = (node: string, of = program): Declared[] => of.resources.filter(({ custom, name }) => custom && name.startsWith(`${node}-`));

describe("on two Docker hosts", () => {
  test("each has its provider, network, image and identity; those of the first are named as on one host", () => {
    for (const kind of ["docker", "network", "image", "identity"]) {
      expect(
        program.resources
          .map(({ name }) => name)
          .filter((name) => name.startsWith(kind) && !/^image-at.*-at/.test(name))
          .sort(),
      ).toEqual([kind, `${kind}-at-db2`]);
    }
    expect([program.input("docker", "host"), program.input("docker-at-db2", "host")]).toEqual([ONE, TWO]);
    expect([program.input("docker", "context"), program.input("docker-at-db2", "context")]).toEqual(["", ""]);
    expect([providerOf(program.get("network")), providerOf(program.get("network-at-db2"))]).toEqual(["docker", "docker-at-db2"]);
    expect([program.input("network", "name"), program.input("network-at-db2", "name")]).toEqual(Array(2).fill("postgres-replica-dev"));
    expect([program.get("network").protect, program.get("network-at-db2").protect]).toEqual([true, true]);
  });

  test("every node's Docker objects are its own host's, and so is every command of it", () => {
    for (const [node, host] of Object.entries(HOSTS)) {
      const objects = ofNode(node).filter(({ type }) => type.startsWith("docker:"));
      expect([node, objects.map(({ type }) => type.split("/").at(-1)).sort()]).toEqual([node, ["container:Container", "volume:Volume"]]);
      expect([node, objects.map((one) => providerOf(one))]).toEqual([node, Array(2).fill(host === ONE ? "docker" : "docker-at-db2")]);
      const commands = ofNode(node).filter(({ type, name }) => type === COMMAND && !name.endsWith("-slot-create"));
      expect([node, commands.map(({ name }) => program.variable(name, "DOCKER_HOST").text)]).toEqual([node, commands.map(() => host)]);
      expect([node, commands.length]).toEqual([node, 3]);
      expect(program.waitsFor(`${node}-container`, host === ONE ? "network" : "network-at-db2")).toBe(true);
      expect(program.waitsFor(`${node}-data`, host === ONE ? "image" : "image-at-db2")).toBe(true);
    }
  });

  test("what speaks to whoever is primary knows where each container is", () => {
    const engines = Object.entries(HOSTS).map(([node, host]) => `postgres-replica-dev-${node} ${host}`);
    const asks = ["database-roles", "database-sample", "pg2-slot-create", "pg1-ready", "pg3-ready", "pg2-config"];
    expect(asks.map((name) => program.variable(name, "NODE_ENGINES").text.split("\n").filter(Boolean))).toEqual(asks.map(() => engines));
  });

  test("the image of the second is brought from the first, where it cannot be had otherwise, and so comes after it", () => {
    expect(program.variable("image-at-db2", "IMAGE_FROM").text).toBe(ONE);
    expect(program.variable("image-at-db2", "DOCKER_HOST").text).toBe(TWO);
    expect(program.input("image", "environment")).not.toHaveProperty("IMAGE_FROM");
    expect(program.waitsFor("image-at-db2", "image")).toBe(true);
  });

  test("the identity of an engine notes which one it is, under one identity of the stack", () => {
    expect([program.variable("identity", "STACK_ENGINE").text, program.variable("identity-at-db2", "STACK_ENGINE").text]).toEqual([
      ENGINE,
      `${ENGINE} of ${TWO}`,
    ]);
    expect(program.variable("identity-at-db2", "STACK_IDENTITY").text).toBe(program.variable("identity", "STACK_IDENTITY").text);
    expect(program.get("identity-at-db2").ignoreChanges).toEqual(expect.arrayContaining(["create", "environment"]));
    expect(program.waitsFor("network-at-db2", "identity-at-db2")).toBe(true);
  });

  test("a node is told the ways of its own host, and is cloned by them", () => {
    const upstream = (node: string): unknown =>
      parseConninfo(parseConf(program.variable(`${node}-config`, "PGNODE_CONF").text)["primary_conninfo"] ?? "");
    expect(upstream("pg2")).toMatchObject({ host: "10.0.0.1,pg3", port: "5432,5432" });
    expect(upstream("pg1")).toMatchObject({ host: "10.0.0.2,10.0.0.2", port: "5433,5434" });
    for (const name of ["pg2-basebackup", "pg2-ready"]) {
      expect(parseConninfo(program.variable(name, "PGNODE_SOURCE").text)).toMatchObject({
        host: "10.0.0.1,pg2,pg3",
        port: "5432,5432,5432",
      });
    }
  });

  test("the state tells the next run all of it", () => {
    const prior = readPrior(program.state());
    expect([...prior.providers]).toEqual(expect.arrayContaining([["", ONE], ["-at-db2", TWO]])); // prettier-ignore
    expect(Object.fromEntries(prior.engines)).toEqual({ "": ENGINE, "-at-db2": `${ENGINE} of ${TWO}` });
    expect(Object.fromEntries(prior.places)).toEqual(HOSTS);
    expect([prior.dockerHost, prior.networks.length]).toEqual([ONE, 2]);
    expect(endingsOf([ONE, TWO], prior.providers)).toEqual(new Map([[ONE, ""], [TWO, "-at-db2"]])); // prettier-ignore
  });
});

describe("the next run", () => {
  const again = (more: Partial<Scenario> = {}): Promise<Program> =>
    declare({ config: { nodes: NODES, protectData: "true", sampleDatabase: "true" }, state: program.state(), observed: WELL, ...more });
  const namesOf = (of: Program): string[] => of.resources.map(({ type, name }) => `${type} ${name}`).sort();

  test("declares the same", async () => {
    const same = await again();
    expect(namesOf(same)).toEqual(namesOf(program));
    // How a node began is of no account once it has.
    const commands = same.ofType(COMMAND).flatMap(({ name, ignoreChanges }) => (ignoreChanges.includes("environment") ? [] : [name]));
    expect(commands.map((name) => same.input(name, "environment"))).toEqual(commands.map((name) => program.input(name, "environment")));
  });

  test("makes the image anew on the host alone that has lost it", async () => {
    const lost = await again({ look: { imageGone: new Set([TWO]) } });
    expect([lost.variable("image", "PGNODE_DRIFT").text, lost.variable("image-at-db2", "PGNODE_DRIFT").text]).toEqual([
      "",
      expect.stringContaining("the image is gone"),
    ]);
  });

  test("of a stack on one host that gets a second names nothing anew, whatever comes first by name", async () => {
    const nodes = [{ name: "pg1", port: 5432, dockerHost: ONE }];
    const one = await declare({ config: { nodes } });
    const two = await declare({
      config: { nodes: [...NODES.slice(0, 1), { name: "a", port: 5432, dockerHost: TWO, address: "10.0.0.2" }] },
      state: one.state(),
      observed: [primary("pg1", [])],
    });
    expect(namesOf(two)).toEqual(expect.arrayContaining(namesOf(one)));
    expect(two.input("docker", "host")).toBe(ONE);
    expect(two.input("docker-at-db2", "host")).toBe(TWO);
    expect(
      ofNode("pg1", two)
        .filter(({ type }) => type.startsWith("docker:"))
        .map((node) => providerOf(node, two)),
    ).toEqual(["docker", "docker"]);
    expect(providerOf(two.get("a-container"), two)).toBe("docker-at-db2");
  });

  describe("while the second host is away", () => {
    const survey: Look["survey"] = surveyOf(ONE, {
      ...{ engine: ENGINE, silent: new Map([[TWO, "no answer"]]) },
      found: [foundAt(ONE, "container", "postgres-replica-dev-pg1"), foundAt(ONE, "volume", "postgres-replica-dev-pg1-data")],
      observed: [primary("pg1", []), silent("pg2", "unreachable"), silent("pg3", "unreachable")],
    });
    let away: Program;
    beforeAll(async () => (away = await again({ look: { survey } })));

    test("still declares its nodes: they are not gone", () => {
      expect(namesOf(away)).toEqual(namesOf(program));
    });

    test("does all that can be done elsewhere first: nothing waits for them", () => {
      const elsewhere = away.resources.filter(({ custom, name }) => custom && !/^pg[23]-|-at-db2$/.test(name));
      expect(elsewhere.length).toBeGreaterThan(10);
      const waiting = (node: string): string[] =>
        elsewhere.filter(({ name }) => ofNode(node, away).some((one) => away.waitsFor(name, one.name))).map(({ name }) => name);
      expect([waiting("pg2"), waiting("pg3")]).toEqual([[], []]);
      for (const before of ["pg1-container", "pg1-ready", "database-roles", "database-sample"]) {
        expect([before, away.waitsFor("pg2-container", before), away.waitsFor("pg3-config", before)]).toEqual([before, true, true]);
      }
    });

    test("asks for nothing there by itself", () => {
      const there = away.ofType(COMMAND).filter(({ name }) => /^pg[23]-|-at-db2$/.test(name));
      expect(there.filter(({ name }) => away.variable(name, "PGNODE_DRIFT").text !== "").map(({ name }) => name)).toEqual([]);
    });
  });
});
