//! The environment variables by which a test run is given servers instead of starting its own.
//!
//! Read by `shared` and by the `herald-harness` command, which also sets them for the command it runs.

/// An AMQP URL with a user that may administer the broker, such as `amqp://guest:guest@127.0.0.1:5672`.
pub const AMQP_URL: &str = "HERALD_TEST_AMQP_URL";
/// The management API of the same broker with a user, such as `http://guest:guest@127.0.0.1:15672`; by default the
/// user and host of [`AMQP_URL`] at port 15672.
pub const RABBITMQ_API: &str = "HERALD_TEST_RABBITMQ_API";
/// A PostgreSQL URL whose user may create databases, such as `postgres://postgres@127.0.0.1:5432/postgres`.
pub const DATABASE_URL: &str = "HERALD_TEST_DATABASE_URL";
/// A folder for the logs of private servers and of processes under test; without it they are in temporary folders
/// that go away with the test.
pub const LOGS: &str = "HERALD_TEST_LOGS";

/// The value of a variable; an empty one counts as absent, as in `VAR= ./test`.
pub(crate) fn get(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
