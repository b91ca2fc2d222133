import { currentDockerHost } from "../../operations/engine/dockerHost";
import { type FarHost, Lan } from "../faults/lan";
import { PlainStack } from "../plain/plainStack";

jest.setTimeout(1_800_000);

/** How many nodes, half of them on each of two hosts. */
const NODES = 8;

/** What a host's ssh lets in at a time is bounded: sshd's own defaults are 10 logins under way, and 10 sessions in one connection. */
describe(`${NODES} nodes on two Docker hosts that are reached by ssh`, () => {
  let lan: Lan;
  let plain: PlainStack;
  let hosts: FarHost[];

  beforeAll(async () => {
    lan = await Lan.make();
    hosts = [await lan.host({ ssh: true }), await lan.host({ ssh: true })];
    const nodes = Array.from({ length: NODES }, (_, i) => {
      const { address, ssh } = hosts[i % hosts.length] as FarHost;
      return { name: `pg${i + 1}`, port: 15432 + i, address, dockerHost: ssh };
    });
    plain = await PlainStack.make("many", { tls: "generated", nodes });
    nodes.forEach(({ name }, i) => plain.sockets.set(name, (hosts[i % hosts.length] as FarHost).socket));
    plain.variables = { ...lan.environment(), DOCKER_HOST: currentDockerHost() };
  });
  afterAll(async () => {
    try {
      await plain?.remove();
    } finally {
      await lan?.remove();
    }
  });

  test("come up by one up, with sshd as it is: nobody is turned away, and few log in", async () => {
    const begun = Date.now();
    await plain.up();
    process.stderr.write(
      `        up took ${((Date.now() - begun) / 1000).toFixed(0)} s; logins ${hosts.map((host) => host.logins()).join(" and ")}\n`,
    );
    const streaming = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
    expect(await plain.sql("pg1", streaming, "postgres")).toBe(String(NODES - 1));
    expect(hosts.map((host) => host.turnedAway())).toEqual([[], []]);
    hosts.forEach((host) => expect(host.logins()).toBeLessThan(NODES * 4));
    await plain.expectIdleUp();
  });

  test("go by one destroy", async () => {
    await plain.must("destroy", "--yes", "--skip-preview");
    expect(hosts.map((host) => host.turnedAway())).toEqual([[], []]);
  });
});
