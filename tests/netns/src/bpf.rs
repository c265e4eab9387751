//! What is pinned of programs and tables (`bpf(2)`), to look at it and to damage it.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use weft_lab::Host;

const LOOKUP: i64 = 1;
const UPDATE: i64 = 2;
const DELETE: i64 = 3;
const NEXT_KEY: i64 = 4;
const OBJECT_GET: i64 = 7;
const INFO: i64 = 15;
const QUERY: i64 = 16;
const LINK_DETACH: i64 = 34;

/// `BPF_TCX_INGRESS`
const TCX_INGRESS: u32 = 46;

/// The call's argument: a union of 120 octets and more (`union bpf_attr`).
#[derive(Default)]
struct Attribute([u64; 16]);

impl Attribute {
    fn u32(mut self, offset: usize, value: u32) -> Self {
        let word = &mut self.0[offset / 8];
        let mut bytes = word.to_ne_bytes();
        bytes[offset % 8..offset % 8 + 4].copy_from_slice(&value.to_ne_bytes());
        *word = u64::from_ne_bytes(bytes);
        self
    }

    fn pointer<T>(mut self, offset: usize, to: *const T) -> Self {
        self.0[offset / 8] = to as u64;
        self
    }

    fn fd(self, fd: RawFd) -> Self {
        self.u32(0, fd.cast_unsigned())
    }

    /// # Safety
    /// The pointers in it lead to as much memory as the command reads and writes.
    unsafe fn call(&mut self, command: i64) -> io::Result<RawFd> {
        // SAFETY: the argument is as long as is said; what it points to is the caller's word.
        let answer = unsafe {
            libc::syscall(libc::SYS_bpf, command, self.0.as_mut_ptr(), size_of_val(&self.0))
        };
        if answer < 0 {
            Err(io::Error::last_os_error())
        } else {
            RawFd::try_from(answer).map_err(io::Error::other)
        }
    }
}

fn open(pin: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let mut attribute = Attribute::default().pointer(0, path.as_ptr());
    // SAFETY: a string that ends, alive until the call is done; a descriptor comes back, and is nobody else's.
    unsafe { Ok(OwnedFd::from_raw_fd(attribute.call(OBJECT_GET)?)) }
}

/// A pinned table.
#[derive(Debug)]
pub struct Table {
    fd: OwnedFd,
    key: usize,
    value: usize,
}

impl Table {
    /// The table of this name that a host's daemon has pinned.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn of(host: &Host, name: &str) -> Self {
        let pin = pins(host).into_iter().find(|pin| pin.ends_with(name));
        let pin = pin.unwrap_or_else(|| panic!("no table {name} in {}", host.bpf_dir().display()));
        let opened = open(&pin).and_then(|fd| {
            // `struct bpf_map_info` begins with type, number, size of key, size of value.
            let mut info = [0_u32; 22];
            let length = u32::try_from(size_of_val(&info)).map_err(io::Error::other)?;
            let mut attribute = Attribute::default()
                .fd(fd.as_raw_fd())
                .u32(4, length)
                .pointer(8, info.as_mut_ptr());
            // SAFETY: no more is written than the length given.
            unsafe { attribute.call(INFO)? };
            Ok(Self { fd, key: info[2] as usize, value: info[3] as usize })
        });
        opened.unwrap_or_else(|e| panic!("cannot open {}: {e}", pin.display()))
    }

    fn about(&self, key: &[u8]) -> Attribute {
        assert_eq!(key.len(), self.key, "a key of another table");
        Attribute::default().fd(self.fd.as_raw_fd()).pointer(8, key.as_ptr())
    }

    /// All keys.
    pub fn keys(&self) -> Vec<Vec<u8>> {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        loop {
            let mut next = vec![0; self.key];
            let attribute = match keys.last() {
                Some(last) => self.about(last),
                None => Attribute::default().fd(self.fd.as_raw_fd()),
            };
            // SAFETY: a key's length is written behind the second pointer.
            if unsafe { attribute.pointer(16, next.as_mut_ptr()).call(NEXT_KEY) }.is_err() {
                return keys;
            }
            keys.push(next);
        }
    }

    /// What is at a key. Not for tables per CPU.
    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let mut value = vec![0; self.value];
        // SAFETY: a value's length is written behind the second pointer.
        let found = unsafe { self.about(key).pointer(16, value.as_mut_ptr()).call(LOOKUP) };
        found.is_ok().then_some(value)
    }

    /// Puts a value.
    ///
    /// # Panics
    /// When the kernel refuses it.
    #[track_caller]
    pub fn put(&self, key: &[u8], value: &[u8]) {
        assert_eq!(value.len(), self.value, "a value of another table");
        // SAFETY: a key and a value are read, and are as long as the table's.
        let put = unsafe { self.about(key).pointer(16, value.as_ptr()).call(UPDATE) };
        put.unwrap_or_else(|e| panic!("not put: {e}"));
    }

    /// Deletes a key.
    ///
    /// # Panics
    /// When it is not there.
    #[track_caller]
    pub fn delete(&self, key: &[u8]) {
        // SAFETY: a key is read, and is as long as the table's.
        unsafe { self.about(key).call(DELETE) }.unwrap_or_else(|e| panic!("not deleted: {e}"));
    }
}

/// Everything that a host's daemon has pinned.
pub fn pins(host: &Host) -> Vec<PathBuf> {
    fn below(directory: &Path, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() { below(&path, into) } else { into.push(path) }
        }
    }
    let mut found = Vec::new();
    below(&host.bpf_dir(), &mut found);
    found.sort();
    found
}

/// Takes a program from its device, as `bpftool link detach` does; its pin stays.
///
/// # Panics
/// When the kernel refuses it.
#[track_caller]
pub fn detach(pin: &Path) {
    let detached = open(pin).and_then(|fd| {
        // SAFETY: no pointers.
        unsafe { Attribute::default().fd(fd.as_raw_fd()).call(LINK_DETACH) }
    });
    detached.unwrap_or_else(|e| panic!("{} is not detached: {e}", pin.display()));
}

/// How many programs are at the ingress of a link by tcx, in the namespace at `netns`; those of clsact are not among them.
///
/// # Panics
/// When the kernel does not tell.
#[track_caller]
pub fn programs(netns: &Path, link: &str) -> usize {
    let name = link.to_owned();
    let counted = weft_lab::in_netns(netns, move || {
        let index = nix::net::if_::if_nametoindex(name.as_str())?;
        let mut numbers = [0_u32; 64];
        let mut attribute = Attribute::default()
            .u32(0, index)
            .u32(4, TCX_INGRESS)
            .pointer(16, numbers.as_mut_ptr())
            .u32(24, 64);
        // SAFETY: there is room for as many numbers as is said.
        match unsafe { attribute.call(QUERY) } {
            Ok(_) => Ok(numbers.iter().filter(|n| **n != 0).count()),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(0),
            Err(e) => Err(e),
        }
    });
    counted.unwrap_or_else(|e| panic!("what is at {link} is not told: {e}"))
}
