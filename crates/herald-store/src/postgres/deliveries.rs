//! New rows of `deliveries`, gathered for one statement: made by intake and by fan-out, and by nothing else.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use herald_core::delivery::{Delivery, State};
use herald_core::ids::{AppId, Unsid};
use herald_core::lane::{DispatchQueue, Hint, Lane};
use herald_core::notification::Notification;
use herald_core::push::Form;
use herald_core::subscription::Subscription;
use herald_core::time::Timestamp;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::rows::{lane_number, millis, provider_number, stored};
use crate::{NewDelivery, Taken};

/// The version of a new row.
const FIRST_VERSION: i64 = 1;

/// Columns of the rows to be inserted.
#[derive(Default)]
pub(crate) struct NewRows {
    budget: usize,
    lease: Duration,
    id: Vec<Uuid>,
    notification: Vec<Uuid>,
    unsid: Vec<Uuid>,
    app: Vec<AppId>,
    provider: Vec<i16>,
    state: Vec<i16>,
    form: Vec<i16>,
    lane: Vec<i16>,
    queue: Vec<i16>,
    takes: Vec<i16>,
    next_at: Vec<OffsetDateTime>,
    deadline_at: Vec<Option<OffsetDateTime>>,
    fallback_delay_ms: Vec<Option<i64>>,
}

impl NewRows {
    /// The first `budget` rows are taken, the rest are due.
    pub(crate) fn new(budget: usize, lease: Duration) -> Self {
        Self { budget, lease, ..Self::default() }
    }

    /// Adds the deliveries of a notification; returns the taken ones and hints for the due ones.
    pub(crate) fn add(
        &mut self,
        notification: &Arc<Notification>,
        lane: Lane,
        received_at: Timestamp,
        at: Timestamp,
        new: &[NewDelivery],
        subscriptions: &[Subscription],
    ) -> (Vec<Taken>, Vec<Hint>) {
        let known: HashMap<Unsid, &Subscription> = subscriptions.iter().map(|s| (s.id, s)).collect();
        let (mut taken, mut due) = (Vec::new(), Vec::new());
        for new in new {
            let Some((subscription, provider)) =
                known.get(&new.unsid).and_then(|s| s.platform.provider().map(|p| (*s, provider_number(p))))
            else {
                tracing::error!(notification.id = %notification.id, "resolved to a subscription that can't be pushed to");
                continue;
            };
            let mut delivery = Delivery {
                id: new.id,
                version: FIRST_VERSION,
                state: State::Due,
                form: new.form,
                lane,
                fallback_delay: new.fallback_delay,
                deadline_at: None,
                expires_at: notification.expires_at,
                takes: 0,
                attempts: 0,
            };
            if self.budget > 0 {
                self.budget -= 1;
                delivery.state = State::Sending;
                delivery.takes = 1;
                delivery.deadline_at = new.fallback_delay.map(|delay| at.plus(delay));
                self.push(notification, subscription, provider, &delivery, at.plus(self.lease));
                taken.push(Taken {
                    delivery,
                    was: State::Due,
                    notification: Arc::clone(notification),
                    subscription: subscription.clone(),
                    subscription_active: true,
                    received_at,
                    taken_at: at,
                });
            } else {
                self.push(notification, subscription, provider, &delivery, at);
                due.push(Hint { delivery: new.id, version: FIRST_VERSION });
            }
        }
        (taken, due)
    }

    fn push(
        &mut self,
        notification: &Notification,
        subscription: &Subscription,
        provider: i16,
        delivery: &Delivery,
        next_at: Timestamp,
    ) {
        let queue = if delivery.form == Form::Toast { DispatchQueue::Fallback } else { delivery.lane.into() };
        self.id.push(delivery.id.0);
        self.notification.push(notification.id.0);
        self.unsid.push(subscription.id.0);
        self.app.push(notification.app.clone());
        self.provider.push(provider);
        self.state.push(delivery.state.number());
        self.form.push(delivery.form.number());
        self.lane.push(lane_number(delivery.lane));
        self.queue.push(queue.number());
        self.takes.push(i16::from(delivery.takes > 0));
        self.next_at.push(stored(next_at));
        self.deadline_at.push(delivery.deadline_at.map(stored));
        self.fallback_delay_ms.push(delivery.fallback_delay.map(millis));
    }

    /// Inserts all rows, at version 1.
    pub(crate) async fn insert(self, connection: &mut PgConnection) -> sqlx::Result<()> {
        if self.id.is_empty() {
            return Ok(());
        }
        sqlx::query(INSERT_DELIVERIES)
            .bind(self.id)
            .bind(self.notification)
            .bind(self.unsid)
            .bind(self.app.iter().map(AppId::as_str).collect::<Vec<_>>())
            .bind(self.provider)
            .bind(self.state)
            .bind(self.form)
            .bind(self.lane)
            .bind(self.queue)
            .bind(self.takes)
            .bind(self.next_at)
            .bind(self.deadline_at)
            .bind(self.fallback_delay_ms)
            .bind(FIRST_VERSION)
            .execute(connection)
            .await?;
        Ok(())
    }
}

const INSERT_DELIVERIES: &str = "
    INSERT INTO deliveries (id, notification_id, unsid, app_id, provider, state, form, lane, queue, takes, next_at,
                            deadline_at, fallback_delay_ms, version)
    SELECT id, notification_id, unsid, app_id, provider, state, form, lane, queue, takes, next_at,
           deadline_at, fallback_delay_ms, $14
      FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::smallint[], $6::smallint[], $7::smallint[],
                  $8::smallint[], $9::smallint[], $10::smallint[], $11::timestamptz[], $12::timestamptz[],
                  $13::bigint[])
           AS new (id, notification_id, unsid, app_id, provider, state, form, lane, queue, takes, next_at,
                   deadline_at, fallback_delay_ms)";
