import { createHash } from "crypto";
import { readdirSync, readFileSync } from "fs";
import { join } from "path";
import { DEFAULTS, parseConfig } from "../../core/config";
import { HOST_SCRIPTS } from "../../core/model/hostScripts";
import { imageName, provideImage } from "../../core/model/image";
import { PGNODE_PATH, PGNODE_SCRIPT } from "../../core/model/pgnode";

const textOf = (...path: string[]): string => readFileSync(join(__dirname, "..", "..", "image", ...path), "utf8");
const dockerfile = textOf("Dockerfile");
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

describe("the programs that the stack brings along", () => {
  test("are the files of image/, each a program for a POSIX shell", () => {
    const parts = readdirSync(join(__dirname, "..", "..", "image", "pgnode")).filter((name) => name.endsWith(".sh"));
    const texts = parts.map((part) => textOf("pgnode", part));
    texts.forEach((text) => expect(PGNODE_SCRIPT).toContain(text));
    const names = texts.reduce((rest, text) => rest.replace(text, ""), PGNODE_SCRIPT);
    expect(names.trimEnd()).toMatch(
      /^#!\/bin\/sh\n# pgnode, joined .*\nROOT=\/var\/lib\/pgnode\nPORT=5432\nREPLICATION_ROLE=replica_user\nREWIND_ROLE=rewind_user\n# The functions .*\nREADS_FILES='pg_catalog\.pg_ls_dir\(text, boolean, boolean\);pg_catalog\.pg_stat_file\(text, boolean\);pg_catalog\.pg_read_binary_file\(text\);pg_catalog\.pg_read_binary_file\(text, bigint, bigint, boolean\)'\nMARKS='fenced reclone rejoin-once drop-old'\n# VARIABLE .*\nFILES='([^']*)'\n# How far .*\nCOPIED_LAG=16777216\nCERTIFICATE_DAYS=365\nRENEWAL_DAYS=121\nPROVISIONAL=postgres-replica-provisional$/,
    );
    expect(PGNODE_PATH).toMatch(/^\/usr\/local\/bin\/pgnode$/);
    expect(provideImage("postgres:17").script).toBe(textOf("host", "provide-image.sh"));
  });

  test("are whole: a step brings the functions that it calls", () => {
    const [lib, onPrimary] = [textOf("host", "lib.sh"), textOf("host", "on-primary.sh")];
    expect(HOST_SCRIPTS).toEqual({
      birth: textOf("host", "birth.sh"),
      makeAuthority: textOf("host", "make-authority.sh"),
      checkSettings: textOf("host", "check-settings.sh"),
      configure: lib + textOf("host", "configure.sh"),
      ready: lib + textOf("host", "ready.sh"),
      onPrimary: lib + onPrimary,
      narrow: lib + textOf("host", "narrow.sh") + onPrimary,
      slot: lib + textOf("host", "slot.sh") + onPrimary,
    });
  });
});
