import { NODE_SQL, readReport } from "../../core/judgement/observation";
import { replica, slot, standby } from "./observations";

test("a server is asked for all that its report holds, and its node for the disk of its volume", () => {
  const { server } = standby("pg2");
  for (const name of [server, server?.receiver, replica("pg2"), slot("pg2")].flatMap((part) => Object.keys(part ?? {}))) {
    expect(NODE_SQL).toMatch(new RegExp(`'${name}', \\S`));
  }
  expect(NODE_SQL).toMatch(/\n\\! df -P -k \/var\/lib\/pgnode \| tail -n 1\n$/);
});

test("a disk is read from the line of df that follows the report", () => {
  const report = JSON.stringify(standby("pg2").server);
  expect(readReport(`${report}\n/dev/vda1        102400  90000   1024      99% /var/lib/pgnode\n`)).toEqual({
    server: standby("pg2").server,
    disk: { totalBytes: 102400 * 1024, freeBytes: 1024 * 1024 },
  });
  expect(readReport(report).disk).toBeNull();
  expect(readReport(`${report}\ndf: /var/lib/pgnode: No such file or directory\n`).disk).toBeNull();
});
