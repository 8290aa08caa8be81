//! What an app reads in a push: the object `herald`, the same for both platforms.
//!
//! This is the app's side of the contract, written again from its description and not taken from the sender's code,
//! so that a misunderstanding can't cancel out.

use std::borrow::Cow;

use serde::Deserialize;

use crate::device::Form;

/// The `herald` object, as far as a phone needs it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Contract<'a> {
    /// Only version 1 is understood.
    version: u32,
    pub(crate) form: Form,
    #[serde(borrow)]
    pub(crate) notification_id: Cow<'a, str>,
    /// The app server's own id of it.
    #[serde(borrow, default)]
    app_notification_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(crate) receipt: Option<Cow<'a, str>>,
}

impl<'a> Contract<'a> {
    /// The object in `json`; `None` if an app would not understand it.
    pub(crate) fn parse(json: &'a str) -> Option<Self> {
        serde_json::from_str::<Self>(json).ok().filter(|contract| contract.version == 1)
    }

    /// The app server's own id, if there is one.
    pub(crate) fn app_notification_id(&self) -> Option<String> {
        self.app_notification_id.as_deref().map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_understands_version_one_only() {
        let json = |version: u32| {
            format!(
                r#"{{"version":{version},"form":"raw","notificationId":"n","receipt":"r","appNotificationId":"order-\u0031",
                "content":"\"x\""}}"#
            )
        };
        let one = json(1);
        let contract = Contract::parse(&one).unwrap();
        assert_eq!(
            (contract.form, &*contract.notification_id, contract.receipt.as_deref()),
            (Form::Raw, "n", Some("r"))
        );
        assert_eq!(contract.app_notification_id.as_deref(), Some("order-1"));
        assert!(Contract::parse(&json(2)).is_none());
        assert!(Contract::parse(r#"{"version":1,"form":"shout","notificationId":"n"}"#).is_none());
    }
}
