import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { HeraldClient, HeraldError, type Device } from "../src/index.js";
import { envelope, StandIn, still } from "./standin.js";

let gateway: StandIn;
before(async () => void (gateway = await StandIn.start()));
after(() => gateway.stop());

const phone: Device = { platform: "ios", pushToken: "00ff", environment: "sandbox" };
const subscribed = { userNotificationSubscriptionId: "unsid-1", expirationDateTime: "2027-03-01T00:00:00Z", platform: "ios" };

function client(unsid?: string, token = (renew: boolean) => (renew ? "second" : "first")): HeraldClient {
  return new HeraldClient({ baseUrl: gateway.url, token, ...still().calls, ...(unsid === undefined ? {} : { unsid }) });
}

function last(): { method: string; path: string; body: any; headers: any } {
  const asked = gateway.asked.at(-1);
  assert.ok(asked);
  return asked;
}

test("a phone subscribes once and renews what it has", async () => {
  const herald = client();
  gateway.answers({ status: 201, body: subscribed }, { status: 200, body: subscribed });
  assert.equal((await herald.subscribe(phone)).userNotificationSubscriptionId, "unsid-1");
  assert.deepEqual([last().method, last().path, last().body], ["POST", "/v1/subscriptions", phone]);
  assert.equal(last().headers["authorization"], "Bearer first");
  assert.equal(herald.unsid, "unsid-1");
  await herald.renew(phone);
  assert.deepEqual(last().body, { ...phone, userNotificationSubscriptionId: "unsid-1" });
});

test("a phone whose subscription is not its own any more gets a new one", async () => {
  const herald = client("of another person");
  gateway.answers({ status: 404, body: envelope("notFound") }, { status: 201, body: subscribed });
  await herald.subscribe(phone);
  assert.deepEqual(last().body, phone);
  assert.equal(herald.unsid, "unsid-1");
});

test("a phone tells its new token and signs out", async () => {
  const herald = client("unsid-1");
  gateway.answers({ status: 200, body: subscribed }, { status: 204 });
  await herald.update({ pushToken: "11ff", deviceState: { lowPowerMode: true } });
  assert.deepEqual([last().method, last().path], ["PATCH", "/v1/subscriptions/unsid-1"]);
  assert.deepEqual(last().body, { pushToken: "11ff", deviceState: { lowPowerMode: true } });
  await herald.unsubscribe();
  assert.deepEqual([last().method, last().path], ["DELETE", "/v1/subscriptions/unsid-1"]);
  assert.equal(herald.unsid, undefined);
  await assert.rejects(herald.update({}), TypeError);
});

test("a list is asked for as Graph's is, and says which phone asks", async () => {
  const herald = client("unsid-1");
  const value = [{ id: "a" }];
  gateway.answers({ body: { value, "@odata.count": 21, "@odata.nextLink": "https://push.contoso.com/x/v1.0/me/notifications?$skiptoken=s%20t" } });
  const filter = { readState: false, userActionState: "NoInteraction", groupName: "Anna's" } as const;
  const page = await herald.list({ top: 5, count: true, filter });
  const asked = "readState eq false and userActionState eq 'NoInteraction' and groupName eq 'Anna''s'";
  assert.equal(last().path, `/v1.0/me/notifications?$top=5&$count=true&$filter=${asked}`);
  assert.equal(last().headers["x-uns-id"], "unsid-1");
  assert.deepEqual([page.value, page.count], [value, 21]);
  gateway.answers({ body: { value: [] } });
  const next = await herald.next(page.nextLink ?? "");
  assert.equal(last().path, "/v1.0/me/notifications?$skiptoken=s t", "at the address that the app was given");
  assert.deepEqual(next, { value: [] });
});

test("a link to somewhere else is not followed", async () => {
  const before = gateway.asked.length;
  await assert.rejects(client().next("https://elsewhere.example/steal"), HeraldError);
  assert.equal(gateway.asked.length, before);
});

test("without options and without a subscription nothing is said of them", async () => {
  gateway.answers({ body: { value: [] } }, { body: "3" });
  await client().list();
  assert.equal(last().path, "/v1.0/me/notifications");
  assert.equal(last().headers["x-uns-id"], undefined);
  assert.equal(await client().count(), 3);
  assert.equal(last().path, "/v1.0/me/notifications/$count");
});

test("changes are read to the end, and later only what changed since", async () => {
  const herald = client("unsid-1");
  gateway.answers(
    { body: { value: [{ id: "a" }], "@odata.nextLink": "/v1.0/me/notifications/delta?$skiptoken=2" } },
    { body: { value: [{ id: "b" }], "@odata.deltaLink": "/v1.0/me/notifications/delta?$deltatoken=7" } },
    { body: { value: [{ id: "a", "@removed": { reason: "deleted" } }], "@odata.deltaLink": "/v1.0/me/notifications/delta?$deltatoken=8" } },
  );
  const all = await herald.delta();
  assert.deepEqual([all.changed.map(({ id }) => id), all.removed, all.complete], [["a", "b"], [], true]);
  const since = await herald.delta(all.deltaLink);
  assert.equal(last().path, "/v1.0/me/notifications/delta?$deltatoken=7");
  assert.deepEqual([since.changed, since.removed, since.complete], [[], ["a"], false]);
});

test("changes begin anew when the link is too old, and now when only new ones are wanted", async () => {
  const herald = client();
  const link = "/v1.0/me/notifications/delta?$deltatoken=9";
  gateway.answers({ status: 410, body: envelope("syncStateNotFound") }, { body: { value: [{ id: "a" }], "@odata.deltaLink": link } });
  const anew = await herald.delta("/v1.0/me/notifications/delta?$deltatoken=1");
  assert.deepEqual([anew.changed.length, anew.complete], [1, true]);
  gateway.answers({ body: { value: [], "@odata.deltaLink": link } });
  await herald.delta("latest");
  assert.equal(last().path, "/v1.0/me/notifications/delta?$deltatoken=latest");
});

test("what the person did is said in Graph's words, and with the etag if it matters", async () => {
  const herald = client("unsid-1");
  const path = "/v1.0/me/notifications/n-1";
  const check = async (done: Promise<unknown>, method: string, body: unknown, etag?: string) => {
    await done;
    assert.deepEqual([last().method, last().path, last().body, last().headers["if-match"]], [method, path, body, etag]);
    assert.equal(last().headers["x-uns-id"], "unsid-1", "this phone gets no state push");
  };
  const changed = { body: { id: "n-1" } };
  gateway.answers(changed, changed, changed, changed, changed, { status: 204 });
  await check(herald.get("n-1"), "GET", undefined);
  await check(herald.markRead("n-1"), "PATCH", { readState: true });
  await check(herald.markRead("n-1", false, 'W/"1"'), "PATCH", { readState: false }, 'W/"1"');
  await check(herald.dismiss("n-1"), "PATCH", { userActionState: "Dismissed" });
  await check(herald.setAction("n-1", "Activated"), "PATCH", { userActionState: "Activated" });
  await check(herald.delete("n-1"), "DELETE", undefined);
});

test("deleting what is not there is done, and a change of what changed meanwhile is told", async () => {
  gateway.answers({ status: 404, body: envelope("notFound") }, { status: 412, body: envelope("preconditionFailed") });
  assert.equal(await client().delete("n-1"), false);
  await assert.rejects(client().dismiss("n-1", 'W/"1"'), { status: 412, code: "preconditionFailed" });
});

test("a refused token is renewed once, not more", async () => {
  const refused = { status: 401, body: envelope("InvalidAuthenticationToken") };
  gateway.answers(refused, { body: "4" }, refused, refused);
  assert.equal(await client().count(), 4);
  assert.equal(last().headers["authorization"], "Bearer second");
  await assert.rejects(client().count(), { status: 401 });
});

test("an answer that is no JSON is told, not thrown about", async () => {
  gateway.answers({ body: "<html>" });
  await assert.rejects(client().get("n-1"), { code: "badAnswer" });
});
