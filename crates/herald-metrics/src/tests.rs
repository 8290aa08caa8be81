//! What is counted, as it is served.

use super::*;
use herald_core::outcome::Scope;

fn has(metrics: &Metrics, line: &str) {
    let text = metrics.render();
    assert!(text.lines().any(|is| is == line), "no line {line:?} in:\n{text}");
}

fn outcomes() -> [Outcome; 9] {
    [
        Outcome::Accepted,
        Outcome::Gone { since: None, guarded: false },
        Outcome::Invalid,
        Outcome::Misconfigured,
        Outcome::Unauthorized,
        Outcome::Throttled { scope: Scope::Device, after: None },
        Outcome::Unavailable { after: None, least: Duration::ZERO },
        Outcome::NotSent,
        Outcome::Unknown,
    ]
}

#[test]
fn each_event_counts_under_its_labels() {
    let m = Metrics::new();
    let second = Duration::from_secs(1);
    m.request(Lane::High, RequestResult::Stored);
    m.attempted(Provider::Apns, Form::Raw, Outcome::Accepted, None, second);
    m.attempted(Provider::Apns, Form::Raw, Outcome::Invalid, Some("BadPriority"), second);
    m.accepted_after(Lane::Low, second);
    m.closed(State::Toasted);
    m.closed(State::Due);
    m.receipt(ReceiptKind::OnTime, Some(second));
    m.receipt(ReceiptKind::Refused, None);
    m.fallback_not_owed(NotOwed::NotIos);
    m.fallback_cancelled(CancelledBy::Receipt);
    m.due_lag(DispatchQueue::Fallback, Duration::from_millis(1_500));
    m.lease_lapses(3);
    m.in_flight(7);
    m.parked("invalid_request");
    m.paused(Provider::Fcm, Trip::Throttled);
    m.token_pruned(Provider::Fcm);
    m.batch(BatchStep::Take, 50);
    m.batch(BatchStep::Take, 0);
    m.events_published(2);
    for line in [
        r#"herald_requests_total{lane="high",result="stored"} 1"#,
        r#"herald_attempts_total{form="raw",outcome="accepted",provider="apns",reason="none"} 1"#,
        r#"herald_attempts_total{form="raw",outcome="invalid",provider="apns",reason="BadPriority"} 1"#,
        r#"herald_attempt_seconds_count{provider="apns"} 2"#,
        r#"herald_accept_seconds_sum{lane="low"} 1"#,
        r#"herald_deliveries_closed_total{state="toasted"} 1"#,
        r#"herald_receipts_total{result="on_time"} 1"#,
        r#"herald_receipts_total{result="refused"} 1"#,
        "herald_receipt_delay_seconds_count 1",
        r#"herald_fallbacks_not_owed_total{reason="not_ios"} 1"#,
        r#"herald_fallbacks_cancelled_total{by="receipt"} 1"#,
        r#"herald_due_lag_seconds{queue="fallback"} 1.5"#,
        "herald_lease_lapses_total 3",
        "herald_pushes_in_flight 7",
        r#"herald_parked_total{code="invalid_request"} 1"#,
        r#"herald_pauses_total{provider="fcm",reason="throttled"} 1"#,
        r#"herald_tokens_pruned_total{provider="fcm"} 1"#,
        r#"herald_batch_size_count{step="take"} 1"#,
        r#"herald_batch_size_bucket{step="take",le="50"} 1"#,
        "herald_events_published_total 2",
    ] {
        has(&m, line);
    }
    assert!(!m.render().contains(r#"state="due""#), "an open state is no label");
}

#[test]
fn every_family_is_served_from_the_start_and_clones_count_together() {
    let m = Metrics::new();
    let text = m.render();
    for family in families::ALL {
        assert!(text.contains(&format!("# HELP {} {}\n", family.name, family.help())), "{}", family.name);
    }
    assert_eq!(text.matches("# HELP ").count(), families::ALL.len());
    m.clone().fallback_sent();
    has(&m, "herald_fallbacks_sent_total 1");
    has(&Metrics::new(), "herald_fallbacks_sent_total 0");
}

#[test]
fn a_park_code_from_elsewhere_is_no_label() {
    let m = Metrics::new();
    m.parked("somebody's text");
    has(&m, r#"herald_parked_total{code="other"} 1"#);
    assert!(!m.render().contains("somebody"));
}

#[test]
fn pauses_that_ended_are_reported_as_none() {
    let m = Metrics::new();
    let apns = |reason| (Provider::Apns, reason);
    m.pauses_in_force([
        apns(PauseReason::Operator),
        apns(PauseReason::Trip(Trip::Unauthorized)),
        apns(PauseReason::Trip(Trip::Unauthorized)),
    ]);
    has(&m, r#"herald_paused_apps{provider="apns",reason="unauthorized"} 2"#);
    has(&m, r#"herald_paused_apps{provider="apns",reason="operator"} 1"#);
    m.pauses_in_force([]);
    has(&m, r#"herald_paused_apps{provider="apns",reason="unauthorized"} 0"#);
}

#[test]
fn totals_of_the_broker_are_followed_and_not_added_up() {
    let m = Metrics::new();
    for losses in [1, 1, 3] {
        m.broker(BrokerTotals { losses, refused: 2, ..BrokerTotals::default() });
    }
    has(&m, "herald_broker_connection_losses_total 3");
    has(&m, "herald_broker_publishes_refused_total 2");
}

#[test]
fn the_document_knows_every_outcome() {
    assert_eq!(outcomes().map(|outcome| outcome.as_str()), families::OUTCOMES);
}
