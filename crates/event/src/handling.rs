//! In which form values travel: Debezium's handling modes, by Debezium's names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What Debezium writes for a TOASTed value that an update left alone.
pub const DEFAULT_PLACEHOLDER: &str = "__debezium_unavailable_value";

/// The forms of a table's values. Part of its definition, so that a change of a mode takes effect between two records
/// and shows in the second's number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Handling {
    /// `decimal.handling.mode`.
    pub decimal: DecimalHandling,
    /// `time.precision.mode`.
    pub time: TimePrecision,
    /// `binary.handling.mode`.
    pub binary: BinaryHandling,
    /// `interval.handling.mode`.
    pub interval: IntervalHandling,
    /// `hstore.handling.mode`.
    pub hstore: HstoreHandling,
    /// `schema.name.adjustment.mode`.
    pub schema_names: NameAdjustment,
    /// `field.name.adjustment.mode`.
    pub field_names: NameAdjustment,
    /// `unavailable.value.placeholder`.
    pub placeholder: String,
    /// Parameters that columns, by name, have in the schema because their values are changed on the way
    /// (`column.mask.*`, `column.truncate.*`).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, BTreeMap<String, String>>,
}

impl Default for Handling {
    fn default() -> Self {
        Self {
            decimal: DecimalHandling::default(),
            time: TimePrecision::default(),
            binary: BinaryHandling::default(),
            interval: IntervalHandling::default(),
            hstore: HstoreHandling::default(),
            schema_names: NameAdjustment::default(),
            field_names: NameAdjustment::default(),
            placeholder: DEFAULT_PLACEHOLDER.to_owned(),
            parameters: BTreeMap::new(),
        }
    }
}

impl Handling {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How `numeric` and `money` travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecimalHandling {
    /// Exactly, as Connect's `Decimal` or Debezium's `VariableScaleDecimal`.
    #[default]
    Precise,
    /// As the nearest double: lossy.
    Double,
    /// As the source's text.
    String,
}

/// How `date`, `time` and `timestamp` travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimePrecision {
    /// In the column's precision.
    #[default]
    Adaptive,
    /// The same, and every `time` in microseconds.
    AdaptiveTimeMicroseconds,
    /// As Connect's types, in milliseconds: lossy.
    Connect,
    /// As ISO 8601 text.
    Isostring,
    /// In microseconds.
    Microseconds,
    /// In nanoseconds.
    Nanoseconds,
}

/// How `bytea` travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BinaryHandling {
    /// As bytes.
    #[default]
    Bytes,
    /// As Base64 text.
    Base64,
    /// As Base64 text of the alphabet that URLs allow.
    Base64UrlSafe,
    /// As hexadecimal text.
    Hex,
}

/// How `interval` travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IntervalHandling {
    /// In microseconds, a month being the twelfth part of 365.25 days.
    #[default]
    Numeric,
    /// As ISO 8601 text.
    String,
}

/// How `hstore` travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HstoreHandling {
    /// As JSON text.
    #[default]
    Json,
    /// As a map.
    Map,
}

/// How names become names that Avro allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NameAdjustment {
    /// Not at all.
    None,
    /// Other characters become `_`.
    #[default]
    Avro,
    /// Other characters, and the underscore, become `_uxxxx`.
    AvroUnicode,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_debeziums_names() {
        let handling = Handling {
            decimal: DecimalHandling::String,
            time: TimePrecision::AdaptiveTimeMicroseconds,
            binary: BinaryHandling::Base64UrlSafe,
            schema_names: NameAdjustment::AvroUnicode,
            ..Handling::default()
        };
        let json = serde_json::to_value(&handling).unwrap();
        assert_eq!(json["decimal"], "string");
        assert_eq!(json["time"], "adaptive_time_microseconds");
        assert_eq!(json["binary"], "base64-url-safe");
        assert_eq!(json["schema_names"], "avro_unicode");
        assert_eq!(serde_json::from_value::<Handling>(json).unwrap(), handling);
        assert_eq!(serde_json::from_str::<Handling>("{}").unwrap(), Handling::default());
    }
}
