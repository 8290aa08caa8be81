//! `herald check token`: why a token is taken or refused, by the very code that decides when somebody posts with it.
//!
//! Beside the way: for the operator whose service gets a 401 or 403. Decides nothing; see `herald_gateway::identity`. The
//! time is this machine's, since no store is asked. It never prints the token.

use std::io::Read as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use herald_core::time::Timestamp;
use herald_gateway::identity::{Caller, Explanation, Step};
use serde_json::{Value, json};

use crate::cli::{CheckCommand, CheckTokenArgs};
use crate::config::{Config, gateway};
use crate::failure::Failure;
use crate::out;

/// What is read of a file, in bytes: more is no token.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Checks, and says what was found.
///
/// # Errors
/// [`Failure::Usage`] if no issuer is configured or the token can't be read; a report with the reason and the fix if the token
/// is refused.
pub(crate) async fn run(config: &Config, command: &CheckCommand) -> anyhow::Result<()> {
    let CheckCommand::Token(args) = command;
    let Some(identity) = gateway::identity(config)? else {
        let what = "no issuer of tokens is configured; describe one as [[gateway.issuers]] or [gateway.token_issuer]";
        return Err(Failure::Usage(what.to_owned()).into());
    };
    let text = read(&args.file)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock of this machine is before 1970")?;
    let now = Timestamp::from_secs(0).plus(now);
    tell(&identity.explain(bare(&text), now).await, args)
}

fn read(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(MAX_FILE_BYTES).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(MAX_FILE_BYTES).read_to_string(&mut text))
    };
    read.map_err(|error| Failure::Usage(format!("{}: {error}; give a text file with the token", file.display())))?;
    Ok(text)
}

/// The token as it stands behind `Bearer`, whether that was copied too or not.
fn bare(text: &str) -> &str {
    let text = text.trim();
    let (scheme, token) = text.split_once(' ').unwrap_or(("", text));
    if scheme.eq_ignore_ascii_case("bearer") { token.trim() } else { text }
}

fn tell(explained: &Explanation, args: &CheckTokenArgs) -> anyhow::Result<()> {
    if args.json {
        out::json(&as_json(explained))?;
    } else {
        out::table(["LOOKED AT", "", "FOUND", "EXPECTED"], &explained.steps.iter().map(row).collect::<Vec<_>>())?;
    }
    match (&explained.decided, &explained.fix) {
        (Ok(caller), None) => {
            if !args.json {
                out::line(format!("taken: {}", who(caller)))?;
            }
            Ok(())
        }
        _ => Err(anyhow::anyhow!("refused: {}; {}", reason(explained), explained.fix.as_deref().unwrap_or_default())),
    }
}

fn row(step: &Step) -> [String; 4] {
    let good = if step.good { "ok" } else { "NO" };
    [step.what.to_owned(), good.to_owned(), step.found.clone(), step.expected.clone()]
}

fn as_json(explained: &Explanation) -> Value {
    let steps = explained.steps.iter().map(
        |step| json!({ "lookedAt": step.what, "good": step.good, "found": step.found, "expected": step.expected }),
    );
    let refused = explained.fix.is_some();
    json!({
        "steps": steps.collect::<Vec<_>>(),
        "taken": !refused,
        "caller": explained.decided.as_ref().ok().map(who),
        "refused": refused.then(|| reason(explained)),
        "fix": explained.fix,
    })
}

fn who(caller: &Caller) -> String {
    match caller {
        Caller::App(app) => format!("the app {app}"),
        Caller::User { app, user, .. } => format!("user {:?} of the app {app}", user.as_str()),
    }
}

fn reason(explained: &Explanation) -> String {
    match &explained.decided {
        Ok(_) => "the token has no scope that lets it reach notifications".to_owned(),
        Err(refused) => refused.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_with_or_without_the_word_before_it() {
        for text in ["a.b.c", " a.b.c\n", "Bearer a.b.c", "bearer   a.b.c \n"] {
            assert_eq!(bare(text), "a.b.c", "{text:?}");
        }
        assert_eq!(bare("two words"), "two words");
        assert_eq!(bare(""), "");
    }
}
