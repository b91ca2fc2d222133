import { createHash } from "crypto";
import { readFileSync } from "fs";
import { join } from "path";
import { DEFAULTS } from "../config";

const FOLDER = join(__dirname, "..", "..", "image");

/** How our own image is built. */
const RECIPE = readFileSync(join(FOLDER, "Dockerfile"), "utf8");

/** The program that provides an image; see its head for what it does. */
const PROVIDE_SCRIPT = readFileSync(join(FOLDER, "host", "provide-image.sh"), "utf8");

/** What our own image is labelled with: another recipe, another image. */
const FINGERPRINT = createHash("sha256").update(RECIPE).digest("hex").slice(0, 12);

/** How an image gets onto a Docker host: a script for `sh -c` and what it needs in its environment, next to DOCKER_HOST. */
export interface ImageProvision {
  /** The image by the name under which containers use it. */
  name: string;
  /** Prints the name when the Docker host has the image; else exits with 1, and its last line on stderr begins with `image: `. */
  script: string;
  /** Nothing secret. */
  environment: Record<string, string>;
}

/** Whether the config asks for our own image, which is built from image/. */
const isOwn = (configured: string): boolean => configured === DEFAULTS.image;

/**
 * The name of the image that containers run. That of our own image says from which recipe it was built, so that
 * a changed recipe is another image to whoever compares names.
 *
 * @param configured The config key `image`.
 */
export function imageName(configured: string): string {
  return isOwn(configured) ? `${configured}-${FINGERPRINT}` : configured;
}

/**
 * How to provide the image: our own is built where it is missing, any other is pulled.
 *
 * @param configured The config key `image`.
 */
export function provideImage(configured: string): ImageProvision {
  const name = imageName(configured);
  const own = isOwn(configured);
  return {
    name,
    script: PROVIDE_SCRIPT,
    environment: { IMAGE: name, IMAGE_RECIPE: own ? RECIPE : "", IMAGE_FINGERPRINT: own ? FINGERPRINT : "" },
  };
}
