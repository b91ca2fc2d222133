import { ConfigError, ownerPasswords, parseConfig } from "../../core/config";

/** Further databases: what of the config is taken, and what is refused in one line. */

const databases = (...list: object[]): ReturnType<typeof parseConfig>["databases"] => parseConfig("dev", { databases: list }).databases;
function refusal(what: () => unknown): string {
  try {
    what();
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    expect((error as Error).message).not.toContain("\n");
    return (error as Error).message;
  }
  return "taken";
}

describe("databases", () => {
  test("belong to a role of their own name, have no extensions unless told, and are in one order", () => {
    expect(databases({ name: "shop", extensions: ["pg_trgm"] }, { name: "b-1", owner: "team" })).toEqual([
      { name: "b-1", owner: "team", extensions: [] },
      { name: "shop", owner: "shop", extensions: ["pg_trgm"] },
    ]);
  });

  test("may name the application database, which stays the application's", () => {
    expect(databases({ name: "app", extensions: ["citext"] })).toEqual([{ name: "app", owner: "app", extensions: ["citext"] }]);
    expect(refusal(() => databases({ name: "app", owner: "shop" }))).toMatch(
      /^config key "databases\[0\]\.owner" is "shop"; allowed is app/,
    );
  });

  test.each(["postgres", "template0", "template1", "all", "sameuser", "samerole", "replication"])("%s is refused as a name", (name) => {
    expect(refusal(() => databases({ name }))).toContain(`config key "databases[0].name" is "${name}"; allowed is a name other than`);
  });

  test.each(["postgres", "replica_user", "rewind_user", "monitor_user", "public", "none"])("%s is refused as an owner", (owner) => {
    expect(refusal(() => databases({ name: "shop", owner }))).toContain(`config key "databases[0].owner" is "${owner}"; allowed is a role`);
  });

  test.each(["Shop", "pg_x", "a b", "1a", "x".repeat(64), ""])("%j is refused as a name and as an owner", (name) => {
    expect(refusal(() => databases({ name }))).toContain('"databases[0].name"');
    expect(refusal(() => databases({ name: "shop", owner: name }))).toContain('"databases[0].owner"');
  });

  test("of one name are refused, with which one has it too", () => {
    expect(refusal(() => databases({ name: "a" }, { name: "a" }))).toContain("databases[0] has it too");
  });
});

describe("the passwords of their owners", () => {
  const config = (stack: string): ReturnType<typeof parseConfig> =>
    parseConfig(stack, { databases: [{ name: "shop" }, { name: "more", owner: "shop" }, { name: "mine", owner: "app" }] });

  test("are one for each owner, but for the application's role, as JSON text or as an object", () => {
    expect(ownerPasswords(config("prod"), { shop: "s'1" })).toEqual({ shop: "s'1" });
    expect(ownerPasswords(config("prod"), '{"shop":"s\'1"}')).toEqual({ shop: "s'1" });
  });

  test("may be missing in a dev stack only; elsewhere one line says whose, and how to set it", () => {
    expect(ownerPasswords(config("dev"), undefined)).toEqual({ shop: undefined });
    expect(refusal(() => ownerPasswords(config("prod"), undefined))).toBe(
      `stack "prod" has no password for shop, the owner of database more and shop; only in dev stacks it is that of app. Set it with: pulumi config set --stack prod --secret --path 'databasePasswords.shop'`,
    );
  });

  test.each([
    ["of nobody who owns one", { shop: "x", old: "hidden" }, /has a password for "old"; allowed is one of shop/],
    ["with a line break", { shop: "hid\nden" }, /is a secret of 7 characters/],
    ["that is no text", { shop: 5 }, /is no text/],
    ["that are no object", "hidden", /is no object/],
  ])("%s are refused, and not shown", (_, given, message) => {
    const said = refusal(() => ownerPasswords(config("prod"), given));
    expect(said).toMatch(message);
    expect(said).not.toMatch(/hid/);
  });
});
