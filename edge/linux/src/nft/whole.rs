//! A table that is written and compared as a whole, for a namespace where nothing else of ours is.
//!
//! Its rules may end in a DNAT, for which the plan's rules have no word: no plan asks for one.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;

use nix::errno::Errno;
use weft_kernel::TableName;
use weft_kernel::nft::{Hook, Rule};

use super::{
    APPEND, CREATE, DELTABLE, NEWCHAIN, NEWRULE, NEWTABLE, chain, code, expr, nfgenmsg, number,
    observe,
};
use crate::fault::Trouble;
use crate::netlink::{Batch, Refusal, Socket};

/// Where a DNAT leads to, in a rule's user data beside the rule; `nft` passes over it. Changes
/// with what expressions a DNAT is made into, so that rules of an older daemon are written anew.
const DNAT: u8 = 0x58;

/// A table with all that is in it.
#[derive(Debug, Clone)]
pub(crate) struct WholeTable {
    pub(crate) name: TableName,
    pub(crate) chains: Vec<WholeChain>,
}

/// A base chain with its rules, in order.
#[derive(Debug, Clone)]
pub(crate) struct WholeChain {
    pub(crate) name: &'static str,
    pub(crate) hook: Hook,
    pub(crate) rules: Vec<WholeRule>,
}

/// A rule, and where what it holds for is sent in the end (`dnat to`).
#[derive(Debug, Clone)]
pub(crate) struct WholeRule {
    pub(crate) rule: Rule,
    pub(crate) dnat: Option<SocketAddrV4>,
}

impl WholeRule {
    /// As the kernel keeps it for us: what a rule is compared by.
    fn user_data(&self) -> Result<Vec<u8>, Trouble> {
        let too_long = || {
            let text = format!("the rule is too long to be marked as ours: {}", self.rule);
            Trouble::new(Errno::EINVAL, text)
        };
        let mut data = code::user_data(&self.rule).ok_or_else(too_long)?;
        if let Some(to) = self.dnat {
            data.extend([DNAT, 6]);
            data.extend(to.ip().octets());
            data.extend(to.port().to_be_bytes());
        }
        if data.len() <= code::LONGEST { Ok(data) } else { Err(too_long()) }
    }
}

/// Whether the table is there, awake, with just these chains and rules.
pub(crate) fn is_so(socket: &mut Socket, table: &WholeTable) -> Result<bool, Trouble> {
    if !observe::is_awake(socket, &table.name)? {
        return Ok(false);
    }
    let mut there = chain::chains(socket)?;
    there.retain(|chain| chain.table == table.name);
    let placed = |chain: &WholeChain| there.iter().any(|there| is_place(there, chain));
    if there.len() != table.chains.len() || !table.chains.iter().all(placed) {
        return Ok(false);
    }
    let rules = match chain::marks(socket, &table.name) {
        // It went between two questions.
        Err(refusal) if refusal.errno == Errno::ENOENT => return Ok(false),
        other => other?,
    };
    let mut found: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for (chain, mark) in rules {
        found.entry(chain).or_default().push(mark);
    }
    for chain in &table.chains {
        let want: Result<Vec<_>, _> = chain.rules.iter().map(WholeRule::user_data).collect();
        if found.remove(chain.name).unwrap_or_default() != want? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_place(there: &chain::ChainInfo, want: &WholeChain) -> bool {
    let shown = there.with(Vec::new());
    there.name == want.name && shown.hook == Some(want.hook) && shown.rules.is_empty()
}

/// Puts the table in place of the one that is there, in one transaction: no packet meets less than
/// the old one or the new one.
pub(crate) fn replace(socket: &mut Socket, table: &WholeTable) -> Result<(), Trouble> {
    let mut batch = Batch::default();
    // Deleting what is not there is refused; so it is made first.
    put_table(&mut batch, NEWTABLE, CREATE, &table.name);
    put_table(&mut batch, DELTABLE, 0, &table.name);
    put_table(&mut batch, NEWTABLE, CREATE, &table.name);
    for chain in &table.chains {
        let w = batch.begin(0, NEWCHAIN, CREATE);
        chain::write(w, &table.name, chain.name, Some(&chain.hook), None);
    }
    for chain in &table.chains {
        for rule in &chain.rules {
            let data = rule.user_data()?;
            let w = batch.begin(0, NEWRULE, CREATE | APPEND);
            chain::write_rule_with(w, &table.name, chain.name, &data, |w| {
                expr::write(w, &rule.rule, table.name.family);
                if let Some(to) = rule.dnat {
                    expr::write_dnat(w, to);
                }
            });
        }
    }
    let refused: Option<(usize, Refusal)> = socket.transact(&mut batch)?.into_iter().next();
    refused.map_or(Ok(()), |(_, refusal)| Err(refusal.into()))
}

/// Deletes the table with all that is in it; one that is not there is no trouble.
pub(crate) fn remove(socket: &mut Socket, name: &TableName) -> Result<(), Trouble> {
    let mut batch = Batch::default();
    put_table(&mut batch, NEWTABLE, CREATE, name);
    put_table(&mut batch, DELTABLE, 0, name);
    let refused: Option<(usize, Refusal)> = socket.transact(&mut batch)?.into_iter().next();
    refused.map_or(Ok(()), |(_, refusal)| Err(refusal.into()))
}

fn put_table(batch: &mut Batch, kind: u16, flags: u16, name: &TableName) {
    let w = batch.begin(0, kind, flags);
    w.header(&nfgenmsg(number(name.family)));
    w.text(1, &name.name);
}
