//! Carries one push to its provider and brings back an outcome. The only place where APNs and FCM are both named.
//!
//! Stands under push. Never decides whether something is sent, nor what happens next.

use std::time::Duration;

use herald_core::outcome::{self, Classified, Outcome, Undelivered};
use herald_core::push::{self, Context};
use herald_core::subscription::Provider;

use crate::settings::{ApnsApp, App};

/// Pushes to the device through its provider, within `limit`: an outcome, never an error.
pub(crate) async fn send(app: &App, context: Context<'_>, limit: Duration) -> Classified {
    match context.subscription.platform.provider() {
        Some(Provider::Apns) => match app.apns.get(&context.subscription.environment) {
            Some(apns) => send_apns(apns, context, limit).await,
            None => not_configured("no APNs credentials for this environment"),
        },
        Some(Provider::Fcm) => match &app.fcm {
            Some(fcm) => send_fcm(&fcm.client, context, limit).await,
            None => not_configured("no FCM service account"),
        },
        None => not_configured("no provider reaches this platform"),
    }
}

fn not_configured(detail: &str) -> Classified {
    Classified {
        outcome: Outcome::Misconfigured,
        status: None,
        reason: Some("not_configured"),
        detail: Some(detail.to_owned()),
        provider_id: None,
    }
}

async fn send_apns(apns: &ApnsApp, context: Context<'_>, limit: Duration) -> Classified {
    let push = push::apns::build(&context, &apns.topic);
    match tokio::time::timeout(limit, apns.client.send(&push)).await {
        Ok(Ok(answer)) => outcome::apns::classify(&answer, context.now),
        Ok(Err(undelivered)) => undelivered.into(),
        Err(_late) => Undelivered::Unknown.into(),
    }
}

async fn send_fcm(client: &herald_fcm::Client, context: Context<'_>, limit: Duration) -> Classified {
    let push = push::fcm::build(&context);
    match tokio::time::timeout(limit, client.send(&push)).await {
        Ok(Ok(answer)) => outcome::fcm::classify(&answer, context.now),
        Ok(Err(herald_fcm::SendError::NotSent)) => Undelivered::NotSent.into(),
        Ok(Err(herald_fcm::SendError::Unknown)) | Err(_) => Undelivered::Unknown.into(),
        Ok(Err(herald_fcm::SendError::Unauthorized(detail))) => Classified {
            outcome: Outcome::Unauthorized,
            status: None,
            reason: Some("oauth"),
            detail: Some(detail.chars().take(64).collect()),
            provider_id: None,
        },
    }
}
