/** Texts in PEM. */

const blocks = (text: string, label: string): string =>
  [...text.matchAll(new RegExp(`-----BEGIN ${label}-----\\r?\\n[^-]+-----END ${label}-----`, "g"))].map(([block]) => `${block}\n`).join("");

/** The certificates in a text, in their order; empty when there is none. */
export const certificatesIn = (text: string): string => blocks(text, "CERTIFICATE");

/** The private key in a text; empty when there is none. */
export const keyIn = (text: string): string => blocks(text, "(?:EC |RSA )?PRIVATE KEY");
