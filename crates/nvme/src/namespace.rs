//! A namespace, as a controller describes it.

/// What a namespace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its ID.
    pub id: u32,
    /// How many blocks it has.
    pub blocks: u64,
    /// Bytes in a block.
    pub block_size: usize,
}
