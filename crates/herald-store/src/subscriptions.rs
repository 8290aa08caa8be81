//! Subscriptions: which devices a user has.
//!
//! Before the way: the gateway registers, intake resolves. One push token has one active subscription per app and
//! environment, so a shared phone never shows the last user's messages.

use herald_core::device::DeviceState;
use herald_core::ids::{AppId, PushToken, Unsid, UserId};
use herald_core::subscription::{Environment, Platform, Subscription, TokenKind};
use herald_core::time::Timestamp;

use crate::{Inner, Result, Store, StoreError};

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
    /// What the device last said of itself.
    pub device: DeviceState,
    /// When it last said any of that.
    pub reported_at: Option<Timestamp>,
}

/// A registration over HTTP: more than a device's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The device.
    pub new: NewSubscription,
    /// What it says of itself.
    pub device: DeviceState,
    /// How many active subscriptions the user may have: a new one more ends the one confirmed longest ago.
    pub limit: Option<usize>,
    /// Only if the one that [`NewSubscription::unsid`] names can be kept: then no new one is made.
    pub known_only: bool,
}

/// What a registration came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// As it is now.
    pub known: KnownSubscription,
    /// It is new; else it was renewed.
    pub made: bool,
}

impl KnownSubscription {
    /// The device said something of itself, or nothing.
    pub(crate) fn said(&mut self, said: DeviceState, at: Timestamp) {
        if !said.is_empty() {
            self.device = self.device.then(said);
            self.reported_at = Some(at);
        }
    }
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

impl From<NewSubscription> for Registration {
    /// Without a limit and without a word of the device.
    fn from(new: NewSubscription) -> Self {
        Self { new, device: DeviceState::default(), limit: None, known_only: false }
    }
}

/// Subscriptions that one registration ends because they are too many. Imports know no limit: a user who has thousands keeps
/// most of them, and comes down by a few with each new device.
const SURPLUS_LIMIT: usize = 5;

/// What registering does to the subscriptions that are there.
pub(crate) struct Plan<'a> {
    /// This one is kept, with what was registered.
    pub(crate) keep: Option<Unsid>,
    /// These have the token, and end.
    pub(crate) replaced: Vec<&'a Subscription>,
    /// These are more than the user may have, and end.
    pub(crate) surplus: Vec<&'a Subscription>,
}

/// Decides from the subscriptions that are not ended and either have the token or are the one named; with a limit, also from
/// all others of the user. None if only a known one would do, and it is not there.
pub(crate) fn plan<'a>(registration: &Registration, candidates: &'a [KnownSubscription]) -> Option<Plan<'a>> {
    let Registration { new, limit, known_only, .. } = registration;
    let all = || candidates.iter().map(|known| &known.subscription);
    let mine = |s: &&Subscription| s.app == new.app && s.user == new.user;
    let has_token = |s: &&Subscription| {
        s.app == new.app && s.environment == new.environment && s.token.expose() == new.token.expose()
    };
    let named = all().filter(mine).find(|s| Some(s.id) == new.unsid).map(|s| s.id);
    if *known_only && named.is_none() {
        return None;
    }
    let keep = named.or_else(|| all().filter(mine).find(has_token).map(|s| s.id));
    let replaced: Vec<_> = all().filter(has_token).filter(|s| Some(s.id) != keep).collect();
    let mut surplus = Vec::new();
    if let Some(limit) = limit.filter(|_| keep.is_none()) {
        let active = candidates.iter().filter(|known| known.active).map(|known| &known.subscription);
        surplus = active.filter(mine).filter(|s| !has_token(s)).collect();
        surplus.sort_unstable_by_key(|s| (s.confirmed_at, s.id));
        surplus.truncate((surplus.len() + 1).saturating_sub(limit).min(SURPLUS_LIMIT));
    }
    Some(Plan { keep, replaced, surplus })
}

impl Store {
    /// Registers or renews a subscription. The same user and token keep their UNSID; any other active subscription with
    /// that token, in that app and environment, ends, and its open deliveries are withdrawn.
    ///
    /// # Errors
    /// As any call; repeating is safe.
    pub async fn subscribe(&self, new: NewSubscription) -> Result<Subscription> {
        let registered = self.register(new.into()).await?;
        let cause = "a subscription without conditions was not made".to_owned();
        let registered = registered.ok_or(StoreError::Unavailable { operation: "subscribe", cause })?;
        Ok(registered.known.subscription)
    }

    /// The same with all that an app says, and within the user's limit. None if it was to be a known one, which is not there
    /// (any more).
    ///
    /// # Errors
    /// As any call; repeating is safe.
    pub async fn register(&self, registration: Registration) -> Result<Option<Registered>> {
        self.within("register", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.register(&registration, self.teller()).await,
                Inner::Sqlite(lite) => lite.register(registration, self.teller.clone()).await,
            }
        })
        .await
    }

    /// Keeps what the device of an active subscription says of itself; what it leaves out stays as it was. None if there is no
    /// such one.
    ///
    /// # Errors
    /// As any call; repeating is safe.
    pub async fn report(&self, unsid: Unsid, said: DeviceState) -> Result<Option<KnownSubscription>> {
        self.within("report", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.report(unsid, said).await,
                Inner::Sqlite(lite) => lite.report(unsid, said).await,
            }
        })
        .await
    }

    /// Subscriptions by their ids, ended ones too, in no order; those never seen are left out.
    ///
    /// # Errors
    /// As any call.
    pub async fn known(&self, unsids: &[Unsid]) -> Result<Vec<KnownSubscription>> {
        self.within("known", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.known(unsids).await,
                Inner::Sqlite(lite) => lite.known(unsids).await,
            }
        })
        .await
    }

    /// The user's active subscriptions with what their devices said, at most 1,000.
    ///
    /// # Errors
    /// As any call.
    pub async fn devices(&self, app: &AppId, user: &UserId) -> Result<Vec<KnownSubscription>> {
        self.within("devices", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.devices(app, user).await,
                Inner::Sqlite(lite) => lite.devices(app, user).await,
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
