//! Replays the corpus of every fuzz target, so that what was found once is never found again.

#![allow(clippy::unwrap_used, reason = "what can't go on in a test fails it")]

use std::path::{Path, PathBuf};

use herald_fuzzed::TARGETS;

fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut inputs: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    inputs
}

#[test]
fn every_input_of_the_corpus_holds() {
    for (name, run) in TARGETS {
        let inputs = corpus(name);
        assert!(inputs.len() >= 5, "fuzz/corpus/{name} has {} inputs", inputs.len());
        for input in inputs {
            let data = std::fs::read(&input).unwrap();
            let held = std::panic::catch_unwind(|| run(&data));
            assert!(held.is_ok(), "{} does not hold", input.display());
        }
    }
}

#[test]
fn each_target_is_in_the_fuzz_crate_under_its_name() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in fuzz/Cargo.toml");
        // That crate needs another toolchain and is built by hand only: a renamed function must be noticed here.
        let target = std::fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(target.contains(&format!("herald_fuzzed::{name}(data)")), "fuzz_targets/{name}.rs runs something else");
    }
}
