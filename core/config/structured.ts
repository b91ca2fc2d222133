/** A structured value as Pulumi hands it over: as it is, or as JSON text. Undefined for text that is none. */
export function fromJson(value: unknown): unknown {
  if (typeof value !== "string") {
    return value;
  }
  try {
    return JSON.parse(value) as unknown;
  } catch {
    return undefined;
  }
}
