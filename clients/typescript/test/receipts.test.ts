import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { acknowledge, HeraldError, MAX_RECEIPTS } from "../src/index.js";
import { envelope, StandIn, still } from "./standin.js";

let gateway: StandIn;
before(async () => void (gateway = await StandIn.start()));
after(() => gateway.stop());

const done = (...statuses: string[]) => ({ body: { results: statuses.map((status) => ({ status })) } });

test("pushes are acknowledged in one request without a token, and each is told what became of it", async () => {
  gateway.answers(done("received", "refused", "duplicate"));
  const at = new Date("2026-12-01T00:00:00Z");
  const statuses = await acknowledge(`${gateway.url}/`, ["one", {}, { receipt: "two", receivedAt: at }, { receipt: "three" }]);
  assert.deepEqual(statuses, ["received", "none", "refused", "duplicate"]);
  const asked = gateway.asked.at(-1);
  assert.equal(asked?.path, "/v1/receipts");
  assert.equal(asked?.headers["authorization"], undefined);
  const receivedAt = "2026-12-01T00:00:00.000Z";
  assert.deepEqual(asked?.body, { receipts: [{ capability: "one" }, { capability: "two", receivedAt }, { capability: "three" }] });
});

test("more than a request may hold go in several", async () => {
  const many = Array.from({ length: MAX_RECEIPTS + 1 }, (_, index) => `r${index}`);
  gateway.answers(done(...many.slice(0, MAX_RECEIPTS).map(() => "received")), done("late"));
  const statuses = await acknowledge(gateway.url, many);
  assert.equal(statuses.length, MAX_RECEIPTS + 1);
  assert.equal(statuses.at(-1), "late");
  assert.deepEqual(gateway.asked.slice(-2).map(({ body }) => body.receipts.length), [MAX_RECEIPTS, 1]);
});

test("nothing to acknowledge asks nothing", async () => {
  const before = gateway.asked.length;
  assert.deepEqual(await acknowledge(gateway.url, [{}, ""]), ["none", "none"]);
  assert.equal(gateway.asked.length, before);
});

test("a lost connection and troubles that pass are waited for, as long as the gateway asks", async () => {
  const { calls, slept } = still();
  const busy = { status: 429, headers: { "retry-after": "3" }, body: envelope("tooManyRequests") };
  const away = { status: 503, headers: { "retry-after": "Tue, 01 Dec 2026 00:00:08 GMT" }, body: "<html>" };
  gateway.answers({ drop: true }, busy, away, done("received"));
  assert.deepEqual(await acknowledge(gateway.url, ["one"], calls), ["received"]);
  // Half a second to begin with, halved by the dice; 3 s; then until the date.
  assert.deepEqual(slept, [250, 3000, 4750]);
});

test("waits grow, and after the last attempt the trouble is told", async () => {
  const { calls, slept } = still();
  gateway.answers({ status: 502, body: "<html>" }, { status: 502 }, { status: 502 }, { status: 502 });
  await assert.rejects(acknowledge(gateway.url, ["one"], calls), (error: HeraldError) => {
    return error.status === 502 && error.code === "badAnswer";
  });
  assert.deepEqual(slept, [250, 500, 1000]);
});

test("a wait that is longer than the app has is not begun", async () => {
  const { calls, slept } = still();
  gateway.answers({ status: 503, headers: { "retry-after": "60" }, body: envelope("unavailable") });
  await assert.rejects(acknowledge(gateway.url, ["one"], calls), (error: HeraldError) => error.about.retryAfterMs === 60_000);
  assert.deepEqual(slept, []);
});

test("a refusal is not repeated, and says what is meant", async () => {
  const { calls, slept } = still();
  const about = { field: "receipts[0].capability", problem: "is missing", fix: "give it" };
  gateway.answers({ status: 400, headers: { "request-id": "r-1" }, body: envelope("invalidRequest", about) });
  await assert.rejects(acknowledge(gateway.url, ["one"], calls), (error: HeraldError) => {
    assert.deepEqual(error.about, { ...about, requestId: "r-1" });
    return error.status === 400 && error.code === "invalidRequest" && error instanceof HeraldError;
  });
  assert.deepEqual(slept, []);
});

test("an answer that leaves a receipt out is no answer", async () => {
  gateway.answers(done("received"));
  await assert.rejects(acknowledge(gateway.url, ["one", "two"]), { code: "badAnswer" });
});
