//! The four questions and answers of the interface (`getsockopt`, `setsockopt`; `ip_tables.h`).

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{SockFlag, SockType, socket};

use super::layout::{COUNTERS, HOOKS, Layout, TABLE_NAME, put, u32_at};
use super::table::{Info, Table};

/// `IPT_SO_SET_REPLACE`, `IPT_SO_GET_INFO`; in IPv6 alike.
const REPLACE: libc::c_int = 64;
const GET_INFO: libc::c_int = 64;
/// `IPT_SO_SET_ADD_COUNTERS`, `IPT_SO_GET_ENTRIES`
const ADD_COUNTERS: libc::c_int = 65;
const GET_ENTRIES: libc::c_int = 65;

/// `struct ipt_getinfo`
const INFO: usize = 84;
/// `struct ipt_get_entries` and `struct xt_counters_info`: name, number, padding.
const LIST: usize = 40;
/// `struct ipt_replace`
const REPLACEMENT: usize = 96;

/// What an entry has counted: packets, octets.
pub(super) type Counters = [u8; COUNTERS];

/// A way to the tables of the network namespace of the thread that opened it.
#[derive(Debug)]
pub(super) struct Control {
    fd: OwnedFd,
    pub(super) layout: &'static Layout,
}

impl Control {
    pub(super) fn open(layout: &'static Layout) -> Result<Self, Errno> {
        // Any socket of the family will do; one of this type needs no capability of its own.
        let fd = socket(layout.domain, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        Ok(Self { fd, layout })
    }

    /// Where the chains of a table are. Asking for one that is not there makes the kernel create
    /// it.
    pub(super) fn info(&self, table: &str) -> Result<Info, Errno> {
        let mut answer = vec![0; INFO];
        put(&mut answer, 0, &name(table)?);
        self.get(GET_INFO, &mut answer)?;
        read_info(&answer).ok_or(Errno::EBADMSG)
    }

    /// The entries of a table; `EAGAIN` when it has another size by now.
    pub(super) fn entries(&self, table: &str, size: u32) -> Result<Vec<u8>, Errno> {
        let octets = usize::try_from(size).map_err(|_| Errno::EOVERFLOW)?;
        let mut answer = vec![0; LIST + octets];
        put(&mut answer, 0, &name(table)?);
        put(&mut answer, TABLE_NAME, &size.to_ne_bytes());
        self.get(GET_ENTRIES, &mut answer)?;
        Ok(answer.split_off(LIST))
    }

    /// Puts this table in the place of one with `old` entries, and gives what those have counted
    /// up to that moment; `EAGAIN` when there is another number of them by now.
    pub(super) fn replace(
        &self,
        name_of: &str,
        table: &Table,
        old: u32,
    ) -> Result<Vec<Counters>, Errno> {
        let count = usize::try_from(old).map_err(|_| Errno::EOVERFLOW)?;
        let mut counters: Vec<Counters> = vec![[0; COUNTERS]; count];
        let info = &table.info;
        let mut request = vec![0; REPLACEMENT];
        put(&mut request, 0, &name(name_of)?);
        let numbers = [info.hooks, info.entries, info.size]
            .into_iter()
            .chain(info.first)
            .chain(info.policy)
            .chain([old]);
        for (place, number) in numbers.enumerate() {
            put(&mut request, TABLE_NAME + place * 4, &number.to_ne_bytes());
        }
        let place = REPLACEMENT - size_of::<u64>();
        put(&mut request, place, &(counters.as_mut_ptr().expose_provenance()).to_ne_bytes());
        request.extend_from_slice(&table.octets);
        // SAFETY: the kernel writes `old` counters to where `counters` points, which has room for
        // as many and outlives the call; pointer and size of the request are those of `request`.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                self.layout.level,
                REPLACE,
                request.as_ptr().cast(),
                size(&request)?,
            )
        };
        Errno::result(result)?;
        Ok(counters)
    }

    /// Adds to what the entries of a table have counted, entry by entry.
    pub(super) fn add_counters(&self, table: &str, counters: &[Counters]) -> Result<(), Errno> {
        let mut request = vec![0; LIST];
        put(&mut request, 0, &name(table)?);
        let count = u32::try_from(counters.len()).map_err(|_| Errno::EOVERFLOW)?;
        put(&mut request, TABLE_NAME, &count.to_ne_bytes());
        request.extend(counters.iter().flatten());
        // SAFETY: pointer and size are those of `request`, which outlives the call.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                self.layout.level,
                ADD_COUNTERS,
                request.as_ptr().cast(),
                size(&request)?,
            )
        };
        Errno::result(result).map(drop)
    }

    fn get(&self, option: libc::c_int, answer: &mut [u8]) -> Result<(), Errno> {
        let mut length = size(answer)?;
        // SAFETY: pointer and size are those of `answer`, which outlives the call.
        let result = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                self.layout.level,
                option,
                answer.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        Errno::result(result)?;
        // Less than was asked for would leave nothings that look like an answer.
        if length == size(answer)? { Ok(()) } else { Err(Errno::EAGAIN) }
    }
}

fn size(octets: &[u8]) -> Result<libc::socklen_t, Errno> {
    // The kernel takes the size for a signed number.
    i32::try_from(octets.len()).map(i32::cast_unsigned).map_err(|_| Errno::EOVERFLOW)
}

fn name(table: &str) -> Result<[u8; TABLE_NAME], Errno> {
    let mut name = [0; TABLE_NAME];
    if table.len() >= TABLE_NAME {
        return Err(Errno::ENAMETOOLONG);
    }
    put(&mut name, 0, table.as_bytes());
    Ok(name)
}

fn read_info(answer: &[u8]) -> Option<Info> {
    let number = |place: usize| u32_at(answer, TABLE_NAME + place * 4);
    let mut info = Info {
        hooks: number(0)?,
        entries: number(1 + 2 * HOOKS)?,
        size: number(2 + 2 * HOOKS)?,
        ..Info::default()
    };
    for hook in 0..HOOKS {
        info.first[hook] = number(1 + hook)?;
        info.policy[hook] = number(1 + HOOKS + hook)?;
    }
    Some(info)
}
