//! The configuration, reached by its fuzz target (`tests/fuzzed`); nothing else uses this.

use std::collections::BTreeMap;

use crate::config::{Config, Input, Needs};

/// Reads `data`, a `herald.toml` and after a line `---` lines of `NAME=value`, as each command would that reads no other
/// file. `secret` is the password in the URLs of broker and store unless the input sets those.
///
/// # Panics
/// If a configuration is neither right nor wrong in a way that helps: each mistake names a place and a fix, and none
/// repeats `secret`.
pub fn configuration(data: &[u8], secret: &str) {
    let text = String::from_utf8_lossy(data);
    let (toml, variables) = text.split_once("\n---\n").unwrap_or((&text, ""));
    let file = tempfile::NamedTempFile::new().expect("the temporary folder can be written");
    // A password belongs in a URL; a path or a name with one in it is shown as what it is.
    let toml: Vec<String> = toml
        .lines()
        .map(|line| if line.starts_with("url") { line.to_owned() } else { line.replace(secret, "") })
        .collect();
    std::fs::write(file.path(), toml.join("\n")).expect("the temporary folder can be written");
    let mut env = BTreeMap::from([
        ("HERALD_AMQP_URL".to_owned(), format!("amqp://herald:{secret}@localhost/")),
        ("HERALD_DATABASE_URL".to_owned(), format!("postgres://herald:{secret}@localhost/herald")),
    ]);
    for (name, value) in variables.lines().filter_map(|line| line.split_once('=')) {
        let value = if name.ends_with("_URL") { value.replace("SECRET", secret) } else { value.to_owned() };
        env.insert(name.to_owned(), value);
    }
    let input = Input { file: Some(file.path().to_owned()), env };
    for needs in [Needs::Servers, Needs::Connections] {
        let Err(failure) = Config::load(&input, needs) else { continue };
        let problems = failure.to_string();
        assert!(!problems.is_empty(), "refused without a word");
        assert!(!problems.contains(secret), "a password is repeated");
        for problem in problems.lines() {
            let (place, _) = problem.split_once(": ").unwrap_or_default();
            assert!(!place.is_empty() && problem.contains("; "), "{problem:?} names no place or no fix");
        }
    }
}
