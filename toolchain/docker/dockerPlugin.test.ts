import * as command from "@pulumi/command";
import * as dockerSdk from "@pulumi/docker";
import * as pulumi from "@pulumi/pulumi";
import { randomBytes } from "crypto";
import { docker, leftovers } from "../../tests/docker";
import { DEFAULTS } from "../../core/config";
import { currentDockerHost } from "../../operations/engine/dockerHost";
import { imageName } from "../../core/model/image";
import { labelsOf } from "../../core/model/names";
import { Engine, type TestStack } from "../../tests/integration/engine";

jest.setTimeout(120_000);

type Program = pulumi.automation.PulumiFn;

/** Present on every machine that has run set-up; the tests only want a shell from it. */
const IMAGE = imageName(DEFAULTS.image);

/**
 * What the stack relies on in Network, Volume, Container and RemoteImage of @pulumi/docker, through the
 * real engine and a real Docker host, whichever way the plugin was installed.
 */
describe("the docker plugin", () => {
  let engine: Engine;
  let stack: TestStack;

  beforeAll(() => {
    engine = new Engine();
  });
  afterAll(() => engine.remove());

  const nothing: Program = () => Promise.resolve();
  const labels = (): { label: string; value: string }[] => Object.entries(labelsOf(stack.name)).map(([label, value]) => ({ label, value }));
  const network = (args: dockerSdk.NetworkArgs = {}): dockerSdk.Network => new dockerSdk.Network("net", { labels: labels(), ...args });
  const volume = (args: dockerSdk.VolumeArgs = {}): dockerSdk.Volume => new dockerSdk.Volume("data", { labels: labels(), ...args });
  const box = (args: Partial<dockerSdk.ContainerArgs> = {}, opts?: pulumi.CustomResourceOptions): dockerSdk.Container =>
    new dockerSdk.Container(
      "box",
      {
        image: IMAGE,
        labels: labels(),
        entrypoints: ["sh", "-c"],
        command: ["exec sleep 300"],
        healthcheck: { tests: ["NONE"] },
        // Nothing to wait for: the shell does not end on a polite signal.
        stopSignal: "SIGKILL",
        destroyGraceSeconds: 1,
        ...args,
      },
      opts,
    );
  /** A network, a volume, and a container on both. */
  const all =
    (changes: { network?: dockerSdk.NetworkArgs; volume?: dockerSdk.VolumeArgs; box?: Partial<dockerSdk.ContainerArgs> } = {}): Program =>
    () => {
      const net = network(changes.network);
      const data = volume(changes.volume);
      box({
        envs: ["GREETING=hello"],
        networksAdvanced: [{ name: net.name, aliases: ["the-box"] }],
        volumes: [{ volumeName: data.name, containerPath: "/data" }],
        ...changes.box,
      });
      return Promise.resolve();
    };
  const onlyBox =
    (args: Partial<dockerSdk.ContainerArgs> = {}): Program =>
    () => {
      box(args);
      return Promise.resolve();
    };

  /** One of the stack's objects as Docker sees it. */
  const inspect = async <T>(kind: "container" | "network" | "volume" | "image", name: unknown): Promise<T> => {
    const shown = await docker([kind, "inspect", String(name)]);
    if (shown.exitCode !== 0) {
      throw new Error(shown.stderr);
    }
    return (JSON.parse(shown.stdout) as [T])[0];
  };
  interface Inspected {
    Id: string;
    Image: string;
    Config: { Env: string[]; Cmd: string[]; Labels: Record<string, string> };
    HostConfig: { RestartPolicy: { Name: string }; Memory: number };
    Mounts: { Type: string; Name: string; Destination: string }[];
    NetworkSettings: { Networks: Record<string, { Aliases: string[] }> };
    State: { Running: boolean; Health?: { Status: string } };
  }
  const inspectBox = (): Promise<Inspected> => inspect("container", stack.resource("box").id);
  const nameOf = (resource: string): unknown => stack.resource(resource).outputs["name"];

  describe("with a network, a volume and a container", () => {
    let created: string[];

    beforeAll(async () => {
      stack = await engine.stack("docker");
      created = (await stack.up(all())).steps;
    });

    const removeByHand = async (...resources: ("box" | "net" | "data")[]): Promise<void> => {
      const commands = { box: ["rm", "-f"], net: ["network", "rm"], data: ["volume", "rm"] };
      for (const resource of resources) {
        expect((await docker([...commands[resource], String(nameOf(resource))])).exitCode).toBe(0);
      }
    };

    test("objects without a name get one of their own, and are on the host as declared", async () => {
      expect(created.slice(0, 2).sort()).toEqual(["create data", "create net"]);
      expect(created.slice(2)).toEqual(["create box"]);

      for (const resource of ["net", "data", "box"]) {
        expect(nameOf(resource)).toMatch(new RegExp(`^${resource}-[0-9a-f]{7}$`));
      }
      const net = nameOf("net") as string;
      const found = await inspectBox();
      expect(found.State.Running).toBe(true);
      expect(found.Config.Cmd).toEqual(["exec sleep 300"]);
      expect(found.Config.Env).toContain("GREETING=hello");
      expect(found.Config.Labels).toMatchObject(labelsOf(stack.name));
      expect(found.Mounts).toMatchObject([{ Type: "volume", Name: nameOf("data"), Destination: "/data" }]);
      expect(Object.keys(found.NetworkSettings.Networks)).toEqual([net]);
      expect(found.NetworkSettings.Networks[net]?.Aliases).toContain("the-box");
      for (const kind of ["network", "volume"] as const) {
        const name = nameOf(kind === "network" ? "net" : "data");
        expect((await inspect<{ Labels: object }>(kind, name)).Labels).toEqual(labelsOf(stack.name));
      }
    });

    test("an unchanged program on an unchanged host changes nothing", async () => {
      const { Id } = await inspectBox();
      expect((await stack.up(all())).steps).toEqual([]);
      expect((await stack.refresh()).steps).toEqual([]);
      expect((await stack.preview(all())).steps).toEqual([]);
      expect((await inspectBox()).Id).toBe(Id);
    });

    test("which changes are made in place, and which replace", async () => {
      const steps = async (changes: Parameters<typeof all>[0]): Promise<string[]> => (await stack.preview(all(changes))).steps;

      const inPlace = { restart: "unless-stopped", memory: 256, memorySwap: 256, cpuShares: 512, destroyGraceSeconds: 2, wait: true };
      expect(await steps({ box: inPlace })).toEqual(["update box"]);
      for (const change of [
        { command: ["exec sleep 301"] },
        { envs: ["GREETING=goodbye"] },
        { labels: [...labels(), { label: "more", value: "1" }] },
        { ports: [{ internal: 5432 }] },
        { volumes: [{ volumeName: "other", containerPath: "/data" }] },
        { networksAdvanced: [{ name: "other" }] },
        { name: "other" },
      ] satisfies Partial<dockerSdk.ContainerArgs>[]) {
        expect([change, await steps({ box: change })]).toEqual([change, ["delete-replaced box", "create-replacement box"]]);
      }
      // A network or volume with a name of its own making: the new one comes first, and the container moves over.
      const moved = (what: string): string[] => [
        `create-replacement ${what}`,
        "delete-replaced box",
        "create-replacement box",
        `delete-replaced ${what}`,
      ];
      expect(await steps({ network: { internal: true } })).toEqual(moved("net"));
      expect(await steps({ volume: { driverOpts: { type: "tmpfs" } } })).toEqual(moved("data"));
    });

    test("the plugin knows every input that the SDK's constructors pass, and refuses any other", async () => {
      const asked = new Map<string, Set<string>>();
      const program: Program = () => {
        // Unknown until the command has run, so that only the name of an input can be wrong, not its value.
        const unknown = new command.local.Command("unknown", { create: "true" }).stdout;
        const everything = (kind: string): never => {
          const inputs = new Set<string>();
          asked.set(kind, inputs);
          return new Proxy({}, { get: (_, input: string) => (inputs.add(input), unknown) }) as never;
        };
        new dockerSdk.Container("Container", everything("Container"));
        new dockerSdk.Network("Network", everything("Network"));
        new dockerSdk.Volume("Volume", everything("Volume"));
        new dockerSdk.RemoteImage("RemoteImage", everything("RemoteImage"));
        return Promise.resolve();
      };
      const creates = (await stack.preview(program)).steps.filter((step) => step.startsWith("create "));
      expect(creates.sort()).toEqual(["create Container", "create Network", "create RemoteImage", "create Volume", "create unknown"]);
      for (const [kind, resource] of [
        ["Container", "box"],
        ["Network", "net"],
        ["Volume", "data"],
      ] as const) {
        // And it calls them by the same names in what it returns.
        expect(asked.get(kind)?.size).toBeGreaterThan(3);
        expect(Object.keys(stack.resource(resource).outputs)).toEqual(expect.arrayContaining([...(asked.get(kind) ?? [])]));
      }

      /** The SDK drops what it does not know, so the unknown input is added on the way to the engine. */
      const refused = async (inputs: Record<string, unknown>): Promise<string> => {
        const unknownInput: Program = () => {
          const add: pulumi.ResourceTransformation = ({ props, opts }) => ({ props: { ...props, ...inputs }, opts });
          new dockerSdk.Volume("other", {}, { transformations: [add] });
          return Promise.resolve();
        };
        return (await stack.failingPreview(unknownInput)).shown;
      };
      expect(await refused({ notAnInput: "x" })).toMatch(/unknown key.*'other\.notAnInput'/);
      expect(await refused({ labels: [{ label: "x", value: "x", notAKey: "x" }] })).toMatch(/unknown key.*'other\.labels'/);
    });

    test("what was removed by hand is seen by refresh, and made again", async () => {
      await removeByHand("box", "net", "data");
      expect((await stack.refresh()).steps).toEqual(["delete box", "delete data", "delete net"]);
      expect((await stack.up(all())).steps.sort()).toEqual(["create box", "create data", "create net"]);
      expect((await inspectBox()).State.Running).toBe(true);
    });

    test("what the program no longer declares is deleted, dependents first, whether it is still there or not", async () => {
      for (const gone of [["box", "net", "data"], []] as const) {
        await stack.up(all());
        await removeByHand(...gone);
        const { steps } = await stack.up(nothing);
        expect(steps[0]).toBe("delete box");
        expect(steps.slice(1).sort()).toEqual(["delete data", "delete net"]);
        expect(stack.resources()).toEqual([]);
        expect(await leftovers(stack.name)).toEqual([]);
      }
    });
  });

  describe("one by one", () => {
    beforeEach(async () => {
      stack = await engine.stack("docker");
    });

    test("replaceOnChanges makes a replacement of a change that the plugin would make in place", async () => {
      const program =
        (interval: string): Program =>
        () => {
          box({ healthcheck: { tests: ["CMD", "true"], interval } }, { replaceOnChanges: ["healthcheck"], deleteBeforeReplace: true });
          return Promise.resolve();
        };
      await stack.up(program("5s"));
      expect((await stack.preview(program("5s"))).steps).toEqual([]);
      expect((await stack.preview(program("6s"))).steps).toEqual(["delete-replaced box", "create-replacement box"]);
    });

    test("a change in place keeps the container", async () => {
      await stack.up(onlyBox());
      const before = await inspectBox();
      expect(before.HostConfig).toMatchObject({ RestartPolicy: { Name: "no" }, Memory: 0 });
      const changed = onlyBox({ restart: "unless-stopped", memory: 256, memorySwap: 256 });
      expect((await stack.up(changed)).steps).toEqual(["update box"]);
      const after = await inspectBox();
      expect(after.HostConfig).toMatchObject({ RestartPolicy: { Name: "unless-stopped" }, Memory: 256 * 1024 * 1024 });
      expect(after.Id).toBe(before.Id);
      expect((await stack.up(changed)).steps).toEqual([]);
    });

    test("a replaced container is deleted first, so that its name is free", async () => {
      const name = `${stack.name}-fixed`;
      await stack.up(onlyBox({ name }));
      const before = await inspectBox();
      const changed = onlyBox({ name, command: ["exec sleep 301"] });
      expect((await stack.up(changed)).steps).toEqual(["delete-replaced box", "create-replacement box"]);
      const after = await inspect<Inspected>("container", name);
      expect(after.Config.Cmd).toEqual(["exec sleep 301"]);
      expect(after.Id).not.toBe(before.Id);
      expect(await leftovers(stack.name)).toEqual([`container ${name}`]);
    });

    test("a stopped container is started by refresh and up, or left alone with mustRun false", async () => {
      const program: Program = () => {
        box({ mustRun: false });
        new dockerSdk.Container("other", {
          image: IMAGE,
          labels: labels(),
          entrypoints: ["sleep"],
          command: ["300"],
          stopSignal: "SIGKILL",
        });
        return Promise.resolve();
      };
      await stack.up(program);
      const ids = [stack.resource("box").id, stack.resource("other").id] as [string, string];
      expect((await docker(["kill", ...ids])).exitCode).toBe(0);
      expect((await stack.refresh()).steps).toEqual(["update other"]);
      expect((await stack.up(program)).steps).toEqual(["update other"]);
      const running = await docker(["inspect", "-f", "{{.Id}} {{.State.Running}}", ...ids]);
      expect(running.stdout.split("\n")).toEqual([`${ids[0]} false`, `${ids[1]} true`]);
    });

    test("a secret in a container's environment reaches the container, and nobody else", async () => {
      const [first, second] = [randomBytes(12).toString("hex"), randomBytes(12).toString("hex")] as const;
      const program = (secret: string): Program => onlyBox({ envs: ["OPEN=sesame", pulumi.interpolate`TOKEN=${pulumi.secret(secret)}`] });
      const hidden = (text: string): void => [first, second].forEach((secret) => expect(text).not.toContain(secret));

      hidden((await stack.up(program(first))).shown);
      expect((await inspectBox()).Config.Env).toContain(`TOKEN=${first}`);
      hidden(stack.stateText());
      hidden((await stack.refresh()).shown);
      hidden(stack.stateText());
      expect((await stack.up(program(first))).steps).toEqual([]);

      const changed = await stack.up(program(second));
      expect(changed.steps).toEqual(["delete-replaced box", "create-replacement box"]);
      hidden(changed.shown);
      hidden(stack.stateText());
      expect((await inspectBox()).Config.Env).toContain(`TOKEN=${second}`);
    });

    test("with wait, a container is created when it is healthy", async () => {
      await stack.up(
        onlyBox({
          command: ["sleep 1; touch /tmp/ready; exec sleep 300"],
          healthcheck: { tests: ["CMD", "test", "-e", "/tmp/ready"], interval: "1s", timeout: "5s", retries: 20 },
          wait: true,
          waitTimeout: 30,
        }),
      );
      expect((await inspectBox()).State.Health?.Status).toBe("healthy");
    });

    test("a container that cannot start fails the run, and the next run replaces it", async () => {
      const { shown } = await stack.failingUp(onlyBox({ entrypoints: ["/no/such/program"] }));
      expect(shown).toContain("/no/such/program");
      await stack.up(onlyBox());
      expect((await inspectBox()).State.Running).toBe(true);
      expect(await leftovers(stack.name)).toEqual([`container ${String(nameOf("box"))}`]);
    });

    test("RemoteImage takes a local image without a registry, and keeps it with keepLocally", async () => {
      // A name of its own: whatever goes wrong, the image itself stays.
      const name = `${stack.name}:17`;
      const { Id } = await inspect<{ Id: string }>("image", IMAGE);
      expect((await docker(["tag", IMAGE, name])).exitCode).toBe(0);
      try {
        const program =
          (keepLocally: boolean): Program =>
          () => {
            const image = new dockerSdk.RemoteImage("image", { name, keepLocally });
            box({ image: image.imageId });
            return Promise.resolve();
          };
        expect((await stack.up(program(true))).steps).toEqual(["create image", "create box"]);
        expect(stack.resource("image").outputs["imageId"]).toBe(Id);
        expect((await inspectBox()).Image).toBe(Id);
        expect((await stack.up(program(true))).steps).toEqual([]);
        expect((await stack.refresh()).steps).toEqual([]);
        await stack.up(nothing);
        expect((await inspect<{ Id: string }>("image", name)).Id).toBe(Id);

        await stack.up(program(false));
        await stack.up(nothing);
        expect((await docker(["image", "inspect", name])).exitCode).not.toBe(0);
        expect((await inspect<{ Id: string }>("image", IMAGE)).Id).toBe(Id);
      } finally {
        await docker(["image", "rm", "--no-prune", name]);
      }
    });

    test("an image that is nowhere is named in the error", async () => {
      const { shown } = await stack.failingUp(onlyBox({ image: "127.0.0.1:1/nowhere:1" }));
      expect(shown).toMatch(/unable to pull image 127\.0\.0\.1:1\/nowhere:1/i);
      expect(stack.resources()).toEqual([]);
    });

    test("a provider with a host of its own is used, and one that does not answer fails the run", async () => {
      const program =
        (host: string): Program =>
        () => {
          const provider = new dockerSdk.Provider("host", { host });
          new dockerSdk.Volume("data", { labels: labels() }, { provider });
          return Promise.resolve();
        };
      const { shown } = await stack.failingUp(program("unix:///nonexistent/docker.sock"));
      expect(shown).toContain("unix:///nonexistent/docker.sock");
      expect((await stack.up(program(currentDockerHost()))).steps).toEqual(["create data"]);
      expect(await leftovers(stack.name)).toEqual([`volume ${String(nameOf("data"))}`]);
    });

    test("the plugin knows the inputs inside the inputs, under the names of the SDK", async () => {
      const program: Program = () => {
        network({
          ipamConfigs: [{ subnet: "10.213.7.0/24", gateway: "10.213.7.1", ipRange: "10.213.7.128/25", auxAddress: { a: "10.213.7.9" } }],
          ipamOptions: { a: "b" },
          options: { a: "b" },
        });
        box({
          capabilities: { adds: ["CAP_CHOWN"], drops: ["CAP_KILL"] },
          healthcheck: { tests: ["CMD", "true"], interval: "5s", timeout: "5s", startPeriod: "30s", retries: 3 },
          hosts: [{ host: "other", ip: "10.213.7.9" }],
          logOpts: { a: "b" },
          mounts: [
            { target: "/a", type: "volume", source: "v", readOnly: true, volumeOptions: { labels: labels(), noCopy: true } },
            { target: "/b", type: "tmpfs", tmpfsOptions: { mode: 0o700, sizeBytes: 1024 } },
          ],
          networksAdvanced: [{ name: "net", aliases: ["a"], ipv4Address: "10.213.7.10", ipv6Address: "fd00::10" }],
          ports: [{ internal: 5432, external: 5432, ip: "127.0.0.1", protocol: "tcp" }],
          sysctls: { a: "b" },
          tmpfs: { "/c": "size=1m" },
          ulimits: [{ name: "nofile", soft: 1, hard: 1 }],
          uploads: [{ file: "/d", content: "text", executable: true, permissions: "0755" }],
          volumes: [
            { volumeName: "v", containerPath: "/e", readOnly: true },
            { hostPath: "/tmp", containerPath: "/f" },
          ],
        });
        new dockerSdk.RemoteImage("image", {
          name: "nowhere:1",
          build: {
            context: ".",
            dockerfile: "Dockerfile",
            tags: ["nowhere:1"],
            buildArgs: { A: "b" },
            labels: { a: "b" },
            target: "t",
            noCache: true,
            forceRemove: true,
          },
          triggers: { a: "b" },
        });
        return Promise.resolve();
      };
      expect((await stack.preview(program)).steps.sort()).toEqual(["create box", "create image", "create net"]);
    });
  });
});
