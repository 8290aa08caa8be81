//! Rules about the repository that no compiler checks; each message says what to do.
//!
//! It reads the files that git knows or would add, or all files where there is no git, and `cargo metadata`. It never
//! builds or changes anything.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A module says what it is for, and no module is longer than this.
const MAX_LINES: usize = 600;

/// Our crates and which of ours each may use; `dev-dependencies` may use the harness and the simulator besides.
const MAY_USE: &[(&str, &[&str])] = &[
    ("herald-core", &[]),
    ("herald-metrics", &["herald-core"]),
    ("herald-sqlite", &[]),
    ("herald-queue", &["herald-core", "herald-metrics", "herald-sqlite"]),
    ("herald-store", &["herald-core", "herald-metrics", "herald-sqlite"]),
    ("herald-apns", &["herald-core", "herald-metrics"]),
    ("herald-fcm", &["herald-core", "herald-metrics"]),
    ("herald-worker", &["herald-core", "herald-metrics", "herald-queue", "herald-store", "herald-apns", "herald-fcm"]),
    ("herald-gateway", &["herald-core", "herald-metrics", "herald-queue", "herald-store"]),
    ("herald-simulator", &[]),
    (
        "herald",
        &[
            "herald-core",
            "herald-metrics",
            "herald-queue",
            "herald-store",
            "herald-apns",
            "herald-fcm",
            "herald-worker",
            "herald-gateway",
            "herald-simulator",
        ],
    ),
    ("herald-harness", &["herald-core", "herald-simulator"]),
    ("herald-fuzzed", &["herald-core", "herald-queue", "herald"]),
];

/// Outside crates that only some of ours may use outside their tests: what each crate is the only one to know.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("prometheus", &["herald-metrics"]),
    ("lapin", &["herald-queue", "herald-harness"]),
    ("sqlx", &["herald-store", "herald-harness"]),
    ("rusqlite", &["herald-sqlite"]),
    ("hyper", &["herald-apns", "herald-gateway", "herald-simulator", "herald"]),
    ("reqwest", &["herald-fcm", "herald-gateway", "herald", "herald-harness"]),
    ("axum", &["herald-gateway", "herald"]),
    ("jsonwebtoken", &["herald-apns", "herald-fcm", "herald-gateway", "herald-simulator", "herald"]),
    ("clap", &["herald"]),
    ("figment", &["herald"]),
    ("anyhow", &["herald", "herald-harness"]),
];

/// Names that say nothing about what a module is for.
const EMPTY_NAMES: &[&str] = &["utils", "util", "helpers", "helper", "common", "manager", "types", "misc"];

/// Marks of unfinished work, in two parts so that this file has none.
const UNFINISHED: &[(&str, &str)] =
    &[("TO", "DO"), ("FIX", "ME"), ("XX", "X"), ("todo", "!("), ("unimplemented", "!("), ("#[ig", "nore")];

/// Beginnings of paths of one person's machine, in two parts for the same reason.
const MACHINE_PATHS: &[(&str, &str)] = &[("/wo", "rk/"), ("/ro", "ot/"), ("/ho", "me/"), ("/Us", "ers/")];

/// Settings that name another registry than the public one.
const REGISTRIES: &[(&str, &str)] =
    &[("[source", ".crates-io]"), ("replace", "-with"), ("extra-", "index-url"), ("regis", "try-index")];

#[test]
fn every_module_opens_with_what_it_is_for_and_fits_its_limit() -> Result<()> {
    let mut faults = Vec::new();
    for (name, text) in rust()? {
        if !text.starts_with("//!") && !text.starts_with("#![doc = include_str!(") {
            faults.push(format!("{name}: open it with //! and say what it is for"));
        }
        let lines = text.lines().count();
        if lines > MAX_LINES {
            faults
                .push(format!("{name}: {lines} lines; split it so that each file holds one idea, {MAX_LINES} at most"));
        }
        let path = Path::new(&name);
        let folder = path.parent().and_then(Path::file_name);
        for part in [path.file_stem(), folder].into_iter().flatten() {
            if EMPTY_NAMES.iter().any(|empty| part == *empty) {
                faults.push(format!("{name}: {} says nothing; name the module for what it does", part.display()));
            }
        }
    }
    tidy(&faults)
}

/// A word of more than three parts is a test's name: the page has no others.
#[test]
fn every_test_that_the_page_about_providers_names_is_there() -> Result<()> {
    let page = std::fs::read_to_string(root().join("docs/providers.md"))?;
    let code: String = rust()?.into_iter().map(|(_, text)| text).collect();
    let named = page.split('`').filter(|word| {
        word.matches('_').count() > 3 && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    });
    let named: BTreeSet<&str> = named.collect();
    ensure!(named.len() > 50, "only {} tests are named in docs/providers.md", named.len());
    let missing = named.iter().filter(|name| !code.contains(&format!("fn {name}(")));
    tidy(&missing.map(|name| format!("docs/providers.md: there is no test {name}")).collect::<Vec<_>>())
}

#[test]
fn nothing_is_left_unfinished_or_switched_off() -> Result<()> {
    let mut faults = Vec::new();
    let suffixes = ["rs", "toml", "sh", "py", "yml", "yaml", "sql"];
    for (name, text) in files()?.into_iter().filter(|(name, _)| has_suffix(name, &suffixes)) {
        for mark in joined(UNFINISHED) {
            if let Some(line) = text.lines().position(|line| has_word(line, &mark)) {
                faults.push(format!("{name}:{}: {mark}: finish it, or open an issue and take it out", line + 1));
            }
        }
    }
    tidy(&faults)
}

#[test]
fn no_file_names_a_path_or_a_registry_of_one_machine() -> Result<()> {
    let mut faults = Vec::new();
    for (name, text) in files()? {
        if Path::new(&name).components().any(|part| part.as_os_str() == ".cargo") {
            faults.push(format!("{name}: cargo's settings of one machine don't belong here"));
        }
        for mark in joined(MACHINE_PATHS).into_iter().chain(joined(REGISTRIES)) {
            if let Some(line) = text.lines().position(|line| has_word(line, &mark)) {
                faults.push(format!("{name}:{}: {mark} is of one machine", line + 1));
            }
        }
    }
    let lock = std::fs::read_to_string(root().join("Cargo.lock"))?;
    let public = r#"source = "registry+https://github.com/rust-lang/crates.io-index""#;
    let others: BTreeSet<&str> = lock.lines().filter(|line| line.starts_with("source") && *line != public).collect();
    if !others.is_empty() {
        faults.push(format!("Cargo.lock: packages from elsewhere than crates.io: {others:?}"));
    }
    tidy(&faults)
}

#[test]
fn crates_depend_only_downwards_and_each_outside_party_is_known_to_its_own_crate() -> Result<()> {
    let mut faults = Vec::new();
    let packages = metadata()?;
    ensure!(
        packages.len() == MAY_USE.len(),
        "{} packages, {} in the table of this test",
        packages.len(),
        MAY_USE.len()
    );
    for package in &packages {
        let name = package["name"].as_str().context("a package has a name")?;
        let Some((_, may_use)) = MAY_USE.iter().find(|(known, _)| *known == name) else {
            faults.push(format!("{name}: add it to the table of this test, with what it may use"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let on = dependency["name"].as_str().context("a dependency has a name")?;
            let for_tests = dependency["kind"] == "dev";
            let ours = MAY_USE.iter().any(|(known, _)| *known == on);
            // A crate's tests may switch on a feature of the crate itself.
            let exempt = for_tests && (on == name || ["herald-harness", "herald-simulator"].contains(&on));
            if ours && !may_use.contains(&on) && !exempt {
                faults.push(format!("{name} uses {on}: dependencies point downwards; see docs/architecture.md"));
            }
            let confined = ONLY_IN.iter().find(|(outside, _)| *outside == on);
            if let Some((_, homes)) = confined.filter(|(_, homes)| !for_tests && !homes.contains(&name)) {
                faults.push(format!("{name} uses {on}: only {homes:?} may know it"));
            }
        }
    }
    tidy(&faults)
}

#[test]
fn every_metric_is_documented_and_every_alert_is_about_one() -> Result<()> {
    let mut metrics = BTreeSet::new();
    for (_, text) in rust()?.into_iter().filter(|(name, _)| name.starts_with("crates/herald-metrics/src/")) {
        metrics.extend(quoted_metrics(&text));
    }
    if metrics.is_empty() {
        return Ok(());
    }
    let path = root().join("docs/metrics.md");
    let documented = std::fs::read_to_string(&path).context("docs/metrics.md: it must describe every metric")?;
    let mut faults: Vec<String> = metrics
        .iter()
        .filter(|metric| !documented.contains(metric.as_str()))
        .map(|metric| format!("docs/metrics.md: {metric} is missing"))
        .collect();
    let alerts = files()?.into_iter().filter(|(name, _)| name.contains("alert") && has_suffix(name, &["yml", "yaml"]));
    for (name, text) in alerts {
        for word in words(&text).into_iter().filter(|word| word.starts_with("herald_")) {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word);
            if !metrics.contains(word) && !metrics.contains(base) {
                faults.push(format!("{name}: there is no metric {word}"));
            }
        }
    }
    tidy(&faults)
}

#[test]
fn the_searches_of_these_tests_find_what_they_look_for() {
    let mark = joined(&UNFINISHED[..1]).remove(0);
    assert!(has_word(&format!("// {mark}: later"), &mark));
    assert!(!has_word(&format!("METHODS{mark}NE"), &mark));
    let path = joined(&MACHINE_PATHS[..1]).remove(0);
    assert!(has_word(&format!("cd {path}main"), &path));
    assert!(!has_word(&format!("https://example.com{path}"), &path));
    let source = r#"counter("herald_pushes_total", "…"); label("provider"); log("herald starts");"#;
    assert_eq!(quoted_metrics(source), ["herald_pushes_total"]);
}

fn tidy(faults: &[String]) -> Result<()> {
    ensure!(faults.is_empty(), "{} to tidy up:\n{}", faults.len(), faults.join("\n"));
    Ok(())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The text files of the repository, by their path from its root.
fn files() -> Result<Vec<(String, String)>> {
    let git = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(root())
        .output();
    let names = match git {
        Ok(output) if output.status.success() => {
            String::from_utf8(output.stdout)?.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect()
        }
        _ => walk(&root())?,
    };
    ensure!(names.len() > 20, "only {} files found: this test sees nothing", names.len());
    // What git lists may have been deleted, and some files are no text.
    Ok(names
        .into_iter()
        .filter_map(|name| std::fs::read_to_string(root().join(&name)).ok().map(|text| (name, text)))
        .collect())
}

fn walk(root: &Path) -> Result<Vec<String>> {
    let (mut folders, mut names) = (vec![root.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                if entry.file_name() != "target" && entry.file_name() != ".git" {
                    folders.push(entry.path());
                }
            } else {
                names.push(entry.path().strip_prefix(root)?.to_string_lossy().into_owned());
            }
        }
    }
    Ok(names)
}

fn rust() -> Result<Vec<(String, String)>> {
    Ok(files()?.into_iter().filter(|(name, _)| has_suffix(name, &["rs"])).collect())
}

fn has_suffix(name: &str, suffixes: &[&str]) -> bool {
    Path::new(name).extension().is_some_and(|end| suffixes.iter().any(|suffix| end == *suffix))
}

fn metadata() -> Result<Vec<Value>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let mut all: Value = serde_json::from_slice(&output.stdout)?;
    match all["packages"].take() {
        Value::Array(packages) => Ok(packages),
        other => anyhow::bail!("cargo metadata: packages is {other}"),
    }
}

fn joined(parts: &[(&str, &str)]) -> Vec<String> {
    parts.iter().map(|(begin, end)| format!("{begin}{end}")).collect()
}

/// Whether the mark is in the line and isn't the middle of a longer word, name or URL.
fn has_word(line: &str, mark: &str) -> bool {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == '-';
    line.match_indices(mark).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + mark.len()..].chars().next();
        let whole = mark.ends_with(|letter: char| !is_part(letter)) || !after.is_some_and(is_part);
        whole && !before.is_some_and(|letter| is_part(letter) || letter == '.')
    })
}

fn words(text: &str) -> Vec<&str> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').collect()
}

/// String literals that are names of metrics.
fn quoted_metrics(source: &str) -> Vec<String> {
    let is_name = |text: &&str| {
        text.starts_with("herald_")
            && text.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_' || letter.is_ascii_digit())
    };
    source.split('"').filter(is_name).map(str::to_owned).collect()
}
