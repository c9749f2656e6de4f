//! What to do about an error: decided here and nowhere else.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use tracing::warn;

use crate::shutdown::Shutdown;

/// Every I/O error answers with one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The other side is away or busy: back off and try again for as long as it takes; the offset stays.
    Transient,
    /// This record (or its table) cannot be applied: its partition stops, the others go on.
    BadRecord,
    /// The process cannot go on: stop, say what to do, exit non-zero.
    Fatal,
}

/// What a caller does about an error of some class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Pause with a [`Backoff`] and do the same thing again; partitions stay paused meanwhile.
    TryAgain,
    /// Stop the record's partition (and with it its table there); other partitions go on.
    StopPartition,
    /// End the process with the error's text and a non-zero exit status.
    StopProcess,
}

impl ErrorClass {
    /// The one table from class to action.
    #[must_use]
    pub const fn action(self) -> Action {
        match self {
            Self::Transient => Action::TryAgain,
            Self::BadRecord => Action::StopPartition,
            Self::Fatal => Action::StopProcess,
        }
    }
}

/// An error that knows its class.
pub trait Classified: std::error::Error {
    /// The error's class.
    fn class(&self) -> ErrorClass;
}

/// Growing pauses between attempts: each twice the one before up to a limit, each drawn from its upper half so that
/// processes which failed together do not come back together.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    limit: Duration,
    next: Duration,
    random: u64,
}

impl Default for Backoff {
    /// From 100 ms to 30 s.
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(30))
    }
}

impl Backoff {
    /// Pauses from `first` to `limit`.
    #[must_use]
    pub fn new(first: Duration, limit: Duration) -> Self {
        let random = RandomState::new().build_hasher().finish() | 1;
        Self { first, limit, next: first.min(limit), random }
    }

    /// The next pause; every call lengthens the one after it.
    pub fn next_pause(&mut self) -> Duration {
        let full = self.next;
        self.next = (full * 2).min(self.limit);
        // xorshift: spreading attempts needs no better randomness.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let half = full / 2;
        half + half.mul_f64((self.random >> 11) as f64 / (1_u64 << 53) as f64)
    }

    /// Starts again from the shortest pause: call it after a success.
    pub fn reset(&mut self) {
        self.next = self.first.min(self.limit);
    }

    /// Waits out the next pause. False: a shutdown was requested meanwhile, do not try again.
    ///
    /// Cancel safe.
    pub async fn wait(&mut self, shutdown: &Shutdown) -> bool {
        let pause = self.next_pause();
        tokio::select! {
            () = shutdown.wait() => false,
            () = tokio::time::sleep(pause) => !shutdown.is_requested(),
        }
    }
}

/// Why [`until_done`] came back without a result.
#[derive(Debug)]
pub enum GaveUp<E> {
    /// The attempt failed with an error that trying again does not cure.
    Failed(E),
    /// A shutdown was requested; the last error is what was being waited out.
    Stopped(E),
}

impl<E> GaveUp<E> {
    /// The last attempt's error, whatever the reason for giving up.
    pub fn into_error(self) -> E {
        match self {
            Self::Failed(error) | Self::Stopped(error) => error,
        }
    }
}

impl<E: fmt::Display> fmt::Display for GaveUp<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::Stopped(error) => write!(f, "shut down while waiting: {error}"),
        }
    }
}

impl<E: std::error::Error> std::error::Error for GaveUp<E> {}

/// Repeats `attempt` while it fails with [`ErrorClass::Transient`], with growing pauses, until it succeeds, fails
/// otherwise, or a shutdown is requested. `what` names the attempt in the log.
///
/// # Errors
///
/// The last attempt's error, as [`GaveUp`].
///
/// Cancel safe as far as `attempt` is.
pub async fn until_done<T, E, F, Fut>(what: &str, shutdown: &Shutdown, mut attempt: F) -> Result<T, GaveUp<E>>
where
    E: Classified,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let mut backoff = Backoff::default();
    loop {
        let error = match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        if error.class() != ErrorClass::Transient {
            return Err(GaveUp::Failed(error));
        }
        warn!(%error, "{what} failed, trying again");
        if !backoff.wait(shutdown).await {
            return Err(GaveUp::Stopped(error));
        }
    }
}

/// How often a start asks for what may be starting too.
const TRIES_AT_START: u32 = 5;

/// Repeats `attempt` a few times over some seconds while it fails with [`ErrorClass::Transient`]: enough for a server
/// that is just coming up, and soon enough for a person who waits for the message. `what` names the attempt in the log.
///
/// # Errors
///
/// The last attempt's error.
///
/// Cancel safe as far as `attempt` is.
pub async fn at_start<T, E, F, Fut>(what: &str, mut attempt: F) -> Result<T, E>
where
    E: Classified,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(2));
    for _ in 1..TRIES_AT_START {
        match attempt().await {
            Err(error) if error.class() == ErrorClass::Transient => warn!(%error, "{what} failed, trying again"),
            done => return done,
        }
        tokio::time::sleep(backoff.next_pause()).await;
    }
    attempt().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("failed")]
    struct Failure(ErrorClass);

    impl Classified for Failure {
        fn class(&self) -> ErrorClass {
            self.0
        }
    }

    #[test]
    fn pauses_grow_to_the_limit_and_start_again() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for full in [100, 200, 400, 800, 1000, 1000] {
            let pause = backoff.next_pause().as_millis();
            assert!(pause >= full / 2 && pause <= full, "{pause} of {full}");
        }
        backoff.reset();
        assert!(backoff.next_pause() <= Duration::from_millis(100));
    }

    #[tokio::test]
    async fn transient_errors_are_retried_and_others_are_not() {
        let shutdown = Shutdown::new();
        let mut attempts = 0;
        let done = until_done("a test", &shutdown, || {
            attempts += 1;
            let result = if attempts < 3 { Err(Failure(ErrorClass::Transient)) } else { Ok(attempts) };
            async move { result }
        });
        assert_eq!(done.await.unwrap(), 3);
        let failed = until_done("a test", &shutdown, || async { Err::<(), _>(Failure(ErrorClass::Fatal)) }).await;
        assert!(matches!(failed, Err(GaveUp::Failed(_))));
    }

    #[tokio::test]
    async fn a_shutdown_ends_the_wait() {
        let shutdown = Shutdown::new();
        shutdown.trigger();
        let stopped = until_done("a test", &shutdown, || async { Err::<(), _>(Failure(ErrorClass::Transient)) }).await;
        assert!(matches!(stopped, Err(GaveUp::Stopped(_))));
    }
}
