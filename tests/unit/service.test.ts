import { type Definition, digestOf, service } from "../../components/service";
import { startMocks, valueOf } from "./program";

test("a container that is no PostgreSQL is ten lines: what is not said is the image's own or Docker's", async () => {
  const registered = await startMocks({});
  const router = service(
    "router",
    {
      ...{ container: "postgres-replica-dev-router", image: "haproxy:3", hostname: "router", network: "net" },
      files: { "/etc/haproxy.cfg": { content: "listen" } },
      ports: [{ internal: 5000, external: 6000, address: "127.0.0.1" }],
      labels: { role: "router" },
      stop: { signal: "SIGUSR1", seconds: 10 },
    },
    {},
  );
  expect(await valueOf(router.name)).toBe("postgres-replica-dev-router");
  const declared = registered.find(({ name }) => name === "router");
  expect(declared?.inputs).toEqual({
    name: "postgres-replica-dev-router",
    image: "haproxy:3",
    hostname: "router",
    networksAdvanced: [{ name: "net", aliases: ["router"] }],
    uploads: [{ file: "/etc/haproxy.cfg", content: "listen", executable: false, permissions: "0644" }],
    ports: [{ internal: 5000, external: 6000, ip: "127.0.0.1" }],
    labels: [
      { label: "role", value: "router" },
      { label: "postgres-replica.definition", value: expect.stringMatching(/^[0-9a-f]{12}$/) as string },
    ],
    restart: "unless-stopped",
    mustRun: false,
    stopSignal: "SIGUSR1",
    stopTimeout: 10,
    destroyGraceSeconds: 10,
    removeVolumes: true,
    logDriver: "json-file",
    logOpts: { "max-file": "5", "max-size": "20m" },
  });
  expect([declared?.deleteBeforeReplace, declared?.ignoreChanges, declared?.replaceOnChanges]).toEqual([
    true,
    ["networkDatas"],
    ["healthcheck"],
  ]);
});

test("what a container is made with has a digest, which every part of it changes", () => {
  const router: Definition = {
    ...{ container: "c", image: "haproxy:3", hostname: "router", labels: { role: "router" }, stop: { signal: "SIGUSR1", seconds: 10 } },
    ports: [{ internal: 5000, external: 6000, address: "127.0.0.1" }],
  };
  const others: Partial<Definition>[] = [
    { image: "haproxy:4" },
    { ports: [{ internal: 5000, external: 6001, address: "127.0.0.1" }] },
    { ports: [{ internal: 5000, external: 6000, address: "0.0.0.0" }] },
    { cpus: 2 },
    { sharedMemory: 512 },
    { files: { "/etc/haproxy.cfg": { content: "listen" } } },
    { labels: { role: "other" } },
  ];
  const digests = [{}, ...others].map((other) => digestOf({ ...router, ...other }));
  expect(new Set(digests).size).toBe(others.length + 1);
  expect(digestOf({ ...router })).toBe(digests[0]);
});
