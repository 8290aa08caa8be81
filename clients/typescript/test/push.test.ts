import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { FORMS, parsePush, screenId } from "../src/index.js";

const id = "00000000-0000-0000-0000-000000000007";
const raw = { version: 1, form: "raw", notificationId: id, appNotificationId: "order-1042", groupName: "orders", displayTimeToLive: 600, receipt: "AQ", content: "raw" };

test("a push is read from APNs' userInfo, from FCM's data and from an FCM message", () => {
  const expected = { known: true, fetch: false, ...raw };
  assert.deepEqual(parsePush({ aps: { "content-available": 1 }, herald: raw }), expected);
  assert.deepEqual(parsePush({ herald: JSON.stringify(raw) }), expected);
  assert.deepEqual(parsePush({ messageId: "1", data: { herald: JSON.stringify(raw) } }), expected);
});

test("what a push doesn't say is absent", () => {
  for (const form of FORMS) {
    const push = parsePush({ herald: { version: 1, form, notificationId: id, receipt: "", fetch: true } });
    assert.deepEqual(push, { known: true, version: 1, form, notificationId: id, fetch: true });
  }
});

test("an empty content is content", () => {
  assert.equal((parsePush({ herald: { ...raw, content: "" } }) as { content?: string }).content, "");
});

test("a push of a later version says that there is something to fetch, and can be acknowledged", () => {
  const later = { known: false, fetch: true, notificationId: id, receipt: "AQ" };
  assert.deepEqual(parsePush({ herald: { ...raw, version: 2 } }), { ...later, version: 2 });
  assert.deepEqual(parsePush({ herald: { ...raw, form: "hologram" } }), { ...later, version: 1 });
  assert.deepEqual(parsePush({ herald: { version: 3 } }), { known: false, version: 3, fetch: true });
});

test("what is not Herald's, or broken, is null", () => {
  const { notificationId: _, ...without } = raw;
  const others = [
    null, undefined, 7, "herald", [], {}, { aps: {} }, { data: {} }, { herald: null }, { herald: [] }, { herald: "{" },
    { herald: "[]" }, { herald: { ...raw, version: "1" } }, { herald: { ...raw, version: 0 } }, { herald: without }, { data: { other: "x" } },
  ];
  for (const other of others) assert.equal(parsePush(other), null, JSON.stringify(other));
});

test("the schema's examples are read as it describes them", () => {
  // Beside the docs in a checkout; the test of another folder says where.
  const file = process.env["HERALD_SCHEMA"] ?? new URL("../../../../docs/app-side.schema.json", import.meta.url);
  const schema = JSON.parse(readFileSync(file, "utf8")) as { examples: Record<string, unknown>[]; properties: Record<string, unknown> };
  assert.ok(schema.examples.length >= 4);
  for (const example of schema.examples) {
    const push = parsePush({ herald: example }) as unknown as Record<string, unknown> | null;
    assert.ok(push !== null && push["known"] === true, JSON.stringify(example));
    for (const [key, value] of Object.entries(example)) assert.deepEqual(push[key], value, key);
  }
  const read = Object.keys({ ...parsePush({ herald: { ...raw, fetch: true } }) }).filter((key) => key !== "known");
  assert.deepEqual(read.sort(), Object.keys(schema.properties).sort(), "each key of the contract is read");
});

test("the identifier on the screen is the one that Herald gives the toast", async () => {
  // Pinned in crates/herald-core/src/payload/tests.rs as well.
  const order = { notificationId: id, appNotificationId: "order-1042" };
  assert.equal(await screenId("mail.contoso.com", "user-1", order), "hs2Vyq7eIOusvtlHuJYAPuuOaUn37ssiQBbCK1OKRcs");
  const other = await screenId("mail.contoso.com", "user-1", { notificationId: id });
  assert.match(other, /^[\w-]{43}$/);
  await assert.rejects(screenId("a", "b", { notificationId: "x" }), TypeError);
});
