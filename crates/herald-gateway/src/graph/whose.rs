//! Whose notifications a request is about, and which device asks: from token, path and `X-UNS-ID`.
//!
//! The first step of reads and changes, before anything else of the request is looked at. Another app's or another user's
//! subscription is answered as one that does not exist (G8).

use axum::http::HeaderMap;
use herald_core::ids::{AppId, Unsid, UserId};
use herald_core::request::MAX_NAME_CHARS;

use crate::api::{Api, asked};
use crate::auth;
use crate::identity::Caller;
use crate::refusal::Refusal;

use super::headers::one;

/// Who asks, about whom.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) app: AppId,
    pub(super) user: UserId,
    /// The device that `X-UNS-ID` names; it is the user's.
    pub(super) device: Option<Unsid>,
    /// The user asks, and not the app's service.
    by_user: bool,
}

impl Asking {
    /// # Errors
    /// 401, 403, 503 as for every caller; 400 and 403 for an `X-UNS-ID` that is none, or none of this user's, and without one
    /// where nothing else names the user.
    pub(super) async fn of(api: &Api, headers: &HeaderMap, path_user: Option<&str>) -> Result<Self, Refusal> {
        let caller = auth::caller(api, headers, api.store.clock().now()).await?;
        let named = addressee(&caller, path_user)?;
        let app = caller.app();
        if !api.apps.contains_key(app) {
            return Err(unconfigured());
        }
        let by_user = matches!(caller, Caller::User { .. });
        let Some(unsid) = unsid(headers)? else {
            let Some(user) = named else {
                let fix = "send the id that the app got when its device subscribed, or use /users/{id}/notifications";
                return Err(Refusal::invalid("X-UNS-ID", "is missing, so no user is named", fix));
            };
            return Ok(Self { app: app.clone(), user, device: None, by_user });
        };
        let known = asked("the subscription", api.store.subscription(unsid)).await?;
        let ours = known.map(|known| known.subscription).filter(|subscription| {
            subscription.app == *app && named.as_ref().is_none_or(|user| subscription.user == *user)
        });
        let Some(subscription) = ours else {
            let fix = "send the id that the app got when this user's device subscribed";
            return Err(Refusal::forbidden("X-UNS-ID", "is no subscription of this app and user", fix));
        };
        Ok(Self { app: app.clone(), user: subscription.user, device: Some(unsid), by_user })
    }

    /// The device that asks itself, by its user's token: what is handed out has arrived there, and what it changes it knows.
    pub(super) fn own_device(&self) -> Option<Unsid> {
        self.device.filter(|_| self.by_user)
    }
}

/// A 403 for an app without rules here.
pub(super) fn unconfigured() -> Refusal {
    let fix = "ask the operator to configure the app here";
    Refusal::forbidden("Authorization", "the token is of an app that is not configured here", fix)
}

fn unsid(headers: &HeaderMap) -> Result<Option<Unsid>, Refusal> {
    let unsid = one(headers, "X-UNS-ID")?.map(|text| {
        let fix = "send the id that the app got when its device subscribed, as it is";
        text.parse().map(Unsid).map_err(|_| Refusal::invalid("X-UNS-ID", "is no subscription's id", fix))
    });
    unsid.transpose()
}

/// The user that token and path name. None: the request itself must name them.
pub(super) fn addressee(caller: &Caller, path_user: Option<&str>) -> Result<Option<UserId>, Refusal> {
    match (caller, path_user) {
        (Caller::App(_), None) => Ok(None),
        (Caller::App(_), Some(named)) => {
            let length = named.chars().count();
            if !(1..=MAX_NAME_CHARS).contains(&length) || named.chars().any(char::is_control) {
                let fix = format!("give 1 to {MAX_NAME_CHARS} characters without control characters");
                return Err(Refusal::invalid("path", "names no user", fix));
            }
            Ok(Some(UserId::new(named)))
        }
        (Caller::User { user, .. }, named) => {
            if named.is_some_and(|named| named != user.as_str()) {
                let fix = "use /me/notifications, or an app token";
                return Err(Refusal::forbidden("path", "names another user than the token", fix));
            }
            Ok(Some(user.clone()))
        }
    }
}
