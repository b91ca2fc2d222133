import { createServer, type IncomingMessage, type RequestListener, type Server } from "http";
import type { AddressInfo } from "net";
import { alert, type AlertOptions } from "../../operations/look/alert";
import { UserError } from "../../operations/errors";
import * as observing from "../../operations/engine/observe";
import { primary, silent, standby } from "./observations";

jest.mock("../../operations/engine/observe", () => ({
  ...jest.requireActual<object>("../../operations/engine/observe"),
  observe: jest.fn(),
  diagnose: jest.fn(),
}));
const observe = jest.mocked(observing.diagnose);

const HEALTHY = [primary("pg1", ["pg2"]), standby("pg2")];
const BROKEN = [primary("pg1", []), silent("pg2", "exited")];
const SECRET = "T0ken/of-the-webhook";

interface Posted {
  method: string | undefined;
  url: string | undefined;
  type: string | undefined;
  body: unknown;
}

let server: Server;
let base: string;
let posted: Posted[];
let answer: RequestListener;
let printed: string[];

async function textOf(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of request) {
    parts.push(part as Buffer);
  }
  return Buffer.concat(parts).toString("utf8");
}

beforeAll(async () => {
  server = createServer((request, response) => {
    void textOf(request).then((text) => {
      posted.push({ method: request.method, url: request.url, type: request.headers["content-type"], body: JSON.parse(text) as unknown });
      answer(request, response);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(
  () =>
    new Promise((resolve) => {
      server.closeAllConnections();
      server.close(resolve);
    }),
);
beforeEach(() => {
  posted = [];
  printed = [];
  observe.mockReset();
  answer = (_request, response) => response.writeHead(204).end();
  jest.spyOn(console, "log").mockImplementation((line: string) => void printed.push(line));
});
afterEach(() => jest.restoreAllMocks());

const run = (options: Partial<AlertOptions> = {}): Promise<number> =>
  alert("dev", { lagBytes: 1000, lagSeconds: 60, json: false, ...options });
/** How the command fails. */
async function failure(options: Partial<AlertOptions>): Promise<UserError> {
  const error: unknown = await run(options).then(
    (code) => `it ended with ${code}`,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(UserError);
  return error as UserError;
}

describe("alert", () => {
  test("says nothing and succeeds when all is well, and posts nothing", async () => {
    observe.mockResolvedValue(HEALTHY);
    expect(await run({ webhook: `${base}/hook` })).toBe(0);
    expect(printed).toEqual([]);
    expect(posted).toEqual([]);
  });

  test("prints a line for each alert and ends with 1", async () => {
    observe.mockResolvedValue(BROKEN);
    expect(await run()).toBe(1);
    expect(printed).toEqual(["ALERT: dev: no standby streams from pg1", "ALERT: dev: pg2: its container is exited"]);
  });

  test("prints JSON when asked to, also when there is nothing to tell", async () => {
    observe.mockResolvedValue(HEALTHY);
    expect(await run({ json: true })).toBe(0);
    expect(printed.map((text) => JSON.parse(text) as unknown)).toEqual([{ stack: "dev", alerts: [] }]);
  });

  test("uses the limits that it is given", async () => {
    observe.mockResolvedValue([primary("pg1", ["pg2"], { replicas: [] }), standby("pg2", { replayLsn: "0/4FFFFFF" })]);
    await run({ lagBytes: 0 });
    expect(printed).toContain("ALERT: dev: pg2: it is 1 bytes behind pg1, more than 0");
    printed = [];
    await run({ lagBytes: 1 });
    expect(printed.filter((line) => line.includes("behind"))).toEqual([]);
  });

  test("cannot tell, exit code 2, when the stack is not up", async () => {
    observe.mockResolvedValue([silent("pg1", null), silent("pg2", null)]);
    const error = await failure({ webhook: `${base}/hook` });
    expect([error.exitCode, error.message]).toEqual([2, 'stack "dev" is not up. Run: npm run up -- --stack dev']);
  });

  test("posts that it cannot tell: silence would be good news", async () => {
    observe.mockRejectedValue(new UserError("the Docker engine does not answer", 2));
    expect(await failure({ webhook: `${base}/hook` })).toMatchObject({ exitCode: 2, message: "the Docker engine does not answer" });
    expect(posted.map(({ body }) => body)).toEqual([
      {
        stack: "dev",
        text: "ALERT: dev: the Docker engine does not answer",
        alerts: [{ node: "", kind: "could-not-tell", message: "the Docker engine does not answer", severity: "critical" }],
      },
    ]);
  });

  test("says both when it cannot tell and cannot post that either", async () => {
    observe.mockRejectedValue(new UserError("the Docker engine does not answer", 2));
    answer = (_request, response) => response.writeHead(500).end();
    expect((await failure({ webhook: `${base}/hook` })).message).toMatch(
      /^the Docker engine does not answer; the alert could not be posted to the webhook at .*: it answered 500$/,
    );
  });

  test("refuses a webhook that cannot be one at once, not when there is something to tell", async () => {
    observe.mockResolvedValue(HEALTHY);
    expect(await failure({ webhook: "htp://example.com/hook" })).toMatchObject({
      exitCode: 2,
      message: "the alert could not be posted to the webhook at example.com: it is not an http or https URL",
    });
    expect(observe).not.toHaveBeenCalled();
  });

  test("cannot tell, exit code 2, when Docker does not answer or the config is wrong", async () => {
    observe.mockRejectedValue(new Error("the Docker engine does not answer"));
    expect(await failure({})).toMatchObject({ exitCode: 2, message: "the Docker engine does not answer" });
    await expect(alert("no-such", { lagBytes: 1, lagSeconds: 1, json: false })).rejects.toMatchObject({ exitCode: 2 });
  });
});

describe("a webhook", () => {
  beforeEach(() => observe.mockResolvedValue(BROKEN));

  test("gets the alerts once: the JSON that is printed, and a text for people", async () => {
    expect(await run({ json: true, webhook: `${base}/${SECRET}` })).toBe(1);
    const text = "ALERT: dev: no standby streams from pg1\nALERT: dev: pg2: its container is exited";
    const body: unknown = { ...(JSON.parse(printed[0] ?? "") as object), text };
    expect(posted).toEqual([{ method: "POST", url: `/${SECRET}`, type: "application/json", body }]);
    expect(posted[0]?.body).toMatchObject({ stack: "dev", alerts: [{ kind: "no-replica" }, { kind: "node-down", node: "pg2" }] });
  });

  test.each([400, 404, 500, 503])("that answers %i fails the command with 2, and the alerts are printed all the same", async (status) => {
    answer = (_request, response) => response.writeHead(status).end("no");
    const error = await failure({ webhook: `${base}/${SECRET}` });
    expect(error.exitCode).toBe(2);
    expect(error.message).toContain(`it answered ${status}`);
    expect(error.message).toContain(base.slice("http://".length));
    expect(printed).toHaveLength(2);
  });

  test("that breaks the connection off fails the command with 2", async () => {
    answer = (request) => request.socket.destroy();
    expect((await failure({ webhook: `${base}/${SECRET}` })).exitCode).toBe(2);
  });

  describe("is a secret, of which a failure repeats no more than the host:", () => {
    test.each<[string, () => string]>([
      ["one that answers no", () => `${base}/${SECRET}?key=${SECRET}`],
      ["one where nobody listens", () => `http://127.0.0.1:1/${SECRET}`],
      ["one with a password in it", () => `${base.replace("://", `://me:${encodeURIComponent(SECRET)}@`)}/${SECRET}`],
      ["one of another protocol", () => `ftp://127.0.0.1/${SECRET}`],
      ["one that is a file's", () => `file:///${SECRET}`],
      ["one that is no URL", () => `127.0.0.1/${SECRET}`],
      ["one that is cut off", () => `http://[::1/${SECRET}`],
    ])("%s", async (_what, url) => {
      answer = (_request, response) => response.writeHead(403).end(SECRET);
      const error = await failure({ webhook: url() });
      expect(error.exitCode).toBe(2);
      expect(error.message).toMatch(/^the alert could not be posted to the webhook at /);
      expect(error.message).not.toContain(SECRET);
      expect(error.message).not.toContain(encodeURIComponent(SECRET));
    });
  });
});
