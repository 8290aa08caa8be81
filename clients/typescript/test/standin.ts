/** A gateway that answers from a script and remembers what it was asked. */

import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Calls, Clock } from "../src/index.js";

/** What it was asked. */
export interface Asked {
  readonly method: string;
  /** Path and query, decoded. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: any;
}

/** What it answers; `drop` closes the connection instead. */
export interface Scripted {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  readonly drop?: boolean;
}

export class StandIn {
  readonly asked: Asked[] = [];
  readonly #script: Scripted[] = [];
  readonly #server: Server;

  private constructor() {
    this.#server = createServer(async (request, response) => {
      let text = "";
      for await (const chunk of request) text += chunk;
      const body: unknown = text === "" ? undefined : JSON.parse(text);
      this.asked.push({ method: request.method ?? "", path: decodeURIComponent(request.url ?? ""), headers: request.headers, body });
      const { status = 200, headers = {}, body: answer, drop = false } = this.#script.shift() ?? { status: 500 };
      if (drop) return void request.socket.destroy();
      response.writeHead(status, { connection: "close", ...headers });
      response.end(answer === undefined || typeof answer === "string" ? answer : JSON.stringify(answer));
    });
  }

  static async start(): Promise<StandIn> {
    const standIn = new StandIn();
    await new Promise<void>((resolve) => standIn.#server.listen(0, "127.0.0.1", resolve));
    return standIn;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** The next answers, in this order. */
  answers(...script: Scripted[]): void {
    this.#script.push(...script);
  }

  stop(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

/** A clock that goes on only when somebody sleeps, and what was slept. */
export function still(): { calls: Calls; slept: number[] } {
  const slept: number[] = [];
  let now = Date.parse("2026-12-01T00:00:00Z");
  const clock: Clock = {
    now: () => now,
    sleep: async (ms) => {
      slept.push(ms);
      now += ms;
    },
    random: () => 0,
  };
  return { calls: { clock }, slept };
}

/** Graph's envelope. */
export function envelope(code: string, more: object = {}): unknown {
  return { error: { code, message: `${code}: said by the gateway`, ...more } };
}
