//! Files that are damaged, another's, or can't be written: a clear error, never a panic.

use std::fs::{self, Permissions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use herald_core::delivery::State;
use herald_core::ids::NotificationId;
use herald_core::lane::DispatchQueue;
use herald_core::subscription::Provider;
use herald_store::conformance::{LONG, OVER, app, ending, event, phone, request, to_each, user};
use herald_store::{By, DeadFilter, DeadPage, Receipt, Record, Store, StoreError};
use tempfile::TempDir;

use crate::{as_child, assert_says, child, connect, file, fresh};

const PAGE: u64 = 4_096;

/// A closed file with some of everything, and one of its notifications.
async fn filled() -> (TempDir, NotificationId) {
    let (folder, store) = fresh().await;
    let mut last = None;
    for n in 0..40 {
        let name = format!("user {n}");
        store.subscribe(phone(&name, &format!("token of {name}"))).await.unwrap();
    }
    let batch = (0..200).map(|n| {
        let mut new = request(&format!("user {}", n % 40), &n.to_string());
        new.request.content.payload.raw = Some("x".repeat(3_000));
        new
    });
    let _stored = store.intake(batch.collect(), 0, LONG, to_each).await.unwrap();
    for hint in store.due(DispatchQueue::High, 100, LONG).await.unwrap() {
        let taken = store.take(&[hint], LONG).await.unwrap().pop().unwrap();
        let told = vec![event(&taken.delivery.id.0.to_string())];
        last = Some(taken.notification.id);
        store.record(&[Record { events: told, ..ending(&taken, State::Accepted) }]).await.unwrap();
    }
    store.close().await;
    (folder, last.unwrap())
}

/// Overwrites bytes of a file.
fn overwrite(path: &Path, from: u64, bytes: &[u8]) {
    let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(from)).unwrap();
    file.write_all(bytes).unwrap();
}

fn assert_damaged(error: &StoreError, folder: &Path) {
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    assert_says(error, folder, "the file is damaged, or no database; stop Herald, then move it away");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_whose_header_is_overwritten_is_damaged() {
    let (folder, _) = filled().await;
    overwrite(&file(folder.path()), 0, &[0xAA; 100]);
    let before = fs::read(file(folder.path())).unwrap();
    for leads in [true, false] {
        assert_damaged(&connect(folder.path(), leads).await.unwrap_err(), folder.path());
    }
    assert_eq!(fs::read(file(folder.path())).unwrap(), before, "it is left for whoever can repair it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_overwritten_in_the_middle_are_found_by_those_who_need_them_and_nobody_panics() {
    let (folder, id) = filled().await;
    let good = fs::read(file(folder.path())).unwrap();
    let pages = good.len() as u64 / PAGE;
    let parts = 12;
    let mut found = 0;
    for part in 0..parts {
        // The first page has the header; each part of the rest is damaged in turn.
        let from = 1 + (pages - 1) * part / parts;
        let until = 1 + (pages - 1) * (part + 1) / parts;
        let damaged = TempDir::new().unwrap();
        fs::write(file(damaged.path()), &good).unwrap();
        overwrite(&file(damaged.path()), from * PAGE, &vec![0xAA; ((until - from) * PAGE) as usize]);
        let errors = match connect(damaged.path(), true).await {
            Ok(store) => {
                let errors = use_all(&store, id).await;
                // What was seen stays known, though the next call may need other pages.
                let damage = errors.iter().any(StoreError::is_transient);
                assert_eq!(store.ping().await.is_err(), damage, "readiness knows");
                errors
            }
            Err(error) => vec![error],
        };
        for error in &errors {
            match error {
                // Within a long text only its letters are wrong: a row that can't be read.
                StoreError::Defect { .. } => {}
                other => assert_damaged(other, damaged.path()),
            }
        }
        found += usize::from(errors.iter().any(StoreError::is_transient));
    }
    assert!(found > 6, "only {found} of {parts} parts were missed");
}

/// Every kind of call once; what went wrong.
async fn use_all(store: &Store, id: NotificationId) -> Vec<StoreError> {
    let mut errors = Vec::new();
    let mut note = |error: Option<StoreError>| errors.extend(error);
    note(store.subscribe(phone("user 1", "new")).await.err());
    note(store.list(&app(), &user("user 2")).await.err());
    note(store.intake(vec![request("user 3", "new")], 1, LONG, to_each).await.err());
    let due = store.due(DispatchQueue::High, 50, OVER).await;
    let taken = store.take(due.as_deref().unwrap_or_default(), LONG).await;
    note(due.err());
    let records: Vec<Record> = taken.iter().flatten().map(|taken| ending(taken, State::Accepted)).collect();
    note(taken.err());
    note(store.record(&records).await.err());
    let receipts: Vec<Receipt> =
        records.iter().map(|record| Receipt { by: By::Delivery(record.delivery), received_at: None }).collect();
    note(store.receipts(&receipts).await.err());
    note(store.withdraw(&app(), id).await.err());
    note(store.claim_fanout(10, LONG).await.err());
    note(store.trace(&app(), id).await.err());
    note(store.open_count(&app()).await.err());
    note(store.stats().await.err());
    note(store.pauses().await.err());
    note(store.resume(&app(), Provider::Apns, LONG).await.err());
    note(store.outbox_claim(1_000, OVER).await.err());
    note(store.dead_page(&DeadFilter::default(), DeadPage::NewestBefore(None), 10).await.err());
    note(store.sweep(1_000, OVER).await.err());
    note(store.sync_clock().await.err());
    errors
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_programs_file_is_named_and_left_alone() {
    let folder = TempDir::new().unwrap();
    crate::look_into(folder.path()).execute_batch("CREATE TABLE mine (a); INSERT INTO mine VALUES (1)").unwrap();
    let before = fs::read(file(folder.path())).unwrap();
    let error = connect(folder.path(), true).await.unwrap_err();
    assert!(matches!(error, StoreError::File { .. }) && !error.is_transient(), "{error:?}");
    assert_says(&error, folder.path(), "not Herald's; give another folder");
    assert_eq!(fs::read(file(folder.path())).unwrap(), before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing was made beside it");
}

const READ_ONLY: &str = "damage::a_file_that_this_user_may_only_read_says_so";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_this_user_may_only_read_says_so() {
    if let Some(folder) = as_child() {
        for leads in [true, false] {
            let error = connect(&folder, leads).await.unwrap_err();
            assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
            assert_says(&error, &folder, "let this user write it and its folder");
        }
        return;
    }
    let (folder, _) = filled().await;
    for entry in fs::read_dir(folder.path()).unwrap() {
        fs::set_permissions(entry.unwrap().path(), Permissions::from_mode(0o444)).unwrap();
    }
    fs::set_permissions(folder.path(), Permissions::from_mode(0o555)).unwrap();
    let binary = std::env::current_exe().unwrap();
    // Rights don't bind root, so the test goes on as nobody, from where nobody may run it.
    let bare = TempDir::new().unwrap();
    let command = if fs::metadata(folder.path()).unwrap().uid() == 0 {
        fs::set_permissions(bare.path(), Permissions::from_mode(0o755)).unwrap();
        let copy = bare.path().join("test");
        fs::copy(binary, &copy).unwrap();
        child(&copy, READ_ONLY, folder.path()).uid(65_534).current_dir("/").output()
    } else {
        child(&binary, READ_ONLY, folder.path()).output()
    };
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let output = command.unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{told}{}", String::from_utf8_lossy(&output.stderr));
}
