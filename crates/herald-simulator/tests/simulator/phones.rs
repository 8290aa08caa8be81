//! What people see and what apps answer.

use herald_simulator::{Condition, PhoneChange, PhoneSpec, Platform, SettingsChange, Simulator};

use super::*;

fn to(condition: Condition) -> PhoneChange {
    PhoneChange { condition: Some(condition), ..PhoneChange::default() }
}

fn send_receipts_to(simulator: &Simulator, url: &str) {
    simulator.set(&SettingsChange { receipts_url: Some(url.to_owned()), ..SettingsChange::default() });
}

async fn accepted(request: reqwest::RequestBuilder) {
    assert_eq!(request.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_awake_phone_sends_the_receipt_of_the_push() {
    let simulator = start().await;
    let mut sink = ReceiptSink::start(0).await;
    send_receipts_to(&simulator, &sink.url);
    let token = iphone(&simulator, "anna").token;
    accepted(raw_push(&simulator, &client(&simulator), &token, "n")).await;
    assert_eq!(sink.next().await, json!({ "receipts": [{ "capability": "receipt-n" }] }));
    let anna = simulator.wait_for_phone("anna", LIMIT, |phone| phone.receipts_sent == 1).await.unwrap();
    assert_eq!((anna.receipts_failed, anna.on_screen, anna.notifications["n"].raws_delivered), (0, 0, 1));
    assert_eq!(simulator.counters().receipts_sent, 1);
}

#[tokio::test]
async fn a_receipt_is_tried_again_when_the_receiver_is_not_well() {
    let simulator = start().await;
    let mut sink = ReceiptSink::start(1).await;
    let spec = PhoneSpec { receipts_url: Some(sink.url.clone()), ..PhoneSpec::new(MAIL, Platform::Ios) };
    let token = simulator.add_phone("anna", &spec).unwrap().token;
    accepted(raw_push(&simulator, &client(&simulator), &token, "n")).await;
    assert_eq!(sink.next().await["receipts"][0]["capability"], "receipt-n");
    assert!(simulator.wait_for_phone("anna", LIMIT, |phone| phone.receipts_sent == 1).await.is_some());
}

#[tokio::test]
async fn a_power_saving_iphone_shows_the_toast_and_handles_the_raw_when_it_is_awake() {
    let simulator = start().await;
    let mut sink = ReceiptSink::start(0).await;
    send_receipts_to(&simulator, &sink.url);
    let token = iphone(&simulator, "anna").token;
    simulator.change_phone("anna", &to(Condition::PowerSaving)).unwrap();
    let client = client(&simulator);
    for id in ["old", "new"] {
        accepted(raw_push(&simulator, &client, &token, id)).await;
    }
    for _ in 0..2 {
        accepted(toast_push(&simulator, &client, &token, "new")).await;
    }
    let anna = simulator.phone("anna").unwrap();
    assert_eq!((anna.tally.raws_delivered, anna.stored, anna.tally.replaced), (0, 1, 1));
    assert_eq!((anna.tally.toasts_shown, anna.on_screen, anna.notifications["new"].toasts_shown), (2, 1, 2));
    simulator.change_phone("anna", &to(Condition::Awake)).unwrap();
    assert_eq!(sink.next().await["receipts"][0]["capability"], "receipt-new");
    let anna = simulator.wait_for_phone("anna", LIMIT, |phone| phone.receipts_sent == 1).await.unwrap();
    assert_eq!(anna.tally.raws_delivered, 1);
}

#[tokio::test]
async fn a_stored_raw_past_its_expiration_is_never_handled() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    simulator.change_phone("anna", &to(Condition::PowerSaving)).unwrap();
    let soon = (now() + 60).to_string();
    accepted(raw_push(&simulator, &client(&simulator), &token, "n").header("apns-expiration", soon)).await;
    assert_eq!(simulator.phone("anna").unwrap().stored, 1);
    simulator.set(&SettingsChange { clock_offset_secs: Some(61), ..SettingsChange::default() });
    let anna = simulator.change_phone("anna", &to(Condition::Awake)).unwrap();
    assert_eq!((anna.tally.raws_delivered, anna.tally.expired), (0, 1));
}

#[tokio::test]
async fn a_force_quit_app_gets_no_raw_but_the_person_sees_the_toast() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    simulator.change_phone("anna", &to(Condition::ForceQuit)).unwrap();
    let client = client(&simulator);
    accepted(raw_push(&simulator, &client, &token, "n")).await;
    accepted(toast_push(&simulator, &client, &token, "n")).await;
    let anna = simulator.change_phone("anna", &to(Condition::Awake)).unwrap();
    assert_eq!((anna.tally.discarded, anna.tally.raws_delivered, anna.on_screen), (1, 0, 1));
}

#[tokio::test]
async fn a_service_extension_acknowledges_toasts_if_it_is_told_to() {
    let simulator = start().await;
    let mut sink = ReceiptSink::start(0).await;
    send_receipts_to(&simulator, &sink.url);
    let spec = PhoneSpec { ack_alerts: true, ..PhoneSpec::new(MAIL, Platform::Ios) };
    let token = simulator.add_phone("anna", &spec).unwrap().token;
    accepted(toast_push(&simulator, &client(&simulator), &token, "n")).await;
    assert_eq!(sink.next().await["receipts"][0]["capability"], "receipt-n");
}

#[tokio::test]
async fn a_folder_keeps_the_credentials_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let options = || Options { dir: Some(dir.path().to_owned()), ..options() };
    let first = Simulator::start(options()).await.unwrap();
    let (ca, key) = (first.ca_pem().to_owned(), mail(&first).apns_key_pem);
    first.shutdown().await;
    let second = Simulator::start(options()).await.unwrap();
    assert_eq!((second.ca_pem(), mail(&second).apns_key_pem), (&*ca, key));
    let description = std::fs::read_to_string(dir.path().join("simulator.json")).unwrap();
    let description: Value = serde_json::from_str(&description).unwrap();
    assert_eq!(description["apnsUrl"], second.apns_url());
    for file in ["apnsKeyFile", "serviceAccountFile"] {
        assert!(dir.path().join(description["apps"][0][file].as_str().unwrap()).exists());
    }
    let token = iphone(&second, "anna").token;
    accepted(raw_push(&second, &client(&second), &token, "n")).await;
}
