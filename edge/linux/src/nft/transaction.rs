//! Changes, as few transactions as can be: what is refused is taken out, and the rest tried again.

use std::collections::BTreeSet;

use nix::errno::Errno;
use weft_kernel::nft::{Chain, Rule};
use weft_kernel::{Key, Object, Step, TableName};

use super::{
    APPEND, CREATE, DELCHAIN, DELRULE, DELSET, DELSETELEM, DELTABLE, NEWCHAIN, NEWRULE, NEWSET,
    NEWSETELEM, NEWTABLE, chain, code, foreign, nfgenmsg, number, set,
};
use crate::fault::Trouble;
use crate::netlink::{Batch, Refusal, Socket};

/// Steps to a transaction: the kernel stops the world's other changes while it checks one.
const STEPS: usize = 2_000;

type Results = Vec<Result<(), Trouble>>;

/// Takes these steps; one result for each.
pub(crate) fn apply(socket: &mut Socket, steps: &[Step]) -> Results {
    steps.chunks(STEPS).flat_map(|chunk| apply_chunk(socket, chunk)).collect()
}

fn apply_chunk(socket: &mut Socket, steps: &[Step]) -> Results {
    let mut results: Results = steps.iter().map(|_| Ok(())).collect();
    let mut pending: BTreeSet<usize> = (0..steps.len()).collect();
    while !pending.is_empty() {
        let refused = match attempt(socket, steps, &pending, false) {
            Ok(refused) => refused,
            Err(refusal) => {
                one_by_one(socket, steps, &pending, &refusal, &mut results);
                break;
            }
        };
        if refused.is_empty() {
            break;
        }
        for (number, trouble) in refused {
            if pending.remove(&number) {
                results[number] = settle(socket, &steps[number], trouble);
            }
        }
    }
    results
}

/// One transaction of the pending steps. Gives what was refused; nothing has happened then.
fn attempt(
    socket: &mut Socket,
    steps: &[Step],
    pending: &BTreeSet<usize>,
    anew: bool,
) -> Result<Vec<(usize, Trouble)>, Refusal> {
    let mut batch = Batch::default();
    let mut refused = write(socket, &mut batch, steps, pending, anew);
    refused.extend(socket.transact(&mut batch)?.into_iter().map(|(n, r)| (n, Trouble::from(r))));
    Ok(refused)
}

/// The whole was refused without a word which step it was.
fn one_by_one(
    socket: &mut Socket,
    steps: &[Step],
    pending: &BTreeSet<usize>,
    refusal: &Refusal,
    results: &mut Results,
) {
    for number in pending {
        results[*number] = if pending.len() == 1 {
            settle(socket, &steps[*number], refusal.clone().into())
        } else {
            match attempt(socket, steps, &BTreeSet::from([*number]), false) {
                Ok(refused) => match refused.into_iter().next() {
                    Some((_, trouble)) => settle(socket, &steps[*number], trouble),
                    None => Ok(()),
                },
                Err(refusal) => settle(socket, &steps[*number], refusal.into()),
            }
        };
    }
}

/// What a refusal of a single step comes to: nothing when it is done already; a chain or set of
/// another make gives way to ours; else it is a fault.
fn settle(socket: &mut Socket, step: &Step, trouble: Trouble) -> Result<(), Trouble> {
    let errno = trouble.errno();
    match step {
        Step::Delete(_) if matches!(errno, Errno::ENOENT | Errno::ENODEV) => Ok(()),
        Step::Put(Key::Chain(..) | Key::DeviceChain(..) | Key::Set(..), _)
            if matches!(errno, Errno::EEXIST | Errno::EBUSY | Errno::EOPNOTSUPP) =>
        {
            let one = BTreeSet::from([0]);
            match attempt(socket, std::slice::from_ref(step), &one, true) {
                Ok(refused) => refused.into_iter().next().map_or(Ok(()), |(_, t)| Err(t)),
                Err(refusal) => Err(refusal.into()),
            }
        }
        _ => Err(trouble),
    }
}

/// Writes the messages of the pending steps. Tables come first, then chains without rules, so
/// that rules can jump to any; what is deleted goes when nothing speaks of it any more; rules
/// come last. `anew`: what is there is deleted first.
fn write(
    socket: &mut Socket,
    batch: &mut Batch,
    steps: &[Step],
    pending: &BTreeSet<usize>,
    anew: bool,
) -> Vec<(usize, Trouble)> {
    let steps = || pending.iter().filter_map(|number| Some((*number, steps.get(*number)?)));
    let mut refused = Vec::new();
    for (number, step) in steps() {
        if let Step::Put(Key::Table(name), _) = step {
            put_table(batch, number, name);
        }
    }
    for (number, step) in steps() {
        if let Some((table, device, name, chain)) = chain_of(step) {
            if anew {
                delete_chain(batch, number, table, name);
            }
            put_chain(batch, number, table, device, name, chain);
        }
    }
    for (number, step) in steps() {
        if let Err(trouble) = put_other(socket, batch, number, step, anew) {
            refused.push((number, trouble));
        }
    }
    for (number, step) in steps() {
        if let Some((table, _, name, chain)) = chain_of(step) {
            for rule in &chain.rules {
                if let Err(trouble) = put_rule(batch, number, table, name, rule, APPEND) {
                    refused.push((number, trouble));
                }
            }
        }
    }
    refused
}

fn chain_of(step: &Step) -> Option<(&TableName, Option<&str>, &str, &Chain)> {
    match step {
        Step::Put(Key::Chain(table, name), Object::Chain(chain)) => {
            Some((table, None, name, chain))
        }
        Step::Put(Key::DeviceChain(table, link, name), Object::Chain(chain)) => {
            Some((table, Some(link), name, chain))
        }
        _ => None,
    }
}

fn put_table(batch: &mut Batch, number: usize, name: &TableName) {
    let w = batch.begin(number, NEWTABLE, CREATE);
    w.header(&nfgenmsg(super::number(name.family)));
    w.text(1, &name.name);
    w.u32_be(2, 0);
}

fn put_chain(
    batch: &mut Batch,
    number: usize,
    table: &TableName,
    device: Option<&str>,
    name: &str,
    chain: &Chain,
) {
    let w = batch.begin(number, NEWCHAIN, CREATE);
    chain::write(w, table, name, chain.hook.as_ref(), device);
    chain::write_rules_of(batch.begin(number, DELRULE, 0), table, name, None);
}

fn delete_chain(batch: &mut Batch, number: usize, table: &TableName, name: &str) {
    chain::write_rules_of(batch.begin(number, DELRULE, 0), table, name, None);
    chain::write_name(batch.begin(number, DELCHAIN, 0), table, name);
}

fn put_rule(
    batch: &mut Batch,
    number: usize,
    table: &TableName,
    chain: &str,
    rule: &Rule,
    place: u16,
) -> Result<(), Trouble> {
    let data = code::user_data(rule).ok_or_else(|| {
        Trouble::new(Errno::EINVAL, format!("the rule is too long to be marked as ours: {rule}"))
            .hint("a shorter network name makes a shorter rule")
    })?;
    let w = batch.begin(number, NEWRULE, CREATE | place);
    chain::write_rule(w, table, chain, rule, &data);
    Ok(())
}

/// Everything but tables and chains.
fn put_other(
    socket: &mut Socket,
    batch: &mut Batch,
    number: usize,
    step: &Step,
    anew: bool,
) -> Result<(), Trouble> {
    match step {
        Step::Put(Key::Set(table, name), Object::Set(set)) => {
            if anew {
                write_set_name(batch, number, DELSET, table, name);
            }
            let id = u32::try_from(batch.len()).unwrap_or_default();
            let w = batch.begin(number, NEWSET, CREATE);
            w.header(&nfgenmsg(self::number(table.family)));
            set::write(w, &table.name, name, set, id);
        }
        Step::Put(Key::Element(table, set, element), Object::Element) => {
            write_element(batch, number, NEWSETELEM, CREATE, (table, set, element))?;
        }
        Step::Put(Key::ForeignRule(table, chain, text), Object::ForeignRule(rule)) => {
            let there = foreign::of_chain(socket, table, chain)?;
            if !there.iter().any(|there| there.rule.to_string() == *text) {
                put_rule(batch, number, table, chain, rule, 0)?;
            }
        }
        Step::Put(Key::Table(_), Object::Table)
        | Step::Put(Key::Chain(..) | Key::DeviceChain(..), Object::Chain(_)) => {}
        Step::Put(..) => {
            return Err(Trouble::new(Errno::EINVAL, "the object is of another kind than its key"));
        }
        Step::Delete(key) => delete(socket, batch, number, key)?,
    }
    Ok(())
}

fn delete(socket: &mut Socket, batch: &mut Batch, number: usize, key: &Key) -> Result<(), Trouble> {
    match key {
        Key::Table(table) => {
            let w = batch.begin(number, DELTABLE, 0);
            w.header(&nfgenmsg(self::number(table.family)));
            w.text(1, &table.name);
        }
        Key::Set(table, name) => write_set_name(batch, number, DELSET, table, name),
        Key::Element(table, set, element) => {
            write_element(batch, number, DELSETELEM, 0, (table, set, element))?;
        }
        Key::Chain(table, name) | Key::DeviceChain(table, _, name) => {
            delete_chain(batch, number, table, name);
        }
        Key::ForeignRule(table, chain, text) => {
            for there in foreign::of_chain(socket, table, chain)? {
                if there.rule.to_string() == *text {
                    let w = batch.begin(number, DELRULE, 0);
                    chain::write_rules_of(w, table, chain, Some(there.handle));
                }
            }
        }
        _ => {}
    }
    Ok(())
}

fn write_set_name(batch: &mut Batch, number: usize, kind: u16, table: &TableName, name: &str) {
    let w = batch.begin(number, kind, 0);
    w.header(&nfgenmsg(self::number(table.family)));
    w.text(1, &table.name);
    w.text(2, name);
}

fn write_element(
    batch: &mut Batch,
    number: usize,
    kind: u16,
    flags: u16,
    (table, set, element): (&TableName, &str, &str),
) -> Result<(), Trouble> {
    let key = set::key(element)?;
    let w = batch.begin(number, kind, flags);
    w.header(&nfgenmsg(self::number(table.family)));
    w.text(1, &table.name);
    w.text(2, set);
    w.nest(3, |w| w.nest(1, |w| w.nest(1, |w| w.attr(1, &key))));
    Ok(())
}
