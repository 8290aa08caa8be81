//! The phone's rules, by tables and by properties over random sequences of pushes and conditions.

use proptest::prelude::*;

use super::*;

const HABITS: Habits = Habits { ack_delay_ms: 5, ack_alerts: false, ack_loss_percent: 0 };

fn phone(platform: Platform, condition: Condition) -> Phone {
    Phone::new(platform, condition, HABITS, 1)
}

fn raw(capability: &str) -> Push {
    Push {
        form: Form::Raw,
        visible: false,
        urgent: false,
        notification_id: Some("n".to_owned()),
        receipt: Some(capability.to_owned()),
        collapse_id: Some("c".to_owned()),
        life: Life::Until(1_000),
        mutable: false,
    }
}

fn toast(capability: &str) -> Push {
    Push { form: Form::Toast, visible: true, mutable: true, ..raw(capability) }
}

fn ack(capability: &str) -> Acknowledge {
    Acknowledge { capability: capability.to_owned(), after_ms: 5 }
}

#[test]
fn an_awake_phone_acknowledges_a_raw() {
    let mut phone = phone(Platform::Ios, Condition::Awake);
    assert_eq!(phone.receive(raw("r"), 0), Some(ack("r")));
    assert_eq!(phone.tally().raws_delivered, 1);
    assert_eq!(phone.on_screen(), 0);
}

#[test]
fn a_power_saving_iphone_keeps_only_the_newest_raw_until_it_is_awake() {
    let mut phone = phone(Platform::Ios, Condition::PowerSaving);
    assert_eq!(phone.receive(raw("old"), 0), None);
    assert_eq!(phone.receive(raw("new"), 0), None);
    assert_eq!(phone.receive(toast("t"), 0), None);
    assert_eq!((phone.tally().toasts_shown, phone.stored(), phone.tally().raws_delivered), (1, 1, 0));
    assert_eq!(phone.change(Condition::Awake, 999), vec![ack("new")]);
    assert_eq!(phone.change(Condition::Awake, 999), vec![]);
}

#[test]
fn a_stored_raw_whose_life_ended_is_never_handled() {
    let mut phone = phone(Platform::Ios, Condition::PowerSaving);
    assert_eq!(phone.receive(raw("r"), 0), None);
    assert_eq!(phone.change(Condition::Awake, 1_000), vec![]);
    assert_eq!(phone.tally().expired, 1);
    let mut now_or_never = phone;
    assert_eq!(now_or_never.change(Condition::Offline, 1_000), vec![]);
    assert_eq!(now_or_never.receive(Push { life: Life::Now, ..raw("r") }, 0), None);
    assert_eq!((now_or_never.stored(), now_or_never.tally().expired), (0, 2));
}

#[test]
fn a_force_quit_phone_discards_raws_and_shows_toasts() {
    let mut phone = phone(Platform::Ios, Condition::ForceQuit);
    assert_eq!(phone.receive(raw("r"), 0), None);
    assert_eq!(phone.receive(toast("t"), 0), None);
    assert_eq!(phone.tally().discarded, 1);
    assert_eq!(phone.on_screen(), 1);
    assert_eq!(phone.change(Condition::Awake, 0), vec![]);
}

#[test]
fn the_same_collapse_id_replaces_on_the_screen() {
    let mut phone = phone(Platform::Ios, Condition::Awake);
    assert_eq!(phone.receive(toast("a"), 0), None);
    assert_eq!(phone.receive(toast("b"), 0), None);
    assert_eq!(phone.receive(Push { collapse_id: None, ..toast("c") }, 0), None);
    assert_eq!(phone.receive(Push { collapse_id: None, ..toast("d") }, 0), None);
    assert_eq!((phone.tally().toasts_shown, phone.on_screen()), (4, 3));
}

#[test]
fn a_service_extension_acknowledges_only_when_it_runs_and_is_told_to() {
    let eager = Habits { ack_alerts: true, ..HABITS };
    for (condition, mutable, expected) in [
        (Condition::Awake, true, Some(ack("t"))),
        (Condition::PowerSaving, true, Some(ack("t"))),
        (Condition::ForceQuit, true, None),
        (Condition::Awake, false, None),
    ] {
        let mut phone = Phone::new(Platform::Ios, condition, eager, 1);
        assert_eq!(phone.receive(Push { mutable, ..toast("t") }, 0), expected, "{condition:?} {mutable}");
    }
}

#[test]
fn a_dozing_android_phone_wakes_for_high_priority_only() {
    let mut phone = phone(Platform::Android, Condition::PowerSaving);
    assert_eq!(phone.receive(raw("normal"), 0), None);
    assert_eq!(phone.receive(Push { urgent: true, ..raw("high") }, 0), Some(ack("high")));
    assert_eq!(phone.change(Condition::Awake, 0), vec![ack("normal")]);
}

#[test]
fn fcm_drops_all_stored_messages_when_the_hundred_and_first_comes() {
    let mut phone = phone(Platform::Android, Condition::Offline);
    for n in 0..=ANDROID_STORED_LIMIT {
        assert_eq!(phone.receive(raw(&n.to_string()), 0), None);
    }
    assert_eq!(phone.change(Condition::Awake, 0), vec![ack("100")]);
    assert_eq!(phone.tally().discarded, 100);
}

#[test]
fn losses_follow_the_percentage_and_the_seed() {
    let lossy = Habits { ack_loss_percent: 50, ..HABITS };
    let lost = |seed| {
        let mut phone = Phone::new(Platform::Ios, Condition::Awake, lossy, seed);
        let sent = (0..1000).filter(|_| phone.receive(raw("r"), 0).is_some()).count();
        assert_eq!(phone.tally().receipts_lost, 1000 - sent as u64);
        sent
    };
    assert_eq!(lost(7), lost(7));
    assert!((400..600).contains(&lost(7)));
}

#[test]
fn tallies_of_old_notifications_make_room_for_new_ones() {
    let mut phone = phone(Platform::Ios, Condition::Awake);
    for n in 0..=NOTIFICATIONS_KEPT {
        assert!(phone.receive(Push { notification_id: Some(n.to_string()), ..raw("r") }, 0).is_some());
    }
    assert_eq!(phone.notifications().count(), NOTIFICATIONS_KEPT);
    assert!(phone.notifications().all(|(id, _)| id != "0"));
}

#[derive(Debug, Clone)]
enum Step {
    Receive(Push),
    Change(Condition),
}

fn conditions() -> impl Strategy<Value = Condition> {
    prop_oneof![
        Just(Condition::Awake),
        Just(Condition::PowerSaving),
        Just(Condition::ForceQuit),
        Just(Condition::Uninstalled),
        Just(Condition::Offline),
    ]
}

fn pushes() -> impl Strategy<Value = Push> {
    let lives = prop_oneof![Just(Life::Now), (0_u64..60).prop_map(Life::Until)];
    (any::<[bool; 3]>(), proptest::option::of("[ab]"), "[nm]", lives).prop_map(|(flags, collapse_id, id, life)| Push {
        form: if flags[0] { Form::Toast } else { Form::Raw },
        visible: flags[0],
        urgent: flags[1],
        mutable: flags[2],
        notification_id: Some(id),
        collapse_id,
        life,
        receipt: None,
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![3 => pushes().prop_map(Step::Receive), 1 => conditions().prop_map(Step::Change)];
    proptest::collection::vec(step, 0..50)
}

proptest! {
    #[test]
    fn no_push_is_lost_from_the_books_and_no_raw_is_handled_twice_or_out_of_turn(
        ios in any::<bool>(),
        eager in any::<bool>(),
        steps in steps(),
    ) {
        let platform = if ios { Platform::Ios } else { Platform::Android };
        let habits = Habits { ack_alerts: eager, ..HABITS };
        let mut phone = Phone::new(platform, Condition::Awake, habits, 3);
        let mut acknowledged = std::collections::HashSet::new();
        for (now, step) in steps.into_iter().enumerate() {
            let now_ms = now as u64;
            let before = phone.tally();
            let acks = match step {
                Step::Receive(push) => {
                    let receipt = Some(now.to_string());
                    phone.receive(Push { receipt, ..push }, now_ms).into_iter().collect()
                }
                Step::Change(condition) => phone.change(condition, now_ms),
            };
            let tally = phone.tally();
            for ack in acks {
                prop_assert!(acknowledged.insert(ack.capability), "acknowledged twice");
            }
            let done = tally.raws_delivered + tally.states_delivered + tally.toasts_shown + tally.alerts_shown;
            let ended = tally.discarded + tally.expired + tally.replaced;
            prop_assert_eq!(tally.received, done + ended + phone.stored() as u64);
            prop_assert!(phone.on_screen() as u64 <= tally.toasts_shown + tally.alerts_shown);
            let unable = match phone.condition() {
                Condition::Awake => false,
                Condition::PowerSaving => platform == Platform::Ios,
                Condition::ForceQuit | Condition::Uninstalled | Condition::Offline => true,
            };
            prop_assert!(!unable || tally.raws_delivered == before.raws_delivered);
            let room = if ios { 1 } else { ANDROID_STORED_LIMIT };
            prop_assert!(phone.stored() <= room);
            let mut screen: Vec<_> = phone.screen.iter().collect();
            screen.sort();
            screen.dedup();
            prop_assert_eq!(screen.len(), phone.on_screen());
        }
    }
}
