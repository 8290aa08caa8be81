//! Replay: a dead letter becomes the message that it was, on the exchange and in the lane it came from.
//!
//! Stands behind [`park`], at an operator's command. What is published again has the producer's properties and
//! headers and nothing of the broker's or of Herald's; the body is never changed.
//!
//! | letter | goes to |
//! | --- | --- |
//! | a request of nobody in particular, or of our own login | `herald.requests`, its lane |
//! | a request of another login | `herald.suspect`, which says whose it was |
//! | a request that may kill a worker | `herald.suspect` |
//! | receipts of nobody in particular, or of our own login | `herald.receipts` |
//! | receipts of another login, a hint, what came from elsewhere | nowhere ([`NotReplayable`]) |
//!
//! Why `herald.suspect`: RabbitMQ refuses a `user_id` other than the login that publishes, and workers believe no other
//! property in a lane, where any producer may publish. The broker validated the login when the message came first, and a
//! worker noted it; on `herald.suspect`, where producers have no right to publish, workers believe that note. What is there
//! is done one at a time by a child process, so poison is safe there too.

use bytes::Bytes;
use lapin::protocol::BasicProperties;

use crate::embedded::properties;
use crate::park;
use crate::publisher::{PublishError, Ready, short};
use crate::source::Source;
use crate::topology::{Exchange, RECEIPT_KEY, SUSPECT_KEY, lane_key};

/// A dead letter, as the store has it.
#[derive(Debug, Clone)]
pub struct Parked<'a> {
    /// The queue it was in first.
    pub queue: &'a str,
    /// What [`Message::kept`](crate::Message::kept) gave.
    pub properties: &'a str,
    /// The `message_id` to publish it under; as it was, if `None`. At most 255 bytes.
    pub message_id: Option<&'a str>,
    /// It may kill a worker.
    pub dangerous: bool,
}

/// Whether a message's `user_id` is compared with the login that publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login<'a> {
    /// Not at all: a file.
    Unchecked,
    /// By the broker; ours, if it is known.
    Ours(Option<&'a str>),
}

/// Why a dead letter can't be published again, for a person.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum NotReplayable {
    /// It is a hint.
    #[error("a hint only says that deliveries are due, and the workers say so again by themselves; discard it")]
    Hint,
    /// Herald has no exchange for where it came from.
    #[error("it is not known which queue it came from; publish its body anew (herald dead show --body)")]
    Origin,
    /// The properties are not as Herald keeps them.
    #[error("its properties can't be read; publish its body anew (herald dead show --body)")]
    Properties,
    /// Receipts that count only by the login that sent them.
    #[error("these receipts count only by the login {login}; replay them with that login in HERALD_AMQP_URL")]
    Login {
        /// The login.
        login: String,
    },
}

/// A dead letter on its way back.
pub struct Replay {
    to: Source,
    key: &'static str,
    properties: BasicProperties,
    message_id: Option<String>,
    body: Bytes,
}

impl Replay {
    /// What is published for this dead letter.
    ///
    /// # Errors
    /// [`NotReplayable`] says why it can't be, and what to do instead.
    pub fn of(parked: &Parked<'_>, body: Vec<u8>, login: Login<'_>) -> Result<Self, NotReplayable> {
        let origin = Source::from_queue(parked.queue).ok_or(NotReplayable::Origin)?;
        let kept = properties::kept(parked.properties).ok_or(NotReplayable::Properties)?;
        let user = kept.user_id().as_ref().map(|user| user.as_str().to_owned());
        let as_it_was = match (&user, login) {
            (Some(user), Login::Ours(ours)) => ours == Some(user.as_str()),
            (Some(_), Login::Unchecked) | (None, _) => true,
        };
        let (to, key) = match origin {
            Source::Requests(lane) if as_it_was && !parked.dangerous => (origin, lane_key(lane)),
            Source::Requests(_) => (Source::Suspect, SUSPECT_KEY),
            Source::Receipts if as_it_was => (origin, RECEIPT_KEY),
            Source::Receipts => return Err(NotReplayable::Login { login: user.unwrap_or_default() }),
            Source::Dispatch(_) => return Err(NotReplayable::Hint),
            Source::Suspect | Source::Parked => return Err(NotReplayable::Origin),
        };
        let properties = match to {
            Source::Suspect => park::properties(&kept, origin, user.as_deref(), None),
            Source::Requests(_) | Source::Receipts | Source::Dispatch(_) | Source::Parked => {
                park::kept(&kept, user.as_deref())
            }
        };
        Ok(Self { to, key, properties, message_id: parked.message_id.map(str::to_owned), body: body.into() })
    }

    /// The queue it goes to.
    pub const fn to(&self) -> Source {
        self.to
    }

    /// How long its body is.
    pub const fn bytes(&self) -> usize {
        self.body.len()
    }

    pub(crate) fn ready(self) -> Result<Ready, PublishError> {
        let exchange = match self.to {
            Source::Requests(_) => Exchange::Requests,
            Source::Receipts => Exchange::Receipts,
            Source::Suspect | Source::Dispatch(_) | Source::Parked => Exchange::Dead,
        };
        let properties = match &self.message_id {
            Some(id) => self.properties.with_message_id(short("message_id", id)?),
            None => self.properties,
        };
        Ready::new(exchange, self.key, self.body, properties)
    }
}

#[cfg(test)]
mod tests {
    use herald_core::lane::Lane;
    use lapin::types::{AMQPValue, FieldTable};

    use super::*;

    const LOW: Source = Source::Requests(Lane::Low);
    const NOBODYS: &str = r#"{"message_id":"m","type":"t","timestamp":7,"headers":{"traceparent":"00-1"}}"#;
    const OF_SHOP: &str = r#"{"message_id":"m","user_id":"shop"}"#;
    const OPERATOR: Login<'_> = Login::Ours(Some("operator"));

    fn replay(queue: &str, properties: &str, dangerous: bool, login: Login<'_>) -> Result<Replay, NotReplayable> {
        Replay::of(&Parked { queue, properties, message_id: None, dangerous }, b"{}".to_vec(), login)
    }

    #[test]
    fn a_dead_letter_goes_where_it_came_from_and_alone_if_only_that_is_safe() {
        let check = |queue, properties, dangerous, login, expected: Result<Source, NotReplayable>| {
            assert_eq!(replay(queue, properties, dangerous, login).map(|it| it.to()), expected, "{queue} {properties}");
        };
        let of_shop = || Err(NotReplayable::Login { login: "shop".to_owned() });
        check("herald.requests.low", NOBODYS, false, OPERATOR, Ok(LOW));
        check("herald.requests.low", NOBODYS, true, OPERATOR, Ok(Source::Suspect));
        check("herald.requests.low", OF_SHOP, false, OPERATOR, Ok(Source::Suspect));
        check("herald.requests.low", OF_SHOP, false, Login::Ours(None), Ok(Source::Suspect));
        check("herald.requests.low", OF_SHOP, false, Login::Ours(Some("shop")), Ok(LOW));
        check("herald.requests.low", OF_SHOP, false, Login::Unchecked, Ok(LOW));
        check("herald.requests.low", OF_SHOP, true, Login::Unchecked, Ok(Source::Suspect));
        check("herald.receipts", NOBODYS, true, OPERATOR, Ok(Source::Receipts));
        check("herald.receipts", OF_SHOP, false, OPERATOR, of_shop());
        check("herald.receipts", OF_SHOP, false, Login::Ours(Some("shop")), Ok(Source::Receipts));
        check("herald.dispatch.high", NOBODYS, false, OPERATOR, Err(NotReplayable::Hint));
        check("herald.parked", NOBODYS, false, OPERATOR, Err(NotReplayable::Origin));
        check("elsewhere", NOBODYS, false, OPERATOR, Err(NotReplayable::Origin));
        check("herald.requests.low", "[]", false, OPERATOR, Err(NotReplayable::Properties));
    }

    #[test]
    fn what_the_producer_said_stays_and_the_login_is_vouched_for_only_on_the_way_to_suspect() {
        let direct = replay("herald.requests.low", NOBODYS, false, OPERATOR).unwrap().properties;
        assert_eq!(direct.message_id().as_ref().map(|id| id.as_str()), Some("m"));
        assert_eq!((direct.timestamp(), direct.user_id(), direct.delivery_mode()), (&Some(7), &None, &Some(2)));
        let mut trace = FieldTable::default();
        trace.insert("traceparent".into(), AMQPValue::LongString("00-1".into()));
        assert_eq!(direct.headers(), &Some(trace));

        let aside = replay("herald.requests.low", OF_SHOP, false, OPERATOR).unwrap().properties;
        assert_eq!(aside.user_id(), &None, "the broker would refuse it");
        let headers = aside.headers().clone().unwrap();
        assert_eq!(park::vouched_user(&headers, Source::Suspect).as_deref(), Some("shop"));
        assert_eq!(park::origin(Some(&headers), Source::Suspect), LOW);
        let own = replay("herald.requests.low", OF_SHOP, false, Login::Ours(Some("shop"))).unwrap().properties;
        assert_eq!((own.user_id().as_ref().map(|user| user.as_str()), own.headers()), (Some("shop"), &None));
    }

    #[test]
    fn a_forged_note_in_what_was_kept_is_not_published_again() {
        let forged =
            r#"{"headers":{"x-herald-user-id":"shop","x-death":"","x-herald-source-queue":"herald.receipts"}}"#;
        let aside = replay("herald.requests.low", forged, true, OPERATOR).unwrap().properties;
        let headers = aside.headers().clone().unwrap();
        assert_eq!(park::vouched_user(&headers, Source::Suspect), None);
        assert_eq!(park::origin(Some(&headers), Source::Suspect), LOW);
        assert!(!headers.contains_key("x-death"));
    }
}
