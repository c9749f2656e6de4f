//! What of the log is no row: the bounds of transactions, logical messages, and fences among them.

use syncline_event::avro::beside::{Bound, LogicalMessage};
use syncline_event::avro::encode::{SnapshotMarker, SourceInfo, TransactionBlock};
use syncline_event::stamp::Fence;

use super::Stream;
use crate::beside::{MESSAGES, message_topic};
use crate::clock;
use crate::context::Context;
use crate::error::ProducerError;
use crate::sources::postgres::pgoutput::Logical;

impl Stream {
    /// Publishes a bound of a transaction.
    ///
    /// # Errors
    ///
    /// Kafka.
    pub(super) async fn bound(
        &mut self,
        context: &Context,
        id: String,
        commit_us: i64,
        ended: Option<&[(String, u64)]>,
    ) -> Result<(), ProducerError> {
        let bound = Bound { id, ts_ms: commit_us.div_euclid(1_000), ended };
        self.beside.bound(context, &bound).await
    }

    /// Publishes a logical message. It takes no number: rows keep theirs whatever messages are between them.
    pub(super) async fn message(&mut self, context: &Context, message: Logical<'_>) -> Result<(), ProducerError> {
        if let Some(node) = &mut self.node {
            let rows = self.transaction.map_or(0, |transaction| transaction.number);
            if let Some(fence) = node.message(&message, rows)? {
                return self.answer(context, &fence).await;
            }
        }
        if !context.config.events.messages.takes(message.prefix) {
            return Ok(());
        }
        let transaction = self.transaction.filter(|_| message.transactional);
        let now_ns = clock::now_ns();
        let source = SourceInfo {
            ts_us: self.committed_us.unwrap_or(now_ns.div_euclid(1_000)),
            snapshot: SnapshotMarker::False,
            // One that stands for itself ends where it stands.
            sequence: (if message.transactional { self.last_commit } else { Some(message.lsn) }, message.lsn),
            tx_id: transaction.map(|transaction| i64::from(transaction.id)),
            lsn: message.lsn,
            origin: None,
            origin_lsn: None,
        };
        let block = match (&mut self.tally, transaction) {
            (Some(tally), Some(transaction)) => {
                // Debezium counts each message as the first of a table of its own.
                let block = tally.next(MESSAGES, transaction.id, message.lsn);
                let block = TransactionBlock { data_collection_order: 1, ..block };
                tally.add(MESSAGES, || message_topic(&context.config.topic_prefix), 1);
                Some(block)
            }
            _ => None,
        };
        let message = LogicalMessage {
            prefix: message.prefix,
            content: message.content,
            source,
            transaction: block,
            now_ms: now_ns.div_euclid(1_000_000),
        };
        self.beside.message(context, &message).await
    }

    /// Everything delivered so far is enqueued, so the markers go in behind it. The checkpoint passes the fence when
    /// they are acknowledged, as with any record.
    async fn answer(&mut self, context: &Context, fence: &Fence) -> Result<(), ProducerError> {
        for name in &fence.tables {
            match self.tables.iter().position(|table| table.definition.qualified_name() == *name) {
                Some(index) => {
                    let table = &mut self.tables[index];
                    let stamped = self.node.as_ref().map(|node| node.marker(index, table.filling));
                    table.send_fence(&context.publisher, self.epoch, fence.id, stamped.as_ref()).await?;
                }
                None => tracing::warn!(
                    table = name,
                    fence = fence.id,
                    "a fence names a table that is not captured, and is not answered for it"
                ),
            }
        }
        Ok(())
    }
}
