/** Herald's client for phones' web views and test phones. What an app must do, and why, is docs/app-side.md. */

export * from "./client.js";
export { HeraldError, systemClock, type Calls, type Clock } from "./http.js";
export { FORMS, parsePush, screenId, VERSION, type Form, type HeraldPush, type LaterPush, type Push } from "./push.js";
export { acknowledge, MAX_RECEIPTS, type Receipt, type ReceiptStatus } from "./receipts.js";
export { Seen, type Shelf, type Sight } from "./seen.js";
