//! Where a Debezium PostgreSQL connector stands, as Kafka Connect keeps it (Debezium's `PostgresOffsetContext`).

use serde_json::Value;

/// A connector's offset, as far as it is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offset {
    /// The furthest place in the log that it names: of an event, a commit, or what was processed.
    pub furthest: u64,
    /// Whether it is still in its snapshot.
    pub in_snapshot: bool,
}

impl Offset {
    /// Reads the offset's value.
    ///
    /// # Errors
    ///
    /// What is missing, in words.
    pub fn parse(value: &Value) -> Result<Self, String> {
        let places = ["lsn", "lsn_proc", "lsn_commit"].map(|name| value.get(name).and_then(number));
        let Some(furthest) = places.into_iter().flatten().max() else {
            return Err("it names no place in the log (lsn, lsn_proc, lsn_commit)".to_owned());
        };
        // During a snapshot `snapshot` says of what kind; behind it the field is gone. Old releases wrote a boolean.
        let taking = match value.get("snapshot") {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::String(kind)) => !kind.eq_ignore_ascii_case("false"),
            Some(_) => true,
        };
        let done = ["snapshot_completed", "last_snapshot_record"]
            .iter()
            .any(|name| value.get(name).and_then(Value::as_bool) == Some(true));
        Ok(Self { furthest, in_snapshot: taking && !done })
    }
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_furthest_place_counts() {
        let offset =
            json!({"lsn_proc": 300, "messageType": "UPDATE", "lsn_commit": 200, "lsn": 310, "txId": 7, "ts_usec": 1});
        assert_eq!(Offset::parse(&offset), Ok(Offset { furthest: 310, in_snapshot: false }));
        assert!(Offset::parse(&json!({"txId": 7})).is_err());
    }

    #[test]
    fn a_snapshot_under_way_is_known() {
        for (offset, in_snapshot) in [
            (json!({"lsn": 1, "snapshot": true, "last_snapshot_record": false}), true),
            (json!({"lsn": 1, "snapshot": "INITIAL", "snapshot_completed": false}), true),
            (json!({"lsn": 1, "snapshot": true, "last_snapshot_record": true}), false),
            (json!({"lsn": 1, "snapshot": "INITIAL", "snapshot_completed": true}), false),
        ] {
            assert_eq!(Offset::parse(&offset).unwrap().in_snapshot, in_snapshot, "{offset}");
        }
    }
}
