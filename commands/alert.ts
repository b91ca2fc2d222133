import { alertsOf, type Alert } from "../core/alerts";
import { assess } from "../core/topology";
import { UserError } from "./errors";
import { diagnose } from "./observe";
import { readStackConfig } from "./workspace";

export interface AlertOptions {
  /** Bytes of lag above which to alert. */
  lagBytes: number;
  /** Seconds of lag above which to alert. */
  lagSeconds: number;
  /** Where to post the alerts as JSON; only when there are any. */
  webhook?: string;
  json: boolean;
}

const WEBHOOK_SECONDS = 10;

/** `npm run alert`: one look, for cron. Exit code 0 all well, 1 alert, 2 could not tell. */
export async function alert(stack: string, options: AlertOptions): Promise<number> {
  let alerts: Alert[];
  try {
    const observed = await diagnose(readStackConfig(stack));
    if (observed.every((node) => node.containerState === null)) {
      throw new UserError(`stack "${stack}" is not up. Run: npm run up -- --stack ${stack}`);
    }
    alerts = alertsOf(assess(stack, observed), observed, options);
  } catch (error) {
    throw error instanceof Error ? new UserError(error.message, 2) : error;
  }
  if (options.json) {
    console.log(JSON.stringify({ stack, alerts }, undefined, 2));
  } else {
    alerts.forEach((a) => console.log(`ALERT: ${stack}: ${a.message}`));
  }
  if (alerts.length > 0 && options.webhook !== undefined) {
    await post(options.webhook, { stack, alerts });
  }
  return alerts.length > 0 ? 1 : 0;
}

/** Posts the alerts. A webhook that fails is no reason to call the stack well: the exit code becomes 2. */
async function post(url: string, body: unknown): Promise<void> {
  // The URL of a webhook often is a secret, so no message repeats more of it than its host.
  const host = URL.canParse(url) ? new URL(url).host : "";
  const failed = (why: string): never => {
    throw new UserError(`the alert could not be posted to the webhook at ${host || "that URL"}: ${why}`, 2);
  };
  if (!/^https?:$/.test(URL.canParse(url) ? new URL(url).protocol : "")) {
    failed("it is no http or https URL");
  }
  const answer = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(WEBHOOK_SECONDS * 1000),
  }).catch((error: Error & { cause?: { code?: string } }) =>
    // fetch's own message may hold the whole URL.
    failed(error.name === "TimeoutError" ? `no answer within ${WEBHOOK_SECONDS} s` : (error.cause?.code ?? "the request failed")),
  );
  if (!answer.ok) {
    failed(`it answered ${answer.status}`);
  }
}
