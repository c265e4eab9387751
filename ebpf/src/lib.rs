//! The shortcut's programs, and the layout of their tables as Rust sees it.
//!
//! The programs are C, one file per place where they are attached, in `programs/`; `include/weft.h` is read
//! by both sides. Nothing here loads anything: that is the room of `weft-linux`.

pub mod abi;

/// Sizes, offsets and numbers, made from `include/weft.h`.
pub mod layout {
    include!(concat!(env!("OUT_DIR"), "/layout.rs"));
}

/// The programs and the description of their tables: an ELF object with BTF, for the loader.
/// Its maps are pinned by name (`LIBBPF_PIN_BY_NAME`).
pub static OBJECT: &[u8] = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/shortcut.o"))).0;

/// The loader reads the object's headers and instructions where they lie: by eights.
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);
