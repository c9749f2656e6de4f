//! The replication session: raw messages in, confirmations out.
//!
//! The session answers the server's keepalives by itself, also while nobody takes messages, so a slow Kafka never
//! makes the server end the session.

use std::time::Duration;

use bytes::Bytes;
use pgwire_replication::config::{ReplicationConfig, TlsConfig};
use pgwire_replication::{Lsn, PgWireError, ReplicationClient, ReplicationEvent};
use syncline_catalog::connect::{ConnectError, class_of_sqlstate, describe_address, pinned_options};
use syncline_catalog::ident::{quote_identifier, quote_literal};
use syncline_event::position::Lsn as LsnText;
use syncline_runtime::retry::ErrorClass;
use syncline_runtime::settings::{DatabaseSettings, SslMode};

use super::pgoutput::{Begin, Commit, unix_us};
use crate::error::ProducerError;
use crate::start::SystemIdentity;

/// Messages that wait for the encoder. The session's buffer counts messages, not bytes, so it is small: with rows of
/// 1 MB it holds 128 MB.
const BUFFERED_MESSAGES: usize = 128;

/// After how long the log says what the creation of a slot waits for.
const SLOT_PATIENCE: Duration = Duration::from_secs(10);

/// How long the server may take to let the session in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How often the confirmed position is reported at the latest.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// What a replication session delivers.
#[derive(Debug)]
pub enum Incoming {
    /// A transaction begins.
    Begin(Begin),
    /// A transaction ends.
    Commit(Commit),
    /// Any other message of pgoutput, undecoded.
    Data {
        /// The message's place in the log; 0 where the server does not say.
        wal_start: u64,
        /// The message.
        bytes: Bytes,
    },
    /// A logical message, which carries no row.
    Logical {
        /// Whether it belongs to the transaction around it.
        transactional: bool,
        /// Its place in the log.
        lsn: u64,
        /// The prefix.
        prefix: String,
        /// The content.
        content: Bytes,
    },
    /// Nothing new; the server has sent everything before this position that concerns the slot.
    KeepAlive {
        /// The server's position.
        wal_end: u64,
    },
}

/// A source of raw replication messages.
pub trait ReplicationTransport: Send {
    /// Waits for the next message. Cancel-safe: a dropped call loses nothing.
    fn next(&mut self) -> impl Future<Output = Result<Incoming, ProducerError>> + Send;

    /// Lets the server forget its log up to `lsn`. Never goes back.
    fn confirm(&self, lsn: u64);

    /// Reports the last confirmation and ends the session.
    fn close(self) -> impl Future<Output = Result<(), ProducerError>> + Send;
}

/// A session of PostgreSQL's replication protocol.
pub struct ReplicationSession {
    client: ReplicationClient,
    slot: String,
}

/// How long a slot lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotKind {
    /// As long as the session.
    Temporary,
    /// Until it is dropped.
    Kept {
        /// Whether standbys keep it too (PostgreSQL 17 and newer).
        failover: bool,
    },
}

/// A slot that was just created, with the snapshot it was created with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedSlot {
    /// Where the log goes on behind the snapshot.
    pub consistent_point: u64,
    /// The exported snapshot's name. It lives as long as the session stays idle.
    pub snapshot_name: Option<String>,
}

impl ReplicationSession {
    /// Opens a session that has not begun to stream.
    ///
    /// # Errors
    ///
    /// Unreachable or refused.
    pub async fn open(
        settings: &DatabaseSettings,
        slot: &str,
        publication: &str,
        start_lsn: u64,
    ) -> Result<Self, ProducerError> {
        let password = settings.password.as_ref().map_or("", |password| password.expose());
        // A long snapshot leaves the session idle; no server setting may end it.
        let options = format!("{} -c idle_session_timeout=0 -c statement_timeout=0", pinned_options());
        let config = ReplicationConfig::new(
            &settings.host,
            &settings.username,
            password,
            &settings.database,
            slot,
            // pgoutput reads the name as SQL does: unquoted, it would be folded to lower case.
            quote_identifier(publication)?,
        )
        .with_port(settings.port)
        .with_tls(match settings.ssl {
            SslMode::Disabled => TlsConfig::disabled(),
            SslMode::Required => TlsConfig::require(),
        })
        .with_options(options)
        .with_application_name("syncline-producer")
        .with_buffer_size(BUFFERED_MESSAGES)
        .with_status_interval(STATUS_INTERVAL)
        .with_start_lsn(Lsn::from_u64(start_lsn));
        let failed = |error: PgWireError| connect_error(settings, &error);
        let mut client = ReplicationClient::connect_gated(config).await.map_err(failed)?;
        // The crate signs in in the background: the first query tells whether it could.
        let signed_in = tokio::time::timeout(CONNECT_TIMEOUT, client.simple_query("SELECT 1")).await;
        signed_in
            .map_err(|_| ConnectError::Unreachable {
                at: describe_address(settings),
                reason: format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
            })?
            .map_err(failed)?;
        Ok(Self { client, slot: slot.to_owned() })
    }

    /// The source's identity and where its timeline was forked.
    ///
    /// # Errors
    ///
    /// The session.
    pub async fn identify(&mut self) -> Result<SystemIdentity, ProducerError> {
        let system = self.client.identify_system().await.map_err(|error| self.ended(&error))?;
        let forked_at = if system.timeline > 1 {
            let history = self.client.timeline_history(system.timeline).await.map_err(|error| self.ended(&error))?;
            forked_at(&history.content).ok_or_else(|| self.malformed("the timeline's history"))?
        } else {
            0
        };
        Ok(SystemIdentity { system_id: system.system_id, timeline: system.timeline, forked_at })
    }

    /// Creates the slot, with an exported snapshot if asked for.
    ///
    /// # Errors
    ///
    /// The server refuses, for example for lack of a free slot or a privilege.
    pub async fn create_slot(&mut self, export_snapshot: bool, kind: SlotKind) -> Result<CreatedSlot, ProducerError> {
        let snapshot = if export_snapshot { "export" } else { "nothing" };
        let name = quote_identifier(&self.slot)?;
        let (temporary, failover) = match kind {
            SlotKind::Temporary => (" TEMPORARY", ""),
            SlotKind::Kept { failover: true } => ("", ", FAILOVER true"),
            SlotKind::Kept { failover: false } => ("", ""),
        };
        let command =
            format!("CREATE_REPLICATION_SLOT {name}{temporary} LOGICAL pgoutput (SNAPSHOT '{snapshot}'{failover})");
        let rows = {
            let mut created = std::pin::pin!(self.client.simple_query(&command));
            loop {
                match tokio::time::timeout(SLOT_PATIENCE, &mut created).await {
                    Ok(created) => break created,
                    // The server waits for every transaction that was running; it does not say for which.
                    Err(_) => tracing::warn!(
                        slot = self.slot,
                        "creating the slot waits for running transactions to end; \
                         SELECT pid, state, xact_start, query FROM pg_stat_activity WHERE backend_xid IS NOT NULL shows them"
                    ),
                }
            }
        }
        .map_err(|error| session_error(&self.slot, &error))?;
        // slot_name, consistent_point, snapshot_name, output_plugin
        let text = |column: usize| {
            let value = rows.first()?.get(column)?.as_ref()?;
            std::str::from_utf8(value).ok().map(ToOwned::to_owned)
        };
        let consistent_point: LsnText = text(1)
            .and_then(|lsn| lsn.parse().ok())
            .ok_or_else(|| self.malformed("the answer to CREATE_REPLICATION_SLOT"))?;
        Ok(CreatedSlot { consistent_point: consistent_point.0, snapshot_name: text(2) })
    }

    /// Runs SQL that changes nothing the session depends on.
    ///
    /// # Errors
    ///
    /// The server refuses.
    pub async fn drop_slot(&mut self) -> Result<(), ProducerError> {
        let command = format!("SELECT pg_drop_replication_slot({})", quote_literal(&self.slot));
        self.client.simple_query(&command).await.map_err(|error| self.ended(&error))?;
        Ok(())
    }

    /// Begins to stream and waits until the server has given the slot to this session.
    ///
    /// # Errors
    ///
    /// The slot is in use or cannot be read from.
    pub async fn start(&mut self) -> Result<(), ProducerError> {
        self.client.start().await.map_err(|error| self.ended(&error))?;
        self.client.wait_started().await.map_err(|error| self.ended(&error))
    }

    fn ended(&self, error: &PgWireError) -> ProducerError {
        session_error(&self.slot, error)
    }

    fn malformed(&self, what: &str) -> ProducerError {
        ProducerError::Protocol(format!("{what} is malformed"))
    }
}

impl ReplicationTransport for ReplicationSession {
    async fn next(&mut self) -> Result<Incoming, ProducerError> {
        match self.client.recv().await {
            Ok(Some(event)) => Ok(match event {
                ReplicationEvent::XLogData { wal_start, data, .. } => {
                    Incoming::Data { wal_start: wal_start.as_u64(), bytes: data }
                }
                ReplicationEvent::Begin { final_lsn, xid, commit_time_micros } => Incoming::Begin(Begin {
                    final_lsn: final_lsn.as_u64(),
                    commit_us: unix_us(commit_time_micros),
                    xid,
                }),
                ReplicationEvent::Commit { lsn, end_lsn, .. } => {
                    Incoming::Commit(Commit { commit_lsn: lsn.as_u64(), end_lsn: end_lsn.as_u64() })
                }
                ReplicationEvent::Message { transactional, lsn, prefix, content } => {
                    Incoming::Logical { transactional, lsn: lsn.as_u64(), prefix, content }
                }
                ReplicationEvent::KeepAlive { wal_end, .. } => Incoming::KeepAlive { wal_end: wal_end.as_u64() },
                ReplicationEvent::StoppedAt { reached } => Incoming::KeepAlive { wal_end: reached.as_u64() },
            }),
            Ok(None) => {
                Err(ProducerError::Replication { slot: self.slot.clone(), reason: "the server closed it".to_owned() })
            }
            Err(error) => Err(self.ended(&error)),
        }
    }

    fn confirm(&self, lsn: u64) {
        self.client.update_applied_lsn(Lsn::from_u64(lsn));
    }

    async fn close(mut self) -> Result<(), ProducerError> {
        self.client.shutdown().await.map_err(|error| self.ended(&error))
    }
}

fn connect_error(settings: &DatabaseSettings, error: &PgWireError) -> ConnectError {
    let (at, reason) = (describe_address(settings), error.to_string());
    match error {
        PgWireError::Io(_) => ConnectError::Unreachable { at, reason },
        PgWireError::Tls(_) => ConnectError::Tls { at, reason },
        PgWireError::Auth(_) => ConnectError::Refused { at, reason },
        PgWireError::Server(message) => ConnectError::from_server(settings, sqlstate(message), message),
        _ => ConnectError::Other { at, reason },
    }
}

/// What the end of a session means: the server says by its SQLSTATE whether trying again helps.
fn session_error(slot: &str, error: &PgWireError) -> ProducerError {
    let (slot, reason) = (slot.to_owned(), error.to_string());
    match error {
        PgWireError::Server(message) => match sqlstate(message) {
            // object_in_use
            "55006" => ProducerError::SlotInUse { slot, holder: message.clone() },
            // undefined_object: the slot or the publication; object_not_in_prerequisite_state: an invalidated slot
            "42704" | "55000" => ProducerError::Lost { slot, what: message.clone() },
            code if class_of_sqlstate(code) == ErrorClass::Transient => ProducerError::Replication { slot, reason },
            _ => ProducerError::ReplicationRefused { slot, reason },
        },
        PgWireError::Protocol(_) | PgWireError::MessageTooLarge { .. } | PgWireError::Auth(_) | PgWireError::Tls(_) => {
            ProducerError::ReplicationRefused { slot, reason }
        }
        _ => ProducerError::Replication { slot, reason },
    }
}

/// The SQLSTATE in the crate's rendering of a server's error: `ERROR: … (SQLSTATE 55006)`.
fn sqlstate(message: &str) -> &str {
    message.rsplit_once("SQLSTATE ").and_then(|(_, rest)| rest.get(..5)).unwrap_or_default()
}

/// The switch point of the newest entry of a timeline history file: `parent<TAB>lsn<TAB>reason` lines.
fn forked_at(history: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(history).ok()?;
    let last = text.lines().rfind(|line| !line.trim().is_empty() && !line.starts_with('#'))?;
    last.split_whitespace().nth(1)?.parse::<LsnText>().ok().map(|lsn| lsn.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_fork_counts() {
        let history = b"1\t0/3000148\tno recovery target specified\n\n2\t0/5000060\tpromoted\n";
        assert_eq!(forked_at(history), Some(0x0500_0060));
        assert_eq!(forked_at(b""), None);
    }

    #[test]
    fn the_servers_code_decides_what_an_end_means() {
        let error = |code: &str| session_error("s", &PgWireError::Server(format!("said the server (SQLSTATE {code})")));
        assert!(matches!(error("55006"), ProducerError::SlotInUse { .. }));
        assert!(matches!(error("42704"), ProducerError::Lost { .. }));
        assert!(matches!(error("55000"), ProducerError::Lost { .. }));
        assert_eq!(error("57P01").class(), ErrorClass::Transient);
        assert_eq!(error("42501").class(), ErrorClass::Fatal);
        assert_eq!(sqlstate("no code"), "");
        let broken = PgWireError::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        assert_eq!(session_error("s", &broken).class(), ErrorClass::Transient);
    }
}
