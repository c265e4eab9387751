//! Chains and their rules.

use nix::errno::Errno;
use weft_kernel::key::NftFamily;
use weft_kernel::nft::{Chain, ChainKind, Hook, HookPoint, Rule};
use weft_kernel::{Count, TableName};

use super::{GETCHAIN, GETRULE, NEWCHAIN, NEWRULE, code, expr, family, nfgenmsg, number};
use crate::netlink::{Attribute, Refusal, Socket, Writer, attributes};

const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_NUMBER: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_HOOK_DEVICE: u16 = 3;
const NFTA_HOOK_DEVICES: u16 = 4;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_HANDLE: u16 = 3;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_RULE_USERDATA: u16 = 7;

const POLICY_DROP: u32 = 0;
const POLICY_ACCEPT: u32 = 1;

/// A chain as the kernel shows it, without its rules.
#[derive(Debug, Clone)]
pub(crate) struct ChainInfo {
    pub(crate) table: TableName,
    pub(crate) name: String,
    pub(crate) hook: Option<HookInfo>,
    pub(crate) drops: bool,
}

/// A base chain's place.
#[derive(Debug, Clone, Default)]
pub(crate) struct HookInfo {
    pub(crate) kind: String,
    pub(crate) number: u32,
    pub(crate) priority: i32,
    pub(crate) devices: Vec<String>,
}

/// What a rule of ours has counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) chain: String,
    pub(crate) comment: String,
    pub(crate) count: Count,
}

/// A rule as the kernel shows it.
#[derive(Debug, Clone)]
pub(crate) struct RuleInfo {
    pub(crate) chain: String,
    pub(crate) handle: u64,
    /// `None`: not ours.
    pub(crate) rule: Option<Rule>,
    /// Of its counter, if it has one.
    pub(crate) count: Option<Count>,
    /// It drops or rejects whatever comes to it.
    pub(crate) refuses_all: bool,
    /// It has the name of a link of ours in it, or what such names begin with.
    pub(crate) names_ours: bool,
}

impl ChainInfo {
    /// At `input` or `forward` of IP packets, where a drop policy of others is in our way.
    pub(crate) fn is_gate(&self) -> bool {
        self.table.family != NftFamily::Netdev
            && self.hook.as_ref().is_some_and(|hook| matches!(hook.number, 1 | 2))
    }

    pub(crate) fn is_input(&self) -> bool {
        self.hook.as_ref().is_some_and(|hook| hook.number == 1)
    }

    /// The chain with these rules. What a [`Chain`] has no words for is shown as a rule of
    /// somebody else's, so that it compares unequal.
    pub(crate) fn with(&self, rules: Vec<RuleInfo>) -> Chain {
        let mut chain = Chain { hook: None, rules: rules.into_iter().map(shown).collect() };
        let Some(hook) = &self.hook else { return chain };
        match point(self.table.family, hook.number) {
            Some(point) => {
                let kind = if hook.kind == "nat" { ChainKind::Nat } else { ChainKind::Filter };
                chain.hook = Some(Hook { kind, point, priority: hook.priority });
            }
            None => chain.rules.push(foreign(format!("hook {}", hook.number))),
        }
        if !matches!(hook.kind.as_str(), "nat" | "filter") {
            chain.rules.push(foreign(format!("type {}", hook.kind)));
        }
        if self.drops {
            chain.rules.push(foreign("policy drop".to_owned()));
        }
        chain
    }
}

fn shown(info: RuleInfo) -> Rule {
    info.rule.unwrap_or_else(|| foreign(format!("not Weft's: handle {}", info.handle)))
}

const fn foreign(comment: String) -> Rule {
    Rule { matches: Vec::new(), statements: Vec::new(), comment }
}

const fn hook_number(point: HookPoint) -> u32 {
    match point {
        HookPoint::Prerouting | HookPoint::Ingress => 0,
        HookPoint::Input | HookPoint::Egress => 1,
        HookPoint::Forward => 2,
        HookPoint::Output => 3,
        HookPoint::Postrouting => 4,
    }
}

const fn point(family: NftFamily, number: u32) -> Option<HookPoint> {
    Some(match (family, number) {
        (NftFamily::Netdev, 0) => HookPoint::Ingress,
        (NftFamily::Netdev, 1) => HookPoint::Egress,
        (NftFamily::Netdev, _) => return None,
        (_, 0) => HookPoint::Prerouting,
        (_, 1) => HookPoint::Input,
        (_, 2) => HookPoint::Forward,
        (_, 3) => HookPoint::Output,
        (_, 4) => HookPoint::Postrouting,
        _ => return None,
    })
}

/// Names a chain.
pub(crate) fn write_name(w: &mut Writer, table: &TableName, name: &str) {
    w.header(&nfgenmsg(number(table.family)));
    w.text(NFTA_CHAIN_TABLE, &table.name);
    w.text(NFTA_CHAIN_NAME, name);
}

/// A chain without its rules.
pub(crate) fn write(
    w: &mut Writer,
    table: &TableName,
    name: &str,
    hook: Option<&Hook>,
    device: Option<&str>,
) {
    write_name(w, table, name);
    let Some(hook) = hook else { return };
    w.nest(NFTA_CHAIN_HOOK, |w| {
        w.u32_be(NFTA_HOOK_NUMBER, hook_number(hook.point));
        w.u32_be(NFTA_HOOK_PRIORITY, hook.priority.cast_unsigned());
        if let Some(device) = device {
            w.text(NFTA_HOOK_DEVICE, device);
        }
    });
    w.u32_be(NFTA_CHAIN_POLICY, POLICY_ACCEPT);
    let kind = match hook.kind {
        ChainKind::Filter => "filter",
        ChainKind::Nat => "nat",
    };
    w.text(NFTA_CHAIN_TYPE, kind);
}

/// Names the rules of a chain: all, or the one with this handle.
pub(crate) fn write_rules_of(w: &mut Writer, table: &TableName, chain: &str, handle: Option<u64>) {
    w.header(&nfgenmsg(number(table.family)));
    w.text(NFTA_RULE_TABLE, &table.name);
    w.text(NFTA_RULE_CHAIN, chain);
    if let Some(handle) = handle {
        w.u64_be(NFTA_RULE_HANDLE, handle);
    }
}

/// A rule with its user data, as [`code::user_data`] gives it.
pub(crate) fn write_rule(
    w: &mut Writer,
    table: &TableName,
    chain: &str,
    rule: &Rule,
    user_data: &[u8],
) {
    let expressions = |w: &mut Writer| expr::write(w, rule, table.family);
    write_rule_with(w, table, chain, user_data, expressions);
}

/// A rule of these expressions.
pub(super) fn write_rule_with(
    w: &mut Writer,
    table: &TableName,
    chain: &str,
    user_data: &[u8],
    expressions: impl FnOnce(&mut Writer),
) {
    write_rules_of(w, table, chain, None);
    w.nest(NFTA_RULE_EXPRESSIONS, expressions);
    w.attr(NFTA_RULE_USERDATA, user_data);
}

/// All chains of the socket's namespace, of the families we know.
pub(crate) fn chains(socket: &mut Socket) -> Result<Vec<ChainInfo>, Refusal> {
    let request = |w: &mut Writer| w.header(&nfgenmsg(0));
    socket.dump(GETCHAIN, request, |found: &mut Vec<_>, kind, body| {
        if kind == NEWCHAIN {
            found.extend(read(body));
        }
    })
}

fn read(body: &[u8]) -> Option<ChainInfo> {
    let family = family(*body.first()?)?;
    let (mut table, mut name, mut hook, mut kind, mut drops) = (None, None, None, None, false);
    for attribute in attributes(body.get(4..)?) {
        match attribute.kind {
            NFTA_CHAIN_TABLE => table = Some(attribute.text()),
            NFTA_CHAIN_NAME => name = Some(attribute.text()),
            NFTA_CHAIN_HOOK => hook = Some(read_hook(attribute)),
            NFTA_CHAIN_POLICY => drops = attribute.u32_be() == Some(POLICY_DROP),
            NFTA_CHAIN_TYPE => kind = Some(attribute.text()),
            _ => {}
        }
    }
    if let Some(hook) = &mut hook {
        hook.kind = kind.unwrap_or_default();
    }
    Some(ChainInfo { table: TableName { family, name: table? }, name: name?, hook, drops })
}

fn read_hook(attribute: Attribute<'_>) -> HookInfo {
    let mut hook = HookInfo::default();
    for attribute in attribute.nested() {
        match attribute.kind {
            NFTA_HOOK_NUMBER => hook.number = attribute.u32_be().unwrap_or_default(),
            NFTA_HOOK_PRIORITY => {
                hook.priority = attribute.u32_be().unwrap_or_default().cast_signed();
            }
            NFTA_HOOK_DEVICE if hook.devices.is_empty() => hook.devices.push(attribute.text()),
            NFTA_HOOK_DEVICES => {
                hook.devices = attribute.nested().map(|device| device.text()).collect();
            }
            _ => {}
        }
    }
    hook
}

/// The rules of a table, or of one chain of it, in order.
pub(crate) fn rules(
    socket: &mut Socket,
    table: &TableName,
    chain: Option<&str>,
) -> Result<Vec<RuleInfo>, Refusal> {
    let request = |w: &mut Writer| {
        w.header(&nfgenmsg(number(table.family)));
        w.text(NFTA_RULE_TABLE, &table.name);
        if let Some(chain) = chain {
            w.text(NFTA_RULE_CHAIN, chain);
        }
    };
    socket.dump(GETRULE, request, |found: &mut Vec<_>, kind, body| {
        // Kernels that do not know the filter send the rules of all tables.
        if kind == NEWRULE
            && let Some((in_table, rule)) = read_rule(body)
            && in_table == table.name
            && chain.is_none_or(|chain| chain == rule.chain)
        {
            found.push(rule);
        }
    })
}

/// The rules of a table in order: the chain of each, and its user data as it is.
pub(super) fn marks(
    socket: &mut Socket,
    table: &TableName,
) -> Result<Vec<(String, Vec<u8>)>, Refusal> {
    let request = |w: &mut Writer| {
        w.header(&nfgenmsg(number(table.family)));
        w.text(NFTA_RULE_TABLE, &table.name);
    };
    socket.dump(GETRULE, request, |found: &mut Vec<_>, kind, body| {
        let part = |kind| attributes(body.get(4..)?).find(|a| a.kind == kind);
        // Kernels that do not know the filter send the rules of all tables.
        if kind == NEWRULE
            && part(NFTA_RULE_TABLE).is_some_and(|name| name.text() == table.name)
            && let Some(chain) = part(NFTA_RULE_CHAIN)
        {
            let mark = part(NFTA_RULE_USERDATA).map(|mark| mark.value.to_vec());
            found.push((chain.text(), mark.unwrap_or_default()));
        }
    })
}

fn read_rule(body: &[u8]) -> Option<(String, RuleInfo)> {
    let (mut table, mut chain, mut handle, mut rule) = (None, None, 0, None);
    let (mut refuses_all, mut names_ours, mut count) = (false, false, None);
    for attribute in attributes(body.get(4..)?) {
        match attribute.kind {
            NFTA_RULE_EXPRESSIONS => {
                refuses_all = refuses(attribute);
                count = counter(attribute);
                names_ours = attribute.value.windows(3).any(|part| part == b"wb-");
            }
            NFTA_RULE_TABLE => table = Some(attribute.text()),
            NFTA_RULE_CHAIN => chain = Some(attribute.text()),
            NFTA_RULE_HANDLE => handle = attribute.u64_be()?,
            NFTA_RULE_USERDATA => rule = code::from_user_data(attribute.value),
            _ => {}
        }
    }
    Some((table?, RuleInfo { chain: chain?, handle, rule, count, refuses_all, names_ours }))
}

/// What the rules of ours in a table have counted, those with a counter; none when there is no such table.
pub(crate) fn counted(socket: &mut Socket, table: &TableName) -> Result<Vec<Counted>, Refusal> {
    let rules = match rules(socket, table, None) {
        Err(refusal) if refusal.errno == Errno::ENOENT => Vec::new(),
        other => other?,
    };
    let of_rule = |info: RuleInfo| {
        Some(Counted { chain: info.chain, comment: info.rule?.comment, count: info.count? })
    };
    Ok(rules.into_iter().filter_map(of_rule).collect())
}

/// What the first counter among these expressions has counted.
fn counter(expressions: Attribute<'_>) -> Option<Count> {
    const NAME: u16 = 1;
    const DATA: u16 = 2;
    const NFTA_COUNTER_BYTES: u16 = 1;
    const NFTA_COUNTER_PACKETS: u16 = 2;
    let part = |of: Attribute<'_>, kind| {
        attributes(of.value).find(|a| a.kind == kind).map(|a| a.value.to_vec())
    };
    let is_counter = |expression: &Attribute<'_>| {
        expression.nested().any(|a| a.kind == NAME && a.text() == "counter")
    };
    let data = part(expressions.nested().find(is_counter)?, DATA)?;
    let value = |kind| attributes(&data).find(|a| a.kind == kind)?.u64_be();
    Some(Count { packets: value(NFTA_COUNTER_PACKETS)?, bytes: value(NFTA_COUNTER_BYTES)? })
}

/// Whether a rule with these expressions drops or rejects every packet: nothing is compared.
fn refuses(expressions: Attribute<'_>) -> bool {
    const NAME: u16 = 1;
    const DATA: u16 = 2;
    let mut refuses = false;
    for expression in expressions.nested() {
        let part = |kind| expression.nested().find(|a: &Attribute<'_>| a.kind == kind);
        match part(NAME).map(|name| name.text()).as_deref() {
            Some("counter" | "log") => {}
            Some("reject") => refuses = true,
            Some("immediate") if part(DATA).is_some_and(drops) => refuses = true,
            _ => return false,
        }
    }
    refuses
}

/// Whether the data of an `immediate` expression is the verdict to drop.
fn drops(data: Attribute<'_>) -> bool {
    const NFTA_IMMEDIATE_DATA: u16 = 2;
    const NFTA_DATA_VERDICT: u16 = 2;
    const NFTA_VERDICT_CODE: u16 = 1;
    const NF_DROP: u32 = 0;
    let inner =
        |of: Attribute<'_>, kind| of.nested().find(|a| a.kind == kind).map(|a| a.value.to_vec());
    let Some(value) = inner(data, NFTA_IMMEDIATE_DATA) else { return false };
    let verdict = attributes(&value).find(|a| a.kind == NFTA_DATA_VERDICT);
    let code = verdict.and_then(|v| v.nested().find(|a| a.kind == NFTA_VERDICT_CODE)?.u32_be());
    code == Some(NF_DROP)
}
