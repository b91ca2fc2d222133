/** Whether an IP address is one by which a machine reaches itself alone. */
export const isLoopback = (address: string): boolean => /^127\.|^::1$/.test(address);
