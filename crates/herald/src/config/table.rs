//! Reads one table of the configuration by name, so that what was never asked for is known to be a mistake.
//!
//! Used by [`super::raw`] only. Types are checked here, meanings are not. Every problem is noted and reading goes on.

use std::cell::RefCell;
use std::path::PathBuf;

use figment::value::{Dict, Value};

use super::problem::{Problems, did_you_mean};
use super::source::Sources;

/// A value as it was written, and where.
#[derive(Debug, Clone)]
pub(super) struct Given<T> {
    pub(super) value: T,
    /// The place for messages.
    pub(super) at: String,
}

/// One table.
pub(super) struct Table<'a> {
    sources: &'a Sources,
    problems: &'a RefCell<Problems>,
    path: String,
    dict: Dict,
    known: Vec<&'static str>,
}

impl<'a> Table<'a> {
    /// The whole configuration.
    pub(super) fn root(sources: &'a Sources, dict: Dict, problems: &'a RefCell<Problems>) -> Self {
        Self { sources, problems, path: String::new(), dict, known: Vec::new() }
    }

    /// The place of `name` in this table, for messages about its absence.
    pub(super) fn place(&self, name: &str) -> String {
        self.sources.place(&self.join(name), None)
    }

    /// The place of this table.
    pub(super) fn own_place(&self) -> String {
        self.sources.place(&self.path, None)
    }

    /// A text. A number is taken as its digits: an id may consist of them.
    pub(super) fn text(&mut self, name: &'static str) -> Option<Given<String>> {
        let value = self.take(name)?;
        match (&value, value.to_i128()) {
            (Value::String(_, text), _) => self.given(name, &value, text.clone()),
            (_, Some(number)) => self.given(name, &value, number.to_string()),
            _ => self.wrong(name, &value, "a text in quotes"),
        }
    }

    /// The path of a file or folder. A number is taken as its digits, as in [`Table::text`].
    pub(super) fn file(&mut self, name: &'static str) -> Option<Given<PathBuf>> {
        let value = self.take(name)?;
        match (&value, value.to_i128()) {
            (Value::String(_, text), _) => self.given(name, &value, self.sources.resolve(text, &value)),
            (_, Some(number)) => self.given(name, &value, self.sources.resolve(&number.to_string(), &value)),
            _ => self.wrong(name, &value, "the path of a file in quotes"),
        }
    }

    /// A whole number.
    pub(super) fn number(&mut self, name: &'static str) -> Option<Given<i128>> {
        let value = self.take(name)?;
        match value.to_i128() {
            Some(number) => self.given(name, &value, number),
            None => self.wrong(name, &value, "a whole number without quotes"),
        }
    }

    /// A list of texts; one text alone is a list of one.
    pub(super) fn texts(&mut self, name: &'static str) -> Option<Given<Vec<String>>> {
        let value = self.take(name)?;
        let texts = match &value {
            Value::String(_, text) => Some(vec![text.clone()]),
            Value::Array(_, items) => items.iter().map(|i| i.as_str().map(str::to_owned)).collect(),
            _ => None,
        };
        match texts {
            Some(texts) => self.given(name, &value, texts),
            None => self.wrong(name, &value, "a list of texts: [\"…\", \"…\"]"),
        }
    }

    /// The table `name`, empty if there is none.
    pub(super) fn table(&mut self, name: &'static str) -> Self {
        self.optional_table(name).unwrap_or_else(|| self.child(name, Dict::new()))
    }

    /// The table `name`, if there is one.
    pub(super) fn optional_table(&mut self, name: &'static str) -> Option<Self> {
        let value = self.take(name)?;
        match value.into_dict() {
            Some(dict) => Some(self.child(name, dict)),
            None => {
                self.note(name, "is not a table", format!("write it as [{}]", self.join(name)));
                None
            }
        }
    }

    /// All tables in this one, by the names they were given.
    pub(super) fn tables(mut self) -> Vec<(String, Self)> {
        let mut tables = Vec::new();
        for (name, value) in std::mem::take(&mut self.dict) {
            match value.into_dict() {
                Some(dict) => tables.push((name.clone(), self.child(&name, dict))),
                None => self.note(&name, "is not a table", format!("write it as [{}]", self.join(&name))),
            }
        }
        tables
    }

    /// The list of tables `name`.
    pub(super) fn list(&mut self, name: &'static str) -> Vec<Self> {
        let Some(value) = self.take(name) else { return Vec::new() };
        let items: Option<Vec<Dict>> =
            value.into_array().and_then(|items| items.into_iter().map(Value::into_dict).collect());
        let Some(items) = items else {
            self.note(name, "is not a list of tables", format!("write each as [[{}]]", self.join(name)));
            return Vec::new();
        };
        let numbered = items.into_iter().enumerate();
        numbered.map(|(index, dict)| self.child(&format!("{name}[{index}]"), dict)).collect()
    }

    /// Notes every name that nobody asked for.
    pub(super) fn finish(self) {
        for name in self.dict.keys() {
            self.note(name, "unknown name", did_you_mean(name, &self.known));
        }
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.dict.remove(name)
    }

    fn given<T>(&self, name: &str, value: &Value, read: T) -> Option<Given<T>> {
        Some(Given { value: read, at: self.sources.place(&self.join(name), Some(value)) })
    }

    fn wrong<T>(&self, name: &str, value: &Value, expected: &str) -> Option<Given<T>> {
        let at = self.sources.place(&self.join(name), Some(value));
        self.problems.borrow_mut().add(at, "has the wrong type", format!("give {expected}"));
        None
    }

    fn note(&self, name: &str, what: &str, fix: String) {
        self.problems.borrow_mut().add(self.place(name), what, fix);
    }

    fn child(&self, name: &str, dict: Dict) -> Self {
        let (sources, problems) = (self.sources, self.problems);
        Self { sources, problems, path: self.join(name), dict, known: Vec::new() }
    }

    /// The path of `name`, quoted as TOML wants it.
    fn join(&self, name: &str) -> String {
        let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '[' | ']');
        let name = if name.chars().all(bare) { name.to_owned() } else { format!("{name:?}") };
        if self.path.is_empty() { name } else { format!("{}.{name}", self.path) }
    }
}
