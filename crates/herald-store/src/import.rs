//! Import and export of subscriptions: very many at once, from another installation or to it.
//!
//! Before the way, beside the gateway. An import adds what isn't there and never takes anything from what is: an app may have
//! registered its device here since the file was written, and a shared phone must not show the last user's messages. So it may
//! be repeated, and go on anywhere. In the file, the first row with a push token has it.
//!
//! | a row whose | is |
//! | --- | --- |
//! | id and push token are new | added, under its id if it has one |
//! | id is that user's here, active | known; it lives as long as the longer of the two |
//! | id is that user's here, ended | left ended |
//! | id is another's here | refused |
//! | push token has an active subscription here | superseded: its id, if it has one, still names its user, as one that ended; without an id and of the same user it is known |

use std::collections::HashMap;

use herald_core::ids::{AppId, Unsid, UserId};
use herald_core::subscription::{Environment, Subscription};
use herald_core::time::Timestamp;
use uuid::Uuid;

use crate::{Inner, KnownSubscription, NewSubscription, Result, Store};

/// Rows of one transaction: some tens of milliseconds.
pub const IMPORT_STEP: usize = 5_000;

/// What became of a row, in the order of the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Imported {
    /// It is new here.
    Added,
    /// It was here already.
    Known,
    /// It, or another with its push token, came here in another way since; that one stays.
    Superseded,
    /// Its id is another user's or another app's here.
    Refused,
}

/// What is written of a batch.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// What becomes of each row.
    pub(crate) results: Vec<Imported>,
    /// Indexes of rows to insert, with their ids.
    pub(crate) add: Vec<(usize, Uuid)>,
    /// The same as ended, so that their ids still name their users.
    pub(crate) add_ended: Vec<(usize, Uuid)>,
    /// Subscriptions that live longer from now on.
    pub(crate) extend: Vec<(Uuid, Timestamp)>,
}

/// A subscription as the plan sees it: there before, or made by an earlier row.
struct There<'a> {
    app: &'a AppId,
    user: &'a UserId,
    open: bool,
    expires_at: Timestamp,
}

type Token<'a> = (&'a AppId, Environment, &'a str);

fn token(s: &Subscription) -> Token<'_> {
    (&s.app, s.environment, s.token.expose())
}

/// Decides from the subscriptions, ended ones too, that have the batch's ids, and those not ended that have its push tokens.
/// `open` of each says that it has not ended. `new_id` makes ids.
pub(crate) fn plan<'a>(
    batch: &'a [NewSubscription],
    there: &'a [(KnownSubscription, bool)],
    mut new_id: impl FnMut() -> Uuid,
) -> Plan {
    let mut by_id: HashMap<Unsid, There<'a>> = HashMap::new();
    let mut by_token: HashMap<Token<'a>, Unsid> = HashMap::new();
    for (known, open) in there {
        let s = &known.subscription;
        by_id.insert(s.id, There { app: &s.app, user: &s.user, open: *open, expires_at: s.expires_at });
        if *open {
            by_token.insert(token(s), s.id);
        }
    }
    let mut plan = Plan::default();
    for (index, new) in batch.iter().enumerate() {
        let key: Token<'_> = (&new.app, new.environment, new.token.expose());
        let (id, holder) = (new.unsid.unwrap_or_else(|| Unsid(new_id())), by_token.get(&key).copied());
        // The one that it would be: by its id, else, if it has none, by its token.
        let same = if new.unsid.is_some() { by_id.contains_key(&id).then_some(id) } else { holder };
        let result = match same.and_then(|same| by_id.get_mut(&same).map(|there| (same, there))) {
            Some((_, there)) if *there.app != new.app || *there.user != new.user => match new.unsid {
                Some(_) => Imported::Refused,
                None => Imported::Superseded,
            },
            Some((same, there)) if there.open => {
                if there.expires_at < new.expires_at {
                    there.expires_at = new.expires_at;
                    plan.extend.retain(|(id, _)| *id != same.0);
                    plan.extend.push((same.0, new.expires_at));
                }
                Imported::Known
            }
            Some(_) => Imported::Superseded,
            None => {
                let open = holder.is_none();
                by_id.insert(id, There { app: &new.app, user: &new.user, open, expires_at: new.expires_at });
                if open {
                    by_token.insert(key, id);
                    plan.add.push((index, id.0));
                    Imported::Added
                } else {
                    plan.add_ended.push((index, id.0));
                    Imported::Superseded
                }
            }
        };
        plan.results.push(result);
    }
    plan
}

impl Store {
    /// Imports up to [`IMPORT_STEP`] subscriptions in one transaction; more are split. One result each, in their order.
    ///
    /// # Errors
    /// As any call; what came before is imported, and repeating is safe.
    pub async fn import(&self, batch: &[NewSubscription]) -> Result<Vec<Imported>> {
        let mut results = Vec::with_capacity(batch.len());
        for step in batch.chunks(IMPORT_STEP) {
            let done = self.within("import", async {
                match &self.inner {
                    Inner::Postgres(pg) => pg.import(step).await,
                    Inner::Sqlite(lite) => lite.import(step).await,
                }
            });
            results.extend(done.await?);
        }
        Ok(results)
    }

    /// Active subscriptions by ascending id, at most `limit` after `after`; of this app, if given.
    ///
    /// # Errors
    /// As any call.
    pub async fn export(&self, app: Option<&AppId>, after: Option<Unsid>, limit: i64) -> Result<Vec<Subscription>> {
        self.within("export", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.export(app, after, limit).await,
                Inner::Sqlite(lite) => lite.export(app, after, limit).await,
            }
        })
        .await
    }
}
