//! A post's way: who calls, what the headers say, the body, the contract, the store, the answer.
//!
//! Each step refuses by itself, in this order, and nothing is stored before all of them have let it through.

use std::sync::Arc;

use axum::extract::Request as HttpRequest;
use herald_core::fallback::{self, Fallback, Mode, NotOwed};
use herald_core::ids::{AppId, NotificationId, UserId};
use herald_core::lane::Lane;
use herald_core::notification::{Notification, Priority};
use herald_core::request::{self, Envelope, MAX_BODY_BYTES, Request, RequestError, Target};
use herald_core::subscription::Platform;
use herald_core::time::Timestamp;
use herald_store::{Intaken, NewNotification, StoreError};
use tokio::time::timeout;
use tracing::warn;
use uuid::Uuid;

use crate::api::{AppRules, STORE_LIMIT};
use crate::commit::NotCommitted;
use crate::refusal::Refusal;
use crate::{auth, body};

use super::Graph;
use super::headers::Head;
use super::resource::{Created, Version};
use super::whose::{addressee, unconfigured};

const AGAIN: &str = "send it again after Retry-After; with an Idempotency-Key, repeating is harmless";

/// Takes a notification in.
///
/// # Errors
/// See docs/http.md.
pub(super) async fn take_in(graph: &Graph, path_user: Option<&str>, request: HttpRequest) -> Result<Created, Refusal> {
    let clock = graph.api.store.clock();
    let (parts, body) = request.into_parts();
    let caller = auth::caller(&graph.api, &parts.headers, clock.now()).await?;
    let user = addressee(&caller, path_user)?;
    let head = Head::of(&parts.headers)?;
    let body = head.encoding.decode(body::read(HttpRequest::new(body), MAX_BODY_BYTES).await?, MAX_BODY_BYTES)?;
    let received_at = clock.now();
    let request = read(graph, caller.app(), user, &head, &body, received_at)?;
    let (notification, received_at) = store(graph, request, received_at).await?;
    let version = Version::of(parts.uri.path());
    let times = (received_at, clock.now());
    Ok(Created::new(&notification, times, &graph.api.public_url, version, path_user.is_some()))
}

/// Reads and checks the request, as far as that needs no store.
fn read(
    graph: &Graph,
    app: &AppId,
    user: Option<UserId>,
    head: &Head<'_>,
    body: &[u8],
    now: Timestamp,
) -> Result<Request, Refusal> {
    let Some(AppRules { limits, .. }) = graph.api.apps.get(app) else {
        return Err(unconfigured());
    };
    let envelope = Envelope {
        message_id: Some(&head.key),
        content_type: head.content_type,
        unsid: head.unsid,
        traceparent: head.traceparent,
        tracestate: head.tracestate,
        ..Envelope::default()
    };
    // The lane is chosen below, once the priority is known.
    let parsed = match user {
        Some(user) => request::parse_for(user, body, &envelope, Lane::Normal, limits, now),
        None => request::parse(body, &envelope, Lane::Normal, limits, now),
    };
    let request = parsed.map_err(broken)?;
    if request.app != *app {
        let fix = "send the host name of the app that the token is of";
        return Err(Refusal::forbidden("targetHostName", "is another app's than the token", fix));
    }
    let first_push = request.deliver_at.unwrap_or(now);
    let owed = fallback::owed(&request.content, Platform::Ios, Mode::Send, request.expires_at, first_push);
    if owed == Fallback::NotOwed(NotOwed::ExpiresFirst) {
        let fix = "set a later one, or a shorter fallbackPolicy.endpointFallback.fallbackDelayInSeconds";
        return Err(Refusal::invalid("expirationDateTime", "comes before the fallback would be due", fix));
    }
    Ok(Request { lane: lane(request.content.priority), ..request })
}

fn lane(priority: Priority) -> Lane {
    match priority {
        Priority::High => Lane::High,
        Priority::None => Lane::Normal,
        Priority::Low => Lane::Low,
    }
}

/// The contract's own names for what is a property on a queue and a header here.
fn broken(error: RequestError) -> Refusal {
    let RequestError { field, problem, fix, expired: _ } = error;
    let field = match field.as_str() {
        "message_id" => "Idempotency-Key".to_owned(),
        "content_type" => "Content-Type".to_owned(),
        "x-uns-id" => "X-UNS-ID".to_owned(),
        _ => field,
    };
    Refusal::invalid(field, problem, fix)
}

/// What is stored, and since when.
type Stored = (Arc<Notification>, Timestamp);

/// By what a notification that is stored already is found.
struct Named {
    app: AppId,
    target: Target,
    key: String,
}

/// Stores it. If its key is stored already, the answer is the first one's.
async fn store(graph: &Graph, request: Request, received_at: Timestamp) -> Result<Stored, Refusal> {
    let named = Named { app: request.app.clone(), target: request.target.clone(), key: request.key.clone() };
    let new = NewNotification { id: NotificationId(Uuid::now_v7()), request, received_at };
    let committed = timeout(STORE_LIMIT, graph.commits.commit(vec![new])).await;
    let intaken = match committed {
        Ok(Ok(mut intaken)) => intaken.pop(),
        Ok(Err(NotCommitted::Refused)) => {
            return Err(Refusal::defect("the store refuses this notification, which is a fault of the service"));
        }
        Ok(Err(NotCommitted::Away)) | Err(_) => None,
    };
    match intaken {
        Some(Intaken::Stored { notification, .. }) => Ok((notification, received_at)),
        Some(Intaken::Duplicate) => first(graph, &named).await,
        Some(Intaken::UnknownTarget) => {
            let fix = "send the id that the app got when its device subscribed";
            let problem = "is no subscription that this app ever had";
            Err(Refusal::forbidden("userNotificationSubscriptionId", problem, fix))
        }
        None => Err(Refusal::unavailable("the notification could not be stored now", AGAIN)),
    }
}

/// What is stored under the key of a repetition.
async fn first(graph: &Graph, repeated: &Named) -> Result<Stored, Refusal> {
    match timeout(STORE_LIMIT, find(graph, repeated)).await {
        Ok(Ok(Some(found))) => return Ok(found),
        // It was swept in this moment: the next time it is new.
        Ok(Ok(None)) => {}
        Ok(Err(error)) => {
            warn!(%error, "what a repeated post had stored could not be read; its sender is told to repeat it")
        }
        Err(_) => warn!("what a repeated post had stored was not read in time; its sender is told to repeat it"),
    }
    Err(Refusal::unavailable("the notification is stored, and could not be read now", AGAIN))
}

async fn find(graph: &Graph, repeated: &Named) -> Result<Option<Stored>, StoreError> {
    let store = &graph.api.store;
    let user = match &repeated.target {
        Target::User(user) => Some(user.clone()),
        Target::Unsid(unsid) => store.subscription(*unsid).await?.map(|known| known.subscription.user),
    };
    let Some(user) = user else { return Ok(None) };
    let Some(id) = store.notification_by_key(&repeated.app, &user, &repeated.key).await? else { return Ok(None) };
    Ok(store.trace(&repeated.app, id).await?.map(|trace| (Arc::new(trace.notification), trace.received_at)))
}
