//! FCM's connections over HTTP/2: how many streams, and how they end.

use herald_simulator::{Fault, FcmRules, Provider, Script, SettingsChange};
use http::Request;

use super::wire::{Wire, tls};
use super::*;

async fn connect(simulator: &Simulator) -> Wire {
    Wire::over(tls(&simulator.fcm_url(), simulator.ca_pem(), &["h2"]).await.unwrap()).await
}

/// A request that is refused for its credentials: any answer will do here.
fn asking() -> Request<()> {
    Request::post("https://localhost/v1/projects/contoso-mail/messages:send").body(()).unwrap()
}

async fn status(wire: &Wire) -> u16 {
    wire.answer(asking(), "{}").await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_connection_has_a_hundred_streams_and_the_next_waits_for_one_of_them() {
    let simulator = start().await;
    let wire = connect(&simulator).await;
    assert_eq!(status(&wire).await, 401);
    assert_eq!(wire.send.current_max_send_streams(), 100);

    let hang =
        Script { provider: Some(Provider::Fcm), fault: Some(Fault::Hang), times: Some(100), ..Script::default() };
    simulator.script(vec![hang]).unwrap();
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(wire.start(asking(), "{}").await.unwrap());
    }
    let mut next = Box::pin(status(&wire));
    tokio::select! {
        biased;
        status = &mut next => panic!("{status}: a stream above the limit was answered"),
        // All hundred have come.
        () = async {
            while !simulator.scripts().is_empty() {
                tokio::task::yield_now().await;
            }
        } => {}
    }
    drop(held.pop());
    assert_eq!(next.await, 401);
}

#[tokio::test]
async fn streams_above_the_hundred_are_refused_one_by_one() {
    let simulator = start().await;
    let hang = Script { provider: Some(Provider::Fcm), fault: Some(Fault::Hang), times: Some(0), ..Script::default() };
    simulator.script(vec![hang]).unwrap();
    let stream = tls(&simulator.fcm_url(), simulator.ca_pem(), &["h2"]).await.unwrap();
    // A client that doesn't wait for the server's SETTINGS.
    let mut eager = h2::client::Builder::new();
    let (mut send, connection) =
        eager.initial_max_send_streams(200).handshake::<_, bytes::Bytes>(stream).await.unwrap();
    let mut answers = JoinSet::new();
    for _ in 0..130 {
        send = send.ready().await.unwrap();
        let (answer, _) = send.send_request(asking(), true).unwrap();
        answers.spawn(answer);
    }
    let mut connections = JoinSet::new();
    connections.spawn(connection);
    for _ in 0..30 {
        let refused = tokio::time::timeout(LIMIT, answers.join_next()).await.unwrap().unwrap().unwrap().unwrap_err();
        assert_eq!(refused.reason(), Some(h2::Reason::REFUSED_STREAM));
    }
    // The hundred go on until they are ended, and so does their connection.
    let hanging = || simulator.counters().unanswered.get("fcm").map_or(0, |faults| faults["hang"]);
    while hanging() < 100 {
        tokio::task::yield_now().await;
    }
    assert!(answers.try_join_next().is_none() && connections.try_join_next().is_none());
}

#[tokio::test]
async fn an_idle_connection_is_ended_with_goaway_and_a_busy_one_is_not() {
    let simulator = start().await;
    let fcm = Some(FcmRules { idle_close_ms: 600, ..FcmRules::default() });
    simulator.set(&SettingsChange { fcm, ..SettingsChange::default() });
    let mut wire = connect(&simulator).await;
    let slow = Script { provider: Some(Provider::Fcm), delay_ms: 900, ..Script::default() };
    simulator.script(vec![slow]).unwrap();
    assert_eq!(status(&wire).await, 401, "the answer took longer than the limit");
    assert_eq!(status(&wire).await, 401, "it was in use all the time: it takes another");
    // GOAWAY with NO_ERROR is no error for the connection.
    wire.ended_by_peer().await.unwrap();
    assert_eq!(simulator.counters().ended["fcm"]["idle"], 1);
    assert_eq!(status(&connect(&simulator).await).await, 401);
}
