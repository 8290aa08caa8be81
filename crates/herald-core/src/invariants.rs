//! What must hold of any trace: the guarantees G1 to G4 (docs/protocol.md) as predicates over what was seen of one delivery.
//!
//! Used by the property tests of this crate and by the ledger of the end-to-end tests. No state of Herald is read here,
//! only facts that a provider, a phone or a store could attest.

use std::fmt;

use crate::delivery::State;
use crate::push::Form;
use crate::time::Timestamp;

/// Something that happened to one delivery, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// A push of this form reached the provider.
    Pushed(Form, Timestamp),
    /// The provider accepted a push of this form.
    Accepted(Form, Timestamp),
    /// The provider refused a push, or answered nothing, so that another push is right.
    Refused(Form, Timestamp),
    /// A receipt was answered 2xx.
    Receipt(Timestamp),
    /// A crash, lost connection, unanswered push or overrun lease.
    Fault,
    /// The delivery was closed.
    Closed(State, Timestamp),
}

/// What was promised for the delivery.
#[derive(Debug, Clone, Copy)]
pub struct Promise {
    /// When the toast is due if no receipt comes, counted from the acceptance of the raw push; none if none is owed.
    pub fallback: Option<std::time::Duration>,
    /// When the notification's life ends.
    pub expires_at: Timestamp,
}

/// A guarantee that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// G1: it is still open though nothing more will happen.
    Lost,
    /// G2: nobody was told, and nothing excuses it.
    NotTold,
    /// G3: a toast although the receipt came before the deadline.
    NeedlessToast,
    /// G4: more pushes of one form than refusals and faults explain.
    Repeated(Form),
    /// Rule 3: a raw push after a toast.
    RawAfterToast,
    /// It was closed twice.
    ClosedTwice,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => f.write_str("G1: the delivery was never closed"),
            Self::NotTold => f.write_str("G2: no receipt by the deadline, yet no toast was accepted"),
            Self::NeedlessToast => f.write_str("G3: a toast was pushed after a receipt before the deadline"),
            Self::Repeated(form) => write!(f, "G4: {} was pushed more often than faults explain", form.as_str()),
            Self::RawAfterToast => f.write_str("rule 3: a raw push after a toast"),
            Self::ClosedTwice => f.write_str("the delivery was closed twice"),
        }
    }
}

/// Checks a finished trace: nothing more is due, and every push has its answer.
///
/// # Errors
/// The first guarantee that does not hold.
pub fn check(promise: &Promise, trace: &[Fact]) -> Result<(), Broken> {
    let end = nothing_lost(trace)?;
    no_needless_toast(promise, trace)?;
    duplicates_bounded(trace)?;
    no_raw_after_toast(trace)?;
    person_is_told(promise, trace, end)
}

/// G1: it ends in exactly one closed state, which is returned.
///
/// # Errors
/// [`Broken::Lost`] or [`Broken::ClosedTwice`].
pub fn nothing_lost(trace: &[Fact]) -> Result<State, Broken> {
    let mut closed = trace.iter().filter_map(|fact| match fact {
        Fact::Closed(state, _) => Some(*state),
        Fact::Pushed(..) | Fact::Accepted(..) | Fact::Refused(..) | Fact::Receipt(_) | Fact::Fault => None,
    });
    let state = closed.next().ok_or(Broken::Lost)?;
    if closed.next().is_some() { Err(Broken::ClosedTwice) } else { Ok(state) }
}

/// G2: if a toast is owed, then a receipt, an accepted toast, a dead token or the end of its life excuses the end.
///
/// # Errors
/// [`Broken::NotTold`].
pub fn person_is_told(promise: &Promise, trace: &[Fact], end: State) -> Result<(), Broken> {
    let toasted = trace.iter().any(|fact| matches!(fact, Fact::Accepted(Form::Toast, _)));
    let received = trace.iter().any(|fact| matches!(fact, Fact::Receipt(_)));
    let excused = matches!(end, State::Gone | State::Expired | State::Withdrawn | State::Failed);
    if promise.fallback.is_none() || toasted || received || excused { Ok(()) } else { Err(Broken::NotTold) }
}

/// G3: no toast is pushed after a receipt that was answered before the deadline.
///
/// # Errors
/// [`Broken::NeedlessToast`].
pub fn no_needless_toast(promise: &Promise, trace: &[Fact]) -> Result<(), Broken> {
    let Some(delay) = promise.fallback else {
        let toast = trace.iter().any(|fact| matches!(fact, Fact::Pushed(Form::Toast, _)));
        return if toast { Err(Broken::NeedlessToast) } else { Ok(()) };
    };
    // Before the first push there is no deadline; it is the first push + the delay at the earliest.
    let first = trace.iter().find_map(|fact| match fact {
        Fact::Pushed(_, at) => Some(*at),
        Fact::Accepted(..) | Fact::Refused(..) | Fact::Receipt(_) | Fact::Fault | Fact::Closed(..) => None,
    });
    let Some(deadline) = first.map(|at| at.plus(delay)) else { return Ok(()) };
    let mut in_time = false;
    for fact in trace {
        match fact {
            Fact::Receipt(at) if *at < deadline => in_time = true,
            Fact::Pushed(Form::Toast, _) if in_time => return Err(Broken::NeedlessToast),
            Fact::Pushed(..)
            | Fact::Accepted(..)
            | Fact::Refused(..)
            | Fact::Receipt(_)
            | Fact::Fault
            | Fact::Closed(..) => {}
        }
    }
    Ok(())
}

/// G4: each form is pushed once, and once more per refusal of it and per fault.
///
/// # Errors
/// [`Broken::Repeated`].
pub fn duplicates_bounded(trace: &[Fact]) -> Result<(), Broken> {
    let faults = trace.iter().filter(|fact| matches!(fact, Fact::Fault)).count();
    for form in Form::ALL {
        let pushed = trace.iter().filter(|fact| matches!(fact, Fact::Pushed(f, _) if *f == form)).count();
        let refused = trace.iter().filter(|fact| matches!(fact, Fact::Refused(f, _) if *f == form)).count();
        if pushed > 1 + refused + faults {
            return Err(Broken::Repeated(form));
        }
    }
    Ok(())
}

/// Rule 3: from the deadline on, the next push is the toast, never another raw.
///
/// # Errors
/// [`Broken::RawAfterToast`].
pub fn no_raw_after_toast(trace: &[Fact]) -> Result<(), Broken> {
    let toast = trace.iter().position(|fact| matches!(fact, Fact::Pushed(Form::Toast, _)));
    let raw = trace.iter().rposition(|fact| matches!(fact, Fact::Pushed(Form::Raw, _)));
    if toast.is_some_and(|toast| raw.is_some_and(|raw| raw > toast)) { Err(Broken::RawAfterToast) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn each_guarantee_can_be_broken() {
        let promise = Promise { fallback: Some(Duration::from_secs(60)), expires_at: at(3_600) };
        let raw = [Fact::Pushed(Form::Raw, at(0)), Fact::Accepted(Form::Raw, at(0))];
        let with = |more: &[Fact]| [&raw[..], more].concat();
        let toast = [Fact::Pushed(Form::Toast, at(60)), Fact::Accepted(Form::Toast, at(60))];
        let closed = |state| Fact::Closed(state, at(60));
        for (trace, want) in [
            (with(&[Fact::Receipt(at(5)), closed(State::Received)]), Ok(())),
            (with(&[toast[0], toast[1], closed(State::Toasted)]), Ok(())),
            (with(&[]), Err(Broken::Lost)),
            (with(&[closed(State::Accepted)]), Err(Broken::NotTold)),
            (with(&[closed(State::Gone)]), Ok(())),
            (with(&[Fact::Receipt(at(5)), toast[0], closed(State::Received)]), Err(Broken::NeedlessToast)),
            (with(&[toast[0], Fact::Receipt(at(61)), closed(State::Received)]), Ok(())),
            (with(&[raw[0], toast[0], toast[1], closed(State::Toasted)]), Err(Broken::Repeated(Form::Raw))),
            (with(&[Fact::Fault, raw[0], toast[0], toast[1], closed(State::Toasted)]), Ok(())),
            (with(&[toast[0], toast[1], Fact::Fault, raw[0], closed(State::Toasted)]), Err(Broken::RawAfterToast)),
            (with(&[toast[0], closed(State::Toasted), closed(State::Toasted)]), Err(Broken::ClosedTwice)),
        ] {
            assert_eq!(check(&promise, &trace), want, "{trace:?}");
        }
    }
}
