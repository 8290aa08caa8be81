import assert from "node:assert/strict";
import { test } from "node:test";
import { Seen } from "../src/index.js";

function shelf(text: string | null = null) {
  return { text, read() { return this.text; }, async write(text: string) { this.text = text; } };
}

test("a notification is new once, whatever brings it, and after a restart too", async () => {
  const kept = shelf();
  const raw = { notificationId: "n-1", appNotificationId: "order-1042" };
  const seen = new Seen(kept);
  assert.deepEqual(await Promise.all([seen.look(raw), seen.look(raw)]), ["new", "known"], "at the same time");
  assert.equal(await new Seen(kept).look(raw), "known");
});

test("another notification about the same thing replaces it", async () => {
  const seen = new Seen(shelf());
  assert.equal(await seen.look({ notificationId: "n-1", appNotificationId: "order-1042" }), "new");
  assert.equal(await seen.look({ notificationId: "n-2", appNotificationId: "order-1042" }), "replaces");
  assert.equal(await seen.look({ notificationId: "n-2", appNotificationId: "order-1042" }), "known");
});

test("without an id of the app's server its own id tells it", async () => {
  const seen = new Seen(shelf());
  assert.equal(await seen.look({ notificationId: "n-1" }), "new");
  assert.equal(await seen.look({ notificationId: "n-1", appNotificationId: null }), "known");
  assert.equal(await seen.look({ notificationId: "n-2", appNotificationId: "n-1" }), "new", "an id of the app's server is none of Herald's");
});

test("the oldest are forgotten", async () => {
  const seen = new Seen(shelf(), 2);
  for (const notificationId of ["n-1", "n-2", "n-3"]) assert.equal(await seen.look({ notificationId }), "new");
  assert.equal(await seen.look({ notificationId: "n-2" }), "known");
  assert.equal(await seen.look({ notificationId: "n-1" }), "new");
});

test("what can't be read is begun anew, and what can't be written is told and not remembered", async () => {
  assert.equal(await new Seen(shelf("{broken")).look({ notificationId: "n-1" }), "new");
  assert.equal(await new Seen(shelf('[["n:n-1"],7]')).look({ notificationId: "n-1" }), "new");
  let full = true;
  const kept = { ...shelf(), write: () => { if (full) throw new Error("full"); } };
  const seen = new Seen(kept);
  await assert.rejects(seen.look({ notificationId: "n-1" }), /full/);
  full = false;
  assert.equal(await seen.look({ notificationId: "n-1" }), "new");
});
