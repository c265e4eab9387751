//! Links: whose they are, and how they come to be what they should be.

use std::os::fd::{AsFd, AsRawFd};

use weft_kernel::object::{Link, LinkKind};
use weft_kernel::{Key, Netns, Object, Step};

use super::{Owned, Session};
use crate::fault::Trouble;
use crate::link::{self, LinkInfo};
use crate::link_write::{self, Peer};

impl Session<'_> {
    /// The link, if it is there and ours.
    pub(super) fn owned(&mut self, ns: Netns, name: &str) -> Result<Owned, Trouble> {
        let key = (ns, name.to_owned());
        if let Some(owned) = self.owned.get(&key) {
            return Ok(*owned);
        }
        let info = link::by_name(self.socket(ns)?, name)?.ok_or_else(|| link::absent(name))?;
        if !self.is_ours(ns, &info)? {
            return Err(link::taken(name));
        }
        let owned = Owned { index: info.index, is_bridge: info.kind == "bridge" };
        self.owned.insert(key, owned);
        Ok(owned)
    }

    /// Whether it carries our mark, or is the other end of a veth that does.
    fn is_ours(&mut self, ns: Netns, info: &LinkInfo) -> Result<bool, Trouble> {
        if ns == Netns::Host && info.is_marked() {
            return Ok(true);
        }
        let (Some(end), "veth") = (info.lower, info.kind.as_str()) else { return Ok(false) };
        let nsid = self.nsid(ns)?;
        let end = link::by_index(&mut self.linux.route, end)?;
        Ok(end.is_some_and(|end| {
            end.kind == "veth"
                && end.is_marked()
                && !end.is_lent()
                && end.lower == Some(info.index)
                && end.lower_nsid == nsid
        }))
    }

    /// The number of a namespace in the host's; the host's own has none.
    fn nsid(&mut self, ns: Netns) -> Result<Option<i32>, Trouble> {
        let Netns::Container(id) = ns else { return Ok(None) };
        let fd = self.inside(id)?.fd.as_raw_fd();
        Ok(link::nsid_of(&mut self.linux.route, fd)?)
    }

    pub(super) fn put_link(&mut self, ns: Netns, name: &str, want: &Link) -> Result<(), Trouble> {
        if want.kind == LinkKind::VethPeer {
            let index = self.owned(ns, name)?.index;
            let socket = self.socket(ns)?;
            let info = link::by_index(socket, index)?.ok_or_else(|| link::absent(name))?;
            return link_write::adjust(socket, &info, want, None);
        }
        // Only ends of veth pairs are ever put into containers.
        if ns != Netns::Host {
            return Err(super::mismatch());
        }
        self.owned.remove(&(ns, name.to_owned()));
        let bridge = match &want.port {
            Some(port) => Some(self.owned(Netns::Host, &port.bridge)?.index),
            None => None,
        };
        if let Some(have) = link::by_name(&mut self.linux.route, name)? {
            let same = self.is_same(&have, want)?;
            // Between its making and its marking the daemon may have died; whoever has our name,
            // our kind and our MAC, and no alias, is no stranger.
            let orphan = have.alias.is_empty() && have.mac == Some(want.mac) && same;
            if !have.is_marked() && !orphan {
                let lent = want.kind == LinkKind::Lent && same && have.mac == Some(want.mac);
                // To delete it would cut off a container.
                return Err(if lent {
                    link::unmarked(name, &want.alias)
                } else {
                    link::taken(name)
                });
            }
            if same {
                return link_write::adjust(&mut self.linux.route, &have, want, bridge);
            }
            if want.kind == LinkKind::Lent {
                return Err(link::end_gone());
            }
            self.owned.clear();
            self.linux.own.saw(name, std::iter::empty());
            self.delete_host_link(have.index)?;
        }
        self.create(name, want)?;
        let have = link::by_name(&mut self.linux.route, name)?.ok_or_else(|| link::absent(name))?;
        link_write::adjust(&mut self.linux.route, &have, want, bridge)
    }

    /// Whether what cannot be changed is as wanted.
    fn is_same(&mut self, have: &LinkInfo, want: &Link) -> Result<bool, Trouble> {
        Ok(match &want.kind {
            LinkKind::Bridge => have.kind == "bridge",
            LinkKind::Vxlan { vni, local, port } => {
                have.kind == "vxlan"
                    && have.vxlan.vni == *vni
                    && have.vxlan.local == Some(*local)
                    && have.vxlan.port == *port
            }
            LinkKind::Veth { peer_netns, peer } => {
                have.kind == "veth" && self.leads_to(have, *peer_netns, peer)?
            }
            LinkKind::VethPeer | LinkKind::Lent => have.kind == "veth",
        })
    }

    fn leads_to(&mut self, have: &LinkInfo, ns: Netns, peer: &str) -> Result<bool, Trouble> {
        let nsid = self.nsid(ns)?;
        if have.lower_nsid != nsid || (ns != Netns::Host && nsid.is_none()) {
            return Ok(false);
        }
        let end = link::by_name(self.socket(ns)?, peer)?;
        Ok(end.is_some_and(|end| Some(end.index) == have.lower))
    }

    fn create(&mut self, name: &str, want: &Link) -> Result<(), Trouble> {
        match &want.kind {
            LinkKind::Veth { peer_netns, peer } => self.create_veth(name, want, *peer_netns, peer),
            LinkKind::Vxlan { vni, local, port } => {
                let socket = &mut self.linux.route;
                link_write::create(socket, name, want, None).map_err(|trouble| {
                    link_write::explain_vxlan(socket, trouble, *vni, *port, Some(*local))
                })
            }
            LinkKind::Bridge | LinkKind::VethPeer => {
                link_write::create(&mut self.linux.route, name, want, None)
            }
            LinkKind::Lent => Err(link::end_gone()),
        }
    }

    /// The other end is made where it belongs, with all that the steps to come say of it.
    fn create_veth(
        &mut self,
        name: &str,
        want: &Link,
        ns: Netns,
        peer: &str,
    ) -> Result<(), Trouble> {
        let key = Key::Link(ns, peer.to_owned());
        let link = self.steps.iter().find_map(|step| match step {
            Step::Put(k, Object::Link(link)) if *k == key => Some(link),
            _ => None,
        });
        if link::by_name(self.socket(ns)?, peer)?.is_some() {
            return Err(Trouble::taken(
                format!("the container has a link {peer} already"),
                format!("delete it, or detach what made it: `ip link del {peer}` inside"),
            ));
        }
        let netns = match ns {
            Netns::Host => None,
            Netns::Container(id) => Some(self.inside(id)?.fd.try_clone()?),
        };
        let peer = Peer { name: peer, netns: netns.as_ref().map(AsFd::as_fd), link };
        link_write::create(&mut self.linux.route, name, want, Some(&peer))
    }

    pub(super) fn delete_link(&mut self, ns: Netns, name: &str) -> Result<(), Trouble> {
        let index = self.owned(ns, name)?.index;
        self.owned.clear();
        if ns == Netns::Host {
            self.linux.own.saw(name, std::iter::empty());
            return self.delete_host_link(index);
        }
        link_write::delete(self.socket(ns)?, index)
    }

    pub(super) fn put_up(&mut self, ns: Netns, name: &str) -> Result<(), Trouble> {
        let index = self.owned(ns, name)?.index;
        let Err(trouble) = link_write::set_up(self.socket(ns)?, index, true) else {
            return Ok(());
        };
        let info = link::by_index(self.socket(ns)?, index)?;
        match (ns, info) {
            (Netns::Host, Some(info)) if info.kind == "vxlan" => Err(link_write::explain_vxlan(
                &mut self.linux.route,
                trouble,
                info.vxlan.vni,
                info.vxlan.port,
                info.vxlan.local,
            )),
            _ => Err(trouble),
        }
    }
}
