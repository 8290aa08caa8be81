//! Graph's notifications API over HTTP, with a real PostgreSQL and an issuer of tokens: what is taken in and how it is
//! answered ([`posts`]), every refusal ([`refusals`]), the built-in issuer behind TLS ([`own`]); lists, deltas and items ([`reads`]),
//! changes ([`changes`]), and receipts by a fetch or a token ([`received`]).

#![allow(clippy::unwrap_used, reason = "what can't go on in a test fails it")]

#[path = "../issuer/mod.rs"]
mod issuer;
mod served;

mod changes;
mod own;
mod posts;
mod reads;
mod received;
mod refusals;
