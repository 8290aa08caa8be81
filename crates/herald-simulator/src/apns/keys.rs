//! The keys of Apple's teams: which exist, what they may sign for, and which topics a team has.
//!
//! Each app is a team with one key for all topics and both environments; tests add keys with less, restrict and revoke
//! them. Source: Apple, "Establishing a token-based connection to APNs" (team-scoped and topic-specific keys).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use jsonwebtoken::DecodingKey;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde::{Deserialize, Serialize};

use crate::phones::Environment;
use crate::random;
use crate::world::Apps;

/// How many keys and topics may be added.
const ADDED_LIMIT: usize = 1_000;
/// The family of the keys that sign for all topics.
const TEAM: &str = "";

/// A key to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct KeySpec {
    /// The app whose team gets it.
    pub app: String,
    /// The bundle ids that it signs for; empty: all of the team. A key with topics is unrelated to every other key.
    pub topics: Vec<String>,
    /// The environments that it signs for; empty: both.
    pub environments: Vec<Environment>,
    /// Another key of the team, to which it is related in spite of its topics.
    pub related_to: Option<String>,
}

/// What to change about a key; what is absent stays. Meets all connections, at their next request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct KeyChange {
    /// See [`KeySpec::topics`].
    pub topics: Option<Vec<String>>,
    /// See [`KeySpec::environments`].
    pub environments: Option<Vec<Environment>>,
    /// A revoked key's provider tokens are refused with `InvalidProviderToken`.
    pub revoked: Option<bool>,
}

/// A key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyView {
    /// Its id, 10 characters.
    pub key_id: String,
    /// Its team's id, 10 characters.
    pub team_id: String,
    /// The app whose team has it.
    pub app: String,
    /// See [`KeySpec::topics`].
    pub topics: Vec<String>,
    /// See [`KeySpec::environments`].
    pub environments: Vec<Environment>,
    /// See [`KeyChange::revoked`].
    pub revoked: bool,
}

/// Why a key or topic can't be made or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The app has no credentials here.
    #[error("no app {0:?} here; give one of those the simulator was started with")]
    NoSuchApp(String),
    /// No key has this id.
    #[error("no key {0:?}")]
    NoSuchKey(String),
    /// Another team has this bundle id.
    #[error("topic {0:?} exists already")]
    Topic(String),
    /// There are too many.
    #[error("{ADDED_LIMIT} added keys or topics are enough; reset first")]
    TooMany,
    /// The system could not make a key.
    #[error("can't make a key: {0}")]
    Made(String),
}

/// A key that was made, with its secret.
pub(crate) struct NewKey {
    pub(crate) view: KeyView,
    pub(crate) pem: String,
}

/// A key as signatures are checked with it.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) app: usize,
    pub(super) public: DecodingKey,
    /// Keys of one family may share a connection.
    pub(super) family: String,
    topics: Vec<String>,
    environments: Vec<Environment>,
    pub(super) revoked: bool,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("app", &self.app).finish_non_exhaustive()
    }
}

impl Key {
    pub(super) fn signs_for(&self, bundle_id: &str) -> bool {
        self.topics.is_empty() || self.topics.iter().any(|topic| topic == bundle_id)
    }

    pub(super) fn signs_in(&self, environment: Environment) -> bool {
        self.environments.is_empty() || self.environments.contains(&environment)
    }

    fn view(&self, key_id: &str, apps: &Apps) -> KeyView {
        let app = &apps.list[self.app];
        KeyView {
            key_id: key_id.to_owned(),
            team_id: app.keys.credentials.apns_team_id.clone(),
            app: app.spec.app.clone(),
            topics: self.topics.clone(),
            environments: self.environments.clone(),
            revoked: self.revoked,
        }
    }
}

/// A bundle id, and the app whose team has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Topic {
    pub(super) app: usize,
    /// Connections that bound themselves before this change don't know it.
    pub(super) since: u64,
}

/// All keys, and the topics that were added.
#[derive(Debug)]
pub(crate) struct Keyring {
    /// Counts changes, so that a connection checks its token again after one, and takes no lock otherwise.
    changes: AtomicU64,
    kept: RwLock<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    keys: HashMap<String, Arc<Key>>,
    topics: HashMap<String, Topic>,
}

impl Kept {
    fn new(apps: &Apps) -> Self {
        let keys = apps.list.iter().enumerate().map(|(app, each)| {
            let key = Key {
                app,
                public: each.keys.apns_key.clone(),
                family: TEAM.to_owned(),
                topics: Vec::new(),
                environments: Vec::new(),
                revoked: false,
            };
            (each.keys.credentials.apns_key_id.clone(), Arc::new(key))
        });
        Self { keys: keys.collect(), topics: HashMap::new() }
    }
}

impl Keyring {
    /// One key for each app.
    pub(crate) fn new(apps: &Apps) -> Self {
        Self { changes: AtomicU64::new(0), kept: RwLock::new(Kept::new(apps)) }
    }

    /// Back to the keys of the start, without restrictions.
    pub(crate) fn reset(&self, apps: &Apps) {
        *self.write() = Kept::new(apps);
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// How many changes there were.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    pub(super) fn key(&self, key_id: &str) -> Option<Arc<Key>> {
        self.read().keys.get(key_id).cloned()
    }

    /// A bundle id of the start, or one that was added.
    pub(super) fn topic(&self, apps: &Apps, bundle_id: &str) -> Option<Topic> {
        let initial = apps.of_bundle_id(bundle_id).map(|app| Topic { app, since: 0 });
        initial.or_else(|| self.read().topics.get(bundle_id).copied())
    }

    /// All keys, by id.
    pub(crate) fn views(&self, apps: &Apps) -> Vec<KeyView> {
        let mut views: Vec<_> = self.read().keys.iter().map(|(key_id, key)| key.view(key_id, apps)).collect();
        views.sort_by(|a, b| a.key_id.cmp(&b.key_id));
        views
    }

    /// Makes a key.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub(crate) fn add(&self, apps: &Apps, spec: &KeySpec, seed: u64) -> Result<NewKey, KeyError> {
        let app = apps.named(&spec.app).ok_or_else(|| KeyError::NoSuchApp(spec.app.clone()))?;
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| KeyError::Made(error.to_string()))?;
        let mut kept = self.write();
        if kept.keys.len() >= apps.list.len() + ADDED_LIMIT {
            return Err(KeyError::TooMany);
        }
        let key_id = random::chars(seed, &format!("{} key_id {}", spec.app, kept.keys.len()), random::CAPITALS, 10);
        let family = match &spec.related_to {
            Some(other) => kept.keys.get(other).ok_or_else(|| KeyError::NoSuchKey(other.clone()))?.family.clone(),
            None if spec.topics.is_empty() => TEAM.to_owned(),
            None => key_id.clone(),
        };
        let key = Key {
            app,
            public: DecodingKey::from_ec_der(pair.public_key_raw()),
            family,
            topics: spec.topics.clone(),
            environments: spec.environments.clone(),
            revoked: false,
        };
        let view = key.view(&key_id, apps);
        kept.keys.insert(key_id, Arc::new(key));
        Ok(NewKey { view, pem: pair.serialize_pem() })
    }

    /// Restricts or revokes a key.
    ///
    /// # Errors
    /// [`KeyError::NoSuchKey`].
    pub(crate) fn change(&self, apps: &Apps, key_id: &str, change: &KeyChange) -> Result<KeyView, KeyError> {
        let mut kept = self.write();
        let key = kept.keys.get_mut(key_id).ok_or_else(|| KeyError::NoSuchKey(key_id.to_owned()))?;
        let mut changed = (**key).clone();
        if let Some(topics) = &change.topics {
            changed.topics.clone_from(topics);
        }
        if let Some(environments) = &change.environments {
            changed.environments.clone_from(environments);
        }
        changed.revoked = change.revoked.unwrap_or(changed.revoked);
        let view = changed.view(key_id, apps);
        *key = Arc::new(changed);
        self.changes.fetch_add(1, Ordering::AcqRel);
        Ok(view)
    }

    /// Gives an app's team another bundle id. The tokens of the app's phones are taken for it too. Connections that are
    /// in use don't know it.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub(crate) fn add_topic(&self, apps: &Apps, app: &str, bundle_id: &str) -> Result<(), KeyError> {
        let app = apps.named(app).ok_or_else(|| KeyError::NoSuchApp(app.to_owned()))?;
        let mut kept = self.write();
        if apps.of_bundle_id(bundle_id).is_some() || kept.topics.contains_key(bundle_id) {
            return Err(KeyError::Topic(bundle_id.to_owned()));
        }
        if kept.topics.len() >= ADDED_LIMIT {
            return Err(KeyError::TooMany);
        }
        let since = self.changes.fetch_add(1, Ordering::AcqRel) + 1;
        kept.topics.insert(bundle_id.to_owned(), Topic { app, since });
        Ok(())
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Kept> {
        self.kept.read().expect("nothing panics while keys are held")
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Kept> {
        self.kept.write().expect("nothing panics while keys are held")
    }
}
