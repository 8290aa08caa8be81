//! What holds for any phone, whatever it gets and whatever becomes of it: over random pushes, conditions, rules and times.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use super::storage::{ANDROID_LIMIT, KEYS_LIMIT};
use super::*;
use crate::latency::Delay;

const HOUR: u64 = 3_600_000;

#[derive(Debug, Clone)]
enum Event {
    Receive(Push),
    To(Condition),
    Launch,
    Obey(PhoneRules),
    /// The time passes, and nobody wakes the phone.
    Sleep,
    /// The phone is woken as often as it wants to be until the time has passed.
    Wake,
}

/// After so many milliseconds, something happens.
type Events = Vec<(u64, Event)>;

fn pushes() -> impl Strategy<Value = Push> {
    let lives = prop_oneof![1 => Just(Life::Now), 4 => (1_u64..3 * HOUR).prop_map(Life::Until)];
    let key = proptest::option::of("[a-f]");
    (any::<[bool; 4]>(), proptest::option::of("[ab]"), key, "[nm]", lives).prop_map(
        |(flags, collapse, key, id, life)| Push {
            form: if flags[0] { Form::Toast } else { Form::Raw },
            visible: flags[0],
            urgent: flags[1],
            mutable: flags[2],
            notification_id: Some(id),
            app_notification_id: flags[3].then(|| "order".to_owned()),
            collapse_id: collapse,
            collapse_key: key,
            life,
            receipt: None,
        },
    )
}

fn rules(platform: Platform) -> impl Strategy<Value = PhoneRules> {
    let budget = proptest::option::of((0_u32..4, proptest::option::of(0_u32..6)));
    let flags = any::<[bool; 6]>();
    let numbers = (proptest::option::of(1_u64..5_000), 0_u8..=100, 1_u32..4, 1_u32..5);
    (flags, budget, numbers).prop_map(move |(flags, budget, (burst, percent, limit, size))| {
        let (ios, android) = (platform == Platform::Ios, platform == Platform::Android);
        PhoneRules {
            alerts_off: flags[0] && flags[1],
            background_refresh_off: ios && flags[1] && flags[2],
            burst_every_secs: burst,
            reorder: flags[2],
            background_budget: budget.filter(|_| ios).map(|(per_hour, per_day)| BackgroundBudget { per_hour, per_day }),
            duplicate_percent: if flags[3] { percent } else { 0 },
            duplicate_after: Some(Delay::UniformMs([0, HOUR])),
            ack_delay: None,
            app_alerts: flags[4],
            dedupe: flags[5],
            deprioritise_after: Some(limit).filter(|_| android && flags[1]),
            collapsible_burst: Some(CollapsibleBurst { size, refill_secs: 600 }).filter(|_| android && flags[2]),
            stale_after_days: Some(1).filter(|_| android),
        }
    })
}

fn events(platform: Platform) -> impl Strategy<Value = Events> {
    let conditions = prop_oneof![
        3 => Just(Condition::Awake),
        3 => Just(Condition::PowerSaving),
        1 => Just(Condition::ForceQuit),
        1 => Just(Condition::Uninstalled),
        2 => Just(Condition::Offline),
    ];
    let event = prop_oneof![
        12 => pushes().prop_map(Event::Receive),
        3 => conditions.prop_map(Event::To),
        1 => Just(Event::Launch),
        1 => rules(platform).prop_map(Event::Obey),
        2 => Just(Event::Sleep),
        4 => Just(Event::Wake),
    ];
    let time = prop_oneof![4 => 0_u64..60_000, 1 => 0..2 * HOUR, 1 => Just(0)];
    proptest::collection::vec((time, event), 0..60)
}

/// A phone, and what is known of what it got.
struct Watched {
    phone: Phone,
    platform: Platform,
    now_ms: u64,
    wake_at_ms: Option<u64>,
    /// How many pushes the device itself held before this step: their life doesn't end there.
    held: usize,
    /// By capability.
    lives: BTreeMap<String, Life>,
    acknowledged: HashSet<String>,
    identifiers: HashSet<String>,
    /// Visible pushes without an identifier.
    nameless: usize,
    /// When the app got a silent push in the background, since the rules changed.
    handed: Vec<u64>,
    log: Vec<String>,
}

impl Watched {
    fn new(platform: Platform, rules: PhoneRules) -> Self {
        let habits = Habits { ack_delay_ms: 0, ack_alerts: false, ack_loss_percent: 0 };
        let mut phone = Phone::new(platform, Condition::Awake, habits, 3, 0);
        phone.set_rules(rules);
        Self {
            phone,
            platform,
            now_ms: 0,
            wake_at_ms: None,
            held: 0,
            lives: BTreeMap::new(),
            acknowledged: HashSet::new(),
            identifiers: HashSet::new(),
            nameless: 0,
            handed: Vec::new(),
            log: Vec::new(),
        }
    }

    fn happen(&mut self, after_ms: u64, event: Event) -> Result<(), TestCaseError> {
        let target_ms = self.now_ms + after_ms;
        if matches!(event, Event::Wake) {
            while let Some(at_ms) = self.wake_at_ms.filter(|at_ms| *at_ms <= target_ms) {
                self.now_ms = self.now_ms.max(at_ms);
                let step = self.phone.wake(self.now_ms);
                // Progress: whoever is woken in time never asks for the past, nor for the same moment for ever.
                prop_assert!(step.wake_at_ms.is_none_or(|next| next > at_ms || next == self.now_ms));
                self.check(step, true)?;
            }
        }
        self.now_ms = target_ms;
        let before = self.phone.tally();
        match event {
            Event::Receive(push) => {
                let capability = self.lives.len().to_string();
                self.lives.insert(capability.clone(), push.life);
                match &push.collapse_id {
                    Some(id) => _ = self.identifiers.insert(id.clone()),
                    None if push.visible => self.nameless += 1,
                    None => _ = self.identifiers.insert(id_of(&push)),
                }
                let step = self.phone.receive(Push { receipt: Some(capability), ..push }, self.now_ms);
                prop_assert_eq!(self.phone.tally().received, before.received + 1);
                self.check(step, true)
            }
            Event::To(condition) => self.change(Change { condition: Some(condition), ..Change::default() }),
            Event::Launch => self.change(Change { launch: true, ..Change::default() }),
            Event::Obey(rules) => {
                // Another budget is another promise.
                self.handed.clear();
                self.change(Change { rules: Some(rules), ..Change::default() })
            }
            Event::Sleep | Event::Wake => Ok(()),
        }
    }

    fn change(&mut self, change: Change) -> Result<(), TestCaseError> {
        // What a launch hands over needs no budget; and what is due when rules change follows the former ones.
        let background = !change.launch && change.rules.is_none();
        let step = self.phone.change(change, self.now_ms);
        self.check(step, background)
    }

    fn check(&mut self, step: Step, background: bool) -> Result<(), TestCaseError> {
        self.log.push(format!("{step:?} {:?} {:?}", self.phone.tally(), self.phone.metrics()));
        self.wake_at_ms = step.wake_at_ms;
        prop_assert!(step.wake_at_ms.is_none_or(|at_ms| at_ms >= self.now_ms), "asks for the past");
        let (tally, rules) = (self.phone.tally(), self.phone.rules().clone());
        let done = tally.raws_delivered + tally.states_delivered + tally.toasts_shown + tally.alerts_shown;
        let ended = tally.discarded + tally.expired + tally.replaced;
        let waiting = (self.phone.stored() + self.phone.held()) as u64;
        prop_assert_eq!(tally.received + tally.duplicates, done + ended + waiting, "{:?}", tally);

        let mut late = 0;
        for receipt in step.receipts {
            let ended = matches!(self.lives[&receipt.capability], Life::Until(end) if end <= self.now_ms);
            late += usize::from(ended);
            let first = self.acknowledged.insert(receipt.capability);
            prop_assert!(first || tally.duplicates > 0, "handed over twice, and nobody switched that on");
            if background {
                self.handed.push(self.now_ms);
            }
        }
        prop_assert!(late <= self.held, "{late} handed over after their life, {} were on the device", self.held);
        self.held = self.phone.held();
        self.check_room()?;
        if let Some(budget) = rules.background_budget {
            check_window(&self.handed, budget.per_hour, HOUR)?;
            check_window(&self.handed, budget.per_day.unwrap_or(u32::MAX), 24 * HOUR)?;
        }
        Ok(())
    }

    fn check_room(&self) -> Result<(), TestCaseError> {
        let room = if self.platform == Platform::Ios { 1 } else { ANDROID_LIMIT + KEYS_LIMIT };
        prop_assert!(self.phone.stored() <= room);
        prop_assert!(self.phone.held() <= usize::from(self.platform == Platform::Ios));
        let copies = usize::try_from(self.phone.tally().duplicates).unwrap();
        prop_assert!(self.phone.on_screen() <= self.identifiers.len() + self.nameless + copies);
        let screen: Vec<_> = self.phone.screen().identifiers().collect();
        prop_assert_eq!(screen.iter().collect::<HashSet<_>>().len(), screen.len());
        prop_assert!(self.phone.keys_stored() <= KEYS_LIMIT);
        Ok(())
    }
}

/// What the app calls its own notification of this push.
fn id_of(push: &Push) -> String {
    push.app_notification_id.clone().or_else(|| push.notification_id.clone()).unwrap_or_default()
}

/// No window of this length has more.
fn check_window(times: &[u64], limit: u32, span_ms: u64) -> Result<(), TestCaseError> {
    for start in times {
        let within = times.iter().filter(|time| (*start..start + span_ms).contains(*time)).count();
        prop_assert!(within as u64 <= u64::from(limit), "{within} of {limit} from {start}");
    }
    Ok(())
}

fn histories() -> impl Strategy<Value = (Platform, PhoneRules, Events)> {
    prop_oneof![Just(Platform::Ios), Just(Platform::Android)].prop_flat_map(|platform| {
        let rules = prop_oneof![1 => Just(PhoneRules::default()), 3 => rules(platform)];
        (Just(platform), rules, events(platform))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_push_is_lost_from_the_books_and_every_promise_of_the_rules_is_kept((platform, rules, events) in histories()) {
        let run = || {
            let mut watched = Watched::new(platform, rules.clone());
            for (after_ms, event) in events.clone() {
                watched.happen(after_ms, event)?;
            }
            Ok::<_, TestCaseError>(watched.log)
        };
        // The same seed and the same steps make the same phone.
        prop_assert_eq!(run()?, run()?);
    }

    #[test]
    fn a_phone_that_is_woken_when_it_wants_to_be_has_nothing_left_in_the_end((platform, rules, events) in histories()) {
        let holds = rules.background_refresh_off || rules.background_budget.is_some_and(|budget| budget.per_hour == 0 || budget.per_day == Some(0));
        let mut watched = Watched::new(platform, rules.clone());
        for (after_ms, event) in events {
            watched.happen(after_ms, event)?;
        }
        watched.handed.clear();
        watched.change(Change { condition: Some(Condition::Awake), rules: Some(rules), ..Change::default() })?;
        watched.happen(100 * HOUR, Event::Wake)?;
        prop_assert_eq!((watched.wake_at_ms, watched.phone.stored()), (None, 0));
        prop_assert!(watched.phone.held() == 0 || holds);
    }
}
