//! What flags build is what a worker's parser takes.

use herald_core::notification::Priority;
use herald_core::request::{Request, Target};

use super::*;
use crate::config::Input;

fn parsed(args: &SendArgs) -> Request {
    let now = Timestamp::from_secs(1_800_000_000);
    let bodies = body::read(args, now).unwrap();
    let draft = body::drafts(args, &bodies, 1).next().unwrap();
    parse(&config(), &draft, now).unwrap()
}

fn config() -> Config {
    Config::load(&Input::default(), crate::config::Needs::Connections).unwrap()
}

fn flags() -> SendArgs {
    let text = |text: &str| Some(text.to_owned());
    SendArgs { app: text("mail.contoso.com"), user: text("alice"), raw: text("{}"), count: 1, ..SendArgs::default() }
}

#[test]
fn flags_for_a_raw_with_a_fallback_are_a_request_with_both() {
    let text = |text: &str| Some(text.to_owned());
    let request = parsed(&SendArgs {
        priority: text("High"),
        fallback_title: text("Order shipped"),
        fallback_body: text("Arrives Tuesday"),
        fallback_after: Some(90),
        id: text("order-1042"),
        key: text("k"),
        expires: text("2h"),
        ..flags()
    });
    assert_eq!(request.app.as_str(), "mail.contoso.com");
    assert_eq!(request.key, "k");
    assert_eq!(request.lane, Lane::High);
    assert_eq!(request.expires_at, Timestamp::from_secs(1_800_007_200));
    assert_eq!(request.content.priority, Priority::High);
    assert_eq!(request.content.app_notification_id.as_deref(), Some("order-1042"));
    let fallback = request.content.fallback.unwrap();
    assert_eq!(fallback.delay.as_secs(), 90);
    assert_eq!(
        (fallback.visual.title.as_str(), fallback.visual.body.as_deref()),
        ("Order shipped", Some("Arrives Tuesday"))
    );
}

#[test]
fn flags_for_an_alert_to_a_subscription_are_a_request_for_its_user() {
    let unsid = uuid::Uuid::now_v7();
    let (title, body) = (Some("Hello".to_owned()), Some("there".to_owned()));
    let request = parsed(&SendArgs { user: None, unsid: Some(unsid), raw: None, title, body, ..flags() });
    assert_eq!(request.target, Target::Unsid(herald_core::ids::Unsid(unsid)));
    assert_eq!(request.lane, Lane::Normal);
    let visual = request.content.payload.visual.unwrap();
    assert_eq!((visual.title.as_str(), visual.body.as_deref()), ("Hello", Some("there")));
    assert_eq!(request.content.payload.raw, None);
}

#[test]
fn the_lane_is_that_of_the_priority_unless_it_is_given() {
    let low = || SendArgs { priority: Some("Low".to_owned()), ..flags() };
    assert_eq!(parsed(&low()).lane, Lane::Low);
    assert_eq!(parsed(&SendArgs { lane: Some(Lane::High), ..low() }).lane, Lane::High);
}

#[test]
fn what_breaks_the_contract_is_told_with_field_problem_and_fix() {
    let args = SendArgs { expires: Some("1970-01-02T00:00:00Z".to_owned()), ..flags() };
    let now = Timestamp::from_secs(1_800_000_000);
    let bodies = body::read(&args, now).unwrap();
    let drafts: Vec<Draft> = body::drafts(&args, &bodies, 1).collect();
    let failure = check(&config(), &drafts, now).unwrap_err();
    assert!(matches!(failure, Failure::Usage(_)));
    let text = failure.to_string();
    assert!(text.starts_with("expirationDateTime: "), "{text}");
    assert!(text.contains("--no-check"), "{text}");
}
