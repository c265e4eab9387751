//! Names of the network interfaces that Weft makes on a host (at most 15 characters: `IFNAMSIZ`
//! in `linux/if.h`).

use crate::{EndpointId, Vni};

/// Every interface on the host's side whose name begins so is ours, or we refuse to work with it.
pub const PREFIXES: [&str; 3] = ["wb-", "wv-", "we-"];

/// The bridge of a network.
pub fn bridge(vni: Vni) -> String {
    format!("wb-{:06x}", vni.get())
}

/// The VTEP (VXLAN device) of a network.
pub fn vtep(vni: Vni) -> String {
    format!("wv-{:06x}", vni.get())
}

/// The host's end of an endpoint's veth pair.
///
/// 48 bits of the identifier: the agent that makes one checks that no other endpoint of its own
/// has the same.
pub fn host_end(endpoint: EndpointId) -> String {
    format!("we-{:012x}", endpoint.0 >> 16)
}
