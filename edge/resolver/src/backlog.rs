//! What was read and waits to be answered. Reading is cheap and answering is not: by reading
//! ahead, and answering everybody in turn, a flood from one asker fills its own queue only.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

/// How many of one source may wait.
const EACH: usize = 32;

/// Queues by source.
#[derive(Debug)]
pub(crate) struct Backlog<T> {
    queues: BTreeMap<IpAddr, VecDeque<T>>,
    /// Who was served last: the next one in order is first.
    last: Option<IpAddr>,
}

impl<T> Default for Backlog<T> {
    fn default() -> Self {
        Self { queues: BTreeMap::new(), last: None }
    }
}

impl<T> Backlog<T> {
    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Adds to a source's queue; false if that is full.
    pub(crate) fn push(&mut self, source: IpAddr, item: T) -> bool {
        let queue = self.queues.entry(source).or_default();
        let room = queue.len() < EACH;
        if room {
            queue.push_back(item);
        }
        room
    }

    /// The next one: of the source after the one served last.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let after = self.last.and_then(|last| {
            let range = (std::ops::Bound::Excluded(last), std::ops::Bound::Unbounded);
            self.queues.range(range).next().map(|(source, _)| *source)
        });
        let source = after.or_else(|| self.queues.keys().next().copied())?;
        self.last = Some(source);
        let queue = self.queues.get_mut(&source)?;
        let item = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&source);
        }
        item
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_in_turn_and_nobody_more_than_its_share() {
        let source = |host: u8| IpAddr::from([10, 3, 0, host]);
        let mut backlog = Backlog::default();
        for n in 0..100 {
            assert_eq!(backlog.push(source(5), (5, n)), n < EACH);
        }
        backlog.push(source(9), (9, 0));
        backlog.push(source(2), (2, 0));
        backlog.push(source(9), (9, 1));
        let first: Vec<_> = (0..6).filter_map(|_| backlog.pop()).collect();
        assert_eq!(first, [(2, 0), (5, 0), (9, 0), (5, 1), (9, 1), (5, 2)]);
        assert!(backlog.push(source(5), (5, 100)));
        let rest: Vec<_> = std::iter::from_fn(|| backlog.pop()).collect();
        assert_eq!(rest.len(), EACH - 3 + 1);
        assert!(backlog.is_empty() && backlog.pop().is_none());
    }
}
