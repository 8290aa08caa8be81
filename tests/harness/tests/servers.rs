//! The harness' own servers: what they keep through a kill, and that each test has a place of its own.

use anyhow::Result;
use herald_harness::{Permissions, PrivatePostgres, PrivateRabbit, amqp, broker, database, wait};
use sqlx::{Connection, PgConnection};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_confirmed_message_in_a_quorum_queue_outlives_kill_9_of_the_broker() -> Result<()> {
    let mut rabbit = PrivateRabbit::start().await?;
    rabbit.add_vhost("test").await?;
    let client = amqp::connect(&rabbit.url("test")).await?;
    client.declare_quorum("kept").await?;
    client.publish("", "kept", amqp::properties("m1"), b"body").await?;
    rabbit.settle().await?;

    rabbit.kill9().await?;
    assert!(amqp::connect(&rabbit.url("test")).await.is_err(), "a killed broker takes no connection");
    rabbit.start_again().await?;

    // The queue elects its leader a moment after the node takes connections.
    let got = wait::until(LIMIT, "the message", async || {
        let client = amqp::connect(&rabbit.url("test")).await.ok()?;
        client.get("kept").await.ok().flatten()
    })
    .await?;
    assert_eq!(got.body, b"body");
    assert_eq!(got.properties.message_id().as_ref().map(|id| id.as_str()), Some("m1"));
    rabbit.stop().await
}

#[tokio::test]
async fn a_committed_row_outlives_kill_9_of_the_database_and_an_uncommitted_one_does_not() -> Result<()> {
    let mut postgres = PrivatePostgres::start().await?;
    let url = postgres.url("postgres");
    let mut connection = PgConnection::connect(&url).await?;
    sqlx::query("CREATE TABLE kept (id int)").execute(&mut connection).await?;
    sqlx::query("INSERT INTO kept VALUES (1)").execute(&mut connection).await?;
    let mut transaction = connection.begin().await?;
    sqlx::query("INSERT INTO kept VALUES (2)").execute(&mut *transaction).await?;

    postgres.kill9().await?;
    drop(transaction);
    assert!(PgConnection::connect(&url).await.is_err(), "a killed database takes no connection");
    postgres.start_again().await?;
    assert_eq!(ids(&url).await?, [1]);
    postgres.restart().await?;
    assert_eq!(ids(&url).await?, [1]);
    Ok(())
}

async fn ids(url: &str) -> Result<Vec<i32>> {
    let mut connection = PgConnection::connect(url).await?;
    Ok(sqlx::query_scalar("SELECT id FROM kept ORDER BY id").fetch_all(&mut connection).await?)
}

#[tokio::test]
async fn two_tests_have_databases_of_their_own_that_go_away() -> Result<()> {
    let (one, other) = (database().await?, database().await?);
    let mut connection = PgConnection::connect(&one.url()).await?;
    sqlx::query("CREATE TABLE mine (id int)").execute(&mut connection).await?;
    let mut elsewhere = PgConnection::connect(&other.url()).await?;
    assert!(sqlx::query("SELECT id FROM mine").execute(&mut elsewhere).await.is_err(), "the table is seen elsewhere");

    let url = one.url();
    drop(one);
    assert!(PgConnection::connect(&url).await.is_err(), "a dropped database takes no connection");
    sqlx::query("SELECT 1").execute(&mut elsewhere).await?;
    Ok(())
}

#[tokio::test]
async fn two_tests_have_vhosts_of_their_own_that_go_away() -> Result<()> {
    let (one, mut other) = (broker().await?, broker().await?);
    let client = amqp::connect(&one.url()).await?;
    client.declare_quorum("mine").await?;
    client.publish("", "mine", amqp::properties("m1"), b"1").await?;
    client.publish("", "mine", amqp::properties("m2"), b"2").await?;
    wait::until(LIMIT, "two ready messages", async || client.ready("mine").await.is_ok_and(|count| count == 2)).await?;
    assert_eq!(client.purge("mine").await?, 2);
    let elsewhere = amqp::connect(&other.url()).await?;
    assert!(elsewhere.ready("mine").await.is_err(), "the queue is seen elsewhere");

    let url = one.url();
    drop(one);
    assert!(amqp::connect(&url).await.is_err(), "a deleted vhost takes no connection");
    other.delete().await?;
    assert!(amqp::connect(&other.url()).await.is_err(), "a deleted vhost takes no connection");
    Ok(())
}

#[tokio::test]
async fn a_user_may_do_what_its_permissions_say_and_no_more() -> Result<()> {
    let mut broker = broker().await?;
    let admin = amqp::connect(&broker.url()).await?;
    admin.declare_quorum("in").await?;
    // Publishing through the default exchange needs the right to write to it; its name is empty.
    let url = broker.add_user("producer", &Permissions::new("^$", "^$|^amq\\.default$", "^$")).await?;
    let producer = amqp::connect(&url).await?;
    producer.publish("", "in", amqp::properties("m1"), b"1").await?;
    assert!(producer.get("in").await.is_err(), "a producer may not consume");
    Ok(())
}

#[tokio::test]
async fn an_unroutable_message_is_an_error() -> Result<()> {
    let broker = broker().await?;
    let client = amqp::connect(&broker.url()).await?;
    let error = client.publish("", "nowhere", amqp::properties("m1"), b"1").await.unwrap_err();
    assert!(error.to_string().contains("no queue is bound"), "{error}");
    client.close().await
}
