//! Names in events: topics, Avro schemas and fields, as Debezium derives them.
//!
//! Debezium works on UTF-16 units, so a character outside the basic plane becomes two underscores. It also refuses
//! tables whose columns become equal by the adjustment; [`adjust_fields`] tells them apart instead.

use std::collections::HashSet;

use crate::handling::NameAdjustment;

/// Kafka's limit for a topic's name (`org.apache.kafka.common.internals.Topic`).
const TOPIC_LENGTH: usize = 249;

/// The data topic of a table, `<prefix>.<schema>.<table>`: characters outside `[A-Za-z0-9._-]` become `_`, and it is
/// cut to 249 characters (Debezium's `SchemaTopicNamingStrategy`).
///
/// Different tables may come to the same topic; whoever captures them has to check.
#[must_use]
pub fn topic_name(prefix: &str, schema: &str, table: &str) -> String {
    let mut name = replace(&format!("{prefix}.{schema}.{table}"), |c| c.is_ascii_alphanumeric() || "._-".contains(c));
    name.truncate(TOPIC_LENGTH);
    name
}

/// A schema's full name. `avro`: `_` for each character that Avro forbids, and before a leading digit; like Debezium,
/// it leaves a digit that leads a later part (`shop.public.1t`). `avro_unicode`: `_uxxxx` for each such character and
/// for the underscore.
#[must_use]
pub fn adjust_schema(name: &str, mode: NameAdjustment) -> String {
    match mode {
        NameAdjustment::None => name.to_owned(),
        NameAdjustment::Avro => lead(replace(name, |c| c.is_ascii_alphanumeric() || c == '_' || c == '.')),
        NameAdjustment::AvroUnicode => escape(name, true),
    }
}

/// A field's name, as [`adjust_schema`], but a point is no part of it.
#[must_use]
pub fn adjust_field(name: &str, mode: NameAdjustment) -> String {
    match mode {
        NameAdjustment::None => name.to_owned(),
        NameAdjustment::Avro => lead(replace(name, |c| c.is_ascii_alphanumeric() || c == '_')),
        NameAdjustment::AvroUnicode => escape(name, false),
    }
}

/// The field names of a table's columns, in their order: each adjusted by [`adjust_field`], and told apart by `_2`,
/// `_3`, … where several come to the same name. A column whose name needs no adjustment keeps it.
///
/// Debezium refuses such a table.
#[must_use]
pub fn adjust_fields(names: &[&str], mode: NameAdjustment) -> Vec<String> {
    let mut taken: HashSet<String> =
        names.iter().filter(|name| adjust_field(name, mode) == **name).map(|name| (*name).to_owned()).collect();
    names
        .iter()
        .map(|name| {
            let adjusted = adjust_field(name, mode);
            if adjusted == *name || taken.insert(adjusted.clone()) {
                return adjusted;
            }
            (2_u32..)
                .map(|number| format!("{adjusted}_{number}"))
                .find(|candidate| taken.insert(candidate.clone()))
                .expect("a table has fewer columns than there are numbers")
        })
        .collect()
}

/// Debezium's `UnicodeReplacementFunction`: codes of one and two digits get two zeros before them.
fn escape(name: &str, point: bool) -> String {
    let mut escaped = String::with_capacity(name.len());
    for (index, unit) in name.encode_utf16().enumerate() {
        match u8::try_from(unit).map(char::from) {
            Ok(c) if c.is_ascii_alphabetic() => escaped.push(c),
            Ok(c) if index > 0 && (c.is_ascii_digit() || (point && c == '.')) => escaped.push(c),
            _ if unit <= 0xff => escaped.push_str(&format!("_u00{unit:x}")),
            _ => escaped.push_str(&format!("_u{unit:x}")),
        }
    }
    escaped
}

fn replace(name: &str, allowed: impl Fn(char) -> bool) -> String {
    let mut adjusted = String::with_capacity(name.len());
    for c in name.chars() {
        if allowed(c) {
            adjusted.push(c);
        } else {
            adjusted.extend(std::iter::repeat_n('_', c.len_utf16()));
        }
    }
    adjusted
}

fn lead(name: String) -> String {
    match name.as_bytes().first() {
        Some(b'0'..=b'9') => format!("_{name}"),
        Some(b'.') => name.replacen('.', "_", 1),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn topics_keep_kafkas_characters() {
        assert_eq!(topic_name("shop", "public", "users"), "shop.public.users");
        assert_eq!(topic_name("shop-1", "Sch ema", "sélect 😀"), "shop-1.Sch_ema.s_lect___");
        assert_eq!(topic_name("shop", "public", &"x".repeat(300)).len(), TOPIC_LENGTH);
    }

    #[test]
    fn schemas_and_fields_become_avro_names() {
        assert_eq!(adjust_schema("shop-1.public.order items", NameAdjustment::Avro), "shop_1.public.order_items");
        assert_eq!(adjust_schema("1shop.public.1t", NameAdjustment::Avro), "_1shop.public.1t");
        assert_eq!(adjust_field("größe.max", NameAdjustment::Avro), "gr__e_max");
        assert_eq!(adjust_field("2nd", NameAdjustment::Avro), "_2nd");
        assert_eq!(adjust_field("plain_1", NameAdjustment::Avro), "plain_1");
    }

    #[test]
    fn the_other_modes_escape_or_leave_names() {
        assert_eq!(adjust_schema("shop-1.a_b", NameAdjustment::AvroUnicode), "shop_u002d1.a_u005fb");
        assert_eq!(adjust_field("1.é€", NameAdjustment::AvroUnicode), "_u0031_u002e_u00e9_u20ac");
        assert_eq!(adjust_field("größe.max", NameAdjustment::None), "größe.max");
        assert_eq!(adjust_schema("shop-1.t", NameAdjustment::None), "shop-1.t");
    }

    #[test]
    fn equal_fields_are_told_apart() {
        assert_eq!(adjust_fields(&["a b", "a-b", "a_b", "c"], NameAdjustment::Avro), ["a_b_2", "a_b_3", "a_b", "c"]);
        assert_eq!(adjust_fields(&["a b", "a-b", "a_b_2"], NameAdjustment::Avro), ["a_b", "a_b_3", "a_b_2"]);
    }

    proptest! {
        #[test]
        fn fields_are_distinct_avro_names(names in proptest::collection::hash_set("[a-c _.1é-]{1,4}", 1..30)) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let fields = adjust_fields(&names, NameAdjustment::Avro);
            prop_assert_eq!(fields.iter().collect::<HashSet<_>>().len(), names.len());
            for field in fields {
                prop_assert!(field.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
                prop_assert!(!field.starts_with(|c: char| c.is_ascii_digit()));
            }
        }
    }
}
