//! What a user does with a notification: read, activate, dismiss, snooze, delete; and what follows from it.
//!
//! Stands beside the way of a notification: the store asks [`decide`] with the row locked, and does what it says in the same
//! transaction. Nothing here is about a push; that the user's other devices are told is [`tells`]'s to choose, and what they are
//! told is a push of [`Form::State`](crate::push::Form::State), which says no more than "fetch".
//!
//! | change | of a notification that is | comes to |
//! | --- | --- | --- |
//! | any but delete | deleted | [`Decision::Unknown`]: only its tombstone is left |
//! | delete | deleted | [`Decision::Unchanged`], whatever `If-Match` says: it is what was asked for |
//! | any | at another revision than `If-Match` names | [`Decision::Mismatch`] |
//! | one that changes nothing | any | [`Decision::Unchanged`] |
//! | any other | any | [`Decision::Changed`], the revision one higher |

use std::collections::HashSet;

use crate::ids::Unsid;
use crate::subscription::{PlatformSet, Subscription, select};

/// Graph's `userActionState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum UserAction {
    /// Nothing was done with it.
    #[default]
    NoInteraction,
    /// It was opened.
    Activated,
    /// It was swept away; it stays in the list.
    Dismissed,
    /// The person wants to see it later.
    Snoozed,
}

impl UserAction {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::NoInteraction, Self::Activated, Self::Dismissed, Self::Snoozed];

    /// Graph's spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoInteraction => "NoInteraction",
            Self::Activated => "Activated",
            Self::Dismissed => "Dismissed",
            Self::Snoozed => "Snoozed",
        }
    }

    /// Reads Graph's spelling in any case.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str().eq_ignore_ascii_case(text))
    }

    /// The number stored in the `user_action` column.
    pub const fn number(self) -> i16 {
        match self {
            Self::NoInteraction => 0,
            Self::Activated => 1,
            Self::Dismissed => 2,
            Self::Snoozed => 3,
        }
    }

    /// The one with that number.
    pub fn from_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.number() == number)
    }
}

/// How a notification stands with its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// It was read.
    pub read: bool,
    /// What was done with it.
    pub action: UserAction,
    /// It was deleted: what is left is a tombstone, until it expires.
    pub deleted: bool,
    /// Goes up by one with each change. Its ETag.
    pub revision: i32,
}

/// What a user asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// These from now on; none leaves it as it is.
    Set {
        /// Read or not.
        read: Option<bool>,
        /// What was done with it.
        action: Option<UserAction>,
    },
    /// Away with it.
    Delete,
}

/// What `If-Match` asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Condition {
    /// Nothing, or that there is such a notification.
    #[default]
    Any,
    /// That it is at one of these revisions.
    Revisions(Vec<i32>),
}

impl Condition {
    fn holds(&self, revision: i32) -> bool {
        match self {
            Self::Any => true,
            Self::Revisions(revisions) => revisions.contains(&revision),
        }
    }
}

/// What becomes of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// There is no such notification any more.
    Unknown,
    /// It is at another revision.
    Mismatch,
    /// It is so already.
    Unchanged,
    /// It is written.
    Changed {
        /// How it stands from now on.
        standing: Standing,
        /// The person knows of it, or wants none of it: what is still to be pushed of its content is withdrawn.
        withdraws: bool,
    },
}

/// What becomes of a change; see the table above.
pub fn decide(now: Standing, change: Change, condition: &Condition) -> Decision {
    if now.deleted {
        return match change {
            Change::Delete => Decision::Unchanged,
            Change::Set { .. } => Decision::Unknown,
        };
    }
    if !condition.holds(now.revision) {
        return Decision::Mismatch;
    }
    let next = match change {
        Change::Delete => Standing { deleted: true, ..now },
        Change::Set { read, action } => {
            Standing { read: read.unwrap_or(now.read), action: action.unwrap_or(now.action), ..now }
        }
    };
    if next == now {
        return Decision::Unchanged;
    }
    let acted = next.action != now.action && next.action != UserAction::NoInteraction;
    let withdraws = next.deleted || acted || (next.read && !now.read);
    Decision::Changed { standing: Standing { revision: now.revision.saturating_add(1), ..next }, withdraws }
}

/// Whom a state push tells: of the user's active subscriptions those that the notification addresses, but not the one that made
/// the change, and none that `waiting` says a state push of this notification waits for already.
pub fn tells<'a>(
    policy: PlatformSet,
    active: &'a [Subscription],
    by: Option<Unsid>,
    waiting: &HashSet<Unsid>,
) -> Vec<&'a Subscription> {
    let mut told = select(policy, active).deliver;
    told.retain(|subscription| Some(subscription.id) != by && !waiting.contains(&subscription.id));
    told
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::ids::{AppId, PushToken, UserId};
    use crate::subscription::{Environment, Platform, TokenKind};
    use crate::time::Timestamp;

    const NEW: Standing = Standing { read: false, action: UserAction::NoInteraction, deleted: false, revision: 0 };

    fn set(read: Option<bool>, action: Option<UserAction>) -> Change {
        Change::Set { read, action }
    }

    #[test]
    fn a_change_is_decided_by_the_table() {
        let changed = |standing, withdraws| Decision::Changed { standing, withdraws };
        let read = Standing { read: true, revision: 1, ..NEW };
        let dismissed = Standing { action: UserAction::Dismissed, revision: 1, ..NEW };
        let deleted = Standing { deleted: true, revision: 1, ..NEW };
        let again = |standing: Standing| Standing { revision: standing.revision + 1, ..standing };
        for (now, change, expected) in [
            (NEW, set(Some(true), None), changed(read, true)),
            (NEW, set(None, Some(UserAction::Dismissed)), changed(dismissed, true)),
            (NEW, set(Some(true), Some(UserAction::Activated)), {
                changed(Standing { action: UserAction::Activated, ..read }, true)
            }),
            (NEW, set(None, Some(UserAction::Snoozed)), {
                changed(Standing { action: UserAction::Snoozed, revision: 1, ..NEW }, true)
            }),
            (NEW, Change::Delete, changed(deleted, true)),
            (NEW, set(None, None), Decision::Unchanged),
            (NEW, set(Some(false), Some(UserAction::NoInteraction)), Decision::Unchanged),
            // Taken back: the others are told, but nothing is left to withdraw.
            (read, set(Some(false), None), changed(Standing { revision: 2, ..NEW }, false)),
            (dismissed, set(None, Some(UserAction::NoInteraction)), {
                changed(Standing { revision: 2, ..NEW }, false)
            }),
            (read, set(Some(true), None), Decision::Unchanged),
            (read, Change::Delete, changed(again(Standing { deleted: true, ..read }), true)),
            (deleted, Change::Delete, Decision::Unchanged),
            (deleted, set(Some(true), None), Decision::Unknown),
        ] {
            assert_eq!(decide(now, change, &Condition::Any), expected, "{change:?} of {now:?}");
        }
    }

    #[test]
    fn another_revision_than_named_changes_nothing_but_a_tombstone_is_what_was_asked_for() {
        let at = |revisions: &[i32]| Condition::Revisions(revisions.to_vec());
        let read = set(Some(true), None);
        let decided = |condition: Condition| decide(Standing { revision: 3, ..NEW }, read, &condition);
        assert_eq!(decided(at(&[2])), Decision::Mismatch);
        assert_eq!(decided(at(&[])), Decision::Mismatch);
        assert!(matches!(decided(at(&[1, 3])), Decision::Changed { .. }));
        let deleted = Standing { deleted: true, revision: 4, ..NEW };
        assert_eq!(decide(deleted, Change::Delete, &at(&[3])), Decision::Unchanged);
    }

    #[test]
    fn numbers_and_names_are_read_back() {
        for action in UserAction::ALL {
            assert_eq!(UserAction::from_number(action.number()), Some(action));
            assert_eq!(UserAction::parse(&action.as_str().to_uppercase()), Some(action));
        }
        assert_eq!((UserAction::parse("Read"), UserAction::from_number(4)), (None, None));
    }

    #[test]
    fn all_devices_are_told_but_the_one_that_did_it_and_those_that_will_be_anyway() {
        let on = |n: u128, platform| Subscription {
            id: Unsid(Uuid::from_u128(n)),
            app: AppId::new("mail.contoso.com"),
            user: UserId::new("anna"),
            platform,
            token_kind: TokenKind::Token,
            token: PushToken::new("00ff"),
            environment: Environment::Production,
            confirmed_at: Timestamp::from_secs(0),
            expires_at: Timestamp::from_secs(1),
        };
        let active = [on(1, Platform::Ios), on(2, Platform::Android), on(3, Platform::Ios), on(4, Platform::Windows)];
        let check = |policy, by: Option<u128>, waiting: &[u128], expected: &[u128]| {
            let waiting = waiting.iter().map(|n| Unsid(Uuid::from_u128(*n))).collect();
            let told = tells(policy, &active, by.map(|n| Unsid(Uuid::from_u128(n))), &waiting);
            assert_eq!(told.iter().map(|s| s.id.0.as_u128()).collect::<Vec<_>>(), expected);
        };
        check(PlatformSet::ALL, None, &[], &[1, 2, 3]);
        check(PlatformSet::ALL, Some(1), &[], &[2, 3]);
        check(PlatformSet::ALL, Some(1), &[3], &[2]);
        check(PlatformSet::ALL, Some(9), &[], &[1, 2, 3]);
        check(PlatformSet::EMPTY.with(Platform::Ios), Some(1), &[], &[3]);
    }
}
