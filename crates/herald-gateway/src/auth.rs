//! Who may come in: from the headers of a request to its caller, or to the refusal that says why not.
//!
//! The first step of every route but receipts by capability, health and metrics; nothing of a body is read before it. Here
//! each request counts against its app's rate too. What the caller may do there is the route's to say.

use axum::http::{HeaderMap, StatusCode};
use herald_core::time::Timestamp;

use crate::api::Api;
use crate::identity::{Caller, Refused, SCOPES, TokenError};
use crate::passing;
use crate::receipts::bearer;
use crate::refusal::Refusal;

/// The caller, who may reach notifications.
///
/// # Errors
/// 401 for a token that is missing or no good; 403 for one of a client of no app here, and for a user's without the scope;
/// 503 while its issuer's keys have never been seen; 429 or 406 for one too many of its app.
pub(crate) async fn caller(api: &Api, headers: &HeaderMap, now: Timestamp) -> Result<Caller, Refusal> {
    let Some(token) = bearer(headers) else {
        let (code, fix) = ("InvalidAuthenticationToken", "send Authorization: Bearer with an access token");
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, code, "Authorization", "has no bearer token", fix));
    };
    let caller = api.identity.caller(&token, now).await.map_err(|refused| refusal(&refused))?;
    passing::is_of(caller.app());
    api.throttle.admit(caller.app(), &api.metrics)?;
    if !caller.may_reach_notifications() {
        let fix = format!("ask for a token with the scope {}", SCOPES[0]);
        return Err(Refusal::forbidden(
            "Authorization",
            "the token has no scope that lets it reach notifications",
            fix,
        ));
    }
    Ok(caller)
}

fn refusal(refused: &Refused) -> Refusal {
    let problem = refused.to_string();
    match refused {
        Refused::Token(TokenError::NoKeys) => Refusal::unavailable(problem, "send it again after Retry-After"),
        Refused::Token(_) => Refusal::invalid_token(problem, "get a new token for this service"),
        Refused::Client => Refusal::forbidden("Authorization", problem, "add its client id to client_ids of its app"),
    }
}
