//! Filters and address translation: nftables through its netlink interface
//! (`linux/netfilter/nf_tables.h`).

mod chain;
mod code;
mod expr;
mod foreign;
mod observe;
mod set;
mod transaction;
mod whole;

use weft_kernel::TableName;
use weft_kernel::key::NftFamily;

pub(crate) use chain::{Counted, chains, counted, rules};
pub(crate) use observe::is_there;
pub(crate) use observe::observe;
pub(crate) use transaction::apply;
pub(crate) use whole::{WholeChain, WholeRule, WholeTable, is_so, remove, replace};

const SUBSYSTEM: u16 = 10 << 8;
const NEWTABLE: u16 = SUBSYSTEM;
const GETTABLE: u16 = SUBSYSTEM | 1;
const DELTABLE: u16 = SUBSYSTEM | 2;
const NEWCHAIN: u16 = SUBSYSTEM | 3;
const GETCHAIN: u16 = SUBSYSTEM | 4;
const DELCHAIN: u16 = SUBSYSTEM | 5;
const NEWRULE: u16 = SUBSYSTEM | 6;
const GETRULE: u16 = SUBSYSTEM | 7;
const DELRULE: u16 = SUBSYSTEM | 8;
const NEWSET: u16 = SUBSYSTEM | 9;
const GETSET: u16 = SUBSYSTEM | 10;
const DELSET: u16 = SUBSYSTEM | 11;
const NEWSETELEM: u16 = SUBSYSTEM | 12;
const GETSETELEM: u16 = SUBSYSTEM | 13;
const DELSETELEM: u16 = SUBSYSTEM | 14;
/// A transaction has been committed.
pub(crate) const NEWGEN: u16 = SUBSYSTEM | 15;

const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;

/// The name of our tables.
pub(crate) const OURS: &str = "weft";

/// `struct nfgenmsg`
const fn nfgenmsg(family: u8) -> [u8; 4] {
    [family, 0, 0, 0]
}

/// `NFPROTO_…` (`linux/netfilter.h`)
const fn number(family: NftFamily) -> u8 {
    match family {
        NftFamily::Inet => 1,
        NftFamily::Ip | NftFamily::Iptables => 2,
        NftFamily::Netdev => 5,
        NftFamily::Ip6 | NftFamily::Ip6tables => 10,
    }
}

const fn family(number: u8) -> Option<NftFamily> {
    match number {
        1 => Some(NftFamily::Inet),
        2 => Some(NftFamily::Ip),
        5 => Some(NftFamily::Netdev),
        10 => Some(NftFamily::Ip6),
        _ => None,
    }
}

pub(crate) fn is_ours(table: &TableName) -> bool {
    table.name == OURS && matches!(table.family, NftFamily::Inet | NftFamily::Netdev)
}
