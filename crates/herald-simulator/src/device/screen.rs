//! What a person would see on the phone, and what its app remembers having seen.

use std::collections::{HashSet, VecDeque};

/// How many notifications stay on the screen; the oldest go first.
const SCREEN_LIMIT: usize = 1_000;
/// How many notifications an app remembers; the oldest go first.
const SEEN_LIMIT: usize = 1_000;

/// The notification centre: identifiers, oldest first. The same one replaces, and is the newest then (Apple:
/// `apns-collapse-id` becomes the request's identifier; Android: `tag`).
#[derive(Debug, Default)]
pub(super) struct Screen {
    shown: VecDeque<String>,
    serial: u64,
}

impl Screen {
    pub(super) fn len(&self) -> usize {
        self.shown.len()
    }

    /// Shows one more. Without an identifier it gets a serial number that nothing replaces.
    pub(super) fn show(&mut self, identifier: Option<String>) {
        self.serial += 1;
        let identifier = identifier.unwrap_or_else(|| format!("\0{}", self.serial));
        self.shown.retain(|other| *other != identifier);
        self.shown.push_back(identifier);
        if self.shown.len() > SCREEN_LIMIT {
            self.shown.pop_front();
        }
    }

    pub(super) fn clear(&mut self) {
        self.shown.clear();
    }

    #[cfg(test)]
    pub(super) fn identifiers(&self) -> impl Iterator<Item = &String> {
        self.shown.iter()
    }
}

/// The notifications that an app, together with its service extension, remembers.
#[derive(Debug, Default)]
pub(super) struct Seen {
    ids: HashSet<String>,
    order: VecDeque<String>,
}

impl Seen {
    /// Remembers one; says whether it is new.
    pub(super) fn add(&mut self, id: &str) -> bool {
        if !self.ids.insert(id.to_owned()) {
            return false;
        }
        self.order.push_back(id.to_owned());
        if self.order.len() > SEEN_LIMIT
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}
