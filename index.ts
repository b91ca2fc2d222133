import * as docker from "@pulumi/docker";
import { Primary, ReplicationSlot, StreamingSecondary } from "./components";
import { applicationUrl, lagCheck, password, readSettings } from "./components/stack";
import { containerName, labelsOf, networkName, slotName } from "./core/names";

const settings = readSettings();
const { cluster, stack } = settings;
const [first, ...others] = settings.nodes;
if (first === undefined) {
  throw new Error("no nodes"); // readSettings has refused this already
}

const superuserPassword = password(settings, "superuserPassword");
const replicationPassword = password(settings, "replicationPassword");
const appPassword = password(settings, "appPassword");

const provider = new docker.Provider("docker", { host: cluster.dockerHost });
const labels = Object.entries(labelsOf(stack)).map(([label, value]) => ({ label, value }));
const net = new docker.Network("network", { name: networkName(stack), labels }, { provider });

const common = { cluster, image: settings.image, network: net.name, replicationPassword, provider };

// The first node begins as the primary; every other one as a copy of whoever is primary then.
const primary = new Primary(first.name, {
  ...common,
  node: first.name,
  port: first.port,
  address: first.address,
  superuserPassword,
  appPassword,
  database: settings.database,
  sampleDatabase: settings.sampleDatabase,
});
for (const { name, port, address } of others) {
  const slot = new ReplicationSlot(`${name}-slot`, { cluster, source: primary.source, node: name });
  new StreamingSecondary(name, { ...common, node: name, port, address, source: primary.source, slot });
}

/** Every node: where clients reach it, and its container. */
export const nodes = Object.fromEntries(
  settings.nodes.map((n) => [n.name, { host: n.address, port: n.port, container: containerName(stack, n.name) }]),
);
/** For writes: whoever is primary. */
export const writerUrl = applicationUrl(settings, appPassword, settings.nodes, "read-write");
/** For reads: a standby, or the primary when there is none. */
export const readerUrl = applicationUrl(settings, appPassword, settings.nodes, "prefer-standby");
/** The node that began as the primary. */
export const primaryUrl = applicationUrl(settings, appPassword, [first]);
/** The nodes that began as secondaries. */
export const secondaryUrls = Object.fromEntries(others.map((n) => [n.name, applicationUrl(settings, appPassword, [n])]));
/** The slot through which each secondary streams. */
export const replicationSlots = Object.fromEntries(others.map((n) => [n.name, slotName(n.name)]));
/** How to ask for each secondary's lag. */
export const lagChecks = Object.fromEntries(others.map((n) => [n.name, lagCheck(cluster, n.name)]));
/** The Docker network. */
export const network = net.name;
