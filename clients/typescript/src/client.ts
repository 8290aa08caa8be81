/**
 * What a signed-in phone asks of the gateway: its subscription, the person's notifications, and what the person did with
 * them. One `HeraldClient` is one app of one person on one phone.
 */

import { call, json, HeraldError, type Answer, type Calls, type Request } from "./http.js";
import { given } from "./push.js";
import { acknowledge, type Receipt, type ReceiptStatus } from "./receipts.js";

/** How the client reaches the gateway, and for whom. */
export interface Options extends Calls {
  /** Where the gateway is, as `https://push.contoso.com`. */
  readonly baseUrl: string;
  /** The person's access token; `renew` asks for a new one, because the last one was refused. */
  readonly token: (renew: boolean) => string | Promise<string>;
  /** This phone's subscription, from an earlier run of the app. */
  readonly unsid?: string;
}

/** What the phone's person and system let the app do: whoever asks why a phone stayed silent finds it in the trace. */
export interface DeviceState {
  readonly alertsAllowed?: boolean | null;
  readonly lowPowerMode?: boolean | null;
  readonly backgroundRefresh?: boolean | null;
}

/** How pushes reach this phone. */
export interface Device {
  readonly platform: "ios" | "android";
  /** iOS: the device token in hex. Android: the registration token, or the installation id with `tokenKind` `fid`. */
  readonly pushToken: string;
  readonly tokenKind?: "token" | "fid";
  /** iOS: `sandbox` for builds signed for development. */
  readonly environment?: "production" | "sandbox";
  readonly expirationDateTime?: string;
  readonly deviceState?: DeviceState;
}

/** What may change while a subscription lasts. */
export type DeviceChange = Partial<Pick<Device, "pushToken" | "tokenKind" | "environment" | "deviceState">>;

/** A subscription as the gateway has it; it never gives the push token back. */
export interface Subscription {
  readonly userNotificationSubscriptionId: string;
  /** Subscribe again before. */
  readonly expirationDateTime: string;
  readonly platform: "ios" | "android";
  readonly tokenKind: "token" | "fid";
  readonly environment: "production" | "sandbox";
  readonly deviceState: DeviceState | null;
  readonly userId: string;
}

/** What the person did with a notification. */
export type UserActionState = "NoInteraction" | "Activated" | "Dismissed" | "Snoozed";

/** A notification as the gateway has it. Times are ISO 8601, in UTC. */
export interface Notification {
  readonly id: string;
  readonly targetHostName: string;
  readonly appNotificationId: string | null;
  readonly groupName: string | null;
  readonly creationDateTime: string;
  readonly lastModifiedDateTime: string | null;
  readonly expirationDateTime: string;
  readonly status: "Active" | "Deleted";
  readonly priority: "None" | "High" | "Low";
  /** Seconds left of it. */
  readonly displayTimeToLive: number | null;
  readonly readState: boolean;
  readonly userActionState: UserActionState;
  readonly targetPolicy: { readonly platformTypes: readonly string[] } | null;
  readonly payload: { readonly rawContent?: string; readonly visualContent?: { readonly title: string; readonly body?: string | null } };
  readonly "@odata.etag": string;
}

/** Which notifications; what is absent selects nothing, but that deleted ones are left out. */
export interface Filter {
  readonly readState?: boolean;
  readonly userActionState?: UserActionState;
  readonly status?: "Active" | "Deleted";
  readonly groupName?: string;
}

/** What of the list is wanted. */
export interface ListOptions {
  readonly filter?: Filter;
  /** Notifications on a page, 1 to 100; 20 if left out. */
  readonly top?: number;
  /** Say how many there are in all. */
  readonly count?: boolean;
}

/** A page of the list, newest first. */
export interface Page {
  readonly value: readonly Notification[];
  readonly count?: number;
  /** What `next` takes; absent on the last page. */
  readonly nextLink?: string;
}

/** What changed. */
export interface Changes {
  /** New and changed ones, as they are now. One may come again in the next answer. */
  readonly changed: readonly Notification[];
  /** Ids of those that were deleted. */
  readonly removed: readonly string[];
  /** What the next call takes; keep it. */
  readonly deltaLink: string;
  /** `changed` is all there is, not what is new: forget what you have. */
  readonly complete: boolean;
}

const NOTIFICATIONS = "/v1.0/me/notifications";
const SUBSCRIPTIONS = "/v1/subscriptions";

/** See the module. */
export class HeraldClient {
  /** This phone's subscription, once there is one; keep it for the next run. */
  unsid: string | undefined;
  readonly #base: string;

  constructor(private readonly options: Options) {
    this.#base = options.baseUrl.replace(/\/+$/, "");
    this.unsid = options.unsid;
  }

  /**
   * Subscribes this phone, or renews what it has: it keeps its UNSID. Call it at each start of the app, when the push token
   * changes, and after a sign-in.
   */
  async subscribe(device: Device): Promise<Subscription> {
    const known = given({ userNotificationSubscriptionId: this.unsid });
    let answer: Answer;
    try {
      answer = await this.#call("POST", SUBSCRIPTIONS, { ...device, ...known });
    } catch (error) {
      // What this phone remembers is of another person, or of another installation of Herald.
      if (this.unsid === undefined || !is(error, 404)) throw error;
      answer = await this.#call("POST", SUBSCRIPTIONS, device);
    }
    const subscription = json(answer) as unknown as Subscription;
    this.unsid = subscription.userNotificationSubscriptionId;
    return subscription;
  }

  /** The same as `subscribe`: its end is moved to 90 days from now. */
  renew(device: Device): Promise<Subscription> {
    return this.subscribe(device);
  }

  /** Tells a new push token, or what the person or the system allows now. */
  async update(change: DeviceChange): Promise<Subscription> {
    return json(await this.#call("PATCH", this.#subscription(), change)) as unknown as Subscription;
  }

  /** Ends it, before the person signs out. From then on nothing is pushed to this phone. */
  async unsubscribe(): Promise<void> {
    try {
      await this.#call("DELETE", this.#subscription());
    } catch (error) {
      if (!is(error, 404)) throw error;
    }
    this.unsid = undefined;
  }

  /** The first page. A fetch by a subscribed phone acknowledges what it is given. */
  list(options: ListOptions = {}): Promise<Page> {
    const { top, count, filter } = options;
    return this.#page(`${NOTIFICATIONS}${query({ $top: top, $count: count, $filter: expression(filter) })}`);
  }

  /** The page that `nextLink` of another names. */
  async next(nextLink: string): Promise<Page> {
    return this.#page(pathOf(nextLink));
  }

  /**
   * What changed since the call whose `deltaLink` this is; without one, all there is; `"latest"`: nothing yet, only the
   * link. If the link is too old, all there is.
   */
  async delta(since?: string): Promise<Changes> {
    const start = `${NOTIFICATIONS}/delta`;
    if (since === undefined) return this.#changes(start, true);
    if (since === "latest") return this.#changes(`${start}${query({ $deltatoken: "latest" })}`, false);
    try {
      return await this.#changes(pathOf(since), false);
    } catch (error) {
      if (!is(error, 410)) throw error;
      return this.#changes(start, true);
    }
  }

  /** One notification. Throws with status 404 if it expired, was deleted, or never was this person's. */
  async get(id: string): Promise<Notification> {
    return json(await this.#call("GET", item(id))) as unknown as Notification;
  }

  /** How many. */
  async count(filter?: Filter): Promise<number> {
    return Number((await this.#call("GET", `${NOTIFICATIONS}/$count${query({ $filter: expression(filter) })}`)).text);
  }

  /** It was read (or not yet): its open pushes are withdrawn, and the person's other phones are told. */
  markRead(id: string, read = true, ifMatch?: string): Promise<Notification> {
    return this.#change(id, { readState: read }, ifMatch);
  }

  /** The person swiped it away: its open pushes are withdrawn, and the person's other phones are told. */
  dismiss(id: string, ifMatch?: string): Promise<Notification> {
    return this.setAction(id, "Dismissed", ifMatch);
  }

  /** What the person did with it. `ifMatch`: only if its `@odata.etag` is still this, else an error of status 412. */
  setAction(id: string, userActionState: UserActionState, ifMatch?: string): Promise<Notification> {
    return this.#change(id, { userActionState }, ifMatch);
  }

  /** Deletes it for all phones of the person. `false`: there is none any more. */
  async delete(id: string, ifMatch?: string): Promise<boolean> {
    try {
      await this.#call("DELETE", item(id), undefined, match(ifMatch));
      return true;
    } catch (error) {
      if (is(error, 404)) return false;
      throw error;
    }
  }

  /** Acknowledges pushes; see `acknowledge`, which needs no client. */
  acknowledge(receipts: readonly Receipt[]): Promise<ReceiptStatus[]> {
    return acknowledge(this.#base, receipts, this.options);
  }

  async #change(id: string, change: object, ifMatch: string | undefined): Promise<Notification> {
    return json(await this.#call("PATCH", item(id), change, match(ifMatch))) as unknown as Notification;
  }

  async #page(path: string): Promise<Page> {
    const body = json(await this.#call("GET", path));
    const value = body["value"] as Notification[];
    return { value, ...given({ count: body["@odata.count"] as number | undefined, nextLink: body["@odata.nextLink"] as string | undefined }) };
  }

  async #changes(path: string, complete: boolean): Promise<Changes> {
    const changed: Notification[] = [];
    const removed: string[] = [];
    for (;;) {
      const body = json(await this.#call("GET", path));
      for (const entry of body["value"] as (Notification & { "@removed"?: unknown })[]) {
        if (entry["@removed"] === undefined) changed.push(entry);
        else removed.push(entry.id);
      }
      const deltaLink = body["@odata.deltaLink"];
      if (typeof deltaLink === "string") return { changed, removed, deltaLink, complete };
      path = pathOf(String(body["@odata.nextLink"]));
    }
  }

  #subscription(): string {
    if (this.unsid === undefined) throw new TypeError("this phone is not subscribed");
    return `${SUBSCRIPTIONS}/${encodeURIComponent(this.unsid)}`;
  }

  async #call(method: Request["method"], path: string, body?: unknown, more: Record<string, string> = {}): Promise<Answer> {
    const { token } = this.options;
    const headers = { authorization: `Bearer ${await token(false)}`, ...given({ "x-uns-id": this.unsid }), ...more };
    return call({ method, url: `${this.#base}${path}`, headers, json: body, renewed: async () => token(true) }, this.options);
  }
}

function is(error: unknown, status: number): boolean {
  return error instanceof HeraldError && error.status === status;
}

function item(id: string): string {
  return `${NOTIFICATIONS}/${encodeURIComponent(id)}`;
}

function match(etag: string | undefined): Record<string, string> {
  return etag === undefined ? {} : { "if-match": etag };
}

/** With a space as `%20`: not every server reads a `+` as one. */
function query(options: Record<string, string | number | boolean | undefined>): string {
  const given = Object.entries(options).filter(([, value]) => value !== undefined);
  const text = given.map(([name, value]) => `${name}=${encodeURIComponent(String(value))}`).join("&");
  return text === "" ? "" : `?${text}`;
}

/** What follows the gateway's own address in a link, so that a link can't send the token anywhere else. */
function pathOf(link: string): string {
  const at = link.search(/\/(v1\.0|beta)\//);
  if (at < 0) throw new HeraldError(0, "badAnswer", "a link of the gateway is none of its own");
  return link.slice(at);
}

/** `$filter`. */
function expression(filter: Filter = {}): string | undefined {
  const parts: string[] = [];
  if (filter.readState !== undefined) parts.push(`readState eq ${filter.readState}`);
  if (filter.userActionState !== undefined) parts.push(`userActionState eq '${filter.userActionState}'`);
  if (filter.status !== undefined) parts.push(`status eq '${filter.status}'`);
  if (filter.groupName !== undefined) parts.push(`groupName eq '${filter.groupName.replaceAll("'", "''")}'`);
  return parts.length === 0 ? undefined : parts.join(" and ");
}
