//! Types of extensions. Columns of these types do not take their form in events, so the source's text always travels
//! along.

use super::Fidelity::{self, Lossy};
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
