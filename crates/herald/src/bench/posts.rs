//! Posts over kept HTTP/1.1 connections: as fast as they are answered, or at a given rate; how long each took, and what it was
//! answered.
//!
//! At a given rate a post's time begins when it was to be sent: an answer that is late makes the next ones late too, as it
//! would for users.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// One post, made beforehand.
#[derive(Clone)]
pub(super) struct Post {
    pub(super) path: String,
    pub(super) body: Bytes,
}

/// Where to, by whom, and what.
#[derive(Clone)]
pub(super) struct Posts {
    pub(super) token: String,
    pub(super) all: Vec<Post>,
    pub(super) connections: u16,
}

/// How fast, and for how long.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    pub(super) warm_up: Duration,
    pub(super) measured: Duration,
    /// In all; none: each connection posts as soon as it was answered.
    pub(super) per_second: Option<f64>,
}

/// What came of it, after the warm-up.
#[derive(Debug, Default)]
pub(super) struct Answers {
    by_status: BTreeMap<u16, u64>,
    /// In microseconds, sorted.
    took: Vec<u64>,
    over: Duration,
    /// The last answer's body, in bytes.
    pub(super) body_bytes: usize,
}

impl Answers {
    pub(super) fn count(&self) -> u64 {
        self.by_status.values().sum()
    }

    /// Those that are anything but a 201.
    pub(super) fn others(&self) -> u64 {
        self.by_status.iter().filter(|(status, _)| **status != 201).map(|(_, count)| count).sum()
    }

    pub(super) fn per_second(&self) -> f64 {
        self.took.len() as f64 / self.over.as_secs_f64()
    }

    /// So long or shorter took this share of them, in milliseconds.
    pub(super) fn quantile_ms(&self, share: f64) -> f64 {
        let last = self.took.len().saturating_sub(1);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
        let at = (share * last as f64).round() as usize;
        self.took.get(at).map_or(f64::NAN, |micros| *micros as f64 / 1e3)
    }

    fn add(&mut self, other: Self) {
        for (status, count) in other.by_status {
            *self.by_status.entry(status).or_default() += count;
        }
        self.took.extend(other.took);
        self.body_bytes = self.body_bytes.max(other.body_bytes);
    }
}

/// Posts to this address, and counts what is answered after the warm-up.
///
/// # Errors
/// When a connection can't be made or ends.
pub(super) async fn send(to: SocketAddr, posts: &Posts, pace: Pace) -> anyhow::Result<Answers> {
    let begin = Instant::now() + Duration::from_millis(50);
    let mut clients = JoinSet::new();
    for at in 0..posts.connections {
        let posts = posts.clone();
        clients.spawn(async move { one(to, &posts, at, begin, pace).await });
    }
    let mut all = Answers { over: pace.measured, ..Answers::default() };
    while let Some(client) = clients.join_next().await {
        all.add(client??);
    }
    all.took.sort_unstable();
    Ok(all)
}

/// The body of the answer to a form.
///
/// # Errors
/// When it can't be sent, or the answer can't be read.
pub(super) async fn form(to: SocketAddr, path: &str, form: String) -> anyhow::Result<Bytes> {
    let (mut sender, _driver) = connect(to).await?;
    let request = Request::post(path)
        .header(header::HOST, "127.0.0.1")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(form)))?;
    Ok(sender.send_request(request).await?.into_body().collect().await?.to_bytes())
}

/// A connection, and what moves it until it is dropped.
async fn connect(to: SocketAddr) -> anyhow::Result<(SendRequest<Full<Bytes>>, JoinSet<hyper::Result<()>>)> {
    let stream = TcpStream::connect(to).await.with_context(|| format!("http://{to}"))?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    Ok((sender, driver))
}

async fn one(to: SocketAddr, posts: &Posts, at: u16, begin: Instant, pace: Pace) -> anyhow::Result<Answers> {
    let (mut sender, _driver) = connect(to).await?;
    let (counted_from, end) = (begin + pace.warm_up, begin + pace.warm_up + pace.measured);
    let mut answers = Answers::default();
    sleep_until(begin).await;
    for n in 0_u32.. {
        let index = u64::from(n) * u64::from(posts.connections) + u64::from(at);
        let due = match pace.per_second {
            Some(rate) => begin + Duration::from_secs_f64(index as f64 / rate),
            None => Instant::now(),
        };
        if due >= end {
            break;
        }
        sleep_until(due).await;
        let post = &posts.all[usize::try_from(index % posts.all.len() as u64).expect("an index of a list")];
        let (status, body_bytes) = exchange(&mut sender, &posts.token, post).await?;
        let answered = Instant::now();
        // What is answered after the end would count for a time that is not divided by.
        let within =
            if pace.per_second.is_some() { due >= counted_from } else { answered >= counted_from && answered < end };
        if within {
            *answers.by_status.entry(status).or_default() += 1;
            answers.took.push(u64::try_from((answered - due).as_micros()).unwrap_or(u64::MAX));
            answers.body_bytes = body_bytes;
        }
    }
    Ok(answers)
}

async fn exchange(sender: &mut SendRequest<Full<Bytes>>, token: &str, post: &Post) -> anyhow::Result<(u16, usize)> {
    sender.ready().await?;
    let request = Request::post(post.path.as_str())
        .header(header::HOST, "127.0.0.1")
        .header(header::AUTHORIZATION, token)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(post.body.clone()))?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    Ok((status, response.into_body().collect().await?.to_bytes().len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_status_and_ordered_by_time() {
        let mut all = Answers { over: Duration::from_secs(2), ..Answers::default() };
        all.add(Answers {
            by_status: [(201, 97), (503, 3)].into(),
            took: (1..=100).rev().collect(),
            ..Answers::default()
        });
        all.add(Answers { by_status: [(201, 1)].into(), took: vec![101_000], body_bytes: 9, ..Answers::default() });
        all.took.sort_unstable();
        assert_eq!((all.count(), all.others(), all.body_bytes), (101, 3, 9));
        assert!((all.per_second() - 50.5).abs() < 1e-9);
        assert!((all.quantile_ms(0.5) - 0.051).abs() < 1e-9);
        assert!((all.quantile_ms(1.0) - 101.0).abs() < 1e-9);
        assert!(Answers::default().quantile_ms(0.5).is_nan());
    }
}
