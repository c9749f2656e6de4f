//! A `syncline` process: its log, its signals, and its end within a time.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// A started process. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` with standard output and standard error going to the file `log`.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn start<A: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        arguments: &[A],
        environment: &[(&str, &str)],
        log: &Path,
    ) -> Result<Self> {
        let file = File::create(log)?;
        let child = Command::new(program)
            .args(arguments)
            .envs(environment.iter().copied())
            .env("NO_COLOR", "1")
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Whether it is still there.
    ///
    /// # Errors
    ///
    /// The operating system does not say.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Fails with the end of the log if it has ended.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn expect_running(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended with {status}:\n{}", self.name, tail(&self.log()));
        }
        Ok(())
    }

    /// Sends a signal by name: `TERM`, `KILL`, `STOP`, `CONT`.
    ///
    /// # Errors
    ///
    /// It is not there any more.
    pub fn signal(&self, name: &str) -> Result<()> {
        let status = Command::new("kill").args(["-s", name, &self.id().to_string()]).status()?;
        ensure!(status.success(), "{} (pid {}) did not take the signal {name}", self.name, self.id());
        Ok(())
    }

    /// Ends it as a crash would, and waits until it is gone.
    ///
    /// # Errors
    ///
    /// The operating system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// It has not ended in that time.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("{} has not ended within {limit:?}:\n{}", self.name, tail(&self.log()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for its end and checks the exit code. Returns what it said.
    ///
    /// # Errors
    ///
    /// Another exit code, or no end in that time.
    pub async fn expect_exit(&mut self, code: i32, limit: Duration) -> Result<String> {
        let status = self.wait(limit).await?;
        let log = self.log();
        ensure!(status.code() == Some(code), "{} ended with {status}, not {code}:\n{}", self.name, tail(&log));
        Ok(log)
    }

    /// SIGTERM, and exit code 0. That it ends within the 10 s that are promised is for itself to see to: what hangs
    /// longer ends with another code. Here is only the machine's slowness waited for.
    ///
    /// # Errors
    ///
    /// Any other end.
    pub async fn stop(&mut self) -> Result<()> {
        self.signal("TERM")?;
        self.expect_exit(0, Duration::from_secs(60)).await?;
        Ok(())
    }

    /// Waits until it has said something.
    ///
    /// # Errors
    ///
    /// It ends before, or does not say it in that time.
    pub async fn said(&mut self, text: &str, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !self.log().contains(text) {
            self.expect_running()?;
            ensure!(
                Instant::now() < deadline,
                "{} has not said '{text}' within {limit:?}:\n{}",
                self.name,
                tail(&self.log())
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// CPU seconds so far and peak resident memory in bytes, from `/proc`.
    ///
    /// # Errors
    ///
    /// It has ended, or this is not Linux.
    pub fn usage(&self) -> Result<(f64, u64)> {
        usage(self.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// CPU seconds and peak resident memory in bytes of a process (proc(5): `stat` fields 14 and 15 in ticks of 10 ms,
/// `VmHWM` of `status`).
///
/// # Errors
///
/// It has ended, or this is not Linux.
pub fn usage(id: u32) -> Result<(f64, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    let after_name = stat.rsplit_once(") ").context("no process name in stat")?.1;
    let ticks: u32 = after_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM in status")?;
    let kilobytes: u64 = peak.trim().trim_end_matches(" kB").parse()?;
    Ok((f64::from(ticks) / 100.0, kilobytes * 1024))
}

/// The end of a log, enough to see what happened.
#[must_use]
pub fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}
