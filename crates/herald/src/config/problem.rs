//! What is wrong with a configuration: where, what, and what to do. All of it at once.
//!
//! It never quotes a value that may be a secret.

use std::fmt;

use crate::failure::Failure;

/// One thing to put right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// File and path (`herald.toml: worker.budget`), or the environment variable.
    pub at: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.at, self.what, self.fix)
    }
}

/// The problems found so far; a step that finds one goes on, so that an operator sees all of them.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    /// Notes one more.
    pub(crate) fn add(&mut self, at: impl Into<String>, what: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Problem { at: at.into(), what: what.into(), fix: fix.into() });
    }

    /// `value` if there was no problem.
    ///
    /// # Errors
    /// All problems, one a line, as a [`Failure::Usage`].
    pub(crate) fn or<T>(self, value: Option<T>) -> Result<T, Failure> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(Failure::Usage(self.to_string())),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(Problem::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// The known name that differs in the fewest letters, and in `limit` at most.
pub(super) fn nearest<'a>(given: &str, known: &[&'a str], limit: usize) -> Option<&'a str> {
    let near = |name: &&'a str| (distance(given, name), *name);
    known.iter().map(near).filter(|(d, _)| *d <= limit).min().map(|(_, name)| name)
}

/// What to do about an unknown name: the nearest known one, or all of them.
pub(super) fn did_you_mean(given: &str, known: &[&str]) -> String {
    // A third of its letters: more is another word.
    match nearest(given, known, (given.chars().count() / 3).max(1)) {
        Some(name) => format!("did you mean {name}?"),
        None => format!("known here: {}", known.join(", ")),
    }
}

/// How many letters must be put in, left out or changed to make one of the other (Levenshtein), in any case.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.to_lowercase().chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_only_if_it_is_near() {
        let known = ["key_file", "key_id", "topic", "team_id"];
        let check = |given, expected| assert_eq!(nearest(given, &known, 2), expected, "{given}");
        check("keyfile", Some("key_file"));
        check("Key_File", Some("key_file"));
        check("topik", Some("topic"));
        check("kye_id", Some("key_id"));
        check("certificate", None);
        check("", None);
        assert_eq!(did_you_mean("xyz", &known), "known here: key_file, key_id, topic, team_id");
    }

    #[test]
    fn distance_is_symmetric_and_zero_only_for_equal_names() {
        for (a, b, expected) in [("", "", 0), ("abc", "abc", 0), ("abc", "acb", 2), ("abc", "", 3), ("a", "ab", 1)] {
            assert_eq!((distance(a, b), distance(b, a)), (expected, expected), "{a} {b}");
        }
    }
}
