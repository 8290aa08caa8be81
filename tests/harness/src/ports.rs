//! Free ports for servers that can't be told to choose one and say which.
//!
//! A server that is killed and started again must find its port free. Ports from the system's ephemeral range don't
//! do: while the server is down, a client that reconnects in a loop may be given that very port as its local one, and
//! a connection to itself is the result. So these come from below that range. Two processes may still choose the same
//! port at once; the servers' first start therefore tries again with other ports.

use anyhow::{Result, bail};
use std::net::TcpListener;

/// Where Linux' ephemeral range begins when the system doesn't say.
const USUAL_EPHEMERAL_START: u16 = 32_768;
/// Below this, well-known services live.
const LOWEST: u16 = 12_000;

/// A port of 127.0.0.1 that nothing listens on now.
///
/// # Errors
/// If two hundred random ports were all taken.
pub fn free() -> Result<u16> {
    let end = ephemeral_start().max(LOWEST + 1_000);
    for _ in 0..200 {
        let random = u64::from_le_bytes(first_eight(uuid::Uuid::new_v5(
            &uuid::Uuid::now_v7(),
            std::process::id().to_string().as_bytes(),
        )));
        let span = u64::from(end - LOWEST);
        let port = LOWEST + u16::try_from(random % span).expect("a remainder below a u16 is a u16");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port found on 127.0.0.1 between {LOWEST} and {end}")
}

fn first_eight(id: uuid::Uuid) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&id.as_bytes()[8..]);
    // The variant bits of a UUID are fixed; they are here in the first byte, the lowest one of the number.
    bytes[0] = id.as_bytes()[0];
    bytes
}

fn ephemeral_start() -> u16 {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .unwrap_or(USUAL_EPHEMERAL_START)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_lies_below_the_ephemeral_range_and_can_be_bound() {
        let port = free().unwrap();
        assert!(port >= LOWEST);
        assert!(port < ephemeral_start().max(LOWEST + 1_000));
        TcpListener::bind(("127.0.0.1", port)).unwrap();
    }
}
