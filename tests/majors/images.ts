import { createHash } from "crypto";
import execa from "execa";
import { readFileSync } from "fs";
import { join } from "path";
import { ROOT } from "../../operations/deploy/workspace";
import { provideImage } from "../../core/model/image";
import { OWN_IMAGE } from "../integration/checkout";

/** The majors of PostgreSQL that the tests run on beside our own image's, and the releases of Debian that have them. */
const SUITES: Readonly<Record<number, { suite: string; aptOption?: string }>> = {
  15: { suite: "bookworm" },
  // Not released yet: a mirror may hold a snapshot of it whose lists have expired. For tests that does no harm.
  18: { suite: "forky", aptOption: 'Acquire::Check-Valid-Until "false"' },
};

/** The major of our own image, which is there already. */
const OWN_MAJOR = 17;

/** All of them, lowest first. */
export const MAJORS: readonly number[] = [...Object.keys(SUITES).map(Number), OWN_MAJOR].sort((a, b) => a - b);

/** How long making an image may take, in seconds: the bounds of the program that makes it are wider. */
const BUILD_SECONDS = 900;

/**
 * The name of an image of that major. It is built the first time, like our own image and by the same program, and stays on
 * the engine: its name says from which recipe it was built. Says on standard error what is happening.
 *
 * @throws Error When it cannot be built within 15 minutes, with what the program said.
 */
export async function imageOfMajor(major: number): Promise<string> {
  const made = SUITES[major];
  if (made === undefined) {
    if (major === OWN_MAJOR) {
      return OWN_IMAGE;
    }
    throw new Error(`no image of PostgreSQL ${major} can be made; the majors are ${MAJORS.join(", ")}`);
  }
  const recipe = readFileSync(join(ROOT, "image", "Dockerfile"), "utf8")
    .replaceAll(`postgresql-${OWN_MAJOR}`, `postgresql-${major}`)
    .replaceAll(`postgresql/${OWN_MAJOR}/`, `postgresql/${major}/`)
    .replaceAll("trixie", made.suite);
  const fingerprint = createHash("sha256").update(recipe).digest("hex").slice(0, 12);
  const name = `postgres-replica-test:${major}-${fingerprint}`;
  const ran = await execa("nice", ["sh", "-c", provideImage("").script], {
    env: {
      IMAGE: name,
      IMAGE_RECIPE: recipe,
      IMAGE_FINGERPRINT: fingerprint,
      IMAGE_SUITE: made.suite,
      IMAGE_APT_OPTION: made.aptOption ?? "",
    },
    timeout: BUILD_SECONDS * 1000,
    stdin: "ignore",
    stderr: "inherit",
    reject: false,
  });
  if (ran.exitCode !== 0) {
    throw new Error(`no image of PostgreSQL ${major}: the program ended with ${ran.exitCode}`);
  }
  return name;
}
