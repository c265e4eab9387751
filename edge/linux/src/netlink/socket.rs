//! A netlink socket: dumps, single requests, and many changes to one system call.
//!
//! The kernel handles all messages of one `send` before `send` returns, in order. So changes ask
//! for an acknowledgement of the last message only; the others answer if, and only if, they fail
//! (`netlink(7)`, `NLM_F_ACK`), and what they say stands in the queue before the last one's answer.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockType, bind, getsockname, recvmsg, sendmsg,
    setsockopt, sockopt,
};
use nix::sys::time::TimeVal;

use super::read::{self, Header, messages};
use super::write::Writer;

/// No request waits longer than this for its answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Dumps come in pieces of at most 32 KiB; errors are small.
const RECEIVE: usize = 64 * 1024;
/// How often a dump that was torn by a concurrent change is started over before the last one,
/// torn or not, is taken.
const DUMP_ATTEMPTS: usize = 5;

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// The kernel's "no", before anybody has said to what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) errno: Errno,
    /// The extended error text; empty when there is none.
    pub(crate) text: String,
}

impl Refusal {
    pub(crate) fn new(errno: Errno, text: impl Into<String>) -> Self {
        Self { errno, text: text.into() }
    }
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self { errno, text: String::new() }
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Self::from(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
    }
}

/// A netlink socket. It keeps the network namespace it was opened in for life.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    seq: u32,
    port: u32,
    buffer: Vec<u8>,
}

/// Messages that go out together, each with the caller's number of it.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    writer: Writer,
    ids: Vec<usize>,
}

impl Batch {
    /// Starts a message; `id` names it in what is refused.
    pub(crate) fn begin(&mut self, id: usize, kind: u16, flags: u16) -> &mut Writer {
        // Numbered from 0; `send` adds the socket's own offset.
        let seq = u32::try_from(self.ids.len()).unwrap_or(u32::MAX);
        self.ids.push(id);
        self.writer.begin(kind, flags | NLM_F_REQUEST, seq);
        &mut self.writer
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Messages in it.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    fn clear(&mut self) {
        self.writer.clear();
        self.ids.clear();
    }
}

/// What a received datagram's messages are.
enum Answer<'a> {
    /// Acknowledged.
    Done(u32),
    /// Refused.
    Refused(u32, Refusal),
    /// Something asked for.
    Data(Header, &'a [u8]),
}

impl Socket {
    /// A socket of this netlink protocol in the calling thread's network namespace.
    pub(crate) fn open(protocol: i32) -> Result<Self, Refusal> {
        let fd = raw_socket(protocol)?;
        setsockopt(
            &fd,
            sockopt::ReceiveTimeout,
            &TimeVal::new(TIMEOUT.as_secs().cast_signed(), 0),
        )?;
        set_netlink_option(&fd, libc::NETLINK_EXT_ACK)?;
        set_netlink_option(&fd, libc::NETLINK_CAP_ACK)?;
        if protocol == libc::NETLINK_ROUTE {
            set_netlink_option(&fd, libc::NETLINK_GET_STRICT_CHK)?;
        }
        // Without CAP_NET_ADMIN the forced sizes are refused; then the first change says so.
        let _ = setsockopt(&fd, sockopt::SndBufForce, &(8 * 1024 * 1024));
        let _ = setsockopt(&fd, sockopt::RcvBufForce, &(8 * 1024 * 1024));
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        let port = getsockname::<NetlinkAddr>(fd.as_raw_fd())?.pid();
        Ok(Self { fd, seq: 1, port, buffer: vec![0; RECEIVE] })
    }

    /// The kernel's name of this socket: the sender's port in the events it causes.
    pub(crate) const fn port(&self) -> u32 {
        self.port
    }

    /// Asks for all objects of a kind; `each` gets message type and body. An object that changes
    /// while the kernel lists them tears the list; it is then read again, and `each` starts over
    /// after a call of `reset` (`NLM_F_DUMP_INTR`).
    pub(crate) fn dump<T: Default>(
        &mut self,
        kind: u16,
        request: impl Fn(&mut Writer),
        mut each: impl FnMut(&mut T, u16, &[u8]),
    ) -> Result<T, Refusal> {
        let mut result = T::default();
        for _ in 0..DUMP_ATTEMPTS {
            result = T::default();
            let seq = self.ask(kind, NLM_F_DUMP, &request)?;
            if !self.collect(seq, |header, body| each(&mut result, header.kind, body))? {
                break;
            }
        }
        Ok(result)
    }

    /// Asks for one object.
    pub(crate) fn get<T>(
        &mut self,
        kind: u16,
        request: impl Fn(&mut Writer),
        mut read: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        let seq = self.ask(kind, NLM_F_ACK, &request)?;
        let mut found = None;
        self.collect(seq, |_, body| found = read(body))?;
        Ok(found)
    }

    /// One change.
    pub(crate) fn change(
        &mut self,
        kind: u16,
        flags: u16,
        request: impl Fn(&mut Writer),
    ) -> Result<(), Refusal> {
        let seq = self.ask(kind, flags | NLM_F_ACK, &request)?;
        self.collect(seq, |_, _| ()).map(|_| ())
    }

    /// Sends a batch and empties it. `refused` is called with the number of each message that
    /// failed. An error means that the fate of all of them is unknown.
    pub(crate) fn send(
        &mut self,
        batch: &mut Batch,
        mut refused: impl FnMut(usize, Refusal),
    ) -> Result<(), Refusal> {
        if batch.is_empty() {
            return Ok(());
        }
        let start = batch.writer.start();
        batch.writer.add_flags(start, NLM_F_ACK);
        let first = self.seq;
        let result = self.send_numbered(batch, first, &mut refused);
        batch.clear();
        result
    }

    fn send_numbered(
        &mut self,
        batch: &mut Batch,
        first: u32,
        refused: &mut impl FnMut(usize, Refusal),
    ) -> Result<(), Refusal> {
        batch.writer.renumber(first);
        let count = u32::try_from(batch.ids.len()).unwrap_or(u32::MAX);
        self.seq = self.seq.wrapping_add(count);
        self.write(batch.writer.bytes())?;
        let last = first.wrapping_add(count - 1);
        let mut finished = false;
        while !finished {
            self.receive(|answer| match answer {
                Answer::Done(seq) => finished |= seq == last,
                Answer::Refused(seq, refusal) => {
                    finished |= seq == last;
                    let index = seq.wrapping_sub(first) as usize;
                    if let Some(id) = batch.ids.get(index) {
                        refused(*id, refusal);
                    }
                }
                Answer::Data(..) => {}
            })?;
        }
        Ok(())
    }

    /// Sends a nftables transaction (`nfnetlink`, batch messages): all of it happens, or none.
    /// Gives the numbers of the messages that were refused; a refusal of the whole is an error.
    pub(crate) fn transact(&mut self, batch: &mut Batch) -> Result<Vec<(usize, Refusal)>, Refusal> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let start = batch.writer.start();
        batch.writer.add_flags(start, NLM_F_ACK);
        let count = u32::try_from(batch.ids.len()).unwrap_or(u32::MAX);
        let begin = self.seq;
        let first = begin.wrapping_add(1);
        self.seq = self.seq.wrapping_add(count + 2);
        batch.writer.renumber(first);
        let head = batch_mark(BATCH_BEGIN, begin);
        let tail = batch_mark(BATCH_END, first.wrapping_add(count));
        let parts = [head.bytes(), batch.writer.bytes(), tail.bytes()];
        sendmsg::<()>(self.fd.as_raw_fd(), &parts.map(IoSlice::new), &[], MsgFlags::empty(), None)?;
        let last = first.wrapping_add(count - 1);
        let (mut finished, mut whole, mut refused) = (false, None, Vec::new());
        while !finished {
            self.receive(|answer| match answer {
                Answer::Done(seq) => finished |= seq == last,
                Answer::Refused(seq, refusal) if seq == begin => {
                    finished = true;
                    whole = Some(refusal);
                }
                Answer::Refused(seq, refusal) => {
                    finished |= seq == last;
                    let index = seq.wrapping_sub(first) as usize;
                    if let Some(id) = batch.ids.get(index) {
                        refused.push((*id, refusal));
                    }
                }
                Answer::Data(..) => {}
            })?;
        }
        batch.clear();
        whole.map_or(Ok(refused), Err)
    }

    fn ask(
        &mut self,
        kind: u16,
        flags: u16,
        request: &impl Fn(&mut Writer),
    ) -> Result<u32, Refusal> {
        let seq = self.seq;
        self.seq = self.seq.wrapping_add(1);
        let mut writer = Writer::default();
        writer.begin(kind, flags | NLM_F_REQUEST, seq);
        request(&mut writer);
        self.write(writer.bytes())?;
        Ok(seq)
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Refusal> {
        sendmsg::<()>(self.fd.as_raw_fd(), &[IoSlice::new(bytes)], &[], MsgFlags::empty(), None)?;
        Ok(())
    }

    /// Reads the answers to one request to their end; says whether the list was torn.
    fn collect(
        &mut self,
        wanted: u32,
        mut each: impl FnMut(Header, &[u8]),
    ) -> Result<bool, Refusal> {
        let (mut end, mut torn) = (None, false);
        while end.is_none() {
            self.receive(|answer| match answer {
                Answer::Done(seq) if seq == wanted => end = Some(Ok(())),
                Answer::Refused(seq, refusal) if seq == wanted => end = Some(Err(refusal)),
                Answer::Data(header, body) if header.seq == wanted => {
                    torn |= header.flags & NLM_F_DUMP_INTR != 0;
                    each(header, body);
                }
                Answer::Done(_) | Answer::Refused(..) | Answer::Data(..) => {}
            })?;
        }
        end.unwrap_or(Ok(())).map(|()| torn)
    }

    fn receive(&mut self, mut each: impl FnMut(Answer<'_>)) -> Result<(), Refusal> {
        let length = loop {
            let mut parts = [IoSliceMut::new(&mut self.buffer)];
            match recvmsg::<()>(self.fd.as_raw_fd(), &mut parts, None, MsgFlags::empty()) {
                Ok(message) if message.flags.contains(MsgFlags::MSG_TRUNC) => {
                    return Err(Refusal::new(Errno::EMSGSIZE, "an answer longer than 64 KiB"));
                }
                Ok(message) => break message.bytes,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    return Err(Refusal::new(Errno::ETIMEDOUT, "no answer within 5 s"));
                }
                Err(errno) => return Err(errno.into()),
            }
        };
        for (header, body) in messages(&self.buffer[..length]) {
            each(answer(header, body));
        }
        Ok(())
    }
}

const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const SUBSYSTEM_NFTABLES: u16 = 10;

fn batch_mark(kind: u16, seq: u32) -> Writer {
    let mut writer = Writer::default();
    writer.begin(kind, NLM_F_REQUEST, seq);
    let [high, low] = SUBSYSTEM_NFTABLES.to_be_bytes();
    writer.header(&[0, 0, high, low]);
    writer
}

fn answer(header: Header, body: &[u8]) -> Answer<'_> {
    let code = read::u32_at(body, 0).unwrap_or_default().cast_signed();
    match header.kind {
        NLMSG_ERROR if code == 0 => Answer::Done(header.seq),
        NLMSG_ERROR => Answer::Refused(
            header.seq,
            Refusal::new(Errno::from_raw(-code), extended_text(header, body)),
        ),
        NLMSG_DONE if code < 0 => {
            Answer::Refused(header.seq, Refusal::from(Errno::from_raw(-code)))
        }
        NLMSG_DONE => Answer::Done(header.seq),
        _ => Answer::Data(header, body),
    }
}

/// The text behind an error (`NLMSGERR_ATTR_MSG`).
fn extended_text(header: Header, body: &[u8]) -> String {
    if header.flags & NLM_F_ACK_TLVS == 0 {
        return String::new();
    }
    let echoed = if header.flags & NLM_F_CAPPED != 0 {
        16
    } else {
        read::u32_at(body, 4).unwrap_or_default() as usize
    };
    let attributes = body.get((4 + echoed).next_multiple_of(4)..).unwrap_or_default();
    read::find(attributes, NLMSGERR_ATTR_MSG).map(|text| text.text()).unwrap_or_default()
}

/// A netlink socket without options, not yet bound.
pub(crate) fn raw_socket(protocol: i32) -> Result<OwnedFd, Errno> {
    // nix has no name for every netlink protocol, and its `socket` takes names only.
    use std::os::fd::FromRawFd;
    let kind = SockType::Raw as i32 | SockFlag::SOCK_CLOEXEC.bits();
    // SAFETY: no pointer is passed; the result is checked before it is owned.
    let fd = unsafe { libc::socket(AddressFamily::Netlink as i32, kind, protocol) };
    let fd = Errno::result(fd)?;
    // SAFETY: a descriptor that the kernel just gave out and that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Switches a boolean option of `SOL_NETLINK` on.
pub(crate) fn set_netlink_option(fd: &OwnedFd, option: i32) -> Result<(), Errno> {
    set_netlink_value(fd, option, 1)
}

/// Sets an option of `SOL_NETLINK`.
pub(crate) fn set_netlink_value(fd: &OwnedFd, option: i32, value: i32) -> Result<(), Errno> {
    let size = libc::socklen_t::try_from(size_of::<i32>()).unwrap_or_default();
    // SAFETY: the pointer and the size are those of `value`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            std::ptr::from_ref(&value).cast(),
            size,
        )
    };
    Errno::result(result).map(drop)
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
