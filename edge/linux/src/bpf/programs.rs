//! The programs: loaded anew by every daemon, which is cheap, and put at devices so that they
//! stay there without it.
//!
//! A program at a device is the present one when it has the same instructions, tables and constants
//! as ours: then nothing is to be done after a restart. Another version's is replaced while
//! frames flow, never taken away before.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions, TcAttachType, TcError};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier};
use aya::{Ebpf, EbpfLoader};
use nix::errno::Errno;
use weft_kernel::Attach;

use super::ATTACHES;
use super::sys::{self, Map, ProgramInfo};
use super::tables;
use crate::fault::Trouble;

/// What makes two programs the same.
#[derive(Debug, PartialEq, Eq)]
struct Nature {
    /// Digest of the instructions, in which tables are left out.
    tag: [u8; 8],
    /// The tables that it looks into.
    tables: BTreeSet<u32>,
    /// What it has of its own: the octets of its constants.
    own: BTreeSet<Vec<u8>>,
}

impl Nature {
    fn of(info: &ProgramInfo, tables: &BTreeSet<u32>) -> Result<Self, Trouble> {
        let mut nature = Self { tag: info.tag, tables: BTreeSet::new(), own: BTreeSet::new() };
        for id in &info.maps {
            if tables.contains(id) {
                nature.tables.insert(*id);
            } else {
                nature.own.insert(constants(*id)?);
            }
        }
        Ok(nature)
    }
}

/// What is in a table of constants; of any other table its number, which no other has.
fn constants(id: u32) -> Result<Vec<u8>, Trouble> {
    let number = id.to_ne_bytes().to_vec();
    let Some(fd) = sys::map(id)? else { return Ok(number) };
    let is_array = sys::map_info(fd.as_fd())?.kind == sys::ARRAY;
    let map = Map::open(fd, tables::cpus()?)?.filter(|_| is_array);
    let octets = map.map(|map| map.get(&0_u32.to_ne_bytes())).transpose()?.flatten();
    Ok(octets.unwrap_or(number))
}

/// The programs in the kernel.
#[derive(Debug)]
pub(super) struct Programs {
    ebpf: Ebpf,
    /// Number and nature of ours.
    present: BTreeMap<Attach, (u32, Nature)>,
    tables: BTreeSet<u32>,
    /// Numbers of programs that others put at devices, a daemon before us for one, and whether
    /// they are the present ones. The kernel gives no number twice before it has gone through all.
    seen: BTreeMap<(Attach, u32), bool>,
}

impl Programs {
    /// Loads them. Tables that are pinned in `tables` are used, others are made and pinned there.
    pub(super) fn load(object: &[u8], tables: &Path) -> Result<Self, Trouble> {
        let mut loader = EbpfLoader::new();
        // The programs look into no structure of the kernel's, so its types need not be read.
        let loader = loader.btf(None).default_map_pin_directory(tables);
        let mut ebpf = loader.load(object).map_err(|error| explain(&error))?;
        let tables = tables::numbers(tables)?;
        let mut present = BTreeMap::new();
        for attach in ATTACHES {
            let program = classifier(&mut ebpf, attach)?;
            program.load().map_err(|error| refused(attach, &error))?;
            let fd = program.fd().map_err(|error| explain(&error))?;
            let info = sys::program_info(fd.as_fd())?;
            present.insert(attach, (info.id, Nature::of(&info, &tables)?));
        }
        Ok(Self { ebpf, present, tables, seen: BTreeMap::new() })
    }

    /// Whether the kernel has tcx (since 6.6): it is asked what is at the loopback device.
    pub(super) fn has_tcx() -> bool {
        match SchedClassifier::query_tcx("lo", TcAttachType::Ingress) {
            Ok(_) => true,
            // No such question; that there is nothing is an error too, but another one.
            Err(error) => explain(&error).errno() != Errno::EINVAL,
        }
    }

    /// Whether the program of this number is the present one.
    pub(super) fn is_present(&mut self, attach: Attach, id: u32) -> Result<bool, Trouble> {
        let Some((ours, nature)) = self.present.get(&attach) else { return Ok(false) };
        if *ours == id {
            return Ok(true);
        }
        if let Some(known) = self.seen.get(&(attach, id)) {
            return Ok(*known);
        }
        let theirs = match sys::program(id)? {
            Some(fd) => sys::program_info(fd.as_fd())?,
            None => return Ok(false),
        };
        let same = Nature::of(&theirs, &self.tables)? == *nature;
        self.seen.insert((attach, id), same);
        Ok(same)
    }

    /// Runs `act` with the program's descriptor.
    pub(super) fn with<T>(
        &mut self,
        attach: Attach,
        act: impl FnOnce(BorrowedFd<'_>) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let program = classifier(&mut self.ebpf, attach)?;
        act(program.fd().map_err(|error| explain(&error))?.as_fd())
    }

    /// Puts a program at the ingress of a device, after those of others, and pins it at `path`.
    pub(super) fn attach(
        &mut self,
        attach: Attach,
        device: &str,
        path: &Path,
    ) -> Result<(), Trouble> {
        let program = classifier(&mut self.ebpf, attach)?;
        let order = TcAttachOptions::TcxOrder(LinkOrder::default());
        let linked = program.attach_with_options(device, TcAttachType::Ingress, order);
        let link = linked.and_then(|id| program.take_link(id)).map_err(|error| {
            let trouble = explain(&error);
            match trouble.errno() {
                Errno::EEXIST => trouble.hint("somebody removed its pin, and the kernel still has the program at the link: it is tried again"),
                _ => trouble,
            }
        })?;
        let link = FdLink::try_from(link).map_err(|error| explain(&error))?;
        link.pin(path).map(drop).map_err(|error| explain(&error))
    }

    /// Replaces what the link pinned at `path` runs.
    pub(super) fn swap(&mut self, attach: Attach, path: &Path) -> Result<(), Trouble> {
        let program = classifier(&mut self.ebpf, attach)?;
        let link = PinnedLink::from_pin(path).map_err(|error| explain(&error))?;
        let link = SchedClassifierLink::try_from(FdLink::from(link));
        let id = program.attach_to_link(link.map_err(|error| explain(&error))?);
        // The pin keeps it; only our descriptor of it is closed.
        id.and_then(|id| program.take_link(id)).map(drop).map_err(|error| explain(&error))
    }
}

fn classifier(ebpf: &mut Ebpf, attach: Attach) -> Result<&mut SchedClassifier, Trouble> {
    let program = ebpf.program_mut(attach.as_str());
    let program = program.and_then(|program| program.try_into().ok());
    program.ok_or_else(|| Trouble::new(Errno::ENOENT, format!("there is no program {attach}")))
}

/// A program that the kernel did not load.
fn refused(attach: Attach, error: &ProgramError) -> Trouble {
    let ProgramError::LoadError { io_error, verifier_log } = error else { return explain(error) };
    let log = verifier_log.to_string();
    match last_words(&log) {
        Some(words) => Trouble::new(
            errno_of(io_error),
            format!("the kernel's verifier refused {attach}: {words}"),
        )
        .hint("this kernel cannot run the shortcut, and packets go the bridge path: please report it, with the kernel's version"),
        None => may_not(errno_of(io_error), format!("{attach} was not loaded: {io_error}")),
    }
}

/// The line of the verifier's log that says why; after it come statistics.
fn last_words(log: &str) -> Option<&str> {
    let statistics = ["processed ", "verification time", "stack depth", "insns_stats"];
    let says_why = |line: &&str| {
        !line.trim().is_empty() && !statistics.iter().any(|begin| line.starts_with(begin))
    };
    log.lines().rev().find(says_why).map(str::trim)
}

/// The trouble behind an error of aya's.
fn explain(error: &(dyn Error + 'static)) -> Trouble {
    let mut text = error.to_string();
    let mut errno = Errno::EINVAL;
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = io_error(error) {
            errno = errno_of(io);
        }
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    may_not(errno, text)
}

/// The kernel's word in an error, also where aya's hides it by showing it as its own.
fn io_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a std::io::Error> {
    match error.downcast_ref::<ProgramError>() {
        Some(ProgramError::IOError(io) | ProgramError::TcError(TcError::IoError(io))) => Some(io),
        _ => error.downcast_ref(),
    }
}

fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// What the kernel's errno asks of a person when BPF is refused.
fn may_not(errno: Errno, text: String) -> Trouble {
    let trouble = Trouble::new(errno, text);
    match errno {
        Errno::EPERM | Errno::EACCES => {
            trouble.hint("run the daemon as root, or give it CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN; a kernel locked down (`lockdown`) may allow no programs at all")
        }
        Errno::ENOSYS => trouble.hint("the kernel has no BPF (CONFIG_BPF_SYSCALL)"),
        _ => trouble,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use nix::errno::Errno;
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    use weft_kernel::Attach;

    use super::{Programs, last_words, refused};

    #[test]
    fn the_verifiers_reason_is_the_last_line_before_its_statistics() {
        let log = "0: R1=ctx() R10=fp0\n; return *p;\n1: (61) r0 = *(u32 *)(r1 +80)\nR1 invalid mem access 'scalar'\nverification time 20 usec\nstack depth 0\nprocessed 2 insns (limit 1000000)\n\n";
        assert_eq!(last_words(log), Some("R1 invalid mem access 'scalar'"));
        assert_eq!(last_words(""), None);
    }

    /// The object with its first instruction made into one that reads beyond the stack.
    fn broken() -> Vec<u8> {
        let mut object = weft_ebpf::OBJECT.to_vec();
        let number = |at: usize, length: usize| {
            let octets = weft_ebpf::OBJECT[at..at + length].iter().rev();
            octets.fold(0_usize, |sum, octet| sum << 8 | usize::from(*octet))
        };
        // ELF: the table of sections, their number, and which one has their names.
        let section = |index: usize| number(0x28, 8) + index * number(0x3a, 2);
        let names = number(section(number(0x3e, 2)) + 0x18, 8);
        let is_code =
            |at: &usize| weft_ebpf::OBJECT[names + number(*at, 4)..].starts_with(b"classifier\0");
        let code = (0..number(0x3c, 2)).map(section).find(is_code).unwrap();
        let start = number(code + 0x18, 8);
        // r0 = *(u64 *)(r10 + 256)
        object[start..start + 8].copy_from_slice(&[0x79, 0xa0, 0x00, 0x01, 0, 0, 0, 0]);
        object
    }

    #[test]
    fn a_program_that_the_verifier_refuses_is_told_with_its_reason() {
        let thread = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).expect("this test needs root (CAP_SYS_ADMIN)");
            let (none, at) = (None::<&str>, Path::new("/mnt"));
            mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).unwrap();
            mount(Some("bpf"), at, Some("bpf"), MsFlags::empty(), none).unwrap();
            let loaded = Programs::load(&broken(), at).map(drop);
            let whole = Programs::load(weft_ebpf::OBJECT, at).map(drop);
            assert!(whole.is_ok(), "{whole:?}");
            loaded.unwrap_err().of("x")
        });
        let fault = thread.join().unwrap();
        assert_eq!(fault.errno, Errno::EACCES as i32);
        let (refused, why) = fault.message.split_once(": ").unwrap();
        assert!(refused.starts_with("the kernel's verifier refused from_"), "{}", fault.message);
        assert_eq!(why, "invalid read from stack R10 off=256 size=8");
        assert!(fault.hint.contains("bridge path"), "{}", fault.hint);
    }

    #[test]
    fn a_refusal_without_a_reason_of_the_verifiers_is_one_of_rights() {
        let error = aya::programs::ProgramError::IOError(std::io::Error::from_raw_os_error(1));
        let fault = refused(Attach::FromContainer, &error).of("x");
        assert_eq!(fault.errno, Errno::EPERM as i32);
        assert!(fault.hint.contains("CAP_BPF"), "{}", fault.hint);
    }
}
