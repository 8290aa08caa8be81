#![doc = include_str!("../README.md")]
//!
//! Reading order: [`Client::send`] (the way of one push) → `lanes` (which HTTP/2 connection) → `exchange` (one request,
//! and what a lost one means) → `oauth` (the access token's life) → `grant` (one token from the token endpoint).

mod client;
mod lanes;
mod exchange;
mod oauth;
mod grant;
mod config;

pub use client::{Client, SendError, Stats};
pub use config::{Clock, Config, ConfigError};
