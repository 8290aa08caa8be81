//! Making the visible text fit: body first, then title, cut between characters and ended with an ellipsis.
//!
//! Used by the builders of [`crate::push`] only when a push without content is still too large. Never cuts raw content: half
//! of an app's data is worse than `fetch`.

use std::borrow::Cow;

use serde::Serialize;

use crate::notification::Visual;

const ELLIPSIS: char = '…';

/// Title and body as they are sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Shown<'a> {
    pub(crate) title: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) body: Option<Cow<'a, str>>,
}

/// What a character takes inside a JSON string as `serde_json` writes it.
pub(crate) fn json_bytes(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        _ => c.len_utf8(),
    }
}

/// What a character takes where a provider counts the value itself.
pub(crate) fn plain_bytes(c: char) -> usize {
    c.len_utf8()
}

impl<'a> Shown<'a> {
    /// As the producer gave it.
    pub(crate) fn whole(visual: &'a Visual) -> Self {
        Self { title: Cow::Borrowed(&visual.title), body: visual.body.as_deref().map(Cow::Borrowed) }
    }

    /// No text at all: what is left of the push is its frame.
    pub(crate) fn empty(visual: &'a Visual) -> Self {
        Self { title: Cow::Borrowed(""), body: visual.body.as_ref().map(|_| Cow::Borrowed("")) }
    }

    /// As much as fits into `room` bytes, a character taking `cost` of them. `None` if not even the start of the title does.
    pub(crate) fn within(visual: &'a Visual, room: usize, cost: fn(char) -> usize) -> Option<Self> {
        let title = cut(&visual.title, room, cost)?;
        let left = room - size(&title, cost);
        let body = visual.body.as_deref().and_then(|body| cut(body, left, cost));
        Some(Self { title, body })
    }
}

fn size(text: &str, cost: fn(char) -> usize) -> usize {
    text.chars().map(cost).sum()
}

/// The text, or its longest start that fits with an ellipsis, or `None` if that would be the ellipsis alone.
fn cut(text: &str, room: usize, cost: fn(char) -> usize) -> Option<Cow<'_, str>> {
    let room_to_cut = room.checked_sub(cost(ELLIPSIS));
    let (mut used, mut kept) = (0, 0);
    for (at, c) in text.char_indices() {
        if room_to_cut.is_some_and(|room| used <= room) {
            kept = at;
        }
        used += cost(c);
        if used > room {
            return (kept > 0).then(|| Cow::Owned(format!("{}{ELLIPSIS}", &text[..kept])));
        }
    }
    Some(Cow::Borrowed(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn visual(title: &str, body: &str) -> Visual {
        Visual { title: title.to_owned(), body: Some(body.to_owned()) }
    }

    #[test]
    fn the_body_is_cut_before_the_title_and_never_inside_a_character() {
        let check = |title, body, room, expected: Option<(&str, Option<&str>)>| {
            let visual = visual(title, body);
            let shown = Shown::within(&visual, room, json_bytes);
            let parts = shown.as_ref().map(|s| (&*s.title, s.body.as_deref()));
            assert_eq!(parts, expected, "{title} {body} {room}");
        };
        check("abcdef", "ghijkl", 12, Some(("abcdef", Some("ghijkl"))));
        check("abcdef", "ghijkl", 11, Some(("abcdef", Some("gh…"))));
        check("abcdef", "ghijkl", 9, Some(("abcdef", None)));
        check("abcdef", "ghijkl", 5, Some(("ab…", None)));
        check("abcdef", "ghijkl", 3, None);
        check("abcdef", "ghijkl", 0, None);
        // Two bytes each: the second does not fit beside the ellipsis.
        check("éééé", "", 7, Some(("éé…", Some(""))));
        check("éééé", "", 6, Some(("é…", Some(""))));
        // A quote takes two bytes inside JSON.
        check("\"\"\"\"", "", 7, Some(("\"\"…", Some(""))));
    }

    proptest! {
        #[test]
        fn what_is_shown_never_takes_more_than_its_room(title in "\\PC{0,40}|[\\x00-\\x7f]{0,40}", body in ".{0,40}", room in 0_usize..120) {
            let visual = visual(&title, &body);
            let whole = size(&title, json_bytes) + size(&body, json_bytes);
            match Shown::within(&visual, room, json_bytes) {
                Some(shown) => {
                    let text = format!("{}{}", shown.title, shown.body.as_deref().unwrap_or(""));
                    // Quotes apart, this is what serde_json writes.
                    prop_assert!(serde_json::to_string(&text).unwrap().len() - 2 <= room);
                    prop_assert_eq!(whole <= room, shown == Shown::whole(&visual));
                }
                None => prop_assert!(whole > room),
            }
        }
    }
}
