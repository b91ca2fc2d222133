import { spawnSync } from "child_process";
import { existsSync, readFileSync, readlinkSync } from "fs";
import { hostname } from "os";
import { basename } from "path";

/** What tells a machine, and the numbers of its processes, from others. What this system does not have is empty. */
export interface Machine {
  host: string;
  /** Stays the same when the machine is booted again: two machines may have one host name. */
  machine: string;
  /** Another one after each boot. */
  boot: string;
  /** The namespace of the process numbers: a container with the host's name may have numbers of its own. */
  pids: string;
}

/** What the system says of a living process. */
interface Process {
  parent: number;
  /** When it was started, in the system's own words: another process that gets the number has another one. */
  start: string;
  /** The names under which its program runs. */
  names: string[];
}

const text = (file: string): string => {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return ""; // not on this system
  }
};

/** The machine on which this process runs. */
export function thisMachine(): Machine {
  let pids = "";
  try {
    pids = readlinkSync("/proc/self/ns/pid");
  } catch {
    // Not Linux: there are no namespaces.
  }
  return {
    host: hostname(),
    machine: text("/etc/machine-id").trim(),
    boot: text("/proc/sys/kernel/random/boot_id").trim(),
    pids,
  };
}

/**
 * A process of this machine.
 * @param proc Where Linux tells of processes. Without that, `ps` is asked.
 * @returns undefined when it is dead, or when this user is told nothing about it.
 */
function look(pid: number, proc: string): Process | undefined {
  if (existsSync(`${proc}/self/stat`)) {
    const stat = text(`${proc}/${pid}/stat`);
    // pid (name) state parent …: the name may hold blanks and parentheses.
    const end = stat.lastIndexOf(")");
    const rest = stat.slice(end + 2).split(" ");
    const [state, parent] = rest;
    const start = rest[19];
    if (start === undefined || state === "Z" || state === "X") {
      return undefined; // a zombie has ended; only nobody has asked yet how
    }
    const program = text(`${proc}/${pid}/cmdline`).split("\0")[0] ?? "";
    return { parent: Number(parent), start, names: [stat.slice(stat.indexOf("(") + 1, end), basename(program)] };
  }
  const ps = (columns: string): string =>
    spawnSync("ps", ["-o", columns, "-p", String(pid)], { encoding: "utf8", timeout: 5_000, env: { ...process.env, LC_ALL: "C" } })
      .stdout ?? "";
  const [, state, parent, name] = /^\s*(\S+)\s+(\d+)\s+(.*\S)\s*$/m.exec(ps("stat=,ppid=,comm=")) ?? [];
  if (state === undefined || state.startsWith("Z")) {
    return undefined;
  }
  return { parent: Number(parent), start: ps("lstart=").trim(), names: [basename(name ?? "")] };
}

/** When a process was started, in words that only this system understands; empty when it is dead or cannot be seen. */
export function startOf(pid: number, proc = "/proc"): string {
  return look(pid, proc)?.start ?? "";
}

/**
 * Whether a process of this machine lives and is still the one that was meant.
 * @param start What {@link startOf} said of it.
 */
export function isSame(pid: number, start: string, proc = "/proc"): boolean {
  const found = look(pid, proc);
  if (found !== undefined) {
    return start === "" || found.start === start;
  }
  try {
    process.kill(pid, 0);
  } catch (error) {
    // Another user's process, on a system that hides it: alive as far as anybody can tell.
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
  return false; // a zombie
}

/** The nearest `pulumi` process above this one; undefined when Pulumi did not start it. */
export function pulumiProcess(proc = "/proc"): number | undefined {
  let pid = process.ppid;
  // Bounded, in case a process goes while its children are looked at.
  for (let i = 0; i < 100 && pid > 1; i++) {
    const found = look(pid, proc);
    if (found === undefined) {
      return undefined;
    }
    if (found.names.includes("pulumi")) {
      return pid;
    }
    pid = found.parent;
  }
  return undefined;
}
