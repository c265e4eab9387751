//! A rule as a few octets, kept in the rule's user data beside the comment that `nft` shows.
//!
//! The kernel gives user data back as it was, so after a restart the rules can be read without
//! making sense of their expressions; and a rule that somebody else wrote, put in place of ours
//! or changed has none of it, so it is told apart. User data is at most 256 octets
//! (`NFT_USERDATA_MAXLEN`), hence the terse form.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use weft_kernel::nft::{
    Equal, Family, Field, Match, PacketType, Rule, Statement, TrackState,
};

/// Changes with the form and with what expressions a rule is made into, so that rules of an older
/// daemon are written anew.
const VERSION: u8 = 1;
/// `NFTNL_UDATA_RULE_COMMENT`
const COMMENT: u8 = 0;
/// Ours; `nft` passes over types it does not know.
const CODE: u8 = 0x57;
/// `NFT_USERDATA_MAXLEN`
const LONGEST: usize = 256;

/// User data of a rule; `None` when it is longer than the kernel takes.
pub(crate) fn user_data(rule: &Rule) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    if !rule.comment.is_empty() {
        let mut comment = rule.comment.as_bytes().to_vec();
        comment.push(0);
        entry(&mut data, COMMENT, &comment)?;
    }
    entry(&mut data, CODE, &encode(rule))?;
    (data.len() <= LONGEST).then_some(data)
}

fn entry(data: &mut Vec<u8>, kind: u8, value: &[u8]) -> Option<()> {
    data.push(kind);
    data.push(u8::try_from(value.len()).ok()?);
    data.extend_from_slice(value);
    Some(())
}

/// The rule that this user data speaks of; `None` when it is not ours.
pub(crate) fn from_user_data(mut data: &[u8]) -> Option<Rule> {
    let (mut comment, mut code) = (String::new(), None);
    while let [kind, length, rest @ ..] = data {
        let value = rest.get(..usize::from(*length))?;
        match *kind {
            COMMENT => {
                comment = String::from_utf8_lossy(value).trim_end_matches('\0').to_owned();
            }
            CODE => code = Some(value),
            _ => {}
        }
        data = &rest[value.len()..];
    }
    decode(code?, comment)
}

fn encode(rule: &Rule) -> Vec<u8> {
    let mut out = vec![VERSION];
    for condition in &rule.matches {
        encode_match(&mut out, condition);
    }
    // Statements have numbers from 64 on.
    for statement in &rule.statements {
        encode_statement(&mut out, statement);
    }
    out
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

fn address(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(v4) => {
            out.push(4);
            out.extend_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => {
            out.push(6);
            out.extend_from_slice(&v6.octets());
        }
    }
}

fn net(out: &mut Vec<u8>, net: &IpNet) {
    address(out, net.addr());
    out.push(net.prefix_len());
}

/// The number of a kind, with its sense in the highest bit.
const fn sense(number: u8, equal: Equal) -> u8 {
    match equal {
        Equal::Is => number,
        Equal::IsNot => number | 0x80,
    }
}

fn encode_match(out: &mut Vec<u8>, condition: &Match) {
    match condition {
        Match::InLink(equal, name) => {
            out.push(sense(1, *equal));
            text(out, name);
        }
        Match::OutLink(equal, name) => {
            out.push(sense(2, *equal));
            text(out, name);
        }
        Match::Source(equal, prefix) => {
            out.push(sense(3, *equal));
            net(out, prefix);
        }
        Match::Destination(equal, prefix) => {
            out.push(sense(4, *equal));
            net(out, prefix);
        }
        Match::EtherSource(equal, mac) => {
            out.push(sense(5, *equal));
            out.extend_from_slice(mac);
        }
        Match::EtherDestination(equal, mac) => {
            out.push(sense(6, *equal));
            out.extend_from_slice(mac);
        }
        Match::EtherType(equal, number) => {
            out.push(sense(7, *equal));
            out.extend_from_slice(&number.to_be_bytes());
        }
        Match::Family(Family::V4) => out.push(8),
        Match::Family(Family::V6) => out.push(9),
        Match::Protocol(equal, number) => out.extend([sense(10, *equal), *number]),
        Match::UdpPort(port) => {
            out.push(11);
            out.extend_from_slice(&port.to_be_bytes());
        }
        Match::TcpPort(port) => {
            out.push(12);
            out.extend_from_slice(&port.to_be_bytes());
        }
        Match::Tracked(states) => {
            out.extend([13, u8::try_from(states.len()).unwrap_or(u8::MAX)]);
            out.extend(states.iter().map(|state| match state {
                TrackState::Established => 0,
                TrackState::Related => 1,
            }));
        }
        Match::ArpSenderIp(equal, ip) => {
            out.push(sense(14, *equal));
            address(out, *ip);
        }
        Match::ArpSenderMac(equal, mac) => {
            out.push(sense(15, *equal));
            out.extend_from_slice(mac);
        }
        Match::Icmp6Type(number) => out.extend([16, *number]),
        Match::NdTarget(equal, ip) => {
            out.push(sense(17, *equal));
            address(out, *ip);
        }
        Match::PacketType(kind) => out.extend([
            18,
            match kind {
                PacketType::Host => 0,
                PacketType::Broadcast => 1,
                PacketType::Multicast => 2,
            },
        ]),
        Match::InSet(equal, fields, set) => {
            out.extend([sense(19, *equal), u8::try_from(fields.len()).unwrap_or(u8::MAX)]);
            out.extend(fields.iter().map(|field| match field {
                Field::SourceV4 => 0,
                Field::SourceV6 => 1,
                Field::Vni => 2,
            }));
            text(out, set);
        }
    }
}

fn encode_statement(out: &mut Vec<u8>, statement: &Statement) {
    match statement {
        Statement::Counter => out.push(64),
        Statement::LimitOver { rate, burst } => {
            out.push(65);
            out.extend_from_slice(&rate.to_be_bytes());
            out.extend_from_slice(&burst.to_be_bytes());
        }
        Statement::SetPacketTypeHost => out.push(66),
        Statement::SetEtherSource(mac) => {
            out.push(67);
            out.extend_from_slice(mac);
        }
        Statement::Notrack => out.push(68),
        Statement::Masquerade(None) => out.push(69),
        Statement::Masquerade(Some((first, last))) => {
            out.push(70);
            out.extend_from_slice(&first.to_be_bytes());
            out.extend_from_slice(&last.to_be_bytes());
        }
        Statement::Jump(chain) => {
            out.push(71);
            text(out, chain);
        }
        Statement::Accept => out.push(72),
        Statement::Drop => out.push(73),
        Statement::Return => out.push(74),
    }
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.bytes::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.bytes().map(u16::from_be_bytes)
    }

    fn text(&mut self) -> Option<String> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let text = String::from_utf8(self.0[..end].to_vec()).ok()?;
        self.0 = &self.0[end + 1..];
        Some(text)
    }

    fn address(&mut self) -> Option<IpAddr> {
        match self.u8()? {
            4 => Some(Ipv4Addr::from(self.bytes::<4>()?).into()),
            6 => Some(Ipv6Addr::from(self.bytes::<16>()?).into()),
            _ => None,
        }
    }

    fn net(&mut self) -> Option<IpNet> {
        let address = self.address()?;
        IpNet::new(address, self.u8()?).ok()
    }
}

fn decode(code: &[u8], comment: String) -> Option<Rule> {
    let mut reader = Reader(code);
    if reader.u8()? != VERSION {
        return None;
    }
    let mut rule = Rule { matches: Vec::new(), statements: Vec::new(), comment };
    while let Some(number) = reader.u8() {
        if number & 0x40 == 0 {
            rule.matches.push(decode_match(number, &mut reader)?);
        } else {
            rule.statements.push(decode_statement(number, &mut reader)?);
        }
    }
    Some(rule)
}

fn decode_match(number: u8, from: &mut Reader<'_>) -> Option<Match> {
    let equal = if number & 0x80 == 0 { Equal::Is } else { Equal::IsNot };
    Some(match number & 0x3f {
        1 => Match::InLink(equal, from.text()?),
        2 => Match::OutLink(equal, from.text()?),
        3 => Match::Source(equal, from.net()?),
        4 => Match::Destination(equal, from.net()?),
        5 => Match::EtherSource(equal, from.bytes()?),
        6 => Match::EtherDestination(equal, from.bytes()?),
        7 => Match::EtherType(equal, from.u16()?),
        8 => Match::Family(Family::V4),
        9 => Match::Family(Family::V6),
        10 => Match::Protocol(equal, from.u8()?),
        11 => Match::UdpPort(from.u16()?),
        12 => Match::TcpPort(from.u16()?),
        13 => Match::Tracked(decode_states(from)?),
        14 => Match::ArpSenderIp(equal, from.address()?),
        15 => Match::ArpSenderMac(equal, from.bytes()?),
        16 => Match::Icmp6Type(from.u8()?),
        17 => Match::NdTarget(equal, from.address()?),
        18 => Match::PacketType(match from.u8()? {
            0 => PacketType::Host,
            1 => PacketType::Broadcast,
            2 => PacketType::Multicast,
            _ => return None,
        }),
        19 => {
            let fields = decode_fields(from)?;
            Match::InSet(equal, fields, from.text()?)
        }
        _ => return None,
    })
}

fn decode_states(from: &mut Reader<'_>) -> Option<Vec<TrackState>> {
    let state = |number| match number {
        0 => Some(TrackState::Established),
        1 => Some(TrackState::Related),
        _ => None,
    };
    (0..from.u8()?).map(|_| from.u8().and_then(state)).collect()
}

fn decode_fields(from: &mut Reader<'_>) -> Option<Vec<Field>> {
    let field = |number| match number {
        0 => Some(Field::SourceV4),
        1 => Some(Field::SourceV6),
        2 => Some(Field::Vni),
        _ => None,
    };
    (0..from.u8()?).map(|_| from.u8().and_then(field)).collect()
}

fn decode_statement(number: u8, from: &mut Reader<'_>) -> Option<Statement> {
    Some(match number {
        64 => Statement::Counter,
        65 => Statement::LimitOver {
            rate: u64::from_be_bytes(from.bytes()?),
            burst: u32::from_be_bytes(from.bytes()?),
        },
        66 => Statement::SetPacketTypeHost,
        67 => Statement::SetEtherSource(from.bytes()?),
        68 => Statement::Notrack,
        69 => Statement::Masquerade(None),
        70 => Statement::Masquerade(Some((from.u16()?, from.u16()?))),
        71 => Statement::Jump(from.text()?),
        72 => Statement::Accept,
        73 => Statement::Drop,
        74 => Statement::Return,
        _ => return None,
    })
}
