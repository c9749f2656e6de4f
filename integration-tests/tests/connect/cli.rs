//! The program, run to its end.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use syncline_integration_tests::stack;
use tokio::process::Command;

/// More than any verb is allowed to take here.
const LIMIT: Duration = Duration::from_secs(240);

/// What a run left behind.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    what: String,
}

impl Run {
    /// Fails unless it ended with `code`.
    pub(crate) fn ended(self, code: i32) -> Result<Self> {
        ensure!(
            self.code == code,
            "{} ended with {}, not {code}:\n{}{}",
            self.what,
            self.code,
            self.stdout,
            self.stderr
        );
        Ok(self)
    }

    /// Fails unless it said all of `words`, wherever.
    pub(crate) fn said(self, words: &[&str]) -> Result<Self> {
        for word in words {
            let found = self.stdout.contains(word) || self.stderr.contains(word);
            ensure!(found, "{} does not say '{word}':\n{}{}", self.what, self.stdout, self.stderr);
        }
        Ok(self)
    }

    /// Fails if it said `word` anywhere.
    pub(crate) fn kept(self, word: &str) -> Result<Self> {
        let told = self.stdout.contains(word) || self.stderr.contains(word);
        ensure!(!told, "{} tells '{word}':\n{}{}", self.what, self.stdout, self.stderr);
        Ok(self)
    }

    /// Standard output as JSON.
    pub(crate) fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("{} printed no JSON:\n{}", self.what, self.stdout))
    }
}

/// Runs `syncline connectors …`.
pub(crate) async fn connectors(arguments: &[&str]) -> Result<Run> {
    connectors_in(&[], arguments).await
}

/// Runs `syncline connectors …` with variables of its environment set.
pub(crate) async fn connectors_in(environment: &[(&str, &str)], arguments: &[&str]) -> Result<Run> {
    let what = format!("syncline connectors {}", arguments.join(" "));
    let mut command = Command::new(stack::program()?);
    command.arg("connectors").args(arguments).envs(environment.iter().copied()).env("RUST_BACKTRACE", "1");
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output()).await.with_context(|| format!("{what} goes on"))??;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let code = output.status.code().unwrap_or(-1);
    Ok(Run { code, stdout: text(output.stdout), stderr: text(output.stderr), what })
}

/// Connectors that a test registers. One that fails must not leave them to the worker, which would go on with them.
pub(crate) struct Registered(pub(crate) Vec<String>);

impl Drop for Registered {
    fn drop(&mut self) {
        let Ok(program) = stack::program() else { return };
        for name in &self.0 {
            let mut command = std::process::Command::new(&program);
            command.args(["connectors", "delete", name, "--yes", "--wait", "10s"]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().ok();
        }
    }
}
