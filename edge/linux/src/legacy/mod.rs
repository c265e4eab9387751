//! Legacy iptables: tables of the kernel that nftables does not show, read and written as wholes
//! through socket options (`linux/netfilter_ipv4/ip_tables.h`, `iptables-legacy(8)`).
//!
//! Nothing of Weft needs them. But where their FORWARD or INPUT drops by default, no accept
//! elsewhere helps, so rules of ours must stand at the head there.

mod entry;
mod layout;
mod lock;
mod socket;
mod table;
#[cfg(test)]
mod tests;

use std::path::Path;

use nix::errno::Errno;
use weft_kernel::key::NftFamily;
use weft_kernel::nft::Rule;
use weft_kernel::{Key, Object, Step, TableName};

use crate::fault::Trouble;
use layout::{COUNTERS, Layout, V4, V6};
use socket::Control;
use table::{Gate, Table};

/// The table whose chains decide what passes.
const FILTER: &str = "filter";
/// How often a table is read anew when it changes meanwhile.
const ATTEMPTS: usize = 10;

/// Whether this is a table of legacy iptables.
pub(crate) const fn is_legacy(table: &TableName) -> bool {
    Layout::of(table.family).is_some()
}

/// Chains whose policy is drop: their table and name, and whether they are at input.
pub(crate) fn drop_chains() -> Result<Vec<(TableName, &'static str, bool)>, Trouble> {
    let mut found = Vec::new();
    for layout in [&V4, &V6] {
        if let Some(table) = read_if_in_use(layout)? {
            let gates = Gate::ALL.into_iter().filter(|gate| table.drops(*gate));
            found.extend(gates.map(|g| (filter(layout.family), g.chain(), g == Gate::Input)));
        }
    }
    Ok(found)
}

/// Rules of ours.
pub(crate) fn observe(found: &mut Vec<(Key, Object)>) -> Result<(), Trouble> {
    for layout in [&V4, &V6] {
        let Some(table) = read_if_in_use(layout)? else { continue };
        for gate in Gate::ALL {
            found.extend(table.ours(gate).into_iter().map(|(_, rule)| {
                let (name, chain) = (filter(layout.family), gate.chain().to_owned());
                (Key::ForeignRule(name, chain, rule.to_string()), Object::ForeignRule(rule))
            }));
        }
    }
    Ok(())
}

/// Takes steps at keys of legacy tables, each table's at once; one result for each.
pub(crate) fn apply(steps: &[Step]) -> Vec<Result<(), Trouble>> {
    let mut results: Vec<_> = steps.iter().map(|_| Ok(())).collect();
    for layout in [&V4, &V6] {
        let of_layout = |step: &Step| family(step.key()) == Some(layout.family);
        let mine: Vec<usize> =
            (0..steps.len()).filter(|number| of_layout(&steps[*number])).collect();
        if mine.is_empty() {
            continue;
        }
        if let Err(trouble) = change(layout, steps, &mine, &mut results) {
            for number in mine {
                let result = &mut results[number];
                if result.is_ok() {
                    *result = Err(trouble.clone());
                }
            }
        }
    }
    results
}

/// What one would type to insert a rule.
pub(crate) fn insert_call(table: &TableName, chain: &str, rule: &Rule) -> String {
    format!("{} -I {chain} {}", program(table), entry::arguments(rule))
}

/// What one would type to delete a rule.
pub(crate) fn delete_call(table: &TableName, chain: &str, rule: &str) -> String {
    format!("{} -D {chain} … # {rule}", program(table))
}

fn program(table: &TableName) -> String {
    let program = Layout::of(table.family).map_or("iptables", |layout| layout.program);
    format!("{program} -t {}", table.name)
}

fn filter(family: NftFamily) -> TableName {
    TableName { family, name: FILTER.to_owned() }
}

fn family(key: &Key) -> Option<NftFamily> {
    match key {
        Key::ForeignRule(table, ..) => Some(table.family),
        _ => None,
    }
}

/// Whether the kernel has the table in the calling thread's network namespace. To ask it for the
/// table itself would make it create one.
fn in_use(layout: &Layout) -> Result<bool, Trouble> {
    // `/proc/net` is that of the process, not of the thread.
    let path = Path::new("/proc/thread-self/net").join(layout.names);
    match std::fs::read_to_string(path) {
        Ok(names) => Ok(names.lines().any(|name| name == FILTER)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A table that cannot be made sense of stays unseen: it must not keep all else from being seen.
fn read_if_in_use(layout: &'static Layout) -> Result<Option<Table>, Trouble> {
    if !in_use(layout)? {
        return Ok(None);
    }
    match read(&Control::open(layout)?) {
        Ok(table) => Ok(Some(table)),
        Err(trouble) if trouble.errno() == Errno::EBADMSG => {
            let fault = trouble.of(format!("{}-save -t {FILTER}", layout.program));
            tracing::warn!(%fault, "a table of legacy iptables is left out");
            Ok(None)
        }
        Err(trouble) => Err(trouble),
    }
}

fn read(control: &Control) -> Result<Table, Trouble> {
    for _ in 0..ATTEMPTS {
        let info = control.info(FILTER)?;
        let octets = match control.entries(FILTER, info.size) {
            Err(Errno::EAGAIN) => continue,
            answer => answer?,
        };
        // Another table of the same size may have come in between.
        if control.info(FILTER)? == info {
            return Table::new(control.layout, info, octets).ok_or_else(|| {
                Trouble::new(Errno::EBADMSG, "the kernel's answer makes no sense")
                    .hint("Weft knows the layout of 64-bit kernels only")
            });
        }
    }
    Err(busy())
}

fn busy() -> Trouble {
    Trouble::new(Errno::EAGAIN, "somebody else keeps changing the table").hint("it is tried again")
}

/// Takes the steps numbered `mine`. An error is that of all of them.
fn change(
    layout: &'static Layout,
    steps: &[Step],
    mine: &[usize],
    results: &mut [Result<(), Trouble>],
) -> Result<(), Trouble> {
    if !in_use(layout)? {
        for number in mine {
            if let Step::Put(..) = &steps[*number] {
                let text = format!("{} has no table {FILTER} in use", layout.program);
                results[*number] = Err(Trouble::new(Errno::ENOENT, text)
                    .hint("nothing is dropped there, so no rule is needed"));
            }
        }
        return Ok(());
    }
    let _lock = lock::take(Path::new(lock::PATH), lock::WAIT)?;
    let control = Control::open(layout)?;
    for _ in 0..ATTEMPTS {
        let old = read(&control)?;
        let mut table = old.clone();
        for number in mine {
            results[*number] = edit(layout, &mut table, &steps[*number]);
        }
        if table.octets == old.octets {
            return Ok(());
        }
        match control.replace(FILTER, &table, old.info.entries) {
            Ok(counters) => {
                restore(&control, &table, &counters);
                return Ok(());
            }
            // Somebody else, who does not care for the lock, was faster.
            Err(Errno::EAGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(busy())
}

/// A replaced table has counted nothing yet: what its entries had counted in the old one is added.
fn restore(control: &Control, table: &Table, counters: &[socket::Counters]) {
    let of = |origin: &Option<usize>| origin.and_then(|number| counters.get(number).copied());
    let counters: Vec<_> =
        table.origins.iter().map(|origin| of(origin).unwrap_or([0; COUNTERS])).collect();
    if let Err(errno) = control.add_counters(FILTER, &counters) {
        tracing::warn!(
            %errno,
            "{}: the counters of table {FILTER} began anew with a change",
            control.layout.program
        );
    }
}

/// Takes one step, in the copy.
fn edit(layout: &Layout, table: &mut Table, step: &Step) -> Result<(), Trouble> {
    let Key::ForeignRule(name, chain, text) = step.key() else {
        return Err(crate::apply::mismatch());
    };
    let gate = if name.name == FILTER { Gate::of(chain) } else { None };
    let there = gate.map(|gate| table.ours(gate)).unwrap_or_default();
    let mut same = there.into_iter().filter(|(_, rule)| rule.to_string() == *text);
    match step {
        Step::Put(_, Object::ForeignRule(rule)) => {
            let entry = entry::encode(layout, rule).ok_or_else(|| {
                Trouble::new(Errno::EINVAL, format!("legacy iptables cannot say: {rule}"))
            })?;
            if same.next().is_some() || gate.is_some_and(|gate| table.insert(gate, &entry)) {
                return Ok(());
            }
            let text = format!("no rule of ours belongs into chain {chain} of table {}", name.name);
            Err(Trouble::new(Errno::ENOENT, text))
        }
        Step::Put(..) => Err(crate::apply::mismatch()),
        Step::Delete(_) => {
            let offsets: Vec<usize> = same.map(|(at, _)| at).collect();
            // From the last one, so that the others stay where they are.
            offsets.into_iter().rev().for_each(|at| table.remove(at));
            Ok(())
        }
    }
}
