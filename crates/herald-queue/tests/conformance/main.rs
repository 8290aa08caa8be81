//! The conformance suite against a real RabbitMQ, and what is particular to RabbitMQ: its topology and its faults.

mod faults;
mod login;
mod topology;

use anyhow::Result;
use herald_harness::Broker;
use herald_queue::{Config, Queue, conformance};

/// A queue on this broker; the topology is not declared.
fn queue_at(url: impl Into<String>) -> Queue {
    Queue::open(Config::new(url)).expect("the harness gives valid URLs")
}

/// A fresh vhost with the topology.
async fn declared() -> Result<Broker> {
    let broker = herald_harness::broker().await?;
    queue_at(broker.url()).declare_topology().await?;
    Ok(broker)
}

macro_rules! conforms {
    ($($case:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() -> Result<()> {
                let broker = declared().await?;
                conformance::$case(async || queue_at(broker.url())).await;
                Ok(())
            }
        )*
    };
}

conforms! {
    a_message_comes_out_as_it_went_in_and_is_gone_once_acked,
    the_prefetch_bounds_what_is_unsettled,
    a_batch_fits_the_room_and_a_dropped_next_loses_nothing,
    acks_out_of_order_settle_exactly_their_messages,
    what_is_given_back_is_delivered_again,
    a_stopped_consumer_returns_what_it_did_not_hand_out,
    a_parked_message_keeps_its_body_and_says_why,
    a_suspect_message_knows_where_it_came_from,
    hints_arrive_on_their_dispatch_queue,
}
