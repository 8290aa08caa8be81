//! What belongs to the access token: one fetch for all, in time, and what a refusal comes to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use herald_fcm::SendError;

use crate::google::{Act, Google, accepted, burst, granted, push, pushing, ready};

const MINUTE: i64 = 60;

fn refused() -> Act {
    Act::Answer(400, r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#.to_owned())
}

fn expired() -> Act {
    Act::Answer(401, r#"{"error":{"code":401,"status":"UNAUTHENTICATED"}}"#.to_owned())
}

#[tokio::test]
async fn the_assertion_is_that_of_the_jwt_bearer_grant() {
    let forms = Arc::new(Mutex::new(Vec::new()));
    let recording = Arc::clone(&forms);
    let google = Google::start(move |asked| {
        if !asked.is_token {
            return ready(accepted());
        }
        recording.lock().unwrap().push(asked.text);
        ready(granted(0))
    })
    .await;
    assert_eq!(google.client(|_| {}).send(&push()).await.unwrap().status, 200);
    let form = forms.lock().unwrap().remove(0);
    let fields: HashMap<&str, &str> = form.split('&').map(|field| field.split_once('=').unwrap()).collect();
    assert_eq!(fields["grant_type"], "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer");
    let parts: Vec<serde_json::Value> = fields["assertion"]
        .split('.')
        .take(2)
        .map(|part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap())
        .collect();
    assert_eq!(parts[0], serde_json::json!({"alg": "RS256", "typ": "JWT", "kid": "key-1"}));
    assert_eq!(
        parts[1],
        serde_json::json!({
            "iss": "herald@contoso-mail.iam.gserviceaccount.com",
            "scope": "https://www.googleapis.com/auth/firebase.messaging",
            "aud": format!("https://{}/token", google.address),
            "iat": 1_800_000_000, "exp": 1_800_003_600,
        })
    );
}

#[tokio::test]
async fn a_hundred_pushes_at_once_fetch_one_token() {
    let google = Google::start(pushing(|_| accepted())).await;
    assert_eq!(burst(&google.client(|_| {}), 100).await, 100);
    assert_eq!((google.grants(), google.pushes()), (1, 100));
}

#[tokio::test]
async fn a_token_is_refreshed_in_the_background_and_the_old_one_served_meanwhile() {
    let bearers = Arc::new(Mutex::new(Vec::new()));
    let recording = Arc::clone(&bearers);
    let google = Google::start(pushing(move |asked| {
        recording.lock().unwrap().push(asked.text.clone());
        accepted()
    }))
    .await;
    let client = google.client(|_| {});
    client.send(&push()).await.unwrap();
    google.pass(54 * MINUTE);
    client.send(&push()).await.unwrap();
    assert_eq!(google.grants(), 1, "six minutes are left");
    google.pass(2 * MINUTE);
    client.send(&push()).await.unwrap();
    let mut sent = 3;
    while !bearers.lock().unwrap().contains(&"Bearer ya29.1".to_owned()) {
        client.send(&push()).await.unwrap();
        sent += 1;
    }
    assert_eq!(google.grants(), 2);
    let bearers = bearers.lock().unwrap();
    assert!(bearers[..sent - 1].iter().all(|bearer| bearer == "Bearer ya29.0"), "{bearers:?}");
}

#[tokio::test]
async fn while_a_refresh_fails_the_old_token_is_served_as_long_as_it_is_valid() {
    let google = Google::start(|asked| {
        ready(match (asked.is_token, asked.nth) {
            (true, 0) => granted(0),
            (true, _) => Act::Answer(503, String::new()),
            (false, _) => accepted(),
        })
    })
    .await;
    let client = google.client(|_| {});
    client.send(&push()).await.unwrap();
    google.pass(56 * MINUTE);
    while google.grants() < 4 {
        assert_eq!(client.send(&push()).await.unwrap().status, 200);
    }
    google.pass(4 * MINUTE);
    assert_eq!(client.send(&push()).await, Err(SendError::NotSent), "its end has come");
}

#[tokio::test]
async fn a_token_endpoint_in_trouble_is_asked_again_within_one_push() {
    let google = Google::start(|asked| {
        ready(match (asked.is_token, asked.nth) {
            (true, 0) => Act::Answer(503, String::new()),
            (true, 1) => Act::HangUp,
            (true, nth) => granted(nth),
            (false, _) => accepted(),
        })
    })
    .await;
    assert_eq!(google.client(|_| {}).send(&push()).await.unwrap().status, 200);
    assert_eq!(google.grants(), 3);
}

#[tokio::test]
async fn a_refused_account_is_unauthorized_and_not_asked_again_by_each_push() {
    let google = Google::start(|asked| ready(if asked.is_token { refused() } else { accepted() })).await;
    let client = google.client(|_| {});
    let unauthorized = SendError::Unauthorized("invalid_grant: Invalid JWT Signature.".to_owned());
    assert_eq!(client.send(&push()).await, Err(unauthorized));
    assert_eq!(burst(&client, 100).await, 0);
    assert_eq!(google.pushes(), 0);
    assert!(google.grants() <= 3, "one fetch a second at most");
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_for_all_and_the_pushes_sent_again() {
    let google =
        Google::start(pushing(|asked| if asked.text == "Bearer ya29.0" { expired() } else { accepted() })).await;
    assert_eq!(burst(&google.client(|_| {}), 50).await, 50);
    assert_eq!(google.grants(), 2);
}

#[tokio::test]
async fn a_token_refused_twice_goes_up_as_the_answer_it_is() {
    let google = Google::start(pushing(|_| expired())).await;
    assert_eq!(google.client(|_| {}).send(&push()).await.unwrap().status, 401);
    assert_eq!((google.grants(), google.pushes()), (2, 2));
}

#[tokio::test]
async fn a_refused_token_and_a_refused_account_is_unauthorized() {
    let google = Google::start(|asked| {
        ready(match (asked.is_token, asked.nth) {
            (true, 0) => granted(0),
            (true, _) => refused(),
            (false, _) => expired(),
        })
    })
    .await;
    let sent = google.client(|_| {}).send(&push()).await;
    assert!(matches!(sent, Err(SendError::Unauthorized(_))), "{sent:?}");
    assert_eq!(google.pushes(), 1);
}

#[tokio::test]
async fn a_401_about_the_devices_credentials_is_not_healed() {
    let body = r#"{"error":{"code":401,"details":[
        {"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"THIRD_PARTY_AUTH_ERROR"}]}}"#;
    let google = Google::start(pushing(move |_| Act::Answer(401, body.to_owned()))).await;
    assert_eq!(google.client(|_| {}).send(&push()).await.unwrap().status, 401);
    assert_eq!((google.grants(), google.pushes()), (1, 1));
}

#[tokio::test]
async fn a_clock_that_is_set_costs_one_fetch_however_many_pushes_see_it() {
    // Forwards: the token looks older than it is, and a hundred pushes wait for one fetch.
    let google = Google::start(pushing(|_| accepted())).await;
    let client = google.client(|_| {});
    assert_eq!(burst(&client, 100).await, 100);
    google.pass(120 * MINUTE);
    assert_eq!(burst(&client, 100).await, 100);
    assert_eq!(google.grants(), 2);
    // Backwards: nobody knows its end any more. It is served while another is fetched.
    google.pass(-120 * MINUTE);
    while google.grants() < 3 {
        assert_eq!(burst(&client, 1).await, 1);
    }
    assert_eq!(burst(&client, 100).await, 100);
    assert_eq!(google.grants(), 3);
}

#[tokio::test]
async fn a_clock_that_goes_back_a_little_costs_nothing() {
    let google = Google::start(pushing(|_| accepted())).await;
    let client = google.client(|_| {});
    assert_eq!(burst(&client, 10).await, 10);
    google.pass(-MINUTE);
    assert_eq!(burst(&client, 100).await, 100);
    assert_eq!(google.grants(), 1);
}

#[tokio::test]
async fn a_token_that_ends_before_our_clock_says_so_is_replaced_by_one_fetch_for_all() {
    let google =
        Google::start(pushing(
            |asked| if asked.text == "Bearer ya29.0" && asked.nth > 0 { expired() } else { accepted() },
        ))
        .await;
    let client = google.client(|_| {});
    assert_eq!(burst(&client, 1).await, 1);
    // Half an hour is lost: by Google's clock the hour is over, by ours it is not.
    google.pass(30 * MINUTE);
    assert_eq!(burst(&client, 100).await, 100);
    assert_eq!(google.grants(), 2);
}
