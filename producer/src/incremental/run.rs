//! The engine among the servers: questions to the reader, signals to the engine, rows and markers to Kafka.

use std::sync::Arc;

use syncline_event::header::Header;
use syncline_event::position::{Phase, Position};
use tokio::sync::mpsc;

use super::engine::{Answer, Due, Engine, Touch};
use super::reader::{Answered, Job, Reader};
use super::state::{Captured, State};
use crate::captured::{CapturedTable, syncline_header};
use crate::config::ProducerConfig;
use crate::context::Context;
use crate::emit::partition;
use crate::error::ProducerError;
use crate::node::before_sync;
use crate::publish::Record;
use crate::signals::topic::Received;
use crate::signals::{Signal, SignalError};

/// Bits of a position's number that count records; the term stands above them.
const COUNT_BITS: u32 = 40;

/// Something that came from outside the log.
pub(crate) enum Heard {
    /// The reader's answer.
    Answered(Answered),
    /// A record of the signal topic.
    Signalled(Received),
}

/// What one life does about incremental snapshots.
pub(crate) struct Incremental {
    config: Arc<ProducerConfig>,
    engine: Engine,
    reader: Reader,
    signals: mpsc::Receiver<Received>,
    term: u64,
    /// Records placed by this life.
    count: u64,
    /// The table whose changes the engine hears of.
    watched: Option<usize>,
    key: Vec<u8>,
}

impl Incremental {
    /// Goes on from the checkpoint under a term of its own.
    pub(crate) fn new(
        config: &Arc<ProducerConfig>,
        state: State,
        term: u64,
        signals: mpsc::Receiver<Received>,
    ) -> Self {
        Self {
            config: Arc::clone(config),
            engine: Engine::new(state),
            reader: Reader::start(Arc::clone(config)),
            signals,
            term,
            count: 0,
            watched: None,
            key: Vec::new(),
        }
    }

    /// Waits for an answer or a signal. Cancel-safe.
    pub(crate) async fn hear(&mut self) -> Heard {
        tokio::select! {
            Some(answered) = self.reader.answers.recv() => Heard::Answered(answered),
            Some(received) = self.signals.recv() => Heard::Signalled(received),
            // Neither the reader nor the signals ever speak again.
            else => std::future::pending().await,
        }
    }

    /// An answer or a signal that is there already.
    pub(crate) fn heard(&mut self) -> Option<Heard> {
        if let Ok(answered) = self.reader.answers.try_recv() {
            return Some(Heard::Answered(answered));
        }
        self.signals.try_recv().ok().map(Heard::Signalled)
    }

    /// Whether the stream has to wait for the reader.
    pub(crate) fn is_quiet(&self) -> bool {
        self.engine.is_quiet()
    }

    /// Whether nothing is left to read that could be read now.
    pub(crate) fn is_done(&self) -> bool {
        self.engine.is_done()
    }

    /// The state to keep behind everything enqueued so far, if it changed.
    pub(crate) fn take_changed(&mut self) -> Option<State> {
        self.engine.take_changed()
    }

    /// Takes what was heard. What may go out goes out at the next boundary.
    pub(crate) fn take(&mut self, heard: Heard, tables: &mut [CapturedTable]) {
        match heard {
            Heard::Answered(Answered { scan, answer }) => {
                if let Answer::Failed { reason } = &answer
                    && let Some(scan) = self.engine.state().scans.iter().find(|one| one.id == scan)
                {
                    tracing::error!(table = scan.table, reason, "an incremental snapshot cannot go on and is given up");
                }
                self.engine.answer(scan, answer);
            }
            Heard::Signalled(Received { offset, signal }) => {
                match signal {
                    Some(Ok(signal)) => self.obey(&signal, tables),
                    Some(Err(error)) => refused(&error),
                    None => {}
                }
                self.engine.signals_read(offset + 1);
            }
        }
        self.refresh(tables);
    }

    /// Takes an insert into the signal table, at its place in the log.
    pub(crate) fn take_row(
        &mut self,
        place: (u64, u64),
        signal: Result<Signal, SignalError>,
        tables: &mut [CapturedTable],
    ) {
        if !self.engine.takes_signal_row(place) {
            return;
        }
        match signal {
            Ok(signal) => self.obey(&signal, tables),
            Err(error) => refused(&error),
        }
        self.refresh(tables);
    }

    fn obey(&mut self, signal: &Signal, tables: &[CapturedTable]) {
        let id = signal.id.as_deref().unwrap_or_default();
        match signal.allowed_command(self.config.node.as_ref()) {
            Ok(command) => {
                let captured: Vec<Captured> = tables.iter().map(captured).collect();
                for note in self.engine.obey(&command, &captured) {
                    tracing::info!(signal = signal.kind, id, "{note}");
                }
            }
            Err(error) => refused(&error),
        }
        if self.engine.take_abandoned() {
            self.reader = Reader::start(Arc::clone(&self.config));
        }
    }

    /// Whether the engine hears of changes of this table.
    pub(crate) fn watches(&self, table: usize) -> bool {
        self.watched == Some(table)
    }

    /// Tells the engine of a changed row: its old key, where it is known, and its new one.
    ///
    /// # Errors
    ///
    /// A key that cannot be encoded.
    pub(crate) fn touch(
        &mut self,
        table: &CapturedTable,
        keys: [Option<&[syncline_event::tuple::TupleCell<'_>]>; 2],
        touch: Touch,
    ) -> Result<(), ProducerError> {
        for cells in keys.into_iter().flatten() {
            self.key.clear();
            table
                .encoder
                .key(cells, &mut self.key)
                .map_err(|error| ProducerError::encode(&table.definition.qualified_name(), &error))?;
            self.engine.touch(&self.key, touch);
        }
        Ok(())
    }

    /// Tells the engine of a truncate of the watched table.
    pub(crate) fn truncated(&mut self, transaction: u32) {
        self.engine.truncated(transaction);
    }

    /// Tells the engine that a table goes on under another definition.
    pub(crate) fn redefined(&mut self, topic: &str, other_key: bool) {
        self.engine.redefined(topic, other_key);
    }

    /// Whether nothing is to be done between transactions.
    pub(crate) fn is_asleep(&self) -> bool {
        self.engine.is_asleep()
    }

    /// What goes out at this boundary, if anything.
    pub(crate) fn due(&mut self, lsn: u64) -> Option<Due> {
        self.engine.boundary(lsn)
    }

    /// The last boundary, for what was heard behind it.
    pub(crate) fn passed(&self) -> u64 {
        self.engine.passed()
    }

    /// Asks the reader for what is next. Between transactions only.
    pub(crate) fn go_on(&mut self, tables: &mut [CapturedTable]) {
        let mut asked = false;
        while let Some(ask) = self.engine.ask() {
            asked = true;
            let scan = ask.scan;
            let failed = |reason: &str| Answer::Failed { reason: reason.to_owned() };
            let Some(table) = tables.iter().find(|table| table.topic.name() == ask.topic) else {
                self.engine.answer(scan, failed("the table is not captured"));
                continue;
            };
            let (definition, encoder) = (Arc::clone(&table.definition), Arc::clone(&table.encoder));
            if self.reader.jobs.try_send(Job { ask, definition, encoder }).is_err() {
                self.engine.answer(scan, failed("the reading task has ended"));
            }
        }
        if asked || self.engine.is_asleep() {
            self.refresh(tables);
        }
    }

    /// Whatever follows from the engine's state.
    pub(crate) fn refresh(&mut self, tables: &mut [CapturedTable]) {
        let watched = self.engine.watched();
        self.watched = watched.and_then(|topic| tables.iter().position(|table| table.topic.name() == topic));
        let state = self.engine.state();
        for table in tables {
            (table.filling, table.muted) = if state.scans.is_empty() {
                (false, false)
            } else {
                (state.is_filling(table.topic.name()), state.is_muted(table.topic.name()))
            };
        }
    }

    /// The position of the next record at the last boundary.
    pub(crate) fn position(&mut self, epoch: u32) -> Position {
        self.count += 1;
        place(epoch, self.engine.passed(), self.term, self.count)
    }

    /// Sends a chunk's rows.
    ///
    /// # Errors
    ///
    /// Kafka. Not cancel-safe.
    pub(crate) async fn send_rows(
        &mut self,
        context: &Context,
        epoch: u32,
        table: &mut CapturedTable,
        (mut bytes, rows): (Vec<u8>, Vec<crate::rows::EncodedRow>),
    ) -> Result<(), ProducerError> {
        let mut encoded = Vec::with_capacity(32);
        let stamped = context.config.node.as_ref().map(before_sync);
        for row in rows {
            let mut header = Header::new(self.position(epoch), table.definition.number);
            header.texts = row.texts;
            encoded.clear();
            header.encode_with(stamped.as_ref(), &mut encoded);
            let partition = partition(&mut bytes[row.key.clone()], table);
            let record = Record {
                partition,
                key: Some(&bytes[row.key]),
                value: Some(&bytes[row.value]),
                headers: syncline_header(&encoded, 0),
            };
            context.publisher.send(&mut table.topic, record).await?;
            table.stats.snapshot_rows.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        Ok(())
    }
}

/// A table as signals know it.
pub(crate) fn captured(table: &CapturedTable) -> Captured {
    Captured { topic: table.topic.name().to_owned(), table: table.definition.qualified_name() }
}

/// The place of a record that goes out between two transactions.
pub(super) fn place(epoch: u32, boundary: u64, term: u64, count: u64) -> Position {
    let number = term << COUNT_BITS | count;
    Position { epoch, phase: Phase::Stream, lsn: boundary.saturating_sub(1), number, sub: 0 }
}

fn refused(error: &SignalError) {
    tracing::error!(%error, "a signal cannot be acted upon");
}
