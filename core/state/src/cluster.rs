//! The cluster itself: how it begins.

use weft_model::row::{Authority, Cluster, Guard};
use weft_model::{ClusterState, Node, Role, Row};

use crate::draft::{Decision, Draft, unchanged};
use crate::{Outcome, Rejection, nodes, pools};

/// Every command but the first needs a cluster.
pub(crate) fn initialised(state: &ClusterState) -> Result<(), Rejection> {
    match state.cluster {
        Some(_) => Ok(()),
        None => Err(Rejection::not_found(
            "cluster",
            "there is no cluster yet",
            "make one with `weft init`, or join one with `weft join`",
        )),
    }
}

pub(crate) fn initialise(
    state: &ClusterState,
    cluster: Cluster,
    authority: Authority,
    node: Node,
) -> Decision {
    if let Some(existing) = &state.cluster {
        let same = *existing == cluster
            && state.authority.as_ref() == Some(&authority)
            && state.nodes.get(&node.id) == Some(&node);
        if same {
            return unchanged(Outcome::Node(node));
        }
        return Err(Rejection::exists(
            "cluster",
            format!("this host is in cluster {} already", existing.id),
            "to begin anew, stop the daemon and move its state directory away",
        ));
    }
    if node.role != Role::Server || node.removed {
        return Err(Rejection::invalid(
            "node",
            "the first node of a cluster must be a server",
            "make the cluster with `weft init`",
        ));
    }
    pools::check(&cluster.pools)?;
    nodes::check_key_digest(&node.key_digest)?;
    nodes::check_data_address(node.data_address)?;
    let mut draft = Draft::new(state);
    draft.put(Row::Cluster(cluster));
    draft.put(Row::Authority(authority));
    draft.put(Row::Node(node.clone()));
    draft.change(Guard::Nodes);
    draft.finish(Outcome::Node(node))
}
