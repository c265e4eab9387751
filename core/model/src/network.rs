//! Networks: one switch across hosts.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{Mac, Name, NetworkId, Offset};

/// A VXLAN network identifier (RFC 7348 section 4): 24 bits, unique in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Vni(u32);

impl Vni {
    /// The first VNI that is given out. The range starts high because other overlays count from
    /// low numbers: Docker Swarm and Calico from 4096, flannel and Cilium from 1.
    pub const FIRST: Self = Self(0x57_0000);
    /// The last VNI that is given out.
    pub const LAST: Self = Self(0x57_ffff);

    /// `None` when `value` does not fit 24 bits.
    pub const fn new(value: u32) -> Option<Self> {
        if value < 1 << 24 { Some(Self(value)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<u32> for Vni {
    type Error = String;
    fn try_from(value: u32) -> Result<Self, String> {
        Self::new(value).ok_or_else(|| format!("VNI {value} does not fit 24 bits"))
    }
}

impl From<Vni> for u32 {
    fn from(vni: Vni) -> Self {
        vni.0
    }
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Identity; a network removed and created again under the same name is another one.
    pub id: NetworkId,
    /// What people call it; unique in the cluster.
    pub name: Name,
    /// On the wire.
    pub vni: Vni,
    /// At most one per address family, host bits zero, the IPv4 one first.
    pub subnets: Vec<IpNet>,
    /// Octets of an inner IP packet; `None`: what each node's underlay path carries, less the overhead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// No way out and no way in: no default route, no masquerade, no forwarded names.
    #[serde(default)]
    pub internal: bool,
    /// Its subnets may also be another network's or the host's.
    #[serde(default)]
    pub allow_overlap: bool,
}

impl Network {
    /// The gateway's offset: the same on every host.
    pub const GATEWAY: Offset = Offset(1);

    /// The address at `offset` of `subnet`; `None` beyond its end.
    pub fn address_at(subnet: &IpNet, offset: Offset) -> Option<IpAddr> {
        let host_bits = subnet.max_prefix_len() - subnet.prefix_len();
        if host_bits < 64 && offset.0 >> host_bits != 0 {
            return None;
        }
        Some(match subnet {
            IpNet::V4(net) => {
                let low = u32::try_from(offset.0).ok()?;
                IpAddr::from((u32::from(net.network()) | low).to_be_bytes())
            }
            IpNet::V6(net) => {
                IpAddr::from((u128::from(net.network()) | u128::from(offset.0)).to_be_bytes())
            }
        })
    }

    /// The addresses at `offset`, one per subnet that is large enough.
    pub fn addresses(&self, offset: Offset) -> Vec<IpAddr> {
        self.subnets.iter().filter_map(|s| Self::address_at(s, offset)).collect()
    }

    /// Where `address` lies in this network; `None` outside its subnets.
    pub fn offset_of(&self, address: IpAddr) -> Option<Offset> {
        let subnet = self.subnet_of(address)?;
        Some(Offset(match (subnet, address) {
            (IpNet::V4(net), IpAddr::V4(a)) => u64::from(u32::from(a) - u32::from(net.network())),
            (IpNet::V6(net), IpAddr::V6(a)) => {
                u64::try_from(u128::from(a) - u128::from(net.network())).ok()?
            }
            _ => return None,
        }))
    }

    /// The subnet that holds `address`.
    pub fn subnet_of(&self, address: IpAddr) -> Option<&IpNet> {
        self.subnets.iter().find(|s| s.contains(&address))
    }

    /// The last offset that exists, and can be given out, in every subnet.
    ///
    /// In IPv4 the subnet's last address is its broadcast address (RFC 919) and not given out.
    pub fn last_offset(&self) -> Offset {
        let last = |subnet: &IpNet| {
            let host_bits = subnet.max_prefix_len() - subnet.prefix_len();
            let size_less_one = 1_u64.checked_shl(u32::from(host_bits)).map_or(u64::MAX, |s| s - 1);
            if subnet.addr().is_ipv4() { size_less_one.saturating_sub(1) } else { size_less_one }
        };
        Offset(self.subnets.iter().map(last).min().unwrap_or(0))
    }

    /// The gateway's addresses, one per subnet.
    pub fn gateways(&self) -> Vec<IpAddr> {
        self.addresses(Self::GATEWAY)
    }

    /// The gateway's MAC: the same on every host, and it never leaves one.
    pub fn gateway_mac(&self) -> Mac {
        Mac::of_endpoint(self.vni, Self::GATEWAY)
    }

    /// Whether `other` has a subnet that shares addresses with one of this network's.
    pub fn overlap<'a>(&self, other: &'a [IpNet]) -> Option<(&IpNet, &'a IpNet)> {
        self.subnets.iter().find_map(|mine| {
            other.iter().find(|o| mine.contains(*o) || o.contains(mine)).map(|o| (mine, o))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(subnets: &[&str]) -> Network {
        Network {
            id: NetworkId(1),
            name: "web".parse().unwrap(),
            vni: Vni::FIRST,
            subnets: subnets.iter().map(|s| s.parse().unwrap()).collect(),
            mtu: None,
            internal: false,
            allow_overlap: false,
        }
    }

    #[test]
    fn one_offset_is_the_same_place_in_both_families() {
        let web = network(&["10.3.0.0/24", "fd00:3::/64"]);
        let five: Vec<IpAddr> = vec!["10.3.0.5".parse().unwrap(), "fd00:3::5".parse().unwrap()];
        assert_eq!(web.addresses(Offset(5)), five);
        assert_eq!(
            five.iter().map(|a| web.offset_of(*a)).collect::<Vec<_>>(),
            [Some(Offset(5)); 2]
        );
        assert_eq!(web.addresses(Offset(256)), ["fd00:3::100".parse::<IpAddr>().unwrap()]);
        assert_eq!(web.last_offset(), Offset(254));
        assert_eq!(network(&["fd00:3::/64"]).last_offset(), Offset(u64::MAX));
        assert_eq!(network(&["10.0.0.0/30"]).last_offset(), Offset(2));
    }

    #[test]
    fn overlap_is_containment_either_way() {
        let web = network(&["10.3.0.0/24"]);
        assert!(web.overlap(&["10.0.0.0/8".parse().unwrap()]).is_some());
        assert!(web.overlap(&["10.3.0.128/25".parse().unwrap()]).is_some());
        assert!(
            web.overlap(&["10.4.0.0/24".parse().unwrap(), "fd00::/8".parse().unwrap()]).is_none()
        );
    }
}
