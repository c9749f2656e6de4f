//! Avro's binary encoding of primitive values.

/// An `int` or a `long`: zigzag, seven bits a byte, low bits first.
#[inline]
pub(crate) fn long(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// `bytes` or a `string`: the length and the bytes.
#[inline]
pub(crate) fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    length(out, value.len());
    out.extend_from_slice(value);
}

/// A length or a count.
#[inline]
pub(crate) fn length(out: &mut Vec<u8>, length: usize) {
    long(out, i64::try_from(length).expect("memory holds less than 2^63 bytes"));
}

/// A `double`.
pub(crate) fn double(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// The same encoding in a buffer of its own, for what a plan precomputes.
pub(crate) fn built(build: impl FnOnce(&mut Vec<u8>)) -> Box<[u8]> {
    let mut out = Vec::new();
    build(&mut out);
    out.into_boxed_slice()
}
