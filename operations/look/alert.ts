import { findingsOf } from "../../core/judgement/findings";
import type { Limits } from "../../core/judgement/limits";
import { UserError } from "../errors";
import { placedHere } from "../engine/dockerHost";
import { diagnose, refuseUnlessUp } from "../engine/observe";
import { readStackConfig } from "../deploy/workspace";
import { type Alert, alertsOf } from "./documents";

export interface AlertOptions extends Limits {
  /** Where to post the alerts as JSON; only when there are any. */
  webhook?: string;
  json: boolean;
}

const WEBHOOK_SECONDS = 10;

/** `npm run alert`: one look, for cron. Exit code 0 all well, 1 alert, 2 could not tell. */
export async function alert(stack: string, options: AlertOptions): Promise<number> {
  const { json, webhook } = options;
  if (webhook !== undefined && !/^https?:$/.test(URL.canParse(webhook) ? new URL(webhook).protocol : "")) {
    // Now, and not in the night when there is something to tell.
    notPosted(webhook, "it is not an http or https URL");
  }
  let alerts: Alert[];
  try {
    const observed = await diagnose(placedHere(readStackConfig(stack)));
    refuseUnlessUp(stack, observed);
    alerts = alertsOf(findingsOf(observed, options));
  } catch (error) {
    if (!(error instanceof Error)) {
      throw error;
    }
    if (webhook !== undefined) {
      await post(webhook, stack, [{ node: "", kind: "could-not-tell", message: error.message, severity: "critical" }]).catch(
        (also: Error) => {
          throw new UserError(`${error.message}; ${also.message}`, 2);
        },
      );
    }
    throw new UserError(error.message, 2);
  }
  if (json) {
    console.log(JSON.stringify({ stack, alerts }, undefined, 2));
  } else {
    alerts.forEach((a) => console.log(lineOf(stack, a)));
  }
  if (alerts.length > 0 && webhook !== undefined) {
    await post(webhook, stack, alerts);
  }
  return alerts.length > 0 ? 1 : 0;
}

const lineOf = (stack: string, { message }: Alert): string => `ALERT: ${stack}: ${message}`;

/** @throws always. The URL of a webhook often is a secret, so the message repeats no more of it than its host. */
function notPosted(url: string, why: string): never {
  const host = URL.canParse(url) ? new URL(url).host : "";
  throw new UserError(`the alert could not be posted to the webhook at ${host || "that URL"}: ${why}`, 2);
}

/**
 * Posts the alerts as JSON, `text` being all of them as people read them: chat services show that.
 * A webhook that fails is no reason to call the stack well: the exit code becomes 2.
 */
async function post(url: string, stack: string, alerts: readonly Alert[]): Promise<void> {
  const answer = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ stack, text: alerts.map((a) => lineOf(stack, a)).join("\n"), alerts }),
    signal: AbortSignal.timeout(WEBHOOK_SECONDS * 1000),
  }).catch((error: Error & { cause?: { code?: string } }) =>
    // fetch's own message may hold the whole URL.
    notPosted(url, error.name === "TimeoutError" ? `no answer within ${WEBHOOK_SECONDS} s` : (error.cause?.code ?? "the request failed")),
  );
  if (!answer.ok) {
    notPosted(url, `it answered ${answer.status}`);
  }
}
