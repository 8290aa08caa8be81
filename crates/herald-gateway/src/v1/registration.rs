//! What an app sends of a device, read and checked.
//!
//! Pure. Stands between the caller's check and the store.

use std::time::Duration;

use herald_core::device::{Address, AddressError, DeviceState};
use herald_core::ids::Unsid;
use herald_core::subscription::{Environment, Platform, Subscription, TokenKind};
use herald_core::time::Timestamp;
use serde_json::{Map, Value};

use super::members::Members;
use crate::refusal::Refusal;

/// How long a subscription lives that isn't renewed, by default and at most.
pub(super) const LIFE: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// An app that asks for exactly 90 days by a clock ahead of ours gets 90 days, not a refusal.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// A device to register.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Device<'b> {
    pub(super) user: Option<&'b str>,
    pub(super) address: Address,
    pub(super) unsid: Option<Unsid>,
    pub(super) expires_at: Timestamp,
    pub(super) state: DeviceState,
}

impl<'b> Device<'b> {
    /// # Errors
    /// 400, naming the first member that is wrong.
    pub(super) fn read(body: &'b Map<String, Value>, now: Timestamp) -> Result<Self, Refusal> {
        let members = Members::of(body);
        let missing = |name: &str, fix: &'static str| Refusal::invalid(name, "is missing", fix);
        let user = members.text("userId")?;
        let platform = platform(&members)?.ok_or_else(|| missing("platform", "give ios or android"))?;
        let fix = "give the text that the device got from Apple or Google";
        let token = members.text("pushToken")?.ok_or_else(|| missing("pushToken", fix))?;
        let (kind, environment) = (kind(&members)?, environment(&members)?);
        let address = Address::checked(
            platform,
            kind.unwrap_or(TokenKind::Token),
            environment.unwrap_or(Environment::Production),
            token,
        );
        let unsid = members.word("userNotificationSubscriptionId", "the id that the device was given", |text| {
            text.parse().ok().map(Unsid)
        })?;
        Ok(Self {
            user,
            address: address.map_err(|error| wrong(&error))?,
            unsid,
            expires_at: expires_at(&members, now)?,
            state: state(&members)?,
        })
    }
}

/// What changes of a subscription.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// Where it is reached from now on.
    pub(super) address: Option<Address>,
    pub(super) state: DeviceState,
}

impl Change {
    /// # Errors
    /// As [`Device::read`].
    pub(super) fn read(body: &Map<String, Value>, of: &Subscription) -> Result<Self, Refusal> {
        let members = Members::of(body);
        let (token, kind, environment) = (members.text("pushToken")?, kind(&members)?, environment(&members)?);
        let changes = token.is_some() || kind.is_some() || environment.is_some();
        let checked = || {
            let token = token.unwrap_or(of.token.expose());
            Address::checked(of.platform, kind.unwrap_or(of.token_kind), environment.unwrap_or(of.environment), token)
        };
        let address = changes.then(checked).transpose().map_err(|error| wrong(&error))?;
        Ok(Self { address, state: state(&members)? })
    }
}

fn platform(members: &Members<'_>) -> Result<Option<Platform>, Refusal> {
    members.word("platform", "ios or android", Platform::parse)
}

fn kind(members: &Members<'_>) -> Result<Option<TokenKind>, Refusal> {
    members.word("tokenKind", "token or fid", TokenKind::parse)
}

fn environment(members: &Members<'_>) -> Result<Option<Environment>, Refusal> {
    members.word("environment", "production or sandbox", Environment::parse)
}

fn expires_at(members: &Members<'_>, now: Timestamp) -> Result<Timestamp, Refusal> {
    let (name, last) = ("expirationDateTime", now.plus(LIFE));
    match members.time(name)? {
        None => Ok(last),
        Some(at) if at <= now => Err(Refusal::invalid(name, "is over already", "give a later one, or leave it out")),
        Some(at) if at > last.plus(CLOCK_TOLERANCE) => {
            Err(Refusal::invalid(name, "is more than 90 days ahead", "renew it in time instead"))
        }
        Some(at) => Ok(at.min(last)),
    }
}

fn state(members: &Members<'_>) -> Result<DeviceState, Refusal> {
    let Some(state) = members.object("deviceState", "deviceState.")? else { return Ok(DeviceState::default()) };
    Ok(DeviceState {
        alerts_allowed: state.boolean("alertsAllowed")?,
        low_power_mode: state.boolean("lowPowerMode")?,
        background_refresh: state.boolean("backgroundRefresh")?,
    })
}

fn wrong(error: &AddressError) -> Refusal {
    Refusal::invalid(error.part.as_str(), error.problem, error.fix)
}

#[cfg(test)]
mod tests {
    use herald_core::ids::{AppId, PushToken, UserId};
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
    const UNSID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    /// A good body, with some members changed; null takes one away.
    fn body(changes: &Value) -> Map<String, Value> {
        let mut body = json!({ "platform": "ios", "pushToken": "ab".repeat(32) });
        for (name, value) in changes.as_object().unwrap() {
            body[name] = value.clone();
        }
        body.as_object().unwrap().clone()
    }

    fn of(platform: Platform) -> Subscription {
        Subscription {
            id: Unsid(Uuid::nil()),
            app: AppId::new("mail.contoso.com"),
            user: UserId::new("anna"),
            platform,
            token_kind: TokenKind::Token,
            token: PushToken::new("cd".repeat(32)),
            environment: Environment::Production,
            confirmed_at: NOW,
            expires_at: NOW,
        }
    }

    #[test]
    fn a_device_is_read_with_its_defaults_and_in_any_case() {
        let plain = body(&json!({ "pushToken": "AB".repeat(32), "unknown": {}, "userId": null }));
        let device = Device::read(&plain, NOW).unwrap();
        assert_eq!((device.user, device.unsid, device.expires_at), (None, None, NOW.plus(LIFE)));
        let Address { platform, token_kind, environment, token } = device.address;
        assert_eq!((platform, token_kind, environment), (Platform::Ios, TokenKind::Token, Environment::Production));
        assert_eq!((token.expose(), device.state), (&*"ab".repeat(32), DeviceState::default()));
        let full = body(&json!({
            "userId": "anna", "platform": "Android", "pushToken": "cFid", "tokenKind": "fid",
            "userNotificationSubscriptionId": UNSID, "expirationDateTime": "2023-11-15T00:00:00+01:00",
            "deviceState": { "alertsAllowed": false, "lowPowerMode": null, "unknown": 1 },
        }));
        let device = Device::read(&full, NOW).unwrap();
        assert_eq!((device.user, device.unsid.map(|unsid| unsid.to_string())), (Some("anna"), Some(UNSID.to_owned())));
        assert_eq!(device.expires_at, Timestamp::parse_rfc3339("2023-11-14T23:00:00Z").unwrap());
        assert_eq!((device.address.platform, device.address.token_kind), (Platform::Android, TokenKind::Fid));
        assert_eq!(device.state, DeviceState { alerts_allowed: Some(false), ..DeviceState::default() });
    }

    #[test]
    fn a_life_is_90_days_at_most_and_a_fast_clock_is_forgiven() {
        let at = |after: Duration| {
            let body = body(&json!({ "expirationDateTime": NOW.plus(after).to_rfc3339() }));
            Device::read(&body, NOW).map(|device| device.expires_at).ok()
        };
        let second = Duration::from_secs(1);
        assert_eq!(at(second), Some(NOW.plus(second)));
        assert_eq!(at(Duration::ZERO), None);
        assert_eq!(at(LIFE + CLOCK_TOLERANCE), Some(NOW.plus(LIFE)));
        assert_eq!(at(LIFE + CLOCK_TOLERANCE + second), None);
    }

    #[test]
    fn what_is_wrong_is_refused_by_its_name_and_never_quoted() {
        let s3cret = "s3cret";
        for (changes, field) in [
            (json!({ "platform": null }), "platform"),
            (json!({ "platform": s3cret }), "platform"),
            (json!({ "platform": "windows" }), "platform"),
            (json!({ "pushToken": null }), "pushToken"),
            (json!({ "pushToken": 7 }), "pushToken"),
            (json!({ "pushToken": s3cret }), "pushToken"),
            (json!({ "tokenKind": s3cret }), "tokenKind"),
            (json!({ "tokenKind": "fid" }), "tokenKind"),
            (json!({ "environment": ["sandbox"] }), "environment"),
            (json!({ "platform": "android", "environment": "sandbox" }), "environment"),
            (json!({ "userId": 7 }), "userId"),
            (json!({ "userNotificationSubscriptionId": s3cret }), "userNotificationSubscriptionId"),
            (json!({ "expirationDateTime": s3cret }), "expirationDateTime"),
            (json!({ "expirationDateTime": 1_800_000_000 }), "expirationDateTime"),
            (json!({ "deviceState": s3cret }), "deviceState"),
            (json!({ "deviceState": { "lowPowerMode": s3cret } }), "deviceState.lowPowerMode"),
        ] {
            let refused = format!("{:?}", Device::read(&body(&changes), NOW).unwrap_err());
            assert!(refused.contains(&format!("field: {field:?}")), "{changes}: {refused}");
            assert!(refused.contains("400") && !refused.contains(s3cret), "{refused}");
        }
    }

    #[test]
    fn a_change_takes_over_what_it_leaves_out() {
        let check = |platform, changes: Value, expected: Option<(&str, TokenKind, Environment)>| {
            let change = Change::read(changes.as_object().unwrap(), &of(platform)).unwrap();
            let address = change.address.as_ref();
            assert_eq!(address.map(|a| (a.token.expose(), a.token_kind, a.environment)), expected, "{changes}");
        };
        let (old, new) = ("cd".repeat(32), "ef".repeat(40));
        let production = Environment::Production;
        check(Platform::Ios, json!({}), None);
        check(Platform::Ios, json!({ "deviceState": { "lowPowerMode": true } }), None);
        check(Platform::Ios, json!({ "pushToken": new }), Some((&new, TokenKind::Token, production)));
        check(Platform::Ios, json!({ "environment": "sandbox" }), Some((&old, TokenKind::Token, Environment::Sandbox)));
        check(Platform::Android, json!({ "tokenKind": "fid" }), Some((&old, TokenKind::Fid, production)));
        let refused = Change::read(json!({ "pushToken": "x" }).as_object().unwrap(), &of(Platform::Ios)).unwrap_err();
        assert!(format!("{refused:?}").contains("pushToken"));
    }
}
