//! What an app reads: the object `herald` inside every push, a versioned contract (`docs/app-side.md`).
//!
//! Read by [`crate::push`], which puts it beside `aps` for APNs and, as JSON text, into the one data key `herald` for FCM.
//! What the OS shows (title and body) is not in it. It never holds the user, the app or the push token: the app knows them.
//!
//! | key | when | what |
//! | --- | --- | --- |
//! | `version` | always | [`VERSION`]; an app ignores a version it doesn't know and fetches |
//! | `form` | always | `raw`, `toast`, `alert` or `state` |
//! | `notificationId` | always | the id to fetch by |
//! | `appNotificationId`, `groupName`, `displayTimeToLive` | if the producer gave them | as in the request |
//! | `receipt` | always | the capability to acknowledge this delivery ([`crate::receipt`]) |
//! | `content` | raw content that fits | the raw content, the string as given |
//! | `fetch` | `true` or absent | there is more than this push says: fetch the notification |

mod fit;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

pub(crate) use fit::{Shown, json_bytes, plain_bytes};

use crate::ids::NotificationId;
use crate::notification::{Notification, Visual};
use crate::push::{Context, Form, MAX_PAYLOAD_BYTES};
use crate::receipt;

/// The version of the contract.
pub const VERSION: u8 = 1;
/// The key under which the object stands.
pub const KEY: &str = "herald";

/// The object that an app reads. Borrows everything.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Herald<'a> {
    /// [`VERSION`].
    pub version: u8,
    /// What this push is.
    pub form: Form,
    /// The notification.
    pub notification_id: NotificationId,
    /// The app server's own id of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_notification_id: Option<&'a str>,
    /// The group it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_name: Option<&'a str>,
    /// Seconds that it should stay in the notification viewer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_time_to_live: Option<u32>,
    /// The receipt capability.
    pub receipt: &'a str,
    /// The raw content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<&'a str>,
    /// There is more to fetch.
    #[serde(skip_serializing_if = "is_false")]
    pub fetch: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

impl<'a> Herald<'a> {
    /// All that there is to say, whatever its size. A state push says only what has changed: the app fetches how.
    pub(crate) fn whole(context: &Context<'a>) -> Self {
        let content = &context.notification.content;
        let is_state = context.form == Form::State;
        Self {
            version: VERSION,
            form: context.form,
            notification_id: context.notification.id,
            app_notification_id: content.app_notification_id.as_deref(),
            group_name: content.group_name.as_deref(),
            display_time_to_live: content.display_ttl,
            receipt: context.receipt,
            content: if is_state { None } else { content.payload.raw.as_deref() },
            fetch: is_state,
        }
    }

    /// The same without content.
    pub(crate) fn fetch(self) -> Self {
        Self { content: None, fetch: true, ..self }
    }

    /// The same without what the app finds out by fetching anyway, and without what can't be a capability.
    fn bare(self) -> Self {
        let receipt = if self.receipt.len() <= receipt::MAX_LEN { self.receipt } else { "" };
        Self { app_notification_id: None, group_name: None, display_time_to_live: None, receipt, ..self }
    }

    /// What to try, in this order, until one fits: whole, without content, bare.
    pub(crate) fn by_size(self) -> impl Iterator<Item = Self> {
        // Content alone larger than the push can't fit: don't write it out to find that.
        let whole = Some(self).filter(|h| h.content.is_none_or(|c| c.len() <= MAX_PAYLOAD_BYTES));
        whole.into_iter().chain([self.fetch(), self.fetch().bare()])
    }
}

/// What the OS shows for this push, if it shows anything: the fallback's visual for a toast, the payload's for an alert.
pub(crate) fn visual<'a>(context: &Context<'a>) -> Option<&'a Visual> {
    let content = &context.notification.content;
    match context.form {
        Form::Toast => content.fallback.as_ref().map(|f| &f.visual).or(content.payload.visual.as_ref()),
        Form::Alert => content.payload.visual.as_ref().or(content.fallback.as_ref().map(|f| &f.visual)),
        Form::Raw | Form::State => None,
    }
}

/// What makes a push replace another on the screen: `apns-collapse-id`, and Android's notification `tag`.
///
/// A stable function of app, user and `appNotificationId`, else of the notification's id (rule 6 of the fallback):
/// SHA-256 in base64url, 43 characters, where APNs takes 64 bytes. Always hashed, so that it says nothing about the user.
pub fn collapse_id(notification: &Notification) -> String {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(notification.app.as_str().as_bytes());
    part(notification.user.as_str().as_bytes());
    match &notification.content.app_notification_id {
        Some(id) => part(id.as_bytes()),
        None => {
            part(b"");
            part(notification.id.0.as_bytes());
        }
    }
    URL_SAFE_NO_PAD.encode(hash.finalize())
}

#[cfg(test)]
mod schema;
#[cfg(test)]
pub(crate) mod tests;
