//! Rules at the heads of chains of others that drop by default: an accept in a table of our own
//! does not help against them. What must not pass is dropped in our own table all the same.

use weft_kernel::key::NftFamily;
use weft_kernel::nft::{Equal, Match, Rule};
use weft_kernel::{Key, Object};

use super::{OUR_BRIDGES, accept, from_link, to_link};
use crate::ground::Ground;
use crate::{DropChain, Out};

/// DNS, over UDP and TCP.
const DNS: u16 = 53;
/// `IPPROTO_ICMPV6`
const ICMP6: u8 = 58;
const COMMENT: &str = "weft";

pub(crate) fn of_host(ground: &Ground, chains: &[DropChain], out: &mut Out) {
    for chain in chains {
        let rules = if chain.input { input(ground, chain.table.family) } else { forward() };
        for rule in rules {
            let key = Key::ForeignRule(chain.table.clone(), chain.chain.clone(), rule.to_string());
            out.push((key, Object::ForeignRule(rule)));
        }
    }
}

fn forward() -> Vec<Rule> {
    vec![accept(vec![from_link(OUR_BRIDGES)], COMMENT), accept(vec![to_link(OUR_BRIDGES)], COMMENT)]
}

/// What the host itself has to hear: VXLAN, and from containers questions for names and for the
/// gateway's MAC (in IPv6 these are packets; ARP does not come this way).
fn input(ground: &Ground, family: NftFamily) -> Vec<Rule> {
    let vxlan = match family {
        NftFamily::Ip | NftFamily::Iptables => ground.data_address.is_ipv4(),
        NftFamily::Ip6 | NftFamily::Ip6tables => ground.data_address.is_ipv6(),
        NftFamily::Inet | NftFamily::Netdev => true,
    };
    let mut rules = Vec::new();
    if vxlan {
        rules.push(accept(vec![Match::UdpPort(ground.vxlan_port)], COMMENT));
    }
    rules.push(accept(vec![from_link(OUR_BRIDGES), Match::UdpPort(DNS)], COMMENT));
    rules.push(accept(vec![from_link(OUR_BRIDGES), Match::TcpPort(DNS)], COMMENT));
    if !matches!(family, NftFamily::Ip | NftFamily::Iptables) {
        let neighbours = Match::Protocol(Equal::Is, ICMP6);
        rules.push(accept(vec![from_link(OUR_BRIDGES), neighbours], COMMENT));
    }
    rules
}
