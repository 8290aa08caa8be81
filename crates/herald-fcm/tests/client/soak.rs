//! Days of pushes in moments: the client and Google's side, strict, live by one clock that a test puts forward and back.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use herald_core::push::FcmPush;
use herald_core::time::Timestamp;
use herald_fcm::{Client, Config};
use herald_simulator::{SettingsChange, Simulator};
use tokio::task::JoinSet;

use crate::simulator::{APP, simulator_and_push, wall_clock};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
/// Pushes that are sent together.
const BURST: usize = 8;
/// Far more than pass while a token is fetched.
const BURSTS_LIMIT: usize = 1_000;

struct Soak {
    simulator: Simulator,
    client: Client,
    push: FcmPush,
    /// How far the client's clock is ahead of this machine's, in seconds.
    ahead: Arc<AtomicI64>,
    sent: u64,
}

impl Soak {
    async fn start() -> Self {
        let (simulator, push) = simulator_and_push().await;
        let account = simulator.credentials(APP).unwrap().fcm_service_account_json;
        let ahead = Arc::new(AtomicI64::new(0));
        let offset = Arc::clone(&ahead);
        let now = move || {
            let micros = offset.load(Ordering::SeqCst) * 1_000_000;
            Timestamp::from_micros(wall_clock().micros() + micros)
        };
        let mut config = Config::new(simulator.fcm_url(), account, Arc::new(now));
        config.ca_pem = Some(simulator.ca_pem().to_owned());
        config.clients = 1;
        let client = Client::new(config).unwrap();
        Self { simulator, client, push, ahead, sent: 0 }
    }

    /// Both clocks are set: so far ahead of this machine's.
    fn set(&self, ahead: i64) {
        self.ahead.store(ahead, Ordering::SeqCst);
        self.simulator.set(&SettingsChange { clock_offset_secs: Some(ahead), ..SettingsChange::default() });
    }

    /// Sends some pushes at once; all are accepted.
    async fn burst(&mut self) {
        let mut sends = JoinSet::new();
        for _ in 0..BURST {
            let (client, push) = (self.client.clone(), self.push.clone());
            sends.spawn(async move { client.send(&push).await });
        }
        while let Some(sent) = sends.join_next().await {
            let answer = sent.unwrap().unwrap();
            assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
            self.sent += 1;
        }
    }

    fn mints(&self) -> u64 {
        self.simulator.counters().mints
    }

    /// Pushes until so many access tokens were fetched: a refresh is awaited by nobody.
    async fn until_mints(&mut self, wanted: u64) {
        for _ in 0..BURSTS_LIMIT {
            self.burst().await;
            if self.mints() >= wanted {
                return;
            }
        }
        panic!("{} access tokens were fetched, not {wanted}", self.mints());
    }

    /// Nothing was refused, and the phone has all.
    fn check(&self) {
        let counts = self.simulator.counters();
        assert!(counts.refused.is_empty(), "{:?}", counts.refused);
        assert_eq!(self.simulator.phone("bela").unwrap().tally.received, self.sent);
    }
}

#[tokio::test]
async fn two_days_of_pushes_are_all_accepted_and_fetch_one_access_token_an_hour() {
    let mut soak = Soak::start().await;
    soak.burst().await;
    assert_eq!(soak.mints(), 1);
    // The last token was fetched then; the next is wanted when five minutes of its hour are left.
    let mut fetched = 0;
    for minute in (8..48 * 60).step_by(8) {
        soak.set(minute * MINUTE);
        let due = minute - fetched >= 55;
        let before = soak.mints();
        soak.until_mints(before + u64::from(due)).await;
        assert_eq!(soak.mints(), before + u64::from(due), "after {minute} minutes");
        if due {
            fetched = minute;
        }
    }
    assert_eq!(soak.mints(), 1 + 2872 / 56, "every 56 minutes until the last, the 2872nd");
    soak.check();
}

#[tokio::test]
async fn a_silence_of_hours_costs_one_access_token_however_many_pushes_end_it() {
    let mut soak = Soak::start().await;
    for round in 0..24 {
        // By a second, an hour, or many.
        soak.set(round * (HOUR + round * 17 * MINUTE));
        soak.burst().await;
        assert_eq!(soak.mints(), u64::try_from(round).unwrap() + 1);
    }
    soak.check();
}

#[tokio::test]
async fn clocks_that_jump_to_and_fro_together_cost_no_push_and_one_access_token_each_time_at_most() {
    let mut soak = Soak::start().await;
    soak.burst().await;
    for (ahead, fetches) in [
        (3 * HOUR, 1),
        // Nobody knows the token's end any more; it is served while another is fetched.
        (HOUR, 1),
        (-2 * HOUR, 1),
        (-2 * HOUR + MINUTE, 0),
        (-2 * HOUR + 30 * MINUTE, 0),
        // A little back changes nothing.
        (-2 * HOUR + 29 * MINUTE + 30, 0),
        (-HOUR - 3 * MINUTE, 1),
        (24 * HOUR, 1),
    ] {
        soak.set(ahead);
        let before = soak.mints();
        soak.until_mints(before + fetches).await;
        soak.burst().await;
        assert_eq!(soak.mints(), before + fetches, "{ahead} s ahead");
    }
    soak.check();
}

#[tokio::test]
async fn a_clock_that_is_minutes_off_costs_no_push() {
    let soak = Soak::start().await;
    // Of ours alone; Google allows an assertion five.
    for minutes in [4, -4, 0, 3, -3] {
        soak.ahead.store(minutes * MINUTE, Ordering::SeqCst);
        soak.simulator.revoke_access_tokens();
        for _ in 0..5 {
            let sent = soak.client.send(&soak.push).await.unwrap();
            assert_eq!(sent.status, 200, "{minutes} minutes off");
        }
    }
    let refused = soak.simulator.counters().refused;
    assert_eq!(refused.keys().collect::<Vec<_>>(), ["fcm"], "{refused:?}");
}

#[tokio::test]
async fn access_tokens_of_seconds_are_replaced_in_time() {
    let mut soak = Soak::start().await;
    soak.simulator.set(&SettingsChange { access_token_secs: Some(5), ..SettingsChange::default() });
    for ahead in (0..60).step_by(2) {
        soak.set(ahead);
        soak.burst().await;
    }
    // Every four seconds of a minute, if this machine isn't slow.
    let mints = soak.mints();
    assert!((12..=30).contains(&mints), "{mints}");
}
