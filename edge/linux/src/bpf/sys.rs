//! `bpf(2)`, where aya does not go: reading tables in one go, and at which device a link is.
//!
//! Everything here reads or writes buffers that this side owns, through one system call. Its
//! argument is a block of memory whose fields depend on the command (`union bpf_attr`,
//! `linux/bpf.h`); it is written by offset.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;

const MAP_LOOKUP_ELEM: i32 = 1;
const MAP_UPDATE_ELEM: i32 = 2;
const MAP_DELETE_ELEM: i32 = 3;
const OBJ_GET: i32 = 7;
const PROG_GET_FD_BY_ID: i32 = 13;
const MAP_GET_FD_BY_ID: i32 = 14;
const OBJ_GET_INFO_BY_FD: i32 = 15;
const MAP_LOOKUP_BATCH: i32 = 24;
const MAP_UPDATE_BATCH: i32 = 26;
const LINK_DETACH: i32 = 34;

/// Entries read or written by one system call.
const BATCH: u32 = 4096;
/// Octets of `union bpf_attr`, as far as the commands used here need it.
const ATTRIBUTES: usize = 64;

/// `union bpf_attr`
#[repr(C, align(8))]
struct Attributes([u8; ATTRIBUTES]);

impl Attributes {
    const fn new() -> Self {
        Self([0; ATTRIBUTES])
    }

    fn u32(mut self, at: usize, value: u32) -> Self {
        self.0[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn fd(self, at: usize, fd: BorrowedFd<'_>) -> Self {
        self.u32(at, fd.as_raw_fd().cast_unsigned())
    }

    /// The address of a buffer that must outlive the call.
    fn pointer<T>(mut self, at: usize, to: *const T) -> Self {
        let address = to.expose_provenance() as u64;
        self.0[at..at + 8].copy_from_slice(&address.to_ne_bytes());
        self
    }

    /// # Safety
    /// Every pointer among the attributes leads to as many octets as the kernel reads or writes
    /// for this command, and those it writes are not shared.
    unsafe fn call(&mut self, command: i32) -> Result<i32, Errno> {
        // SAFETY: the block is as long as the kernel is told; the rest is the caller's word.
        let result =
            unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_mut_ptr(), ATTRIBUTES) };
        Errno::result(result).map(|fd| i32::try_from(fd).unwrap_or_default())
    }
}

fn number(octets: &[u8], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&octets[at..at + 4]);
    u32::from_ne_bytes(field)
}

/// A descriptor, or nothing where the kernel says that there is nothing.
fn descriptor(result: Result<i32, Errno>) -> Result<Option<OwnedFd>, Errno> {
    match result {
        // SAFETY: a descriptor that the kernel just gave out and that nobody else owns.
        Ok(fd) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// What is pinned at a path; `None`: nothing is.
pub(super) fn pinned(path: &Path) -> Result<Option<OwnedFd>, Errno> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    let mut attributes = Attributes::new().pointer(0, path.as_ptr());
    // SAFETY: the path ends with NUL and outlives the call; nothing is written.
    descriptor(unsafe { attributes.call(OBJ_GET) })
}

/// The program with this number; `None`: there is none any more.
pub(super) fn program(id: u32) -> Result<Option<OwnedFd>, Errno> {
    let mut attributes = Attributes::new().u32(0, id);
    // SAFETY: there is no pointer among the attributes.
    descriptor(unsafe { attributes.call(PROG_GET_FD_BY_ID) })
}

/// The table with this number; `None`: there is none any more.
pub(super) fn map(id: u32) -> Result<Option<OwnedFd>, Errno> {
    let mut attributes = Attributes::new().u32(0, id);
    // SAFETY: there is no pointer among the attributes.
    descriptor(unsafe { attributes.call(MAP_GET_FD_BY_ID) })
}

/// The first octets of what the kernel tells of the object behind `fd` (`struct bpf_…_info`).
///
/// # Safety
/// Where the structure has pointers of its own, `info` brings them: null, or with the room that
/// the count beside them says.
unsafe fn read_info(fd: BorrowedFd<'_>, info: &mut [u8]) -> Result<(), Errno> {
    let length = u32::try_from(info.len()).unwrap_or_default();
    let attributes = Attributes::new().fd(0, fd).u32(4, length);
    let mut attributes = attributes.pointer(8, info.as_mut_ptr());
    // SAFETY: the kernel writes at most `length` octets to `info`, which is ours alone; for
    // pointers inside, the caller's word.
    unsafe { attributes.call(OBJ_GET_INFO_BY_FD) }.map(drop)
}

/// The definition of a table (`struct bpf_map_info`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MapInfo {
    pub(super) kind: u32,
    pub(super) id: u32,
    pub(super) key: u32,
    pub(super) value: u32,
    pub(super) entries: u32,
}

pub(super) fn map_info(fd: BorrowedFd<'_>) -> Result<MapInfo, Errno> {
    let mut octets = [0; 24];
    // SAFETY: this part of the structure has no pointers.
    unsafe { read_info(fd, &mut octets) }?;
    let field = |at| number(&octets, at);
    Ok(MapInfo {
        kind: field(0),
        id: field(4),
        key: field(8),
        value: field(12),
        entries: field(16),
    })
}

/// A program at a device by tcx (`struct bpf_link_info`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TcxInfo {
    pub(super) program: u32,
    /// 0: the device is gone.
    pub(super) ifindex: u32,
}

/// What tcx link is behind `fd`; `None` when it is something else.
pub(super) fn tcx_info(fd: BorrowedFd<'_>) -> Result<Option<TcxInfo>, Errno> {
    /// `BPF_LINK_TYPE_TCX`
    const TCX: u32 = 11;
    let mut octets = [0; 24];
    // SAFETY: the pointers that links of other kinds have here are null: nothing is written there.
    unsafe { read_info(fd, &mut octets) }?;
    let field = |at| number(&octets, at);
    Ok((field(0) == TCX).then(|| TcxInfo { program: field(8), ifindex: field(16) }))
}

/// Takes the program of a link away from its device; the link is dead afterwards.
pub(super) fn detach(link: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut attributes = Attributes::new().fd(0, link);
    // SAFETY: there is no pointer among the attributes.
    unsafe { attributes.call(LINK_DETACH) }.map(drop)
}

/// What a program is (`struct bpf_prog_info`): the digest of its instructions, in which tables
/// are left out, and the tables that it looks into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProgramInfo {
    pub(super) id: u32,
    pub(super) tag: [u8; 8],
    pub(super) maps: Vec<u32>,
}

pub(super) fn program_info(fd: BorrowedFd<'_>) -> Result<ProgramInfo, Errno> {
    /// The most tables that a program may have (`MAX_USED_MAPS`).
    const MAPS: u32 = 64;
    let mut maps = [0_u32; MAPS as usize];
    let mut octets = [0; 64];
    octets[52..56].copy_from_slice(&MAPS.to_ne_bytes());
    let address = maps.as_mut_ptr().expose_provenance() as u64;
    octets[56..64].copy_from_slice(&address.to_ne_bytes());
    // SAFETY: the only pointer leads to room for as many numbers as stands beside it.
    unsafe { read_info(fd, &mut octets) }?;
    let mut tag = [0; 8];
    tag.copy_from_slice(&octets[8..16]);
    let count = number(&octets, 52).min(MAPS) as usize;
    Ok(ProgramInfo { id: number(&octets, 4), tag, maps: maps[..count].to_vec() })
}

/// How many entries a call for many has dealt with.
fn number_of(attributes: &Attributes) -> usize {
    number(&attributes.0, 32) as usize
}

/// Kinds of tables (`BPF_MAP_TYPE_…`) that are read and written here.
pub(super) const HASH: u32 = 1;
pub(super) const ARRAY: u32 = 2;
pub(super) const HASH_PER_CPU: u32 = 5;
pub(super) const ARRAY_PER_CPU: u32 = 6;
pub(super) const LONGEST_PREFIX: u32 = 11;

/// A table's descriptor with the octets that the kernel reads and writes of a key and a value. Of
/// a table per CPU a value is that of all CPUs there may be, one after the other, each at a
/// multiple of 8.
#[derive(Debug)]
pub(super) struct Map {
    fd: OwnedFd,
    key: usize,
    value: usize,
}

impl Map {
    /// The table behind `fd`, on a host that may have as many CPUs. `None`: it is of another kind,
    /// whose sizes are not known here.
    pub(super) fn open(fd: OwnedFd, cpus: usize) -> Result<Option<Self>, Errno> {
        let info = map_info(fd.as_fd())?;
        let (key, value) = (info.key as usize, info.value as usize);
        let value = match info.kind {
            HASH | ARRAY | LONGEST_PREFIX => value,
            HASH_PER_CPU | ARRAY_PER_CPU => cpus * value.next_multiple_of(8),
            _ => return Ok(None),
        };
        Ok(Some(Self { fd, key, value }))
    }

    fn element(&self, key: &[u8], value: *const u8) -> Attributes {
        assert_eq!(key.len(), self.key, "the key is not of this table");
        Attributes::new().fd(0, self.fd.as_fd()).pointer(8, key.as_ptr()).pointer(16, value)
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
        let mut value = vec![0; self.value];
        let mut attributes = self.element(key, value.as_mut_ptr());
        // SAFETY: key and value are as long as the kernel said that they are, and outlive the call.
        match unsafe { attributes.call(MAP_LOOKUP_ELEM) } {
            Ok(_) => Ok(Some(value)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    pub(super) fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Errno> {
        assert_eq!(value.len(), self.value, "the value is not of this table");
        let mut attributes = self.element(key, value.as_ptr());
        // SAFETY: key and value are as long as the kernel said that they are, and outlive the
        // call; they are only read.
        unsafe { attributes.call(MAP_UPDATE_ELEM) }.map(drop)
    }

    /// Puts entries in their order, thousands to a system call, up to the first that is refused.
    /// Gives how many were put before it.
    pub(super) fn put_all(&self, keys: &[u8], values: &[u8]) -> Result<(), (usize, Errno)> {
        let count = keys.len() / self.key;
        assert!(
            (keys.len(), values.len()) == (count * self.key, count * self.value),
            "as many keys as values"
        );
        let part = BATCH as usize;
        let parts = keys.chunks(part * self.key).zip(values.chunks(part * self.value));
        for (number, (keys, values)) in parts.enumerate() {
            let count = keys.len() / self.key;
            let asked = u32::try_from(count).unwrap_or_default();
            let attributes = Attributes::new().pointer(16, keys.as_ptr());
            let attributes = attributes.pointer(24, values.as_ptr());
            let mut attributes = attributes.u32(32, asked).fd(36, self.fd.as_fd());
            // SAFETY: there are as many keys and values as the kernel is told, of the lengths that
            // it told; they outlive the call and are only read.
            if let Err(errno) = unsafe { attributes.call(MAP_UPDATE_BATCH) } {
                // Where the call itself is refused, the count is as it was.
                let done = Some(number_of(&attributes)).filter(|done| *done < count);
                return Err((number * part + done.unwrap_or_default(), errno));
            }
        }
        Ok(())
    }

    /// Whether there was such an entry.
    pub(super) fn delete(&self, key: &[u8]) -> Result<bool, Errno> {
        let mut attributes = self.element(key, std::ptr::null());
        // SAFETY: the key is as long as the kernel said that it is, and outlives the call.
        match unsafe { attributes.call(MAP_DELETE_ELEM) } {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// All entries, thousands to a system call; `each` gets key and value.
    pub(super) fn entries(&self, mut each: impl FnMut(&[u8], &[u8])) -> Result<(), Errno> {
        let room = BATCH as usize;
        let (mut keys, mut values) = (vec![0; room * self.key], vec![0; room * self.value]);
        // Where the next part begins is told in as many octets as a key has, and at least 4.
        let mut token = vec![0; self.key.max(4)];
        let mut next = token.clone();
        let mut from = std::ptr::null();
        loop {
            let attributes = Attributes::new().pointer(0, from).pointer(8, next.as_mut_ptr());
            let attributes = attributes.pointer(16, keys.as_mut_ptr());
            let attributes = attributes.pointer(24, values.as_mut_ptr());
            let mut attributes = attributes.u32(32, BATCH).fd(36, self.fd.as_fd());
            // SAFETY: there is room for `BATCH` keys and values of the lengths that the kernel
            // told, and for both tokens; all outlive the call and are ours alone.
            let result = unsafe { attributes.call(MAP_LOOKUP_BATCH) };
            match result {
                // The end of the table is told together with the last entries.
                Ok(_) | Err(Errno::ENOENT) => {}
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno),
            }
            let count = number_of(&attributes).min(room);
            let found = keys.chunks_exact(self.key).zip(values.chunks_exact(self.value));
            found.take(count).for_each(|(key, value)| each(key, value));
            if result.is_err() {
                return Ok(());
            }
            std::mem::swap(&mut token, &mut next);
            from = token.as_ptr();
        }
    }
}
