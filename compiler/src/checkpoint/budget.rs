//! Memory for tables of contents is paid from one budget, in proportion to the file's size.
//!
//! A one-byte opcode can ask for an object of tens of bytes, and a memoised name costs two bytes each time it is
//! used; limits on single items would not hold their sum. So every table of the readers grows through here.
//! Real checkpoints use a few hundred bytes per tensor, far below the allowance.

use super::error::CheckpointError;

/// Bytes granted for every byte of the file.
const PER_BYTE: usize = 3;
/// Bytes granted whatever the size, so that small files need no fine accounting.
const BASE: usize = 512 << 10;

/// What may still be allocated.
pub(super) struct Budget<'a> {
    file: &'a str,
    size: usize,
    limit: usize,
    left: usize,
}

impl<'a> Budget<'a> {
    /// The allowance for a file of `size` bytes, named `file` in errors.
    pub fn new(file: &'a str, size: usize) -> Self {
        let limit = size.saturating_mul(PER_BYTE).saturating_add(BASE);
        Budget { file, size, limit, left: limit }
    }

    /// Takes `bytes` from the allowance. To be called before allocating them; nothing is ever given back.
    pub fn charge(&mut self, bytes: usize) -> Result<(), CheckpointError> {
        let exceeded = || CheckpointError::TooLarge { file: self.file.to_string(), limit: self.limit, size: self.size };
        self.left = self.left.checked_sub(bytes).ok_or_else(exceeded)?;
        Ok(())
    }

    /// Appends to a table. Each doubling is charged in full: while it happens, the old table is still there.
    pub fn push<T>(&mut self, table: &mut Vec<T>, item: T) -> Result<(), CheckpointError> {
        if table.len() == table.capacity() {
            self.reserve(table, table.capacity().max(16))?;
        }
        table.push(item);
        Ok(())
    }

    /// Makes room for `additional` items, no more.
    pub fn reserve<T>(&mut self, table: &mut Vec<T>, additional: usize) -> Result<(), CheckpointError> {
        let items = table.len().saturating_add(additional);
        if items > table.capacity() {
            self.charge(items.saturating_mul(size_of::<T>()))?;
            table.reserve_exact(additional);
        }
        Ok(())
    }
}
