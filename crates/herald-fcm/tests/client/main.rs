//! The client against real servers on this machine: one that answers by script, and the simulator.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod answers;
mod ends;
mod goaway;
mod google;
mod pushes;
mod simulator;
mod soak;
mod tokens;
mod wire;
