#![doc = include_str!("../README.md")]
//!
//! Reading order: [`Client::send`] (the way of one push) → `request` (push → HTTP/2 request) → `pool` (which connection)
//! → `exchange` (one stream, and what a lost one means) → `remedy` (answers that this client heals itself) → `token`
//! (the provider token's life) → `connection` (connect, drive, notice that it is dead) → `pace` and `backoff` (when the
//! next connect may begin).

mod client;
mod pool;
mod connection;
mod exchange;
mod remedy;
mod request;
mod token;
mod pace;
mod backoff;
mod config;

pub use client::{Client, Stats};
pub use config::{Clock, Config, ConfigError, Monotonic};
