//! The wire formats around an Avro datum: a zero byte and the schema's id in the registry, or the id in a header.
//!
//! Sources: Confluent's wire format, which Apicurio's converters write too; Apicurio's `Default4ByteIdHandler`,
//! `Legacy8ByteIdHandler` and `KafkaSerdeHeaders`.

/// Length of the frame in front of the datum.
pub const FRAME_LEN: usize = 5;

const MAGIC: u8 = 0;

/// Bytes that are not a framed Avro datum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Too short to hold the schema id.
    #[error("a key or value of {0} bytes is too short for a schema id: it was cut off, or is not Avro")]
    Short(usize),
    /// Another first byte than Avro's frame and JSON have.
    #[error(
        "a key or value starts with the byte {0:#04x}: neither 0x00 (Avro with a schema id in front) nor JSON, and no \
         header names its schema; have the connector use an Avro or JSON converter, or leave the topic out"
    )]
    Magic(u8),
    /// A header that should hold a schema id and does not.
    #[error("header {0} does not hold a schema id of eight bytes")]
    Header(&'static str),
    /// Confluent's ids in headers.
    #[error(
        "header {0} names the schema by a GUID, which is not supported; have the converter write ids into the payload \
         (value.schema.id.serializer, key.schema.id.serializer: PrefixSchemaIdSerializer)"
    )]
    Guid(&'static str),
}

/// How a record names a schema of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SchemaId {
    /// The id of Confluent's API, in four bytes.
    Id(u32),
    /// Apicurio's id of an artifact's version.
    GlobalId(u64),
    /// Apicurio's id of a content, which its Confluent API has for ids.
    ContentId(u64),
}

impl std::fmt::Display for SchemaId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Id(id) => write!(f, "{id}"),
            Self::GlobalId(id) => write!(f, "global id {id}"),
            Self::ContentId(id) => write!(f, "content id {id}"),
        }
    }
}

/// Whether it is the key or the value that a header is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The key.
    Key,
    /// The value.
    Value,
}

/// What a Kafka header says about a schema, where it does.
///
/// # Errors
///
/// It should, and cannot be read.
pub fn from_header(name: &str, value: &[u8]) -> Option<Result<(Part, SchemaId), FrameError>> {
    let (part, name, id): (_, _, fn(u64) -> SchemaId) = match name {
        "apicurio.key.globalId" => (Part::Key, "apicurio.key.globalId", SchemaId::GlobalId),
        "apicurio.value.globalId" => (Part::Value, "apicurio.value.globalId", SchemaId::GlobalId),
        "apicurio.key.contentId" => (Part::Key, "apicurio.key.contentId", SchemaId::ContentId),
        "apicurio.value.contentId" => (Part::Value, "apicurio.value.contentId", SchemaId::ContentId),
        "__key_schema_id" => return Some(Err(FrameError::Guid("__key_schema_id"))),
        "__value_schema_id" => return Some(Err(FrameError::Guid("__value_schema_id"))),
        _ => return None,
    };
    let bytes: Result<[u8; 8], _> = value.try_into();
    Some(bytes.map(|bytes| (part, id(u64::from_be_bytes(bytes)))).map_err(|_| FrameError::Header(name)))
}

/// Takes a key or value apart; `named` is the schema that a header names.
///
/// # Errors
///
/// The bytes do not start with a frame, and no header names a schema.
pub fn take_apart(bytes: &[u8], named: Option<SchemaId>) -> Result<(SchemaId, &[u8]), FrameError> {
    if let Some(named) = named {
        return Ok((named, bytes));
    }
    match split(bytes)? {
        // No registry gives out id 0: the first half of Apicurio's ids of eight bytes.
        (0, rest) => match rest.split_first_chunk::<4>() {
            Some((low, datum)) => Ok((SchemaId::GlobalId(u64::from(u32::from_be_bytes(*low))), datum)),
            None => Err(FrameError::Short(bytes.len())),
        },
        (id, datum) => Ok((SchemaId::Id(id), datum)),
    }
}

/// The frame of a datum written under a schema id.
#[must_use]
pub fn frame(schema_id: u32) -> [u8; FRAME_LEN] {
    let [a, b, c, d] = schema_id.to_be_bytes();
    [MAGIC, a, b, c, d]
}

/// Splits a key or value into schema id and datum.
///
/// # Errors
///
/// The bytes do not start with a frame.
pub fn split(bytes: &[u8]) -> Result<(u32, &[u8]), FrameError> {
    match bytes {
        [MAGIC, a, b, c, d, datum @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), datum)),
        [MAGIC, ..] | [] => Err(FrameError::Short(bytes.len())),
        [other, ..] => Err(FrameError::Magic(*other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_split_into_id_and_datum() {
        let mut bytes = frame(0x0102_0304).to_vec();
        bytes.extend_from_slice(b"rest");
        assert_eq!(split(&bytes), Ok((0x0102_0304, &b"rest"[..])));
        assert_eq!(split(&frame(7)), Ok((7, &[][..])));
    }

    #[test]
    fn ids_of_eight_bytes_and_in_headers_are_known() {
        let eight = [0, 0, 0, 0, 0, 0, 0, 1, 2, 9];
        assert_eq!(take_apart(&eight, None), Ok((SchemaId::GlobalId(0x102), &[9][..])));
        assert_eq!(take_apart(&eight[..8], None), Err(FrameError::Short(8)));
        let named = from_header("apicurio.value.contentId", &7_u64.to_be_bytes());
        assert_eq!(named, Some(Ok((Part::Value, SchemaId::ContentId(7)))));
        assert_eq!(take_apart(b"datum", Some(SchemaId::ContentId(7))), Ok((SchemaId::ContentId(7), &b"datum"[..])));
        assert_eq!(from_header("apicurio.key.globalId", b"7"), Some(Err(FrameError::Header("apicurio.key.globalId"))));
        assert!(matches!(from_header("__value_schema_id", &[1; 17]), Some(Err(FrameError::Guid(_)))));
        assert_eq!(from_header("apicurio.value.encoding", b"BINARY"), None);
    }

    #[test]
    fn other_bytes_are_refused() {
        assert_eq!(split(&[]), Err(FrameError::Short(0)));
        assert_eq!(split(&[0, 0, 0, 1]), Err(FrameError::Short(4)));
        assert_eq!(split(b"{\"before\":null}"), Err(FrameError::Magic(b'{')));
    }
}
