//! The rows of an import: lines become subscriptions, or what is wrong with them.
//!
//! Pure but for the reading itself. A row is one line, so that a stray quote spoils one row and nothing grows without a bound.
//! No error quotes a value: tokens are secrets.

use std::io::{self, BufRead, Read as _};
use std::time::Duration;

use csv::{ReaderBuilder, StringRecord};
use herald_core::device::{Address, Part};
use herald_core::ids::{AppId, Unsid, UserId};
use herald_core::request::MAX_NAME_CHARS;
use herald_core::subscription::{Environment, Platform, TokenKind};
use herald_core::time::Timestamp;
use herald_store::NewSubscription;
use serde::{Deserialize, Serialize};

use super::args::Format;

/// The names of a row's columns, and of its members in JSON.
pub(super) const NAMES: [&str; 8] =
    ["app", "user", "platform", "token", "tokenKind", "environment", "unsid", "expiresAt"];
/// The longest line, in bytes: a push token has 4 KiB at most.
const MAX_LINE: u64 = 64 * 1024;
/// How long a subscription lives that doesn't say.
const LIFE: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// A row as it is written.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Row {
    pub(super) app: Option<String>,
    pub(super) user: Option<String>,
    pub(super) platform: Option<String>,
    pub(super) token: Option<String>,
    pub(super) token_kind: Option<String>,
    pub(super) environment: Option<String>,
    pub(super) unsid: Option<String>,
    pub(super) expires_at: Option<String>,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {field}{problem}; {fix}")]
pub(super) struct Wrong {
    pub(super) line: u64,
    /// Its name with a colon and a space, or empty for the line itself.
    field: String,
    problem: String,
    fix: String,
}

/// Reads rows one by one, from a file of any length.
pub(super) struct Rows<R> {
    input: R,
    format: Format,
    /// For each of [`NAMES`] its column in the file; empty until the first line of a CSV is read.
    columns: [Option<usize>; NAMES.len()],
    /// How many columns the first line of a CSV names, known to [`NAMES`] or not.
    width: usize,
    /// Of the line read last, from 1.
    line: u64,
    from_line: u64,
}

impl<R: BufRead> Rows<R> {
    /// A CSV's first line is read here.
    ///
    /// # Errors
    /// If it can't be read; a [`Wrong`] as the outer `Ok`'s error if a CSV's first line doesn't name its columns.
    pub(super) fn new(input: R, format: Format, from_line: u64) -> io::Result<Result<Self, Wrong>> {
        let mut rows = Self { input, format, columns: [None; NAMES.len()], width: 0, line: 0, from_line };
        if format == Format::Csv {
            let Some(line) = rows.read_line()? else { return Ok(Err(rows.no_names("is empty"))) };
            let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line);
            let Some(names) = fields(line) else { return Ok(Err(rows.no_names("can't be read"))) };
            for (column, name) in NAMES.iter().zip(&mut rows.columns) {
                *name = names.iter().position(|given| given.trim().eq_ignore_ascii_case(column));
            }
            rows.width = names.len();
            if let Some(missing) = NAMES.iter().zip(&rows.columns).take(4).find(|(_, at)| at.is_none()) {
                return Ok(Err(rows.no_names(&format!("has no column {}", missing.0))));
            }
        }
        Ok(Ok(rows))
    }

    fn no_names(&self, problem: &str) -> Wrong {
        let fix = format!("begin with the names of the columns: {}", NAMES.join(","));
        Wrong { line: 1, field: String::new(), problem: format!("the first line {problem}"), fix }
    }

    /// The next row with its line, or what is wrong with it; none at the end. Empty lines are passed over.
    ///
    /// # Errors
    /// If it can't be read.
    pub(super) fn next(&mut self) -> io::Result<Option<(u64, Result<Row, Wrong>)>> {
        loop {
            let Some(line) = self.read_line()? else { return Ok(None) };
            if self.line < self.from_line || line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let row = match self.format {
                _ if line.len() as u64 > MAX_LINE => Err("is longer than 64 KiB"),
                Format::Csv => match fields(&line) {
                    // A file that was cut off ends in half a row, whose token may still look like one.
                    Some(fields) if fields.len() != self.width => Err("has not as many fields as the first line"),
                    Some(fields) => Ok(self.of_csv(&fields)),
                    None => Err("is no CSV of UTF-8 text"),
                },
                Format::JsonLines => serde_json::from_slice(&line).map_err(|_| "is no JSON object of texts"),
            };
            let wrong = |problem: &str| Wrong {
                line: self.line,
                field: String::new(),
                problem: problem.to_owned(),
                fix: "put it right, and import it by itself".to_owned(),
            };
            return Ok(Some((self.line, row.map_err(wrong))));
        }
    }

    fn of_csv(&self, fields: &StringRecord) -> Row {
        let [app, user, platform, token, token_kind, environment, unsid, expires_at] = self.columns.map(|column| {
            let text = column.and_then(|column| fields.get(column)).map(str::trim);
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        });
        Row { app, user, platform, token, token_kind, environment, unsid, expires_at }
    }

    /// The next line; of one that is too long its beginning, and the rest is passed over.
    fn read_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        self.input.by_ref().take(MAX_LINE + 1).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        self.line += 1;
        if line.len() as u64 > MAX_LINE && line.last() != Some(&b'\n') {
            skip_line(&mut self.input)?;
        }
        Ok(Some(line))
    }
}

fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let (used, found) = {
            let buffer = input.fill_buf()?;
            match buffer.iter().position(|byte| *byte == b'\n') {
                Some(at) => (at + 1, true),
                None => (buffer.len(), buffer.is_empty()),
            }
        };
        input.consume(used);
        if found {
            return Ok(());
        }
    }
}

/// The fields of one line.
fn fields(line: &[u8]) -> Option<StringRecord> {
    let mut fields = StringRecord::new();
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).buffer_capacity(1024).from_reader(line);
    (reader.read_record(&mut fields).ok()? && !reader.read_record(&mut StringRecord::new()).ok()?).then_some(fields)
}

/// What a row means.
///
/// # Errors
/// The first field that is missing or wrong.
pub(super) fn subscription(
    row: &Row,
    line: u64,
    now: Timestamp,
    known: impl FnOnce(&AppId) -> bool,
) -> Result<NewSubscription, Wrong> {
    let wrong = |field: &str, problem: &str, fix: &str| Wrong {
        line,
        field: format!("{field}: "),
        problem: problem.to_owned(),
        fix: fix.to_owned(),
    };
    let given = |name: &str, text: &Option<String>| {
        let text = text.as_deref().map(str::trim).filter(|text| !text.is_empty());
        text.map(str::to_owned).ok_or_else(|| wrong(name, "is missing", "give it in every row"))
    };
    let app = AppId::new(given("app", &row.app)?.to_ascii_lowercase());
    if !known(&app) {
        return Err(wrong("app", "no such app is configured", "configure it, or give its targetHostName"));
    }
    let user = given("user", &row.user)?;
    if user.chars().count() > MAX_NAME_CHARS || user.chars().any(char::is_control) {
        return Err(wrong("user", "is no user's name", "give at most 256 characters without control characters"));
    }
    let platform = Platform::parse(&given("platform", &row.platform)?);
    let platform = platform.ok_or_else(|| wrong("platform", "is not known", "give ios or android"))?;
    let token = given("token", &row.token)?;
    let token_kind = optional(&row.token_kind, TokenKind::Token, TokenKind::parse);
    let token_kind = token_kind.ok_or_else(|| wrong("tokenKind", "is not known", "give token or fid"))?;
    let environment = optional(&row.environment, Environment::Production, Environment::parse);
    let environment = environment.ok_or_else(|| wrong("environment", "is not known", "give production or sandbox"))?;
    let address = Address::checked(platform, token_kind, environment, &token).map_err(|error| {
        let field = if error.part == Part::PushToken { "token" } else { error.part.as_str() };
        wrong(field, error.problem, error.fix)
    })?;
    let unsid = optional(&row.unsid, None, |text| text.parse().ok().map(|id| Some(Unsid(id))));
    let expires_at = optional(&row.expires_at, now.plus(LIFE), Timestamp::parse_rfc3339);
    let expires_at =
        expires_at.ok_or_else(|| wrong("expiresAt", "is not a time", "give one like 2026-12-01T00:00:00Z"))?;
    if expires_at <= now {
        return Err(wrong("expiresAt", "is over", "leave the row out, or give a later time"));
    }
    Ok(NewSubscription {
        app,
        user: UserId::new(user),
        platform: address.platform,
        token_kind: address.token_kind,
        token: address.token,
        environment: address.environment,
        expires_at,
        unsid: unsid.ok_or_else(|| wrong("unsid", "is not a UUID", "give it as it was exported, or leave it out"))?,
    })
}

fn optional<T>(text: &Option<String>, absent: T, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    match text.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
        None => Some(absent),
        Some(text) => parse(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
    const UNSID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn all(text: &[u8], format: Format, from_line: u64) -> Vec<(u64, Result<String, String>)> {
        let mut rows = Rows::new(text, format, from_line).unwrap().unwrap();
        let mut all = Vec::new();
        while let Some((line, row)) = rows.next().unwrap() {
            let row = row.and_then(|row| subscription(&row, line, NOW, |app| app.as_str() == "a.example"));
            let told = |new: NewSubscription| format!("{} {} {}", new.user, new.token.expose(), new.expires_at.secs());
            all.push((line, row.map(told).map_err(|wrong| wrong.to_string())));
        }
        all
    }

    #[test]
    fn rows_are_read_by_the_names_of_their_columns_and_bad_lines_are_named() {
        let long = "x".repeat(70_000);
        let csv = format!(
            "\u{feff}token,App,user,platform,more,expiresAt\r\n\
             t1,A.example,anna,android,,\r\n\
             \r\n\
             \"t2\",a.example,\"b, en\",Android,x,2030-01-01T00:00:00Z\r\n\
             t3,a.example,,android,,\r\n\
             \"t4,a.example,anna,android\r\n\
             {long},a.example,anna,android\r\n\
             t5,b.example,anna,android,,\r\n\
             t6,a.example,anna,android,,never\r\n\
             t7,a.example,anna,android,,2020-01-01T00:00:00Z\r\n\
             t8,a.example,anna,android"
        );
        let lines = all(csv.as_bytes(), Format::Csv, 1);
        let bad = |text: &str| Err(text.to_owned());
        let torn = "has not as many fields as the first line; put it right, and import it by itself";
        assert_eq!(
            lines,
            [
                (2, Ok("anna t1 1707776000".to_owned())),
                (4, Ok("b, en t2 1893456000".to_owned())),
                (5, bad("line 5: user: is missing; give it in every row")),
                (6, bad(&format!("line 6: {torn}"))),
                (7, bad("line 7: is longer than 64 KiB; put it right, and import it by itself")),
                (8, bad("line 8: app: no such app is configured; configure it, or give its targetHostName")),
                (9, bad("line 9: expiresAt: is not a time; give one like 2026-12-01T00:00:00Z")),
                (10, bad("line 10: expiresAt: is over; leave the row out, or give a later time")),
                (11, bad(&format!("line 11: {torn}"))),
            ]
        );
        assert_eq!(all(csv.as_bytes(), Format::Csv, 11), lines[8..]);
    }

    #[test]
    fn json_lines_are_objects_and_what_is_unknown_in_them_is_ignored() {
        let lines = format!(
            "{{\"app\":\"a.example\",\"user\":\"anna\",\"platform\":\"android\",\"token\":\"t1\",\"unsid\":\"{UNSID}\",\"x\":{{}}}}\n\
             {{\"app\":\"a.example\",\"user\":7}}\n\
             [1]\n\
             {{\"app\":\"a.example\",\"user\":\"anna\",\"platform\":\"android\",\"token\":\"t2\",\"unsid\":\"s3cret\"}}\n\
             {{\"app\":\"a.example\",\"user\":\"anna\",\"platform\":\"ios\",\"token\":\"s3cret\",\"tokenKind\":null}}\n"
        );
        let told = all(lines.as_bytes(), Format::JsonLines, 1);
        let no_json = |line: u64| {
            (line, Err(format!("line {line}: is no JSON object of texts; put it right, and import it by itself")))
        };
        assert_eq!(told[0], (1, Ok("anna t1 1707776000".to_owned())));
        assert_eq!(told[1..3], [no_json(2), no_json(3)]);
        let wrong: Vec<&str> = told[3..].iter().map(|(_, row)| row.as_ref().unwrap_err().as_str()).collect();
        assert!(wrong[0].starts_with("line 4: unsid: is not a UUID"), "{wrong:?}");
        assert!(wrong[1].starts_with("line 5: token: is no APNs device token"), "{wrong:?}");
        assert!(!format!("{wrong:?}").contains("s3cret"));
    }

    #[test]
    fn a_csv_that_does_not_name_its_columns_is_refused_as_a_whole() {
        for (text, problem) in [
            ("", "is empty"),
            ("a.example,anna,ios,t\n", "has no column app"),
            ("app,user,platform\n", "has no column token"),
        ] {
            let wrong = Rows::new(text.as_bytes(), Format::Csv, 1).unwrap().err().unwrap().to_string();
            assert!(wrong.starts_with(&format!("line 1: the first line {problem}; begin with")), "{wrong}");
        }
    }
}
