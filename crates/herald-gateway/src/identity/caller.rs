//! Who is calling: what a verified token's claims say about app and user.
//!
//! Stands between the check of a signature and the first decision about a request. Pure: issuers, clients and time are
//! arguments. What the caller may do with it is each route's to say; here two things are decided, for which app the token
//! speaks and whether for the app itself or for one of its users.

use std::collections::HashMap;
use std::time::Duration;

use herald_core::ids::{AppId, UserId};
use herald_core::time::Timestamp;

use super::explain::{See, Seen};
use super::token::{Claims, TokenError};

/// How far the clocks of an issuer and of the store may differ.
pub(crate) const LEEWAY: Duration = Duration::from_secs(60);
/// The longest user id, in characters, as everywhere (`herald_core::request::MAX_NAME_CHARS`).
const MAX_USER_CHARS: usize = herald_core::request::MAX_NAME_CHARS;

/// The scopes that let a user's token reach the user's notifications. Graph documented the first; its catalogue has both.
pub const SCOPES: [&str; 2] = ["Notifications.ReadWrite.CreatedByApp", "UserNotification.ReadWrite.CreatedByApp"];

/// What is taken of an issuer's tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// One of these must be in `aud`. Never empty.
    pub audiences: Vec<String>,
    /// The claim that names the user: `sub`; for Microsoft's issuers `oid`, since their `sub` differs from app to app.
    pub user_claim: String,
    /// Put before a user's name, so that two issuers can't speak for one user. Empty where there is one issuer.
    pub user_prefix: String,
}

/// Client ids, in lower case, with the app that each belongs to.
pub type Clients = HashMap<String, AppId>;

/// Who is calling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// The app itself: its service, with an app token.
    App(AppId),
    /// A user of the app, with the scopes of their token.
    User {
        /// The app that got the token.
        app: AppId,
        /// The user.
        user: UserId,
        /// It has one of [`SCOPES`].
        may: bool,
    },
}

impl Caller {
    /// For which app it speaks.
    pub fn app(&self) -> &AppId {
        match self {
            Self::App(app) | Self::User { app, .. } => app,
        }
    }

    /// Whether it may reach notifications at all: an app may, and a user whose token has the scope.
    pub fn may_reach_notifications(&self) -> bool {
        matches!(self, Self::App(_) | Self::User { may: true, .. })
    }
}

/// Why a bearer is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The token itself is no good: 401, or 503 for [`TokenError::NoKeys`].
    #[error("the token {0}")]
    Token(#[from] TokenError),
    /// The token is good, and its client is no app's here: 403.
    #[error("the client that got the token belongs to no app here")]
    Client,
}

/// What a token's claims say, once its signature held.
///
/// # Errors
/// See [`Refused`].
pub(crate) fn of(
    claims: &Claims,
    rules: &Rules,
    clients: &Clients,
    now: Timestamp,
    see: &mut See<'_>,
) -> Result<Caller, Refused> {
    timely(claims, now, see)?;
    let audiences = claims.texts("aud");
    see(Seen::Audience { has: audiences.as_deref(), wanted: &rules.audiences });
    let audiences = audiences.ok_or(TokenError::Claim("aud"))?;
    if !audiences.iter().any(|audience| rules.audiences.iter().any(|ours| ours == audience)) {
        return Err(TokenError::Audience.into());
    }
    let client = ["appid", "azp", "client_id"].into_iter().find_map(|name| claims.text(name));
    let app = client.and_then(|client| clients.get(&client.to_ascii_lowercase()));
    see(Seen::Client { id: client, app });
    let client = client.ok_or(TokenError::Claim("appid, azp or client_id"))?;
    let app = app.ok_or(Refused::Client)?.clone();
    let of_app = is_app_token(claims, client);
    see(Seen::Kind { of_app });
    if of_app {
        return Ok(Caller::App(app));
    }
    let user = claims.text(&rules.user_claim);
    see(Seen::User { claim: &rules.user_claim, name: user });
    let user = user.ok_or(TokenError::Claim("that names the user"))?;
    let user = format!("{}{user}", rules.user_prefix);
    if user.chars().count() > MAX_USER_CHARS || user.chars().any(char::is_control) {
        return Err(TokenError::Claim("that names the user").into());
    }
    see(Seen::Scopes(scopes(claims).collect()));
    let may = scopes(claims).any(|scope| SCOPES.iter().any(|ours| ours.eq_ignore_ascii_case(last_segment(scope))));
    Ok(Caller::User { app, user: UserId::new(user), may })
}

fn timely(claims: &Claims, now: Timestamp, see: &mut See<'_>) -> Result<(), TokenError> {
    let (begins, ends) = (claims.time("nbf"), claims.time("exp"));
    see(Seen::Life { begins: begins.clone(), ends: ends.clone() });
    let ends = ends?.ok_or(TokenError::Claim("exp"))?;
    if ends.plus(LEEWAY) <= now {
        return Err(TokenError::Expired);
    }
    if begins?.is_some_and(|begins| begins > now.plus(LEEWAY)) {
        return Err(TokenError::NotYet);
    }
    Ok(())
}

/// Whether nobody but the client itself stands behind the token. Microsoft says it by `idtyp`, and by leaving `scp` out;
/// RFC 9068 §2.2 by a `sub` that is the client.
fn is_app_token(claims: &Claims, client: &str) -> bool {
    if let Some(kind) = claims.text("idtyp") {
        return kind == "app";
    }
    claims.text("sub") == Some(client) || scopes(claims).next().is_none()
}

/// `scp` or `scope`, as one text with spaces or as a list.
fn scopes(claims: &Claims) -> impl Iterator<Item = &str> {
    let given = claims.texts("scp").or_else(|| claims.texts("scope")).unwrap_or_default();
    given.into_iter().flat_map(str::split_whitespace)
}

/// Some issuers keep the resource before the scope: `https://graph.microsoft.com/Notifications.ReadWrite.CreatedByApp`.
fn last_segment(scope: &str) -> &str {
    scope.rsplit('/').next().unwrap_or(scope)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::identity::token::Jwt;

    const NOW: Timestamp = Timestamp::from_secs(10_000);

    fn check(claims: &Value) -> Result<Caller, Refused> {
        let rules = Rules {
            audiences: vec!["herald".to_owned(), "https://graph.microsoft.com".to_owned()],
            user_claim: "sub".to_owned(),
            user_prefix: "x:".to_owned(),
        };
        let clients = Clients::from([("service-1".to_owned(), app())]);
        use base64::Engine as _;
        let part = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
        let token = format!("{}.{}.AAAA", part(r#"{"alg":"RS256"}"#), part(&claims.to_string()));
        of(&Jwt::parse(&token).unwrap().claims, &rules, &clients, NOW, &mut |_| ())
    }

    fn app() -> AppId {
        AppId::new("mail.contoso.com")
    }

    fn user(may: bool) -> Result<Caller, Refused> {
        Ok(Caller::User { app: app(), user: UserId::new("x:anna"), may })
    }

    /// A good token of `service-1`, with some claims changed; null takes one away.
    fn token(changes: &Value) -> Value {
        let mut claims = json!({"aud": "herald", "exp": 10_100, "sub": "anna", "azp": "Service-1", "scp": SCOPES[0]});
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            }
        }
        claims
    }

    #[test]
    fn a_users_token_and_an_apps_token_are_told_apart() {
        let app_token = Ok(Caller::App(app()));
        for (changes, expected) in [
            (json!({}), user(true)),
            (json!({"scp": "openid profile"}), user(false)),
            (json!({"scp": null, "scope": format!("openid {}", SCOPES[1])}), user(true)),
            (json!({"scp": ["a", SCOPES[0]]}), user(true)),
            (json!({"scp": format!("https://graph.microsoft.com/{}", SCOPES[0].to_lowercase())}), user(true)),
            (json!({"azp": null, "appid": "SERVICE-1"}), user(true)),
            // Microsoft's app tokens, with and without idtyp; RFC 9068's of oidc-provider.
            (json!({"scp": null, "azp": null, "appid": "service-1", "roles": ["x"]}), app_token.clone()),
            (json!({"idtyp": "app"}), app_token.clone()),
            (json!({"scp": null, "scope": "x", "azp": null, "client_id": "service-1", "sub": "service-1"}), app_token),
            (json!({"idtyp": "user", "scp": null}), user(false)),
        ] {
            assert_eq!(check(&token(&changes)), expected, "{changes}");
        }
    }

    #[test]
    fn a_token_that_is_not_for_us_is_refused_with_the_reason() {
        let claim = |name| Err(Refused::Token(TokenError::Claim(name)));
        let refused = |error: TokenError| Err(Refused::Token(error));
        for (changes, expected) in [
            (json!({"exp": 9_940}), refused(TokenError::Expired)),
            (json!({"exp": 9_941}), user(true)),
            (json!({"exp": null}), claim("exp")),
            (json!({"exp": "10100"}), claim("exp")),
            (json!({"exp": 1e300}), claim("exp")),
            (json!({"exp": -5}), claim("exp")),
            (json!({"nbf": 10_061}), refused(TokenError::NotYet)),
            (json!({"nbf": 10_060.0}), user(true)),
            (json!({"nbf": true}), claim("nbf")),
            (json!({"aud": "other"}), refused(TokenError::Audience)),
            (json!({"aud": ["other", "https://graph.microsoft.com"]}), user(true)),
            (json!({"aud": []}), refused(TokenError::Audience)),
            (json!({"aud": ["herald", 7]}), claim("aud")),
            (json!({"aud": null}), claim("aud")),
            (json!({"azp": null}), claim("appid, azp or client_id")),
            (json!({"azp": "service-2"}), Err(Refused::Client)),
            (json!({"sub": null}), claim("that names the user")),
            (json!({"sub": "a\nb"}), claim("that names the user")),
            (json!({"sub": "u".repeat(255)}), claim("that names the user")),
        ] {
            assert_eq!(check(&token(&changes)), expected, "{changes}");
        }
    }
}
