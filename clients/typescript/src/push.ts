/**
 * What a push says to the app: the object `herald`, read and typed. The contract is docs/app-side.md, its schema
 * docs/app-side.schema.json. Nothing here asks the network.
 */

/** The version of the contract that this package reads. */
export const VERSION = 1;

/** The names of the forms of version 1. */
export const FORMS = ["raw", "toast", "alert", "state"] as const;

/** What a push is: silent with data; the fallback's alert; an alert from the start; silent, something changed. */
export type Form = (typeof FORMS)[number];

/** A push of a version that this package knows. */
export interface Push {
  readonly known: true;
  readonly version: typeof VERSION;
  readonly form: Form;
  readonly notificationId: string;
  /** The app server's own id: what to dedupe by, see `Seen`. */
  readonly appNotificationId?: string;
  readonly groupName?: string;
  /** Seconds that it should stay on the screen. */
  readonly displayTimeToLive?: number;
  /** The capability to acknowledge it; absent if Herald has no key to make one with. */
  readonly receipt?: string;
  /** The raw content, as the producer gave it. */
  readonly content?: string;
  /** There is more than this push says: fetch the notification (a state push: fetch what changed). */
  readonly fetch: boolean;
}

/** A push of Herald of a later contract: all that is known of it is that there is something to fetch. */
export interface LaterPush {
  readonly known: false;
  readonly version: number;
  readonly notificationId?: string;
  readonly receipt?: string;
  readonly fetch: true;
}

/** What `parsePush` finds. */
export type HeraldPush = Push | LaterPush;

/**
 * Reads what the platform hands over: the `userInfo` of APNs (`herald` beside `aps`), the data of an FCM message
 * (`herald` as JSON text), or an FCM message with its `data`. `null`: not Herald's, or broken; pass it on to whoever else
 * sends this app pushes.
 */
export function parsePush(payload: unknown): HeraldPush | null {
  const herald = find(payload);
  if (herald === null) return null;
  const { version, form, notificationId } = herald;
  if (typeof version !== "number" || !Number.isInteger(version) || version < 1) return null;
  const id = text(notificationId);
  const receipt = text(herald["receipt"]);
  if (version !== VERSION || !isForm(form)) {
    return { known: false, version, fetch: true, ...given({ notificationId: id, receipt }) };
  }
  if (id === undefined) return null;
  const ttl = herald["displayTimeToLive"];
  return {
    known: true,
    version,
    form,
    notificationId: id,
    fetch: herald["fetch"] === true,
    ...given({
      appNotificationId: text(herald["appNotificationId"]),
      groupName: text(herald["groupName"]),
      displayTimeToLive: typeof ttl === "number" ? ttl : undefined,
      receipt,
      content: typeof herald["content"] === "string" ? herald["content"] : undefined,
    }),
  };
}

/**
 * The identifier that the toast of a notification has on the screen: of its `UNNotificationRequest` on iOS, the tag on
 * Android. An app that gives its own local notification the same one lets a toast that comes later replace it. `app` is the
 * `targetHostName`, `user` the user's id as Herald knows it.
 */
export async function screenId(app: string, user: string, push: { notificationId: string; appNotificationId?: string }) {
  const utf8 = new TextEncoder();
  const parts = [app, user];
  const bytes = push.appNotificationId === undefined ? [new Uint8Array(), uuid(push.notificationId)] : [utf8.encode(push.appNotificationId)];
  const hashed: number[] = [];
  for (const part of [...parts.map((part) => utf8.encode(part)), ...bytes]) {
    const length = new DataView(new ArrayBuffer(8));
    length.setBigUint64(0, BigInt(part.length));
    hashed.push(...new Uint8Array(length.buffer), ...part);
  }
  const hash = await crypto.subtle.digest("SHA-256", new Uint8Array(hashed));
  return btoa(String.fromCharCode(...new Uint8Array(hash))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function uuid(id: string): Uint8Array {
  const hex = id.replaceAll("-", "");
  if (!/^[0-9a-f]{32}$/i.test(hex)) throw new TypeError("notificationId is not a UUID");
  return Uint8Array.from(hex.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16));
}

function find(payload: unknown): Record<string, unknown> | null {
  if (!isObject(payload)) return null;
  const found = payload["herald"] ?? (isObject(payload["data"]) ? payload["data"]["herald"] : undefined);
  if (isObject(found)) return found;
  if (typeof found !== "string") return null;
  try {
    const parsed: unknown = JSON.parse(found);
    return isObject(parsed) ? parsed : null;
  } catch {
    return null;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isForm(value: unknown): value is Form {
  return FORMS.some((form) => form === value);
}

function text(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

/** Without the members that are undefined. */
export function given<T extends object>(members: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}
