import type * as pulumi from "@pulumi/pulumi";
import {
  Database,
  furtherDatabases,
  narrowReplication,
  Primary,
  ReplicationSlot,
  type ReplicationSource,
  sourceOf,
  StreamingSecondary,
} from "./components";
import { providedAuthority, stackAuthority, writeAuthority } from "./components/authority";
import { type Ground, groundAt } from "./components/foundation";
import { afterHandover } from "./components/handover";
import { sizeOf } from "./components/node";
import {
  applicationUrl,
  lagCheck,
  optionalPassword,
  ownersPasswords,
  password,
  readSettings,
  type Settings,
  urlFor,
} from "./components/stack";
import { containerName, MONITOR_ROLE, networkName, slotName } from "./core/model/names";
import { enginesOf } from "./core/model/place";

type Node = Settings["nodes"][number];

/** The stack. It looks before it declares: see `readSettings`. Returns the stack's outputs. */
export = async () => {
  // Where ts-node loads the program (an older language host), it maps every stack that is looked at, and Pulumi's SDK looks
  // at one per promise: a tenth of an up without a change.
  (Error as { prepareStackTrace?: unknown }).prepareStackTrace = undefined;
  const settings = await readSettings();
  const { cluster, stack, plan, drift, toStart, provided } = settings;

  const superuserPassword = password(settings, "superuserPassword");
  const replicationPassword = password(settings, "replicationPassword");
  const appPassword = password(settings, "appPassword");
  const rewindPassword = optionalPassword("rewindPassword") ?? replicationPassword;
  const monitoringPassword = optionalPassword("monitoringPassword");
  const ownerPasswords = ownersPasswords(settings, appPassword);

  // Every Docker engine of the stack: the image is made on one, and brought from there where it cannot be had otherwise.
  const grounds = new Map<string, Ground>();
  for (const engine of enginesOf(settings.nodes)) {
    grounds.set(engine, groundAt(engine, settings, [...grounds.values()][0]));
  }
  const begun = [...grounds.values()].flatMap(({ identity, image }) => [identity, image]);
  // Certificates are issued by an authority of the stack, which is made where the stack began.
  const authority =
    settings.tls === undefined
      ? undefined
      : provided === undefined
        ? stackAuthority(cluster, settings.authorities, begun.slice(0, 2))
        : providedAuthority(provided.authority);
  if (authority !== undefined && settings.tls !== undefined) {
    writeAuthority(authority, settings.tls.caFile);
  }

  const there = [...plan.standing, ...plan.returning];
  const begins = (
    node: Node,
    after?: pulumi.Input<pulumi.Resource>[],
    source = sourceOf(cluster, []),
    slot?: ReplicationSlot,
  ): Primary | StreamingSecondary => {
    const { name, place } = node;
    const { provider, network, identity, image } = grounds.get(place.engine) as Ground;
    const args = {
      ...{ cluster, network: network.name, replicationPassword, rewindPassword, provider, dependsOn: [identity, image] },
      ...{ node: name, ...sizeOf(node), startStopped: settings.startStopped },
      ...(after === undefined ? {} : { after }),
      ...(authority === undefined ? {} : { authority }),
      ...(provided?.nodes[name] === undefined ? {} : { certificate: provided.nodes[name] }),
      drift: { config: drift.config[name] ?? [], node: [...(toStart[name] ?? []), ...(drift.slots[name] ?? [])] },
    };
    return name === plan.first
      ? new Primary(name, { ...args, exists: there.length > 0, kept: settings.look.kept === name })
      : new StreamingSecondary(name, { ...args, source, ...(slot === undefined ? {} : { slot }) });
  };
  const slotFor = ({ name }: Node, source: ReplicationSource): ReplicationSlot =>
    new ReplicationSlot(`${name}-slot`, { cluster, source, node: name }, { deletedWith: settings.foundation.identity });

  // What is made on whoever is primary reaches every node by replication.
  const databaseAfter = (dependsOn: pulumi.Resource[]): Database =>
    new Database(
      "database",
      {
        cluster,
        superuserPassword,
        replicationPassword,
        rewindPassword,
        appPassword,
        ...(monitoringPassword === undefined ? {} : { monitoringPassword }),
        database: settings.database,
        ownerPasswords,
        sampleDatabase: settings.sampleDatabase,
        drift,
      },
      { dependsOn },
    );
  // Where a primary answers, its roles come first: a standby that is replaced or restarted has to log in with this
  // run's password, and would be waited for in vain. The sample comes first too: it asks every node whether it is the
  // primary, and one that is just being replaced cannot tell.
  const standing = plan.led ? databaseAfter(begun) : undefined;

  // The nodes that are there come one after the other, standbys first and the primary last, so that never two of them
  // are replaced at once; a primary that is to be replaced or restarted hands its role over before. A new stack begins with its first
  // node.
  let well: pulumi.Resource[] = [...(standing?.made ?? [])];
  for (const node of plan.standing) {
    const after = settings.handover?.from === node.name ? afterHandover(well, settings, node.name) : well;
    const { config, ready } = begins(node, after).node;
    well = [config, ready];
  }
  // Any of those that have lost their container may be the primary.
  well.push(...plan.returning.map((node) => begins(node, []).node.container));
  const [beginning] = plan.coming.filter((node) => there.length === 0 && node.name === plan.first);
  if (beginning !== undefined) {
    const { container, ready } = begins(beginning).node;
    // Kept data may have to be promoted first. A cluster that is made anew has one server, and it is writable.
    well = [settings.look.kept === undefined ? container : ready];
  }
  const database = standing ?? databaseAfter(well);
  // A primary that is itself being replaced or restarted is no source.
  const source = sourceOf(cluster, [...database.source.ready, ...well]);
  for (const node of beginning === undefined ? there : [beginning]) {
    slotFor(node, source);
  }
  const last: pulumi.Resource[] = [...well, ...database.made];
  for (const node of plan.coming.filter((n) => n !== beginning)) {
    last.push(begins(node, undefined, source, slotFor(node, source)).node.ready);
  }
  // A node that has not been brought this version yet rewinds with it; one on a host that is away is not waited for, but asked.
  const nodes = [...last];
  last.push(narrowReplication(cluster, drift.rights, nodes));
  const { databases } = settings;
  if (databases.length > 0) {
    last.push(furtherDatabases(cluster, { databases, monitored: monitoringPassword !== undefined, drift: drift.databases }, nodes));
  }
  // What is to be changed on a host that is away fails, and ends the run: all that can be done elsewhere comes before it.
  for (const node of plan.away) {
    last.push(slotFor(node, sourceOf(cluster, last)));
    last.push(begins(node, last).node.config);
  }

  const first = settings.nodes.find((node) => node.name === plan.first) ?? settings.nodes[0];
  const others = settings.nodes.filter((node) => node !== first);
  return {
    /** Every node: where clients reach it, and its container. */
    nodes: Object.fromEntries(
      settings.nodes.map((n) => [n.name, { host: n.address, port: n.port, container: containerName(stack, n.name) }]),
    ),
    /** For writes: whoever is primary. */
    writerUrl: applicationUrl(settings, appPassword, settings.nodes, "read-write"),
    /** For reads: a standby, or the primary when there is none. */
    readerUrl: applicationUrl(settings, appPassword, settings.nodes, "prefer-standby"),
    /** For writes to each further database, as its owner. Nothing where there is none. */
    ...(settings.databases.length === 0
      ? {}
      : {
          databaseUrls: Object.fromEntries(
            settings.databases.map(({ name: database, owner: user }) => {
              const account = { user, database, password: ownerPasswords[user] ?? appPassword };
              return [database, urlFor(settings, account, settings.nodes, "read-write")];
            }),
          ),
        }),
    /** For a monitoring system: any node; each by itself is among `nodes`. Nothing where there is no monitoring role. */
    ...(monitoringPassword === undefined
      ? {}
      : { monitoringUrl: urlFor(settings, { user: MONITOR_ROLE, password: monitoringPassword, database: "postgres" }, settings.nodes) }),
    /** The node that began as the primary; when it was taken out, the first one by name. */
    primaryUrl: applicationUrl(settings, appPassword, first === undefined ? [] : [first]),
    /** The other nodes. */
    secondaryUrls: Object.fromEntries(others.map((n) => [n.name, applicationUrl(settings, appPassword, [n])])),
    /** The slot through which each of them streams. */
    replicationSlots: Object.fromEntries(others.map((n) => [n.name, slotName(n.name)])),
    /** How to ask for the lag of every node, because each is a standby at some time; of the one that is primary now there is none. */
    lagChecks: Object.fromEntries(settings.nodes.map((n) => [n.name, lagCheck(settings, n.name)])),
    /** The Docker network. */
    network: networkName(stack),
    /** The certificate by which clients check the servers, PEM: what `up` writes to where the URLs say. Nothing where TLS is off. */
    ...(authority === undefined ? {} : { caCertificate: authority.certificate }),
  };
};
