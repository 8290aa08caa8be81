//! Providers' answers: whatever comes back, a token is never given up without a word about it, our own credentials never
//! cost one, and nothing makes Herald wait for ever.

use herald_core::outcome::{Answer, Classified, Outcome, apns, fcm};
use herald_core::prune::{Case, MassFailureGuard, Verdict, judge};
use herald_core::retry::MAX_RETRY_AFTER;
use herald_core::time::Timestamp;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// Classifies it as either provider's.
///
/// # Panics
/// If something doesn't hold.
pub(crate) fn check(data: &[u8]) {
    let (head, body) = data.split_at(data.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1));
    let head = String::from_utf8_lossy(head);
    let (status, retry_after) = head.trim_end_matches('\n').split_once(' ').unwrap_or((head.trim(), ""));
    let answer = Answer {
        status: status.parse().unwrap_or(400),
        provider_id: None,
        retry_after: Some(retry_after.to_owned()).filter(|text| !text.is_empty()),
        body: body.to_vec(),
    };
    holds(&answer, &apns::classify(&answer, NOW), b"reason");
    holds(&answer, &fcm::classify(&answer, NOW), b"errorCode");
}

fn holds(answer: &Answer, classified: &Classified, word: &[u8]) {
    let status = answer.status;
    assert_eq!(classified.status, Some(status));
    match classified.outcome {
        Outcome::Accepted => assert_eq!(status, 200),
        Outcome::Gone { .. } => {
            assert!(matches!(status, 400 | 403 | 404 | 410), "{status} costs a token");
            // An escape may hide a letter of it.
            let said = answer.body.windows(word.len()).any(|part| part == word) || answer.body.contains(&b'\\');
            assert!(said, "{status} without a word of the provider costs a token");
            // Without anybody accepted, nothing but a time after the token was presented may end a subscription.
            // Though it has been said before.
            let case = Case { confirmed_at: NOW, refused_at: Some(NOW), accepted_at: Some(NOW.plus(MAX_RETRY_AFTER)) };
            let verdict = judge(classified.outcome, case, MassFailureGuard::default());
            let later = matches!(classified.outcome, Outcome::Gone { since: Some(since), .. } if since > NOW);
            assert!(verdict != Some(Verdict::Dead) || later, "{:?} costs a token by itself", classified.outcome);
        }
        Outcome::Throttled { after, .. } | Outcome::Unavailable { after, .. } => {
            assert!(after.is_none_or(|after| after <= MAX_RETRY_AFTER), "{after:?}");
        }
        Outcome::Unauthorized => assert!(matches!(status, 401 | 403), "{status} pauses an app"),
        Outcome::Misconfigured => assert!(matches!(status, 400 | 401 | 404), "{status} pauses an app"),
        Outcome::Invalid => assert!((400..500).contains(&status), "{status} drops a push"),
        Outcome::NotSent | Outcome::Unknown => {}
    }
    let text = classified.detail.iter().chain(&classified.provider_id);
    for text in text {
        assert!(text.len() <= 256 && text.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{text:?}");
    }
}
