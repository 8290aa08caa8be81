//! The service accounts of Google's projects: whose key has been revoked.
//!
//! Each app is a project with one service account and one key. The token endpoint asks here; access tokens that were
//! fetched before don't.

use std::collections::BTreeSet;
use std::sync::RwLock;

use serde::{Deserialize, Serialize};

use crate::apns::KeyError;
use crate::world::Apps;

/// What to change about an app's service account; what is absent stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ServiceAccountChange {
    /// With a revoked key no access token can be had: `invalid_grant`, "Invalid JWT Signature.". Those that were fetched
    /// before hold until they end or [`crate::Simulator::revoke_access_tokens`].
    pub revoked: Option<bool>,
}

/// A service account, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountView {
    /// The app whose project has it.
    pub app: String,
    /// The project's id.
    pub project_id: String,
    /// Its name.
    pub client_email: String,
    /// The id of its key.
    pub private_key_id: String,
    /// See [`ServiceAccountChange::revoked`].
    pub revoked: bool,
}

/// What was changed about the accounts.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    /// By app.
    revoked: RwLock<BTreeSet<usize>>,
}

impl Accounts {
    /// Whether the key of this app's account is revoked.
    pub(super) fn is_revoked(&self, app: usize) -> bool {
        self.revoked.read().expect("nothing panics while accounts are held").contains(&app)
    }

    /// All accounts, in the order of the apps.
    pub(crate) fn views(&self, apps: &Apps) -> Vec<ServiceAccountView> {
        (0..apps.list.len()).map(|app| self.view(apps, app)).collect()
    }

    fn view(&self, apps: &Apps, app: usize) -> ServiceAccountView {
        let owner = &apps.list[app];
        ServiceAccountView {
            app: owner.spec.app.clone(),
            project_id: owner.spec.project_id.clone(),
            client_email: owner.keys.client_email.clone(),
            private_key_id: owner.keys.fcm_key_id.clone(),
            revoked: self.is_revoked(app),
        }
    }

    /// Changes an app's account.
    ///
    /// # Errors
    /// [`KeyError::NoSuchApp`].
    pub(crate) fn change(
        &self,
        apps: &Apps,
        app: &str,
        change: ServiceAccountChange,
    ) -> Result<ServiceAccountView, KeyError> {
        let index = apps.named(app).ok_or_else(|| KeyError::NoSuchApp(app.to_owned()))?;
        if let Some(revoked) = change.revoked {
            let mut all = self.revoked.write().expect("nothing panics while accounts are held");
            if revoked {
                all.insert(index)
            } else {
                all.remove(&index)
            };
        }
        Ok(self.view(apps, index))
    }

    /// All keys are valid again.
    pub(crate) fn reset(&self) {
        self.revoked.write().expect("nothing panics while accounts are held").clear();
    }
}
