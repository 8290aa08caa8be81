//! Work that panics, aborts the process or never ends, so that tests can see it isolated and parked (G6).
//!
//! Called where a request is read, where a fan-out is resolved and where a delivery is pushed. Only a build with the feature `poison-for-tests` knows the
//! marker, an `appNotificationId` of `herald-test:<panic | abort | loop>:<intake | fanout | push>`; in any other build the call is
//! empty, and a release build with the feature does not compile.

use herald_core::notification::Content;

#[cfg(all(feature = "poison-for-tests", not(debug_assertions)))]
compile_error!("poison-for-tests is for tests: a producer could end every worker");

/// Where the work is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A request has been read.
    Intake,
    /// A page of a notification that is due itself is being resolved.
    Fanout,
    /// A delivery is about to be handed to its provider.
    Push,
}

/// Does what the marker says, if this is the place for it.
#[cfg(feature = "poison-for-tests")]
pub(crate) fn swallow(place: Place, content: &Content) {
    let marker = content.app_notification_id.as_deref().and_then(|id| id.strip_prefix("herald-test:"));
    let Some((deed, here)) = marker.and_then(|marker| marker.split_once(':')) else { return };
    let place = match place {
        Place::Intake => "intake",
        Place::Fanout => "fanout",
        Place::Push => "push",
    };
    if here != place {
        return;
    }
    match deed {
        "panic" => panic!("poison for tests"),
        "abort" => std::process::abort(),
        "loop" => loop {
            std::hint::spin_loop();
        },
        _ => {}
    }
}

/// Nothing.
#[cfg(not(feature = "poison-for-tests"))]
pub(crate) fn swallow(_place: Place, _content: &Content) {}

#[cfg(all(test, not(feature = "poison-for-tests")))]
mod tests {
    use super::*;

    #[test]
    fn a_build_for_people_ignores_the_marker() {
        for deed in ["panic", "abort", "loop"] {
            for (place, word) in [(Place::Intake, "intake"), (Place::Fanout, "fanout"), (Place::Push, "push")] {
                let content = serde_json::json!({ "app_notification_id": format!("herald-test:{deed}:{word}"),
                    "payload": { "raw": "x" }, "target_policy": [] });
                let content: Content = serde_json::from_value(content).unwrap();
                swallow(place, &content);
            }
        }
    }
}
