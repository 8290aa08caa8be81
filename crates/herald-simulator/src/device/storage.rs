//! What a provider keeps for a phone that it can't reach, or may not disturb.
//!
//! APNs keeps one push per device and app: "in most cases, the latest", which "isn't always guaranteed" ("Sending
//! notification requests to APNs"). FCM keeps 100 messages
//! without a collapse key and drops all of its storage when another one comes; of those with a key it keeps the newest
//! per key, and four keys, "with no determining factor on which keys are kept" ("Non-collapsible and collapsible
//! messages").

use std::collections::VecDeque;

use super::{Item, Platform};

/// How many messages without a collapse key FCM stores for a device before it drops all of them.
pub(super) const ANDROID_LIMIT: usize = 100;
/// How many collapse keys FCM stores for a device.
pub(super) const KEYS_LIMIT: usize = 4;

/// Why a push waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The phone isn't connected.
    Offline,
    /// The phone saves power.
    Power,
    /// Too many collapsible messages came.
    Throttled,
}

/// A push that waits.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) item: Item,
    pub(super) why: Why,
    /// When it is tried again; `None`: when the phone changes.
    pub(super) due_ms: Option<u64>,
}

/// What had to go for a push that was stored.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) replaced: u64,
    /// Because there were too many; the app is told on the next occasion.
    pub(super) dropped: u64,
}

/// A provider's storage for one phone.
#[derive(Debug, Default)]
pub(super) struct Storage {
    kept: VecDeque<Kept>,
}

impl Storage {
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> usize {
        self.kept.iter().filter(|kept| kept.item.push.collapse_key.is_some()).count()
    }

    /// Keeps one more. `roll` chooses which of four collapse keys goes for a fifth, and, if it is odd, that APNs keeps the
    /// older push.
    pub(super) fn put(&mut self, platform: Platform, kept: Kept, roll: u64) -> Gone {
        let before = self.kept.len();
        let mut gone = Gone::default();
        match (platform, &kept.item.push.collapse_key) {
            (Platform::Ios, _) if before > 0 && roll % 2 == 1 => return Gone { replaced: 1, ..gone },
            (Platform::Ios, _) => self.kept.clear(),
            (Platform::Android, Some(key)) => {
                self.kept.retain(|other| other.item.push.collapse_key.as_ref() != Some(key));
                let keyed = |kept: &Kept| kept.item.push.collapse_key.is_some();
                let keys: Vec<usize> = (0..self.kept.len()).filter(|index| keyed(&self.kept[*index])).collect();
                if keys.len() >= KEYS_LIMIT {
                    let chosen = usize::try_from(roll % keys.len() as u64).unwrap_or(0);
                    self.kept.remove(keys[chosen]);
                }
            }
            (Platform::Android, None) => {
                let plain = self.kept.iter().filter(|other| other.item.push.collapse_key.is_none()).count();
                if plain >= ANDROID_LIMIT {
                    gone.dropped = before as u64;
                    self.kept.clear();
                }
            }
        }
        gone.replaced = (before - self.kept.len()) as u64 - gone.dropped;
        self.kept.push_back(kept);
        gone
    }

    /// When the first of them is tried again.
    pub(super) fn due_at(&self) -> Option<u64> {
        self.kept.iter().filter_map(|kept| kept.due_ms).min()
    }

    /// Takes those out that are due, oldest first.
    pub(super) fn take_due(&mut self, now_ms: u64) -> Vec<Kept> {
        if self.due_at().is_none_or(|due| due > now_ms) {
            return Vec::new();
        }
        let (due, rest) = self.take().into_iter().partition(|kept| kept.due_ms.is_some_and(|due| due <= now_ms));
        self.kept = VecDeque::from(rest);
        due
    }

    /// Takes all of them out, oldest first.
    pub(super) fn take(&mut self) -> Vec<Kept> {
        std::mem::take(&mut self.kept).into()
    }
}
