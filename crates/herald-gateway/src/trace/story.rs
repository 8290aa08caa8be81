//! The same in plain words: one sentence for each fact, in the order of time.
//!
//! Pure. A sentence says what happened, or what is to come, and who did it; never what the notification says.

use std::time::Duration;

use herald_core::delivery::State;
use herald_core::fallback::{self, Fallback, Mode, NotOwed};
use herald_core::outcome::Outcome;
use herald_core::push::Form;
use herald_core::subscription::{Platform, Provider};
use herald_core::time::Timestamp;
use herald_store::{Attempt, KnownSubscription, Trace, TracedDelivery};

/// One thing that happened, or is to come.
struct Fact {
    at: Timestamp,
    text: String,
}

/// The sentences, each after the time since the request came in.
pub(super) fn of(trace: &Trace, known: &[KnownSubscription], now: Timestamp) -> Vec<String> {
    let mut facts = vec![Fact { at: trace.received_at, text: stored(trace) }];
    if let Some(at) = trace.next_at {
        let what =
            if trace.deliveries.is_empty() { "its devices are chosen" } else { "more of its devices are chosen" };
        facts.push(Fact { at, text: format!("{what}{}", to_come(at, now)) });
    } else if trace.deliveries.is_empty() {
        let text = "no device to push to: its user had none here that its target policy includes";
        facts.push(Fact { at: trace.received_at, text: text.to_owned() });
    }
    for delivery in &trace.deliveries {
        let known = known.iter().find(|known| known.subscription.id == delivery.unsid);
        of_delivery(&Told { trace, delivery, known, now }, &mut facts);
    }
    // Facts of one moment stay in the order in which they were found: cause before effect.
    facts.sort_by_key(|fact| fact.at);
    facts.into_iter().map(|fact| format!("{}  {}", after(trace.received_at, fact.at), fact.text)).collect()
}

fn stored(trace: &Trace) -> String {
    let content = &trace.notification.content;
    let what = match fallback::first_form(content) {
        Form::Alert => "a visible alert",
        Form::Raw | Form::Toast | Form::State => "a raw push",
    };
    let fallback = match &content.fallback {
        Some(policy) => format!(", with a fallback after {} s", policy.delay.as_secs()),
        None => String::new(),
    };
    let (priority, expires_at) = (super::priority(content.priority), trace.notification.expires_at);
    format!("stored: {what} of priority {priority}{fallback}; it lives until {expires_at}")
}

/// A delivery and what is known around it.
struct Told<'t> {
    trace: &'t Trace,
    delivery: &'t TracedDelivery,
    known: Option<&'t KnownSubscription>,
    now: Timestamp,
}

impl Told<'_> {
    /// The end of a UUID v7 tells two devices apart that were registered together; its beginning is a time.
    fn device(&self) -> String {
        let kind = match self.delivery.provider {
            Provider::Apns => "iPhone",
            Provider::Fcm => "Android",
        };
        let unsid = self.delivery.unsid.to_string();
        format!("{kind} …{}", &unsid[unsid.len() - 8..])
    }

    /// When it was made. A state push comes whenever its user changes the notification, which its id says.
    fn begun(&self) -> Timestamp {
        let made = self.delivery.delivery.id.0.get_timestamp().filter(|_| self.delivery.delivery.form == Form::State);
        let made = made.map(|at| Timestamp::from_micros(0).plus(Duration::new(at.to_unix().0, at.to_unix().1)));
        made.map_or(self.trace.received_at, |at| at.max(self.trace.received_at))
    }

    fn is_owed(&self) -> bool {
        self.delivery.delivery.fallback_delay.is_some()
    }

    fn toasted_at(&self) -> Option<Timestamp> {
        self.delivery.attempts.iter().find(|attempt| attempt.form == Form::Toast).map(|attempt| attempt.at)
    }
}

fn of_delivery(told: &Told<'_>, facts: &mut Vec<Fact>) {
    let (delivery, device) = (told.delivery, told.device());
    let mut fact = |at, text| facts.push(Fact { at, text });
    let begun = told.begun();
    fact(begun, format!("{} push to {device}{}", first_form(told), about(told)));
    if let Some(why) = not_owed(told) {
        fact(begun, format!("no fallback for {device}: {why}"));
    }
    for attempt in &delivery.attempts {
        let at = attempt.at.plus(Duration::from_millis(u64::from(attempt.took_ms)));
        if attempt.form == Form::Toast && told.toasted_at() == Some(attempt.at) {
            fact(attempt.at, due_toast(told, attempt.at));
        }
        fact(at, format!("{} push to {device} {}", attempt.form.as_str(), outcome(attempt, delivery.provider)));
    }
    match (delivery.received_at, delivery.closed_at) {
        (Some(received), Some(closed)) if delivery.delivery.state == State::Received => {
            let cancelled = if told.is_owed() && told.toasted_at().is_none() { ": no toast is sent" } else { "" };
            let had = after(told.trace.received_at, received);
            fact(closed, format!("receipt of {device}: its app has it since {had}{cancelled}"));
        }
        (Some(received), _) => {
            // Where nothing waited for one, it is no fault to come after the end.
            let late = if told.toasted_at().is_some() { "late receipt" } else { "receipt" };
            fact(received, format!("{late} of {device}: its app has it"));
        }
        (None, _) => {}
    }
    match delivery.closed_at {
        Some(at) => {
            if let Some(text) = closed(told) {
                fact(at, format!("{text} ({device})"));
            }
        }
        None => {
            if let Some(at) = delivery.next_at {
                fact(at, open(told, at));
            }
        }
    }
}

fn first_form(told: &Told<'_>) -> &'static str {
    match told.delivery.attempts.first().map_or(told.delivery.delivery.form, |attempt| attempt.form) {
        // A fallback is never the first thing that is tried: its raw push could not be made in time.
        Form::Raw | Form::Toast => "raw",
        Form::Alert => "alert",
        Form::State => "state",
    }
}

/// What is known of the device.
fn about(told: &Told<'_>) -> String {
    let Some(known) = told.known else { return ", whose subscription is not known any more".to_owned() };
    let mut about = format!(" ({})", known.subscription.environment.as_str());
    if !known.active {
        about += ", whose subscription has ended since";
    }
    let word = |said: Option<bool>, yes: &'static str, no: &'static str| said.map(|said| if said { yes } else { no });
    let device = known.device;
    let said: Vec<&str> = [
        word(device.alerts_allowed, "alerts are allowed", "alerts are not allowed"),
        word(device.low_power_mode, "low power mode is on", "low power mode is off"),
        word(device.background_refresh, "background refresh is on", "background refresh is off"),
    ]
    .into_iter()
    .flatten()
    .collect();
    if let Some(at) = known.reported_at.filter(|_| !said.is_empty()) {
        about += &format!("; it said on {at}: {}", said.join(", "));
    }
    about
}

/// Why a fallback that was asked for was not owed to this device.
fn not_owed(told: &Told<'_>) -> Option<&'static str> {
    let notification = &told.trace.notification;
    if told.is_owed() || told.delivery.delivery.form == Form::State {
        return None;
    }
    let platform = match told.delivery.provider {
        Provider::Apns => Platform::Ios,
        Provider::Fcm => Platform::Android,
    };
    match fallback::owed(&notification.content, platform, Mode::Send, notification.expires_at, told.trace.received_at) {
        Fallback::NotAsked => None,
        Fallback::NotOwed(NotOwed::NotHigh) => Some("its priority is not High"),
        Fallback::NotOwed(NotOwed::Visible) => Some("it is visible from the start"),
        Fallback::NotOwed(NotOwed::NotIos) => Some("fallbacks are for iOS"),
        Fallback::NotOwed(NotOwed::ExpiresFirst) => Some("it expires before one would be due"),
        Fallback::NotOwed(NotOwed::Observed) | Fallback::Owed(_) => Some("the app only observes fallbacks"),
    }
}

fn due_toast(told: &Told<'_>, at: Timestamp) -> String {
    let device = told.device();
    match told.delivery.delivery.deadline_at {
        Some(deadline) if deadline <= at => {
            let deadline = after(told.trace.received_at, deadline);
            let went = |attempt: &Attempt| attempt.form == Form::Raw && attempt.outcome == Outcome::Accepted.as_str();
            if !told.delivery.attempts.iter().any(went) {
                return format!(
                    "no raw push is known to have been accepted for {device} by its deadline at {deadline}: the toast is due"
                );
            }
            format!("no receipt of {device} by its deadline at {deadline}: the toast is due")
        }
        _ => format!("the raw push to {device} could not be had in time: the toast is due before its deadline"),
    }
}

/// What a provider's answer meant.
fn outcome(attempt: &Attempt, provider: Provider) -> String {
    let (name, id) = match provider {
        Provider::Apns => ("APNs", "apns-id"),
        Provider::Fcm => ("FCM", "message"),
    };
    let answered = |means: &str| {
        let status = attempt.status.map(|status| status.to_string());
        let reason = attempt.detail.as_deref().or(attempt.reason.as_deref()).map(str::to_owned);
        let words: Vec<String> = status.into_iter().chain(reason).collect();
        if words.is_empty() { means.to_owned() } else { format!("{means} ({})", words.join(" ")) }
    };
    let is = |outcome: Outcome| attempt.outcome == outcome.as_str();
    if is(Outcome::Accepted) {
        let id = attempt.provider_id.as_ref().map(|given| format!(" ({id} {given})")).unwrap_or_default();
        return format!("accepted by {name}{id}");
    }
    let means = match &*attempt.outcome {
        "gone" => format!("refused by {name}: the push token is dead"),
        "invalid" => format!("refused by {name}: the push itself is wrong"),
        "misconfigured" => format!("refused by {name}: the app's topic, project or environment here is wrong"),
        "unauthorized" => format!("refused by {name}: the app's credentials here are not accepted"),
        "throttled" => format!("refused by {name} for now: too many pushes"),
        "unavailable" => format!("refused by {name} for now: it is in trouble"),
        "not_sent" => format!("not sent: {name} was not reached"),
        _ => format!("without an answer of {name} that says what became of it"),
    };
    answered(&means)
}

/// What its end means, where the facts before don't say it.
fn closed(told: &Told<'_>) -> Option<String> {
    let no_toast = if told.is_owed() && told.toasted_at().is_none() { ": no toast is sent" } else { "" };
    match told.delivery.delivery.state {
        State::Due | State::Sending | State::Watching | State::Received => None,
        State::Accepted => Some("done: no receipt is waited for".to_owned()),
        State::Toasted => Some("done: the person was told by the toast".to_owned()),
        State::Gone => Some("given up: the push token is dead, and the subscription ended".to_owned()),
        State::Failed => {
            let why = match told.delivery.failure.as_deref() {
                Some("poison") => "it ended the workers that took it",
                _ => "the provider refused it for good",
            };
            Some(format!("given up: {why}"))
        }
        State::Expired => Some(format!("its life was over{no_toast}")),
        State::Withdrawn => {
            Some(format!("withdrawn: it was read, dismissed or deleted, or the subscription ended{no_toast}"))
        }
    }
}

/// What is to come.
fn open(told: &Told<'_>, at: Timestamp) -> String {
    let (device, coming) = (told.device(), to_come(at, told.now));
    let form = told.delivery.delivery.form.as_str();
    match told.delivery.delivery.state {
        State::Watching => format!("the toast to {device} is due unless a receipt comes{coming}"),
        State::Sending => format!("a worker is pushing to {device}; if it does not come back, it is due again{coming}"),
        _ => format!("the next {form} push to {device} is due{coming}"),
    }
}

fn to_come(at: Timestamp, now: Timestamp) -> String {
    if at > now { format!(", in {} from now", length(at.since(now))) } else { ", now".to_owned() }
}

/// `+0.31 s`
fn after(begun: Timestamp, at: Timestamp) -> String {
    if at < begun { format!("-{}", length(begun.since(at))) } else { format!("+{}", length(at.since(begun))) }
}

fn length(length: Duration) -> String {
    let secs = length.as_secs();
    match secs {
        0..600 => format!("{:.2} s", length.as_secs_f64()),
        600..36_000 => format!("{} min {:02} s", secs / 60, secs % 60),
        36_000..864_000 => format!("{} h {:02} min", secs / 3_600, secs % 3_600 / 60),
        _ => format!("{} d {:02} h", secs / 86_400, secs % 86_400 / 3_600),
    }
}
