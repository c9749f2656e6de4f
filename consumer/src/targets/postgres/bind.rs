//! One column of many rows as one array parameter, copied from the arena straight into the message to the server.

use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo};
use sqlx::{Postgres, Type};

use super::encode::Codec;
use crate::rows::{Cell, Rows};

/// The cells of `column` in `rows`, in the order of `indexes`, as a binary array (`array_recv`,
/// `src/backend/utils/adt/arrayfuncs.c`).
pub(super) struct ColumnArray<'a> {
    pub(super) rows: &'a Rows,
    pub(super) indexes: &'a [u32],
    pub(super) column: usize,
    pub(super) codec: Codec,
}

impl Type<Postgres> for ColumnArray<'_> {
    /// Never asked: every instance says what it produces.
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1009))
    }
}

impl<'q> Encode<'q, Postgres> for ColumnArray<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let (_, element_oid, _) = self.codec.element();
        buffer.reserve(20 + self.indexes.len() * 12);
        buffer.extend_from_slice(&1_i32.to_be_bytes()); // dimensions
        let flags = buffer.len();
        buffer.extend_from_slice(&0_i32.to_be_bytes());
        buffer.extend_from_slice(&element_oid.to_be_bytes());
        buffer.extend_from_slice(&i32::try_from(self.indexes.len())?.to_be_bytes());
        buffer.extend_from_slice(&1_i32.to_be_bytes()); // lower bound
        let mut has_null = false;
        for row in self.indexes {
            let cell = self.rows.row(*row as usize)[self.column];
            match self.rows.bytes(cell) {
                Some(bytes) => {
                    buffer.extend_from_slice(&i32::try_from(bytes.len())?.to_be_bytes());
                    buffer.extend_from_slice(bytes);
                }
                None if cell == Cell::Unknown => return Err("an unknown cell where a value is needed".into()),
                None => {
                    buffer.extend_from_slice(&(-1_i32).to_be_bytes());
                    has_null = true;
                }
            }
        }
        if has_null {
            buffer[flags + 3] = 1;
        }
        Ok(IsNull::No)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(PgTypeInfo::with_oid(Oid(self.codec.element().2)))
    }
}
