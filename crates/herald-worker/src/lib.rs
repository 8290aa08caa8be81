//! The way of a notification, from the queue to the phone: reads like docs/protocol.md.
//!
//! ```text
//! requests ─▶ intake ─▶ resolve ─▶ push ─▶ record
//!                                   ▲         │
//!                                 take        ▼
//!                                   ▲       store ◀── receipts
//!               hints ◀── clock ◀── due ──────┘
//! ```
//! The queue brings work in; the store remembers it; a take allows a push. [`intake`] and [`take`] are the only places
//! where a delivery becomes this worker's; [`push`] hands it to a provider; [`record`] writes what came of it; the
//! [`clock`] re-enqueues what is due. Everything that decides is in `herald-core`; here bytes are moved.
//!
//! Nothing here keeps work in memory alone: whatever is lost with the process is in the broker (unacked) or in the store
//! (a lease that ends).

pub mod settings;
mod way;
mod intake;
mod resolve;
mod take;
mod push;
mod provider;
mod record;
mod guard;
mod pauses;
mod clock;
mod fanout;
mod house;
mod receipts;
mod events;
mod tell;
mod parked;
mod isolation;
mod alone;
mod budget;
mod lease;
mod batch;
mod apps;
mod rate;
mod drain;
mod watchdog;
mod poison_for_tests;

pub use alone::do_alone;
pub use drain::{Drained, run};
pub use isolation::{BEGUN, Carried, Isolated, Verdict};
pub use resolve::resolver;
pub use tell::teller;
pub use way::Worker;
