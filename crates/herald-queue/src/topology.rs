//! The exchanges and queues of docs/protocol.md, as data. Everything that names one reads it here.
//!
//! `herald topology` declares them ([`Queue::declare_topology`](crate::Queue::declare_topology)), workers and gateways check
//! them passively when they start ([`Queue::verify_topology`](crate::Queue::verify_topology)), operators import them
//! ([`definitions`]). It never talks to a broker.
//!
//! Safety is in arguments, not in policies, because a missing policy silently turns dead-lettering off. What an operator
//! tunes (`max-length-bytes`, leader placement) belongs in a policy, so that a change needs no redeclaration.

use std::sync::LazyLock;

use herald_core::lane::{DispatchQueue, Lane};
use serde_json::{Value, json};

use crate::source::Source;

/// How often a work queue's message may be delivered again before it is moved to `herald.suspect`. High, because losing a
/// connection counts as a delivery and is no evidence of poison.
pub const WORK_DELIVERY_LIMIT: u32 = 20;

/// How often a suspect message may be delivered again before it is parked.
pub const SUSPECT_DELIVERY_LIMIT: u32 = 3;

/// Routing key on [`Exchange::Dead`] that leads to `herald.suspect`.
pub const SUSPECT_KEY: &str = "suspect";

/// As good as none: dead letters wait until the store takes them.
pub const PARKED_DELIVERY_LIMIT: u32 = 1_000_000_000;

/// Routing key on [`Exchange::Dead`] that leads to `herald.parked`.
pub const PARKED_KEY: &str = "parked";

/// Routing key on [`Exchange::Receipts`].
pub const RECEIPT_KEY: &str = "receipt";

/// The queue where what no binding wants ends up: a producer's typing error is found here, not lost.
pub const UNROUTED_QUEUE: &str = "herald.unrouted";

/// An exchange that Herald declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exchange {
    /// `herald.requests` (direct): producers publish here, the lane is the routing key.
    Requests,
    /// `herald.dispatch` (direct): hints, the dispatch queue is the routing key.
    Dispatch,
    /// `herald.receipts` (direct): receipts of upstream services, key `receipt`.
    Receipts,
    /// `herald.dead` (direct): work that could not be done.
    Dead,
    /// `herald.events` (topic): outcomes back to producers, key `<event>.<app>`.
    Events,
    /// `herald.unrouted` (fanout): alternate exchange of all direct exchanges.
    Unrouted,
}

impl Exchange {
    /// All exchanges; an alternate exchange comes before those that name it.
    pub const ALL: [Self; 6] =
        [Self::Unrouted, Self::Dead, Self::Requests, Self::Dispatch, Self::Receipts, Self::Events];

    /// Its name on the broker.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "herald.requests",
            Self::Dispatch => "herald.dispatch",
            Self::Receipts => "herald.receipts",
            Self::Dead => "herald.dead",
            Self::Events => "herald.events",
            Self::Unrouted => "herald.unrouted",
        }
    }

    /// Its AMQP type.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Requests | Self::Dispatch | Self::Receipts | Self::Dead => "direct",
            Self::Events => "topic",
            Self::Unrouted => "fanout",
        }
    }

    /// Its arguments.
    pub fn arguments(self) -> Vec<(&'static str, Argument)> {
        match self {
            Self::Requests | Self::Dispatch | Self::Receipts | Self::Dead => {
                vec![("alternate-exchange", Argument::Text(Self::Unrouted.name()))]
            }
            // Events without a subscriber are meant to vanish.
            Self::Events | Self::Unrouted => vec![],
        }
    }
}

/// The value of an argument of a queue or exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    /// A string.
    Text(&'static str),
    /// An integer.
    Number(u32),
}

impl Argument {
    fn json(self) -> Value {
        match self {
            Self::Text(text) => json!(text),
            Self::Number(number) => json!(number),
        }
    }
}

/// A queue that Herald declares: durable, of type quorum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSpec {
    /// Its name on the broker.
    pub name: &'static str,
    /// Its arguments, `x-queue-type` included.
    pub arguments: Vec<(&'static str, Argument)>,
    /// Which exchanges lead to it, by which routing keys.
    pub bindings: Vec<(Exchange, &'static str)>,
}

/// All queues, in the order in which they are declared.
pub fn queues() -> Vec<QueueSpec> {
    let mut specs: Vec<QueueSpec> = Source::ALL.into_iter().map(spec).collect();
    specs.push(QueueSpec {
        name: UNROUTED_QUEUE,
        arguments: vec![("x-queue-type", Argument::Text("quorum"))],
        bindings: vec![(Exchange::Unrouted, "")],
    });
    specs
}

fn spec(source: Source) -> QueueSpec {
    let name = source.queue();
    let (arguments, bindings) = match source {
        Source::Requests(lane) => (work(name), vec![(Exchange::Requests, lane_key(lane))]),
        Source::Dispatch(queue) => (work(name), vec![(Exchange::Dispatch, dispatch_key(queue))]),
        Source::Receipts => (work(name), vec![(Exchange::Receipts, RECEIPT_KEY)]),
        Source::Suspect => (suspect(), suspect_bindings()),
        // No dead letter is dropped for being looked at often: without a limit, RabbitMQ 4 would set one of 20.
        Source::Parked => (
            vec![
                ("x-queue-type", Argument::Text("quorum")),
                ("x-delivery-limit", Argument::Number(PARKED_DELIVERY_LIMIT)),
            ],
            vec![(Exchange::Dead, PARKED_KEY)],
        ),
    };
    QueueSpec { name, arguments, bindings }
}

/// The routing key of a lane on [`Exchange::Requests`].
pub const fn lane_key(lane: Lane) -> &'static str {
    lane.as_str()
}

/// The routing key of a dispatch queue on [`Exchange::Dispatch`].
pub const fn dispatch_key(queue: DispatchQueue) -> &'static str {
    queue.as_str()
}

/// Whether messages of this source are dead-lettered to `herald.suspect`.
const fn is_work(source: Source) -> bool {
    matches!(source, Source::Requests(_) | Source::Dispatch(_) | Source::Receipts)
}

/// A full queue refuses what is published to it (the publisher's confirm is a nack), so nothing is dropped at its head;
/// what can't be done leaves it at least once, by its own name, for `herald.suspect`.
fn work(name: &'static str) -> Vec<(&'static str, Argument)> {
    dead_lettered(name, WORK_DELIVERY_LIMIT)
}

fn suspect() -> Vec<(&'static str, Argument)> {
    dead_lettered(PARKED_KEY, SUSPECT_DELIVERY_LIMIT)
}

fn dead_lettered(key: &'static str, limit: u32) -> Vec<(&'static str, Argument)> {
    vec![
        ("x-queue-type", Argument::Text("quorum")),
        ("x-dead-letter-exchange", Argument::Text(Exchange::Dead.name())),
        ("x-dead-letter-routing-key", Argument::Text(key)),
        ("x-dead-letter-strategy", Argument::Text("at-least-once")),
        ("x-overflow", Argument::Text("reject-publish")),
        ("x-delivery-limit", Argument::Number(limit)),
    ]
}

fn suspect_bindings() -> Vec<(Exchange, &'static str)> {
    let work = Source::ALL.into_iter().filter(|source| is_work(*source)).map(Source::queue);
    work.chain([SUSPECT_KEY]).map(|key| (Exchange::Dead, key)).collect()
}

/// The queues that a message published so goes to, by the same data; none if nobody wants it and no alternate exchange takes
/// it. For a backend that has to route by itself; nothing here is bound to a topic exchange.
pub(crate) fn route(exchange: Exchange, key: &str) -> Vec<&'static str> {
    static SPECS: LazyLock<Vec<QueueSpec>> = LazyLock::new(queues);
    let wants = |(to, bound): &(Exchange, &str)| *to == exchange && (exchange.kind() == "fanout" || *bound == key);
    let wanting: Vec<&'static str> =
        SPECS.iter().filter(|spec| spec.bindings.iter().any(wants)).map(|spec| spec.name).collect();
    let kept =
        |argument: &(&str, Argument)| *argument == ("alternate-exchange", Argument::Text(Exchange::Unrouted.name()));
    if wanting.is_empty() && exchange.arguments().iter().any(kept) { vec![UNROUTED_QUEUE] } else { wanting }
}

/// How often a message of this source may be delivered again, and the queue it is moved to beyond that; `None` where it stays.
pub(crate) fn delivery_limit(source: Source) -> Option<(u32, &'static str)> {
    match source {
        Source::Requests(_) | Source::Dispatch(_) | Source::Receipts => {
            Some((WORK_DELIVERY_LIMIT, Source::Suspect.queue()))
        }
        Source::Suspect => Some((SUSPECT_DELIVERY_LIMIT, Source::Parked.queue())),
        Source::Parked => None,
    }
}

/// The same as RabbitMQ definitions, for `rabbitmqctl import_definitions` and `load_definitions`; users are left out,
/// because passwords don't belong into a file.
pub fn definitions(vhost: &str) -> Value {
    let arguments = |list: &[(&'static str, Argument)]| -> Value {
        list.iter().map(|(name, value)| ((*name).to_owned(), value.json())).collect::<serde_json::Map<_, _>>().into()
    };
    let exchanges: Vec<Value> = Exchange::ALL
        .into_iter()
        .map(|exchange| {
            json!({"name": exchange.name(), "vhost": vhost, "type": exchange.kind(), "durable": true,
                   "auto_delete": false, "internal": false, "arguments": arguments(&exchange.arguments())})
        })
        .collect();
    let specs = queues();
    let queues: Vec<Value> = specs
        .iter()
        .map(|spec| {
            json!({"name": spec.name, "vhost": vhost, "durable": true, "auto_delete": false,
                   "arguments": arguments(&spec.arguments)})
        })
        .collect();
    let bindings: Vec<Value> = specs
        .iter()
        .flat_map(|spec| spec.bindings.iter().map(|(exchange, key)| (spec.name, *exchange, *key)))
        .map(|(queue, exchange, key)| {
            json!({"source": exchange.name(), "vhost": vhost, "destination": queue, "destination_type": "queue",
                   "routing_key": key, "arguments": {}})
        })
        .collect();
    json!({"vhosts": [{"name": vhost}], "exchanges": exchanges, "queues": queues, "bindings": bindings})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments_of(source: Source) -> Vec<(&'static str, Argument)> {
        queues().into_iter().find(|spec| spec.name == source.queue()).unwrap().arguments
    }

    #[test]
    fn work_that_can_not_be_done_always_has_somewhere_to_go() {
        let specs = queues();
        let routed =
            |key: &str| specs.iter().any(|spec| spec.bindings.iter().any(|b| b.0 == Exchange::Dead && b.1 == key));
        for spec in &specs {
            for (name, value) in &spec.arguments {
                if let ("x-dead-letter-routing-key", Argument::Text(key)) = (*name, *value) {
                    assert!(routed(key), "{}: nothing is bound to {key}", spec.name);
                }
            }
        }
    }

    #[test]
    fn every_work_queue_refuses_overflow_and_dead_letters_at_least_once() {
        for source in Source::ALL.into_iter().filter(|source| is_work(*source)) {
            assert_eq!(arguments_of(source), work(source.queue()), "{source}");
        }
    }

    #[test]
    fn suspect_leads_to_parked_and_parked_leads_nowhere() {
        assert!(arguments_of(Source::Suspect).contains(&("x-dead-letter-routing-key", Argument::Text("parked"))));
        assert!(!arguments_of(Source::Parked).iter().any(|(name, _)| name.starts_with("x-dead-letter")));
    }

    #[test]
    fn every_queue_says_how_often_it_delivers_or_rabbitmq_4_would() {
        for source in Source::ALL {
            assert!(arguments_of(source).iter().any(|(name, _)| *name == "x-delivery-limit"), "{source}");
        }
    }

    #[test]
    fn a_message_goes_where_the_broker_would_route_it() {
        let check = |exchange, key: &str, expected: &[&str]| assert_eq!(route(exchange, key), expected, "{key}");
        for lane in Lane::ALL {
            check(Exchange::Requests, lane_key(lane), &[Source::Requests(lane).queue()]);
        }
        for queue in DispatchQueue::ALL {
            check(Exchange::Dispatch, dispatch_key(queue), &[Source::Dispatch(queue).queue()]);
        }
        check(Exchange::Receipts, RECEIPT_KEY, &["herald.receipts"]);
        check(Exchange::Dead, SUSPECT_KEY, &["herald.suspect"]);
        check(Exchange::Dead, "herald.requests.low", &["herald.suspect"]);
        check(Exchange::Dead, PARKED_KEY, &["herald.parked"]);
        check(Exchange::Requests, "hihg", &[UNROUTED_QUEUE]);
        check(Exchange::Unrouted, "anything", &[UNROUTED_QUEUE]);
        check(Exchange::Events, "received.mail", &[]);
    }

    #[test]
    fn a_limit_leads_where_the_queues_arguments_say() {
        for source in Source::ALL {
            let arguments = arguments_of(source);
            let key = arguments.iter().find(|(name, _)| *name == "x-dead-letter-routing-key");
            let Some((limit, queue)) = delivery_limit(source) else {
                assert_eq!(key, None, "{source}");
                continue;
            };
            assert!(arguments.contains(&("x-delivery-limit", Argument::Number(limit))), "{source}");
            let Some((_, Argument::Text(key))) = key else { panic!("{source}: a limit without a dead letter") };
            assert_eq!(route(Exchange::Dead, key), [queue], "{source}");
        }
    }

    #[test]
    fn definitions_hold_every_exchange_queue_and_binding() {
        let all = definitions("herald");
        assert_eq!(all["exchanges"].as_array().unwrap().len(), Exchange::ALL.len());
        assert_eq!(all["queues"].as_array().unwrap().len(), 11);
        assert_eq!(all["bindings"].as_array().unwrap().len(), 3 + 4 + 1 + (3 + 4 + 1) + 1 + 1 + 1);
        assert!(all.get("users").is_none());
    }
}
