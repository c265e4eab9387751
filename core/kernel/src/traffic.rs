//! What the kernel counted: frames by the path they took, and those it dropped.

use std::collections::BTreeMap;
use std::ops::AddAssign;

/// Frames and their octets (Ethernet header included). A packet that the kernel handles in one
/// piece for several (GSO) counts once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Frames.
    pub packets: u64,
    /// Octets.
    pub bytes: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.packets = self.packets.saturating_add(other.packets);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// What one endpoint of this host sent and received, by path, and what of its sending was dropped.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EndpointTraffic {
    /// Sent by the shortcut.
    pub sent_shortcut: Count,
    /// Sent by the bridge path: all that came from the container and neither took the shortcut nor
    /// was dropped.
    pub sent_bridge: Count,
    /// Received by the shortcut.
    pub received_shortcut: Count,
    /// Received by the bridge path.
    pub received_bridge: Count,
    /// Dropped, by reason, on either path.
    pub dropped: BTreeMap<DropReason, Count>,
}

/// What a host's kernel has counted since its objects were made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Traffic {
    /// By the host's end of the endpoint's veth.
    pub endpoints: BTreeMap<String, EndpointTraffic>,
    /// Frames from the underlay that were dropped, by VNI and reason. VNI 0: the reason does not
    /// depend on the network.
    pub underlay: BTreeMap<(u32, DropReason), Count>,
}

/// Why a frame was dropped. The numbers are those of `ebpf/include/weft.h`; [`DropReason::as_str`] is the comment of the
/// rule that drops for this reason on the bridge path, so that both paths count under one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum DropReason {
    /// The source MAC is not the endpoint's.
    NotItsMac = 1,
    /// The IP source is neither the endpoint's nor granted to it.
    NotItsAddress = 2,
    /// ARP says the sender's address is one that the endpoint does not have.
    ArpNotItsAddress = 3,
    /// ARP says the sender's MAC is another one.
    ArpNotItsMac = 4,
    /// A router advertisement, from an endpoint.
    NdNotARouter = 5,
    /// A neighbour advertisement for an address that the endpoint does not have.
    NdNotItsAddress = 6,
    /// VXLAN with a VNI of ours, from an address that is no member's.
    NotAMember = 7,
    /// A frame from another host under the gateway's MAC, which leaves no host.
    AnotherHostsGateway = 8,
    /// The outer header reports congestion, and the inner packet's sender does not understand
    /// such reports (RFC 6040 section 4.2).
    CongestionLost = 9,
    /// More broadcasts or multicasts than an endpoint may send.
    TooMany = 10,
    /// VXLAN from a container, to the host or through it.
    VxlanFromContainer = 11,
    /// From one network into another.
    NetworksApart = 12,
    /// Out of an internal network.
    InternalNoWayOut = 13,
    /// Into an internal network.
    InternalNoWayIn = 14,
    /// From outside to a container that had not asked.
    NotAskedFor = 15,
    /// The gateway asks the other hosts for a neighbour: all are known, so there is none.
    GatewayAsksNobody = 16,
    /// The packet could not be rewritten after room for the outer header had been made.
    NotWritable = 17,
}

impl DropReason {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::NotItsMac,
        Self::NotItsAddress,
        Self::ArpNotItsAddress,
        Self::ArpNotItsMac,
        Self::NdNotARouter,
        Self::NdNotItsAddress,
        Self::NotAMember,
        Self::AnotherHostsGateway,
        Self::CongestionLost,
        Self::TooMany,
        Self::VxlanFromContainer,
        Self::NetworksApart,
        Self::InternalNoWayOut,
        Self::InternalNoWayIn,
        Self::NotAskedFor,
        Self::GatewayAsksNobody,
        Self::NotWritable,
    ];

    /// In words: the comment of the rule that drops for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotItsMac => "not its MAC",
            Self::NotItsAddress => "not its address",
            Self::ArpNotItsAddress => "ARP: not its address",
            Self::ArpNotItsMac => "ARP: not its MAC",
            Self::NdNotARouter => "ND: not a router",
            Self::NdNotItsAddress => "ND: not its address",
            Self::NotAMember => "not from a member",
            Self::AnotherHostsGateway => "another host's gateway",
            Self::CongestionLost => "congestion would go unreported",
            Self::TooMany => "too many",
            Self::VxlanFromContainer => "VXLAN from a container",
            Self::NetworksApart => "networks are apart",
            Self::InternalNoWayOut => "internal: no way out",
            Self::InternalNoWayIn => "internal: no way in",
            Self::NotAskedFor => "not asked for",
            Self::GatewayAsksNobody => "the gateway asks nobody",
            Self::NotWritable => "could not be rewritten",
        }
    }

    /// The reason with this number.
    pub fn of_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u32 == code)
    }

    /// The reason in these words.
    pub fn of_words(words: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == words)
    }
}

#[cfg(test)]
mod tests {
    use super::DropReason;

    #[test]
    fn every_reason_is_found_by_its_number_and_by_its_words() {
        for (place, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place + 1);
            assert_eq!(DropReason::of_code(reason as u32), Some(reason));
            assert_eq!(DropReason::of_words(reason.as_str()), Some(reason));
        }
        assert_eq!(DropReason::of_code(0), None);
        assert_eq!(DropReason::of_words("x"), None);
    }
}
