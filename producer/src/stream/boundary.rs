//! Between two transactions: what incremental snapshots hold for that place.

use syncline_event::header::BarrierKind;

use super::{Stream, key_names, redefine};
use crate::context::Context;
use crate::error::ProducerError;
use crate::incremental::engine::Due;
use crate::incremental::run::Heard;

impl Stream {
    /// Between two transactions: everything delivered so far was committed before `lsn`, everything later is committed
    /// at `lsn` or behind it. What incremental snapshots hold for this place goes out.
    ///
    /// # Errors
    ///
    /// Kafka. Not cancel-safe.
    pub(crate) async fn boundary(&mut self, context: &mut Context, lsn: u64) -> Result<(), ProducerError> {
        while let Some(due) = self.incremental.due(lsn) {
            self.put_out(context, due).await?;
        }
        if self.incremental.is_asleep() {
            return Ok(());
        }
        self.incremental.go_on(&mut self.tables);
        Ok(())
    }

    /// Takes what came from outside the log.
    ///
    /// # Errors
    ///
    /// As for [`Stream::boundary`].
    pub(crate) async fn hear(&mut self, context: &mut Context, heard: Heard) -> Result<(), ProducerError> {
        self.incremental.take(heard, &mut self.tables);
        self.look_around(context).await
    }

    /// Goes on with incremental snapshots where the log does not push: no boundary may come for long.
    ///
    /// # Errors
    ///
    /// As for [`Stream::boundary`].
    pub(crate) async fn look_around(&mut self, context: &mut Context) -> Result<(), ProducerError> {
        while let Some(heard) = self.incremental.heard() {
            self.incremental.take(heard, &mut self.tables);
        }
        if self.is_between_transactions() {
            self.boundary(context, self.incremental.passed()).await?;
        }
        Ok(())
    }

    async fn put_out(&mut self, context: &mut Context, due: Due) -> Result<(), ProducerError> {
        let topic = match &due {
            Due::Marker { topic, .. } | Due::Rows { topic, .. } | Due::Definition { topic, .. } => topic,
        };
        let Some(table) = self.tables.iter_mut().find(|table| table.topic.name() == topic) else { return Ok(()) };
        match due {
            Due::Marker { opening, .. } => {
                let position = self.incremental.position(self.epoch);
                table.send_marker(&context.publisher, position, opening.kind(), None, None).await?;
                tracing::info!(table = table.definition.qualified_name(), "the table is opened by a marker");
            }
            Due::Rows { bytes, rows, .. } => {
                self.incremental.send_rows(context, self.epoch, table, (bytes, rows)).await?;
            }
            Due::Definition { definition, .. } => {
                let other_key = key_names(&definition) != key_names(&table.definition);
                redefine(context, table, *definition, &mut self.incremental).await?;
                if other_key {
                    let position = self.incremental.position(self.epoch);
                    table.send_marker(&context.publisher, position, BarrierKind::KeyColumns, None, None).await?;
                }
            }
        }
        self.incremental.refresh(&mut self.tables);
        Ok(())
    }
}
