//! Lanes: separate queues, so that a flood of one never delays another.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The queue a request came in by. The lane is the routing key; the body's priority alone decides forms and fallback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// Never delayed by the other two.
    High,
    /// The default.
    Normal,
    /// Bulk.
    Low,
}

impl Lane {
    /// All lanes, most urgent first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// The routing key, and the label in metrics and columns.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Lane {
    type Err = ();
    fn from_str(s: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|l| l.as_str() == s).ok_or(())
    }
}

/// The dispatch queue that a delivery's hints go to: that of its lane, or `fallback` while a toast is its next push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DispatchQueue {
    /// Toasts that are owed; a share of their own in every budget.
    Fallback,
    /// Due work of the high lane.
    High,
    /// Due work of the normal lane.
    Normal,
    /// Due work of the low lane.
    Low,
}

impl DispatchQueue {
    /// All dispatch queues, in the order in which the clock serves them.
    pub const ALL: [Self; 4] = [Self::Fallback, Self::High, Self::Normal, Self::Low];

    /// The routing key on `herald.dispatch`, and the label in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fallback => "fallback",
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }

    /// The number stored in the `queue` column.
    pub const fn number(self) -> i16 {
        match self {
            Self::Fallback => 0,
            Self::High => 1,
            Self::Normal => 2,
            Self::Low => 3,
        }
    }

    /// The queue with that number.
    pub fn from_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|q| q.number() == number)
    }
}

impl From<Lane> for DispatchQueue {
    fn from(lane: Lane) -> Self {
        match lane {
            Lane::High => Self::High,
            Lane::Normal => Self::Normal,
            Lane::Low => Self::Low,
        }
    }
}

impl fmt::Display for DispatchQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A message on `herald.dispatch.*`: this delivery, at this version, is due. Losing or repeating one is harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hint {
    /// Which delivery.
    pub delivery: crate::ids::DeliveryId,
    /// At which version it was seen due; a take succeeds only at that version.
    pub version: i64,
}
