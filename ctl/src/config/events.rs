//! `cdc_config.properties`: what Debezium's properties say about the events.

use std::time::Duration;

use syncline_event::handling::Handling;
use syncline_event::mask::{HashAlgorithm, HashVersion, Mask};
use syncline_producer::columns::{ColumnSettings, KeyRule, MaskRule, Patterns};
use syncline_producer::config::{EventSettings, Format, Heartbeat, MessageFilter, SkippedOperations};

use super::check::Check;
use super::names::topic_fault;
use super::raw::{RawCdc, RawFormatKind, RawProperties, RawSnapshotMode};

/// How Debezium writes a placeholder that is no text of its own.
const HEX: &str = "hex:";

impl Check<'_> {
    /// The settings of events.
    pub(super) fn events(&mut self, raw: &RawCdc, topic_prefix: &str) -> EventSettings {
        let properties = &raw.properties;
        let mut skipped = self.skipped_operations(&properties.skipped_operations);
        if !raw.change_tracking.capture_deletes {
            (skipped.deletes, skipped.truncates) = (true, true);
        }
        EventSettings {
            handling: Handling {
                decimal: properties.decimal,
                time: properties.time,
                binary: properties.binary,
                interval: properties.interval,
                schema_names: properties.schema_names,
                field_names: properties.field_names,
                placeholder: self.placeholder(&properties.placeholder),
                hstore: properties.hstore,
                ..Handling::default()
            },
            tombstones: properties.tombstones,
            skipped,
            columns: self.columns(properties),
            transaction_topic: properties
                .transactions
                .then(|| self.side_topic("topic.transaction", topic_prefix, &properties.transaction_topic)),
            messages: self.messages(properties),
            context_headers: properties.context_headers,
            format: match raw.output_format.kind {
                RawFormatKind::Avro => Format::Avro,
                RawFormatKind::Json => Format::Json,
            },
        }
    }

    /// Refuses what leaves a part of a change out, or changes a value on the way: the nodes of a topology apply each
    /// other's changes, and have to end up alike.
    pub(super) fn lossless(&mut self, raw: &RawCdc) {
        let properties = &raw.properties;
        let masks = [&properties.mask_hash, &properties.mask_with, &properties.truncate_to];
        let default = Handling::default();
        let part = "leaves a part of the changes out, so that the nodes of a topology would differ: remove it";
        let value = "changes values on the way, so that the nodes of a topology would differ: remove it";
        let key = "gives the nodes of a topology another key than their tables have: remove it";
        let newer = "makes a change carry values that are newer than itself, which the nodes of a topology cannot compare: \
                     remove it";
        let first = "must be `initial` or `no_data` in a topology: a node's tables cannot be read anew yet";
        if !raw.change_tracking.capture_deletes {
            self.refuse("cdc_config.change_tracking.capture_deletes", part);
        }
        for (name, is_refused, text) in [
            ("skipped.operations", properties.skipped_operations.trim() != "none", part),
            ("column.include.list", properties.column_include.is_some(), part),
            ("column.exclude.list", properties.column_exclude.is_some(), part),
            ("skip.unsupported.columns", properties.skip_unsupported_columns, part),
            ("message.key.columns", properties.key_columns.is_some(), key),
            ("reselect.columns.include.list", properties.reselect.is_some(), newer),
            (
                "snapshot.mode",
                !matches!(properties.snapshot_mode, RawSnapshotMode::Initial | RawSnapshotMode::NoData),
                first,
            ),
            ("decimal.handling.mode", properties.decimal != default.decimal, value),
            ("time.precision.mode", properties.time != default.time, value),
            ("binary.handling.mode", properties.binary != default.binary, value),
            ("interval.handling.mode", properties.interval != default.interval, value),
        ] {
            if is_refused {
                self.refuse(&property(name), text);
            }
        }
        for name in masks.into_iter().flat_map(|masks| masks.keys()) {
            // The whole name may hold a salt.
            if let Some((shown, _)) = mask(name) {
                self.refuse(&property(&shown), value);
            }
        }
    }

    /// The producer's heartbeat.
    pub(super) fn heartbeat(&mut self, properties: &RawProperties, topic_prefix: &str) -> Option<Heartbeat> {
        let interval = Duration::from_millis(properties.heartbeat_ms);
        if interval.is_zero() && properties.heartbeat_action.is_some() {
            let text = "never runs: write `heartbeat.interval.ms`, which says how often";
            self.refuse(&property("heartbeat.action.query"), text);
        }
        (!interval.is_zero()).then(|| Heartbeat {
            interval,
            topic: self.side_topic("topic.heartbeat.prefix", &properties.heartbeat_prefix, topic_prefix),
            action: properties.heartbeat_action.clone(),
        })
    }

    fn side_topic(&mut self, name: &str, first: &str, last: &str) -> String {
        let topic = format!("{first}.{last}");
        if let Some(fault) = topic_fault(&topic) {
            self.refuse(&property(name), format!("makes the topic `{topic}`, which {fault}"));
        }
        topic
    }

    fn messages(&mut self, properties: &RawProperties) -> MessageFilter {
        let include = self.patterns("message.prefix.include.list", properties.message_include.as_deref());
        let exclude = self.patterns("message.prefix.exclude.list", properties.message_exclude.as_deref());
        if include.is_some() && exclude.is_some() {
            let text = "stands beside `message.prefix.include.list`: write one of them";
            self.refuse(&property("message.prefix.exclude.list"), text);
        }
        MessageFilter { include, exclude }
    }

    fn columns(&mut self, properties: &RawProperties) -> ColumnSettings {
        let include = self.patterns("column.include.list", properties.column_include.as_deref());
        let exclude = self.patterns("column.exclude.list", properties.column_exclude.as_deref());
        if include.is_some() && exclude.is_some() {
            self.refuse(&property("column.exclude.list"), "stands beside `column.include.list`: write one of them");
        }
        let keys = properties.key_columns.as_deref().map(KeyRule::parse_all).transpose().unwrap_or_else(|fault| {
            self.refuse(&property("message.key.columns"), fault);
            None
        });
        let mut masks = Vec::new();
        // In the order of names, so that the first that matches does not depend on the file's order.
        let families = [&properties.mask_hash, &properties.mask_with, &properties.truncate_to];
        for (name, columns) in families.into_iter().flatten() {
            let Some((shown, mask)) = mask(name) else { continue };
            match (mask, self.patterns(&shown, Some(columns))) {
                (Ok(mask), Some(columns)) => masks.push(MaskRule { property: shown, columns, mask }),
                (Err(fault), _) => self.refuse(&property(&shown), fault),
                (Ok(_), None) => {}
            }
        }
        let reselect = self.patterns("reselect.columns.include.list", properties.reselect.as_deref());
        ColumnSettings { include, exclude, masks, keys: keys.unwrap_or_default(), reselect }
    }

    fn patterns(&mut self, name: &str, text: Option<&str>) -> Option<Patterns> {
        Patterns::parse(text?).map_err(|fault| self.refuse(&property(name), fault)).ok()
    }

    fn skipped_operations(&mut self, text: &str) -> SkippedOperations {
        let mut skipped = SkippedOperations::default();
        let mut none = false;
        let operations: Vec<&str> = text.split(',').map(str::trim).collect();
        for operation in &operations {
            match *operation {
                "c" => skipped.creates = true,
                "u" => skipped.updates = true,
                "d" => skipped.deletes = true,
                "t" => skipped.truncates = true,
                "none" => none = true,
                other => self.refuse(
                    &property("skipped.operations"),
                    format!("`{other}` is no operation; supported: c, u, d, t, none"),
                ),
            }
        }
        if none && operations.len() > 1 {
            self.refuse(&property("skipped.operations"), "`none` stands beside others: write one or the other");
        }
        skipped
    }

    fn placeholder(&mut self, text: &str) -> String {
        let Some(digits) = text.strip_prefix(HEX) else { return text.to_owned() };
        let bytes: Option<Vec<u8>> = digits
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?, 16).ok())
            .collect();
        match bytes.and_then(|bytes| String::from_utf8(bytes).ok()) {
            Some(text) => text,
            None => {
                let text = "`hex:` must be followed by pairs of hexadecimal digits that are UTF-8 text";
                self.refuse(&property("unavailable.value.placeholder"), text);
                String::new()
            }
        }
    }
}

/// The path of one of Debezium's properties.
pub(super) fn property(name: &str) -> String {
    format!("cdc_config.properties.{name}")
}

/// The mask that a property's name stands for, with the name as messages may show it; `None` for other properties.
fn mask(name: &str) -> Option<(String, Result<Mask, String>)> {
    if let Some(rest) = name.strip_prefix("column.mask.hash.") {
        let (version, rest) = match rest.strip_prefix("v2.") {
            Some(rest) => (HashVersion::V2, rest),
            None => (HashVersion::V1, rest),
        };
        let Some((algorithm, salt)) = rest.split_once(".with.salt.").filter(|(_, salt)| !salt.is_empty()) else {
            let fault = "is not of the form column.mask.hash.ALGORITHM.with.salt.SALT".to_owned();
            return Some((name.to_owned(), Err(fault)));
        };
        let shown = name.strip_suffix(salt).map_or_else(String::new, |name| format!("{name}…"));
        let hash = HashAlgorithm::from_name(algorithm)
            .ok_or_else(|| format!("`{algorithm}` is no hash; supported: {}", HashAlgorithm::NAMES.join(", ")));
        return Some((
            shown,
            hash.map(|algorithm| Mask::Hash { algorithm, salt: salt.to_owned(), version, length: None }),
        ));
    }
    let length = |prefix: &str| name.strip_prefix(prefix).map(|rest| rest.strip_suffix(".chars").unwrap_or(rest));
    let (length, build): (&str, fn(usize) -> Mask) = match (length("column.mask.with."), length("column.truncate.to."))
    {
        (Some(length), _) => (length, Mask::Asterisks),
        (None, Some(length)) => (length, Mask::Truncate),
        (None, None) => return None,
    };
    let mask = if name.ends_with(".chars") { length.parse().ok() } else { None };
    Some((name.to_owned(), mask.map(build).ok_or_else(|| "must end with LENGTH.chars".to_owned())))
}
