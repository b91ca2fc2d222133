import { createHash } from "crypto";
import { readFileSync } from "fs";
import { join } from "path";
import { DEFAULTS, parseConfig } from "../../core/config";
import { imageName, provideImage } from "../../core/image";

const dockerfile = readFileSync(join(__dirname, "..", "..", "image", "Dockerfile"), "utf8");
const digest = createHash("sha256").update(dockerfile).digest("hex").slice(0, 12);

describe("the name of the image", () => {
  test("of our own says from which recipe it is built", () => {
    expect(imageName(DEFAULTS.image)).toBe(`postgres-replica:17-${digest}`);
  });

  test("of our own is one that the config would take, and then means just that image", () => {
    const name = imageName(DEFAULTS.image);
    expect(parseConfig("dev", { image: name }).image).toBe(name);
    expect(imageName(name)).toBe(name);
    expect(provideImage(name).environment["IMAGE_RECIPE"]).toBe("");
  });

  test.each(["postgres:17", "postgres-replica:16", "localhost:5000/postgres-replica:17", "pg@sha256:0123abcd"])(
    "%s stays as it is",
    (image) => {
      expect(imageName(image)).toBe(image);
    },
  );
});

describe("what provides the image", () => {
  test("builds our own from the Dockerfile as it is", () => {
    const { name, environment } = provideImage(DEFAULTS.image);
    expect(name).toBe(imageName(DEFAULTS.image));
    expect(environment).toEqual({ IMAGE: name, IMAGE_RECIPE: dockerfile, IMAGE_FINGERPRINT: digest });
  });

  test("has no recipe for another image, so that it is pulled", () => {
    const { name, environment } = provideImage("postgres:17");
    expect([name, environment]).toEqual(["postgres:17", { IMAGE: "postgres:17", IMAGE_RECIPE: "", IMAGE_FINGERPRINT: "" }]);
  });

  test("is the same script for every image: what differs is in the environment", () => {
    expect(provideImage("postgres:17").script).toBe(provideImage(DEFAULTS.image).script);
  });
});
