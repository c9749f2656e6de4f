//! One token that tells every task to finish what it has in hand and end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};

/// Signals this close together are one: `timeout` and many supervisors signal both the process and its group.
const SAME: Duration = Duration::from_secs(1);

/// A request to end, seen by every clone.
#[derive(Debug, Clone)]
pub struct Shutdown {
    requested: Arc<watch::Sender<bool>>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// A token that only [`Shutdown::trigger`] sets.
    #[must_use]
    pub fn new() -> Self {
        Self { requested: Arc::new(watch::Sender::new(false)) }
    }

    /// A token set by the first SIGTERM or SIGINT. A second one, later than [`SAME`], ends the process at once, with
    /// 128 + signal number.
    ///
    /// # Errors
    ///
    /// The operating system refused the signal handlers.
    pub fn on_signals() -> std::io::Result<Self> {
        let shutdown = Self::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let token = shutdown.clone();
        tokio::spawn(async move {
            let mut first = None;
            loop {
                let (name, number) = tokio::select! {
                    _ = terminate.recv() => ("SIGTERM", SignalKind::terminate().as_raw_value()),
                    _ = interrupt.recv() => ("SIGINT", SignalKind::interrupt().as_raw_value()),
                };
                if first.is_some_and(|first: Instant| first.elapsed() < SAME) {
                    continue;
                }
                if token.is_requested() {
                    warn!(signal = name, "second signal, ending at once");
                    std::process::exit(128 + number);
                }
                info!(signal = name, "shutting down, a second signal ends at once");
                token.trigger();
                first = Some(Instant::now());
            }
        });
        Ok(shutdown)
    }

    /// Asks everyone to end.
    pub fn trigger(&self) {
        self.requested.send_replace(true);
    }

    /// Whether the end was asked for.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.requested.borrow()
    }

    /// Returns once the end was asked for. Cancel safe.
    pub async fn wait(&self) {
        let mut requested = self.requested.subscribe();
        // The sender lives in `self`, so this cannot fail.
        if requested.wait_for(|requested| *requested).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_sees_the_request_before_and_after_it() {
        let shutdown = Shutdown::new();
        assert!(!shutdown.is_requested());
        let waiter = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.wait().await }
        });
        shutdown.clone().trigger();
        waiter.await.unwrap();
        shutdown.wait().await;
        assert!(shutdown.is_requested());
    }
}
