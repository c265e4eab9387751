//! The few rtnetlink requests (rtnetlink(7)) it takes to lay a cable. Each goes out with an
//! acknowledgement asked for, in the namespace of the thread that makes the socket.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_MASTER: u16 = 10;
const IFLA_BR_MCAST_SNOOPING: u16 = 23;
const IFA_FLAGS: u16 = 8;

/// A connection to the kernel.
pub(crate) struct Netlink {
    socket: OwnedFd,
}

/// A request under construction.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16) -> Self {
        let flags = flags | (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        Self(bytes)
    }

    /// `struct ifinfomsg`.
    fn link(mut self, index: u32, flags: u32, change: u32) -> Self {
        self.0.extend([0; 4]);
        for word in [index, flags, change] {
            self.0.extend(word.to_ne_bytes());
        }
        self
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn nested(self, kind: u16, inner: impl FnOnce(Self) -> Self) -> Self {
        let value = inner(Self(Vec::new())).0;
        self.attribute(kind, &value)
    }

    fn text(self, kind: u16, text: &str) -> Self {
        self.attribute(kind, &[text.as_bytes(), &[0]].concat())
    }

    fn address(self, kind: u16, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(a) => self.attribute(kind, &a.octets()),
            IpAddr::V6(a) => self.attribute(kind, &a.octets()),
        }
    }
}

fn family(address: IpAddr) -> u8 {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    family as u8
}

fn index(name: &str) -> io::Result<u32> {
    Ok(nix::net::if_::if_nametoindex(name)?)
}

const CREATE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;

impl Netlink {
    /// Connects to the kernel in this thread's namespace.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        Ok(Self { socket })
    }

    fn request(&self, message: Message) -> io::Result<()> {
        let mut bytes = message.0;
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        let fd = self.socket.as_raw_fd();
        send(fd, &bytes, MsgFlags::empty())?;
        let mut answer = [0; 4096];
        let length = recv(fd, &mut answer, MsgFlags::empty())?;
        // An acknowledgement is an error message with error 0, after its own header of 16 octets.
        let error = answer.get(16..20).filter(|_| length >= 20).and_then(|b| b.try_into().ok());
        match error.map(i32::from_ne_bytes) {
            Some(0) => Ok(()),
            Some(error) => Err(io::Error::from_raw_os_error(-error)),
            None => Err(io::Error::other("the kernel's answer is cut off")),
        }
    }

    /// `ip link add NAME mtu MTU type bridge mcast_snooping 0`
    pub(crate) fn add_bridge(&self, name: &str, mtu: u32) -> io::Result<()> {
        self.request(
            Message::new(libc::RTM_NEWLINK, CREATE)
                .link(0, 0, 0)
                .text(libc::IFLA_IFNAME, name)
                .attribute(libc::IFLA_MTU, &mtu.to_ne_bytes())
                .nested(IFLA_LINKINFO, |m| {
                    m.text(IFLA_INFO_KIND, "bridge")
                        .nested(IFLA_INFO_DATA, |m| m.attribute(IFLA_BR_MCAST_SNOOPING, &[0]))
                }),
        )
    }

    /// `ip link add NAME mtu MTU type veth peer name PEER netns NETNS`
    pub(crate) fn add_veth(
        &self,
        name: &str,
        mtu: u32,
        peer: &str,
        netns: &impl AsFd,
    ) -> io::Result<()> {
        let netns = netns.as_fd().as_raw_fd();
        self.request(
            Message::new(libc::RTM_NEWLINK, CREATE)
                .link(0, 0, 0)
                .text(libc::IFLA_IFNAME, name)
                .attribute(libc::IFLA_MTU, &mtu.to_ne_bytes())
                .nested(IFLA_LINKINFO, |m| {
                    m.text(IFLA_INFO_KIND, "veth").nested(IFLA_INFO_DATA, |m| {
                        m.nested(VETH_INFO_PEER, |m| {
                            m.link(0, 0, 0)
                                .text(libc::IFLA_IFNAME, peer)
                                .attribute(libc::IFLA_MTU, &mtu.to_ne_bytes())
                                .attribute(IFLA_NET_NS_FD, &netns.to_ne_bytes())
                        })
                    })
                }),
        )
    }

    /// `ip link set NAME up`
    pub(crate) fn up(&self, name: &str) -> io::Result<()> {
        let up = libc::IFF_UP as u32;
        self.request(Message::new(libc::RTM_NEWLINK, 0).link(index(name)?, up, up))
    }

    /// `ip link set NAME master MASTER`
    pub(crate) fn enslave(&self, name: &str, master: &str) -> io::Result<()> {
        let message = Message::new(libc::RTM_NEWLINK, 0).link(index(name)?, 0, 0);
        self.request(message.attribute(IFLA_MASTER, &index(master)?.to_ne_bytes()))
    }

    /// `ip address add ADDRESS/LENGTH dev NAME nodad`
    pub(crate) fn add_address(&self, name: &str, address: IpAddr, length: u8) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_NEWADDR, CREATE);
        message.0.extend([family(address), length, 0, 0]);
        message.0.extend(index(name)?.to_ne_bytes());
        let message = message
            .address(libc::IFA_LOCAL, address)
            .address(libc::IFA_ADDRESS, address)
            .attribute(IFA_FLAGS, &libc::IFA_F_NODAD.to_ne_bytes());
        self.request(message)
    }

    /// `ip route add default via GATEWAY`
    pub(crate) fn add_default_route(&self, gateway: IpAddr) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_NEWROUTE, CREATE);
        // struct rtmsg: family, lengths of destination and source, tos, table, protocol, scope, type.
        message.0.extend([
            family(gateway),
            0,
            0,
            0,
            libc::RT_TABLE_MAIN,
            libc::RTPROT_BOOT,
            libc::RT_SCOPE_UNIVERSE,
            libc::RTN_UNICAST,
        ]);
        message.0.extend([0; 4]);
        self.request(message.address(libc::RTA_GATEWAY, gateway))
    }
}
