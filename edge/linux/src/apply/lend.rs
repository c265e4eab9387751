//! Veth pairs whose other end is lent to a container runtime, which takes it into the container
//! itself. This is the only place that makes them: what a step put would have no other end that
//! anybody waits for.

use std::collections::BTreeMap;

use weft_kernel::key::MacBytes;
use weft_kernel::object::{Link, LinkKind};
use weft_kernel::{Fault, Netns};

use super::{Session, mismatch};
use crate::fault::Trouble;
use crate::link::{self, LENT, LinkInfo};
use crate::link_write::{self, Peer};
use crate::{Linux, call};

/// See [`Linux::lend`].
pub(crate) fn lend(
    linux: &mut Linux,
    name: &str,
    peer: &str,
    want: &Link,
    peer_mac: MacBytes,
) -> Result<(), Fault> {
    let mut session =
        Session { linux, steps: &[], owned: BTreeMap::new(), insides: BTreeMap::new() };
    let pair = Pair { name, peer, want, peer_mac };
    session.lend(&pair).map_err(|trouble| trouble.of(call::lend(name, peer)))
}

/// What is to be there.
#[derive(Debug, Clone, Copy)]
struct Pair<'a> {
    name: &'a str,
    peer: &'a str,
    want: &'a Link,
    peer_mac: MacBytes,
}

impl Session<'_> {
    fn lend(&mut self, pair: &Pair<'_>) -> Result<(), Trouble> {
        if pair.want.kind != LinkKind::Lent || !pair.want.alias.starts_with(LENT) {
            return Err(mismatch());
        }
        let Some(have) = link::by_name(&mut self.linux.route, pair.name)? else {
            self.linux.own.changes();
            let made = self.make_pair(pair);
            self.linux.own.changes();
            return made;
        };
        // Between its making and its marking the daemon may have died.
        let unmarked =
            have.kind == "veth" && have.alias.is_empty() && have.mac == Some(pair.want.mac);
        if !have.is_marked() && !unmarked {
            return Err(link::taken(pair.name));
        }
        if let Some(end) = self.end_beside(&have, pair.peer)?
            && self.adjust_pair(pair, &have, &end).is_ok()
        {
            return Ok(());
        }
        // Events of this are not ours to leave out: what is known of the old pair is wrong now.
        self.linux.own.saw(pair.name, std::iter::empty());
        self.delete_host_link(have.index)?;
        self.make_pair(pair)
    }

    /// The other end, if nobody has taken it yet.
    fn end_beside(&mut self, have: &LinkInfo, peer: &str) -> Result<Option<LinkInfo>, Trouble> {
        let (Some(index), None) = (have.lower, have.lower_nsid) else { return Ok(None) };
        let end = link::by_index(&mut self.linux.route, index)?;
        Ok(end
            .filter(|end| have.kind == "veth" && end.name == peer && end.lower == Some(have.index)))
    }

    fn make_pair(&mut self, pair: &Pair<'_>) -> Result<(), Trouble> {
        let route = &mut self.linux.route;
        if link::by_name(route, pair.peer)?.is_some() {
            let peer = pair.peer;
            return Err(Trouble::taken(
                format!("there is a link {peer} already"),
                format!("rename or delete it: `ip link del {peer}`"),
            ));
        }
        let end = Link {
            kind: LinkKind::VethPeer,
            mac: pair.peer_mac,
            mtu: pair.want.mtu,
            alias: String::new(),
            port: None,
        };
        let peer = Peer { name: pair.peer, netns: None, link: Some(&end) };
        link_write::create(route, pair.name, pair.want, Some(&peer))?;
        let have = link::by_name(route, pair.name)?.ok_or_else(|| link::absent(pair.name))?;
        let marked = self.mark(pair.want, &have);
        if marked.is_err() {
            link_write::delete(&mut self.linux.route, have.index)?;
        }
        marked
    }

    fn adjust_pair(
        &mut self,
        pair: &Pair<'_>,
        have: &LinkInfo,
        end: &LinkInfo,
    ) -> Result<(), Trouble> {
        self.mark(pair.want, have)?;
        link_write::prepare(&mut self.linux.route, end, pair.peer_mac, pair.want.mtu)
    }

    /// The bridge is left as it is: the filter comes before it, and both are steps.
    fn mark(&mut self, want: &Link, have: &LinkInfo) -> Result<(), Trouble> {
        self.owned.remove(&(Netns::Host, have.name.clone()));
        let want = Link { port: None, ..want.clone() };
        link_write::adjust(&mut self.linux.route, have, &want, have.master)
    }
}
