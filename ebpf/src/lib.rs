//! The shortcut's programs, and the layout of their tables as Rust sees it.
//!
//! The programs are C, one file per place where they are attached, in `programs/`; `include/weft.h` is read
//! by both sides. Nothing here loads anything: that is the room of `weft-linux`.

pub mod abi;

/// Sizes, offsets and numbers, made from `include/weft.h`.
pub mod layout {
    include!(concat!(env!("OUT_DIR"), "/layout.rs"));
}
