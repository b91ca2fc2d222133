import execa from "execa";
import { docker } from "../docker";
import { containerName } from "../../core/model/names";
import { Checkout, freePorts, OWN_IMAGE, type StackFile } from "./checkout";

jest.setTimeout(300_000);

/** What sets the official image apart, as far as a node can notice: postgres is 999, PGDATA is a volume of its own, an entrypoint of its own. */
const LIKE_OFFICIAL = `FROM ${OWN_IMAGE}
RUN usermod -u 999 postgres && groupmod -g 999 postgres && chown -R postgres:postgres /var/run/postgresql /var/lib/postgresql && mkdir -p /var/lib/postgresql/data && chown postgres:postgres /var/lib/postgresql/data
ENV PGDATA=/var/lib/postgresql/data POSTGRES_PASSWORD=unused
VOLUME /var/lib/postgresql/data
STOPSIGNAL SIGTERM
ENTRYPOINT ["false"]
CMD ["postgres"]
`;

describe("an image that is like the official one", () => {
  const image = "postgres-replica-test-official:17";
  let checkout: Checkout;
  let config: StackFile;
  let stack: string;
  const dangling = async (): Promise<string[]> =>
    (await docker(["volume", "ls", "-q", "--filter", "dangling=true"])).stdout.split("\n").filter((name) => /^[0-9a-f]{64}$/.test(name));

  beforeAll(async () => {
    await execa("docker", ["build", "-q", "-t", image, "-"], { input: LIKE_OFFICIAL, env: { DOCKER_BUILDKIT: "0" } });
    checkout = await Checkout.make();
    const ports = await freePorts(2);
    config = { nodes: ports.map((port, i) => ({ name: `pg${i + 1}`, port })) };
    stack = checkout.addStack("dev-image", config);
  });
  afterAll(async () => {
    await checkout.remove();
    await execa("docker", ["image", "rm", "-f", image], { reject: false });
  });

  test("takes over volumes that our image has made, and the pair streams", async () => {
    await checkout.must("up", "--stack", stack);
    checkout.writeStack(stack, { ...config, image });
    await checkout.must("up", "--stack", stack);
    expect((await checkout.status(stack)).problems).toEqual([]);
    const owner = await docker(["exec", containerName(stack, "pg1"), "stat", "-c", "%u", "/proc/1", "/var/lib/pgnode/data"]);
    expect(owner.stdout).toBe("999\n999");
    await checkout.must("verify", "--stack", stack);
  });

  test("builds a stack from nothing, stops with SIGINT, and leaves no anonymous volume behind", async () => {
    const before = await dangling();
    await checkout.must("down", "--stack", stack);
    await checkout.must("up", "--stack", stack);
    await checkout.must("verify", "--stack", stack);
    const signal = await docker(["inspect", "-f", "{{.Config.StopSignal}}", containerName(stack, "pg1")]);
    expect(signal.stdout).toBe("SIGINT");
    await checkout.must("down", "--stack", stack);
    expect((await dangling()).filter((name) => !before.includes(name))).toEqual([]);
  });
});
