/**
 * Which notifications this phone has told already. A raw push, its toast and a list may all bring the same one, providers
 * deliver at least once, and after a fault Herald may send one again: the app shows it once.
 */

/** What to do with a notification. */
export type Sight =
  /** Never seen: tell the person. */
  | "new"
  /** This very notification was told: do nothing. */
  | "known"
  /** Its `appNotificationId` was told by an older notification: replace that one on the screen. */
  | "replaces";

/** Where it is remembered; shared by all of the app's code that handles pushes. `null`: nothing yet. */
export interface Shelf {
  read(): Promise<string | null> | string | null;
  write(text: string): Promise<void> | void;
}

type Entry = readonly [key: string, notificationId: string];

/** The last so many notifications, remembered across restarts. */
export class Seen {
  #entries: Entry[] | undefined;
  #turn: Promise<unknown> = Promise.resolve();

  /** `limit`: how many are remembered. */
  constructor(
    private readonly shelf: Shelf,
    private readonly limit = 500,
  ) {}

  /** What to do with it; from now on it is known. Calls of one `Seen` are done one after the other. */
  look(push: { readonly notificationId: string; readonly appNotificationId?: string | null }): Promise<Sight> {
    const sight = this.#turn.then(() => this.#look(push));
    this.#turn = sight.catch(() => undefined);
    return sight;
  }

  async #look(push: { readonly notificationId: string; readonly appNotificationId?: string | null }): Promise<Sight> {
    // The two kinds of id can't meet.
    const key = push.appNotificationId == null ? `n:${push.notificationId}` : `a:${push.appNotificationId}`;
    const entries = this.#entries ?? parse(await this.shelf.read());
    const told = entries.find(([known]) => known === key)?.[1];
    if (told === push.notificationId) {
      this.#entries = entries;
      return "known";
    }
    const others = entries.filter(([known]) => known !== key);
    const kept: Entry[] = [...others, [key, push.notificationId] as const].slice(-this.limit);
    await this.shelf.write(JSON.stringify(kept));
    this.#entries = kept;
    return told === undefined ? "new" : "replaces";
  }
}

/** What can't be read is forgotten: a notification shown twice is better than none. */
function parse(text: string | null): Entry[] {
  try {
    const entries: unknown = JSON.parse(text ?? "[]");
    const isEntry = (entry: unknown) => Array.isArray(entry) && entry.length === 2 && entry.every((part) => typeof part === "string");
    return Array.isArray(entries) ? (entries.filter(isEntry) as Entry[]) : [];
  } catch {
    return [];
  }
}
