import { bytesText } from "../../core/grammar/bytes";
import { lsnDiff } from "../../core/grammar/lsn";
import type { Observation } from "../../core/judgement/observation";
import { placedHere } from "../engine/dockerHost";
import { diagnose } from "../engine/observe";
import { CLOCK } from "../engine/poll";
import { render } from "./status";
import { readStackConfig } from "../deploy/workspace";
import { assess, type Status } from "./documents";

export interface MonitorOptions {
  /** Seconds between two looks. */
  interval: number;
  /** How many looks; endless when undefined. */
  count?: number;
  json: boolean;
}

/** One look at the stack. */
export interface Sample {
  time: string;
  primary: string | null;
  /** Bytes of WAL that the primary wrote per second since the look before; null at the first one, and when another node is primary. */
  walBytesPerSecond: number | null;
  /** Per standby: bytes written and not replayed. */
  lagBytes: Record<string, number | null>;
  problems: Status["problems"];
}

/** How many looks the graph shows. */
const HISTORY = 60;
const BARS = "▁▂▃▄▅▆▇█";

/** A line of bars, the highest value a full bar; `·` where nothing is known. */
export function sparkline(values: readonly (number | null)[]): string {
  const most = Math.max(1, ...values.map((value) => value ?? 0));
  return values
    .map((value) => (value === null ? "·" : BARS[Math.max(0, Math.min(BARS.length - 1, Math.floor((value / most) * BARS.length)))]))
    .join("");
}

/** The WAL rate between two looks: a difference over time, on one and the same primary. */
export function walRate(before: Look | undefined, now: Look): number | null {
  if (before === undefined || before.lsn === null || now.lsn === null || before.primary !== now.primary || now.at <= before.at) {
    return null;
  }
  return Number(lsnDiff(now.lsn, before.lsn)) / ((now.at - before.at) / 1000);
}

/** What the rate is computed from. */
export interface Look {
  /** Milliseconds. */
  at: number;
  primary: string | null;
  lsn: string | null;
}

/** `npm run monitor`: watches until it is interrupted, or `count` times. Returns the exit code. */
export async function monitor(stack: string, options: MonitorOptions): Promise<number> {
  const config = placedHere(readStackConfig(stack));
  const history: Sample[] = [];
  // An ES module, loaded only where it is of use.
  const draw = process.stdout.isTTY && !options.json ? (await import("log-update")).default : undefined;
  let before: Look | undefined;
  for (let round = 1; ; round++) {
    const observed = await diagnose(config);
    const status = assess(stack, observed);
    const look = lookOf(status, observed);
    const sample: Sample = {
      time: new Date(look.at).toISOString(),
      primary: status.primary,
      walBytesPerSecond: walRate(before, look),
      lagBytes: Object.fromEntries(status.nodes.filter((n) => n.role !== "primary").map((n) => [n.name, n.lagBytes])),
      problems: status.problems,
    };
    before = look;
    history.push(sample);
    history.splice(0, history.length - HISTORY);
    print(status, history, options, draw);
    if (round === options.count) {
      return 0;
    }
    await CLOCK.pause(options.interval * 1000);
  }
}

function lookOf(status: Status, observed: readonly Observation[]): Look {
  return { at: performance.now(), primary: status.primary, lsn: observed.find((n) => n.name === status.primary)?.server?.lsn ?? null };
}

/** @param draw Shows a text in place of the one before; undefined where there is no terminal. */
function print(status: Status, history: readonly Sample[], options: MonitorOptions, draw: ((text: string) => void) | undefined): void {
  const sample = history.at(-1);
  if (sample === undefined) {
    return;
  }
  const rate = sample.walBytesPerSecond === null ? "-" : `${bytesText(sample.walBytesPerSecond)}/s`;
  if (options.json) {
    console.log(JSON.stringify(sample));
  } else if (draw !== undefined) {
    const lines = Object.keys(sample.lagBytes).map((name) => {
      const lag = sample.lagBytes[name];
      return `${name.padEnd(12)} lag ${(lag == null ? "-" : bytesText(lag)).padEnd(10)} ${sparkline(history.map((s) => s.lagBytes[name] ?? null))}`;
    });
    const wal = `${"WAL".padEnd(12)}     ${rate.padEnd(10)} ${sparkline(history.map((s) => s.walBytesPerSecond))}`;
    draw([`${sample.time}   every ${options.interval} s, Ctrl-C ends`, render(status), wal, ...lines].join("\n"));
  } else {
    const lags = Object.entries(sample.lagBytes).map(([name, lag]) => `${name} ${lag === null ? "-" : bytesText(lag)}`);
    console.log(
      `${sample.time} primary ${sample.primary ?? "none"}, WAL ${rate}, lag ${lags.join(", ")}${sample.problems.length === 0 ? "" : `, ${sample.problems.length} problems`}`,
    );
  }
}
