//! Identity: from the text after `Authorization: Bearer` to the one who is calling.
//!
//! The first step of every request that isn't a receipt by capability. Tokens are JWTs of issuers that the operator names,
//! each verified by the issuer's own keys; the built-in issuer is one more, whose keys are at hand. Reading order: this
//! file → [`token`] (taken apart) → [`jwks`] (which key) → [`issuer`] (fetched when) → [`caller`] (who it is) → [`own`] (the
//! built-in issuer) → [`explain`] (why somebody is not let in, told to the operator).
//!
//! Nothing here logs a token or a claim of it, and no refusal quotes one.

pub(crate) mod token;
pub(crate) mod jwks;
pub(crate) mod issuer;
pub(crate) mod caller;
pub(crate) mod own;
pub(crate) mod explain;

use std::sync::Arc;

use herald_core::time::Timestamp;

pub use caller::{Caller, Clients, Refused, Rules, SCOPES};
pub use explain::{Explanation, Step};
pub use issuer::{IssuerConfig, IssuerError};
pub use own::{OwnClient, OwnIssuerConfig, OwnKeyError};
pub use token::TokenError;

use explain::{See, Seen};
use issuer::Issuer;
use own::OwnIssuer;
use token::Jwt;

/// All issuers.
#[derive(Debug, Default)]
pub struct Identity {
    issuers: Vec<Issuer>,
    own: Option<Arc<OwnIssuer>>,
}

impl Identity {
    /// Nothing is fetched before a token asks for it.
    ///
    /// # Errors
    /// See [`IssuerError`].
    pub fn new(issuers: Vec<IssuerConfig>, clients: Clients) -> Result<Self, IssuerError> {
        let clients = Arc::new(clients);
        let issuers = issuers.into_iter().map(|config| Issuer::new(config, Arc::clone(&clients)));
        Ok(Self { issuers: issuers.collect::<Result<_, _>>()?, own: None })
    }

    /// The same with the built-in issuer. It speaks of its own clients, and no other issuer does: a client id means something
    /// only with the issuer that gave it.
    ///
    /// # Errors
    /// [`IssuerError::OwnKey`].
    pub fn with_own(mut self, config: OwnIssuerConfig) -> Result<Self, IssuerError> {
        let (own, rules, keys, clients) = OwnIssuer::new(config)?;
        self.issuers.push(Issuer::built_in(own.name().to_owned(), rules, Arc::new(clients), keys));
        self.own = Some(Arc::new(own));
        Ok(self)
    }

    /// The built-in issuer, if there is one.
    pub(crate) fn own(&self) -> Option<Arc<OwnIssuer>> {
        self.own.clone()
    }

    /// Who bears this token at `now`, the store's time.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn caller(&self, token: &str, now: Timestamp) -> Result<Caller, Refused> {
        self.decide(token, now, &mut |_| ()).await
    }

    /// The same, with all that was looked at and what to do about a refusal: for the operator, as it quotes claims.
    pub async fn explain(&self, token: &str, now: Timestamp) -> Explanation {
        let mut looks = explain::Looks::new(now);
        let decided = self.decide(token, now, &mut |seen| looks.add(seen)).await;
        let issuer = looks.issuer().and_then(|name| self.issuer(name));
        let keys = match issuer {
            Some(issuer) => Some(issuer.known_keys().await),
            None => None,
        };
        looks.explanation(decided, self.issuers.iter().map(|issuer| issuer.name.as_str()), keys.as_ref())
    }

    /// Decides, and tells of each look before it decides by it: the last one is why it refused.
    async fn decide(&self, token: &str, now: Timestamp, see: &mut See<'_>) -> Result<Caller, Refused> {
        see(Seen::Token);
        let jwt = Jwt::parse(token)?;
        see(Seen::Header { algorithm: jwt.algorithm, kid: jwt.kid.as_deref() });
        let name = jwt.claims.text("iss");
        see(Seen::Issuer(name));
        let issuer = self.issuer(name.ok_or(TokenError::Claim("iss"))?).ok_or(TokenError::Issuer)?;
        see(Seen::Signature);
        issuer.verify(&jwt).await?;
        caller::of(&jwt.claims, &issuer.rules, &issuer.clients, now, see)
    }

    fn issuer(&self, name: &str) -> Option<&Issuer> {
        self.issuers.iter().find(|issuer| issuer.name == name)
    }
}
