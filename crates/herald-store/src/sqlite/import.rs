//! Import and export of subscriptions, in jobs short enough for those that push to have their turn in between.

use herald_core::device::DeviceState;
use herald_core::ids::{AppId, Unsid};
use herald_core::subscription::Subscription;
use herald_sqlite::rusqlite::params;
use uuid::Uuid;

use super::rows::{Columns, stored};
use super::subscriptions::{insert, read_by_token, read_known};
use super::{JobResult, Sqlite, Tx};
use crate::import::{Imported, plan};
use crate::{KnownSubscription, NewSubscription, Result};

const OPERATION: &str = "import";
/// Rows of one job: some tens of milliseconds.
const STEP: usize = 1_000;

impl Sqlite {
    pub(crate) async fn import(&self, batch: &[NewSubscription]) -> Result<Vec<Imported>> {
        let mut results = Vec::with_capacity(batch.len());
        for step in batch.chunks(STEP) {
            let step = step.to_vec();
            results.extend(self.write(OPERATION, move |tx| import(tx, &step)).await?);
        }
        Ok(results)
    }

    pub(crate) async fn export(
        &self,
        app: Option<&AppId>,
        after: Option<Unsid>,
        limit: i64,
    ) -> Result<Vec<Subscription>> {
        let app = app.cloned();
        self.read("export", move |tx| active_after(tx, app.as_ref(), after, limit)).await
    }
}

fn import(tx: &Tx<'_>, batch: &[NewSubscription]) -> JobResult<Vec<Imported>> {
    let mut there: Vec<(KnownSubscription, bool)> = Vec::new();
    for new in batch {
        there.extend(read_by_token(tx, new)?.into_iter().map(|known| (known, true)));
        if let Some(unsid) = new.unsid
            && let Some(known) = read_known(tx, unsid)?
        {
            let open = is_open(tx, unsid)?;
            there.push((known, open));
        }
    }
    let plan = plan(batch, &there, Uuid::now_v7);
    let now = tx.now();
    for (chosen, ended) in [(&plan.add, None), (&plan.add_ended, Some((now, "replaced")))] {
        for (index, id) in chosen {
            let subscription = batch[*index].registered(Unsid(*id), now, batch[*index].expires_at);
            let device = DeviceState::default();
            insert(tx, &KnownSubscription { subscription, active: true, device, reported_at: None }, ended)?;
        }
    }
    let mut extend = tx.connection.prepare_cached("UPDATE subscriptions SET expires_at = ?2 WHERE id = ?1")?;
    for (id, at) in &plan.extend {
        extend.execute(params![id, stored(*at)])?;
    }
    Ok(plan.results)
}

/// Index: primary key.
fn is_open(tx: &Tx<'_>, unsid: Unsid) -> JobResult<bool> {
    let mut read = tx.connection.prepare_cached("SELECT ended_at IS NULL FROM subscriptions WHERE id = ?1")?;
    Ok(read.query_row([unsid.0], |row| row.get(0))?)
}

/// Index: primary key.
fn active_after(tx: &Tx<'_>, app: Option<&AppId>, after: Option<Unsid>, limit: i64) -> JobResult<Vec<Subscription>> {
    let mut read = tx.connection.prepare_cached(
        "
        SELECT id, app_id, user_id, platform, token_kind, token, environment, confirmed_at, expires_at
          FROM subscriptions
         WHERE id > ?1 AND ended_at IS NULL AND expires_at > ?2 AND (?3 IS NULL OR app_id = ?3)
         ORDER BY id
         LIMIT ?4",
    )?;
    let after = after.map_or(Uuid::nil(), |unsid| unsid.0);
    let values = params![after, stored(tx.now()), app.map(AppId::as_str), limit];
    read.query_and_then(values, |row| Columns(row).subscription())?.collect()
}
