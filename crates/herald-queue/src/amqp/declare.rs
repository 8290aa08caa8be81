//! Declares the topology, and checks it without changing anything.
//!
//! Each call uses a connection of its own, for seconds. A check needs no configure permission: a passive declaration is
//! allowed with any one permission. What it can't see, the arguments, is compared by declaring again on a throwaway channel:
//! with equal arguments that changes nothing, with others the broker answers 406 and names the argument, and without
//! permission 403, which is taken as "can't tell".

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};
use tokio::time::timeout;

use super::connection::{CONNECT_LIMIT, Link};
use super::supervisor::Shared;
use super::{STEP_LIMIT, say};
use crate::topology::{Argument, Exchange, QueueSpec, queues};

/// What [`Queue::declare_topology`](crate::Queue::declare_topology) did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    /// Names of the exchanges and queues that were not there before.
    pub created: Vec<&'static str>,
    /// Names of those that were there already, with the same arguments.
    pub existed: Vec<&'static str>,
}

/// Why the topology is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    /// No broker could be asked.
    #[error("no broker can be reached: {0}")]
    Unreachable(String),
    /// The login may not do this.
    #[error(
        "the broker refuses to declare {name}: {problem}; run `herald topology` with a login that has configure permission on ^herald\\."
    )]
    Forbidden {
        /// Which exchange or queue.
        name: &'static str,
        /// What the broker says.
        problem: String,
    },
    /// What is there is not what this version of Herald needs.
    #[error("the broker's topology differs: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Differs(Vec<Difference>),
}

/// One exchange or queue that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// It is not there.
    #[error("{name} is missing, declare it with `herald topology`")]
    Missing {
        /// Which exchange or queue.
        name: &'static str,
    },
    /// It is there with another type or other arguments.
    #[error("{name} was declared otherwise ({problem}); empty it, delete it and run `herald topology`")]
    Otherwise {
        /// Which exchange or queue.
        name: &'static str,
        /// What the broker says, which names the argument.
        problem: String,
    },
}

/// An exchange or a queue.
enum Thing<'a> {
    Exchange(Exchange),
    Queue(&'a QueueSpec),
}

/// The broker's answer to a declaration.
enum Answer {
    Done,
    Missing,
    Otherwise(String),
    Forbidden(String),
}

pub(crate) async fn declare(shared: &Shared) -> Result<Declared, TopologyError> {
    let link = reach(shared).await?;
    let done = declare_on(&link).await;
    link.close().await;
    done
}

pub(crate) async fn verify(shared: &Shared) -> Result<(), TopologyError> {
    let link = reach(shared).await?;
    let done = verify_on(&link).await;
    link.close().await;
    done
}

async fn reach(shared: &Shared) -> Result<Link, TopologyError> {
    let mut problems = vec![];
    for address in &shared.addresses {
        match Link::connect(address, &shared.config, "topology", CONNECT_LIMIT).await {
            Ok(link) => return Ok(link),
            Err(error) => problems.push(error.to_string()),
        }
    }
    Err(TopologyError::Unreachable(problems.join("; ")))
}

async fn declare_on(link: &Link) -> Result<Declared, TopologyError> {
    let specs = queues();
    let mut declared = Declared::default();
    let mut differences = vec![];
    for thing in things(&specs) {
        let name = thing.name();
        let existed = matches!(ask(link, &thing, true).await?, Answer::Done);
        match ask(link, &thing, false).await? {
            Answer::Done if existed => declared.existed.push(name),
            Answer::Done => declared.created.push(name),
            Answer::Missing => differences.push(Difference::Missing { name }),
            Answer::Otherwise(problem) => differences.push(Difference::Otherwise { name, problem }),
            Answer::Forbidden(problem) => return Err(TopologyError::Forbidden { name, problem }),
        }
    }
    if !differences.is_empty() {
        return Err(TopologyError::Differs(differences));
    }
    bind(link, &specs).await?;
    Ok(declared)
}

async fn bind(link: &Link, specs: &[QueueSpec]) -> Result<(), TopologyError> {
    for spec in specs {
        for (exchange, key) in &spec.bindings {
            let bound = on_channel(link, async |channel| {
                let options = QueueBindOptions::default();
                channel
                    .queue_bind(spec.name.into(), exchange.name().into(), (*key).into(), options, FieldTable::default())
                    .await
            });
            match bound.await? {
                Answer::Done => {}
                Answer::Missing => return Err(TopologyError::Differs(vec![Difference::Missing { name: spec.name }])),
                Answer::Otherwise(problem) | Answer::Forbidden(problem) => {
                    return Err(TopologyError::Forbidden { name: spec.name, problem });
                }
            }
        }
    }
    Ok(())
}

async fn verify_on(link: &Link) -> Result<(), TopologyError> {
    let specs = queues();
    let mut differences = vec![];
    for thing in things(&specs) {
        let name = thing.name();
        match ask(link, &thing, true).await? {
            Answer::Missing => differences.push(Difference::Missing { name }),
            Answer::Otherwise(problem) => differences.push(Difference::Otherwise { name, problem }),
            Answer::Forbidden(problem) => return Err(TopologyError::Forbidden { name, problem }),
            Answer::Done => {
                if let Answer::Otherwise(problem) = ask(link, &thing, false).await? {
                    differences.push(Difference::Otherwise { name, problem });
                }
            }
        }
    }
    if differences.is_empty() { Ok(()) } else { Err(TopologyError::Differs(differences)) }
}

fn things(specs: &[QueueSpec]) -> impl Iterator<Item = Thing<'_>> {
    Exchange::ALL.into_iter().map(Thing::Exchange).chain(specs.iter().map(Thing::Queue))
}

impl Thing<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Exchange(exchange) => exchange.name(),
            Self::Queue(spec) => spec.name,
        }
    }

    async fn declare_on(&self, channel: &Channel, passive: bool) -> Result<(), lapin::Error> {
        match self {
            Self::Exchange(exchange) => {
                let options = ExchangeDeclareOptions { passive, durable: true, ..Default::default() };
                let kind = ExchangeKind::Custom(exchange.kind().to_owned());
                channel.exchange_declare(exchange.name().into(), kind, options, table(&exchange.arguments())).await
            }
            Self::Queue(spec) => {
                let options = QueueDeclareOptions { passive, durable: true, ..Default::default() };
                channel.queue_declare(spec.name.into(), options, table(&spec.arguments)).await.map(|_| ())
            }
        }
    }
}

async fn ask(link: &Link, thing: &Thing<'_>, passive: bool) -> Result<Answer, TopologyError> {
    on_channel(link, async |channel| thing.declare_on(channel, passive).await).await
}

/// Does something on a channel of its own: an answer other than "done" closes it.
async fn on_channel(
    link: &Link,
    what: impl AsyncFnOnce(&Channel) -> Result<(), lapin::Error>,
) -> Result<Answer, TopologyError> {
    let asked = timeout(STEP_LIMIT, async {
        let channel = link.connection.create_channel().await?;
        what(&channel).await?;
        channel.close(200, "OK".into()).await
    });
    match asked.await {
        Ok(Ok(())) => Ok(Answer::Done),
        Ok(Err(error)) => answer(&error),
        Err(_) => Err(TopologyError::Unreachable(format!("no answer within {STEP_LIMIT:?}"))),
    }
}

fn answer(error: &lapin::Error) -> Result<Answer, TopologyError> {
    let unreachable = || TopologyError::Unreachable(say(error));
    let lapin::ErrorKind::ProtocolError(protocol) = error.kind() else {
        return Err(unreachable());
    };
    match protocol.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => Ok(Answer::Missing),
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => Ok(Answer::Otherwise(say(error))),
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => Ok(Answer::Forbidden(say(error))),
        _ => Err(unreachable()),
    }
}

fn table(arguments: &[(&'static str, Argument)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        let value = match value {
            Argument::Text(text) => AMQPValue::LongString((*text).into()),
            Argument::Number(number) => AMQPValue::LongLongInt(i64::from(*number)),
        };
        table.insert((*name).into(), value);
    }
    table
}
