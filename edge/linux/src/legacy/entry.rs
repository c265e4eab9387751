//! A rule of ours as an entry of a table, and back.
//!
//! An entry has no place for a mark but a comment. A rule is ours when its comment is [`MARK`] and
//! it says nothing that [`encode`] would not have said, so that neither an administrator's rule
//! with a comment of his own, nor one of ours that somebody changed, is taken for ours.

use std::fmt::Write as _;

use weft_kernel::nft::{Equal, Match, Rule, Statement};

use super::layout::{
    ACCEPT, ALIGN, EXTENSION, LINK_NAME, Layout, STANDARD_TARGET, octets, put, text, u16_at,
};

/// The comment of our rules in the kernel.
pub(super) const MARK: &str = "weft daemon";
/// The comment of our rules in a plan.
const COMMENT: &str = "weft";

const TCP: u8 = 6;
const UDP: u8 = 17;
/// `struct xt_udp`: source ports, destination ports (from, to), inverted; with padding.
const UDP_MATCH: usize = 16;
/// `struct xt_tcp`: ports as above, then option, flags (mask, wanted), inverted; with padding.
const TCP_MATCH: usize = 16;
/// `struct xt_comment_info`, `XT_MAX_COMMENT_LEN`.
const COMMENT_MATCH: usize = 256;
/// `XT_EXTENSION_MAXNAMELEN`
const EXTENSION_NAME: usize = 29;

/// What a rule says, as far as legacy iptables can say it and a plan wants it said.
#[derive(Debug, Default, PartialEq, Eq)]
struct Words<'a> {
    incoming: Option<&'a str>,
    outgoing: Option<&'a str>,
    protocol: Option<u8>,
    port: Option<u16>,
}

impl<'a> Words<'a> {
    /// `None` when the rule says more, or says it in another order than it is read back.
    fn of(rule: &'a Rule) -> Option<Self> {
        let mut words = Self::default();
        for condition in &rule.matches {
            match condition {
                Match::InLink(Equal::Is, name) => words.incoming = Some(name),
                Match::OutLink(Equal::Is, name) => words.outgoing = Some(name),
                Match::Protocol(Equal::Is, number) => words.protocol = Some(*number),
                Match::UdpPort(port) => (words.protocol, words.port) = (Some(UDP), Some(*port)),
                Match::TcpPort(port) => (words.protocol, words.port) = (Some(TCP), Some(*port)),
                _ => return None,
            }
        }
        (words.rule().as_ref() == Some(rule)).then_some(words)
    }

    fn rule(&self) -> Option<Rule> {
        let incoming = self.incoming.map(|name| Match::InLink(Equal::Is, name.to_owned()));
        let outgoing = self.outgoing.map(|name| Match::OutLink(Equal::Is, name.to_owned()));
        let protocol = match (self.protocol, self.port) {
            (Some(UDP), Some(port)) => Some(Match::UdpPort(port)),
            (Some(TCP), Some(port)) => Some(Match::TcpPort(port)),
            (_, Some(_)) | (Some(0), None) => return None,
            (number, None) => number.map(|number| Match::Protocol(Equal::Is, number)),
        };
        Some(Rule {
            matches: [incoming, outgoing, protocol].into_iter().flatten().collect(),
            statements: vec![Statement::Accept],
            comment: COMMENT.to_owned(),
        })
    }
}

/// The rule as an entry; `None` when legacy iptables has no words for it.
pub(super) fn encode(layout: &Layout, rule: &Rule) -> Option<Vec<u8>> {
    let words = Words::of(rule)?;
    let mut entry = vec![0; layout.size];
    for (number, name) in [words.incoming, words.outgoing].into_iter().enumerate() {
        if let Some(name) = name {
            let (name, mask) = encode_link(name)?;
            put(&mut entry, layout.link(number), &name);
            put(&mut entry, layout.link(number + 2), &mask);
        }
    }
    if let Some(protocol) = words.protocol {
        put(&mut entry, layout.protocol, &u16::from(protocol).to_ne_bytes());
        put(&mut entry, layout.flags, &[layout.protocol_flag]);
    }
    if let Some(port) = words.port {
        let name = if words.protocol == Some(UDP) { "udp" } else { "tcp" };
        let mut data = [0; UDP_MATCH];
        for (place, port) in [0, u16::MAX, port, port].into_iter().enumerate() {
            put(&mut data, place * 2, &port.to_ne_bytes());
        }
        extension(&mut entry, name, &data);
    }
    let mut comment = [0; COMMENT_MATCH];
    put(&mut comment, 0, MARK.as_bytes());
    extension(&mut entry, "comment", &comment);
    let target_offset = u16::try_from(entry.len()).ok()?;
    put(&mut entry, layout.target_offset, &target_offset.to_ne_bytes());
    let mut verdict = [0; ALIGN];
    put(&mut verdict, 0, &ACCEPT.to_ne_bytes());
    extension(&mut entry, "", &verdict);
    let next_offset = u16::try_from(entry.len()).ok()?;
    put(&mut entry, layout.next_offset, &next_offset.to_ne_bytes());
    Some(entry)
}

/// A link's name with the mask that says how much of it counts: all with its NUL, or what comes
/// before the wildcard, which `iptables-legacy` leaves in the name, beyond the mask.
fn encode_link(name: &str) -> Option<([u8; LINK_NAME], [u8; LINK_NAME])> {
    let (plain, counts) = match name.strip_suffix('*') {
        Some(prefix) => (prefix, prefix.len()),
        None => (name, name.len() + 1),
    };
    if plain.is_empty() || name.len() >= LINK_NAME || plain.contains(['\0', '*', '+']) {
        return None;
    }
    let (mut octets, mut mask) = ([0; LINK_NAME], [0; LINK_NAME]);
    put(&mut octets, 0, name.replace('*', "+").as_bytes());
    mask.iter_mut().take(counts).for_each(|octet| *octet = u8::MAX);
    Some((octets, mask))
}

fn extension(entry: &mut Vec<u8>, name: &str, data: &[u8]) {
    let mut head = [0; EXTENSION];
    let size = u16::try_from(EXTENSION + data.len()).unwrap_or_default();
    put(&mut head, 0, &size.to_ne_bytes());
    put(&mut head, 2, name.as_bytes());
    entry.extend_from_slice(&head);
    entry.extend_from_slice(data);
}

/// The rule of ours that this entry is; `None` when it is somebody else's.
pub(super) fn decode(layout: &Layout, entry: &[u8]) -> Option<Rule> {
    let addresses = entry.get(..layout.addresses)?;
    if addresses.iter().any(|octet| *octet != 0) || *entry.get(layout.inverted)? != 0 {
        return None;
    }
    let protocol = u8::try_from(u16_at(entry, layout.protocol)?).ok()?;
    let flag = if protocol == 0 { 0 } else { layout.protocol_flag };
    if *entry.get(layout.flags)? != flag {
        return None;
    }
    let target_offset = usize::from(u16_at(entry, layout.target_offset)?);
    let target = entry.get(target_offset..)?;
    if standard_verdict(target) != Some(ACCEPT) {
        return None;
    }
    let (incoming, outgoing) = (decode_link(layout, entry, 0)?, decode_link(layout, entry, 1)?);
    let mut words = Words {
        incoming: incoming.as_deref(),
        outgoing: outgoing.as_deref(),
        protocol: (protocol != 0).then_some(protocol),
        port: None,
    };
    let mut marked = false;
    let mut matches = entry.get(layout.size..target_offset)?;
    while !matches.is_empty() {
        let size = usize::from(u16_at(matches, 0)?);
        let (extension, rest) = matches.split_at_checked(size)?;
        match (name(extension)?, *extension.get(EXTENSION - 1)?, extension.get(EXTENSION..)?) {
            (b"comment", 0, comment) if !marked && text(comment) == MARK.as_bytes() => {
                marked = true;
            }
            (b"udp", 0, data) if words.port.is_none() && protocol == UDP => {
                words.port = Some(decode_port(data, UDP_MATCH)?);
            }
            (b"tcp", 0, data) if words.port.is_none() && protocol == TCP => {
                words.port = Some(decode_port(data, TCP_MATCH)?);
            }
            _ => return None,
        }
        matches = rest;
    }
    if marked { words.rule() } else { None }
}

/// The name of a match or target.
fn name(extension: &[u8]) -> Option<&[u8]> {
    extension.get(2..2 + EXTENSION_NAME).map(text)
}

/// What a standard target does; `None` when the target is another one.
pub(super) fn standard_verdict(target: &[u8]) -> Option<i32> {
    let standard = name(target)?.is_empty() && usize::from(u16_at(target, 0)?) == STANDARD_TARGET;
    if standard { octets(target, EXTENSION).map(i32::from_ne_bytes) } else { None }
}

/// `Some(None)`: any link.
fn decode_link(layout: &Layout, entry: &[u8], number: usize) -> Option<Option<String>> {
    let there: [u8; LINK_NAME] = octets(entry, layout.link(number))?;
    let mask: [u8; LINK_NAME] = octets(entry, layout.link(number + 2))?;
    let counts = mask.iter().take_while(|octet| **octet == u8::MAX).count();
    if mask == [0; LINK_NAME] {
        return Some(None);
    }
    let name = match there.get(..counts)? {
        [name @ .., 0] => std::str::from_utf8(name).ok()?.to_owned(),
        prefix => format!("{}*", std::str::from_utf8(prefix).ok()?),
    };
    let (_, same) = encode_link(&name)?;
    (mask == same).then_some(Some(name))
}

/// The destination port, when nothing else is asked for.
fn decode_port(data: &[u8], size: usize) -> Option<u16> {
    let [from, to, first, last] = [0, 2, 4, 6].map(|at| u16_at(data, at));
    let all_else_is_nothing = data.get(8..12)?.iter().all(|octet| *octet == 0);
    let one =
        data.len() == size && (from?, to?) == (0, u16::MAX) && first == last && all_else_is_nothing;
    if one { first } else { None }
}

/// The rule as arguments of the command line.
pub(super) fn arguments(rule: &Rule) -> String {
    let mut line = String::new();
    for condition in &rule.matches {
        let _ = match condition {
            Match::InLink(_, name) => write!(line, "-i {} ", name.replace('*', "+")),
            Match::OutLink(_, name) => write!(line, "-o {} ", name.replace('*', "+")),
            Match::Protocol(_, number) => write!(line, "-p {number} "),
            Match::UdpPort(port) => write!(line, "-p udp --dport {port} "),
            Match::TcpPort(port) => write!(line, "-p tcp --dport {port} "),
            other => write!(line, "[{other}] "),
        };
    }
    let _ = write!(line, "-m comment --comment \"{MARK}\" -j ACCEPT");
    line
}
