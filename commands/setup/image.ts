import { createHash } from "crypto";
import { existsSync, readFileSync } from "fs";
import { join } from "path";
import execa from "execa";
import { DEFAULTS } from "../../core/config";
import { docker } from "../docker";
import { UserError } from "../errors";
import { ROOT } from "../workspace";
import { longRun, type Report } from "./progress";

const RECIPE = join(ROOT, "image");
const RECIPE_LABEL = "postgres-replica.recipe";
const REGISTRY_BASE = "debian:trixie-slim";
const OWN_BASE = "postgres-replica-base:trixie";

/** A fingerprint of the recipe, so that a changed one is built again. pgnode.sh is not part of the image. */
function recipeHash(): string {
  return createHash("sha256")
    .update(readFileSync(join(RECIPE, "Dockerfile")))
    .digest("hex")
    .slice(0, 16);
}

/** Whether the image is on the Docker host (and, for our own, built from today's recipe). */
export async function imagePresent(image: string): Promise<boolean> {
  const label = await docker(["image", "inspect", "--format", `{{index .Config.Labels "${RECIPE_LABEL}"}}`, image]);
  return label.exitCode === 0 && (image !== DEFAULTS.image || label.stdout.trim() === recipeHash());
}

/** Builds our image, or pulls any other. @throws UserError */
export async function provideImage(image: string, report: Report): Promise<void> {
  if (image !== DEFAULTS.image) {
    report(`pulling ${image}`);
    await longRun(`docker pull ${image}`, "docker", ["pull", image], report);
    return;
  }
  const base = await provideBase(report);
  report(`building ${image} on ${base} (about 25 s)`);
  const buildx = await docker(["buildx", "version"]);
  await longRun(
    "docker build",
    "docker",
    [
      "build",
      "--build-arg",
      `BASE=${base}`,
      "--label",
      `${RECIPE_LABEL}=${recipeHash()}`,
      "-t",
      image,
      "-f",
      join(RECIPE, "Dockerfile"),
      RECIPE,
    ],
    report,
    { env: { DOCKER_BUILDKIT: buildx.exitCode === 0 ? "1" : "0" } },
  );
}

/** The base image: from a registry when one is in reach, else made of Debian's packages. */
async function provideBase(report: Report): Promise<string> {
  for (const base of [REGISTRY_BASE, OWN_BASE]) {
    if ((await docker(["image", "inspect", base])).exitCode === 0) {
      return base;
    }
  }
  report(`pulling ${REGISTRY_BASE}`);
  const pulled = await docker(["pull", "-q", REGISTRY_BASE], { timeout: 300_000 });
  if (pulled.exitCode === 0) {
    return REGISTRY_BASE;
  }
  report(`no registry in reach; making ${OWN_BASE} of Debian's packages (about 45 s)`);
  if (!existsSync("/usr/bin/mmdebstrap")) {
    if (!existsSync("/usr/bin/apt-get") || process.getuid?.() !== 0) {
      throw new UserError(
        `${REGISTRY_BASE} cannot be pulled (${pulled.stderr.trim().split("\n").at(-1)}), and the other way needs Debian or Ubuntu as root. Allow access to a registry, or load an image and set the config key image`,
      );
    }
    const env = { DEBIAN_FRONTEND: "noninteractive" };
    await longRun("apt-get update", "apt-get", ["update", "-q"], report, { env });
    await longRun("installing mmdebstrap", "apt-get", ["install", "-y", "-q", "mmdebstrap", "debian-archive-keyring"], report, { env });
  }
  const mirror = await debianMirror();
  const bootstrap = [
    "mmdebstrap",
    "--quiet",
    "--variant=minbase",
    "--include=ca-certificates",
    "trixie",
    "-",
    ...(mirror === undefined ? [] : [mirror]),
  ];
  // One pipeline: the image gets its name when the whole of it has arrived.
  await longRun("mmdebstrap", "bash", ["-o", "pipefail", "-c", `"$@" | docker import - ${OWN_BASE}`, "-", ...bootstrap], report);
  return OWN_BASE;
}

/** The Debian mirror that this machine's apt uses; undefined leaves mmdebstrap its default. */
async function debianMirror(): Promise<string | undefined> {
  const targets = await execa("apt-get", ["indextargets", "--format", "$(ORIGIN) $(REPO_URI)", "Created-By: Packages"], { reject: false });
  const line = (targets.stdout ?? "").split("\n").find((text) => text.startsWith("Debian ") && !/security/.test(text));
  return line?.slice("Debian ".length).replace(/\/$/, "");
}
