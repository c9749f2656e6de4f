//! The producer's lives: each from its checkpoint to an end, one after another until somebody has to act.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::PgConnection;
use syncline_runtime::retry::{Backoff, ErrorClass};
use syncline_runtime::shutdown::Shutdown;
use tokio::sync::watch;

use crate::checkpoint::TopicCheckpoint;
use crate::config::ProducerConfig;
use crate::context::Context;
use crate::error::ProducerError;
use crate::incremental::run::Heard;
use crate::life::{Life, begin};
use crate::place::Place;
use crate::sources::postgres::pgoutput::{self, Logical, Message};
use crate::sources::postgres::slot;
use crate::sources::postgres::transport::{Incoming, ReplicationTransport};
use crate::stats::Stats;
use crate::stream::Stream;

/// How often acknowledgements are looked at while messages flow.
const HOUSEKEEPING: Duration = Duration::from_millis(100);

/// Messages between two looks at the clock.
const MESSAGES_A_LOOK: u32 = 256;

/// How long the end of a process may take to see its records acknowledged.
const LAST_ACKNOWLEDGEMENTS: Duration = Duration::from_secs(5);

/// How long the end of a process may take to see the slot moved.
const LAST_CONFIRMATION: Duration = Duration::from_secs(3);

/// What one run is asked to do beside running.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// End once everything committed in the source before the start is acknowledged by Kafka.
    pub until_caught_up: bool,
    /// Becomes true once that is so, for those that need the producer to go on until they have followed.
    pub caught_up: Option<watch::Sender<bool>>,
    /// Counters for a display.
    pub stats: Arc<Stats>,
}

/// Captures, publishes and confirms until the shutdown, an error that only a person can mend, or, if asked, until
/// caught up. Boxed, so that its code is generated here and not in each program that awaits it.
///
/// # Errors
///
/// What a person has to mend, with the remedy in its text. Outages of a server that was there at the start are waited
/// out; what does not work at the start is reported at once.
pub fn run(
    config: ProducerConfig,
    options: RunOptions,
    shutdown: Shutdown,
) -> BoxFuture<'static, Result<(), ProducerError>> {
    Box::pin(produce(config, options, shutdown))
}

async fn produce(config: ProducerConfig, options: RunOptions, shutdown: Shutdown) -> Result<(), ProducerError> {
    let config = Arc::new(config);
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
    let mut has_lived = false;
    loop {
        let started = Instant::now();
        let error = match live(&config, &options, &shutdown, &mut has_lived).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if error.class() != ErrorClass::Transient || !(has_lived || matches!(error, ProducerError::SlotInUse { .. })) {
            return Err(error);
        }
        if started.elapsed() > Duration::from_secs(60) {
            backoff.reset();
        }
        if matches!(error, ProducerError::SlotInUse { .. }) {
            tracing::info!(%error, "standing by");
        } else {
            tracing::warn!(%error, "capture is interrupted and goes on from the last checkpoint");
        }
        if !backoff.wait(&shutdown).await {
            return Ok(());
        }
    }
}

/// One life: begins, perhaps copies, follows the log. `has_lived` is set once it streams.
async fn live(
    config: &Arc<ProducerConfig>,
    options: &RunOptions,
    shutdown: &Shutdown,
    has_lived: &mut bool,
) -> Result<(), ProducerError> {
    let life = tokio::select! {
        life = Box::pin(begin(config, &options.stats)) => match life? {
            Some(life) => life,
            None => return Ok(()),
        },
        // Whatever was begun starts over: a snapshot is resumed by no one.
        () = shutdown.wait() => return Ok(()),
    };
    *has_lived = true;
    let goal = (options.until_caught_up || options.caught_up.is_some()).then_some(life.goal);
    let Life { mut context, mut session, mut place, mut stream, .. } = life;
    let began_at = options.stats.confirmed_lsn.load(Ordering::Relaxed);
    let mut followed = follow(&mut context, &mut session, &mut place, &mut stream, goal, shutdown).await;
    if let (Ok(()), Some(caught_up)) = (&followed, options.caught_up.as_ref().filter(|_| !shutdown.is_requested())) {
        caught_up.send_replace(true);
        if !options.until_caught_up {
            followed = follow(&mut context, &mut session, &mut place, &mut stream, None, shutdown).await;
        }
    }
    if let Err(error) = followed {
        context.publisher.abandon();
        return Err(error);
    }
    // Everything enqueued becomes acknowledged, the checkpoint follows, the slot follows it.
    let finish = async {
        context.publisher.drained().await?;
        // A checkpoint that was on its way may be reached by the first step, one that is written by it by the second.
        let first = place.advance(&context.publisher, || topics(&stream), true).await?;
        context.publisher.drained().await?;
        if let Some(lsn) = place.advance(&context.publisher, || topics(&stream), true).await?.or(first) {
            session.confirm(lsn);
            options.stats.confirmed_lsn.store(lsn, Ordering::Relaxed);
        }
        Ok::<(), ProducerError>(())
    };
    match tokio::time::timeout(LAST_ACKNOWLEDGEMENTS, finish).await {
        Ok(result) => result?,
        Err(_) => tracing::warn!("kafka did not acknowledge in time; the next start repeats what is not acknowledged"),
    }
    context.publisher.abandon();
    let ended_at = options.stats.confirmed_lsn.load(Ordering::Relaxed);
    if ended_at > began_at
        && tokio::time::timeout(LAST_CONFIRMATION, noted(&mut context.control, config, ended_at)).await.is_err()
    {
        tracing::warn!("the slot does not show the last position in time; the next start passes over what is repeated");
    }
    session.close().await
}

/// Waits until the slot shows a position that was confirmed: the session reports it within its interval.
async fn noted(control: &mut PgConnection, config: &ProducerConfig, lsn: u64) {
    while let Ok(Some(slot)) = slot::find(control, &config.slot).await
        && slot.confirmed_lsn < lsn
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn topics(stream: &Stream) -> BTreeMap<String, TopicCheckpoint> {
    stream.tables().iter().map(|table| (table.topic.name().to_owned(), table.checkpoint())).collect()
}

/// What the loop goes on with.
enum Next {
    Incoming(Incoming),
    Heard(Heard),
    Nothing,
}

/// Follows the log until the shutdown or the goal.
async fn follow(
    context: &mut Context,
    session: &mut impl ReplicationTransport,
    place: &mut Place,
    stream: &mut Stream,
    goal: Option<u64>,
    shutdown: &Shutdown,
) -> Result<(), ProducerError> {
    let mut looked = Instant::now();
    let mut since_look = 0;
    loop {
        let next = if stream.incremental.is_quiet() {
            // The stream waits for the rows that are being read.
            tokio::select! {
                heard = stream.incremental.hear() => Next::Heard(heard),
                () = shutdown.wait() => return Ok(()),
                () = tokio::time::sleep(HOUSEKEEPING) => Next::Nothing,
            }
        } else if let Some(incoming) = session.next().now_or_never() {
            // Under load the next message is there already: no timer, no waiting.
            Next::Incoming(incoming?)
        } else {
            tokio::select! {
                biased;
                incoming = session.next() => Next::Incoming(incoming?),
                heard = stream.incremental.hear() => Next::Heard(heard),
                () = shutdown.wait() => return Ok(()),
                () = tokio::time::sleep(HOUSEKEEPING) => Next::Nothing,
            }
        };
        match next {
            Next::Incoming(incoming) => take(context, place, stream, incoming).await?,
            Next::Heard(heard) => stream.hear(context, heard).await?,
            Next::Nothing => since_look = MESSAGES_A_LOOK,
        }
        if let Some(state) = stream.incremental.take_changed() {
            place.note(&context.publisher, state);
        }
        since_look += 1;
        if since_look < MESSAGES_A_LOOK || (looked.elapsed() < HOUSEKEEPING && goal.is_none()) {
            continue;
        }
        (since_look, looked) = (0, Instant::now());
        if shutdown.is_requested() {
            return Ok(());
        }
        context.publisher.failure()?;
        stream.look_around(context).await?;
        stream.beside.beat(context).await?;
        if let Some(lsn) = place.advance(&context.publisher, || topics(stream), false).await? {
            session.confirm(lsn);
            context.stats.confirmed_lsn.store(lsn, Ordering::Relaxed);
        }
        if goal.is_some_and(|goal| place.acknowledged() >= goal) && stream.incremental.is_done() {
            return Ok(());
        }
    }
}

async fn take(
    context: &mut Context,
    place: &mut Place,
    stream: &mut Stream,
    incoming: Incoming,
) -> Result<(), ProducerError> {
    let finished = match &incoming {
        Incoming::Data { wal_start, bytes } => {
            let message = pgoutput::decode(bytes).map_err(|error| ProducerError::Protocol(error.to_string()))?;
            stream.take(context, *wal_start, message).await?
        }
        Incoming::Begin(begin) => stream.take(context, 0, Message::Begin(*begin)).await?,
        Incoming::Commit(commit) => stream.take(context, 0, Message::Commit(*commit)).await?,
        Incoming::Logical { transactional, lsn, prefix, content } => {
            let message = Logical { transactional: *transactional, lsn: *lsn, prefix, content };
            stream.take(context, *lsn, Message::Logical(message)).await?
        }
        // Between transactions the server's position stands for everything that does not concern the slot; without
        // it a quiet database on a busy server would hold the log for ever.
        Incoming::KeepAlive { wal_end } => {
            context.stats.server_lsn.fetch_max(*wal_end, Ordering::Relaxed);
            if stream.is_between_transactions() {
                stream.boundary(context, *wal_end).await?;
            }
            stream.is_between_transactions().then_some(*wal_end)
        }
    };
    if let Some(lsn) = finished {
        context.stats.server_lsn.fetch_max(lsn, Ordering::Relaxed);
        place.pass(&context.publisher, lsn, stream.mark());
    }
    Ok(())
}
