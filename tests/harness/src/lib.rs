//! How a test gets RabbitMQ, PostgreSQL and faults: private servers, a fault proxy, the real binary, a ledger.
//!
//! It stands outside the way of a notification: no crate uses it but in its tests. Reading order: [`database()`] and
//! [`broker()`] (what most tests want: a place of their own on shared servers), [`PrivatePostgres`] and [`PrivateRabbit`]
//! (servers a test may kill), [`process`] (the real binary), [`proxy`] (a network that fails), [`frames`] (a push
//! provider that does what no HTTP/2 library's server does), [`wait`], [`amqp`] and [`ledger`].
//!
//! It never uses a server that it was not given (`HERALD_TEST_AMQP_URL`, `HERALD_TEST_DATABASE_URL`) or did not start:
//! what it starts listens on 127.0.0.1 only, keeps everything in a temporary folder, and is gone when the process that
//! started it ends, however that ends (see `nest`).

mod broker;
mod database;
mod nest;
pub mod ports;
mod postgres;
mod rabbit;
mod rabbit_api;
mod settings;
mod shared;

pub mod amqp;
pub mod frames;
pub mod ledger;
pub mod process;
pub mod proxy;
pub mod wait;

pub use broker::{Broker, broker};
pub use database::{Database, database};
pub use postgres::PrivatePostgres;
pub use rabbit::PrivateRabbit;
pub use rabbit_api::Permissions;
pub use settings::{AMQP_URL, DATABASE_URL, LOGS, RABBITMQ_API};
