//! Defaults of columns, and the stand-ins for values that an event does not have.

use super::cell::{self, Fidelity};
use md5::{Digest, Md5};

use super::column::{Form, TextEncoding, TextForm};
use super::{json, write};
use crate::table::{Column, TypeKind};

/// The default that Debezium's schema gives the column, as Avro bytes of its form.
///
/// After Debezium's `PostgresDefaultValueConverter`: constants of common types are taken over, a function's result is
/// replaced by an empty value, and everything else has no default. A constant with a quote in it is kept whole here.
pub(super) fn default_value(column: &Column, form: &Form) -> Option<Vec<u8>> {
    if column.generated.is_some() || !has_defaults(column, form) {
        return None;
    }
    let mut value = Vec::new();
    let text = match (&column.default_value, &column.default) {
        // Debezium reads the literal, which is not padded yet.
        (Some(text), Some(expression)) if is_literal(expression) && column.column_type.name == "bpchar" => {
            text.trim_end()
        }
        (Some(text), Some(expression)) if is_literal(expression) => text.as_str(),
        (Some(text), None) => text.as_str(),
        (_, Some(expression)) => expression_value(expression.trim(), form)?,
        (None, None) => return None,
    };
    match cell::write(form, text.as_bytes(), &mut value) {
        Ok(Fidelity::Exact | Fidelity::Lossy) => json::default_value(form, &value).map(|_| value),
        Ok(Fidelity::Absent) | Err(_) => None,
    }
}

/// Whether the expression is one literal, with or without a cast: all that Debezium takes for a constant.
fn is_literal(expression: &str) -> bool {
    match expression.strip_prefix("E'").or_else(|| expression.strip_prefix('\'')) {
        Some(rest) => rest.replace("''", "").split_once('\'').is_some_and(|(_, cast)| {
            cast.is_empty() || cast.starts_with("::") && !cast.contains(['\'', '|', '+', '*', '/'])
        }),
        None => {
            matches!(expression, "true" | "false")
                || expression.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-()".contains(&byte))
        }
    }
}

/// Debezium reads defaults of these types only, and none of a column with a domain.
fn has_defaults(column: &Column, form: &Form) -> bool {
    if column.column_type.domain.is_some() {
        return false;
    }
    match form {
        Form::Oid
        | Form::Bytes
        | Form::BytesText(_)
        | Form::VariableDecimal
        | Form::Money
        | Form::MoneyDouble
        | Form::MoneyText
        | Form::ZonedTime
        | Form::Point
        | Form::Array(_)
        | Form::Hstore
        | Form::HstoreMap
        | Form::Spatial(_)
        | Form::DoubleVector
        | Form::FloatVector
        | Form::SparseVector
        | Form::Text(TextForm::Tsvector) => false,
        Form::Text(TextForm::Plain) => matches!(column.column_type.name.as_str(), "text" | "varchar" | "bpchar"),
        _ => true,
    }
}

/// The text of a default that is no constant: a stand-in for functions, else what Debezium finds in the expression.
fn expression_value<'a>(expression: &'a str, form: &Form) -> Option<&'a str> {
    if expression.starts_with("NULL::") || expression == "NULL" {
        return None;
    }
    if is_call(expression) {
        return match form {
            Form::Boolean => Some("f"),
            Form::Text(TextForm::Json) => Some("{}"),
            Form::Text(TextForm::Uuid) => Some("00000000-0000-0000-0000-000000000000"),
            Form::Text(_) => Some(""),
            Form::Date | Form::ConnectDate | Form::IsoDate => Some("1970-01-01"),
            Form::TimeMillis | Form::TimeMicros | Form::TimeNanos | Form::ConnectTime | Form::IsoTime => {
                Some("00:00:00")
            }
            Form::TimestampMillis
            | Form::TimestampMicros
            | Form::TimestampNanos
            | Form::ConnectTimestamp
            | Form::IsoTimestamp => Some("1970-01-01 00:00:00"),
            Form::ZonedTimestamp { .. } => Some("1970-01-01 00:00:00+00"),
            Form::Interval | Form::IsoInterval => Some("00:00:00"),
            // `BigDecimal("0.0")`, to which the column's scale only adds digits.
            Form::DecimalText { .. } => Some("0.0"),
            Form::Enum { .. } => None,
            _ => Some("0"),
        };
    }
    if let Form::Enum { .. } | Form::Text(TextForm::Uuid) = form {
        return None;
    }
    match expression.split_once('\'') {
        // Whatever is not true is false to Java.
        None if *form == Form::Boolean && expression != "true" => Some("f"),
        None => Some(expression),
        Some((_, literal)) => literal.split_once('\'').map(|(literal, _)| literal),
    }
}

/// Whether Debezium takes the expression for a function's call: `now()`, `nextval('a'::regclass)`, `CURRENT_DATE`.
fn is_call(expression: &str) -> bool {
    const WITHOUT_PARENTHESES: [&str; 5] =
        ["current_timestamp", "current_time", "current_date", "localtime", "localtimestamp"];
    if WITHOUT_PARENTHESES.iter().any(|name| name.eq_ignore_ascii_case(expression)) {
        return true;
    }
    let inner = expression.strip_prefix('(').unwrap_or(expression);
    let behind = inner.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.');
    behind.len() < inner.len() && behind.starts_with('(') && behind.contains(')')
}

/// Appends what stands in a union-free slot where the row has no value: the default, or the form's zero.
pub(super) fn write_stand_in(form: &Form, default: Option<&[u8]>, out: &mut Vec<u8>) {
    match default {
        Some(default) => out.extend_from_slice(default),
        None => cell::write_zero(form, out),
    }
}

/// The placeholder for an unchanged TOASTed value as Avro bytes of the form; `None` where Debezium has none and writes
/// null instead (`UnchangedToastedReplicationMessageColumn`).
pub(super) fn placeholder(column: &Column, form: &Form, text: &str) -> Option<Box<[u8]>> {
    let one = |bytes: &[u8]| {
        write::built(|out| {
            out.extend_from_slice(&[2, 2]);
            write::bytes(out, bytes);
            out.push(0);
        })
    };
    match form {
        Form::Text(_) | Form::Enum { .. } | Form::Bytes | Form::BytesText(TextEncoding::Hex) => {
            Some(write::built(|out| write::bytes(out, text.as_bytes())))
        }
        Form::Hstore => {
            let mut object = String::new();
            json::text_object([(text, Some(text))].into_iter(), &mut object);
            Some(write::built(|out| write::bytes(out, object.as_bytes())))
        }
        Form::HstoreMap => Some(write::built(|out| {
            out.push(2);
            write::bytes(out, text.as_bytes());
            out.push(2);
            write::bytes(out, text.as_bytes());
            out.push(0);
        })),
        Form::Array(element) => match (element_name(column), &**element) {
            ("bytea", Form::BytesText(_)) => None,
            ("text" | "varchar" | "bpchar" | "json" | "jsonb" | "bytea", _) => Some(one(text.as_bytes())),
            ("uuid", _) => Some(one(name_uuid(text).as_bytes())),
            ("date", Form::IsoDate) => None,
            ("int4" | "date" | "int8", _) => Some(write::built(|out| {
                write::length(out, text.len());
                for byte in text.bytes() {
                    out.push(2);
                    // Java's bytes are signed.
                    write::long(out, i64::from(byte.cast_signed()));
                }
                out.push(0);
            })),
            _ => None,
        },
        _ => None,
    }
}

/// `java.util.UUID.nameUUIDFromBytes` of a text, version 3 without a namespace.
fn name_uuid(text: &str) -> String {
    let mut bytes: [u8; 16] = Md5::digest(text.as_bytes()).into();
    bytes[6] = bytes[6] & 0x0f | 0x30;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let groups = [&bytes[..4], &bytes[4..6], &bytes[6..8], &bytes[8..10], &bytes[10..]];
    groups.map(|group| group.iter().map(|byte| format!("{byte:02x}")).collect::<String>()).join("-")
}

fn element_name(column: &Column) -> &str {
    match &column.column_type.kind {
        TypeKind::Array { element } => &element.name,
        TypeKind::Base | TypeKind::Enum { .. } => "",
    }
}
