//! `herald subscriptions import` and `export`: from a file and to one, on servers and on files.

use std::fmt::Write as _;
use std::process::Stdio;

use herald_core::ids::{AppId, UserId};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::world::{APP, LIMIT, World, until};

/// A row of an Android phone.
fn row(n: usize) -> String {
    format!("{APP},user {n},android,token-{n}\n")
}

/// Everything that `world` exports, with its push tokens.
async fn exported(world: &World, format: &str) -> Vec<String> {
    let output = world.herald(&["subscriptions", "export", "--app", APP, "--format", format]).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    output.stdout.lines().map(str::to_owned).collect()
}

/// A file is imported with its bad lines named, exported in both formats, and imported elsewhere under the same ids.
async fn moved(from: &World, to: &World) {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let bad = format!("{APP},anna,ios,s3cret\nnobody.example,anna,android,t\n");
    let csv = format!("app,user,platform,token\n{}{bad}{}", row(1), row(2));
    let imported = from.herald(&["subscriptions", "import", &file("rows.csv", &csv), "--json"]).await;
    assert_eq!(imported.code, Some(1), "bad lines are a failure: {imported:?}");
    let counts: Value = serde_json::from_str(&imported.stdout).unwrap();
    assert_eq!(counts, json!({ "added": 2, "known": 0, "superseded": 0, "bad": 2, "lastLine": 5 }));
    for told in ["line 3: token: is no APNs device token", "line 4: app: no such app is configured"] {
        assert!(imported.stderr.contains(told), "nothing of {told}: {imported:?}");
    }
    assert!(!imported.stderr.contains("s3cret"), "a push token was told: {imported:?}");

    let csv = exported(from, "csv").await;
    assert_eq!(csv[0], "app,user,platform,token,tokenKind,environment,unsid,expiresAt");
    assert!(
        csv.len() == 3 && csv[1].starts_with(&format!("{APP},user 1,Android,token-1,token,production,")),
        "{csv:?}"
    );
    let lines = exported(from, "jsonl").await;
    let (csv_file, lines_file) = (file("out.csv", &csv.join("\n")), file("out.jsonl", &lines.join("\n")));
    for (file, told) in [
        (&csv_file, "2 added, 0 known already, 0 superseded here, 0 bad; last line 3"),
        (&lines_file, "0 added, 2 known already, 0 superseded here, 0 bad; last line 2"),
    ] {
        let imported = to.herald(&["subscriptions", "import", file]).await;
        assert_eq!((imported.code, imported.stdout.trim()), (Some(0), told), "{imported:?}");
    }
    assert_eq!(exported(to, "csv").await, csv, "the same ids, tokens and ends");
}

#[tokio::test]
async fn subscriptions_move_from_files_to_servers_and_back_under_their_ids() {
    let files = World::of().on_files().workers(0).start().await;
    let servers = World::of().workers(0).start().await;
    moved(&files, &servers).await;
    files.finish().await;
    let others = World::of().on_files().workers(0).start().await;
    let (known, stored) = (exported(&servers, "csv").await, tempfile::NamedTempFile::new().unwrap());
    std::fs::write(stored.path(), known.join("\n")).unwrap();
    let path = stored.path().display().to_string();
    let imported = others.herald(&["subscriptions", "import", &path, "--format", "csv"]).await;
    assert_eq!(imported.code, Some(0), "{imported:?}");
    assert_eq!(exported(&others, "csv").await, known);
    servers.finish().await;
    others.finish().await;
}

#[tokio::test]
async fn an_import_that_is_broken_off_says_where_to_go_on_and_has_all_before() {
    /// One transaction's rows.
    const STEP: usize = herald_store::IMPORT_STEP;
    let world = World::of().workers(0).start().await;
    let mut csv = "app,user,platform,token\n".to_owned();
    (0..STEP + 10).for_each(|n| csv.write_str(&row(n)).unwrap());
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_herald"));
    command.args(["subscriptions", "import", "-"]).envs(world.env()).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut import = command.spawn().unwrap();
    let pid = import.id().unwrap().to_string();
    // Its end does not come: the second transaction is waited for when the signal comes.
    let mut stdin = import.stdin.take().unwrap();
    stdin.write_all(csv.as_bytes()).await.unwrap();
    let app = AppId::new(APP);
    until("the first transaction", async || {
        world.store().export(Some(&app), None, 10_000).await.is_ok_and(|rows| rows.len() == STEP)
    })
    .await;
    let told = tokio::process::Command::new("kill").args(["-s", "TERM", &pid]).status().await.unwrap();
    assert!(told.success());
    let output = tokio::time::timeout(LIMIT, import.wait_with_output()).await.unwrap().unwrap();
    drop(stdin);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let next = (STEP + 2).to_string();
    assert!(stderr.contains(&format!("go on with --from-line {next}")), "{stderr}");

    let file = tempfile::NamedTempFile::with_suffix(".csv").unwrap();
    std::fs::write(file.path(), &csv).unwrap();
    let path = file.path().display().to_string();
    let rest = world.herald(&["subscriptions", "import", &path, "--from-line", &next]).await;
    assert!(rest.code == Some(0) && rest.stdout.starts_with("10 added, 0 known already"), "{rest:?}");
    let last = UserId::new(format!("user {}", STEP + 9));
    assert_eq!(world.store().list(&app, &last).await.unwrap().len(), 1);
    world.finish().await;
}
