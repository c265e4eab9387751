//! Rules as expressions of the kernel's (`linux/netfilter/nf_tables.h`): load a part of the
//! packet into a register, compare it, act.

use std::net::{IpAddr, SocketAddrV4};

use ipnet::IpNet;
use weft_kernel::key::NftFamily;
use weft_kernel::nft::{Equal, Family, Field, Match, PacketType, Rule, Statement, TrackState};

use crate::netlink::Writer;

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;

/// The first register of 16 octets; also the first of those of 4.
const REGISTER: u32 = 1;
/// The first register of 4 octets (`NFT_REG32_00`).
const REGISTER_32: u32 = 8;

const META_PROTOCOL: u32 = 1;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_IIFTYPE: u32 = 8;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const META_PKTTYPE: u32 = 19;
const ARPHRD_ETHER: u16 = 1;

const BASE_LINK: u32 = 0;
const BASE_NETWORK: u32 = 1;
const BASE_TRANSPORT: u32 = 2;

const ETH_P_IP: u16 = 0x0800;
const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP6: u8 = 58;

const CMP_EQ: u32 = 0;
const CMP_NEQ: u32 = 1;

const LIMIT_PACKETS: u32 = 0;
const LIMIT_INVERT: u32 = 1;

const NAT_DNAT: u32 = 1;

/// `IFNAMSIZ`
const NAME: usize = 16;

/// Writes the expressions of a rule in a table of this family.
pub(crate) fn write(w: &mut Writer, rule: &Rule, family: NftFamily) {
    let mut e = Expressions { w, family, network: None, transport: None };
    for condition in &rule.matches {
        e.condition(condition);
    }
    for statement in &rule.statements {
        e.statement(statement);
    }
}

/// Writes `dnat to`, which ends a rule in a table of the family `ip`.
pub(super) fn write_dnat(w: &mut Writer, to: SocketAddrV4) {
    let mut e = Expressions { w, family: NftFamily::Ip, network: None, transport: None };
    e.immediate(REGISTER, &to.ip().octets());
    e.immediate(REGISTER + 1, &to.port().to_be_bytes());
    e.expression("nat", |w| {
        w.u32_be(1, NAT_DNAT);
        w.u32_be(2, u32::from(super::number(NftFamily::Ip)));
        w.u32_be(3, REGISTER);
        w.u32_be(5, REGISTER + 1);
    });
}

/// The expressions of one rule, and what they have made sure of already.
struct Expressions<'a> {
    w: &'a mut Writer,
    family: NftFamily,
    /// EtherType that the network header has been found to be.
    network: Option<u16>,
    /// Protocol that the transport header has been found to be.
    transport: Option<u8>,
}

impl Expressions<'_> {
    fn expression(&mut self, name: &str, inside: impl FnOnce(&mut Writer)) {
        self.w.nest(NFTA_LIST_ELEM, |w| {
            w.text(NFTA_EXPR_NAME, name);
            w.nest(NFTA_EXPR_DATA, inside);
        });
    }

    fn meta(&mut self, key: u32) {
        self.expression("meta", |w| {
            w.u32_be(1, REGISTER);
            w.u32_be(2, key);
        });
    }

    fn payload(&mut self, base: u32, offset: u32, length: u32, register: u32) {
        self.expression("payload", |w| {
            w.u32_be(1, register);
            w.u32_be(2, base);
            w.u32_be(3, offset);
            w.u32_be(4, length);
        });
    }

    fn compare(&mut self, operation: u32, value: &[u8]) {
        self.expression("cmp", |w| {
            w.u32_be(1, REGISTER);
            w.u32_be(2, operation);
            w.nest(3, |w| w.attr(1, value));
        });
    }

    fn compare_to(&mut self, equal: Equal, value: &[u8]) {
        self.compare(if equal == Equal::Is { CMP_EQ } else { CMP_NEQ }, value);
    }

    fn mask(&mut self, mask: &[u8]) {
        let length = u32::try_from(mask.len()).unwrap_or_default();
        self.expression("bitwise", |w| {
            w.u32_be(1, REGISTER);
            w.u32_be(2, REGISTER);
            w.u32_be(3, length);
            w.nest(4, |w| w.attr(1, mask));
            w.nest(5, |w| w.attr(1, &vec![0; mask.len()]));
        });
    }

    /// The network header is of this kind, or the rule does not hold.
    fn network_is(&mut self, ether_type: u16) {
        if self.network == Some(ether_type) {
            return;
        }
        self.network = Some(ether_type);
        match (self.family, ether_type) {
            (NftFamily::Ip, ETH_P_IP) | (NftFamily::Ip6, ETH_P_IPV6) => {}
            (NftFamily::Inet, ETH_P_IP) => self.family_is(Family::V4),
            (NftFamily::Inet, ETH_P_IPV6) => self.family_is(Family::V6),
            _ => {
                self.meta(META_PROTOCOL);
                self.compare(CMP_EQ, &ether_type.to_be_bytes());
            }
        }
    }

    fn family_is(&mut self, family: Family) {
        let (number, ether_type) = match family {
            Family::V4 => (2, ETH_P_IP),
            Family::V6 => (10, ETH_P_IPV6),
        };
        self.network = Some(ether_type);
        self.meta(META_NFPROTO);
        self.compare(CMP_EQ, &[number]);
    }

    fn transport_is(&mut self, protocol: u8) {
        if self.transport != Some(protocol) {
            self.transport = Some(protocol);
            self.meta(META_L4PROTO);
            self.compare(CMP_EQ, &[protocol]);
        }
    }

    /// There is an Ethernet header. In the netdev family there always is.
    fn ether(&mut self) {
        if self.family != NftFamily::Netdev {
            self.meta(META_IIFTYPE);
            self.compare(CMP_EQ, &ARPHRD_ETHER.to_ne_bytes());
        }
    }

    fn link_name(&mut self, key: u32, equal: Equal, name: &str) {
        self.meta(key);
        match name.strip_suffix('*') {
            // A comparison of fewer octets than a name has is one of its beginning.
            Some(prefix) => self.compare_to(equal, prefix.as_bytes()),
            None => {
                let mut padded = name.as_bytes().to_vec();
                padded.resize(NAME, 0);
                self.compare_to(equal, &padded);
            }
        }
    }

    fn prefix(&mut self, equal: Equal, net: &IpNet, v4_offset: u32, v6_offset: u32) {
        match net {
            IpNet::V4(net) => {
                self.network_is(ETH_P_IP);
                self.payload(BASE_NETWORK, v4_offset, 4, REGISTER);
                if net.prefix_len() < 32 {
                    self.mask(&net.netmask().octets());
                }
                self.compare_to(equal, &net.network().octets());
            }
            IpNet::V6(net) => {
                self.network_is(ETH_P_IPV6);
                self.payload(BASE_NETWORK, v6_offset, 16, REGISTER);
                if net.prefix_len() < 128 {
                    self.mask(&net.netmask().octets());
                }
                self.compare_to(equal, &net.network().octets());
            }
        }
    }

    fn condition(&mut self, condition: &Match) {
        match condition {
            Match::InLink(equal, name) => self.link_name(META_IIFNAME, *equal, name),
            Match::OutLink(equal, name) => self.link_name(META_OIFNAME, *equal, name),
            Match::Source(equal, net) => self.prefix(*equal, net, 12, 8),
            Match::Destination(equal, net) => self.prefix(*equal, net, 16, 24),
            Match::EtherSource(equal, mac) => self.mac(*equal, 6, mac),
            Match::EtherDestination(equal, mac) => self.mac(*equal, 0, mac),
            Match::EtherType(equal, number) => {
                if *equal == Equal::Is {
                    self.network = Some(*number);
                }
                self.meta(META_PROTOCOL);
                self.compare_to(*equal, &number.to_be_bytes());
            }
            Match::Family(family) => self.family_is(*family),
            Match::Protocol(equal, number) => {
                if *equal == Equal::Is {
                    self.transport = Some(*number);
                }
                self.meta(META_L4PROTO);
                self.compare_to(*equal, &[*number]);
            }
            Match::UdpPort(port) => self.port(UDP, *port),
            Match::TcpPort(port) => self.port(TCP, *port),
            Match::Tracked(states) => self.tracked(states),
            // The sender's addresses lie where Ethernet and IPv4 put them (RFC 826). The lengths
            // are not looked at: who sends others must not come by our "is not" for it.
            Match::ArpSenderIp(equal, ip) => {
                self.network_is(ETH_P_ARP);
                self.address(*equal, BASE_NETWORK, 14, *ip);
            }
            Match::ArpSenderMac(equal, mac) => {
                self.network_is(ETH_P_ARP);
                self.payload(BASE_NETWORK, 8, 6, REGISTER);
                self.compare_to(*equal, mac);
            }
            Match::Icmp6Type(number) => {
                self.transport_is(ICMP6);
                self.payload(BASE_TRANSPORT, 0, 1, REGISTER);
                self.compare(CMP_EQ, &[*number]);
            }
            Match::NdTarget(equal, ip) => {
                self.transport_is(ICMP6);
                self.address(*equal, BASE_TRANSPORT, 8, *ip);
            }
            Match::PacketType(kind) => {
                self.meta(META_PKTTYPE);
                self.compare(CMP_EQ, &[packet_type(*kind)]);
            }
            Match::InSet(equal, fields, set) => self.lookup(*equal, fields, set),
        }
    }

    fn mac(&mut self, equal: Equal, offset: u32, mac: &[u8; 6]) {
        self.ether();
        self.payload(BASE_LINK, offset, 6, REGISTER);
        self.compare_to(equal, mac);
    }

    fn address(&mut self, equal: Equal, base: u32, offset: u32, ip: IpAddr) {
        match ip {
            IpAddr::V4(v4) => {
                self.payload(base, offset, 4, REGISTER);
                self.compare_to(equal, &v4.octets());
            }
            IpAddr::V6(v6) => {
                self.payload(base, offset, 16, REGISTER);
                self.compare_to(equal, &v6.octets());
            }
        }
    }

    fn port(&mut self, protocol: u8, port: u16) {
        self.transport_is(protocol);
        self.payload(BASE_TRANSPORT, 2, 2, REGISTER);
        self.compare(CMP_EQ, &port.to_be_bytes());
    }

    fn tracked(&mut self, states: &[TrackState]) {
        let bits = states.iter().fold(0_u32, |bits, state| {
            bits | match state {
                TrackState::Established => 2,
                TrackState::Related => 4,
            }
        });
        self.expression("ct", |w| {
            w.u32_be(1, REGISTER);
            w.u32_be(2, 0);
        });
        self.mask(&bits.to_ne_bytes());
        self.compare(CMP_NEQ, &[0; 4]);
    }

    fn lookup(&mut self, equal: Equal, fields: &[Field], set: &str) {
        let mut register = REGISTER_32;
        for field in fields {
            match field {
                Field::SourceV4 => {
                    self.network_is(ETH_P_IP);
                    self.payload(BASE_NETWORK, 12, 4, register);
                    register += 1;
                }
                Field::SourceV6 => {
                    self.network_is(ETH_P_IPV6);
                    self.payload(BASE_NETWORK, 8, 16, register);
                    register += 4;
                }
                // After 8 octets of UDP header and 4 of flags.
                Field::Vni => {
                    self.payload(BASE_TRANSPORT, 12, 3, register);
                    register += 1;
                }
            }
        }
        self.expression("lookup", |w| {
            w.text(1, set);
            w.u32_be(2, REGISTER_32);
            w.u32_be(5, u32::from(equal == Equal::IsNot));
        });
    }

    fn immediate(&mut self, register: u32, value: &[u8]) {
        self.expression("immediate", |w| {
            w.u32_be(1, register);
            w.nest(2, |w| w.attr(1, value));
        });
    }

    /// A verdict is an immediate into register 0.
    fn verdict(&mut self, code: i32, chain: Option<&str>) {
        self.expression("immediate", |w| {
            w.u32_be(1, 0);
            w.nest(2, |w| {
                w.nest(2, |w| {
                    w.u32_be(1, code.cast_unsigned());
                    if let Some(chain) = chain {
                        w.text(2, chain);
                    }
                });
            });
        });
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Counter => self.expression("counter", |_| ()),
            Statement::LimitOver { rate, burst } => self.expression("limit", |w| {
                w.u64_be(1, *rate);
                w.u64_be(2, 1);
                w.u32_be(3, *burst);
                w.u32_be(4, LIMIT_PACKETS);
                w.u32_be(5, LIMIT_INVERT);
            }),
            Statement::SetPacketTypeHost => {
                self.immediate(REGISTER, &[packet_type(PacketType::Host)]);
                self.expression("meta", |w| {
                    w.u32_be(2, META_PKTTYPE);
                    w.u32_be(3, REGISTER);
                });
            }
            Statement::SetEtherSource(mac) => {
                self.immediate(REGISTER, mac);
                self.expression("payload", |w| {
                    w.u32_be(5, REGISTER);
                    w.u32_be(2, BASE_LINK);
                    w.u32_be(3, 6);
                    w.u32_be(4, 6);
                    w.u32_be(6, 0);
                    w.u32_be(7, 0);
                    w.u32_be(8, 0);
                });
            }
            Statement::Notrack => self.expression("notrack", |_| ()),
            Statement::Masquerade(None) => self.expression("masq", |_| ()),
            Statement::Masquerade(Some((first, last))) => {
                self.immediate(REGISTER, &first.to_be_bytes());
                self.immediate(REGISTER + 1, &last.to_be_bytes());
                self.expression("masq", |w| {
                    w.u32_be(2, REGISTER);
                    w.u32_be(3, REGISTER + 1);
                });
            }
            Statement::Jump(chain) => self.verdict(-3, Some(chain)),
            Statement::Accept => self.verdict(1, None),
            Statement::Drop => self.verdict(0, None),
            Statement::Return => self.verdict(-5, None),
        }
    }
}

const fn packet_type(kind: PacketType) -> u8 {
    match kind {
        PacketType::Host => 0,
        PacketType::Broadcast => 1,
        PacketType::Multicast => 2,
    }
}
