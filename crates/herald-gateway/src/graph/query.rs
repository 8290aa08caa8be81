//! What a read asks for by its query: `$top`, `$skiptoken`, `$count`, `$filter`, `$deltatoken`; and the links that go on from it.
//!
//! Pure. `$filter` is the part of OData that Graph's clients of notifications used: comparisons by `eq`, joined by `and`. What is
//! not understood is refused by its name; nothing that was given is quoted but an option's own name.
//!
//! Tokens are opaque to clients. That of a list is the last notification's id; those of a delta hold a [`Mark`], and whatever is
//! none of ours begins anew, as any that is too old.

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use herald_core::ids::NotificationId;
use herald_core::reading::UserAction;
use herald_store::{DeltaFrom, EntryFilter, Mark};
use uuid::Uuid;

use crate::refusal::Refusal;

use super::resource::encoded;

/// Notifications of a page, if the client does not say.
const TOP: usize = 20;
/// And at most: with their content they are some megabytes.
const MAX_TOP: usize = 100;
/// The longest name of an option that is said back.
const MAX_SHOWN: usize = 40;

/// What a list asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ListQuery {
    pub(super) top: usize,
    pub(super) after: Option<NotificationId>,
    pub(super) count: bool,
    pub(super) filter: EntryFilter,
    options: Options,
}

/// What a delta asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DeltaQuery {
    pub(super) top: usize,
    pub(super) from: DeltaFrom,
    /// Nothing of what is there: it begins now.
    pub(super) latest: bool,
    options: Options,
}

/// The options as they were given.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options(Vec<(String, String)>);

impl Options {
    /// # Errors
    /// 400 for one that is not known here, or given twice.
    fn of(query: Option<&str>, known: &[&str]) -> Result<Self, Refusal> {
        let mut options: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if !known.contains(&&*name) {
                let sane = name.len() <= MAX_SHOWN && name.bytes().all(|byte| byte.is_ascii_graphic());
                let field = if sane && !name.is_empty() { name.into_owned() } else { "query".to_owned() };
                let fix = format!("give only {}", known.join(", "));
                return Err(Refusal::invalid(field, "is no option here", fix));
            }
            if options.iter().any(|(given, _)| *given == name) {
                return Err(Refusal::invalid(name, "is given more than once", "give it once"));
            }
            options.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(options))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    fn top(&self) -> Result<usize, Refusal> {
        let Some(top) = self.get("$top") else { return Ok(TOP) };
        let digits = !top.is_empty() && top.bytes().all(|byte| byte.is_ascii_digit());
        // A number beyond all numbers is more than there is, too.
        match top.parse().unwrap_or(MAX_TOP) {
            1.. if digits => Ok(top.parse().unwrap_or(MAX_TOP).min(MAX_TOP)),
            _ => Err(Refusal::invalid("$top", "is no number of notifications", "give 1 to 100, or leave it out")),
        }
    }

    /// The same, going on by a token.
    fn going_on(&self, name: &str, token: &str) -> String {
        let kept = self.0.iter().filter(|(given, _)| !given.ends_with("token"));
        let kept = kept.map(|(name, value)| (name.as_str(), value.as_str()));
        let pairs: Vec<_> =
            kept.chain([(name, token)]).map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        pairs.join("&")
    }
}

impl ListQuery {
    /// # Errors
    /// 400 for what is not understood.
    pub(super) fn of(query: Option<&str>) -> Result<Self, Refusal> {
        let options = Options::of(query, &["$top", "$skiptoken", "$count", "$filter"])?;
        let after = options.get("$skiptoken").map(|token| {
            let fix = "follow @odata.nextLink as it is, or begin anew without it";
            token
                .parse()
                .map(NotificationId)
                .map_err(|_| Refusal::invalid("$skiptoken", "is none of these lists'", fix))
        });
        let count = match options.get("$count") {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(Refusal::invalid("$count", "is neither true nor false", "give one of them")),
        };
        Ok(Self { top: options.top()?, after: after.transpose()?, count, filter: filter(&options)?, options })
    }

    /// The query of the next page.
    pub(super) fn next(&self, last: NotificationId) -> String {
        self.options.going_on("$skiptoken", &last.0.simple().to_string())
    }
}

/// What a count asks for.
///
/// # Errors
/// 400 for what is not understood.
pub(super) fn count(query: Option<&str>) -> Result<EntryFilter, Refusal> {
    filter(&Options::of(query, &["$filter"])?)
}

impl DeltaQuery {
    /// # Errors
    /// 400 for what is not understood, 410 for a token that is none of ours.
    pub(super) fn of(query: Option<&str>) -> Result<Self, Refusal> {
        let options = Options::of(query, &["$top", "$skiptoken", "$deltatoken"])?;
        let (from, latest) = match (options.get("$skiptoken"), options.get("$deltatoken")) {
            (Some(_), Some(_)) => {
                let fix = "follow @odata.nextLink or @odata.deltaLink as it is";
                return Err(Refusal::invalid("$deltatoken", "is given beside $skiptoken", fix));
            }
            (Some(page), None) => (read_page(page).ok_or_else(unknown_mark)?, false),
            (None, Some("latest")) => (DeltaFrom::default(), true),
            (None, Some(mark)) => {
                let since = Some(read_mark(mark).ok_or_else(unknown_mark)?);
                (DeltaFrom { since, ..DeltaFrom::default() }, false)
            }
            (None, None) => (DeltaFrom::default(), false),
        };
        Ok(Self { top: options.top()?, from, latest, options })
    }

    /// The query of the next page.
    pub(super) fn next(&self, until: Mark, last: NotificationId) -> String {
        let from = DeltaFrom { since: self.from.since, until: Some(until), after: Some(last) };
        self.options.going_on("$skiptoken", &page(&from, until))
    }

    /// The query of the next delta.
    pub(super) fn later(&self, mark: Mark) -> String {
        let mut token = mark.epoch.into_bytes().to_vec();
        token.extend(mark.at.to_be_bytes());
        self.options.going_on("$deltatoken", &URL_SAFE_NO_PAD.encode(token))
    }
}

/// A 410: the client begins anew.
pub(super) fn unknown_mark() -> Refusal {
    let (code, fix) = ("syncStateNotFound", "begin anew, without a token, and take the answer for all there is");
    Refusal::new(StatusCode::GONE, code, "$deltatoken", "is too old, or of another place", fix)
}

fn read_mark(token: &str) -> Option<Mark> {
    let token: [u8; 24] = URL_SAFE_NO_PAD.decode(token).ok()?.try_into().ok()?;
    let (epoch, at) = token.split_first_chunk::<16>()?;
    Some(Mark { epoch: Uuid::from_bytes(*epoch), at: i64::from_be_bytes(at.try_into().ok()?) })
}

/// Epoch, end, last notification, and what it is since, if it is not the first delta.
fn page(from: &DeltaFrom, until: Mark) -> String {
    let mut token = until.epoch.into_bytes().to_vec();
    token.extend(until.at.to_be_bytes());
    token.extend(from.after.map_or(Uuid::max(), |last| last.0).into_bytes());
    token.extend(from.since.iter().flat_map(|since| since.at.to_be_bytes()));
    URL_SAFE_NO_PAD.encode(token)
}

fn read_page(token: &str) -> Option<DeltaFrom> {
    let token = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (epoch, rest) = token.split_first_chunk::<16>()?;
    let (until, rest) = rest.split_first_chunk::<8>()?;
    let (after, rest) = rest.split_first_chunk::<16>()?;
    let mark = |at: &[u8; 8]| Mark { epoch: Uuid::from_bytes(*epoch), at: i64::from_be_bytes(*at) };
    let since = match rest {
        [] => None,
        since => Some(mark(since.try_into().ok()?)),
    };
    let after = Some(NotificationId(Uuid::from_bytes(*after)));
    Some(DeltaFrom { since, until: Some(mark(until)), after })
}

const FILTER_FIX: &str = "compare readState, userActionState, status or groupName by eq, and join by and; texts stand in '…', \
                          a quote in them is doubled";

fn wrong_filter(problem: &'static str) -> Refusal {
    Refusal::invalid("$filter", problem, FILTER_FIX)
}

fn filter(options: &Options) -> Result<EntryFilter, Refusal> {
    let mut filter = EntryFilter::default();
    let Some(text) = options.get("$filter") else { return Ok(filter) };
    let mut words = words(text)?.into_iter();
    let mut seen: Vec<String> = Vec::new();
    loop {
        let (property, operator, value) = (words.next(), words.next(), words.next());
        let (Some(Word::Bare(property)), Some(Word::Bare(operator)), Some(value)) = (property, operator, value) else {
            return Err(wrong_filter("is not understood"));
        };
        if operator != "eq" {
            return Err(wrong_filter("compares by something else than eq"));
        }
        if seen.contains(&property) {
            return Err(wrong_filter("compares a property twice"));
        }
        compare(&mut filter, &property, value)?;
        seen.push(property);
        match words.next() {
            None => return Ok(filter),
            Some(Word::Bare(and)) if and == "and" => {}
            Some(_) => return Err(wrong_filter("joins by something else than and")),
        }
    }
}

fn compare(filter: &mut EntryFilter, property: &str, value: Word) -> Result<(), Refusal> {
    let wrong = || wrong_filter("compares with something else than the property can be");
    match (property, value) {
        ("readState", value) => filter.read = Some(read_state(&value).ok_or_else(wrong)?),
        ("userActionState", Word::Text(action)) => {
            filter.action = Some(UserAction::parse(&action).ok_or_else(wrong)?);
        }
        ("status", Word::Text(status)) => {
            filter.deleted = match status.to_ascii_lowercase().as_str() {
                "active" => false,
                "deleted" => true,
                _ => return Err(wrong()),
            };
        }
        ("groupName", Word::Text(group)) => filter.group = Some(group),
        ("userActionState" | "status" | "groupName", Word::Bare(_)) => return Err(wrong()),
        _ => return Err(wrong_filter("names something else than can be compared")),
    }
    Ok(())
}

fn read_state(value: &Word) -> Option<bool> {
    match value {
        Word::Bare(bare) => bare.parse().ok(),
        Word::Text(text) => super::change::read_state(text),
    }
}

/// What a filter is made of.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    Bare(String),
    /// What stood within quotes.
    Text(String),
}

fn words(filter: &str) -> Result<Vec<Word>, Refusal> {
    let mut words = Vec::new();
    let mut rest = filter.trim_start();
    while !rest.is_empty() {
        let end = if let Some(quoted) = rest.strip_prefix('\'') {
            let (text, after) = text(quoted).ok_or_else(|| wrong_filter("has a text without an end"))?;
            words.push(Word::Text(text));
            after
        } else {
            let length = rest.find(char::is_whitespace).unwrap_or(rest.len());
            let (bare, after) = rest.split_at(length);
            words.push(Word::Bare(bare.to_owned()));
            after
        };
        rest = end.trim_start();
        if rest.len() == end.len() && !rest.is_empty() {
            return Err(wrong_filter("has no space after a text"));
        }
    }
    Ok(words)
}

/// What stands before the closing quote, and what after it; of two quotes one is meant.
fn text(quoted: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    let mut rest = quoted;
    loop {
        let (before, after) = rest.split_once('\'')?;
        text.push_str(before);
        let Some(more) = after.strip_prefix('\'') else { return Some((text, after)) };
        text.push('\'');
        rest = more;
    }
}

#[cfg(test)]
mod tests;
