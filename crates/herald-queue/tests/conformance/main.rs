//! The conformance suite against a real RabbitMQ and against a file, and what is particular to each: RabbitMQ's topology and
//! login, the faults of both.

mod faults;
mod login;
mod topology;
mod file;
mod killed;

use anyhow::Result;
use herald_harness::Broker;
use herald_queue::{Config, Queue, conformance};
use tempfile::TempDir;

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

/// The queue in this folder.
async fn queue_in(folder: &TempDir) -> Queue {
    Queue::open_file(&folder.path().join("queue.db")).await.expect("the folder can be written")
}

/// All cases of the suite against one backend: how to make a fresh one, and how to open it.
macro_rules! conforms {
    ($backend:ident, $fresh:expr, $open:expr) => {
        mod $backend {
            use super::*;

            conforms! {
                $fresh, $open,
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
        }
    };
    ($fresh:expr, $open:expr, $($case:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() -> Result<()> {
                let fresh = $fresh.await?;
                conformance::$case(async || $open(&fresh).await).await;
                Ok(())
            }
        )*
    };
}

conforms!(rabbitmq, declared(), async |broker: &Broker| queue_at(broker.url()));
conforms!(embedded, async { Ok::<_, anyhow::Error>(TempDir::new()?) }, queue_in);
