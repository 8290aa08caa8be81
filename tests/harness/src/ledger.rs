//! The ledger of a fault test: what was promised, what the phones saw, how each delivery ended; and whether that adds
//! up.
//!
//! A test writes down every key the broker confirmed (or the gateway answered 201), every push a phone saw and every
//! delivery's closed state; [`Ledger::check`] then holds them against G1 (nothing lost) and G4 (duplicates bounded).
//! It is plain data: it reads no clock, queue or store, and shares no code with what it judges.

use anyhow::{Result, bail};
use std::collections::{BTreeMap, BTreeSet};

/// What a phone can be shown: a push's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    /// A silent push with data for the app.
    Raw,
    /// The fallback's visible alert.
    Toast,
    /// A push that was visible from the start.
    Alert,
    /// A silent push about something read, dismissed or deleted.
    State,
}

/// One notification on one phone.
type Place = (String, String);

/// What was promised and what happened.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// Key → the phones it must reach.
    confirmed: BTreeMap<String, BTreeSet<String>>,
    /// Keys whose publish was not confirmed: they may arrive or not.
    doubtful: BTreeSet<String>,
    seen: BTreeMap<Place, BTreeMap<Seen, u32>>,
    closed: BTreeMap<Place, String>,
}

/// What a ledger that adds up holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balance {
    /// Keys that were confirmed.
    pub confirmed: usize,
    /// Pushes that phones saw.
    pub seen: usize,
    /// Pushes that a phone saw again, in the same form.
    pub duplicates: usize,
}

impl Ledger {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The broker confirmed a request, or the gateway answered 201: from now on it may not be lost.
    pub fn confirmed<I: IntoIterator<Item: Into<String>>>(&mut self, key: impl Into<String>, phones: I) {
        let key = key.into();
        self.doubtful.remove(&key);
        self.confirmed.entry(key).or_default().extend(phones.into_iter().map(Into::into));
    }

    /// A request was sent, and whether the broker has it isn't known.
    pub fn doubtful(&mut self, key: impl Into<String>) {
        let key = key.into();
        if !self.confirmed.contains_key(&key) {
            self.doubtful.insert(key);
        }
    }

    /// A phone was shown a push.
    pub fn saw(&mut self, key: impl Into<String>, phone: impl Into<String>, what: Seen) {
        *self.seen.entry((key.into(), phone.into())).or_default().entry(what).or_default() += 1;
    }

    /// A delivery reached a closed state.
    pub fn closed(&mut self, key: impl Into<String>, phone: impl Into<String>, state: impl Into<String>) {
        self.closed.insert((key.into(), phone.into()), state.into());
    }

    /// Confirmed notifications that a phone was never shown in any form.
    #[must_use]
    pub fn lost(&self) -> Vec<(&str, &str)> {
        self.promised().filter(|(key, phone)| !self.seen.contains_key(&place(key, phone))).collect()
    }

    /// Confirmed notifications whose delivery to a phone isn't in a closed state.
    #[must_use]
    pub fn open(&self) -> Vec<(&str, &str)> {
        self.promised().filter(|(key, phone)| !self.closed.contains_key(&place(key, phone))).collect()
    }

    /// Pushes that nobody asked for: a key never published, or a phone it wasn't for.
    #[must_use]
    pub fn unexpected(&self) -> Vec<(&str, &str)> {
        let known = |key: &str, phone: &str| {
            self.doubtful.contains(key) || self.confirmed.get(key).is_some_and(|phones| phones.contains(phone))
        };
        let places = self.seen.keys().map(|(key, phone)| (key.as_str(), phone.as_str()));
        places.filter(|(key, phone)| !known(key, phone)).collect()
    }

    /// How many pushes repeated one that the phone had already seen in the same form. A toast after a raw push is the
    /// fallback, not a duplicate.
    #[must_use]
    pub fn duplicates(&self) -> usize {
        self.counts().map(|count| count.saturating_sub(1)).sum()
    }

    /// Nothing lost, nothing open, nothing unexpected, and at most `bound` duplicates.
    ///
    /// # Errors
    /// Says what doesn't add up, with the first few keys of each kind.
    pub fn check(&self, bound: usize) -> Result<Balance> {
        let mut faults = Vec::new();
        for (what, places) in [("lost", self.lost()), ("open", self.open()), ("unexpected", self.unexpected())] {
            if !places.is_empty() {
                let few = &places[..places.len().min(5)];
                faults.push(format!("{} {what} (the first: {few:?})", places.len()));
            }
        }
        let duplicates = self.duplicates();
        if duplicates > bound {
            faults.push(format!("{duplicates} duplicates, and {bound} are allowed"));
        }
        if !faults.is_empty() {
            bail!("the ledger of {} confirmed notifications: {}", self.confirmed.len(), faults.join("; "));
        }
        Ok(Balance { confirmed: self.confirmed.len(), seen: self.counts().sum(), duplicates })
    }

    fn promised(&self) -> impl Iterator<Item = (&str, &str)> {
        self.confirmed.iter().flat_map(|(key, phones)| phones.iter().map(move |phone| (key.as_str(), phone.as_str())))
    }

    fn counts(&self) -> impl Iterator<Item = usize> {
        self.seen.values().flat_map(BTreeMap::values).map(|count| *count as usize)
    }
}

fn place(key: &str, phone: &str) -> Place {
    (key.to_owned(), phone.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One notification for one phone, seen and closed.
    fn sound() -> Ledger {
        let mut ledger = Ledger::new();
        ledger.confirmed("k", ["phone"]);
        ledger.saw("k", "phone", Seen::Raw);
        ledger.closed("k", "phone", "received");
        ledger
    }

    #[track_caller]
    fn refused(ledger: &Ledger, bound: usize, why: &str) {
        let error = ledger.check(bound).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }

    #[test]
    fn what_was_confirmed_seen_once_and_closed_adds_up() {
        let balance = sound().check(0).unwrap();
        assert_eq!(balance, Balance { confirmed: 1, seen: 1, duplicates: 0 });
    }

    #[test]
    fn a_confirmed_notification_that_one_phone_never_saw_is_lost() {
        let mut ledger = sound();
        ledger.confirmed("k", ["tablet"]);
        ledger.closed("k", "tablet", "failed");
        assert_eq!(ledger.lost(), [("k", "tablet")]);
        refused(&ledger, 0, "1 lost");
    }

    #[test]
    fn a_delivery_that_was_not_closed_is_open() {
        let mut ledger = sound();
        ledger.confirmed("k2", ["phone"]);
        ledger.saw("k2", "phone", Seen::Raw);
        refused(&ledger, 0, "1 open");
    }

    #[test]
    fn a_toast_after_a_raw_push_is_no_duplicate() {
        let mut ledger = sound();
        ledger.saw("k", "phone", Seen::Toast);
        assert_eq!(ledger.check(0).unwrap().duplicates, 0);
    }

    #[test]
    fn duplicates_are_allowed_up_to_the_bound_and_no_further() {
        let mut ledger = sound();
        ledger.saw("k", "phone", Seen::Raw);
        assert_eq!(ledger.check(1).unwrap().duplicates, 1);
        refused(&ledger, 0, "1 duplicates");
    }

    #[test]
    fn a_doubtful_publish_may_arrive_or_not() {
        let mut ledger = sound();
        ledger.doubtful("never");
        ledger.doubtful("perhaps");
        ledger.saw("perhaps", "phone", Seen::Raw);
        ledger.check(0).unwrap();
    }

    #[test]
    fn a_confirmation_is_not_taken_back_by_a_doubtful_repetition() {
        let mut ledger = Ledger::new();
        ledger.confirmed("k", ["phone"]);
        ledger.doubtful("k");
        refused(&ledger, 0, "1 lost");
    }

    #[test]
    fn a_push_nobody_asked_for_is_unexpected() {
        let mut ledger = sound();
        ledger.saw("k", "strangers-phone", Seen::Raw);
        ledger.saw("unknown", "phone", Seen::Raw);
        assert_eq!(ledger.unexpected(), [("k", "strangers-phone"), ("unknown", "phone")]);
        refused(&ledger, 0, "2 unexpected");
    }
}
