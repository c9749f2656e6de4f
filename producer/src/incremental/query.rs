//! The SQL of a scan.

use syncline_catalog::ident::{IdentError, qualified, quote_identifier, quote_literal};
use syncline_event::table::TableDefinition;

use super::state::Key;

/// The columns of the best index to follow: the primary key, else the replica identity, else any other unique index
/// over columns that are never NULL.
pub(super) const KEY_COLUMNS: &str = "SELECT array_agg(a.attname::text ORDER BY k.place)
    FROM (SELECT i.indrelid, i.indkey, i.indnkeyatts FROM pg_index i
           WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
             AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.indrelid AND NOT a.attnotnull
                                AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]))
           ORDER BY i.indisprimary DESC, i.indisreplident DESC, i.indexrelid LIMIT 1) i,
         unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) WITH ORDINALITY AS k (number, place)
    JOIN pg_attribute a ON a.attnum = k.number
   WHERE a.attrelid = i.indrelid";

/// The snapshot of the transaction, the log's end behind it, the time, and what the table's columns are.
pub(super) const FACTS: &str = "SELECT pg_current_snapshot()::text AS seen, pg_current_wal_insert_lsn()::text AS lsn,
        (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS at_us,
        (SELECT string_agg(format('%s %s %s %s', a.attname, a.atttypid, a.atttypmod, a.attgenerated), ',' ORDER BY a.attnum)
           FROM pg_attribute a WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped) AS columns";

/// Who holds a writer's lock on the table or a partition of it, as virtual transactions. A prepared transaction has
/// one, too.
pub(super) const WRITERS: &str = "SELECT DISTINCT l.virtualtransaction, coalesce(l.pid, 0) FROM pg_locks l
   WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
     AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
     AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
     AND (l.relation = $1::oid OR l.relation IN (SELECT relid FROM pg_partition_tree($1::oid)))";

/// Which of them are still there.
pub(super) const STILL_THERE: &str =
    "SELECT DISTINCT virtualtransaction FROM pg_locks WHERE virtualtransaction = ANY ($1)";

/// The scan of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scanned {
    table: String,
    /// Columns that are copied, quoted.
    columns: String,
    /// Columns that chunks are ordered by, quoted.
    key: Vec<String>,
}

impl Scanned {
    /// # Errors
    ///
    /// A name that cannot stand in SQL.
    pub(super) fn new(definition: &TableDefinition, key: &[String]) -> Result<Self, IdentError> {
        let columns = definition.columns.iter().filter(|column| column.generated.is_none());
        let columns = columns.map(|column| quote_identifier(&column.name)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            table: qualified(&definition.schema, &definition.table)?,
            columns: columns.join(", "),
            key: key.iter().map(|column| quote_identifier(column)).collect::<Result<_, _>>()?,
        })
    }

    /// Begins the transaction of a chunk. The lock comes before the snapshot: a table that is rewritten or truncated
    /// between the two would look empty.
    pub(super) fn begin(&self) -> String {
        format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; LOCK TABLE {} IN ACCESS SHARE MODE", self.table)
    }

    /// The highest key.
    pub(super) fn highest(&self, condition: Option<&str>) -> String {
        let texts: Vec<String> = self.key.iter().map(|column| format!("{column}::text")).collect();
        let order: Vec<String> = self.key.iter().map(|column| format!("{column} DESC")).collect();
        format!(
            "SELECT ARRAY[{}] FROM {}{} ORDER BY {} LIMIT 1",
            texts.join(", "),
            self.table,
            filter(condition.map(|text| format!("({text})")).into_iter().collect()),
            order.join(", ")
        )
    }

    /// The rows behind `after` up to `until`. The key's columns come once more in front, for the place of the next
    /// chunk: what is copied may leave them out or mask them.
    pub(super) fn chunk(&self, after: Option<&Key>, until: &Key, condition: Option<&str>, limit: usize) -> String {
        let mut conditions = Vec::new();
        if let Some(after) = after {
            conditions.push(self.compared(">", after));
        }
        conditions.push(self.compared("<=", until));
        conditions.extend(condition.map(|text| format!("({text})")));
        let key = self.key.join(", ");
        format!(
            "COPY (SELECT {key}, {} FROM {}{} ORDER BY {key} LIMIT {limit}) TO STDOUT",
            self.columns,
            self.table,
            filter(conditions),
        )
    }

    /// Number of key columns.
    pub(super) fn width(&self) -> usize {
        self.key.len()
    }

    /// Literals without a type take that of the column they are compared with, and the column's collation decides the
    /// order, as in ORDER BY.
    fn compared(&self, operator: &str, key: &Key) -> String {
        let values: Vec<String> = key.iter().map(|value| quote_literal(value)).collect();
        format!("({}) {operator} ({})", self.key.join(", "), values.join(", "))
    }
}

fn filter(conditions: Vec<String>) -> String {
    if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned() -> Scanned {
        Scanned {
            table: "\"public\".\"t\"".into(),
            columns: "\"a\", \"b\", \"c\"".into(),
            key: vec!["\"a\"".into(), "\"b\"".into()],
        }
    }

    #[test]
    fn chunks_follow_the_key() {
        assert_eq!(
            scanned().chunk(Some(&vec!["1".into(), "it's".into()]), &vec!["9".into(), "z".into()], Some("c > 0"), 10),
            "COPY (SELECT \"a\", \"b\", \"a\", \"b\", \"c\" FROM \"public\".\"t\" WHERE (\"a\", \"b\") > ('1', 'it''s') \
             AND (\"a\", \"b\") <= ('9', 'z') AND (c > 0) ORDER BY \"a\", \"b\" LIMIT 10) TO STDOUT"
        );
        assert_eq!(
            scanned().highest(None),
            "SELECT ARRAY[\"a\"::text, \"b\"::text] FROM \"public\".\"t\" ORDER BY \"a\" DESC, \"b\" DESC LIMIT 1"
        );
    }
}
