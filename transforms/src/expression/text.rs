//! Functions of text, hashes and masks.

use bumpalo::Bump;
use bumpalo::collections::String as BumpString;
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha2::{Digest, Sha256};

use crate::datum::{Answer, Datum};
use crate::fault::{self, Fault};
use crate::json;
use crate::text_form::push_hex;

/// PostgreSQL's `MaxAllocSize`.
const LONGEST: i64 = 0x3FFF_FFFF;

fn one<'a>(arguments: &[Datum<'a>]) -> Result<&'a str, Fault> {
    if let [Datum::Text(text), ..] = arguments { Ok(text) } else { Err(fault::VALUE_FORM) }
}

fn with_number<'a>(arguments: &[Datum<'a>]) -> Result<(&'a str, i64), Fault> {
    if let [Datum::Text(text), Datum::Int(number), ..] = arguments {
        Ok((text, *number))
    } else {
        Err(fault::VALUE_FORM)
    }
}

/// Collation "C" knows the case of ASCII letters alone.
pub(super) fn upper<'a>(arguments: &[Datum<'a>], bump: &'a Bump) -> Answer<'a> {
    let text = one(arguments)?;
    if !text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Ok(Datum::Text(text));
    }
    let upper = bump.alloc_str(text);
    upper.make_ascii_uppercase();
    Ok(Datum::Text(upper))
}

pub(super) fn lower<'a>(arguments: &[Datum<'a>], bump: &'a Bump) -> Answer<'a> {
    let text = one(arguments)?;
    if !text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Ok(Datum::Text(text));
    }
    let lower = bump.alloc_str(text);
    lower.make_ascii_lowercase();
    Ok(Datum::Text(lower))
}

pub(super) fn length<'a>(arguments: &[Datum<'a>], _: &'a Bump) -> Answer<'a> {
    match arguments {
        [Datum::Text(text)] => Ok(Datum::Int(text.chars().count() as i64)),
        [Datum::Bytes(bytes)] => Ok(Datum::Int(bytes.len() as i64)),
        _ => Err(fault::VALUE_FORM),
    }
}

/// `TRIM` and its kin, of blanks or of a set of characters.
pub(super) fn trim<'a>(arguments: &[Datum<'a>], leading: bool, trailing: bool) -> Answer<'a> {
    let set = match arguments {
        [_, Datum::Text(set)] => set,
        _ => " ",
    };
    let mut text = one(arguments)?;
    if leading {
        text = text.trim_start_matches(|character| set.contains(character));
    }
    if trailing {
        text = text.trim_end_matches(|character| set.contains(character));
    }
    Ok(Datum::Text(text))
}

/// The byte where a character begins; the end behind the last one.
fn at(text: &str, character: usize) -> usize {
    text.char_indices().nth(character).map_or(text.len(), |(at, _)| at)
}

/// How many characters a count means that is taken from the end where it is negative.
fn count(text: &str, count: i64) -> usize {
    usize::try_from(count).unwrap_or_else(|_| text.chars().count().saturating_sub(count.unsigned_abs() as usize))
}

pub(super) fn left<'a>(arguments: &[Datum<'a>], _: &'a Bump) -> Answer<'a> {
    let (text, wanted) = with_number(arguments)?;
    Ok(Datum::Text(text.get(..at(text, count(text, wanted))).unwrap_or_default()))
}

pub(super) fn right<'a>(arguments: &[Datum<'a>], _: &'a Bump) -> Answer<'a> {
    let (text, wanted) = with_number(arguments)?;
    let skipped = match usize::try_from(wanted) {
        Ok(wanted) => text.chars().count().saturating_sub(wanted),
        Err(_) => wanted.unsigned_abs() as usize,
    };
    Ok(Datum::Text(text.get(at(text, skipped)..).unwrap_or_default()))
}

/// `SUBSTRING(text FROM start [FOR length])`
pub(super) fn substring<'a>(arguments: &[Datum<'a>], _: &'a Bump) -> Answer<'a> {
    let (text, start) = with_number(arguments)?;
    let end = match arguments {
        [_, _, Datum::Int(length)] if *length < 0 => return Err(fault::NEGATIVE_SUBSTRING),
        [_, _, Datum::Int(length)] => Some(start.saturating_add(*length)),
        _ => None,
    };
    let first = usize::try_from(start.max(1) - 1).unwrap_or(usize::MAX);
    let from = at(text, first);
    let to = match end {
        None => text.len(),
        Some(end) => at(text, usize::try_from((end - 1).max(0)).unwrap_or(0)).max(from),
    };
    Ok(Datum::Text(text.get(from..to).unwrap_or_default()))
}

pub(super) fn replace<'a>(arguments: &[Datum<'a>], bump: &'a Bump) -> Answer<'a> {
    let [Datum::Text(text), Datum::Text(from), Datum::Text(to)] = arguments else { return Err(fault::VALUE_FORM) };
    if from.is_empty() || !text.contains(from) {
        return Ok(Datum::Text(text));
    }
    let mut out = BumpString::with_capacity_in(text.len(), bump);
    for (number, part) in text.split(from).enumerate() {
        out.push_str(if number == 0 { "" } else { to });
        out.push_str(part);
    }
    Ok(Datum::Text(out.into_bump_str()))
}

/// `CONCAT`: NULLs are left out.
pub(super) fn concat<'a>(arguments: &[Datum<'a>], bump: &'a Bump) -> Answer<'a> {
    let mut out = BumpString::new_in(bump);
    for argument in arguments {
        if let Datum::Text(text) = argument {
            out.push_str(text);
        }
    }
    Ok(Datum::Text(out.into_bump_str()))
}

/// `CONCAT_WS`: NULL where the separator is.
pub(super) fn concat_ws<'a>(arguments: &[Datum<'a>], bump: &'a Bump) -> Answer<'a> {
    let [Datum::Text(separator), parts @ ..] = arguments else { return Ok(Datum::Null) };
    let mut out = BumpString::new_in(bump);
    let mut first = true;
    for part in parts {
        if let Datum::Text(text) = part {
            out.push_str(if std::mem::take(&mut first) { "" } else { separator });
            out.push_str(text);
        }
    }
    Ok(Datum::Text(out.into_bump_str()))
}

pub(super) fn split_part<'a>(arguments: &[Datum<'a>], _: &'a Bump) -> Answer<'a> {
    let [Datum::Text(text), Datum::Text(separator), Datum::Int(field)] = arguments else {
        return Err(fault::VALUE_FORM);
    };
    if *field == 0 {
        return Err(fault::FIELD_POSITION);
    }
    let whole = if matches!(field, 1 | -1) { text } else { "" };
    if text.is_empty() || separator.is_empty() {
        return Ok(Datum::Text(whole));
    }
    let found = match usize::try_from(*field) {
        Ok(field) => text.split(separator).nth(field - 1),
        Err(_) => {
            // From the end, but cut from the beginning: the two differ where separators overlap.
            let parts = text.split(separator).count();
            parts.checked_sub(field.unsigned_abs() as usize).and_then(|at| text.split(separator).nth(at))
        }
    };
    Ok(Datum::Text(found.unwrap_or_default()))
}

/// `LPAD` and `RPAD`
pub(super) fn pad<'a>(arguments: &[Datum<'a>], bump: &'a Bump, leading: bool) -> Answer<'a> {
    let (text, length) = with_number(arguments)?;
    let fill = match arguments {
        [_, _, Datum::Text(fill)] => fill,
        _ => " ",
    };
    let length = length.max(0);
    if length > LONGEST / 4 {
        return Err(fault::TOO_LONG);
    }
    let length = length as usize;
    let missing = length.saturating_sub(text.chars().count());
    let cut = text.get(..at(text, length)).unwrap_or_default();
    if missing == 0 || fill.is_empty() {
        return Ok(Datum::Text(cut));
    }
    let mut out = BumpString::with_capacity_in(text.len() + missing, bump);
    if !leading {
        out.push_str(cut);
    }
    out.extend(fill.chars().cycle().take(missing));
    if leading {
        out.push_str(cut);
    }
    Ok(Datum::Text(out.into_bump_str()))
}

fn bytes<'a>(datum: Datum<'a>) -> Result<&'a [u8], Fault> {
    match datum {
        Datum::Text(text) => Ok(text.as_bytes()),
        Datum::Bytes(bytes) => Ok(bytes),
        _ => Err(fault::VALUE_FORM),
    }
}

fn hex<'a>(digest: &[u8], bump: &'a Bump) -> Answer<'a> {
    let mut out = BumpString::with_capacity_in(digest.len() * 2, bump);
    push_hex(digest, &mut out);
    Ok(Datum::Text(out.into_bump_str()))
}

pub(super) fn md5<'a>(arguments: &[Datum<'a>], bump: &'a Bump) -> Answer<'a> {
    hex(&Md5::digest(bytes(arguments[0])?), bump)
}

/// Of `bytea`, as PostgreSQL has it: the digest itself.
pub(super) fn sha256<'a>(arguments: &[Datum<'a>], bump: &'a Bump) -> Answer<'a> {
    Ok(Datum::Bytes(bump.alloc_slice_copy(&Sha256::digest(bytes(arguments[0])?))))
}

/// Of text, as `MD5` does it: hexadecimal digits.
pub(super) fn sha256_hex<'a>(arguments: &[Datum<'a>], bump: &'a Bump) -> Answer<'a> {
    hex(&Sha256::digest(bytes(arguments[0])?), bump)
}

pub(super) fn hmac_sha256<'a>(arguments: &[Datum<'a>], bump: &'a Bump) -> Answer<'a> {
    let [data, key] = arguments else { return Err(fault::VALUE_FORM) };
    let mut mac = Hmac::<Sha256>::new_from_slice(bytes(*key)?).map_err(|_| fault::VALUE_FORM)?;
    mac.update(bytes(*data)?);
    hex(&mac.finalize().into_bytes(), bump)
}

/// `MASK(text [, keep [, with]])`: every character but the last `keep` (the first, where negative) replaced.
pub(super) fn mask<'a>(arguments: &[Datum<'a>], bump: &'a Bump) -> Answer<'a> {
    let text = one(arguments)?;
    let keep = match arguments {
        [_, Datum::Int(keep), ..] => *keep,
        _ => 0,
    };
    let with = match arguments {
        [_, _, Datum::Text(with)] => with,
        _ => "*",
    };
    let count = text.chars().count();
    let kept = usize::try_from(keep.unsigned_abs()).unwrap_or(usize::MAX).min(count);
    let mut out = BumpString::with_capacity_in(text.len(), bump);
    for (number, character) in text.chars().enumerate() {
        let stays = if keep < 0 { number < kept } else { number >= count - kept };
        if stays {
            out.push(character);
        } else {
            out.push_str(with);
        }
    }
    Ok(Datum::Text(out.into_bump_str()))
}

/// `jsonb_build_object` of names and values that are JSON already, by turns.
pub(super) fn build_object<'a>(arguments: &[Datum<'a>], bump: &'a Bump) -> Answer<'a> {
    let mut members = bumpalo::collections::Vec::new_in(bump);
    for pair in arguments.chunks(2) {
        let [Datum::Text(name), value] = pair else { return Err(fault::JSON_KEY_NULL) };
        members.push((*name, if let Datum::Text(json) = value { *json } else { "null" }));
    }
    let mut out = BumpString::new_in(bump);
    json::push_object(&mut members, &mut out, |json, out| {
        out.push_str(json);
        Ok(())
    })?;
    Ok(Datum::Text(out.into_bump_str()))
}

/// A text as a JSON string.
pub(super) fn quoted<'a>(arguments: &[Datum<'a>], bump: &'a Bump) -> Answer<'a> {
    let mut out = BumpString::new_in(bump);
    json::push_string(one(arguments)?, &mut out);
    Ok(Datum::Text(out.into_bump_str()))
}

/// A number's text in JSON; NaN and the infinities are strings.
pub(super) fn json_number<'a>(arguments: &[Datum<'a>], bump: &'a Bump) -> Answer<'a> {
    let text = one(arguments)?;
    match text {
        "NaN" | "Infinity" | "-Infinity" => quoted(arguments, bump),
        text if text.contains('e') || text == "-0" => Ok(Datum::Text(json::normalize(text, bump)?)),
        _ => Ok(Datum::Text(text)),
    }
}

/// A date or timestamp in JSON: ISO 8601 with a `T`.
pub(super) fn json_moment<'a>(arguments: &[Datum<'a>], bump: &'a Bump) -> Answer<'a> {
    json_time(one(arguments)?, "", bump)
}

/// The same with a zone.
pub(super) fn json_zoned<'a>(arguments: &[Datum<'a>], bump: &'a Bump) -> Answer<'a> {
    json_time(one(arguments)?, ":00", bump)
}

fn json_time<'a>(text: &str, minutes: &str, bump: &'a Bump) -> Answer<'a> {
    let mut out = BumpString::new_in(bump);
    out.push('"');
    if text.ends_with("infinity") {
        out.push_str(text);
    } else {
        let (text, era) = text.strip_suffix(" BC").map_or((text, ""), |text| (text, " BC"));
        let (day, time) = text.split_once(' ').map_or((text, None), |(day, time)| (day, Some(time)));
        out.push_str(day);
        if let Some(time) = time {
            out.push('T');
            out.push_str(time);
            out.push_str(minutes);
        }
        out.push_str(era);
    }
    out.push('"');
    Ok(Datum::Text(out.into_bump_str()))
}
