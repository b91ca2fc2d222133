import { existsSync, readFileSync } from "fs";
import { longRun, type Report } from "./progress";

/** Whether packages can be installed here: Debian or one of its family, as root. */
export function canInstallPackages(): boolean {
  const release = existsSync("/etc/os-release") ? readFileSync("/etc/os-release", "utf8") : "";
  return /^ID(_LIKE)?=.*(debian|ubuntu)/m.test(release) && process.getuid?.() === 0;
}

/** Installs packages of Debian. @param run What runs a long program. @default the real one @throws UserError */
export async function installPackages(names: readonly string[], report: Report, run = longRun): Promise<void> {
  const env = { DEBIAN_FRONTEND: "noninteractive" };
  await run("apt-get update", "apt-get", ["update", "-q"], report, { env });
  await run(`installing ${names[0]}`, "apt-get", ["install", "-y", "-q", ...names], report, { env });
}
