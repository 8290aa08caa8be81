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
use crate::secret::Secret;

/// The operator's token. Prints nothing of it.
#[derive(Debug, Clone)]
pub struct OperatorToken(Secret);

impl OperatorToken {
    /// The fewest characters of one.
    pub const MIN_CHARS: usize = 32;

    /// Of the token as it is sent behind `Authorization: Bearer`; none if it is shorter than [`Self::MIN_CHARS`], or could not be
    /// sent so: visible ASCII characters alone.
    pub fn new(token: &str) -> Option<Self> {
        let good = token.len() >= Self::MIN_CHARS && token.bytes().all(|byte| byte.is_ascii_graphic());
        good.then(|| Self(Secret::new(token)))
    }
}

/// Who is calling, where the operator may too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Who {
    /// Whoever runs this service: every app's things are theirs to see.
    Operator,
    /// An app, or a user of one.
    Caller(Caller),
}

/// Who is calling.
///
/// # Errors
/// As [`caller`].
pub(crate) async fn who(api: &Api, headers: &HeaderMap, now: Timestamp) -> Result<Who, Refusal> {
    if let Some(operator) = &api.operator
        && bearer(headers).is_some_and(|token| operator.0.is(&token))
    {
        return Ok(Who::Operator);
    }
    caller(api, headers, now).await.map(Who::Caller)
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operators_token_is_long_can_be_sent_and_never_prints() {
        let good = "0123456789abcdef0123456789abcdef";
        let token = OperatorToken::new(good).unwrap();
        assert!(token.0.is(good) && !token.0.is(&good.replace('0', "1")));
        for wrong in [&good[1..], "", &good.replace('0', " "), &good.replace('0', "\u{e4}")] {
            assert!(OperatorToken::new(wrong).is_none(), "{wrong}");
        }
        assert_eq!(format!("{token:?}"), "OperatorToken(Secret(…))");
    }
}
