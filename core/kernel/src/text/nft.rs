//! Rules, chains and sets as `nft --stateless list ruleset` prints them (`nft(8)`).

use std::fmt::{self, Display, Formatter};

use ipnet::IpNet;

use super::Mac;
use crate::nft::{
    Chain, ChainKind, Equal, Family, Field, Hook, HookPoint, Match, PacketType, Rule, Set,
    Statement, TrackState,
};

impl Display for Equal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Is => "",
            Self::IsNot => "!= ",
        })
    }
}

impl Display for Field {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SourceV4 => "ip saddr",
            Self::SourceV6 => "ip6 saddr",
            // 64 bits of UDP header, then 32 bits of flags: RFC 7348 section 5.
            Self::Vni => "@th,96,24",
        })
    }
}

impl Display for Set {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "typeof {}", Concatenation(&self.of))
    }
}

impl Display for HookPoint {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut space = "";
        for part in self.matches.iter().map(|m| m as &dyn Display) {
            write!(f, "{space}{part}")?;
            space = " ";
        }
        for part in &self.statements {
            write!(f, "{space}{part}")?;
            space = " ";
        }
        if self.comment.is_empty() {
            Ok(())
        } else {
            write!(f, "{space}comment \"{}\"", self.comment)
        }
    }
}

impl Display for Match {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::InLink(equal, name) => write!(f, "iifname {equal}\"{name}\""),
            Self::OutLink(equal, name) => write!(f, "oifname {equal}\"{name}\""),
            Self::Source(equal, net) => {
                write!(f, "{} saddr {equal}{}", ip_header(net), Prefix(net))
            }
            Self::Destination(equal, net) => {
                write!(f, "{} daddr {equal}{}", ip_header(net), Prefix(net))
            }
            Self::EtherSource(equal, mac) => write!(f, "ether saddr {equal}{}", Mac(mac)),
            Self::EtherDestination(equal, mac) => write!(f, "ether daddr {equal}{}", Mac(mac)),
            Self::EtherType(equal, number) => {
                write!(f, "ether type {equal}{}", EtherTypeName(*number))
            }
            Self::Family(Family::V4) => f.write_str("meta nfproto ipv4"),
            Self::Family(Family::V6) => f.write_str("meta nfproto ipv6"),
            Self::Protocol(equal, number) => {
                write!(f, "meta l4proto {equal}{}", ProtocolName(*number))
            }
            Self::UdpPort(port) => write!(f, "udp dport {port}"),
            Self::TcpPort(port) => write!(f, "tcp dport {port}"),
            Self::Tracked(states) => {
                f.write_str("ct state ")?;
                let mut comma = "";
                for state in states {
                    let state = match state {
                        TrackState::Established => "established",
                        TrackState::Related => "related",
                    };
                    write!(f, "{comma}{state}")?;
                    comma = ",";
                }
                Ok(())
            }
            Self::ArpSenderIp(equal, ip) => write!(f, "arp saddr ip {equal}{ip}"),
            Self::ArpSenderMac(equal, mac) => write!(f, "arp saddr ether {equal}{}", Mac(mac)),
            Self::Icmp6Type(number) => write!(f, "icmpv6 type {}", Icmp6Name(*number)),
            Self::NdTarget(equal, ip) => write!(f, "icmpv6 taddr {equal}{ip}"),
            Self::PacketType(kind) => f.write_str(match kind {
                PacketType::Host => "meta pkttype host",
                PacketType::Broadcast => "meta pkttype broadcast",
                PacketType::Multicast => "meta pkttype multicast",
            }),
            Self::InSet(equal, fields, set) => {
                write!(f, "{} {equal}@{set}", Concatenation(fields))
            }
        }
    }
}

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Counter => f.write_str("counter"),
            Self::LimitOver { rate, burst } => {
                write!(f, "limit rate over {rate}/second burst {burst} packets")
            }
            Self::SetPacketTypeHost => f.write_str("meta pkttype set host"),
            Self::SetEtherSource(mac) => write!(f, "ether saddr set {}", Mac(mac)),
            Self::Notrack => f.write_str("notrack"),
            Self::Masquerade(None) => f.write_str("masquerade"),
            Self::Masquerade(Some((first, last))) => write!(f, "masquerade to :{first}-{last}"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Return => f.write_str("return"),
        }
    }
}

/// The lines of a chain between its braces; `device` is the link it is bound to.
pub(super) fn chain_lines(chain: &Chain, device: Option<&str>) -> Vec<String> {
    let hook = chain.hook.iter().map(|hook| hook_line(hook, device));
    hook.chain(chain.rules.iter().map(ToString::to_string)).collect()
}

fn hook_line(hook: &Hook, device: Option<&str>) -> String {
    let kind = match hook.kind {
        ChainKind::Filter => "filter",
        ChainKind::Nat => "nat",
    };
    let device = device.map_or_else(String::new, |name| format!("device \"{name}\" "));
    let priority = match (hook.priority, hook.point) {
        (-300, _) => "raw".to_owned(),
        (-150, _) => "mangle".to_owned(),
        (-100, HookPoint::Prerouting) => "dstnat".to_owned(),
        (0, _) => "filter".to_owned(),
        (50, _) => "security".to_owned(),
        (100, HookPoint::Postrouting) => "srcnat".to_owned(),
        (number, _) => number.to_string(),
    };
    format!("type {kind} hook {} {device}priority {priority}; policy accept;", hook.point)
}

fn ip_header(net: &IpNet) -> &'static str {
    match net {
        IpNet::V4(_) => "ip",
        IpNet::V6(_) => "ip6",
    }
}

/// A prefix; a single address without its length.
struct Prefix<'a>(&'a IpNet);

impl Display for Prefix<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            self.0.addr().fmt(f)
        } else {
            self.0.fmt(f)
        }
    }
}

struct Concatenation<'a>(&'a [Field]);

impl Display for Concatenation<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (i, field) in self.0.iter().enumerate() {
            let dot = if i == 0 { "" } else { " . " };
            write!(f, "{dot}{field}")?;
        }
        Ok(())
    }
}

/// `linux/if_ether.h`, as `nft describe ether type` names them.
struct EtherTypeName(u16);

impl Display for EtherTypeName {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            0x0800 => f.write_str("ip"),
            0x0806 => f.write_str("arp"),
            0x86dd => f.write_str("ip6"),
            other => write!(f, "0x{other:04x}"),
        }
    }
}

/// IANA protocol numbers, as `nft describe meta l4proto` names them.
struct ProtocolName(u8);

impl Display for ProtocolName {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("icmp"),
            6 => f.write_str("tcp"),
            17 => f.write_str("udp"),
            58 => f.write_str("ipv6-icmp"),
            other => other.fmt(f),
        }
    }
}

/// RFC 4861 section 4, as `nft describe icmpv6 type` names them.
struct Icmp6Name(u8);

impl Display for Icmp6Name {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            133 => f.write_str("nd-router-solicit"),
            134 => f.write_str("nd-router-advert"),
            135 => f.write_str("nd-neighbor-solicit"),
            136 => f.write_str("nd-neighbor-advert"),
            137 => f.write_str("nd-redirect"),
            other => other.fmt(f),
        }
    }
}
