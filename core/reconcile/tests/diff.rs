//! The steps of single differences.

mod common;

use common::scenes::{host_link, ip, link, veth};
use common::{Host, bare_kernel, container, netdev, wb, we};
use weft_kernel::fake::Times;
use weft_kernel::object::LinkKind;
use weft_kernel::{FdbTable, KernelState, Key, Netns, NetnsId, Object, Section, Step};
use weft_reconcile::diff;

#[test]
fn deletions_of_what_goes_with_a_link_are_left_out_and_its_filter_goes_last() {
    let mut want = veth();
    for key in veth().iter().map(|(key, _)| key) {
        if !matches!(key, Key::Table(_)) && *key != host_link(&wb(1)) {
            want.remove(key);
        }
    }
    let chain = Key::DeviceChain(netdev(), we(1), "in".into());
    let expected = vec![Step::Delete(host_link(&we(1))), Step::Delete(chain)];
    assert_eq!(diff(&want, &veth()), expected);
}

#[test]
fn a_link_of_another_kind_is_replaced_with_all_that_sat_on_it() {
    let mut have = veth();
    let elsewhere = LinkKind::Veth { peer_netns: container(0), peer: "old0".into() };
    have.insert(host_link(&we(1)), link(elsewhere, Some(&wb(1))));
    let steps = diff(&veth(), &have);
    assert_eq!(steps[0], Step::Delete(Key::Link(container(0), "eth0".into())), "it is in the way");
    let kinds: Vec<&Key> = steps.iter().map(Step::key).collect();
    assert!(kinds.contains(&&Key::Fdb(we(1), FdbTable::Bridge, [2; 6])));
    assert!(kinds.contains(&&Key::DeviceChain(netdev(), we(1), "in".into())));
    assert!(kinds.contains(&&Key::Up(container(0), "eth0".into())));
    assert!(!kinds.contains(&&host_link(&wb(1))), "the bridge stays");
}

#[test]
fn ports_of_a_replaced_bridge_are_put_again_with_their_rows() {
    let mut want = veth();
    let vxlan = LinkKind::Vxlan { vni: 1, local: ip(1), port: 4789 };
    want.insert(host_link(&wb(1)), link(vxlan, None));
    let steps = diff(&want, &veth());
    let keys: Vec<&Key> = steps.iter().map(Step::key).collect();
    let row = Key::Fdb(we(1), FdbTable::Bridge, [2; 6]);
    assert_eq!(keys, [&host_link(&wb(1)), &host_link(&wb(1)), &host_link(&we(1)), &row]);
}

#[test]
fn a_veth_whose_other_end_is_lost_is_made_anew() {
    let mut have = veth();
    let inside: Vec<Key> = veth().iter().map(|(key, _)| key.clone()).collect();
    inside.iter().filter(|key| key.section() == Section::Container(NetnsId(100))).for_each(|key| {
        have.remove(key);
    });
    assert_eq!(have.len() + 3, veth().len());
    let steps = diff(&veth(), &have);
    assert_eq!(steps[0], Step::Delete(host_link(&we(1))));
    assert_eq!(steps.iter().filter(|step| matches!(step, Step::Delete(_))).count(), 1);
    assert_eq!(steps.len(), 7, "{steps:?}");
}

#[test]
fn forwarding_comes_after_the_uplinks_were_told_to_listen() {
    let sysctl = |path: &str, value: &str| {
        (Key::Sysctl(Netns::Host, path.into()), Object::Sysctl(value.into()))
    };
    let all = "net/ipv6/conf/all/forwarding";
    let uplink = "net/ipv6/conf/eth0/accept_ra";
    let want: KernelState = [sysctl(all, "1"), sysctl(uplink, "2")].into_iter().collect();
    let steps = diff(&want, &KernelState::new());
    let keys: Vec<&Key> = steps.iter().map(Step::key).collect();
    assert_eq!(keys, [&sysctl(uplink, "").0, &sysctl(all, "").0]);

    let mut host = Host::new(bare_kernel());
    host.kernel.fail(sysctl(uplink, "").0, 13, Times::Always);
    host.machine.on_plan(want, 1);
    host.run(60_000);
    assert!(host.kernel.observe().is_empty(), "an uplink must not lose its router");
    assert_eq!(host.machine.status().held, 1);
}

#[test]
fn a_sysctl_is_never_deleted() {
    let have: KernelState =
        [(Key::Sysctl(Netns::Host, "net/ipv4/ip_forward".into()), Object::Sysctl("1".into()))]
            .into_iter()
            .collect();
    assert_eq!(diff(&KernelState::new(), &have), vec![]);
}
