import { chmodSync, mkdirSync, renameSync, rmSync } from "fs";
import { dirname, join } from "path";
import { UserError } from "../errors";
import { pulumiBin, pulumiHome, ROOT, VERSIONS } from "../deploy/workspace";
import { type Machine, THIS_MACHINE } from "./machine";
import type { Report } from "./progress";

/** One program of Pulumi: where it belongs, and how it comes there. */
export interface Part {
  title: string;
  /** The file that makes the part complete. */
  file: string;
  /** The official way; what comes of it is seen by the file. */
  download: (machine: Machine) => Promise<void>;
  /** The Go module under toolchain/, its package, and the linker flags beyond `-s -w`. */
  module: string;
  package: string;
  ldflags?: string;
  /** What to expect of the build. */
  about: string;
}

const versionFlag = `-X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=v${VERSIONS.pulumi}`;

/** Every part, in the order in which they are needed. */
export function parts(): Part[] {
  const plugin = (name: "docker" | "command", about: string): Part => ({
    title: `${name} plugin ${VERSIONS[name]}`,
    file: join(pulumiHome(), "plugins", `resource-${name}-v${VERSIONS[name]}`, `pulumi-resource-${name}`),
    download: (machine) => viaPulumi(machine, ["plugin", "install", "resource", name, VERSIONS[name]]),
    module: name,
    package: ".",
    about,
  });
  return [
    {
      title: `Pulumi ${VERSIONS.pulumi}`,
      file: join(pulumiBin(), "pulumi"),
      download: viaLauncher,
      module: "pulumi",
      package: "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
      ldflags: versionFlag,
      about: "about 5 minutes",
    },
    {
      title: "Node.js language host",
      file: join(pulumiBin(), "pulumi-language-nodejs"),
      download: viaLauncher,
      module: "nodejs",
      package: "github.com/pulumi/pulumi/sdk/v3/nodejs/cmd/pulumi-language-nodejs",
      ldflags: versionFlag,
      about: "about 20 s",
    },
    plugin("command", "about 40 s"),
    plugin("docker", "about 3 minutes"),
  ];
}

/** Whether a part is in place. */
export function partPresent(part: Part, machine: Machine = THIS_MACHINE): boolean {
  return machine.exists(part.file);
}

/** Pulumi's own launcher downloads the command line and the language hosts when they are missing. */
async function viaLauncher(machine: Machine): Promise<void> {
  await tryFor(machine, process.execPath, [join(ROOT, "node_modules", "pulumi", "run.js"), "version"]);
}

async function viaPulumi(machine: Machine, args: string[]): Promise<void> {
  await tryFor(machine, join(pulumiBin(), "pulumi"), args);
}

async function tryFor(machine: Machine, file: string, args: string[]): Promise<void> {
  await machine.run(file, args, { timeout: 300_000, env: { PULUMI_SKIP_UPDATE_CHECK: "true" } });
}

/** Puts a part in place: the official download, else a build from Go modules. @throws UserError */
export async function providePart(part: Part, report: Report, machine: Machine = THIS_MACHINE): Promise<void> {
  report(`downloading ${part.title}`);
  await part.download(machine);
  if (!partPresent(part, machine)) {
    report(`${part.title} cannot be downloaded here; building it from Go modules (${part.about})`);
    await build(part, report, machine);
  }
}

async function build(part: Part, report: Report, machine: Machine): Promise<void> {
  const go = await machine.run("go", ["version"], {});
  const version = /go(\d+)\.(\d+)/.exec(go.stdout);
  if (version === null || Number(version[1]) < 1 || (Number(version[1]) === 1 && Number(version[2]) < 26)) {
    throw new UserError(
      `${part.title} can neither be downloaded (no access to Pulumi's download site) nor built (${version ? `Go ${version[1]}.${version[2]} is too old` : "Go is not installed"}). Install Go 1.26 or later, or Pulumi ${VERSIONS.pulumi}: https://www.pulumi.com/docs/install/`,
    );
  }
  mkdirSync(dirname(part.file), { recursive: true });
  // Built beside its place and renamed: what is there is complete.
  const unfinished = `${part.file}.building`;
  rmSync(unfinished, { force: true });
  await machine.longRun(
    `building ${part.title}`,
    "go",
    [
      "build",
      "-mod=readonly",
      "-buildvcs=false",
      "-trimpath",
      "-ldflags",
      `-s -w ${part.ldflags ?? ""}`.trim(),
      "-o",
      unfinished,
      part.package,
    ],
    report,
    { cwd: join(ROOT, "toolchain", part.module), env: { CGO_ENABLED: "0", GOFLAGS: "" }, minutes: 30 },
  );
  chmodSync(unfinished, 0o755);
  renameSync(unfinished, part.file);
}
