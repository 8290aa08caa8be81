//! The queues that Herald consumes, by what they are for. Their names are in docs/protocol.md and nowhere else in the code.
//!
//! Stands between the worker, which says [`Source::Requests`], and the broker, which says `herald.requests.high`. It
//! never talks to a broker.

use std::fmt;

use herald_core::lane::{DispatchQueue, Lane};

/// A queue that Herald consumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// `herald.requests.<lane>`: what producers publish.
    Requests(Lane),
    /// `herald.dispatch.<queue>`: hints.
    Dispatch(DispatchQueue),
    /// `herald.receipts`: receipts of upstream services.
    Receipts,
    /// `herald.suspect`: work that killed a worker, or came too often; done one at a time.
    Suspect,
    /// `herald.parked`: dead letters on their way into the store.
    Parked,
}

impl Source {
    /// All of them, in the order in which the topology declares them.
    pub const ALL: [Self; 10] = [
        Self::Requests(Lane::High),
        Self::Requests(Lane::Normal),
        Self::Requests(Lane::Low),
        Self::Dispatch(DispatchQueue::Fallback),
        Self::Dispatch(DispatchQueue::High),
        Self::Dispatch(DispatchQueue::Normal),
        Self::Dispatch(DispatchQueue::Low),
        Self::Receipts,
        Self::Suspect,
        Self::Parked,
    ];

    /// The queue's name on the broker, and its label in metrics.
    pub const fn queue(self) -> &'static str {
        match self {
            Self::Requests(Lane::High) => "herald.requests.high",
            Self::Requests(Lane::Normal) => "herald.requests.normal",
            Self::Requests(Lane::Low) => "herald.requests.low",
            Self::Dispatch(DispatchQueue::Fallback) => "herald.dispatch.fallback",
            Self::Dispatch(DispatchQueue::High) => "herald.dispatch.high",
            Self::Dispatch(DispatchQueue::Normal) => "herald.dispatch.normal",
            Self::Dispatch(DispatchQueue::Low) => "herald.dispatch.low",
            Self::Receipts => "herald.receipts",
            Self::Suspect => "herald.suspect",
            Self::Parked => "herald.parked",
        }
    }

    /// The source whose queue has this name.
    pub fn from_queue(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.queue() == name)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.queue())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_name_leads_back_to_its_source() {
        for source in Source::ALL {
            assert_eq!(Source::from_queue(source.queue()), Some(source));
        }
        assert_eq!(Source::from_queue("herald.requests"), None);
    }

    #[test]
    fn queue_names_are_built_from_the_lanes_names() {
        for lane in Lane::ALL {
            assert_eq!(Source::Requests(lane).queue(), format!("herald.requests.{lane}"));
        }
        for queue in DispatchQueue::ALL {
            assert_eq!(Source::Dispatch(queue).queue(), format!("herald.dispatch.{queue}"));
        }
    }
}
