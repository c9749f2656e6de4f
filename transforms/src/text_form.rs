//! PostgreSQL's input and output of each type, as `CAST` to and from text uses them.

use std::fmt::Write;

use bumpalo::Bump;
use bumpalo::collections::{String as BumpString, Vec as BumpVec};

use crate::calendar;
use crate::datum::{Answer, Datum};
use crate::fault;
use crate::interval::Interval;
use crate::json;
use crate::numeric::{Numeric, is_space};
use crate::sql_type::SqlType;

/// What PostgreSQL prints for a value that is neither NULL nor unknown.
pub(crate) fn print<'a>(datum: Datum<'a>, sql_type: SqlType, bump: &'a Bump) -> &'a str {
    let mut out = BumpString::new_in(bump);
    match datum {
        Datum::Text(text) => return text,
        Datum::Bool(true) => return "t",
        Datum::Bool(false) => return "f",
        Datum::Numeric(number) => return number.print(bump),
        Datum::Int(value) => put(&mut out, format_args!("{value}")),
        Datum::Float4(value) => print_float(f64::from(value), format_args!("{value:e}"), 6, &mut out),
        Datum::Float8(value) => print_float(value, format_args!("{value:e}"), 15, &mut out),
        Datum::Bytes(bytes) => {
            out.push_str("\\x");
            push_hex(bytes, &mut out);
        }
        Datum::Date(date) => calendar::print_date(date, &mut out),
        Datum::Time(micros) => calendar::print_time(micros, &mut out),
        Datum::Timestamp(micros) => {
            let zone = if sql_type == SqlType::Timestamptz { "+00" } else { "" };
            calendar::print_timestamp(micros, zone, &mut out);
        }
        Datum::Interval(interval) => interval.print(&mut out),
        Datum::Null | Datum::Unknown | Datum::Opaque(_) => {}
    }
    out.into_bump_str()
}

pub(crate) fn push_hex(bytes: &[u8], out: &mut BumpString<'_>) {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

fn put(out: &mut BumpString<'_>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a text takes every write");
}

/// The shortest digits that read back as the same number, laid out as `%g` with `most` digits would.
fn print_float(value: f64, shortest: std::fmt::Arguments<'_>, most: i32, out: &mut BumpString<'_>) {
    if value.is_nan() {
        return out.push_str("NaN");
    }
    if value.is_infinite() {
        return out.push_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
    let start = out.len();
    put(out, shortest);
    tie_to_even(value, start, out);
    let printed = BumpString::from_str_in(out.get(start..).unwrap_or_default(), out.bump());
    out.truncate(start);
    let (mantissa, exponent) = printed.split_once('e').unwrap_or((&printed, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    out.push_str(sign);
    let digits = || mantissa.chars().filter(char::is_ascii_digit);
    let count = digits().count() as i32;
    if exponent < -4 || exponent >= most {
        out.push_str(mantissa);
        let sign = if exponent < 0 { '-' } else { '+' };
        put(out, format_args!("e{sign}{:02}", exponent.unsigned_abs()));
    } else if exponent < 0 {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', (-exponent - 1) as usize));
        out.extend(digits());
    } else {
        out.extend(digits().take(exponent as usize + 1));
        out.extend(std::iter::repeat_n('0', (exponent + 1 - count).max(0) as usize));
        if count > exponent + 1 {
            out.push('.');
            out.extend(digits().skip(exponent as usize + 1));
        }
    }
}

/// Where the number lies in the middle of two shortest texts, PostgreSQL takes the even one and Rust the upper one.
/// Doubles alone have so many digits.
fn tie_to_even(value: f64, start: usize, out: &mut BumpString<'_>) {
    let digits = out.get(start..).unwrap_or_default().split('e').next().unwrap_or_default();
    let count = digits.bytes().filter(u8::is_ascii_digit).count();
    let Some(odd) = digits.bytes().next_back().filter(|last| last.is_ascii_digit() && last % 2 == 1) else { return };
    if count < 16 {
        return;
    }
    let end = start + digits.len();
    // Eighty digits behind are exact for every number whose tie this can be.
    let exact = BumpString::from_str_in(&format!("{value:.90e}"), out.bump());
    let Some(behind) = exact.split('e').next().and_then(|exact| exact.get(end - start..)) else { return };
    let before = exact.as_bytes().get(end - start - 1).copied();
    if before == Some(odd - 1) && behind.starts_with('5') && behind.bytes().skip(1).all(|digit| digit == b'0') {
        let even = char::from(odd - 1);
        let mut text = BumpString::from_str_in(out.get(start..end - 1).unwrap_or_default(), out.bump());
        text.push(even);
        text.push_str(out.get(end..).unwrap_or_default());
        out.truncate(start);
        out.push_str(&text);
    }
}

/// Reads a text as PostgreSQL's input of the type does.
pub(crate) fn parse<'a>(text: &'a str, sql_type: SqlType, bump: &'a Bump) -> Answer<'a> {
    Ok(match sql_type {
        SqlType::Bool => Datum::Bool(boolean(text).ok_or(fault::NO_TEXT_FORM)?),
        SqlType::Int2 => integer(text, i64::from(i16::MIN), i64::from(i16::MAX))?,
        SqlType::Int4 => integer(text, i64::from(i32::MIN), i64::from(i32::MAX))?,
        SqlType::Int8 => integer(text, i64::MIN, i64::MAX)?,
        SqlType::Float4 => {
            let text = float_text(text)?;
            let value: f32 = text.parse().map_err(|_| fault::NO_TEXT_FORM)?;
            check_float(f64::from(value), text)?;
            Datum::Float4(value)
        }
        SqlType::Float8 => {
            let text = float_text(text)?;
            let value: f64 = text.parse().map_err(|_| fault::NO_TEXT_FORM)?;
            check_float(value, text)?;
            Datum::Float8(value)
        }
        SqlType::Numeric => Datum::Numeric(Numeric::parse(text, bump)?),
        SqlType::Date => Datum::Date(calendar::parse_date(text)?),
        SqlType::Time => Datum::Time(calendar::parse_time(text)?),
        SqlType::Timestamp => Datum::Timestamp(calendar::parse_timestamp(text, false)?),
        SqlType::Timestamptz => Datum::Timestamp(calendar::parse_timestamp(text, true)?),
        SqlType::Interval => Datum::Interval(Interval::parse(text)?),
        SqlType::Bytea => Datum::Bytes(bytea(text, bump)?),
        SqlType::Uuid => Datum::Text(uuid(text, bump)?),
        SqlType::Json => {
            json::check(text)?;
            Datum::Text(text)
        }
        SqlType::Jsonb => Datum::Text(json::normalize(text, bump)?),
        SqlType::Literal | SqlType::Text | SqlType::Bpchar | SqlType::Enum | SqlType::Textual | SqlType::Opaque => {
            Datum::Text(text)
        }
    })
}

/// `parse_bool`: any beginning of the words that is not shared.
fn boolean(text: &str) -> Option<bool> {
    let text = text.trim_matches(is_space).to_ascii_lowercase();
    let begins = |word: &str, least: usize| text.len() >= least && word.starts_with(&text);
    if begins("true", 1) || begins("yes", 1) || text == "on" || text == "1" {
        return Some(true);
    }
    (begins("false", 1) || begins("no", 1) || begins("off", 2) || text == "0").then_some(false)
}

fn integer<'a>(text: &str, least: i64, most: i64) -> Answer<'a> {
    let text = text.trim_matches(is_space);
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(fault::NO_TEXT_FORM);
    }
    match text.parse::<i64>() {
        Ok(value) if (least..=most).contains(&value) => Ok(Datum::Int(value)),
        _ => Err(fault::INTEGER_RANGE),
    }
}

/// What Rust's own reader takes and C's `strtod` takes, too.
fn float_text(text: &str) -> Result<&str, fault::Fault> {
    let text = text.trim_matches(is_space);
    if text.is_empty() { Err(fault::NO_TEXT_FORM) } else { Ok(text) }
}

fn check_float(value: f64, text: &str) -> Result<(), fault::Fault> {
    let begins_with_digit = text.trim_start_matches(['+', '-']).starts_with(|c: char| c.is_ascii_digit() || c == '.');
    if value.is_infinite() && begins_with_digit {
        return Err(fault::FLOAT_OVERFLOW);
    }
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    if value == 0.0 && mantissa.bytes().any(|byte| (b'1'..=b'9').contains(&byte)) {
        return Err(fault::FLOAT_UNDERFLOW);
    }
    Ok(())
}

fn bytea<'a>(text: &str, bump: &'a Bump) -> Result<&'a [u8], fault::Fault> {
    let mut out = BumpVec::new_in(bump);
    if let Some(digits) = text.strip_prefix("\\x") {
        let mut high = None;
        for character in digits.chars().filter(|character| !is_space(*character)) {
            let nibble = character.to_digit(16).ok_or(fault::Fault { state: "22023", ..fault::NO_TEXT_FORM })? as u8;
            match high.take() {
                None => high = Some(nibble),
                Some(high) => out.push(high << 4 | nibble),
            }
        }
        if high.is_some() {
            return Err(fault::Fault { state: "22023", ..fault::NO_TEXT_FORM });
        }
        return Ok(out.into_bump_slice());
    }
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'\\') => out.push(b'\\'),
            Some(a @ b'0'..=b'3') => {
                let (Some(b @ b'0'..=b'7'), Some(c @ b'0'..=b'7')) = (bytes.next(), bytes.next()) else {
                    return Err(fault::NO_TEXT_FORM);
                };
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
            }
            _ => return Err(fault::NO_TEXT_FORM),
        }
    }
    Ok(out.into_bump_slice())
}

/// Hexadecimal digits with a hyphen behind any group of four, perhaps in braces.
fn uuid<'a>(text: &str, bump: &'a Bump) -> Result<&'a str, fault::Fault> {
    let inner = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}').ok_or(fault::NO_TEXT_FORM)?,
        None => text,
    };
    let mut out = BumpString::with_capacity_in(36, bump);
    let mut count = 0;
    let mut may_hyphen = false;
    for character in inner.chars() {
        if character == '-' && may_hyphen {
            may_hyphen = false;
            continue;
        }
        if !character.is_ascii_hexdigit() || count == 32 {
            return Err(fault::NO_TEXT_FORM);
        }
        if matches!(count, 8 | 12 | 16 | 20) {
            out.push('-');
        }
        out.push(character.to_ascii_lowercase());
        count += 1;
        may_hyphen = count % 4 == 0 && count < 32;
    }
    if count == 32 { Ok(out.into_bump_str()) } else { Err(fault::NO_TEXT_FORM) }
}
