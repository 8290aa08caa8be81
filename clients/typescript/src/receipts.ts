/**
 * Acknowledging: the app's proof that it has a notification, by the capability that its push carries. It needs no user and
 * no token, so that background code can do it at once.
 */

import { call, json, HeraldError, type Calls } from "./http.js";

/** How many receipts one request may hold. */
export const MAX_RECEIPTS = 1000;

/** A push with its capability, or the capability alone; and when it arrived, if that was earlier. */
export type Receipt = string | { readonly receipt?: string; readonly receivedAt?: Date };

/**
 * What became of a receipt. `received`: it closed its delivery, and no toast will come. `late`: it came after the end,
 * and is kept as a fact. `duplicate`: it was there already. `unknown`: no such delivery any more. `refused`: the
 * capability is no good (expired, of another installation). `none`: the push had no capability. None of them is worth
 * another try.
 */
export type ReceiptStatus = "received" | "late" | "duplicate" | "unknown" | "refused" | "none";

/**
 * Acknowledges pushes to the gateway at `baseUrl`, as many as there are in as few requests as possible, again after
 * troubles that pass. One status for each receipt, in their order; they are kept for good when this returns. Throws
 * `HeraldError` if the gateway could not be reached in time: keep them and do it again later.
 */
export async function acknowledge(baseUrl: string, receipts: readonly Receipt[], calls: Calls = {}): Promise<ReceiptStatus[]> {
  const url = `${baseUrl.replace(/\/+$/, "")}/v1/receipts`;
  const statuses: ReceiptStatus[] = receipts.map(() => "none");
  const items = receipts.flatMap((receipt, place) => {
    const capability = typeof receipt === "string" ? receipt : receipt.receipt;
    if (capability === undefined || capability === "") return [];
    const at = typeof receipt === "string" ? undefined : receipt.receivedAt?.toISOString();
    return [{ place, item: at === undefined ? { capability } : { capability, receivedAt: at } }];
  });
  for (let from = 0; from < items.length; from += MAX_RECEIPTS) {
    const some = items.slice(from, from + MAX_RECEIPTS);
    const answer = await call({ method: "POST", url, json: { receipts: some.map(({ item }) => item) } }, calls);
    const results = json(answer)["results"];
    if (!Array.isArray(results) || results.length !== some.length) {
      throw new HeraldError(answer.status, "badAnswer", "the gateway did not answer each receipt");
    }
    some.forEach(({ place }, at) => (statuses[place] = (results[at] as { status: ReceiptStatus }).status));
  }
  return statuses;
}
