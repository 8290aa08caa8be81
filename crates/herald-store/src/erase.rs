//! Erasure: all that is kept of one user in one app goes, pending work included.
//!
//! Beside the way. In transactions of at most [`STEP`] rows, each of which leaves the store whole, so it may be broken off at
//! any point and done again. Notifications go before subscriptions: a delivery whose subscription were gone could not be
//! taken any more. What comes in meanwhile is looked for once more at the end.
//!
//! A worker in the midst of a push that is erased finds nothing to record, and records nothing. What still waits in the broker
//! is not seen here: a request that names a subscription which is gone is parked as unknown.

use std::collections::HashSet;

use herald_core::ids::{AppId, Unsid, UserId};
use herald_core::request::{Target, target_of};
use serde_json::Value;
use uuid::Uuid;

use crate::{DeadKey, DeadLetter, Inner, OutboxRow, Result, Store};

/// Rows of one kind in one transaction: what others wait for without noticing.
pub(crate) const STEP: i64 = 1_000;
/// Dead letters read at once: each may have 64 KiB.
const LETTERS: i64 = 100;

/// What went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Erased {
    /// Notifications, those still to be resolved too.
    pub notifications: u64,
    /// Their deliveries, open ones too.
    pub deliveries: u64,
    /// Subscriptions, ended ones too.
    pub subscriptions: u64,
    /// Events not published yet.
    pub events: u64,
    /// Dead letters that name the user or a subscription of theirs.
    pub dead_letters: u64,
}

/// Whose things go.
struct Whose<'a> {
    app: &'a AppId,
    user: &'a UserId,
    /// Of the user's subscriptions, ended ones too.
    unsids: HashSet<Unsid>,
}

impl Whose<'_> {
    /// An event of this app that names the user or a subscription of theirs.
    fn is_told_by(&self, event: &OutboxRow) -> bool {
        let app = event.routing_key.split_once('.').map(|(_, app)| app);
        if app != Some(self.app.as_str()) {
            return false;
        }
        let body: Value = serde_json::from_str(&event.body).unwrap_or_default();
        let data = &body["data"];
        let unsid = data["userNotificationSubscriptionId"].as_str().and_then(|text| text.parse().ok().map(Unsid));
        data["userId"] == self.user.as_str() || unsid.is_some_and(|unsid| self.unsids.contains(&unsid))
    }

    /// A dead letter that names the user or a subscription of theirs: as its target, in a header, or among receipts.
    fn are_in(&self, letter: &DeadLetter) -> bool {
        match target_of(&letter.body) {
            Some(Target::User(user)) if user == *self.user => return true,
            Some(Target::Unsid(unsid)) if self.unsids.contains(&unsid) => return true,
            Some(_) | None => {}
        }
        let body = String::from_utf8_lossy(&letter.body).to_ascii_lowercase();
        let headers = letter.headers.to_ascii_lowercase();
        self.unsids.iter().map(Unsid::to_string).any(|unsid| body.contains(&unsid) || headers.contains(&unsid))
    }
}

impl Store {
    /// Deletes everything of a user in an app, and says what went. Takes as long as there is much; dropped or failed in the
    /// midst, what went is gone, and doing it again deletes the rest.
    ///
    /// # Errors
    /// As any call; what came before is done.
    pub async fn erase(&self, app: &AppId, user: &UserId) -> Result<Erased> {
        let mut erased = Erased::default();
        let mut whose = Whose { app, user, unsids: HashSet::new() };
        // Before any of them goes: dead letters and events are found by them.
        whose.unsids.extend(self.unsids_of(app, user).await?);
        self.erase_work(&whose, &mut erased).await?;
        loop {
            let gone = self.within("erase", async {
                match &self.inner {
                    Inner::Postgres(pg) => pg.erase_subscriptions(app, user, STEP).await,
                    Inner::Sqlite(lite) => lite.erase_subscriptions(app, user, STEP).await,
                }
            });
            let gone = gone.await?;
            // One that was made since is known by now as well.
            whose.unsids.extend(&gone);
            erased.subscriptions += gone.len() as u64;
            if gone.is_empty() {
                break;
            }
        }
        // What came in while its subscriptions were still there.
        self.erase_work(&whose, &mut erased).await?;
        Ok(erased)
    }

    async fn unsids_of(&self, app: &AppId, user: &UserId) -> Result<Vec<Unsid>> {
        self.within("erase", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.unsids_of(app, user).await,
                Inner::Sqlite(lite) => lite.unsids_of(app, user).await,
            }
        })
        .await
    }

    /// All but subscriptions.
    async fn erase_work(&self, whose: &Whose<'_>, erased: &mut Erased) -> Result<()> {
        let (app, user) = (whose.app, whose.user);
        loop {
            let step = self.within("erase", async {
                match &self.inner {
                    Inner::Postgres(pg) => pg.erase_deliveries(app, user, STEP).await,
                    Inner::Sqlite(lite) => lite.erase_deliveries(app, user, STEP).await,
                }
            });
            let gone = step.await?;
            erased.deliveries += gone;
            if gone == 0 {
                break;
            }
        }
        loop {
            let step = self.within("erase", async {
                match &self.inner {
                    Inner::Postgres(pg) => pg.erase_notifications(app, user, STEP).await,
                    Inner::Sqlite(lite) => lite.erase_notifications(app, user, STEP).await,
                }
            });
            let (notifications, deliveries) = step.await?;
            erased.notifications += notifications;
            erased.deliveries += deliveries;
            if notifications == 0 {
                break;
            }
        }
        erased.events += self.erase_events(whose).await?;
        erased.dead_letters += self.erase_letters(whose).await?;
        Ok(())
    }

    async fn erase_events(&self, whose: &Whose<'_>) -> Result<u64> {
        let (mut after, mut erased) = (Uuid::nil(), 0);
        loop {
            let page = self.within("erase", async {
                match &self.inner {
                    Inner::Postgres(pg) => pg.outbox_page(after, STEP).await,
                    Inner::Sqlite(lite) => lite.outbox_page(after, STEP).await,
                }
            });
            let page = page.await?;
            let Some(last) = page.last() else { return Ok(erased) };
            after = last.id;
            let ids: Vec<Uuid> = page.iter().filter(|event| whose.is_told_by(event)).map(|event| event.id).collect();
            if !ids.is_empty() {
                erased += self.outbox_done(&ids).await?;
            }
        }
    }

    async fn erase_letters(&self, whose: &Whose<'_>) -> Result<u64> {
        let (mut after, mut erased) = (None, 0);
        loop {
            let page = self.within("erase", async {
                match &self.inner {
                    Inner::Postgres(pg) => pg.letters_after(whose.app, after, LETTERS).await,
                    Inner::Sqlite(lite) => lite.letters_after(whose.app, after, LETTERS).await,
                }
            });
            let page = page.await?;
            let Some(last) = page.last() else { return Ok(erased) };
            after = Some(last.entry().key);
            let keys: Vec<DeadKey> =
                page.iter().filter(|letter| whose.are_in(letter)).map(|letter| letter.entry().key).collect();
            if !keys.is_empty() {
                erased += self.dead_remove(&keys).await?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use herald_core::time::Timestamp;

    use super::*;

    const UNSID: &str = "0b6f1c2e-5a57-7c1e-9d21-8f4b1c1e2d0a";

    #[test]
    fn events_and_dead_letters_are_the_users_by_name_or_by_subscription() {
        let (app, user) = (AppId::new("mail.contoso.com"), UserId::new("anna"));
        let whose = Whose { app: &app, user: &user, unsids: HashSet::from([Unsid(UNSID.parse().unwrap())]) };
        let told = |key: &str, body: &str| {
            whose.is_told_by(&OutboxRow { id: Uuid::nil(), routing_key: key.to_owned(), body: body.to_owned() })
        };
        let by_id = format!(r#"{{"data":{{"userNotificationSubscriptionId":"{UNSID}"}}}}"#);
        assert!(told("gone.mail.contoso.com", r#"{"data":{"userId":"anna"}}"#));
        assert!(told("gone.mail.contoso.com", &by_id));
        assert!(!told("gone.mail.contoso.com", r#"{"data":{"userId":"ann"}}"#));
        assert!(!told("gone.contoso.com", r#"{"data":{"userId":"anna"}}"#));
        assert!(!told("gone.e-mail.contoso.com", &by_id) && !told("gone.mail.contoso.com", "no JSON"));
        let letter = |headers: &str, body: &str| {
            whose.are_in(&DeadLetter {
                id: Uuid::nil(),
                source_queue: String::new(),
                reason_code: String::new(),
                field: String::new(),
                problem: String::new(),
                fix: String::new(),
                app: Some(app.clone()),
                message_id: None,
                headers: headers.to_owned(),
                body: body.as_bytes().to_vec(),
                parked_at: Timestamp::from_secs(0),
            })
        };
        let of = |target: &str| format!(r#"{{"targetHostName":"mail.contoso.com","target":{target}}}"#);
        let upper = UNSID.to_uppercase();
        assert!(letter("{}", &of(r#"{"userId":"anna"}"#)));
        assert!(letter("{}", &format!(r#"{{"notification":{}}}"#, of(r#"{"userId":"anna"}"#))));
        assert!(letter("{}", &of(&format!(r#"{{"userNotificationSubscriptionId":"{upper}"}}"#))));
        assert!(letter(&format!(r#"{{"headers":{{"x-uns-id":"{upper}"}}}}"#), "no JSON"));
        assert!(letter("{}", &format!(r#"{{"receipts":[{{"userNotificationSubscriptionId":"{UNSID}"}}]}}"#)));
        assert!(!letter("{}", &of(r#"{"userId":"ann"}"#)) && !letter("{}", "anna"));
        // Another user's content may say the name.
        assert!(!letter("{}", r#"{"target":{"userId":"ben"},"payload":{"rawContent":"anna"}}"#));
    }
}
