//! Subscriptions: which devices a user has.
//!
//! Before the way: the gateway registers, intake resolves. One push token has one active subscription per app and
//! environment, so a shared phone never shows the last user's messages.

use herald_core::ids::{AppId, PushToken, Unsid, UserId};
use herald_core::subscription::{Environment, Platform, Subscription, TokenKind};
use herald_core::time::Timestamp;

use crate::{Inner, Result, Store};

/// What an app registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSubscription {
    /// The tenant.
    pub app: AppId,
    /// Whose device it is.
    pub user: UserId,
    /// What kind of device.
    pub platform: Platform,
    /// What kind of address `token` is.
    pub token_kind: TokenKind,
    /// The address.
    pub token: PushToken,
    /// Where the token is valid.
    pub environment: Environment,
    /// When it ends unless renewed.
    pub expires_at: Timestamp,
    /// The subscription whose token this is from now on. If it ended, or is not this user's, a new one is made.
    pub unsid: Option<Unsid>,
}

/// A subscription, ended or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownSubscription {
    /// As it is, or was when it ended.
    pub subscription: Subscription,
    /// Neither ended nor expired.
    pub active: bool,
}

impl NewSubscription {
    /// What is stored of it.
    pub(crate) fn registered(&self, id: Unsid, confirmed_at: Timestamp, expires_at: Timestamp) -> Subscription {
        Subscription {
            id,
            app: self.app.clone(),
            user: self.user.clone(),
            platform: self.platform,
            token_kind: self.token_kind,
            token: self.token.clone(),
            environment: self.environment,
            confirmed_at,
            expires_at,
        }
    }
}

/// What registering does to the subscriptions that are there.
pub(crate) struct Plan<'a> {
    /// This one is kept, with what was registered.
    pub(crate) keep: Option<Unsid>,
    /// These have the token, and end.
    pub(crate) replaced: Vec<&'a Subscription>,
}

/// Decides from the subscriptions that are not ended and either have the token or are the one named.
pub(crate) fn plan<'a>(new: &NewSubscription, candidates: &'a [Subscription]) -> Plan<'a> {
    let mine = |s: &&Subscription| s.app == new.app && s.user == new.user;
    let has_token = |s: &&Subscription| {
        s.app == new.app && s.environment == new.environment && s.token.expose() == new.token.expose()
    };
    let named = candidates.iter().filter(mine).find(|s| Some(s.id) == new.unsid);
    let keep = named.or_else(|| candidates.iter().filter(mine).find(has_token)).map(|s| s.id);
    let replaced = candidates.iter().filter(has_token).filter(|s| Some(s.id) != keep).collect();
    Plan { keep, replaced }
}

impl Store {
    /// Registers or renews a subscription. The same user and token keep their UNSID; any other active subscription with
    /// that token, in that app and environment, ends, and its open deliveries are withdrawn.
    ///
    /// # Errors
    /// As any call; repeating is safe.
    pub async fn subscribe(&self, new: NewSubscription) -> Result<Subscription> {
        self.within("subscribe", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.subscribe(&new, self.teller()).await,
                Inner::Sqlite(lite) => lite.subscribe(&new, self.teller.clone()).await,
            }
        })
        .await
    }

    /// Registers very many at once, for benches and imports. `unsid` is not looked at. Answers in the order given.
    ///
    /// # Errors
    /// As any call; some may be registered then, and repeating is safe.
    pub async fn subscribe_many(&self, new: &[NewSubscription]) -> Result<Vec<Subscription>> {
        /// As many rows as one statement takes without a long pause for others.
        const STEP: usize = 5_000;
        let mut all = Vec::with_capacity(new.len());
        for step in new.chunks(STEP) {
            let made = self.within("subscribe_many", async {
                match &self.inner {
                    Inner::Postgres(pg) => pg.subscribe_many(step, self.teller()).await,
                    Inner::Sqlite(lite) => lite.subscribe_many(step, self.teller.clone()).await,
                }
            });
            all.extend(made.await?);
        }
        Ok(all)
    }

    /// The user's active subscriptions, at most 1,000.
    ///
    /// # Errors
    /// As any call.
    pub async fn list(&self, app: &AppId, user: &UserId) -> Result<Vec<Subscription>> {
        self.within("list", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.list(app, user).await,
                Inner::Sqlite(lite) => lite.list(app, user).await,
            }
        })
        .await
    }

    /// A subscription by its id. Known for 90 days after its end.
    ///
    /// # Errors
    /// As any call.
    pub async fn subscription(&self, unsid: Unsid) -> Result<Option<KnownSubscription>> {
        self.within("subscription", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.subscription(unsid).await,
                Inner::Sqlite(lite) => lite.subscription(unsid).await,
            }
        })
        .await
    }

    /// Ends a subscription and withdraws its open deliveries. Returns whether it was active.
    ///
    /// # Errors
    /// As any call; repeating is safe.
    pub async fn end(&self, unsid: Unsid) -> Result<bool> {
        self.within("end", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.end(unsid, self.teller()).await,
                Inner::Sqlite(lite) => lite.end(unsid, self.teller.clone()).await,
            }
        })
        .await
    }
}
