//! Why a token is taken or not, in words for the operator: `herald check token`.
//!
//! Stands beside the decision and takes no part in it: [`super::Identity`] and [`super::caller`] tell what they look at, right
//! before they decide by it, and here that becomes lines and a fix. It quotes claims, which nothing else does, so it is for
//! the operator's own screen; never the signature or the token.

use std::fmt::Write as _;

use herald_core::ids::AppId;
use herald_core::time::Timestamp;
use jsonwebtoken::Algorithm;

use super::caller::{Caller, LEEWAY, Refused, SCOPES};
use super::issuer::KnownKeys;
use super::token::TokenError;

/// Who is told of each look.
pub(crate) type See<'s> = dyn FnMut(Seen<'_>) + Send + 's;

/// One look, before anything is decided by it.
pub(crate) enum Seen<'a> {
    /// At the text.
    Token,
    /// At its header, which is good.
    Header { algorithm: Algorithm, kid: Option<&'a str> },
    /// At `iss`.
    Issuer(Option<&'a str>),
    /// At the signature, with the issuer's keys.
    Signature,
    /// At `nbf` and `exp`.
    Life { begins: Result<Option<Timestamp>, TokenError>, ends: Result<Option<Timestamp>, TokenError> },
    /// At `aud`.
    Audience { has: Option<&'a [&'a str]>, wanted: &'a [String] },
    /// At the client, and whose it is.
    Client { id: Option<&'a str>, app: Option<&'a AppId> },
    /// Whether it is an app's token or a user's.
    Kind { of_app: bool },
    /// At the claim that names the user.
    User { claim: &'a str, name: Option<&'a str> },
    /// At `scp` or `scope`.
    Scopes(Vec<&'a str>),
}

/// What was looked at, and what came of it.
#[derive(Debug)]
pub struct Explanation {
    /// In order. Where the token is refused, the last one is why.
    pub steps: Vec<Step>,
    /// Whether it is let in, and as whom.
    pub decided: Result<Caller, Refused>,
    /// What to do about a refusal; none if it may reach notifications.
    pub fix: Option<String>,
}

/// One look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// At what.
    pub what: &'static str,
    /// What is there, quoted where it is the token's own.
    pub found: String,
    /// What is expected; empty where nothing in particular is.
    pub expected: String,
    /// It is as it should be.
    pub good: bool,
}

/// The looks so far.
pub(crate) struct Looks {
    now: Timestamp,
    steps: Vec<Step>,
    issuer: Option<String>,
    kid: Option<String>,
    client: Option<String>,
    user_claim: String,
}

impl Looks {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { now, steps: Vec::new(), issuer: None, kid: None, client: None, user_claim: String::new() }
    }

    /// What the token says of its issuer.
    pub(crate) fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    pub(crate) fn add(&mut self, seen: Seen<'_>) {
        let (what, found, expected) = match seen {
            Seen::Token => ("token", "a text".to_owned(), "a signed JWT of RS256 or ES256".to_owned()),
            Seen::Header { algorithm, kid } => {
                self.kid = kid.map(str::to_owned);
                let kid = kid.map_or_else(|| "no kid".to_owned(), |kid| format!("kid {kid:?}"));
                ("header", format!("alg {algorithm:?}, {kid}"), "RS256 or ES256".to_owned())
            }
            Seen::Issuer(name) => {
                self.issuer = name.map(str::to_owned);
                ("issuer", or_none(name), String::new())
            }
            Seen::Signature => ("signature", String::new(), "of a key of the issuer".to_owned()),
            Seen::Life { begins, ends } => {
                let found = format!("nbf {}, exp {}", time(&begins), time(&ends));
                let leeway = LEEWAY.as_secs();
                ("life", found, format!("now is {}, {leeway} s either way", self.now.to_rfc3339()))
            }
            Seen::Audience { has, wanted } => {
                let found = has.map_or_else(|| "none".to_owned(), |has| list(has.iter()));
                ("audience", found, format!("one of {}", list(wanted.iter())))
            }
            Seen::Client { id, app } => {
                self.client = id.map(str::to_owned);
                let of = app.map(|app| format!(", of app {:?}", app.as_str())).unwrap_or_default();
                ("client", format!("{}{of}", or_none(id)), "in client_ids of an app".to_owned())
            }
            Seen::Kind { of_app } => {
                let kind = if of_app { "an app's own" } else { "a user's" };
                ("kind", format!("{kind} token"), String::new())
            }
            Seen::User { claim, name } => {
                claim.clone_into(&mut self.user_claim);
                ("user", format!("{claim} {}", or_none(name)), "a text".to_owned())
            }
            Seen::Scopes(scopes) => ("scopes", list(scopes.iter()), format!("one of {}", list(SCOPES.iter()))),
        };
        self.steps.push(Step { what, found, expected, good: true });
    }

    /// What came of it. `keys` are those of the issuer, if it is known.
    pub(crate) fn explanation<'i>(
        mut self,
        decided: Result<Caller, Refused>,
        issuers: impl Iterator<Item = &'i str>,
        keys: Option<&KnownKeys>,
    ) -> Explanation {
        let issuers = list(issuers);
        let fix = match &decided {
            Ok(caller) if caller.may_reach_notifications() => None,
            Ok(_) => Some(format!("ask the issuer for the scope {}", SCOPES[0])),
            Err(refused) => Some(self.fix(refused, &issuers, keys)),
        };
        for step in &mut self.steps {
            match step.what {
                "issuer" => step.expected = format!("one of {issuers}"),
                "signature" => step.found = keys.map(describe).unwrap_or_default(),
                _ => {}
            }
        }
        if let Some(last) = self.steps.last_mut() {
            last.good = fix.is_none();
        }
        Explanation { steps: self.steps, decided, fix }
    }

    fn fix(&self, refused: &Refused, issuers: &str, keys: Option<&KnownKeys>) -> String {
        let error = match refused {
            Refused::Token(error) => error,
            Refused::Client => {
                let client = or_none(self.client.as_deref());
                return format!("add {client} to client_ids of its app: [apps.\"…\"] client_ids = [{client}]");
            }
        };
        match error {
            TokenError::Malformed(_) => {
                "give the access token alone and whole, as it stands behind \"Bearer\"; an id token or an opaque one is none"
                    .to_owned()
            }
            TokenError::Algorithm => "let the issuer sign its access tokens by RS256 or ES256".to_owned(),
            TokenError::Critical => "let the issuer leave the header crit out".to_owned(),
            TokenError::Issuer => {
                let name = or_none(self.issuer());
                format!("add [[gateway.issuers]] with issuer = {name} to the letter, or use a token of {issuers}")
            }
            TokenError::UnknownKey => {
                let ids = keys.map(|keys| list(keys.ids.iter())).unwrap_or_default();
                let kid = or_none(self.kid.as_deref());
                format!("get a new token; the kid is {kid}, the issuer has {ids}: another jwks_url may be the right one")
            }
            TokenError::Signature => {
                "get a new token and copy it whole; it was changed on its way, or somebody else signed it".to_owned()
            }
            TokenError::Claim("iss") => "let the issuer name itself in the claim iss, as a text".to_owned(),
            TokenError::Claim(name @ ("exp" | "nbf")) => {
                format!("let the issuer give the claim {name} as a number, in seconds since 1970")
            }
            TokenError::Claim("aud") => "ask the issuer for a token for this service: it has to have a claim aud".to_owned(),
            TokenError::Claim("that names the user") => {
                format!("let the issuer put a text into the claim {:?}, or set user_claim to another", self.user_claim)
            }
            TokenError::Claim(name) => format!("let the issuer put the claim {name} into its access tokens"),
            TokenError::Expired => "get a new token; if this one is new, set the clocks".to_owned(),
            TokenError::NotYet => "wait until the token's life begins; if it should have, set the clocks".to_owned(),
            TokenError::Audience => {
                "ask the issuer for a token for one of these audiences, or add its aud to audiences of the issuer".to_owned()
            }
            TokenError::NoKeys => {
                "see that this machine reaches the issuer's discovery document and keys (ca_file, jwks_url, proxy)".to_owned()
            }
        }
    }
}

fn describe(keys: &KnownKeys) -> String {
    let mut text = match keys.ids.len() {
        0 => "no keys".to_owned(),
        _ => format!("keys {}", list(keys.ids.iter())),
    };
    if let Some(problem) = &keys.problem {
        write!(text, "; could not be fetched: {problem}").expect("a string takes all");
    }
    text
}

/// Quoted, so that no claim can do anything to a terminal.
fn or_none(text: Option<&str>) -> String {
    text.map_or_else(|| "none".to_owned(), |text| format!("{text:?}"))
}

fn list<T: AsRef<str>>(texts: impl Iterator<Item = T>) -> String {
    let texts: Vec<String> = texts.map(|text| format!("{:?}", text.as_ref())).collect();
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}

fn time(given: &Result<Option<Timestamp>, TokenError>) -> String {
    match given {
        Ok(Some(time)) => time.to_rfc3339(),
        Ok(None) => "none".to_owned(),
        Err(_) => "not a number of seconds".to_owned(),
    }
}
