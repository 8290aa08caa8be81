//! One subscription: a channel, what was delivered on it, and its settlement.
//!
//! A delivery tag means something on its own channel only. So each message keeps its session, and a message of a session
//! that is over is not settled at all: the broker delivers it again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicNackOptions};
use tokio::time::timeout;

use super::connection::Link;
use super::outstanding::{Outstanding, Settlement};
use super::supervisor::Shared;
use super::{STEP_LIMIT, say};
use crate::counters::Counting;
use crate::settle::Verdict;

pub(crate) struct Session {
    shared: Arc<Shared>,
    link: Arc<Link>,
    pub(crate) channel: Channel,
    outstanding: Mutex<Outstanding>,
    /// Held while settlements are put on the wire: one `multiple` ack overtaking another would close the channel.
    turn: tokio::sync::Mutex<()>,
    over: AtomicBool,
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>, link: Arc<Link>, channel: Channel) -> Self {
        Self {
            shared,
            link,
            channel,
            outstanding: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            over: AtomicBool::new(false),
        }
    }

    pub(crate) fn counting(&self) -> &Counting {
        &self.shared.counting
    }

    fn outstanding(&self) -> MutexGuard<'_, Outstanding> {
        self.outstanding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A delivery arrived; before it is handed to anyone.
    pub(crate) fn delivered(&self, tag: u64) {
        self.outstanding().delivered(tag);
    }

    /// The channel is gone: nothing of it can be settled any more.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed) || self.link.lost.is_cancelled()
    }

    /// Settles these tags; how many were settled (0 if the session is over). Dropped midway, what was not yet on the wire
    /// is delivered again when the channel closes, and nothing is settled twice.
    pub(crate) async fn settle(&self, tags: Vec<u64>, verdict: Verdict) -> usize {
        let _turn = self.turn.lock().await;
        if self.is_over() {
            return 0;
        }
        let (settlements, count) = {
            let mut outstanding = self.outstanding();
            let before = outstanding.len();
            let settlements = outstanding.settle(tags);
            (settlements, before - outstanding.len())
        };
        let writing = join_all(settlements.into_iter().map(|settlement| self.send(settlement, verdict)));
        let written = tokio::select! {
            () = self.link.lost.cancelled() => return 0,
            written = timeout(STEP_LIMIT, writing) => written,
        };
        match written {
            Err(_) => self.link.lose(format!("acks were not written within {STEP_LIMIT:?}")),
            Ok(results) => {
                let Some(error) = results.into_iter().find_map(Result::err) else {
                    return count;
                };
                // The consumer's stream reports the same and ends the session.
                tracing::debug!(error = say(&error), "acks were not taken; the broker delivers those messages again");
            }
        }
        0
    }

    async fn send(&self, settlement: Settlement, verdict: Verdict) -> Result<(), lapin::Error> {
        let Settlement { tag, multiple } = settlement;
        match verdict {
            Verdict::Ack => self.channel.basic_ack(tag, BasicAckOptions { multiple }).await,
            Verdict::GiveBack => self.channel.basic_nack(tag, BasicNackOptions { multiple, requeue: true }).await,
        }
    }
}
