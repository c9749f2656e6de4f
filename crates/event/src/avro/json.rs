//! JSON as Java's libraries write it: schema text (Jackson) and the key headers (Kafka Connect's `Values`).

use super::base64;
use super::column::Form;
use super::reader::{Problem, Reader};

/// Appends a string with Jackson's escapes: `"`, `\`, and control characters with upper-case digits.
pub(crate) fn string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Appends an object of texts and nulls.
pub(super) fn text_object<'a>(members: impl Iterator<Item = (&'a str, Option<&'a str>)>, out: &mut String) {
    out.push('{');
    for (index, (name, value)) in members.enumerate() {
        if index > 0 {
            out.push(',');
        }
        string(name, out);
        out.push(':');
        match value {
            Some(value) => string(value, out),
            None => out.push_str("null"),
        }
    }
    out.push('}');
}

/// The digits of a float, given as those of the double it becomes: `0.1` of `0.10000000149011612`.
pub(super) fn single(of_double: &str) -> String {
    let digits = of_double.parse::<f64>().map(|value| (value as f32).to_string());
    digits.ok().and_then(|digits| digits.parse().ok()).map_or_else(|| of_double.to_owned(), double)
}

/// A finite double as `Double.toString` lays it out: `1.5`, `100.0`, `1.0E10`, `1.25E-4`.
fn double(value: f64) -> String {
    let scientific = format!("{value:E}");
    let (mantissa, exponent) = scientific.split_once('E').expect("the format has an exponent");
    if value == 0.0 || (1e-3..1e7).contains(&value.abs()) {
        let plain = value.to_string();
        if plain.contains('.') { plain } else { plain + ".0" }
    } else if mantissa.contains('.') {
        format!("{mantissa}E{exponent}")
    } else {
        format!("{mantissa}.0E{exponent}")
    }
}

/// A column's default, given as Avro bytes of its form, as it stands in a schema: bytes are Latin-1 text. `None` for
/// forms whose defaults Debezium leaves out, and for floats that JSON does not know.
pub(super) fn default_value(form: &Form, value: &[u8]) -> Option<String> {
    let mut reader = Reader::new(value);
    let finite = |value: f64| value.is_finite().then(|| double(value));
    let quoted = |text: &str| {
        let mut out = String::new();
        string(text, &mut out);
        out
    };
    let read = match form {
        Form::Boolean | Form::Bit => reader.boolean().map(|value| value.to_string()),
        Form::Int16
        | Form::Int32
        | Form::Int64
        | Form::Oid
        | Form::Date
        | Form::ConnectDate
        | Form::TimeMillis
        | Form::TimeMicros
        | Form::TimeNanos
        | Form::ConnectTime
        | Form::TimestampMillis
        | Form::TimestampMicros
        | Form::TimestampNanos
        | Form::ConnectTimestamp
        | Form::Interval => reader.long().map(|value| value.to_string()),
        // Avro's Java library makes a double of every float on the way.
        Form::Float32 => return finite(f64::from(reader.float().ok()?)),
        Form::Float64 | Form::DecimalDouble | Form::MoneyDouble => return finite(reader.double().ok()?),
        Form::Text(_)
        | Form::Enum { .. }
        | Form::Hstore
        | Form::BytesText(_)
        | Form::DecimalText { .. }
        | Form::MoneyText
        | Form::IsoDate
        | Form::IsoTime
        | Form::IsoTimestamp
        | Form::IsoInterval
        | Form::ZonedTimestamp { .. }
        | Form::ZonedTime => reader.text().map(quoted),
        Form::Bytes | Form::Decimal { .. } | Form::Money | Form::Bits { .. } => {
            reader.bytes().map(|bytes| quoted(&bytes.iter().copied().map(char::from).collect::<String>()))
        }
        Form::VariableDecimal
        | Form::Point
        | Form::Array(_)
        | Form::HstoreMap
        | Form::Spatial(_)
        | Form::DoubleVector
        | Form::FloatVector
        | Form::SparseVector => return None,
    };
    Some(read.expect("the bytes were written for the form"))
}

/// Appends a key column, given as PostgreSQL's text and as the Avro bytes made of it, as it stands in the key headers
/// (`org.apache.kafka.connect.data.Values.append`): bytes are Base64, decimals are numbers. Control characters stand in
/// it as they are, although JSON would have them escaped.
pub(super) fn key_value(form: &Form, text: &[u8], value: &[u8], out: &mut String) {
    let mut reader = Reader::new(value);
    append(form, Some(text), &mut reader, out).expect("the bytes were written for the form");
}

fn append(form: &Form, text: Option<&[u8]>, reader: &mut Reader<'_>, out: &mut String) -> Result<(), Problem> {
    match form {
        Form::Boolean | Form::Bit => out.push_str(if reader.boolean()? { "true" } else { "false" }),
        Form::Int16
        | Form::Int32
        | Form::Int64
        | Form::Oid
        | Form::Date
        | Form::ConnectDate
        | Form::TimeMillis
        | Form::TimeMicros
        | Form::TimeNanos
        | Form::ConnectTime
        | Form::TimestampMillis
        | Form::TimestampMicros
        | Form::TimestampNanos
        | Form::ConnectTimestamp
        | Form::Interval => out.push_str(&reader.long()?.to_string()),
        Form::Float32 => {
            single_number(reader.float()?, out);
        }
        Form::Float64 | Form::DecimalDouble | Form::MoneyDouble => {
            double_number(reader.double()?, out);
        }
        Form::Text(_)
        | Form::Enum { .. }
        | Form::Hstore
        | Form::BytesText(_)
        | Form::DecimalText { .. }
        | Form::MoneyText
        | Form::IsoDate
        | Form::IsoTime
        | Form::IsoTimestamp
        | Form::IsoInterval
        | Form::ZonedTimestamp { .. }
        | Form::ZonedTime => {
            key_string(reader.text()?, out);
        }
        Form::Decimal { .. } | Form::Money => {
            let bytes = reader.bytes()?;
            match text.and_then(|text| std::str::from_utf8(text).ok()) {
                Some(text) => decimal(&text.replace(['$', ','], ""), out),
                None => base64(bytes, out),
            }
        }
        Form::Bytes | Form::Bits { .. } => base64(reader.bytes()?, out),
        Form::VariableDecimal => {
            out.push_str(&format!("{{\"scale\":{},\"value\":", reader.long()?));
            base64(reader.bytes()?, out);
            out.push('}');
        }
        Form::Point => {
            out.push_str(&format!("{{\"x\":{},\"y\":{},\"wkb\":", double(reader.double()?), double(reader.double()?)));
            reader.long()?;
            base64(reader.bytes()?, out);
            out.push_str(",\"srid\":null}");
            reader.long()?;
        }
        // No keys: there is no order to find them by, or none that says what is equal.
        Form::HstoreMap | Form::Spatial(_) | Form::DoubleVector | Form::FloatVector | Form::SparseVector => {
            return Err(Problem::Block);
        }
        Form::Array(element) => {
            out.push('[');
            let items = reader.block()?.map_or(0, |block| block.items);
            for item in 0..items {
                if item > 0 {
                    out.push(',');
                }
                if element.null_in_arrays() && reader.long()? == 0 {
                    out.push_str("null");
                } else {
                    append(element, None, reader, out)?;
                }
            }
            out.push(']');
        }
    }
    Ok(())
}

/// Quotes and backslashes are all that `Values.escape` knows.
fn key_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}

/// Appends a float by its own digits, as `Float.toString` does, not by those of the double it becomes.
pub(crate) fn single_number(value: f32, out: &mut String) {
    float(f64::from(value), || double(value.to_string().parse().unwrap_or(f64::from(value))), out);
}

/// Appends a double.
pub(crate) fn double_number(value: f64, out: &mut String) {
    float(value, || double(value), out);
}

/// What JSON has no number for stands in quotes.
fn float(value: f64, print: impl FnOnce() -> String, out: &mut String) {
    if value.is_finite() {
        out.push_str(&print());
    } else {
        out.push_str(if value.is_nan() {
            "\"NaN\""
        } else if value > 0.0 {
            "\"Infinity\""
        } else {
            "\"-Infinity\""
        });
    }
}

/// A number as `BigDecimal.toString` prints it: in full unless more than five zeros follow the point.
fn decimal(text: &str, out: &mut String) {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let Some((whole, fraction)) = digits.split_once('.') else {
        out.push_str(text);
        return;
    };
    let significant = fraction.trim_start_matches('0');
    let zeros = fraction.len() - significant.len();
    let exponent = if significant.is_empty() { fraction.len() } else { zeros + 1 };
    if whole != "0" || exponent <= 6 {
        out.push_str(text);
        return;
    }
    out.push_str(sign);
    let mut rest = significant.chars();
    out.push(rest.next().unwrap_or('0'));
    if !rest.as_str().is_empty() {
        out.push('.');
        out.push_str(rest.as_str());
    }
    out.push_str(&format!("E-{exponent}"));
}

/// Appends bytes as Base64 text.
pub(crate) fn base64(bytes: &[u8], out: &mut String) {
    out.push('"');
    base64::encode(bytes, false, |digit| out.push(char::from(digit)));
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn to_string(print: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        print(&mut out);
        out
    }

    #[test]
    fn doubles_are_laid_out_as_javas() {
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.5, "1.5"),
            (100.0, "100.0"),
            (9_999_999.0, "9999999.0"),
            (1e7, "1.0E7"),
            (1.234e10, "1.234E10"),
            (0.001, "0.001"),
            (1.25e-4, "1.25E-4"),
            (-3e-300, "-3.0E-300"),
        ] {
            assert_eq!(double(value), text);
        }
    }

    #[test]
    fn floats_keep_their_own_digits() {
        for (double, single_digits) in
            [("0.10000000149011612", "0.1"), ("3.0", "3.0"), ("3.4028234663852886E38", "3.4028235E38")]
        {
            assert_eq!(single(double), single_digits);
        }
    }

    #[test]
    fn decimals_are_printed_as_javas() {
        for (text, printed) in [
            ("7", "7"),
            ("-1.50", "-1.50"),
            ("0.000001", "0.000001"),
            ("0.0000001", "1E-7"),
            ("-0.00000123", "-0.00000123"),
            ("-0.000000123", "-1.23E-7"),
            ("0.000000", "0.000000"),
            ("0.0000000", "0E-7"),
        ] {
            assert_eq!(to_string(|out| decimal(text, out)), printed);
        }
    }

    #[test]
    fn keys_escape_quotes_and_backslashes_alone() {
        assert_eq!(to_string(|out| key_string("a\"b\\c\td\u{1}", out)), "\"a\\\"b\\\\c\td\u{1}\"");
    }

    #[test]
    fn bytes_are_base64() {
        for (bytes, text) in [
            (&b""[..], "\"\""),
            (b"f", "\"Zg==\""),
            (b"fo", "\"Zm8=\""),
            (b"foo", "\"Zm9v\""),
            (b"\xff\xfe\xfd\xfc", "\"//79/A==\""),
        ] {
            assert_eq!(to_string(|out| base64(bytes, out)), text);
        }
    }

    proptest! {
        #[test]
        fn strings_are_read_back(text in any::<String>()) {
            let json = to_string(|out| string(&text, out));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }

        #[test]
        fn doubles_are_read_back(value in any::<f64>()) {
            prop_assume!(value.is_finite());
            prop_assert_eq!(double(value).parse::<f64>(), Ok(value));
        }
    }
}
