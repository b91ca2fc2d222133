import type { ExecaChildProcess } from "execa";
import { readdirSync, readFileSync } from "fs";

/** Every process below `pid`, itself included, deepest first. */
export function processTree(pid: number): number[] {
  const children = new Map<number, number[]>();
  for (const entry of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, "utf8");
      const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
      children.set(parent, [...(children.get(parent) ?? []), Number(entry)]);
    } catch {
      // The process has ended meanwhile.
    }
  }
  const below = (of: number): number[] => (children.get(of) ?? []).flatMap((child) => [...below(child), child]);
  return [...below(pid), pid];
}

/** Kills a process and all below it, at once and without a chance to tidy up: a power cut, as far as they know. */
export function killTree(pid: number): void {
  // Stopped first, from the top: none is to see another one die, and tidy up after it.
  signalAll(processTree(pid).reverse(), "SIGSTOP");
  signalAll(processTree(pid), "SIGKILL");
}

function signalAll(victims: readonly number[], signal: NodeJS.Signals): void {
  for (const victim of victims) {
    try {
      process.kill(victim, signal);
    } catch {
      // Gone already.
    }
  }
}

/** Kills a running `up`, with all below it, as soon as its output matches. Fails when it ends before, or was not killed. */
export async function killWhen(child: ExecaChildProcess, marker: RegExp): Promise<void> {
  let seen = "";
  await new Promise<void>((resolve, reject) => {
    child.stdout?.on("data", (chunk: Buffer) => {
      seen += chunk.toString();
      if (marker.test(seen)) {
        resolve();
      }
    });
    void child.then((ended) =>
      reject(new Error(`up ended with ${ended.exitCode} before ${String(marker)}\n${ended.stdout}\n${ended.stderr}`)),
    );
  });
  killTree(child.pid ?? 0);
  expect((await child).signal).toBe("SIGKILL");
}
