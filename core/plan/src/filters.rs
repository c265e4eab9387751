//! Filters and address translation (`nft(8)`).
//!
//! Three places: the host's own table, where packets of containers and of the underlay pass by
//! ([`host`]); one chain per device, where frames are seen before anything else sees them
//! ([`device`]); and the heads of chains of others that drop by default ([`foreign`]).
//!
//! Every denial counts what it denies.

pub(crate) mod device;
pub(crate) mod foreign;
pub(crate) mod host;

use weft_kernel::key::NftFamily;
use weft_kernel::nft::{Chain, ChainKind, Equal, Hook, HookPoint, Match, Rule, Statement};
use weft_kernel::{DropReason, TableName};

/// Every bridge of ours, by the prefix of its name.
const OUR_BRIDGES: &str = "wb-*";

/// The table for packets of both families.
fn inet() -> TableName {
    TableName { family: NftFamily::Inet, name: "weft".to_owned() }
}

/// The table for the frames of single devices.
fn netdev() -> TableName {
    TableName { family: NftFamily::Netdev, name: "weft".to_owned() }
}

fn filter(point: HookPoint, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain { hook: Some(Hook { kind: ChainKind::Filter, point, priority }), rules }
}

fn rule(matches: Vec<Match>, statements: Vec<Statement>, comment: &str) -> Rule {
    Rule { matches, statements, comment: comment.to_owned() }
}

fn accept(matches: Vec<Match>, comment: &str) -> Rule {
    rule(matches, vec![Statement::Accept], comment)
}

/// The comment says why: both paths count under one name.
fn drop(matches: Vec<Match>, reason: DropReason) -> Rule {
    rule(matches, vec![Statement::Counter, Statement::Drop], reason.as_str())
}

fn from_link(name: &str) -> Match {
    Match::InLink(Equal::Is, name.to_owned())
}

fn to_link(name: &str) -> Match {
    Match::OutLink(Equal::Is, name.to_owned())
}
