//! Resolve: which of the user's devices get a delivery, in which form, and whether a toast is owed to each.
//!
//! Stands inside intake, the worker's and the gateway's, called by the store between "these are the user's subscriptions"
//! and "these are the rows". Pure but for the ids it makes.

use std::collections::HashMap;

use herald_core::event::{OutboxEvent, Subject, Tell, TellSet, cloud_event};
use herald_core::fallback::{self, Fallback, Mode, NotOwed};
use herald_core::ids::{AppId, DeliveryId, UserId};
use herald_core::subscription::{Subscription, select};
use herald_core::time::Timestamp;
use herald_metrics::Metrics;
use herald_store::{NewDelivery, NewNotification, Resolved};
use uuid::Uuid;

use crate::settings::App;

/// What of an app's settings matters here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    mode: Mode,
    events: TellSet,
}

impl Rules {
    pub(crate) fn of(app: &App) -> Self {
        Self { mode: app.fallback.mode, events: app.events }
    }
}

/// To be handed to the store's intake by whoever takes requests in without being a worker: the gateway.
pub fn resolver(
    apps: &[App],
    metrics: &Metrics,
) -> impl Fn(&NewNotification, &UserId, &[Subscription], Timestamp) -> Resolved + Send + Sync + 'static {
    let rules: HashMap<AppId, Rules> = apps.iter().map(|app| (app.id.clone(), Rules::of(app))).collect();
    let metrics = metrics.clone();
    move |new, user, active, now| resolve(rules.get(&new.request.app).copied(), &metrics, new, user, active, now)
}

/// The deliveries of one notification to these active subscriptions, and what the producer is told at once.
///
/// An app without rules is not configured here, and can only be that of a fan-out: its pushes are held until it is.
pub(crate) fn resolve(
    rules: Option<Rules>,
    metrics: &Metrics,
    new: &NewNotification,
    user: &UserId,
    active: &[Subscription],
    now: Timestamp,
) -> Resolved {
    let (content, expires_at) = (&new.request.content, new.request.expires_at);
    let mode = rules.map(|rules| rules.mode).unwrap_or_default();
    let selection = select(content.target_policy, active);
    let form = fallback::first_form(content);
    let mut no_fallback = false;
    let deliveries: Vec<NewDelivery> = selection
        .deliver
        .iter()
        .map(|subscription| {
            let fallback_delay = match fallback::owed(content, subscription.platform, mode, expires_at, now) {
                Fallback::Owed(delay) => {
                    metrics.fallback_owed();
                    Some(delay)
                }
                Fallback::NotOwed(why) => {
                    metrics.fallback_not_owed(why);
                    no_fallback |= why == NotOwed::ExpiresFirst;
                    None
                }
                Fallback::NotAsked => None,
            };
            NewDelivery { id: DeliveryId(Uuid::now_v7()), unsid: subscription.id, form, fallback_delay }
        })
        .collect();
    let no_devices = deliveries.is_empty().then_some(Tell::NoDevices);
    let not_possible = no_fallback.then_some(Tell::FallbackNotPossible);
    let wanted = |tell: &Tell| rules.is_some_and(|rules| rules.events.contains(*tell));
    let events =
        no_devices.into_iter().chain(not_possible).filter(wanted).map(|tell| event(tell, new, user, now)).collect();
    Resolved { deliveries, events }
}

fn event(tell: Tell, new: &NewNotification, user: &UserId, now: Timestamp) -> OutboxEvent {
    let content = &new.request.content;
    let subject = Subject {
        notification_id: Some(new.id),
        app_notification_id: content.app_notification_id.as_deref(),
        user_id: Some(user),
        ..Subject::default()
    };
    let trace = (content.traceparent.as_deref(), content.tracestate.as_deref());
    cloud_event(tell, &new.request.app, &subject, now, trace)
}
