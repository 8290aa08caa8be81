//! What the fuzz targets of `fuzz/` run, as plain functions of bytes: each input that comes from outside Herald, and what
//! must hold of it whatever the bytes are.
//!
//! Here and not in `fuzz/`, so that the test command replays the corpus with the ordinary toolchain (`tests/corpus.rs`). A
//! function here panics where something doesn't hold; it never touches a network.

mod answer;
mod capability;
mod request;

/// A target: the folder of its corpus in `fuzz/corpus`, and what it runs.
pub type Target = (&'static str, fn(&[u8]));

/// All targets, in the order of a notification's way.
pub const TARGETS: [Target; 5] = [
    ("configuration", configuration),
    ("headers", headers),
    ("request", request),
    ("answer", answer),
    ("capability", capability),
];

/// What no message for a person may repeat: it stands where content, tokens and passwords stand.
pub const SECRET: &str = "hunter2-s3cr3t";

/// A `herald.toml`, and after a line `---` lines of `NAME=value` for the environment: a configuration, or mistakes that
/// each name their place and the fix, and no password.
pub fn configuration(data: &[u8]) {
    herald::fuzzing::configuration(data, SECRET);
}

/// The properties and headers of a message from the broker or a file, in the notation of [`herald_queue::fuzzing`].
pub fn headers(data: &[u8]) {
    herald_queue::fuzzing::headers(data);
}

/// A request: lines of `name: value` for its properties, an empty line, the body. See [`request::check`].
pub fn request(data: &[u8]) {
    request::check(data);
}

/// A provider's answer: a line with status and `Retry-After`, the body. See [`answer::check`].
pub fn answer(data: &[u8]) {
    answer::check(data);
}

/// A receipt capability. See [`capability::check`].
pub fn capability(data: &[u8]) {
    capability::check(data);
}
