//! Our rules in chains of others: put at the head, told by their user data, deleted by handle.

use nix::errno::Errno;
use weft_kernel::TableName;
use weft_kernel::nft::Rule;

use super::chain::{self, ChainInfo};
use crate::netlink::{Refusal, Socket};

/// One of our rules in somebody else's chain.
#[derive(Debug, Clone)]
pub(crate) struct ForeignRule {
    pub(crate) handle: u64,
    pub(crate) rule: Rule,
}

/// Our rules in this chain; none when it is not there.
pub(crate) fn of_chain(
    socket: &mut Socket,
    table: &TableName,
    chain: &str,
) -> Result<Vec<ForeignRule>, Refusal> {
    match chain::rules(socket, table, Some(chain)) {
        Ok(rules) => Ok(rules
            .into_iter()
            .filter_map(|info| Some(ForeignRule { handle: info.handle, rule: info.rule? }))
            .collect()),
        Err(refusal) if refusal.errno == Errno::ENOENT => Ok(Vec::new()),
        Err(refusal) => Err(refusal),
    }
}

/// Whether rules of ours may be in this chain.
pub(crate) fn may_hold(chain: &ChainInfo) -> bool {
    !super::is_ours(&chain.table) && chain.is_gate()
}
