/**
 * One call to the gateway: sent, read, and sent again where that is harmless. Every call of this package is one whose
 * repetition changes nothing, so an answer that got lost may always be asked for again.
 */

/** Time as this package sees it, so that a test can stand still. */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number;
  /** Waits so many milliseconds. */
  sleep(ms: number): Promise<void>;
  /** At least 0, less than 1. */
  random(): number;
}

/** The platform's. */
export const systemClock: Clock = {
  now: () => Date.now(),
  sleep: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
  random: () => Math.random(),
};

/** How calls are made. */
export interface Calls {
  /** Instead of the platform's `fetch`. */
  readonly fetch?: typeof fetch;
  readonly clock?: Clock;
  /** Attempts in all, the first one included. Default 4. */
  readonly attempts?: number;
  /**
   * The longest that a call may take with all its attempts, in milliseconds: an answer that asks to wait beyond it is given
   * back at once. Default 25,000, within the 30 s that iOS gives an app in the background.
   */
  readonly limitMs?: number;
}

/** What the gateway answered instead of doing what it was asked: Graph's envelope. */
export class HeraldError extends Error {
  override readonly name = "HeraldError";
  constructor(
    /** The HTTP status; 0 if there was no answer. */
    readonly status: number,
    /** The word to branch on, as `invalidRequest`, `notFound`, `syncStateNotFound`; `noAnswer`, `badAnswer`. */
    readonly code: string,
    message: string,
    /** What of the request is meant, what is wrong with it, and what to do, where the gateway says so. */
    readonly about: { field?: string; problem?: string; fix?: string; requestId?: string; retryAfterMs?: number } = {},
    cause?: unknown,
  ) {
    super(message, cause === undefined ? undefined : { cause });
  }
}

/** A call. */
export interface Request {
  readonly method: "GET" | "POST" | "PATCH" | "DELETE";
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly json?: unknown;
  /** A new token was asked for after a 401: what to send in its place. `undefined`: there is none. */
  readonly renewed?: () => Promise<string | undefined>;
}

/** The answer to a call that was done. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
}

const FIRST_WAIT_MS = 500;

/** Sends it, again after a lost connection, 408, 429, 5xx but 500 (and 406, Graph's word for 429); else throws. */
export async function call(request: Request, calls: Calls): Promise<Answer> {
  const clock = calls.clock ?? systemClock;
  const end = clock.now() + (calls.limitMs ?? 25_000);
  const attempts = calls.attempts ?? 4;
  let headers: Record<string, string> = { accept: "application/json", ...request.headers };
  let renewed = request.renewed;
  for (let attempt = 1; ; attempt += 1) {
    let error: HeraldError;
    try {
      const answer = await once(request, headers, calls, Math.max(1, end - clock.now()));
      if (answer.status < 300) return answer;
      error = refusal(answer, clock.now());
    } catch (cause) {
      error = new HeraldError(0, "noAnswer", "the gateway gave no answer", {}, cause);
    }
    if (error.status === 401 && renewed !== undefined) {
      const token = await renewed();
      renewed = undefined;
      if (token === undefined) throw error;
      headers = { ...headers, authorization: `Bearer ${token}` };
      continue;
    }
    if (!isPassing(error) || attempt >= attempts) throw error;
    const wait = error.about.retryAfterMs ?? FIRST_WAIT_MS * 2 ** (attempt - 1) * (0.5 + clock.random() / 2);
    if (clock.now() + wait >= end) throw error;
    await clock.sleep(wait);
  }
}

async function once(request: Request, headers: Record<string, string>, calls: Calls, ms: number): Promise<Answer> {
  const init: RequestInit = { method: request.method, headers, redirect: "error", signal: AbortSignal.timeout(ms) };
  if (request.json !== undefined) {
    init.body = JSON.stringify(request.json);
    init.headers = { ...headers, "content-type": "application/json" };
  }
  const answer = await (calls.fetch ?? fetch)(request.url, init);
  return { status: answer.status, headers: answer.headers, text: await answer.text() };
}

/** Is it over by itself? */
function isPassing(error: HeraldError): boolean {
  const { status } = error;
  if (status === 406) return error.about.retryAfterMs !== undefined;
  return status === 0 || status === 408 || status === 429 || (status > 500 && status !== 501);
}

function refusal(answer: Answer, now: number): HeraldError {
  let error: Record<string, unknown> = {};
  try {
    error = (JSON.parse(answer.text) as { error?: Record<string, unknown> }).error ?? {};
  } catch {
    // A proxy's page: its status says all.
  }
  const text = (value: unknown) => (typeof value === "string" ? value : undefined);
  const about = {
    field: text(error["field"]),
    problem: text(error["problem"]),
    fix: text(error["fix"]),
    requestId: answer.headers.get("request-id") ?? undefined,
    retryAfterMs: retryAfter(answer.headers.get("retry-after"), now),
  };
  const known = Object.fromEntries(Object.entries(about).filter(([, value]) => value !== undefined));
  const message = text(error["message"]) ?? `the gateway answered ${answer.status}`;
  return new HeraldError(answer.status, text(error["code"]) ?? "badAnswer", message, known);
}

/** `Retry-After` as seconds or as a date, in milliseconds from now. */
function retryAfter(value: string | null, now: number): number | undefined {
  if (value === null) return undefined;
  if (/^\d+$/.test(value.trim())) return Number(value) * 1000;
  const date = Date.parse(value);
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}

/** A body that must be JSON. */
export function json(answer: Answer): Record<string, unknown> {
  try {
    const body: unknown = JSON.parse(answer.text);
    if (typeof body === "object" && body !== null) return body as Record<string, unknown>;
  } catch {
    // Said below.
  }
  throw new HeraldError(answer.status, "badAnswer", `the gateway answered ${answer.status} without JSON`);
}
