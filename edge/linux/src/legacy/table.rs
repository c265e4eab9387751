//! A table as the kernel gives and takes it: entries one after another, and where chains are.
//!
//! A built-in chain goes from its `hook_entry` to its `underflow`, whose target is the policy.
//! Jumps say the offset of the entry they lead to, so that all of them have to follow when entries
//! move.

use std::ops::Range;

use weft_kernel::nft::Rule;

use super::entry::{decode, standard_verdict};
use super::layout::{DROP, EXTENSION, HOOKS, Layout, put, u16_at};

/// `NF_INET_LOCAL_IN`, `NF_INET_FORWARD`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    Input = 1,
    Forward = 2,
}

impl Gate {
    pub(super) const ALL: [Self; 2] = [Self::Input, Self::Forward];

    /// The name of the built-in chain.
    pub(super) const fn chain(self) -> &'static str {
        match self {
            Self::Input => "INPUT",
            Self::Forward => "FORWARD",
        }
    }

    pub(super) fn of(chain: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|gate| gate.chain() == chain)
    }
}

/// What the kernel says of a table (`struct ipt_getinfo`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Info {
    /// Bit by bit, the hooks that the table has chains at.
    pub(super) hooks: u32,
    /// Offsets of the first entries of the built-in chains.
    pub(super) first: [u32; HOOKS],
    /// Offsets of their last entries.
    pub(super) policy: [u32; HOOKS],
    /// Entries in all.
    pub(super) entries: u32,
    /// Octets in all.
    pub(super) size: u32,
}

/// A table, and the changes made to it since it was read.
#[derive(Debug, Clone)]
pub(super) struct Table {
    layout: &'static Layout,
    pub(super) info: Info,
    pub(super) octets: Vec<u8>,
    /// For each entry its number when the table was read; `None`: it is new.
    pub(super) origins: Vec<Option<usize>>,
}

impl Table {
    /// `None` when the octets make no sense.
    pub(super) fn new(layout: &'static Layout, info: Info, octets: Vec<u8>) -> Option<Self> {
        let entries = usize::try_from(info.entries).ok()?;
        if octets.len() != usize::try_from(info.size).ok()? {
            return None;
        }
        let mut starts = Vec::new();
        let mut at = 0;
        while at < octets.len() {
            starts.push(u32::try_from(at).ok()?);
            at += entry_size(layout, octets.get(at..)?)?;
        }
        let at_starts = |hook: usize| {
            info.hooks & (1 << hook) == 0
                || (starts.binary_search(&info.first[hook]).is_ok()
                    && starts.binary_search(&info.policy[hook]).is_ok()
                    && info.first[hook] <= info.policy[hook])
        };
        let sound = starts.len() == entries && (0..HOOKS).all(at_starts);
        let origins = (0..entries).map(Some).collect();
        sound.then_some(Self { layout, info, octets, origins })
    }

    /// Whether the policy of the chain is to drop.
    pub(super) fn drops(&self, gate: Gate) -> bool {
        let policy = self.chain(gate).and_then(|chain| self.entry(chain.end));
        let target = policy.and_then(|entry| target(self.layout, entry));
        target.and_then(standard_verdict) == Some(DROP)
    }

    /// Our rules in the chain, in order, with their offsets.
    pub(super) fn ours(&self, gate: Gate) -> Vec<(usize, Rule)> {
        let Some(chain) = self.chain(gate) else { return Vec::new() };
        let mut found = Vec::new();
        let mut at = chain.start;
        while at < chain.end {
            let Some(entry) = self.entry(at) else { break };
            found.extend(decode(self.layout, entry).map(|rule| (at, rule)));
            at += entry.len();
        }
        found
    }

    /// Puts an entry at the head of a chain; false when there is no such chain.
    pub(super) fn insert(&mut self, gate: Gate, entry: &[u8]) -> bool {
        let Some(chain) = self.chain(gate) else { return false };
        let (Some(number), Ok(by)) = (self.number(chain.start), i32::try_from(entry.len())) else {
            return false;
        };
        self.shift(chain.start, by);
        self.octets.splice(chain.start..chain.start, entry.iter().copied());
        self.origins.insert(number, None);
        true
    }

    /// Takes out the entry at an offset that [`Self::ours`] gave.
    pub(super) fn remove(&mut self, at: usize) {
        let Some((number, size)) = self.number(at).zip(self.entry(at).map(<[u8]>::len)) else {
            return;
        };
        let Ok(by) = i32::try_from(size) else { return };
        self.shift(at, -by);
        self.octets.drain(at..at + size);
        self.origins.remove(number);
    }

    /// From the first entry to the policy.
    fn chain(&self, gate: Gate) -> Option<Range<usize>> {
        let hook = gate as usize;
        let there = self.info.hooks & (1 << hook) != 0;
        let start = usize::try_from(*self.info.first.get(hook)?).ok()?;
        let end = usize::try_from(*self.info.policy.get(hook)?).ok()?;
        there.then_some(start..end)
    }

    fn entry(&self, at: usize) -> Option<&[u8]> {
        let rest = self.octets.get(at..)?;
        rest.get(..entry_size(self.layout, rest)?)
    }

    fn number(&self, at: usize) -> Option<usize> {
        self.starts().position(|start| start == at)
    }

    /// The offsets of all entries.
    fn starts(&self) -> impl Iterator<Item = usize> {
        let next = |at: &usize| self.entry(*at).map(|entry| at + entry.len());
        std::iter::successors(Some(0), next).take_while(|at| *at < self.octets.len())
    }

    /// What lies beyond `at` is going to move by so many octets. The beginning of a chain stays
    /// where it is, and so do jumps there; the policy at `at` moves, for entries come before it.
    fn shift(&mut self, at: usize, by: i32) {
        let moved = |offset: u32| offset.wrapping_add_signed(by);
        let there = u32::try_from(at).unwrap_or(u32::MAX);
        for hook in (0..HOOKS).filter(|hook| self.info.hooks & (1 << hook) != 0) {
            if self.info.first[hook] > there {
                self.info.first[hook] = moved(self.info.first[hook]);
            }
            if self.info.policy[hook] >= there {
                self.info.policy[hook] = moved(self.info.policy[hook]);
            }
        }
        self.info.size = moved(self.info.size);
        self.info.entries = if by < 0 { self.info.entries - 1 } else { self.info.entries + 1 };
        for start in self.starts().collect::<Vec<_>>() {
            let jump = self.entry(start).and_then(|entry| {
                let target_offset = usize::from(u16_at(entry, self.layout.target_offset)?);
                let verdict = standard_verdict(entry.get(target_offset..)?)?;
                let beyond = u32::try_from(verdict).is_ok_and(|to| to > there);
                beyond.then_some((start + target_offset + EXTENSION, verdict))
            });
            if let Some((place, verdict)) = jump {
                put(&mut self.octets, place, &verdict.wrapping_add(by).to_ne_bytes());
            }
        }
    }
}

/// The size of the entry that these octets begin with; `None` when it makes no sense.
fn entry_size(layout: &Layout, octets: &[u8]) -> Option<usize> {
    let target = usize::from(u16_at(octets, layout.target_offset)?);
    let next = usize::from(u16_at(octets, layout.next_offset)?);
    let sound = target >= layout.size && target + EXTENSION <= next && next <= octets.len();
    sound.then_some(next)
}

fn target<'a>(layout: &Layout, entry: &'a [u8]) -> Option<&'a [u8]> {
    entry.get(usize::from(u16_at(entry, layout.target_offset)?)..)
}
