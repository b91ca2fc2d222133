import { BlockList, isIPv6 } from "net";

const OWN = new BlockList();
OWN.addSubnet("127.0.0.0", 8, "ipv4");
OWN.addAddress("0.0.0.0", "ipv4");
OWN.addAddress("::1", "ipv6");
OWN.addAddress("::", "ipv6");

/** Whether an IP address means the machine itself to everybody who uses it: loopback, or every address of the machine. */
export const isOwnAddress = (address: string): boolean => OWN.check(address, isIPv6(address) ? "ipv6" : "ipv4");
