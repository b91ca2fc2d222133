import fc from "fast-check";
import { isIPv6 } from "net";
import { formatLsn, lsnDiff, parseLsn } from "../../core/grammar/lsn";
import { isNodeName, lockName, slotName } from "../../core/model/names";
import { hbaConf } from "../../core/settings/access";
import { nodeConf } from "../../core/settings/nodeConf";
import { synchronousStandbyNames } from "../../core/settings/replication";
import { parseConf, parseConninfo, parseHba } from "../unit/grammars";
import { parseConfig } from "../../core/config";
import { nodeName, subnet } from "./arbitraries";

describe("a slot's name", () => {
  test("is one that PostgreSQL takes, for every name that a node may have", () => {
    fc.assert(
      fc.property(nodeName, (name) => {
        expect(isNodeName(name)).toBe(true);
        expect(slotName(name)).toMatch(/^[a-z0-9_]{1,63}$/);
      }),
    );
  });

  test("is no other node's", () => {
    fc.assert(
      fc.property(fc.uniqueArray(nodeName, { minLength: 2, maxLength: 20 }), (names) => {
        expect(new Set(names.map(slotName)).size).toBe(names.length);
      }),
    );
  });

  test("leads back to the node, so two nodes never share one", () => {
    fc.assert(
      fc.property(nodeName, (name) => {
        expect(slotName(name).replace(/_/g, "-")).toBe(name);
      }),
    );
  });

  test("is refused for every text that is no node's name", () => {
    fc.assert(
      fc.property(
        fc
          .string({ unit: fc.constantFrom(..."ab1-_.A \n") })
          .filter((text) => !/^[a-z]([a-z0-9-]*[a-z0-9])?$/.test(text) || text.includes("\n")),
        (text) => {
          expect(isNodeName(text)).toBe(false);
          expect(() => slotName(text)).toThrow("is not a node name");
        },
      ),
    );
  });
});

describe("the name of a stack's lock", () => {
  const stack = fc.array(fc.constantFrom("a", "lock", "-", ".", "_"), { minLength: 1, maxLength: 6 }).map((parts) => parts.join(""));

  test("is that of no node's container and of no helper, in whatever stack: it ends in nothing that could be a node", () => {
    fc.assert(
      fc.property(stack, (one) => {
        const rests = lockName(one)
          .split("-")
          .map((_, i, words) => words.slice(i).join("-"));
        expect(rests.filter((rest) => isNodeName(rest))).toEqual([]);
      }),
    );
  });
});

describe("a WAL position", () => {
  const position = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });

  test("is read back as it was written", () => {
    fc.assert(
      fc.property(position, (value) => {
        expect(formatLsn(value)).toMatch(/^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/);
        expect(parseLsn(formatLsn(value))).toBe(value);
        expect(parseLsn(formatLsn(value).toLowerCase())).toBe(value);
      }),
    );
  });

  test("is as far ahead of another as that is behind it", () => {
    fc.assert(
      fc.property(position, position, (a, b) => {
        const [ahead, behind] = [formatLsn(a), formatLsn(b)];
        expect(lsnDiff(ahead, behind)).toBe(-lsnDiff(behind, ahead));
        expect(lsnDiff(ahead, behind) > 0n).toBe(a > b);
      }),
    );
  });

  test("moves by as many bytes as were written", () => {
    fc.assert(
      fc.property(position, fc.bigInt({ min: 0n, max: 1n << 40n }), (from, bytes) => {
        fc.pre(from + bytes < 1n << 64n);
        expect(lsnDiff(formatLsn(from + bytes), formatLsn(from))).toBe(bytes);
      }),
    );
  });

  test("is nothing that is not written like one", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom(..."0F/x ") }).filter((text) => !/^[0F]{1,8}\/[0F]{1,8}$/.test(text)),
        (text) => {
          expect(() => parseLsn(text)).toThrow("is not a WAL position");
        },
      ),
    );
  });
});

describe("a node's configuration files", () => {
  const members = fc
    .uniqueArray(nodeName, { minLength: 1, maxLength: 8 })
    .map((names) => names.map((name) => ({ name, host: name, port: 5432 })));

  test("name every node as a candidate for synchronous replication, in order", () => {
    fc.assert(
      fc.property(members, fc.constantFrom("any" as const, "first" as const), fc.integer({ min: 1, max: 7 }), (all, mode, count) => {
        const match = /^(ANY|FIRST) (\d+) \((".*")\)$/.exec(synchronousStandbyNames({ members: all, synchronous: { mode, count } }));
        expect([match?.[1], match?.[2]]).toEqual([mode.toUpperCase(), String(count)]);
        expect(match?.[3]?.split(", ")).toEqual(all.map((m) => `"${m.name}"`));
      }),
    );
  });

  test("let every node stream from all the others and never from itself", () => {
    fc.assert(
      fc.property(members, fc.nat(), (all, pick) => {
        const node = all[pick % all.length]?.name ?? "";
        const text = nodeConf({ node, members: all, parameters: {}, allowedSubnets: [], maxSlotWalKeepSize: "1GB", automaticRejoin: true });
        const found = parseConninfo(parseConf(text)["primary_conninfo"] ?? "");
        const others = all.map((m) => m.name).filter((name) => name !== node);
        expect(found["host"]).toBe(others.join(","));
        expect(found["port"]).toBe(others.map(() => "5432").join(","));
        expect(found["application_name"]).toBe(node);
      }),
    );
  });

  test("let in exactly the subnets of the config, each by well-formed rules", () => {
    fc.assert(
      fc.property(fc.array(subnet, { maxLength: 6 }), (subnets) => {
        const { allowedSubnets } = parseConfig("dev", { allowedSubnets: subnets });
        expect(allowedSubnets).toEqual(subnets);
        const rules = parseHba(hbaConf(allowedSubnets));
        const expected = new Set(["", "127.0.0.1/32", "::1/128", ...subnets]);
        const forAll = rules.filter((rule) => !["replica_user", "rewind_user"].includes(rule.user));
        expect(new Set(forAll.map((rule) => rule.address))).toEqual(expected);
        // The nodes themselves stream whatever is allowed.
        expect(new Set(rules.flatMap((rule) => (rule.method === "reject" ? [] : [rule.address])))).toEqual(
          new Set([...expected, "samenet"]),
        );
        // One look at all of them: an `expect` for each takes longer than the rest.
        const malformed = rules.filter(({ type, address, method }) => {
          const [ip = "", bits] = address.split("/");
          return !(
            type === (address === "" ? "local" : "host") &&
            ["peer", "scram-sha-256", "reject"].includes(method) &&
            (bits === undefined || Number(bits) <= (isIPv6(ip) ? 128 : 32))
          );
        });
        expect(malformed).toEqual([]);
      }),
    );
  });
});
