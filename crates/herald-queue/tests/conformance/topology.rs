//! The topology on a real RabbitMQ: declared once, checked without permission to change anything.

use anyhow::Result;
use herald_core::lane::{DispatchQueue, Lane};
use herald_harness::{Permissions, amqp};
use herald_queue::{Exchange, Outgoing, PublishError, Source, TopologyError, conformance, topology};
use lapin::options::{QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};

use crate::{declared, queue_at};

#[tokio::test]
async fn declaring_twice_creates_everything_once() -> Result<()> {
    let broker = herald_harness::broker().await?;
    let queue = queue_at(broker.url());
    let all = topology::queues().len() + Exchange::ALL.len();

    let first = queue.declare_topology().await?;
    assert_eq!((first.created.len(), first.existed.len()), (all, 0));
    queue.verify_topology().await?;

    let second = queue.declare_topology().await?;
    assert_eq!((second.created.len(), second.existed.len()), (0, all));
    Ok(())
}

#[tokio::test]
async fn a_missing_topology_is_explained_with_its_fix() -> Result<()> {
    let broker = herald_harness::broker().await?;
    let queue = queue_at(broker.url());

    let Err(TopologyError::Differs(differences)) = queue.verify_topology().await else {
        panic!("an empty vhost passed for a topology")
    };
    assert_eq!(differences.len(), topology::queues().len() + Exchange::ALL.len());
    assert_eq!(differences[0].to_string(), "herald.unrouted is missing, declare it with `herald topology`");

    let source = Source::Dispatch(DispatchQueue::High);
    assert_eq!(queue.depth(source).await, Err(PublishError::Missing { queue: "herald.dispatch.high" }));
    queue.close().await;
    Ok(())
}

#[tokio::test]
async fn a_queue_with_another_argument_is_named_and_left_alone() -> Result<()> {
    let broker = declared().await?;
    let client = amqp::connect(&broker.url()).await?;
    client.channel().queue_delete("herald.requests.low".into(), QueueDeleteOptions::default()).await?;
    client.declare_quorum("herald.requests.low").await?;
    let queue = queue_at(broker.url());

    for problem in [queue.verify_topology().await.unwrap_err(), queue.declare_topology().await.unwrap_err()] {
        let text = problem.to_string();
        assert!(text.contains("herald.requests.low was declared otherwise"), "{text}");
        assert!(text.contains("inequivalent arg 'x-"), "the argument is not named: {text}");
    }
    assert_eq!(client.ready("herald.requests.low").await?, 0, "it is still there");
    Ok(())
}

#[tokio::test]
async fn a_worker_without_configure_permission_can_check_and_work_and_not_declare() -> Result<()> {
    let mut broker = declared().await?;
    let permissions = Permissions::new("^$", r"^herald\.(requests|dispatch|dead|events)$", r"^herald\.");
    let queue = queue_at(broker.add_user("worker", &permissions).await?);

    queue.verify_topology().await?;
    let problem = queue.declare_topology().await.unwrap_err().to_string();
    assert!(problem.contains("configure permission"), "{problem}");
    conformance::a_parked_message_keeps_its_body_and_says_why(async || queue.clone()).await;
    Ok(())
}

#[tokio::test]
async fn what_no_binding_wants_is_kept_in_unrouted() -> Result<()> {
    let broker = declared().await?;
    let queue = queue_at(broker.url());

    queue.publisher().publish(Outgoing::json(Exchange::Requests, "hihg", "{}")).await?;

    let client = amqp::connect(&broker.url()).await?;
    let got = client.get(topology::UNROUTED_QUEUE).await?.expect("the message was kept");
    assert_eq!((got.routing_key.as_str(), got.body.as_slice()), ("hihg", &b"{}"[..]));
    queue.close().await;
    Ok(())
}

#[tokio::test]
async fn a_full_queue_refuses_and_the_publisher_says_so() -> Result<()> {
    let broker = declared().await?;
    let client = amqp::connect(&broker.url()).await?;
    let mut arguments = FieldTable::default();
    for (name, value) in [("x-queue-type", "quorum"), ("x-overflow", "reject-publish")] {
        arguments.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(3));
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    let channel = client.channel();
    channel.queue_declare("small".into(), options, arguments).await?;
    channel
        .queue_bind(
            "small".into(),
            "herald.events".into(),
            "#".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await?;

    let queue = queue_at(broker.url());
    let publisher = queue.publisher();
    // A quorum queue looks at its limit now and then only, so it takes a few more than it should.
    let mut confirmed = 0;
    let refusal = loop {
        match publisher.publish(Outgoing::json(Exchange::Events, "received.mail", "{}")).await {
            Ok(()) => confirmed += 1,
            Err(error) => break error,
        }
        assert!(confirmed < 100, "a queue for 3 messages took 100");
    };

    assert_eq!((refusal, queue.counters().refused), (PublishError::Refused, 1));
    assert_eq!(client.purge("small").await?, confirmed, "confirmed means in the queue, refused means not");
    queue.close().await;
    Ok(())
}

#[tokio::test]
async fn a_parked_message_carries_no_header_of_the_broker() -> Result<()> {
    let broker = declared().await?;
    let client = amqp::connect(&broker.url()).await?;
    let mut headers = FieldTable::default();
    for name in ["x-death", "x-first-death-queue", "x-delivery-count", "traceparent"] {
        headers.insert(name.into(), AMQPValue::LongString("forged".into()));
    }
    let properties = amqp::properties("bad").with_headers(headers);
    client.publish("herald.requests", "normal", properties, b"body \xff").await?;

    let queue = queue_at(broker.url());
    let mut consumer = queue.consume(Source::Requests(Lane::Normal), 1);
    let taken = conformance::take(&mut consumer, 1).await;
    let reason = herald_queue::ParkReason {
        code: "notUtf8".to_owned(),
        field: String::new(),
        problem: "the body is not UTF-8".to_owned(),
        fix: "encode it".to_owned(),
    };
    queue.publisher().park(&taken[0], &reason).await?;
    assert_eq!(queue.ack(taken).await, 1);

    let got = client.get("herald.parked").await?.expect("it was parked");
    assert_eq!(got.body, b"body \xff");
    let headers = got.properties.headers().clone().unwrap_or_default();
    // The broker's own count, which 3.10 writes on each delivery, is a number.
    let carried = headers.inner().iter().filter(|(_, value)| matches!(value, AMQPValue::LongString(_)));
    let names: Vec<&str> = carried.map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "traceparent",
            "x-herald-error-code",
            "x-herald-error-field",
            "x-herald-error-fix",
            "x-herald-error-problem",
            "x-herald-source-queue"
        ]
    );
    queue.close().await;
    Ok(())
}
