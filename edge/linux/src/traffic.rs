//! What the kernel counted: frames by the path they took, and those that were dropped.
//!
//! The shortcut's programs count what they take. The rest of what a veth counts went the bridge
//! path, and what filters dropped their rules counted, under the reason's own words.

use std::collections::BTreeMap;

use weft_kernel::key::NftFamily;
use weft_kernel::{Count, DropReason, EndpointTraffic, Fault, TableName, Traffic};

use crate::Linux;
use crate::fault::Trouble;
use crate::link::{self, LinkStats};
use crate::nft::{self, Counted};

/// Octets of an Ethernet header.
const ETHERNET: u64 = 14;
/// What the names of our endpoints' and VTEPs' links begin with.
const ENDPOINT: &str = "we-";
const VTEP: &str = "wv-";

type Drops = BTreeMap<DropReason, Count>;

pub(crate) fn traffic(linux: &mut Linux) -> Result<Traffic, Fault> {
    let mut traffic = Traffic::default();
    // The whole is read before its parts: frames that pass meanwhile are then missing from what is left for
    // the bridge path, and not taken for its.
    let links = link::stats(&mut linux.route).map_err(|r| Trouble::from(r).of("ip -s link"))?;
    let mut dropped = by_filters(linux, &mut traffic).map_err(|t| t.of("nft list ruleset"))?;
    let shortcut = linux.shortcut.as_ref();
    let read = |trouble: Trouble| trouble.of("bpftool map dump");
    let taken = shortcut.map(|shortcut| shortcut.taken()).transpose().map_err(read)?;
    let by_programs = shortcut.map(|shortcut| shortcut.dropped()).transpose().map_err(read)?;
    let names: BTreeMap<u32, &str> = links.iter().map(|l| (l.index, l.name.as_str())).collect();
    for ((vni, ifindex, reason), count) in by_programs.unwrap_or_default() {
        if ifindex == 0 {
            *traffic.underlay.entry((vni, reason)).or_default() += count;
        } else if let Some(name) = names.get(&ifindex) {
            let drops = dropped.entry((*name).to_owned()).or_default();
            *drops.entry(reason).or_default() += count;
        }
    }
    let taken = taken.unwrap_or_default();
    for link in links.iter().filter(|link| link.marked && link.name.starts_with(ENDPOINT)) {
        let taken = taken.get(&link.index).copied().unwrap_or_default();
        let dropped = dropped.remove(&link.name).unwrap_or_default();
        let traffic_of = EndpointTraffic {
            sent_shortcut: taken.sent,
            sent_bridge: sent_by_bridge(link, taken.sent, &dropped),
            received_shortcut: taken.received,
            received_bridge: link.sent,
            dropped,
        };
        traffic.endpoints.insert(link.name.clone(), traffic_of);
    }
    Ok(traffic)
}

/// What came out of the container and is accounted for by nothing else.
fn sent_by_bridge(link: &LinkStats, taken: Count, dropped: &Drops) -> Count {
    let mut otherwise = taken;
    for count in dropped.values() {
        otherwise += *count;
    }
    Count {
        packets: link.received.packets.saturating_sub(otherwise.packets),
        bytes: link.received.bytes.saturating_sub(otherwise.bytes),
    }
}

/// What rules of ours dropped: by endpoint's link, and of the underlay.
fn by_filters(
    linux: &mut Linux,
    traffic: &mut Traffic,
) -> Result<BTreeMap<String, Drops>, Trouble> {
    let mut dropped: BTreeMap<String, Drops> = BTreeMap::new();
    let table = |family| TableName { family, name: nft::OURS.to_owned() };
    for rule in nft::counted(&mut linux.nft, &table(NftFamily::Netdev))? {
        let Some((link, reason, count)) = at_device(&rule) else { continue };
        if link.starts_with(ENDPOINT) {
            *dropped.entry(link.to_owned()).or_default().entry(reason).or_default() += count;
        } else if let Some(vni) = vni_of(link) {
            *traffic.underlay.entry((vni, reason)).or_default() += count;
        }
    }
    for rule in nft::counted(&mut linux.nft, &table(NftFamily::Inet))? {
        if let Some(reason) = DropReason::of_words(&rule.comment) {
            *traffic.underlay.entry((0, reason)).or_default() += with_header(rule.count);
        }
    }
    Ok(dropped)
}

/// The device of a rule's chain, whose name says it and the direction.
fn at_device(rule: &Counted) -> Option<(&str, DropReason, Count)> {
    let reason = DropReason::of_words(&rule.comment)?;
    let (link, direction) = rule.chain.rsplit_once('-')?;
    // At egress the header is part of the frame already.
    let count = if direction == "in" { with_header(rule.count) } else { rule.count };
    Some((link, reason, count))
}

fn with_header(count: Count) -> Count {
    let headers = count.packets.saturating_mul(ETHERNET);
    Count { bytes: count.bytes.saturating_add(headers), ..count }
}

/// The VNI in a VTEP's name, in hexadecimal.
fn vni_of(link: &str) -> Option<u32> {
    u32::from_str_radix(link.strip_prefix(VTEP)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use weft_kernel::{Count, DropReason};

    use super::{at_device, sent_by_bridge, vni_of};
    use crate::link::LinkStats;
    use crate::nft::Counted;

    fn count(packets: u64, bytes: u64) -> Count {
        Count { packets, bytes }
    }

    #[test]
    fn a_rule_is_told_by_its_chain_and_its_comment() {
        let rule = |chain: &str, comment: &str| Counted {
            chain: chain.into(),
            comment: comment.into(),
            count: count(2, 100),
        };
        let of = |rule: &Counted| at_device(rule).map(|(l, r, c)| (l.to_owned(), r, c));
        assert_eq!(
            of(&rule("we-0000000a-in", "not its MAC")),
            Some(("we-0000000a".into(), DropReason::NotItsMac, count(2, 128)))
        );
        assert_eq!(
            of(&rule("wv-570001-out", "the gateway asks nobody")),
            Some(("wv-570001".into(), DropReason::GatewayAsksNobody, count(2, 100)))
        );
        assert_eq!(of(&rule("we-0000000a-in", "for this host")), None);
        assert_eq!(
            (vni_of("wv-570001"), vni_of("wv-x"), vni_of("we-1")),
            (Some(0x57_0001), None, None)
        );
    }

    #[test]
    fn what_is_left_for_the_bridge_path_is_never_below_nothing() {
        let link = LinkStats { received: count(10, 1000), ..LinkStats::default() };
        let dropped = [(DropReason::TooMany, count(3, 300))].into();
        assert_eq!(sent_by_bridge(&link, count(5, 500), &dropped), count(2, 200));
        assert_eq!(sent_by_bridge(&link, count(9, 1200), &dropped), count(0, 0));
    }
}
