//! Values of PostGIS's and pgvector's types, as Debezium's events hold them.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use super::reader::{Problem, Reader};
use super::record::{RecordRead, Wanted};
use super::skip::SkipTable;
use super::writer_schema::{NodeId, Shape, WriterSchema};

/// `io.debezium.data.geometry.Geometry` and `Geography`: WKB, plain or PostGIS's EWKB, beside its SRID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpatialValue<'a> {
    /// The bytes.
    pub wkb: &'a [u8],
    /// The SRID; there is none where it is 0 in MySQL and MariaDB.
    pub srid: Option<i32>,
}

impl SpatialValue<'_> {
    /// Appends hexadecimal EWKB, which PostGIS reads: MySQL's and MariaDB's connectors write WKB, which does not hold the
    /// SRID. `None` where the bytes are neither; nothing is appended then.
    pub fn push_ewkb(&self, out: &mut Vec<u8>) -> Option<()> {
        /// `WKBSRIDFLAG` of PostGIS's `liblwgeom`.
        const HAS_SRID: u32 = 0x2000_0000;
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        let (order, rest) = self.wkb.split_first()?;
        let (kind, rest) = rest.split_first_chunk::<4>()?;
        let kind = match order {
            0 => u32::from_be_bytes(*kind),
            1 => u32::from_le_bytes(*kind),
            _ => return None,
        };
        let mut push = |bytes: &[u8]| {
            for byte in bytes {
                out.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
            }
        };
        match self.srid {
            Some(srid) if srid != 0 && kind & HAS_SRID == 0 => {
                push(&[*order]);
                for number in [kind | HAS_SRID, srid.cast_unsigned()] {
                    push(&if *order == 0 { number.to_be_bytes() } else { number.to_le_bytes() });
                }
                push(rest);
            }
            _ => push(self.wkb),
        }
        Some(())
    }
}

/// The plan of an `io.debezium.data.SparseDoubleVector`.
#[derive(Debug)]
pub(super) struct SparseVectorRead {
    record: RecordRead,
    /// Index and value.
    pair: RecordRead,
}

impl SparseVectorRead {
    pub(super) fn compile(schema: &WriterSchema, id: NodeId, skips: &Arc<SkipTable>) -> Result<Self, String> {
        let (dimensions, vector) = (Wanted::required("dimensions", "int"), Wanted::required("vector", "array"));
        let record = RecordRead::compile(schema, id, dimensions, vector, skips)?;
        let (name, fields) = schema.record(id).unwrap_or_default();
        let vector = fields.iter().find(|field| field.name == "vector").map(|field| &schema.node(field.node).shape);
        let Some(Shape::Array(pair)) = vector else { return Err(format!("{name} without vector (array)")) };
        let (key, value) = (Wanted::required("key", "int"), Wanted::required("value", "double"));
        Ok(Self { record, pair: RecordRead::compile(schema, *pair, key, value, skips)? })
    }

    pub(super) fn read<'a>(&'a self, reader: &mut Reader<'a>) -> Result<SparseVectorValue<'a>, Problem> {
        let pairs = |reader: &mut Reader<'a>| {
            let start = reader.rest();
            while let Some(block) = reader.block()? {
                let before = reader.rest().len();
                for _ in 0..block.items {
                    self.pair.read(reader, Reader::int, Reader::double)?;
                }
                if block.size.is_some_and(|size| size != before - reader.rest().len()) {
                    return Err(Problem::Block);
                }
            }
            Ok(&start[..start.len() - reader.rest().len()])
        };
        let (dimensions, blocks) = self.record.read(reader, Reader::int, pairs)?;
        Ok(SparseVectorValue { dimensions, blocks, pair: &self.pair })
    }
}

/// pgvector's `sparsevec`: the undecoded pairs, which have been checked, and their plan. Shown as pgvector reads it,
/// `{1:0.5,3:2}/5`, in the order of the event.
#[derive(Clone, Copy)]
pub struct SparseVectorValue<'a> {
    dimensions: i32,
    blocks: &'a [u8],
    pair: &'a RecordRead,
}

impl fmt::Display for SparseVectorValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut reader = Reader::new(self.blocks);
        let mut separator = "";
        f.write_char('{')?;
        // The blocks were checked when the row was decoded, so reading them again cannot fail.
        while let Ok(Some(block)) = reader.block() {
            for _ in 0..block.items {
                let Ok((index, value)) = self.pair.read(&mut reader, Reader::int, Reader::double) else { break };
                write!(f, "{separator}{index}:{value:e}")?;
                separator = ",";
            }
        }
        write!(f, "}}/{}", self.dimensions)
    }
}

impl fmt::Debug for SparseVectorValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Equal bytes, whatever the order of the pairs means.
impl PartialEq for SparseVectorValue<'_> {
    fn eq(&self, other: &Self) -> bool {
        (self.dimensions, self.blocks) == (other.dimensions, other.blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ewkb(wkb: &str, srid: Option<i32>) -> Option<String> {
        let pairs = wkb.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        let wkb: Vec<u8> = pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
        let mut out = Vec::new();
        SpatialValue { wkb: &wkb, srid }.push_ewkb(&mut out)?;
        Some(String::from_utf8(out).unwrap())
    }

    /// Values of Debezium's own tests: `MySqlGeometryIT` and `AbstractRecordsProducerTest`.
    #[test]
    fn an_srid_is_put_into_a_wkb_that_lacks_it() {
        let plain = "0101000000000000000000F03F000000000000F03F";
        let with_srid = "0101000020E6100000000000000000F03F000000000000F03F";
        assert_eq!(ewkb(plain, Some(4326)).as_deref(), Some(with_srid));
        assert_eq!(ewkb(plain, None).as_deref(), Some(plain));
        assert_eq!(ewkb(plain, Some(0)).as_deref(), Some(plain));
        // PostgreSQL's connector writes it in both places.
        assert_eq!(ewkb(with_srid, Some(4326)).as_deref(), Some(with_srid));
        let big = "00000000013FF00000000000003FF0000000000000";
        let big_with_srid = "0020000001000010E63FF00000000000003FF0000000000000";
        assert_eq!(ewkb(big, Some(4326)).as_deref(), Some(big_with_srid));
        let empty = "010700000000000000";
        assert_eq!(ewkb(empty, Some(3187)).as_deref(), Some("0107000020730C000000000000"));
        // A Z of EWKB keeps its own flag.
        assert_eq!(ewkb("0101000080", Some(1)).as_deref(), Some("01010000A001000000"));
    }

    #[test]
    fn bytes_that_are_no_wkb_are_told() {
        for wkb in ["", "01", "01010000", "0201000000"] {
            assert_eq!(ewkb(wkb, Some(1)), None, "{wkb}");
        }
    }
}
