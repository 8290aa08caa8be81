//! Getting in: TLS with a CA of one's own, and what is said when the broker shows the door.

use std::sync::Arc;

use anyhow::{Context, Result};
use herald_core::lane::Lane;
use herald_queue::conformance::{ids, request, take};
use herald_queue::{Config, Queue, Source};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::{declared, queue_at};

/// Terminates TLS in front of `target`, as 127.0.0.1; its port, its CA (PEM), and the task that carries it.
async fn tls_in_front_of(target: String) -> Result<(u16, String, JoinSet<()>)> {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&key, &ca)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.into()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();

    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            let (acceptor, target) = (acceptor.clone(), target.clone());
            connections.spawn(async move {
                let mut client = acceptor.accept(client).await?;
                let mut server = TcpStream::connect(target).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    Ok((port, ca.pem(), tasks))
}

#[tokio::test]
async fn amqps_works_with_a_ca_of_ones_own_and_with_no_other() -> Result<()> {
    let broker = declared().await?;
    let (port, ca_pem, _tasks) = tls_in_front_of(broker.address()).await?;
    let url = broker.url_via(port)?.replacen("amqp://", "amqps://", 1);

    let stranger = queue_at(url.clone()).verify_topology().await.unwrap_err().to_string();
    assert!(stranger.contains("certificate"), "{stranger}");

    let queue = Queue::open(Config { ca_pem: Some(ca_pem), ..Config::new(url) })?;
    queue.verify_topology().await?;
    queue.publisher().publish(request(Lane::High, "r")).await?;
    let mut consumer = queue.consume(Source::Requests(Lane::High), 1);
    let taken = take(&mut consumer, 1).await;
    assert_eq!(ids(&taken), ["r"]);
    assert_eq!(queue.ack(taken).await, 1);
    queue.close().await;
    Ok(())
}

#[tokio::test]
async fn a_refused_login_and_an_unknown_vhost_are_said_without_the_password() -> Result<()> {
    let broker = declared().await?;
    let url = broker.url();
    let at = url.rsplit_once('@').context("the URL has a login")?.1;
    let refused = queue_at(format!("amqp://nobody:hunter2@{at}")).verify_topology().await.unwrap_err().to_string();
    assert!(refused.contains("ACCESS_REFUSED") && refused.contains("nobody@"), "{refused}");
    assert!(!refused.contains("hunter2"), "{refused}");

    let unknown = queue_at(url.replace(broker.vhost(), "elsewhere")).verify_topology().await.unwrap_err().to_string();
    assert!(unknown.contains("elsewhere"), "{unknown}");
    Ok(())
}

#[tokio::test]
async fn a_user_id_that_is_not_the_login_is_refused_before_it_costs_the_connection() -> Result<()> {
    let broker = declared().await?;
    let queue = queue_at(broker.url());
    let publisher = queue.publisher();
    let forged = herald_queue::Outgoing { user_id: Some("nobody".to_owned()), ..request(Lane::High, "r") };

    let error = publisher.publish(forged).await.unwrap_err().to_string();
    assert!(error.contains("user_id nobody is not the login"), "{error}");
    publisher.publish(request(Lane::High, "r")).await?;
    assert_eq!(queue.counters().losses, 0);
    queue.close().await;
    Ok(())
}
