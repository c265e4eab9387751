//! Both sides of the tables agree. What is about sizes and offsets is checked where the header is compiled; here, what
//! only Rust can see.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::IpAddr;

use weft_ebpf::abi::{self, Drop, Endpoint, Fdb, Node, Vtep};
use weft_ebpf::{OBJECT, layout};
use weft_kernel::DropReason;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn the_headers_reasons_are_those_of_the_kernel_values() {
    let reasons = [
        (layout::WEFT_DROP_NOT_ITS_MAC, DropReason::NotItsMac),
        (layout::WEFT_DROP_NOT_ITS_ADDRESS, DropReason::NotItsAddress),
        (layout::WEFT_DROP_ARP_NOT_ITS_ADDRESS, DropReason::ArpNotItsAddress),
        (layout::WEFT_DROP_ARP_NOT_ITS_MAC, DropReason::ArpNotItsMac),
        (layout::WEFT_DROP_ND_NOT_A_ROUTER, DropReason::NdNotARouter),
        (layout::WEFT_DROP_ND_NOT_ITS_ADDRESS, DropReason::NdNotItsAddress),
        (layout::WEFT_DROP_NOT_A_MEMBER, DropReason::NotAMember),
        (layout::WEFT_DROP_ANOTHER_HOSTS_GATEWAY, DropReason::AnotherHostsGateway),
        (layout::WEFT_DROP_CONGESTION_LOST, DropReason::CongestionLost),
        (layout::WEFT_DROP_NOT_WRITABLE, DropReason::NotWritable),
    ];
    for (number, reason) in reasons {
        assert_eq!(number, reason as u32, "{reason:?}");
    }
    let header = include_str!("../include/weft.h");
    assert_eq!(header.matches("CONSTANT(WEFT_DROP_").count(), reasons.len());
}

#[test]
fn the_object_is_an_elf_file_that_lies_by_eights() {
    assert_eq!(OBJECT[..4], *b"\x7fELF");
    assert_eq!(OBJECT.as_ptr().align_offset(8), 0);
}

fn vtep(source: &str, destination: &str, next_hop: &str) -> Vtep {
    let (source, destination, next_hop) = (ip(source), ip(destination), ip(next_hop));
    Vtep { ifindex: 7, mtu: 1500, next_hop, source, destination, port: 4789 }
}

#[test]
fn what_is_written_is_read_back() {
    for address in ["172.10.0.15", "2001:db8::15"] {
        let node = Node { address: ip(address), port: 4789 };
        assert_eq!(Node::decode(&node.encode()), node);
        for fdb in [Fdb::Remote(ip(address)), Fdb::Local { ifindex: 9, slot: 4095 }] {
            assert_eq!(Fdb::decode(&fdb.encode()), fdb);
        }
        let key = abi::address_key(0x57_0001, ip(address));
        assert_eq!(abi::address_key_of(&key), (0x57_0001, ip(address)));
        for length in [0, 1, 24, 32] {
            let key = abi::granted_key(9, ip(address), length);
            assert_eq!(abi::granted_key_of(&key), (9, ip(address), length));
        }
    }
    let mac = [2, 0x57, 1, 2, 3, 4];
    assert_eq!(abi::fdb_key_of(&abi::fdb_key(0x57_0001, mac)), (0x57_0001, mac));
    assert_eq!(abi::mac_of(&abi::mac_value(mac)), mac);
    let drop = Drop { vni: 0x57_0001, ifindex: 9, reason: 17 };
    assert_eq!(Drop::decode(&drop.encode()), drop);
    for (v4, v6) in [(Some([10, 3, 0, 2]), None), (None, Some("fd57::2")), (None, None)] {
        let v6 = v6.map(|text| text.parse().unwrap());
        let endpoint =
            Endpoint { vni: 5, slot: 6, mac, more: v6.is_some(), v4: v4.map(Into::into), v6 };
        assert_eq!(Endpoint::decode(&endpoint.encode()), endpoint);
    }
}

#[test]
fn a_template_is_read_back_and_one_that_differs_anywhere_is_not_ours() {
    for vtep in [
        vtep("172.10.0.15", "172.10.0.16", "172.10.0.1"),
        vtep("172.10.0.15", "172.10.0.16", "fe80::1"),
        vtep("2001:db8::15", "2001:db8::16", "fe80::1"),
    ] {
        let octets = vtep.encode();
        assert_eq!(Vtep::decode(&octets), Some(vtep));
        for at in 0..octets.len() {
            let mut other = octets;
            other[at] ^= 1;
            assert_ne!(Vtep::decode(&other), Some(vtep), "{at}");
        }
    }
    let two_families = vtep("172.10.0.15", "2001:db8::16", "fe80::1");
    assert_eq!(Vtep::decode(&two_families.encode()), None);
}
