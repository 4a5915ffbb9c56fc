//! The head of the capabilities that follow some information structures.

structs! {
    /// Head of one capability in a chain.
    ///
    /// A chain begins at `cap_offset` of the information structure it belongs to. Offsets count
    /// from the start of that structure; zero ends the chain.
    pub struct VfioInfoCapHeader: 8 {
        /// What the capability is; a number space of its own for each information structure.
        pub id: u16,
        /// Version of the capability's layout.
        pub version: u16,
        /// Offset in bytes of the next capability, or zero.
        pub next: u32,
    }
}
