import { conninfo, hostLists, isUsablePassword, libpqUrl, passfile } from "../../core/grammar/conninfo";

const endpoints = [
  { host: "db1", port: 5432 },
  { host: "2001:db8::1", port: 6543 },
];

describe("a connection string", () => {
  test("keeps the order of its parameters and leaves out what is not set", () => {
    expect(conninfo({ host: "pg1", port: 5432, password: undefined, user: "app" })).toBe("host=pg1 port=5432 user=app");
  });

  test("quotes what libpq would take for more than one value", () => {
    expect(conninfo({ application_name: "it's\\here", options: "" })).toBe("application_name='it\\'s\\\\here' options=''");
  });

  test("names the hosts and the ports of several servers, in one order", () => {
    expect(hostLists(endpoints)).toEqual({ host: "db1,2001:db8::1", port: "5432,6543" });
  });
});

describe("a URL", () => {
  const args = { user: "app", password: "a/b@c", endpoints, database: "my db" };

  test("names every server, IPv6 addresses in brackets, and escapes what separates", () => {
    expect(libpqUrl(args)).toBe("postgresql://app:a%2Fb%40c@db1:5432,[2001:db8::1]:6543/my%20db");
  });

  test("says which server of them is meant", () => {
    expect(libpqUrl({ ...args, target: "read-write" })).toBe(`${libpqUrl(args)}?target_session_attrs=read-write`);
  });
});

test("a password file holds for every host and database, and ends its line", () => {
  expect(passfile({ replica_user: "a:b\\c" })).toBe("*:*:*:replica_user:a\\:b\\\\c\n");
});

describe("a password", () => {
  test.each(["x", "with space", "ä:\\'\"", "~"])("may be %j", (password) => {
    expect(isUsablePassword(password)).toBe(true);
  });

  test.each(["", "a\nb", "\u0000", "tab\t", "\u001f", "\u007f"])("cannot be %j", (password) => {
    expect(isUsablePassword(password)).toBe(false);
  });
});
