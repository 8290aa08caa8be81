//! The client against real servers on this machine: one that speaks HTTP/2 frame by frame, one of a library, and the
//! simulator.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod answers;
mod bodies;
mod connections;
mod connects;
mod ends;
mod goaway;
mod simulator;
mod tokens;
mod wire;
