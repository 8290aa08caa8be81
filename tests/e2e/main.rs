//! End-to-end and fault tests: the real binary, a real RabbitMQ, a real PostgreSQL, simulated providers and phones.
//!
//! Each test makes a [`world`] of its own and shares nothing with another. Where the guarantees of docs/protocol.md are held:
//!
//! | guarantee | test |
//! | --- | --- |
//! | G1 nothing lost | [`spine`], [`faults`], [`drain`], [`graph`] |
//! | G2 the person is told | [`spine`], [`phones`] |
//! | G3 no needless toast | [`spine`], [`receipts`], [`reading`], [`faults`] |
//! | G4 duplicates bounded | [`spine`], [`faults`], [`drain`] |
//! | G5 our fault never costs the user's device | [`providers`], [`our_fault`], [`answers`] |
//! | G6 poison is parked | [`malformed`], [`poison`] |
//! | G7 high is high | [`lanes`] |
//! | G8 tenants are apart | [`malformed`] |

#![allow(clippy::unwrap_used, reason = "what can't go on in a test fails it")]

mod letters;
mod lines;
#[path = "../../crates/herald-gateway/tests/issuer/mod.rs"]
mod issuer;
mod load;
mod requests;
mod simulator;
mod world;

mod answers;
mod check;
mod app_service;
mod cli;
mod clients;
mod dead;
mod demo;
mod drain;
mod embedded;
mod events;
mod faults;
mod graph;
mod lanes;
mod malformed;
mod microsoft;
mod migrate;
mod oidc;
mod openapi;
mod our_fault;
mod phone_side;
mod phones;
mod poison;
mod providers;
mod reading;
mod receipts;
mod spine;
mod typescript;
mod subscriptions;
mod traces;
