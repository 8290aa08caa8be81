//! Whether each person saw exactly what they should: pure, from the last snapshot.

use herald_core::delivery::State;
use herald_core::ids::NotificationId;
use herald_simulator::{Condition, Platform};
use serde::Serialize;

use super::cast::{Expected, Person};
use super::snapshot::Snapshot;

/// What one person's notification came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Found {
    /// Raw pushes that the provider accepted, as the provider says.
    pub(super) raw_accepted: u64,
    /// Receipts that the phone's app sent.
    pub(super) receipts: u64,
    /// Toasts that the person saw.
    pub(super) toasts_shown: u64,
    /// Other visible pushes that the person saw: there must be none.
    pub(super) alerts_shown: u64,
    /// The delivery's state; none if there is no delivery.
    pub(super) state: Option<State>,
}

impl Found {
    /// Reads it from a snapshot; `notification` is the one of the script.
    pub(super) fn of(person: &Person, notification: Option<NotificationId>, snapshot: &Snapshot) -> Self {
        let receipts = snapshot.phones.get(person.name).map_or(0, |phone| phone.receipts);
        let mut found = Self { receipts, ..Self::default() };
        let own = |id| Some(id) == notification;
        for delivery in snapshot.deliveries.values().filter(|delivery| own(delivery.notification)) {
            found.raw_accepted += delivery.raws_at_provider;
            found.toasts_shown += delivery.toasts_shown;
            found.alerts_shown += delivery.alerts_shown;
            found.state = Some(delivery.state);
        }
        found
    }

    /// Is it what was expected?
    pub(super) fn is(&self, expected: &Expected) -> bool {
        self.differences(expected).is_empty()
    }

    /// In what it differs from what was expected.
    pub(super) fn differences(&self, expected: &Expected) -> Vec<String> {
        let mut differences = Vec::new();
        for (what, found, expected) in [
            ("raw pushes accepted", self.raw_accepted, expected.raw_accepted),
            ("receipts", self.receipts, expected.receipts),
            ("toasts shown", self.toasts_shown, expected.toasts_shown),
            ("other alerts shown", self.alerts_shown, 0),
        ] {
            if found != expected {
                differences.push(format!("{what}: {found}, expected {expected}"));
            }
        }
        if self.state.is_none_or(|state| !expected.states.contains(&state)) {
            let found = self.state.map_or("no delivery", State::as_str);
            differences.push(format!("state: {found}, expected {}", words(expected.states).join(" or ")));
        }
        differences
    }
}

/// All differences, one a line: none if each person saw exactly what they should.
pub(super) fn differences(all: &[(Person, Found)]) -> Vec<String> {
    let of = |(person, found): &(Person, Found)| {
        let differences = found.differences(&person.expected);
        differences.into_iter().map(|difference| format!("{}: {difference}", person.name)).collect::<Vec<_>>()
    };
    all.iter().flat_map(of).collect()
}

/// The object that `--json` prints; docs/demo.md describes it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    ok: bool,
    phones: Vec<PhoneReport>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PhoneReport {
    name: &'static str,
    platform: Platform,
    condition: Condition,
    raw_accepted: u64,
    receipts: u64,
    toasts_shown: u64,
    state: Option<&'static str>,
    /// The state that is right; where two are, the one that was found if it is one of them.
    expected: &'static str,
}

impl Report {
    /// Of everybody, in the order given.
    pub(super) fn new(all: &[(Person, Found)]) -> Self {
        let phones = all.iter().map(|(person, found)| PhoneReport::new(person, found)).collect();
        Self { ok: differences(all).is_empty(), phones }
    }
}

impl PhoneReport {
    fn new(person: &Person, found: &Found) -> Self {
        let right = person.expected.states;
        let expected = found.state.filter(|state| right.contains(state)).unwrap_or(right[0]);
        Self {
            name: person.name,
            platform: person.platform,
            condition: person.condition,
            raw_accepted: found.raw_accepted,
            receipts: found.receipts,
            toasts_shown: found.toasts_shown,
            state: found.state.map(State::as_str),
            expected: expected.as_str(),
        }
    }
}

fn words(states: &[State]) -> Vec<&'static str> {
    states.iter().map(|state| state.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::demo::cast::CAST;

    fn as_json(all: &[(Person, Found)]) -> Value {
        serde_json::to_value(Report::new(all)).unwrap()
    }

    /// Exactly what each should see.
    fn good() -> Vec<(Person, Found)> {
        let found = |expected: Expected| Found {
            raw_accepted: expected.raw_accepted,
            receipts: expected.receipts,
            toasts_shown: expected.toasts_shown,
            alerts_shown: 0,
            state: expected.states.first().copied(),
        };
        CAST.iter().map(|person| (*person, found(person.expected))).collect()
    }

    #[test]
    fn only_exactly_what_was_expected_is_good() {
        assert_eq!(differences(&good()), Vec::<String>::new());
        let check = |change: fn(&mut Found), difference: &str| {
            let mut all = good();
            change(&mut all[1].1);
            assert_eq!(differences(&all), [difference]);
            assert_eq!(as_json(&all)["ok"], false);
        };
        check(|ben| ben.toasts_shown = 0, "ben: toasts shown: 0, expected 1");
        check(|ben| ben.toasts_shown = 2, "ben: toasts shown: 2, expected 1");
        check(|ben| ben.raw_accepted = 2, "ben: raw pushes accepted: 2, expected 1");
        check(|ben| ben.receipts = 1, "ben: receipts: 1, expected 0");
        check(|ben| ben.alerts_shown = 1, "ben: other alerts shown: 1, expected 0");
        check(|ben| ben.state = Some(State::Received), "ben: state: received, expected toasted");
        check(|ben| ben.state = None, "ben: state: no delivery, expected toasted");
    }

    #[test]
    fn on_android_the_acceptance_or_a_faster_receipt_closes_the_delivery() {
        let mut all = good();
        all[3].1.state = Some(State::Received);
        assert!(differences(&all).is_empty());
        all[3].1.state = Some(State::Watching);
        assert_eq!(differences(&all), ["dora: state: watching, expected accepted or received"]);
    }

    #[test]
    fn the_json_has_the_state_and_the_right_one_side_by_side() {
        let all = as_json(&good());
        assert_eq!(all["ok"], true);
        let expected = json!({
            "name": "dora", "platform": "android", "condition": "awake", "rawAccepted": 1, "receipts": 1,
            "toastsShown": 0, "state": "accepted", "expected": "accepted",
        });
        assert_eq!(all["phones"][3], expected);
        let mut other = good();
        other[3].1.state = Some(State::Received);
        assert_eq!(as_json(&other)["phones"][3]["expected"], "received", "as right on Android");
        other[1].1.state = Some(State::Received);
        assert_eq!(as_json(&other)["phones"][1]["expected"], "toasted");
        let conditions: Vec<&Value> = all["phones"].as_array().unwrap().iter().map(|p| &p["condition"]).collect();
        assert_eq!(conditions, ["awake", "powerSaving", "forceQuit", "awake", "uninstalled"]);
    }
}
