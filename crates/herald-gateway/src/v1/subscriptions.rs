//! `/v1/subscriptions`: the app on the phone says where it is reached; its service may do so for it.
//!
//! Before the way of a notification. A registration is idempotent for each device: the same push token, or the UNSID that the
//! device was given, keeps its UNSID. No answer holds a push token.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use herald_core::device::{Address, DeviceState};
use herald_core::ids::{AppId, Unsid, UserId};
use herald_core::time::Timestamp;
use herald_store::{KnownSubscription, NewSubscription, Registered, Registration};
use serde::Serialize;
use utoipa::ToSchema;

use super::registration::{Change, Device};
use super::{Reach, not_found, object, query, reach, stored};
use crate::api::Api;
use crate::refusal::Refusal;

/// A subscription as it is answered.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Subscription {
    /// Its id, which the app's service sends as X-UNS-ID.
    #[schema(value_type = String, format = "uuid")]
    user_notification_subscription_id: Unsid,
    /// When it ends unless it is renewed.
    #[schema(value_type = String, format = DateTime)]
    expiration_date_time: Timestamp,
    /// ios or android
    platform: String,
    /// token or fid
    token_kind: &'static str,
    /// production or sandbox
    environment: &'static str,
    #[schema(value_type = DeviceStateSchema)]
    device_state: DeviceState,
    /// Whose device it is.
    #[schema(value_type = String)]
    user_id: UserId,
}

/// What a device says of itself.
#[derive(ToSchema)]
#[schema(as = DeviceState, rename_all = "camelCase")]
#[expect(dead_code, reason = "describes herald_core's, which knows no OpenAPI")]
struct DeviceStateSchema {
    /// The user lets the app show alerts.
    alerts_allowed: Option<bool>,
    /// The device saves power.
    low_power_mode: Option<bool>,
    /// The user lets the app work in the background.
    background_refresh: Option<bool>,
}

/// A device to register.
#[derive(ToSchema)]
#[schema(as = SubscriptionRegistration, rename_all = "camelCase")]
#[expect(dead_code, reason = "describes what is read member by member")]
struct DeviceSchema {
    /// Whose device it is; with an app's token.
    user_id: Option<String>,
    /// ios or android, in any case.
    platform: String,
    /// What the device got from Apple (in hex) or Google.
    push_token: String,
    /// token (the default) or fid.
    token_kind: Option<String>,
    /// production (the default) or sandbox; sandbox on iOS alone.
    environment: Option<String>,
    /// The id that this device was given before.
    #[schema(format = "uuid")]
    user_notification_subscription_id: Option<String>,
    /// 90 days ahead by default and at most.
    #[schema(format = DateTime)]
    expiration_date_time: Option<String>,
    #[schema(value_type = Option<DeviceStateSchema>)]
    device_state: Option<DeviceState>,
}

/// What changes; what is left out stays as it was.
#[derive(ToSchema)]
#[schema(as = SubscriptionChange, rename_all = "camelCase")]
#[expect(dead_code, reason = "describes what is read member by member")]
struct ChangeSchema {
    push_token: Option<String>,
    token_kind: Option<String>,
    environment: Option<String>,
    #[schema(value_type = Option<DeviceStateSchema>)]
    device_state: Option<DeviceState>,
}

/// A user's active subscriptions.
#[derive(Serialize, ToSchema)]
pub(crate) struct Subscriptions {
    value: Vec<Subscription>,
}

impl From<KnownSubscription> for Subscription {
    fn from(known: KnownSubscription) -> Self {
        let KnownSubscription { subscription, device, .. } = known;
        Self {
            user_notification_subscription_id: subscription.id,
            expiration_date_time: subscription.expires_at,
            platform: subscription.platform.as_str().to_ascii_lowercase(),
            token_kind: subscription.token_kind.as_str(),
            environment: subscription.environment.as_str(),
            device_state: device,
            user_id: subscription.user,
        }
    }
}

/// Registers a device, or renews its subscription.
#[utoipa::path(
    post,
    path = "/v1/subscriptions",
    operation_id = "registerSubscription",
    tag = "subscriptions",
    request_body = DeviceSchema,
    responses(
        (status = 201, description = "A new subscription", body = Subscription),
        (status = 200, description = "The device's subscription, renewed", body = Subscription),
        (status = 400, description = "A member is missing or wrong; it is named"),
        (status = 401, description = "No token, or one that is no good"),
        (status = 403, description = "A token that may not register this user's devices"),
        (status = 408, description = "The body took too long"),
        (status = 413, description = "More than 64 KiB"),
        (status = 415, description = "Another Content-Encoding than gzip and deflate"),
        (status = 500, description = "The store refuses it: a fault of the service"),
        (status = 503, description = "The store or the issuer's keys are away; come back after Retry-After"),
    ),
    security(("bearer" = [])),
)]
pub(crate) async fn register(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let reach = reach(&api, &parts).await?;
    let body = object(&parts, body).await?;
    let device = Device::read(&body, api.store.clock().now())?;
    let registration = Registration {
        new: new(reach.app.clone(), reach.whose(device.user)?, device.address, device.expires_at, device.unsid),
        device: device.state,
        limit: Some(reach.rules.subscriptions_per_user),
        known_only: false,
    };
    match stored(api.store.register(registration)).await? {
        Some(Registered { known, made }) => {
            let status = if made { StatusCode::CREATED } else { StatusCode::OK };
            Ok((status, Json(Subscription::from(known))).into_response())
        }
        // It would be made, so there is always one; if not, the same request again makes it.
        None => Err(Refusal::unavailable("the subscription was not stored", "send it again after Retry-After")),
    }
}

/// The active subscriptions of a user.
#[utoipa::path(
    get,
    path = "/v1/subscriptions",
    operation_id = "listSubscriptions",
    tag = "subscriptions",
    params(("userId" = Option<String>, Query, description = "Whose; with an app's token")),
    responses(
        (status = 200, description = "At most 1,000", body = Subscriptions),
        (status = 400, description = "userId is missing or names no user"),
        (status = 401, description = "No token, or one that is no good"),
        (status = 403, description = "A token that may not see this user's devices"),
        (status = 500, description = "The store refuses it: a fault of the service"),
        (status = 503, description = "The store or the issuer's keys are away; come back after Retry-After"),
    ),
    security(("bearer" = [])),
)]
pub(crate) async fn list(State(api): State<Arc<Api>>, request: Request) -> Result<Json<Subscriptions>, Refusal> {
    let (parts, _) = request.into_parts();
    let reach = reach(&api, &parts).await?;
    let user = reach.whose(query(&parts.uri, "userId").as_deref())?;
    let devices = stored(api.store.devices(&reach.app, &user)).await?;
    Ok(Json(Subscriptions { value: devices.into_iter().map(Subscription::from).collect() }))
}

/// An active subscription.
#[utoipa::path(
    get,
    path = "/v1/subscriptions/{unsid}",
    operation_id = "getSubscription",
    tag = "subscriptions",
    params(("unsid" = String, Path, description = "Its id")),
    responses(
        (status = 200, description = "As it is", body = Subscription),
        (status = 401, description = "No token, or one that is no good"),
        (status = 403, description = "A token that reaches no devices"),
        (status = 404, description = "No active subscription that the caller may see"),
        (status = 500, description = "The store refuses it: a fault of the service"),
        (status = 503, description = "The store or the issuer's keys are away; come back after Retry-After"),
    ),
    security(("bearer" = [])),
)]
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    unsid: Result<Path<Unsid>, PathRejection>,
    request: Request,
) -> Result<Json<Subscription>, Refusal> {
    let (parts, _) = request.into_parts();
    let known = active(&api, &reach(&api, &parts).await?, unsid).await?;
    Ok(Json(known.into()))
}

/// Changes the push token of an active subscription, or what its device says of itself.
#[utoipa::path(
    patch,
    path = "/v1/subscriptions/{unsid}",
    operation_id = "changeSubscription",
    tag = "subscriptions",
    params(("unsid" = String, Path, description = "Its id")),
    request_body = ChangeSchema,
    responses(
        (status = 200, description = "As it is now", body = Subscription),
        (status = 400, description = "A member is wrong; it is named"),
        (status = 401, description = "No token, or one that is no good"),
        (status = 403, description = "A token that reaches no devices"),
        (status = 404, description = "No active subscription that the caller may change"),
        (status = 408, description = "The body took too long"),
        (status = 413, description = "More than 64 KiB"),
        (status = 415, description = "Another Content-Encoding than gzip and deflate"),
        (status = 500, description = "The store refuses it: a fault of the service"),
        (status = 503, description = "The store or the issuer's keys are away; come back after Retry-After"),
    ),
    security(("bearer" = [])),
)]
pub(crate) async fn change(
    State(api): State<Arc<Api>>,
    unsid: Result<Path<Unsid>, PathRejection>,
    request: Request,
) -> Result<Json<Subscription>, Refusal> {
    let (parts, body) = request.into_parts();
    let known = active(&api, &reach(&api, &parts).await?, unsid).await?.subscription;
    let Change { address, state } = Change::read(&object(&parts, body).await?, &known)?;
    let changed = match address {
        Some(address) => {
            let new = new(known.app, known.user, address, known.expires_at, Some(known.id));
            let registration = Registration { new, device: state, limit: None, known_only: true };
            stored(api.store.register(registration)).await?.map(|registered| registered.known)
        }
        None => stored(api.store.report(known.id, state)).await?,
    };
    // It may have ended since it was looked at.
    changed.map(|known| Json(known.into())).ok_or_else(|| not_found(WHAT))
}

/// Ends a subscription.
#[utoipa::path(
    delete,
    path = "/v1/subscriptions/{unsid}",
    operation_id = "endSubscription",
    tag = "subscriptions",
    params(("unsid" = String, Path, description = "Its id")),
    responses(
        (status = 204, description = "It has ended, now or before; what was on its way to it is withdrawn"),
        (status = 401, description = "No token, or one that is no good"),
        (status = 403, description = "A token that reaches no devices"),
        (status = 404, description = "No subscription that the caller may end"),
        (status = 500, description = "The store refuses it: a fault of the service"),
        (status = 503, description = "The store or the issuer's keys are away; come back after Retry-After"),
    ),
    security(("bearer" = [])),
)]
pub(crate) async fn end(
    State(api): State<Arc<Api>>,
    unsid: Result<Path<Unsid>, PathRejection>,
    request: Request,
) -> Result<StatusCode, Refusal> {
    let (parts, _) = request.into_parts();
    let known = find(&api, &reach(&api, &parts).await?, unsid).await?;
    stored(api.store.end(known.subscription.id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

const WHAT: &str = "subscription";

/// A subscription that the caller may reach, ended or not.
async fn find(
    api: &Api,
    reach: &Reach<'_>,
    unsid: Result<Path<Unsid>, PathRejection>,
) -> Result<KnownSubscription, Refusal> {
    // A path that is no id names nothing.
    let Ok(Path(unsid)) = unsid else { return Err(not_found(WHAT)) };
    let known = stored(api.store.subscription(unsid)).await?;
    let theirs = |known: &KnownSubscription| {
        let subscription = &known.subscription;
        subscription.app == reach.app && reach.user.as_ref().is_none_or(|user| *user == subscription.user)
    };
    known.filter(theirs).ok_or_else(|| not_found(WHAT))
}

async fn active(
    api: &Api,
    reach: &Reach<'_>,
    unsid: Result<Path<Unsid>, PathRejection>,
) -> Result<KnownSubscription, Refusal> {
    let known = find(api, reach, unsid).await?;
    if known.active { Ok(known) } else { Err(not_found(WHAT)) }
}

fn new(app: AppId, user: UserId, address: Address, expires_at: Timestamp, unsid: Option<Unsid>) -> NewSubscription {
    let Address { platform, token_kind, environment, token } = address;
    NewSubscription { app, user, platform, token_kind, token, environment, expires_at, unsid }
}
