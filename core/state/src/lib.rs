//! What the cluster may become: commands in, transactions or rejections out.
//!
//! [`apply`] is the only writer of the cluster state. It is deterministic: identifiers, random
//! numbers and the time come in with the command.
//!
//! Any number of servers may decide at the same time, each on the state it has seen. What keeps
//! them from granting the same thing twice are the preconditions of the transactions: every row
//! a decision depended on must still be as it was. Where a decision depends on a *set* of rows, a
//! row that stands for the set is written with every change of the set:
//!
//! | the set | the row that moves with it |
//! |---|---|
//! | nodes, their names and data addresses | `guard/nodes` |
//! | networks, their names, VNIs and subnets | `guard/networks` |
//! | leases of a network | `guard/leases/<network>` |
//! | networks that a node takes part in (growth) | its `node/…` row |
//! | endpoints of a node on a network (growth, addresses) | its `lease/…` row |

mod cluster;
mod draft;
mod endpoints;
mod invariants;
mod leases;
mod needs;
mod networks;
mod nodes;
mod pair;
mod pools;
mod space;
mod tokens;

pub mod command;
pub mod rejection;
pub mod transaction;

pub use command::{Command, Outcome};
pub use invariants::invariants;
pub use leases::{choose, offset_for, recallable};
pub use needs::{needed_by, patch_for};
pub use pair::Pair;
pub use rejection::Rejection;
pub use transaction::{Precondition, Transaction, Write, fold};

use weft_model::ClusterState;

/// Decides about `command` on `state`.
///
/// A command that changes nothing, such as one that is stated again, gives an empty transaction.
///
/// # Errors
/// [`Rejection`] says what is wrong with the wish and what would be right.
pub fn apply(state: &ClusterState, command: Command) -> Result<(Transaction, Outcome), Rejection> {
    if !matches!(command, Command::Initialise { .. }) {
        cluster::initialised(state)?;
    }
    match command {
        Command::Initialise { cluster, authority, node } => {
            cluster::initialise(state, cluster, authority, node)
        }
        Command::CreateToken(token) => tokens::create(state, token),
        Command::RevokeToken(id) => tokens::revoke(state, id),
        Command::Join { token, secret_digest, now, id, name, data_address, key_digest } => {
            let role = tokens::redeem(state, token, &secret_digest, now)?;
            let stranger = nodes::Stranger { id, name, data_address, key_digest };
            nodes::join(state, token, role, stranger)
        }
        Command::RemoveNode(id) => nodes::remove(state, id),
        Command::MoveNode { node, data_address } => nodes::relocate(state, node, data_address),
        Command::CreateNetwork(wish) => networks::create(state, wish),
        Command::RemoveNetwork(id) => networks::remove(state, id),
        Command::Lease { network, node, wanted, count } => {
            leases::grant(state, network, node, &wanted, count)
        }
        Command::Release { network, node, offsets, leave } => {
            leases::release(state, network, node, &offsets, leave)
        }
        Command::PutEndpoint(endpoint) => endpoints::put(state, endpoint),
        Command::DeleteEndpoint { network, endpoint } => {
            endpoints::delete(state, network, endpoint)
        }
    }
}
