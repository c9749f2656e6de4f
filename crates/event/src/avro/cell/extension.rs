//! Types of extensions. Columns of these types do not take their form in events, so the source's text always travels
//! along.

use super::Fidelity::{self, Absent, Lossy};
use crate::avro::text::{Malformed, hstore, number};
use crate::avro::{json, write};

/// `GEOMETRYCOLLECTION EMPTY` (Debezium's `PostgisGeometry.createEmpty`).
pub(super) const EMPTY_COLLECTION: &[u8] = &[1, 7, 0, 0, 0, 0, 0, 0, 0];

/// Hexadecimal EWKB, with its SRID once more where it has one.
pub(super) fn spatial(text: &[u8], out: &mut Vec<u8>) -> Result<Fidelity, Malformed> {
    const HAS_SRID: u32 = 0x2000_0000;
    let (pairs, []) = text.as_chunks::<2>() else { return Err(Malformed) };
    let nibble = |digit: u8| char::from(digit).to_digit(16).ok_or(Malformed);
    let bytes = pairs.iter().map(|[high, low]| Ok((nibble(*high)? << 4 | nibble(*low)?) as u8));
    let bytes = bytes.collect::<Result<Vec<u8>, Malformed>>()?;
    let (order, [kind, srid, ..]) =
        (bytes.first().ok_or(Malformed)?, bytes.get(1..).unwrap_or_default().as_chunks::<4>().0)
    else {
        return Err(Malformed);
    };
    let number = |bytes: [u8; 4]| if *order == 0 { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
    write::bytes(out, &bytes);
    if number(*kind) & HAS_SRID == 0 {
        out.push(0);
    } else {
        out.push(2);
        write::long(out, i64::from(number(*srid).cast_signed()));
    }
    Ok(Lossy)
}

/// `[1,2.5,3]`.
fn vector(
    text: &[u8],
    out: &mut Vec<u8>,
    element: impl Fn(&[u8], &mut Vec<u8>) -> Result<(), Malformed>,
) -> Result<Fidelity, Malformed> {
    let inner = text.strip_prefix(b"[").and_then(|text| text.strip_suffix(b"]")).ok_or(Malformed)?;
    let count = inner.split(|byte| *byte == b',').count();
    write::length(out, count);
    for digits in inner.split(|byte| *byte == b',') {
        element(digits, out)?;
    }
    out.push(0);
    Ok(Lossy)
}

pub(super) fn double_vector(text: &[u8], out: &mut Vec<u8>) -> Result<Fidelity, Malformed> {
    vector(text, out, |digits, out| {
        write::double(out, number::float(digits)?);
        Ok(())
    })
}

pub(super) fn float_vector(text: &[u8], out: &mut Vec<u8>) -> Result<Fidelity, Malformed> {
    vector(text, out, |digits, out| {
        out.extend_from_slice(&number::float::<f32>(digits)?.to_le_bytes());
        Ok(())
    })
}

/// `{1:0.5,3:2}/5`: the number of dimensions, and pairs of index and value in the order of Java's `HashMap`, in which
/// Debezium collects them (`Vectors.fromSparseVectorString`). It counts in 16 bits and has no value where that is not
/// enough.
pub(super) fn sparse_vector(text: &[u8], out: &mut Vec<u8>) -> Result<Fidelity, Malformed> {
    let slash = text.iter().position(|byte| *byte == b'/').ok_or(Malformed)?;
    let inner = text[..slash].strip_prefix(b"{").and_then(|text| text.strip_suffix(b"}")).ok_or(Malformed)?;
    let Ok(dimensions) = i16::try_from(number::integer(&text[slash + 1..])?) else { return Ok(Absent) };
    let mut pairs = Vec::new();
    for pair in inner.split(|byte| *byte == b',').filter(|_| !inner.is_empty()) {
        let colon = pair.iter().position(|byte| *byte == b':').ok_or(Malformed)?;
        pairs.push((number::integer(&pair[..colon])?, number::float::<f64>(&pair[colon + 1..])?));
    }
    let buckets = buckets(&pairs);
    pairs.sort_by_key(|(index, _)| bucket(*index, buckets));
    write::long(out, i64::from(dimensions));
    if !pairs.is_empty() {
        write::length(out, pairs.len());
        for (index, value) in pairs {
            write::long(out, index);
            write::double(out, value);
        }
    }
    out.push(0);
    Ok(Lossy)
}

/// The bucket in which a `HashMap` of this size keeps a `Short`.
fn bucket(index: i64, buckets: usize) -> i64 {
    index & (buckets as i64 - 1)
}

/// The size to which `new HashMap<Short, _>(pairs)` has grown when all are in it: it doubles when three quarters are
/// full and, while it has less than 64 buckets, for the ninth entry of a bucket. Beyond that such a bucket becomes a tree
/// with an order of its own, which is not followed here.
fn buckets(pairs: &[(i64, f64)]) -> usize {
    let mut buckets = pairs.len().next_power_of_two();
    for (count, (index, _)) in pairs.iter().enumerate() {
        let shares = |other: &&(i64, f64)| bucket(other.0, buckets) == bucket(*index, buckets);
        if buckets < 64 && pairs[..count].iter().filter(shares).count() >= 8 {
            buckets *= 2;
        }
        if count + 1 > buckets * 3 / 4 {
            buckets *= 2;
        }
    }
    buckets
}

pub(super) fn hstore_json(text: &[u8], out: &mut Vec<u8>) -> Result<Fidelity, Malformed> {
    let mut object = String::new();
    let pairs = hstore::pairs(text)?;
    json::text_object(pairs.iter().map(|(key, value)| (key.as_str(), value.as_deref())), &mut object);
    write::bytes(out, object.as_bytes());
    Ok(Lossy)
}

pub(super) fn hstore_map(text: &[u8], out: &mut Vec<u8>) -> Result<Fidelity, Malformed> {
    let pairs = hstore::pairs(text)?;
    if !pairs.is_empty() {
        write::length(out, pairs.len());
        for (key, value) in pairs {
            write::bytes(out, key.as_bytes());
            match value {
                Some(value) => {
                    out.push(2);
                    write::bytes(out, value.as_bytes());
                }
                None => out.push(0),
            }
        }
    }
    out.push(0);
    Ok(Lossy)
}
