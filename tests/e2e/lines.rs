//! A process of another language that is told what to do, and answers, by lines of JSON.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::world::LIMIT;

/// The running process; ended when dropped.
pub(crate) struct ByLines {
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl ByLines {
    /// `node` with a script, started in a folder that has its packages.
    pub(crate) fn node(script: &Path, folder: &Path, env: &[(&str, String)]) -> Self {
        let mut command = Command::new("node");
        command.arg(script).current_dir(folder).envs(env.iter().map(|(name, value)| (name, value)));
        // What it says besides goes where a failed test shows it.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
        let mut process = command.spawn().expect("node is installed (./test --install-servers does it)");
        let stdin = process.stdin.take().expect("piped");
        let stdout = BufReader::new(process.stdout.take().expect("piped")).lines();
        Self { stdin, stdout, _process: process }
    }

    /// Tells it one thing, and waits for its answer.
    pub(crate) async fn ask(&mut self, command: &Value) -> Value {
        let answered = timeout(LIMIT, async {
            self.stdin.write_all(format!("{command}\n").as_bytes()).await.unwrap();
            self.stdout.next_line().await.unwrap()
        });
        let line = answered.await.expect("it answers").unwrap_or_else(|| panic!("it ended instead of answering"));
        serde_json::from_str(&line).unwrap()
    }
}
