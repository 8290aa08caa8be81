//! `herald subscriptions export`: active subscriptions to stdout, for another installation or for safekeeping. Its rows hold
//! push tokens: whoever has them and the app's keys can push to the devices.

use std::io::{self, Write};

use herald_core::ids::AppId;
use herald_core::subscription::Subscription;
use herald_store::Store;

use super::args::{ExportArgs, Format};
use super::known_app;
use super::rows::{NAMES, Row};
use crate::config::Config;
use crate::connect::{self, Role};

/// Rows read at once.
const PAGE: i64 = 5_000;

/// Writes them, in the order of their ids.
///
/// # Errors
/// As any call of the store; when stdout can't be written.
pub(super) async fn run(config: &Config, args: &ExportArgs) -> anyhow::Result<()> {
    let app = args.app.as_deref().map(|app| known_app(config, app)).transpose()?;
    let store = connect::ready_store(config, Role::Other).await?;
    let mut pages = Pages { store, app, after: None };
    if args.format == Format::Csv {
        write(|out| Ok(csv::Writer::from_writer(out).write_record(NAMES)?))?;
    }
    loop {
        let page = pages.next().await?;
        if page.is_empty() {
            return Ok(());
        }
        write(|out| match args.format {
            Format::Csv => as_csv(out, &page),
            Format::JsonLines => as_json(out, &page),
        })?;
    }
}

struct Pages {
    store: Store,
    app: Option<AppId>,
    after: Option<herald_core::ids::Unsid>,
}

impl Pages {
    async fn next(&mut self) -> anyhow::Result<Vec<Subscription>> {
        let page = self.store.export(self.app.as_ref(), self.after, PAGE).await.map_err(connect::store_failure)?;
        self.after = page.last().map(|subscription| subscription.id);
        Ok(page)
    }
}

fn write(rows: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    rows(&mut out)?;
    out.flush()
}

fn row(subscription: &Subscription) -> Row {
    let some = |text: &str| Some(text.to_owned());
    Row {
        app: some(subscription.app.as_str()),
        user: some(subscription.user.as_str()),
        platform: some(subscription.platform.as_str()),
        token: some(subscription.token.expose()),
        token_kind: some(subscription.token_kind.as_str()),
        environment: some(subscription.environment.as_str()),
        unsid: Some(subscription.id.to_string()),
        expires_at: Some(subscription.expires_at.to_rfc3339()),
    }
}

fn as_csv(out: &mut dyn Write, page: &[Subscription]) -> io::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    for subscription in page {
        let Row { app, user, platform, token, token_kind, environment, unsid, expires_at } = row(subscription);
        let fields = [app, user, platform, token, token_kind, environment, unsid, expires_at];
        csv.write_record(fields.map(Option::unwrap_or_default))?;
    }
    csv.flush()
}

fn as_json(out: &mut dyn Write, page: &[Subscription]) -> io::Result<()> {
    for subscription in page {
        serde_json::to_writer(&mut *out, &row(subscription))?;
        out.write_all(b"\n")?;
    }
    Ok(())
}
