//! What the programs should say, told another way: the chain of the bridge path at a container's veth, rule by rule
//! as netfilter evaluates it, and what the shortcut takes of what that chain lets pass.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weft_ebpf::abi::link_local;
use weft_kernel::DropReason;

use crate::frames::{Mac, TYPE_ARP, TYPE_V4, TYPE_V6};
use crate::world::Verdict;

/// An endpoint as the plan knows it.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    pub(crate) mac: Mac,
    /// All its addresses.
    pub(crate) own: Vec<IpAddr>,
    /// IPv4 and IPv6 prefixes that it routes for.
    pub(crate) granted: Vec<(IpAddr, u8)>,
}

/// The octets at a place, if the frame goes so far.
fn octets<const N: usize>(frame: &[u8], at: usize) -> Option<[u8; N]> {
    frame.get(at..at + N)?.try_into().ok()
}

fn v4_at(frame: &[u8], at: usize) -> Option<IpAddr> {
    octets::<4>(frame, at).map(IpAddr::from)
}

fn v6_at(frame: &[u8], at: usize) -> Option<IpAddr> {
    octets::<16>(frame, at).map(IpAddr::from)
}

fn kind(frame: &[u8]) -> u16 {
    u16::from_be_bytes([frame[12], frame[13]])
}

/// The upper bits of two addresses of one family are the same.
fn within(address: IpAddr, (prefix, length): (IpAddr, u8)) -> bool {
    let bits = |address| match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
        IpAddr::V6(v6) => u128::from(v6),
    };
    address.is_ipv4() == prefix.is_ipv4()
        && (length == 0 || (bits(address) ^ bits(prefix)) >> (128 - length) == 0)
}

impl Sender {
    fn owns(&self, address: IpAddr) -> bool {
        self.own.contains(&address)
    }

    fn may_send_from(&self, address: IpAddr) -> bool {
        self.owns(address) || self.granted.iter().any(|&net| within(address, net))
    }

    fn link_local(&self) -> IpAddr {
        link_local(self.mac).into()
    }

    /// Whether the programs look for more than the first address of each family.
    pub(crate) fn more(&self) -> bool {
        let several = |v4: bool| self.own.iter().filter(|a| a.is_ipv4() == v4).count() > 1;
        !self.granted.is_empty() || several(true) || several(false)
    }

    /// The first rule of the chain that drops the frame. A rule about octets that the frame does not have does not
    /// match.
    pub(crate) fn dropped_by_chain(&self, frame: &[u8]) -> Option<DropReason> {
        if octets::<6>(frame, 6) != Some(self.mac) {
            return Some(DropReason::NotItsMac);
        }
        match kind(frame) {
            TYPE_V4 => {
                let foreign = match v4_at(frame, 26) {
                    Some(source) => !self.may_send_from(source),
                    None => !self
                        .own
                        .iter()
                        .chain(self.granted.iter().map(|n| &n.0))
                        .any(IpAddr::is_ipv4),
                };
                foreign.then_some(DropReason::NotItsAddress)
            }
            TYPE_V6 => {
                let source = v6_at(frame, 22)?;
                let always = [self.link_local(), Ipv6Addr::UNSPECIFIED.into()];
                if !always.contains(&source) && !self.may_send_from(source) {
                    return Some(DropReason::NotItsAddress);
                }
                self.dropped_as_nd(frame)
            }
            TYPE_ARP => {
                let sender = v4_at(frame, 28);
                if sender
                    .is_some_and(|ip| !self.owns(ip) && ip != IpAddr::V4(Ipv4Addr::UNSPECIFIED))
                {
                    return Some(DropReason::ArpNotItsAddress);
                }
                let mac = octets::<6>(frame, 22);
                mac.is_some_and(|mac| mac != self.mac).then_some(DropReason::ArpNotItsMac)
            }
            _ => None,
        }
    }

    /// `icmpv6 type` needs a header that promises no more than there is (`nft_set_pktinfo_ipv6_validate`).
    fn dropped_as_nd(&self, frame: &[u8]) -> Option<DropReason> {
        let length = usize::from(u16::from_be_bytes(octets(frame, 18)?));
        if frame[14] >> 4 != 6 || length + 54 > frame.len() || frame[20] != 58 {
            return None;
        }
        match frame.get(54)? {
            134 => Some(DropReason::NdNotARouter),
            136 => {
                let target = v6_at(frame, 62)?;
                let its = self.owns(target) || target == self.link_local();
                (!its).then_some(DropReason::NdNotItsAddress)
            }
            _ => None,
        }
    }

    /// Whether a frame is so much in order that the program judges it, and not the bridge path.
    fn judged_here(&self, frame: &[u8], reason: DropReason) -> bool {
        let header = match kind(frame) {
            TYPE_V4 => frame.len() >= 34 && frame[14] >> 4 == 4 && frame[14] & 15 >= 5,
            TYPE_V6 => frame.len() >= 54 && frame[14] >> 4 == 6,
            TYPE_ARP => frame.len() >= 42 && frame[14..20] == [0, 1, 8, 0, 6, 4],
            _ => true,
        };
        match reason {
            DropReason::NotItsMac => frame.len() >= 34 && ![0x8100, 0x88a8].contains(&kind(frame)),
            // A mapped source is one in the table with the IPv4 address.
            DropReason::NotItsAddress if kind(frame) == TYPE_V6 && self.more() => {
                let mapped = frame.len() >= 38
                    && frame[22..34] == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
                header && !mapped
            }
            // There is one address in the table.
            DropReason::ArpNotItsAddress => header && !self.more(),
            // It has to be another's first address, then.
            DropReason::ArpNotItsMac => {
                let first = self.own.iter().copied().find(IpAddr::is_ipv4);
                let sender = v4_at(frame, 28);
                header && (sender == first || sender == Some(Ipv4Addr::UNSPECIFIED.into()))
            }
            // The source `::` is left to the bridge path, whatever it says; so is ICMPv6 cut off at its head.
            DropReason::NdNotARouter => header && frame[22..38] != [0; 16] && frame.len() >= 58,
            DropReason::NdNotItsAddress => header && frame[22..38] != [0; 16] && !self.more(),
            _ => header,
        }
    }

    /// The verdict of `from_container`. `destinations`: whom the table knows. Answers are left out: for a question,
    /// `None`.
    pub(crate) fn expected(
        &self,
        frame: &[u8],
        destinations: &[Mac],
    ) -> Option<(Verdict, Option<DropReason>)> {
        let pass = Some((Verdict::Pass, None));
        if let Some(reason) = self.dropped_by_chain(frame) {
            let here = self.judged_here(frame, reason);
            return if here { Some((Verdict::Drop, Some(reason))) } else { pass };
        }
        let well_known = destinations.iter().any(|mac| frame[..6] == mac[..]);
        let redirected = match kind(frame) {
            TYPE_V4 => frame.len() >= 34 && frame[14] >> 4 == 4 && frame[14] & 15 >= 5,
            TYPE_V6 => {
                let whole = frame.len() >= 54 && frame[14] >> 4 == 6 && frame[22..38] != [0; 16];
                whole && self.takes_ipv6(frame)?
            }
            TYPE_ARP => return None,
            _ => false,
        };
        Some((if redirected && well_known { Verdict::Redirect } else { Verdict::Pass }, None))
    }

    /// Whether the shortcut takes what follows the IPv6 header; `None`: a question.
    fn takes_ipv6(&self, frame: &[u8]) -> Option<bool> {
        match frame[20] {
            6 | 17 | 132 => Some(true),
            58 => {
                let length = usize::from(u16::from_be_bytes([frame[18], frame[19]]));
                if frame.len() < 58 || length + 54 > frame.len() {
                    return Some(false);
                }
                match frame[54] {
                    135 => None,
                    133 | 134 | 136 | 137 => Some(false),
                    _ => Some(true),
                }
            }
            _ => Some(false),
        }
    }
}
