//! FCM as a server of frames, and a token endpoint that grants every token.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use herald_core::time::Timestamp;
use herald_fcm::{Client, Config, SendError};
use herald_harness::frames::{Head, Peer, Server};

use crate::google::{account, push};

pub(crate) struct Fcm {
    pub(crate) server: Server,
    oauth: Server,
}

impl Fcm {
    /// See [`Server::start`].
    pub(crate) async fn start<F, Served>(serve: F) -> Self
    where
        F: Fn(usize, Peer) -> Served + Send + Sync + 'static,
        Served: Future<Output = io::Result<()>> + Send + 'static,
    {
        Self::on(Server::start(serve).await.unwrap()).await
    }

    pub(crate) async fn on(server: Server) -> Self {
        let oauth = Server::start(|_, mut peer| async move {
            peer.greet(10).await?;
            loop {
                let stream = peer.request().await?;
                let token = r#"{"access_token":"ya29.1","expires_in":3600,"token_type":"Bearer"}"#;
                peer.answer(stream, &Head::status(200), token).await?;
            }
        })
        .await
        .unwrap();
        Self { server, oauth }
    }

    pub(crate) fn client(&self, change: impl FnOnce(&mut Config)) -> Client {
        let now = Arc::new(|| Timestamp::from_secs(1_800_000_000));
        let mut config = Config::new(format!("https://{}", self.server.address), account(self.oauth.address), now);
        config.ca_pem = Some(format!("{}{}", self.server.ca_pem, self.oauth.ca_pem));
        config.request_timeout = Duration::from_secs(30);
        config.clients = 1;
        change(&mut config);
        Client::new(config).unwrap()
    }

    /// Complete requests and connections.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.server.requests(), self.server.connections())
    }
}

/// The status of one push's answer.
pub(crate) async fn status(client: &Client) -> Result<u16, SendError> {
    client.send(&push()).await.map(|answer| answer.status)
}
