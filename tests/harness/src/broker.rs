//! A vhost of one's own on the shared RabbitMQ: empty, seen by no other test.

use crate::rabbit_api::{Permissions, RabbitApi};
use crate::shared;
use anyhow::{Result, anyhow};
use reqwest::Url;

/// Make a fresh vhost on the shared RabbitMQ, which is started if none was given.
///
/// # Errors
/// If RabbitMQ isn't installed or doesn't start, or if the given one's management API doesn't allow it; the message
/// says what to do.
pub async fn broker() -> Result<Broker> {
    let rabbit = shared::rabbit().await?;
    let vhost = shared::unique_name();
    rabbit.api.add_vhost(&vhost).await?;
    let mut url = rabbit.amqp.clone();
    url.set_path(&vhost);
    Ok(Broker { url, vhost, api: rabbit.api.clone(), users: Vec::new(), deleted: false })
}

/// A vhost; deleted, with its queues, connections and users, when dropped.
#[derive(Debug)]
pub struct Broker {
    url: Url,
    vhost: String,
    api: RabbitApi,
    users: Vec<String>,
    deleted: bool,
}

impl Broker {
    /// `amqp://user:password@host:port/vhost`, with a user that may do everything in this vhost.
    #[must_use]
    pub fn url(&self) -> String {
        self.url.to_string()
    }

    /// The vhost's name.
    #[must_use]
    pub fn vhost(&self) -> &str {
        &self.vhost
    }

    /// Host and port of AMQP, for a fault proxy.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}:{}", self.url.host_str().unwrap_or("127.0.0.1"), self.url.port().unwrap_or(5672))
    }

    /// The URL by way of another port of 127.0.0.1, such as a fault proxy's.
    ///
    /// # Errors
    /// If the given URL can't carry a port.
    pub fn url_via(&self, port: u16) -> Result<String> {
        let mut url = self.url.clone();
        url.set_host(Some("127.0.0.1"))?;
        url.set_port(Some(port)).map_err(|()| anyhow!("the URL can't carry a port"))?;
        Ok(url.into())
    }

    /// Make a user of its own with these permissions here and nowhere else; the answer is its URL. Users are shared
    /// by all vhosts of a broker, so the real name is `name` made unique.
    ///
    /// # Errors
    /// If RabbitMQ refuses.
    pub async fn add_user(&mut self, name: &str, permissions: &Permissions) -> Result<String> {
        let login = format!("{name}-{}", self.vhost);
        let password = uuid::Uuid::now_v7().simple().to_string();
        self.api.add_user(&login, &password, &self.vhost, permissions).await?;
        let mut url = self.url.clone();
        url.set_username(&login).map_err(|()| anyhow!("the URL can't carry a user"))?;
        url.set_password(Some(&password)).map_err(|()| anyhow!("the URL can't carry a password"))?;
        self.users.push(login);
        Ok(url.into())
    }

    /// Delete the vhost now; connections to it are closed by the broker.
    ///
    /// # Errors
    /// If RabbitMQ doesn't answer.
    pub async fn delete(&mut self) -> Result<()> {
        remove(&self.api, &self.vhost, &self.users).await?;
        self.deleted = true;
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.deleted {
            return;
        }
        let (vhost, users) = (self.vhost.clone(), std::mem::take(&mut self.users));
        let api = self.api.clone();
        shared::clean_up("a test's vhost", async move { remove(&api, &vhost, &users).await });
    }
}

async fn remove(api: &RabbitApi, vhost: &str, users: &[String]) -> Result<()> {
    for user in users {
        api.delete_user(user).await?;
    }
    api.delete_vhost(vhost).await
}
