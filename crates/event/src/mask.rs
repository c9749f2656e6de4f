//! Column values that are changed before they leave the source: Debezium's `column.mask.*` and `column.truncate.*`
//! (`io.debezium.relational.mapping`).

use std::fmt;

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

/// What becomes of a column's values. A salt is a secret: it shows nowhere.
#[derive(Clone, PartialEq, Eq)]
pub enum Mask {
    /// `column.mask.with.N.chars`: as many asterisks, whatever stood there, NULL included.
    Asterisks(usize),
    /// `column.mask.hash…` and `column.mask.hash.v2…`: the hash as hexadecimal digits.
    Hash {
        /// The hash.
        algorithm: HashAlgorithm,
        /// What is hashed before the value.
        salt: String,
        /// How the value becomes bytes.
        version: HashVersion,
        /// The column's length, to which the digits are cut.
        length: Option<usize>,
    },
    /// `column.truncate.to.N.chars`: no more than that many characters.
    Truncate(usize),
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asterisks(count) => write!(f, "Asterisks({count})"),
            Self::Hash { algorithm, .. } => write!(f, "Hash({algorithm:?})"),
            Self::Truncate(length) => write!(f, "Truncate({length})"),
        }
    }
}

/// A hash by its name in Java's `MessageDigest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashAlgorithm {
    /// `MD5`
    Md5,
    /// `SHA-1`
    Sha1,
    /// `SHA-224`
    Sha224,
    /// `SHA-256`
    Sha256,
    /// `SHA-384`
    Sha384,
    /// `SHA-512`
    Sha512,
}

impl HashAlgorithm {
    /// Every name, for messages.
    pub const NAMES: &[&str] = &["MD5", "SHA-1", "SHA-224", "SHA-256", "SHA-384", "SHA-512"];

    /// The hash of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "MD5" => Self::Md5,
            "SHA-1" => Self::Sha1,
            "SHA-224" => Self::Sha224,
            "SHA-256" => Self::Sha256,
            "SHA-384" => Self::Sha384,
            "SHA-512" => Self::Sha512,
            _ => return None,
        })
    }
}

/// How a value becomes the bytes that are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashVersion {
    /// As Java serialises the string.
    V1,
    /// Its UTF-8 bytes.
    V2,
}

impl Mask {
    /// The value that takes the place of `text`; `None` leaves NULL.
    #[must_use]
    pub fn apply(&self, text: Option<&str>) -> Option<String> {
        match self {
            Self::Asterisks(count) => Some("*".repeat(*count)),
            Self::Hash { algorithm, salt, version, length } => {
                let bytes = match version {
                    HashVersion::V1 => java_serialized(text?),
                    HashVersion::V2 => text?.as_bytes().to_vec(),
                };
                let mut digits = algorithm.hex(salt.as_bytes(), &bytes);
                digits.truncate(length.unwrap_or(usize::MAX));
                Some(digits)
            }
            Self::Truncate(length) => text.map(|text| first_units(text, *length)),
        }
    }

    /// The parameter that the column's schema gets.
    #[must_use]
    pub fn parameter(&self) -> (&'static str, String) {
        match self {
            Self::Asterisks(_) | Self::Hash { .. } => ("masked", "true".to_owned()),
            Self::Truncate(length) => ("truncateLength", length.to_string()),
        }
    }
}

impl HashAlgorithm {
    fn hex(self, salt: &[u8], value: &[u8]) -> String {
        fn hash<D: Digest>(salt: &[u8], value: &[u8]) -> String {
            let digest = D::new().chain_update(salt).chain_update(value).finalize();
            digest.iter().map(|byte| format!("{byte:02x}")).collect()
        }
        match self {
            Self::Md5 => hash::<Md5>(salt, value),
            Self::Sha1 => hash::<Sha1>(salt, value),
            Self::Sha224 => hash::<Sha224>(salt, value),
            Self::Sha256 => hash::<Sha256>(salt, value),
            Self::Sha384 => hash::<Sha384>(salt, value),
            Self::Sha512 => hash::<Sha512>(salt, value),
        }
    }
}

/// The first `length` of Java's characters; one outside the basic plane counts as two and is left out where only half
/// of it has room, since half a character is no text.
fn first_units(text: &str, length: usize) -> String {
    let mut units = 0;
    text.chars()
        .take_while(|c| {
            units += c.len_utf16();
            units <= length
        })
        .collect()
}

/// `ObjectOutputStream.writeObject` of a string: stream header, type code, length, modified UTF-8.
fn java_serialized(text: &str) -> Vec<u8> {
    let mut body = Vec::with_capacity(text.len());
    for unit in text.encode_utf16() {
        match unit {
            1..=0x7f => body.push(unit as u8),
            0 | 0x80..=0x7ff => body.extend([0xc0 | (unit >> 6) as u8, 0x80 | (unit & 0x3f) as u8]),
            _ => body.extend([0xe0 | (unit >> 12) as u8, 0x80 | (unit >> 6 & 0x3f) as u8, 0x80 | (unit & 0x3f) as u8]),
        }
    }
    let mut bytes = vec![0xac, 0xed, 0x00, 0x05];
    match u16::try_from(body.len()) {
        Ok(length) => {
            bytes.push(0x74);
            bytes.extend(length.to_be_bytes());
        }
        Err(_) => {
            bytes.push(0x7c);
            bytes.extend((body.len() as u64).to_be_bytes());
        }
    }
    bytes.extend(body);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(version: HashVersion, length: Option<usize>) -> Mask {
        Mask::Hash { algorithm: HashAlgorithm::Sha256, salt: "salt".to_owned(), version, length }
    }

    #[test]
    fn values_are_masked_as_debezium_does() {
        assert_eq!(Mask::Asterisks(3).apply(Some("secret")), Some("***".to_owned()));
        assert_eq!(Mask::Asterisks(2).apply(None), Some("**".to_owned()));
        assert_eq!(Mask::Truncate(3).apply(Some("secret")), Some("sec".to_owned()));
        assert_eq!(Mask::Truncate(2).apply(Some("a😀")), Some("a".to_owned()));
        assert_eq!(Mask::Truncate(2).apply(None), None);
        // printf 'saltsecret' | sha256sum
        let digits = "bede90386d450cea8b77b822f8887065e4e5abf132c2f9dccfcc7fbd4cba5e35";
        assert_eq!(hash(HashVersion::V2, None).apply(Some("secret")).as_deref(), Some(digits));
        assert_eq!(hash(HashVersion::V2, Some(8)).apply(Some("secret")).as_deref(), digits.get(..8));
        assert_eq!(hash(HashVersion::V2, None).apply(None), None);
        assert_ne!(hash(HashVersion::V1, None).apply(Some("secret")).as_deref(), Some(digits));
    }

    #[test]
    fn strings_are_serialized_as_java_does() {
        assert_eq!(java_serialized("ab"), [0xac, 0xed, 0, 5, 0x74, 0, 2, b'a', b'b']);
        assert_eq!(java_serialized("\0é€")[5..], [0, 7, 0xc0, 0x80, 0xc3, 0xa9, 0xe2, 0x82, 0xac]);
        assert_eq!(java_serialized("😀")[5..], [0, 6, 0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80]);
        assert_eq!(java_serialized(&"x".repeat(70_000))[4..13], [0x7c, 0, 0, 0, 0, 0, 1, 0x11, 0x70]);
    }

    #[test]
    fn a_salt_does_not_print() {
        assert!(!format!("{:?}", hash(HashVersion::V1, None)).contains("salt"));
    }
}
