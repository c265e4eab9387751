//! A rule as a few octets, kept in the rule's user data beside the comment that `nft` shows.
//!
//! The kernel gives user data back as it was, so after a restart the rules can be read without
//! making sense of their expressions; and a rule that somebody else wrote, put in place of ours
//! or changed has none of it, so it is told apart. User data is at most 256 octets
//! (`NFT_USERDATA_MAXLEN`), hence the terse form.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use weft_kernel::nft::{Equal, Family, Field, Match, PacketType, Rule, Statement, TrackState};

/// Changes with the form and with what expressions a rule is made into, so that rules of an older
/// daemon are written anew.
const VERSION: u8 = 1;
/// `NFTNL_UDATA_RULE_COMMENT`
const COMMENT: u8 = 0;
/// Ours; `nft` passes over types it does not know.
const CODE: u8 = 0x57;
/// `NFT_USERDATA_MAXLEN`
pub(super) const LONGEST: usize = 256;

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
pub(crate) fn from_user_data(whole: &[u8]) -> Option<Rule> {
    let (mut data, mut comment, mut code) = (whole, String::new(), None);
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
    let code = code?;
    // What we would not write just so, another version wrote. It is ours all the same, and is
    // shown as what it is not: it compares unequal, and can be deleted.
    let other = Rule {
        matches: Vec::new(),
        statements: Vec::new(),
        comment: format!("of another version: {comment}"),
    };
    let rule = decode(code, comment);
    Some(rule.filter(|rule| user_data(rule).as_deref() == Some(whole)).unwrap_or(other))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn equal() -> impl Strategy<Value = Equal> {
        prop_oneof![Just(Equal::Is), Just(Equal::IsNot)]
    }

    fn net() -> impl Strategy<Value = IpNet> {
        (any::<IpAddr>(), 0..=128_u8).prop_map(|(ip, length)| {
            let most = if ip.is_ipv4() { 32 } else { 128 };
            IpNet::new(ip, length.min(most)).unwrap()
        })
    }

    fn fields() -> impl Strategy<Value = Vec<Field>> {
        let field = prop_oneof![Just(Field::SourceV4), Just(Field::SourceV6), Just(Field::Vni)];
        proptest::collection::vec(field, 0..3)
    }

    fn condition() -> impl Strategy<Value = Match> {
        let name = "[a-z][a-z0-9-]{0,10}\\*?";
        let states = proptest::collection::vec(
            prop_oneof![Just(TrackState::Established), Just(TrackState::Related)],
            0..3,
        );
        let kind = prop_oneof![
            Just(PacketType::Host),
            Just(PacketType::Broadcast),
            Just(PacketType::Multicast)
        ];
        prop_oneof![
            (equal(), name).prop_map(|(e, name)| Match::InLink(e, name)),
            (equal(), name).prop_map(|(e, name)| Match::OutLink(e, name)),
            (equal(), net()).prop_map(|(e, net)| Match::Source(e, net)),
            (equal(), net()).prop_map(|(e, net)| Match::Destination(e, net)),
            (equal(), any::<[u8; 6]>()).prop_map(|(e, mac)| Match::EtherSource(e, mac)),
            (equal(), any::<[u8; 6]>()).prop_map(|(e, mac)| Match::EtherDestination(e, mac)),
            (equal(), any::<u16>()).prop_map(|(e, number)| Match::EtherType(e, number)),
            prop_oneof![Just(Match::Family(Family::V4)), Just(Match::Family(Family::V6))],
            (equal(), any::<u8>()).prop_map(|(e, number)| Match::Protocol(e, number)),
            any::<u16>().prop_map(Match::UdpPort),
            any::<u16>().prop_map(Match::TcpPort),
            states.prop_map(Match::Tracked),
            (equal(), any::<IpAddr>()).prop_map(|(e, ip)| Match::ArpSenderIp(e, ip)),
            (equal(), any::<[u8; 6]>()).prop_map(|(e, mac)| Match::ArpSenderMac(e, mac)),
            any::<u8>().prop_map(Match::Icmp6Type),
            (equal(), any::<IpAddr>()).prop_map(|(e, ip)| Match::NdTarget(e, ip)),
            kind.prop_map(Match::PacketType),
            (equal(), fields(), name).prop_map(|(e, fields, set)| Match::InSet(e, fields, set)),
        ]
    }

    fn statement() -> impl Strategy<Value = Statement> {
        prop_oneof![
            Just(Statement::Counter),
            any::<(u64, u32)>().prop_map(|(rate, burst)| Statement::LimitOver { rate, burst }),
            Just(Statement::SetPacketTypeHost),
            any::<[u8; 6]>().prop_map(Statement::SetEtherSource),
            Just(Statement::Notrack),
            any::<Option<(u16, u16)>>().prop_map(Statement::Masquerade),
            "[a-z]{1,12}".prop_map(Statement::Jump),
            Just(Statement::Accept),
            Just(Statement::Drop),
            Just(Statement::Return),
        ]
    }

    prop_compose! {
        fn rules()(
            matches in proptest::collection::vec(condition(), 0..4),
            statements in proptest::collection::vec(statement(), 0..3),
            comment in "[a-zA-Z0-9:,. -]{0,40}",
        ) -> Rule {
            Rule { matches, statements, comment }
        }
    }

    proptest! {
        #[test]
        fn a_rule_reads_back_as_it_was_written(rule in rules()) {
            let data = user_data(&rule).unwrap();
            prop_assert_eq!(from_user_data(&data), Some(rule));
        }

        #[test]
        fn any_octets_are_read_without_a_panic(data in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = from_user_data(&data);
            let _ = decode(&data, String::new());
        }

        #[test]
        fn a_rule_with_a_changed_octet_is_another_rule(
            rule in rules(),
            at in any::<prop::sample::Index>(),
            flip in 1..=255_u8,
        ) {
            let mut data = user_data(&rule).unwrap();
            let at = at.index(data.len());
            data[at] ^= flip;
            prop_assert_ne!(from_user_data(&data), Some(rule));
        }
    }

    #[test]
    fn other_peoples_user_data_is_not_ours_and_another_versions_is() {
        assert_eq!(from_user_data(&[]), None);
        assert_eq!(from_user_data(&[COMMENT, 5, b'w', b'e', b'f', b't', 0]), None);
        assert_eq!(from_user_data(&[CODE, 9, VERSION]), None);
        let newer = from_user_data(&[CODE, 2, VERSION + 1, 64]).unwrap();
        assert_eq!(newer.comment, "of another version: ");
    }

    #[test]
    fn what_is_longer_than_the_kernel_takes_is_refused() {
        let rule = |comment: String| Rule { matches: vec![], statements: vec![], comment };
        assert!(user_data(&rule("x".repeat(250))).is_some());
        assert!(user_data(&rule("x".repeat(251))).is_none());
        assert!(user_data(&rule("x".repeat(300))).is_none());
    }
}
