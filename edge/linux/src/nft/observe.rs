//! What nftables holds of ours.

use std::collections::BTreeMap;

use nix::errno::Errno;
use weft_kernel::nft::Set;
use weft_kernel::{Key, Object, TableName};

use super::chain::{self, ChainInfo, RuleInfo};
use super::{
    GETSET, GETSETELEM, GETTABLE, NEWSET, NEWSETELEM, NEWTABLE, family, foreign, is_ours, nfgenmsg,
    number, set,
};
use crate::fault::Trouble;
use crate::netlink::{Attribute, Refusal, Socket, Writer, attributes};

const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_FLAGS: u16 = 2;
const TABLE_DORMANT: u32 = 1;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_DATA_VALUE: u16 = 1;

type Found = Vec<(Key, Object)>;

/// Everything of ours.
pub(crate) fn observe(socket: &mut Socket, found: &mut Found) -> Result<(), Trouble> {
    let tables = tables(socket)?;
    let chains = chain::chains(socket)?;
    for (table, awake) in &tables {
        // One that was put to sleep filters nothing: as good as gone, and putting it wakes it.
        if *awake {
            found.push((Key::Table(table.clone()), Object::Table));
        }
        of_table(socket, table, &chains, found)?;
    }
    for chain in chains.iter().filter(|chain| foreign::may_hold(chain)) {
        for rule in foreign::of_chain(socket, &chain.table, &chain.name)? {
            let text = rule.rule.to_string();
            let key = Key::ForeignRule(chain.table.clone(), chain.name.clone(), text);
            found.push((key, Object::ForeignRule(rule.rule)));
        }
    }
    Ok(())
}

/// Our tables, and whether they are awake.
fn tables(socket: &mut Socket) -> Result<Vec<(TableName, bool)>, Refusal> {
    all_tables(socket, is_ours)
}

/// Whether this table is there, and awake.
pub(super) fn is_awake(socket: &mut Socket, name: &TableName) -> Result<bool, Refusal> {
    let found = all_tables(socket, |table| table == name)?;
    Ok(found.iter().any(|(_, awake)| *awake))
}

/// Whether there is such a table, awake or not.
pub(crate) fn is_there(socket: &mut Socket, name: &TableName) -> Result<bool, Trouble> {
    Ok(!all_tables(socket, |table| table == name)?.is_empty())
}

fn all_tables(
    socket: &mut Socket,
    wanted: impl Fn(&TableName) -> bool,
) -> Result<Vec<(TableName, bool)>, Refusal> {
    let request = |w: &mut Writer| w.header(&nfgenmsg(0));
    socket.dump(GETTABLE, request, |found: &mut Vec<_>, kind, body| {
        if kind == NEWTABLE {
            found.extend(table(body).filter(|(table, _)| wanted(table)));
        }
    })
}

fn table(body: &[u8]) -> Option<(TableName, bool)> {
    let family = family(*body.first()?)?;
    let attribute = |kind| attributes(body.get(4..)?).find(|a| a.kind == kind);
    let flags = attribute(NFTA_TABLE_FLAGS).and_then(|flags| flags.u32_be()).unwrap_or_default();
    let name = attribute(NFTA_TABLE_NAME)?.text();
    Some((TableName { family, name }, flags & TABLE_DORMANT == 0))
}

fn of_table(
    socket: &mut Socket,
    table: &TableName,
    chains: &[ChainInfo],
    found: &mut Found,
) -> Result<(), Trouble> {
    for (name, set) in sets(socket, table)? {
        for element in elements(socket, table, &name, &set)? {
            found.push((Key::Element(table.clone(), name.clone(), element), Object::Element));
        }
        found.push((Key::Set(table.clone(), name), Object::Set(set)));
    }
    let mut rules: BTreeMap<String, Vec<RuleInfo>> = BTreeMap::new();
    for rule in none_if_gone(chain::rules(socket, table, None))? {
        rules.entry(rule.chain.clone()).or_default().push(rule);
    }
    for chain in chains.iter().filter(|chain| chain.table == *table) {
        let object = Object::Chain(chain.with(rules.remove(&chain.name).unwrap_or_default()));
        found.push((key_of(chain), object));
    }
    Ok(())
}

fn key_of(chain: &ChainInfo) -> Key {
    let (table, name) = (chain.table.clone(), chain.name.clone());
    match &chain.hook {
        // One that lost its device is bound to nothing.
        Some(hook) if table.family == weft_kernel::key::NftFamily::Netdev => {
            Key::DeviceChain(table, hook.devices.join(" "), name)
        }
        _ => Key::Chain(table, name),
    }
}

/// What was deleted between two questions is not there.
fn none_if_gone<T: Default>(result: Result<T, Refusal>) -> Result<T, Refusal> {
    match result {
        Err(refusal) if refusal.errno == Errno::ENOENT => Ok(T::default()),
        other => other,
    }
}

/// The named sets of a table.
fn sets(socket: &mut Socket, table: &TableName) -> Result<Vec<(String, Set)>, Refusal> {
    let request = |w: &mut Writer| {
        w.header(&nfgenmsg(number(table.family)));
        w.text(1, &table.name);
    };
    none_if_gone(socket.dump(GETSET, request, |found: &mut Vec<_>, kind, body| {
        if kind == NEWSET
            && let Some((in_table, name, set)) = set::read(body)
            && in_table == table.name
            // An anonymous set is part of somebody's rule, and goes with it.
            && !name.starts_with("__")
        {
            found.push((name, set));
        }
    }))
}

fn elements(
    socket: &mut Socket,
    table: &TableName,
    name: &str,
    set: &Set,
) -> Result<Vec<String>, Refusal> {
    let request = |w: &mut Writer| {
        w.header(&nfgenmsg(number(table.family)));
        w.text(NFTA_SET_ELEM_LIST_TABLE, &table.name);
        w.text(NFTA_SET_ELEM_LIST_SET, name);
    };
    none_if_gone(socket.dump(GETSETELEM, request, |found: &mut Vec<_>, kind, body| {
        if kind == NEWSETELEM {
            let lists = attributes(body.get(4..).unwrap_or_default())
                .filter(|a| a.kind == NFTA_SET_ELEM_LIST_ELEMENTS);
            let elements = lists.flat_map(|list| list.nested());
            found.extend(elements.filter_map(|element| set::text(&set.of, key(element)?)));
        }
    }))
}

fn key(element: Attribute<'_>) -> Option<&[u8]> {
    let key = element.nested().find(|a| a.kind == NFTA_SET_ELEM_KEY)?;
    key.nested().find(|a| a.kind == NFTA_DATA_VALUE).map(|value| value.value)
}
