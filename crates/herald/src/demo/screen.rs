//! How the demo looks: at most 80 columns, colours on a terminal only. Pure but for [`Screen`], which prints.

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::time::Duration;

use herald_core::time::Timestamp;

use super::cast::{APP, CAST, Person};
use super::timeline::{Line, Mark};
use super::verdict::Found;
use crate::out;

/// The widest line, but for paths and addresses that can't be broken.
const WIDTH: usize = 80;
/// The widest name of a column.
const NAME: usize = 12;
/// Where the text of a timeline's line begins: `  0.05 s  anna   `.
const TEXT_AT: usize = 17;

/// ANSI's "select graphic rendition".
mod code {
    pub(super) const BOLD: &str = "1";
    pub(super) const DIM: &str = "2";
    pub(super) const RED: &str = "31";
    pub(super) const GREEN: &str = "32";
    pub(super) const YELLOW: &str = "33";
    pub(super) const MAGENTA: &str = "35";
    pub(super) const CYAN: &str = "1;36";
}

/// Colours, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paint(bool);

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.0 && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Where the timeline goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    paint: Paint,
    quiet: bool,
}

impl Screen {
    /// Stdout, in colour if it is a terminal and nobody objects (<https://no-color.org>). `quiet` says nothing at all.
    pub(super) fn new(quiet: bool) -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let plain = variable("NO_COLOR").is_some() || variable("TERM").is_some_and(|term| term == "dumb");
        Self { paint: Paint(!plain && io::stdout().is_terminal()), quiet }
    }

    /// What the functions below paint with.
    pub(super) fn paint(&self) -> Paint {
        self.paint
    }

    /// Prints.
    ///
    /// # Errors
    /// When stdout can't be written.
    pub(super) fn say(&self, lines: &[String]) -> io::Result<()> {
        if self.quiet { Ok(()) } else { lines.iter().try_for_each(out::line) }
    }
}

/// What it is, and who is in it.
pub(super) fn intro(after: Duration, paint: Paint) -> Vec<String> {
    let mut lines = vec![
        paint.with(code::BOLD, "Herald demo: one process, simulated phones, no server, no account"),
        String::new(),
    ];
    lines.extend(wrapped(
        &format!(
            "Five people get one high-priority notification each. It goes out as a raw push first: silent, for the app. If \
             the app does not answer with a receipt within {} seconds, the push counts as deferred, and on iOS Herald sends a \
             toast, which the person sees.",
            after.as_secs()
        ),
        WIDTH,
    ));
    lines.push(String::new());
    lines.extend(CAST.iter().map(|person| {
        let name = paint.with(code::BOLD, &format!("{:<5}", person.name));
        format!("  {name}  {:<7}  {}", person.phone(), person.situation)
    }));
    lines.push(String::new());
    lines
}

/// A line of the timeline; its time counts from `start`.
pub(super) fn timeline(line: &Line, start: Timestamp, paint: Paint) -> Vec<String> {
    let time = format!("{:>6.2} s", line.at.since(start).as_secs_f64());
    let who: String = line.who.chars().take(NAME).collect();
    let color = match line.mark {
        Mark::Step => "",
        Mark::Good => code::GREEN,
        Mark::Deferred => code::YELLOW,
        Mark::Seen => code::CYAN,
        Mark::Refused => code::MAGENTA,
    };
    let colored = |text: &str| if color.is_empty() { text.to_owned() } else { paint.with(color, text) };
    let head = format!("{}  {} ", paint.with(code::DIM, &time), paint.with(code::BOLD, &format!("{who:<5}")));
    // A long name moves its text to the right.
    let width = WIDTH - TEXT_AT - who.chars().count().saturating_sub(5);
    let indent = " ".repeat(TEXT_AT);
    let text = wrapped(&line.text, width);
    text.iter()
        .enumerate()
        .map(
            |(n, text)| if n == 0 { format!("{head} {}", colored(text)) } else { format!("{indent}{}", colored(text)) },
        )
        .collect()
}

/// What each person saw beside what was expected.
pub(super) fn table(all: &[(Person, Found)], paint: Paint) -> Vec<String> {
    let row = |who: &str, saw: &str, expected: &str, state: &str, why: &str| {
        format!("{who:<5}  {saw:<9}  {expected:<9}  {state:<9}  {why}").trim_end().to_owned()
    };
    let mut lines = vec![String::new(), paint.with(code::BOLD, &row("WHO", "SAW", "EXPECTED", "STATE", "WHY"))];
    for (person, found) in all {
        let good = found.is(&person.expected);
        let why = if good { person.because } else { "not as expected" };
        let state = found.state.map_or("-", |state| state.as_str());
        let line = row(person.name, &toasts(found.toasts_shown), &toasts(person.expected.toasts_shown), state, why);
        lines.push(if good { line } else { paint.with(code::RED, &line) });
    }
    lines.push(String::new());
    if all.iter().all(|(person, found)| found.is(&person.expected)) {
        lines.push(paint.with(code::GREEN, "Each person saw exactly what they should."));
    }
    lines
}

fn toasts(count: u64) -> String {
    match count {
        0 => "no toast".to_owned(),
        1 => "1 toast".to_owned(),
        more => format!("{more} toasts"),
    }
}

/// What a person at a second terminal needs to know.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    /// The running binary.
    pub(super) program: &'a Path,
    /// The `herald.toml`.
    pub(super) config: &'a Path,
    /// The phones' control interface.
    pub(super) control_url: &'a str,
    /// Posts, receipts and metrics.
    pub(super) http_url: &'a str,
    /// The variables of this process that would lead `herald` elsewhere.
    pub(super) unset: &'a [&'a str],
    /// How long a receipt is waited for.
    pub(super) after: Duration,
}

/// How to send one's own.
pub(super) fn commands(facts: &Facts<'_>, paint: Paint) -> Vec<String> {
    let Facts { control_url, http_url, .. } = facts;
    let title = |text: &str| paint.with(code::BOLD, text);
    let mut lines = vec![
        String::new(),
        title("It goes on: send your own from a second terminal (ctrl-c ends the demo here)"),
        String::new(),
    ];
    if !facts.unset.is_empty() {
        lines.push(format!("  unset {}", facts.unset.join(" ")));
    }
    lines.push(format!("  export HERALD_CONFIG={}", quoted(facts.config)));
    if let Some(folder) = facts.program.parent() {
        lines.push(format!("  export PATH={}:$PATH", quoted(folder)));
    }
    lines.push(format!("  herald send --app {APP} --user ben --raw hello --priority High \\"));
    lines.push(format!("    --fallback-title 'Hello ben' --fallback-after {}", facts.after.as_secs()));
    lines.push(String::new());
    lines.push("to anna, ben, carla or dora; emil has no phone left to push to. Or post it over".to_owned());
    lines.push("HTTP, as an app's service did to Microsoft Graph:".to_owned());
    lines.push(String::new());
    lines.extend(posting(http_url));
    lines.push(String::new());
    lines.push("See and change what a phone is doing (awake, powerSaving, forceQuit, offline,".to_owned());
    lines.push("uninstalled):".to_owned());
    lines.push(String::new());
    lines.push(format!("  curl -sw '\\n' {control_url}/phones/ben"));
    lines.push(format!("  curl -sw '\\n' -X PATCH {control_url}/phones/ben \\"));
    lines.push("    -d '{\"condition\":\"awake\"}'".to_owned());
    lines.push(String::new());
    lines.push("An app that was uninstalled must register again: herald subscriptions add --help".to_owned());
    lines.push(String::new());
    lines.push(format!("{}   {http_url}/metrics", title("Metrics")));
    lines.push(format!("{}  {http_url}/v1/receipts (the apps on the phones post them)", title("Receipts")));
    lines.push(String::new());
    lines
}

/// A token, and a post with it, by what every shell has.
fn posting(http_url: &str) -> Vec<String> {
    vec![
        format!("  SECRET=$(cat ${{HERALD_CONFIG%/*}}/{APP}.client-secret)"),
        format!("  TOKEN=$(curl -s {http_url}/common/oauth2/v2.0/token \\"),
        format!("    -d grant_type=client_credentials -d client_id={APP} \\"),
        "    -d scope=https://graph.microsoft.com/.default \\".to_owned(),
        "    --data-urlencode \"client_secret=$SECRET\" |".to_owned(),
        "    sed 's/.*\"access_token\":\"//; s/\".*//')".to_owned(),
        format!("  curl -i {http_url}/beta/users/ben/notifications \\"),
        "    -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' \\".to_owned(),
        format!("    -d '{{\"targetHostName\":\"{APP}\",\"payload\":{{\"rawContent\":\"hello\"}}}}'"),
    ]
}

/// As one word of a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Broken at spaces; a longer word has a line of its own.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Paint = Paint(false);
    const COLORED: Paint = Paint(true);

    fn found(person: &Person) -> Found {
        Found {
            raw_accepted: person.expected.raw_accepted,
            receipts: person.expected.receipts,
            toasts_shown: person.expected.toasts_shown,
            alerts_shown: 0,
            state: person.expected.states.first().copied(),
        }
    }

    fn line(who: &str, text: &str) -> Line {
        Line { at: Timestamp::from_millis(3_050), who: who.to_owned(), mark: Mark::Good, text: text.to_owned() }
    }

    fn facts() -> Vec<String> {
        let facts = Facts {
            program: Path::new("/opt/it's here/herald"),
            config: Path::new("/run/herald-demo-Ab12Cd/herald.toml"),
            control_url: "http://127.0.0.1:40001",
            http_url: "http://127.0.0.1:40002",
            unset: &["HERALD_AMQP_URL", "HERALD_DATABASE_URL"],
            after: Duration::from_secs(3),
        };
        commands(&facts, PLAIN)
    }

    #[test]
    fn no_line_is_wider_than_eighty_columns_and_none_has_a_color_unless_asked_for() {
        let all: Vec<(Person, Found)> = CAST.iter().map(|person| (*person, found(person))).collect();
        let wrong: Vec<(Person, Found)> = CAST.iter().map(|person| (*person, Found::default())).collect();
        let mut lines = intro(Duration::from_secs(20), PLAIN);
        lines.extend(table(&all, PLAIN));
        lines.extend(table(&wrong, PLAIN));
        lines.extend(timeline(&line("somebody-with-a-long-name", &"word ".repeat(30)), Timestamp::from_secs(0), PLAIN));
        lines.extend(facts());
        for line in lines {
            assert!(line.chars().count() <= WIDTH, "{line}");
            assert!(!line.contains('\x1b') && line.trim_end() == line, "{line:?}");
        }
    }

    #[test]
    fn a_line_has_its_time_since_the_start_and_goes_on_below_its_text() {
        let start = Timestamp::from_secs(1);
        let lines = timeline(&line("ben", &"word ".repeat(14)), start, PLAIN);
        assert_eq!(lines[0], format!("  2.05 s  ben    {}", "word ".repeat(12).trim_end()));
        assert_eq!(lines[1], format!("{}word word", " ".repeat(TEXT_AT)));
        let colored = timeline(&line("ben", "hello"), start, COLORED);
        assert_eq!(colored, ["\x1b[2m  2.05 s\x1b[0m  \x1b[1mben  \x1b[0m  \x1b[32mhello\x1b[0m"]);
    }

    #[test]
    fn the_table_says_good_only_if_all_is_good() {
        let all: Vec<(Person, Found)> = CAST.iter().map(|person| (*person, found(person))).collect();
        let good = table(&all, PLAIN);
        assert!(good.contains(&"Each person saw exactly what they should.".to_owned()));
        assert_eq!(good[3], "ben    1 toast    1 toast    toasted    saving power: the raw push had to wait");
        let mut one_wrong = all;
        one_wrong[1].1.toasts_shown = 0;
        let bad = table(&one_wrong, PLAIN);
        assert!(!bad.iter().any(|line| line.contains("exactly")));
        assert_eq!(bad[3], "ben    no toast   1 toast    toasted    not as expected");
    }

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        assert!(facts().contains(&r"  export PATH='/opt/it'\''s here':$PATH".to_owned()));
        assert!(facts().contains(&"  export HERALD_CONFIG=/run/herald-demo-Ab12Cd/herald.toml".to_owned()));
        assert!(facts().contains(&"  unset HERALD_AMQP_URL HERALD_DATABASE_URL".to_owned()));
    }
}
