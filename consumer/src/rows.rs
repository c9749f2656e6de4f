//! Rows of one table on their way to a target: cells in the target's own encoding, in one arena.

/// A cell's place in the arena, or what stands in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// NULL.
    Null,
    /// Unknown: the target's value stays.
    Unknown,
    /// `bytes[start..end]` of the arena.
    Bytes {
        /// First byte.
        start: u32,
        /// Behind the last byte.
        end: u32,
    },
}

/// Rows of equal width. A row's cells lie side by side; their bytes lie in one buffer, which is cleared, not freed,
/// between batches.
#[derive(Debug, Default)]
pub struct Rows {
    width: usize,
    cells: Vec<Cell>,
    bytes: Vec<u8>,
}

impl Rows {
    /// An empty arena for rows of `width` cells.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self { width, cells: Vec::new(), bytes: Vec::new() }
    }

    /// Forgets all rows and takes rows of `width` cells from now on.
    pub fn clear(&mut self, width: usize) {
        self.width = width;
        self.cells.clear();
        self.bytes.clear();
    }

    /// Number of cells a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cells.len().checked_div(self.width).unwrap_or(0)
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Bytes held.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len() + self.cells.len() * size_of::<Cell>()
    }

    /// Appends a cell; `write` appends the value's bytes, or says NULL or unknown. Call it `width` times a row.
    ///
    /// # Errors
    ///
    /// What `write` returns; the arena then holds a partial row: call [`Rows::drop_partial`].
    pub fn push<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<CellForm, E>) -> Result<(), E> {
        let start = self.bytes.len();
        let cell = match write(&mut self.bytes)? {
            CellForm::Null => Cell::Null,
            CellForm::Unknown => Cell::Unknown,
            CellForm::Written => Cell::Bytes { start: index(start), end: index(self.bytes.len()) },
        };
        self.cells.push(cell);
        Ok(())
    }

    /// Drops the cells of an unfinished row.
    pub fn drop_partial(&mut self) {
        let whole = self.len() * self.width;
        self.cells.truncate(whole);
    }

    /// The cells of a row.
    #[must_use]
    pub fn row(&self, row: usize) -> &[Cell] {
        &self.cells[row * self.width..(row + 1) * self.width]
    }

    /// The cells of a row, to be overwritten by a coalescer.
    pub fn row_mut(&mut self, row: usize) -> &mut [Cell] {
        &mut self.cells[row * self.width..(row + 1) * self.width]
    }

    /// The bytes of a cell; `None` for NULL and unknown.
    #[must_use]
    pub fn bytes(&self, cell: Cell) -> Option<&[u8]> {
        match cell {
            Cell::Null | Cell::Unknown => None,
            Cell::Bytes { start, end } => Some(&self.bytes[start as usize..end as usize]),
        }
    }
}

/// What was written for a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellForm {
    /// NULL.
    Null,
    /// Unknown: the target's value stays.
    Unknown,
    /// The bytes that were appended.
    Written,
}

/// A batch is bounded far below 4 GiB, so an offset fits.
fn index(offset: usize) -> u32 {
    u32::try_from(offset).expect("a batch is bounded far below 4 GiB")
}
