//! Identity: from the text after `Authorization: Bearer` to the one who is calling.
//!
//! The first step of every request that isn't a receipt by capability. Tokens are JWTs of issuers that the operator names,
//! each verified by the issuer's own keys; the built-in issuer is one more, whose keys are at hand. Reading order: this
//! file → [`token`] (taken apart) → [`jwks`] (which key) → [`issuer`] (fetched when) → [`caller`] (who it is) → [`own`] (the
//! built-in issuer).
//!
//! Nothing here logs a token or a claim of it, and no refusal quotes one.

pub(crate) mod token;
pub(crate) mod jwks;
pub(crate) mod issuer;
pub(crate) mod caller;
pub(crate) mod own;

use std::sync::Arc;

use herald_core::time::Timestamp;

pub use caller::{Caller, Clients, Refused, Rules, SCOPES};
pub use issuer::{IssuerConfig, IssuerError};
pub use own::{OwnClient, OwnIssuerConfig, OwnKeyError};
pub use token::TokenError;

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
        let jwt = Jwt::parse(token)?;
        let name = jwt.claims.text("iss").ok_or(TokenError::Claim("iss"))?;
        let issuer = self.issuers.iter().find(|issuer| issuer.name == name).ok_or(TokenError::Issuer)?;
        issuer.verify(&jwt).await?;
        caller::of(&jwt.claims, &issuer.rules, &issuer.clients, now)
    }
}
