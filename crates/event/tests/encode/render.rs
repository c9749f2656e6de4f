//! Decoded values back into PostgreSQL's text, written for plainness: what a target without any error would store.

use syncline_event::avro::value::Value;
use syncline_event::table::{ColumnType, TypeKind};

/// The text of a value; `None` for NULL.
pub(crate) fn render(value: &Value<'_>, column_type: &ColumnType) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Unknown => "unknown".into(),
        Value::Boolean(value) if column_type.name.ends_with("bit") => u8::from(*value).to_string(),
        Value::Boolean(value) => if *value { "t" } else { "f" }.into(),
        Value::Integer(value) => value.to_string(),
        Value::Float32(value) => format!("{value:?}"),
        Value::Float64(value) => format!("{value:?}"),
        Value::Text(text) | Value::SourceText(text) => (*text).into(),
        Value::EncodedBytes(_) => unreachable!("no mode of this test writes bytes as text"),
        Value::Bytes(bytes) => format!("\\x{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        Value::Decimal { unscaled, scale } => decimal(unscaled, usize::try_from(*scale).unwrap()),
        Value::Date(days) => date(i64::from(*days)),
        Value::Time(micros) => time(*micros),
        Value::Timestamp(micros) => timestamp(micros.div_euclid(DAY), micros.rem_euclid(DAY)),
        Value::TimestampMillis(millis) => {
            timestamp(millis.div_euclid(DAY / 1_000), millis.rem_euclid(DAY / 1_000) * 1_000)
        }
        Value::ZonedTimestamp(text) => match *text {
            "infinity" | "-infinity" => (*text).into(),
            text => format!("{}+00", trimmed(&text.replace('T', " "))),
        },
        Value::ZonedTime(text) => format!("{}+00", trimmed(text)),
        Value::Duration(micros) => duration(*micros),
        Value::Bits { bytes, length } => (0..usize::try_from(*length).unwrap())
            .rev()
            .map(|bit| if bytes.get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1) { '1' } else { '0' })
            .collect(),
        Value::Point { x, y } => format!("({x:?},{y:?})"),
        Value::Array(array) => {
            let TypeKind::Array { element } = &column_type.kind else { panic!("not an array type") };
            literal(array.iter().map(|value| render(&value, element)))
        }
        Value::Map(map) => map.to_json(),
        Value::SparseVector(vector) => vector.to_string(),
        Value::Spatial(value) => {
            let mut text = Vec::new();
            value.push_ewkb(&mut text)?;
            String::from_utf8(text).ok()?
        }
    })
}

const DAY: i64 = 86_400_000_000;

/// `array_out`: quotes what is empty, is a null in any case, or holds a character that means something.
pub(crate) fn literal(elements: impl Iterator<Item = Option<String>>) -> String {
    let texts: Vec<String> = elements
        .map(|element| match element {
            None => "NULL".to_owned(),
            Some(text)
                if text.is_empty()
                    || text.eq_ignore_ascii_case("null")
                    || text.contains(|c: char| "\"\\{},".contains(c) || c.is_ascii_whitespace() || c == '\u{b}') =>
            {
                format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
            }
            Some(text) => text,
        })
        .collect();
    format!("{{{}}}", texts.join(","))
}

/// `2024-02-29`, `0044-03-15 BC`.
pub(crate) fn date(days: i64) -> String {
    let (text, era) = civil(days);
    text + era
}

/// `2024-02-29 12:34:56.5`, `0044-03-15 00:00:00 BC`.
pub(crate) fn timestamp(day: i64, micros: i64) -> String {
    let (text, era) = civil(day);
    format!("{text} {}{era}", time(micros))
}

/// `2024-02-29 12:34:56.5+00`, `0044-03-15 00:00:00+00 BC`.
pub(crate) fn zoned_timestamp(day: i64, micros: i64) -> String {
    let (text, era) = civil(day);
    format!("{text} {}+00{era}", time(micros))
}

/// `12:34:56.5`.
pub(crate) fn time(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    let whole = format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    trimmed(&format!("{whole}.{:06}", micros % 1_000_000))
}

/// `-04:05:06.5`.
pub(crate) fn duration(micros: i64) -> String {
    let absolute = i64::try_from(micros.unsigned_abs()).unwrap_or(i64::MAX);
    format!("{}{}", if micros < 0 { "-" } else { "" }, time(absolute))
}

/// Without a `Z`, trailing zeros of the fraction, and an empty fraction.
fn trimmed(text: &str) -> String {
    let text = text.trim_end_matches('Z');
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text.into() }
}

/// The year's digits with month and day, and the era behind them.
fn civil(days: i64) -> (String, &'static str) {
    // Whole cycles of 400 years away, then year by year and month by month.
    let mut year = 1970 + days.div_euclid(146_097) * 400;
    let mut rest = days.rem_euclid(146_097);
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    while rest >= 365 + i64::from(leap(year)) {
        rest -= 365 + i64::from(leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + i64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if rest < length {
            break;
        }
        rest -= length;
        month += 1;
    }
    let (year, era) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    (format!("{year:04}-{month:02}-{:02}", rest + 1), era)
}

/// Big-endian two's complement with a point put in.
fn decimal(unscaled: &[u8], scale: usize) -> String {
    let negative = unscaled.first().is_some_and(|byte| *byte >= 0x80);
    let mut digits = vec![0_u8];
    for byte in unscaled {
        let mut carry = u32::from(if negative { !*byte } else { *byte });
        for digit in digits.iter_mut().rev() {
            carry += u32::from(*digit) * 256;
            *digit = u8::try_from(carry % 10).unwrap();
            carry /= 10;
        }
        while carry > 0 {
            digits.insert(0, u8::try_from(carry % 10).unwrap());
            carry /= 10;
        }
    }
    if negative {
        // The complement is one less.
        let last = digits.iter().rposition(|digit| *digit < 9);
        match last {
            Some(at) => {
                digits[at] += 1;
                digits[at + 1..].fill(0);
            }
            None => {
                digits.fill(0);
                digits.insert(0, 1);
            }
        }
    }
    let text: String = digits.into_iter().map(|digit| char::from(b'0' + digit)).collect();
    let text = text.trim_start_matches('0');
    let padded = format!("{text:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    let sign = if negative { "-" } else { "" };
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}
