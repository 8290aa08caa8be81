//! Graph's notifications API over HTTP, with a real PostgreSQL and an issuer of tokens: what is taken in and how it is
//! answered ([`posts`]), every refusal ([`refusals`]), the built-in issuer behind TLS ([`own`]), and what every request passes
//! ([`passing`]); lists, deltas and items ([`reads`]), changes ([`changes`]), and receipts by a fetch or a token ([`received`]).
//! Herald's own routes: [`subscriptions`], [`traces`], [`erasure`]. Every route by every kind of
//! caller: [`tenants`].

#![allow(clippy::unwrap_used, reason = "what can't go on in a test fails it")]

#[path = "../issuer/mod.rs"]
mod issuer;
mod served;

mod changes;
mod erasure;
mod own;
mod passing;
mod posts;
mod reads;
mod received;
mod refusals;
mod subscriptions;
mod tenants;
mod traces;
