//! What each asker may use, so that one that floods harms itself only.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Limits;

/// Who asks: the bridge and the source address.
type Who = (Arc<str>, IpAddr);

/// The accounts of all askers, and what they share.
#[derive(Debug)]
pub(crate) struct Fairness {
    limits: Limits,
    accounts: Mutex<HashMap<Who, Arc<Account>>>,
    /// Whoever is not known shares one account, so that made-up addresses cost nothing.
    strangers: Arc<Account>,
    forwards: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

/// What one asker has left.
#[derive(Debug)]
pub(crate) struct Account {
    /// Queries a second.
    rate: u32,
    bucket: Mutex<Bucket>,
    forwards: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

#[derive(Debug)]
struct Bucket {
    /// Queries left, in billionths, so that nothing is lost between two looks at the clock.
    tokens: u64,
    at: Instant,
    /// Queries refused since.
    refused: u32,
    since: Instant,
}

/// What becomes of a query before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    /// It is read.
    Granted,
    /// It is dropped.
    Refused,
    /// It is dropped, and it is one of so many that the source should not be heard for a while.
    Flood,
}

/// So many queries refused in such a time are a flood.
const FLOOD: u32 = 64;
const FLOOD_TIME: Duration = Duration::from_millis(100);

/// Held while a query waits for an upstream server or a connection is open.
pub(crate) type Permit = (OwnedSemaphorePermit, OwnedSemaphorePermit);

const BILLION: u64 = 1_000_000_000;
/// Queries a second from all strangers together.
const STRANGERS: u32 = 100;

impl Fairness {
    pub(crate) fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            accounts: Mutex::default(),
            strangers: Arc::new(Account::new(limits, STRANGERS, now)),
            forwards: Arc::new(Semaphore::new(limits.forwards)),
            connections: Arc::new(Semaphore::new(limits.connections)),
            limits: limits.clone(),
        }
    }

    /// The account of an asker.
    pub(crate) fn account(
        &self,
        bridge: &Arc<str>,
        source: IpAddr,
        known: bool,
        now: Instant,
    ) -> Arc<Account> {
        if !known {
            return Arc::clone(&self.strangers);
        }
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let account = accounts.entry((Arc::clone(bridge), source));
        Arc::clone(
            account
                .or_insert_with(|| Arc::new(Account::new(&self.limits, self.limits.queries, now))),
        )
    }

    /// Forgets the accounts of those who are gone.
    pub(crate) fn keep(&self, known: impl Fn(&str, IpAddr) -> bool) {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.retain(|(bridge, source), _| known(bridge, *source));
    }

    /// Leave to ask upstream; none if the asker, or all together, have enough under way.
    pub(crate) fn forward(&self, account: &Account) -> Option<Permit> {
        both(&account.forwards, &self.forwards)
    }

    /// Leave to hold a connection.
    pub(crate) fn connection(&self, account: &Account) -> Option<Permit> {
        both(&account.connections, &self.connections)
    }

    /// Whether nobody waits for an upstream server.
    pub(crate) fn idle(&self) -> bool {
        self.forwards.available_permits() == self.limits.forwards
    }
}

fn both(own: &Arc<Semaphore>, all: &Arc<Semaphore>) -> Option<Permit> {
    let own = Arc::clone(own).try_acquire_owned().ok()?;
    Some((own, Arc::clone(all).try_acquire_owned().ok()?))
}

impl Account {
    fn new(limits: &Limits, rate: u32, now: Instant) -> Self {
        Self {
            rate,
            bucket: Mutex::new(Bucket {
                tokens: u64::from(rate) * 2 * BILLION,
                at: now,
                refused: 0,
                since: now,
            }),
            forwards: Arc::new(Semaphore::new(limits.forwards_each)),
            connections: Arc::new(Semaphore::new(limits.connections_each)),
        }
    }

    /// Leave for one query.
    pub(crate) fn query(&self, now: Instant) -> Leave {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(bucket.at).as_nanos();
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        let full = u64::from(self.rate) * 2 * BILLION;
        let gained = passed.saturating_mul(u64::from(self.rate));
        bucket.at = now;
        bucket.tokens = bucket.tokens.saturating_add(gained).min(full);
        if bucket.tokens >= BILLION {
            bucket.tokens -= BILLION;
            return Leave::Granted;
        }
        bucket.refuse(now)
    }

    /// Notes that a query was dropped although it had leave.
    pub(crate) fn refuse(&self, now: Instant) -> Leave {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner).refuse(now)
    }
}

impl Bucket {
    fn refuse(&mut self, now: Instant) -> Leave {
        if now.saturating_duration_since(self.since) > FLOOD_TIME {
            self.since = now;
            self.refused = 0;
        }
        self.refused += 1;
        if self.refused < FLOOD {
            return Leave::Refused;
        }
        self.refused = 0;
        Leave::Flood
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_gets_its_rate_and_no_more() {
        let start = Instant::now();
        let account = Account::new(&Limits::default(), 1_000, start);
        let granted = |from: u64, to: u64| {
            let asked = (from..to).map(|us| start + Duration::from_micros(us));
            asked.filter(|now| account.query(*now) == Leave::Granted).count()
        };
        let first = granted(0, 1_000_000);
        assert!((2_999..=3_001).contains(&first), "a burst of two seconds and one second: {first}");
        let second = granted(1_000_000, 2_000_000);
        assert!((999..=1_001).contains(&second), "{second}");
        let much_later = start + Duration::from_secs(3_600 * 24 * 365 * 100);
        assert_eq!(account.query(much_later), Leave::Granted);
    }

    #[test]
    fn a_little_too_much_is_no_flood() {
        let start = Instant::now();
        let floods = |every: u64| {
            let account = Account::new(&Limits::default(), 1_000, start);
            let asked = (0..10_000_000 / every).map(|n| start + Duration::from_micros(n * every));
            asked.filter(|now| account.query(*now) == Leave::Flood).count()
        };
        assert_eq!(floods(667), 0, "half as much again");
        assert!(floods(100) > 10, "ten times the rate: {}", floods(100));
    }

    #[test]
    fn one_asker_cannot_take_what_another_needs() {
        let limits =
            Limits { forwards_each: 2, forwards: 3, connections_each: 1, ..Limits::default() };
        let now = Instant::now();
        let fairness = Fairness::new(&limits, now);
        let bridge: Arc<str> = "wb-570001".into();
        let account = |host: u8| fairness.account(&bridge, [10, 3, 0, host].into(), true, now);
        let (one, two, three) = (account(1), account(2), account(3));
        let held = [fairness.forward(&one), fairness.forward(&one)];
        assert!(held.iter().all(Option::is_some));
        assert!(fairness.forward(&account(1)).is_none(), "the account is the same each time");
        let other = fairness.forward(&two);
        assert!(other.is_some());
        assert!(fairness.forward(&three).is_none(), "all together have enough");
        drop(held);
        assert!(fairness.forward(&three).is_some());
        let connection = fairness.connection(&one);
        assert!(connection.is_some() && fairness.connection(&one).is_none());
        assert!(!fairness.idle());
        drop(other);
        assert!(fairness.idle());
    }

    #[test]
    fn strangers_share_one_account() {
        let now = Instant::now();
        let fairness = Fairness::new(&Limits::default(), now);
        let bridge: Arc<str> = "wb-570001".into();
        let stranger = |host: u8| fairness.account(&bridge, [192, 0, 2, host].into(), false, now);
        assert!(Arc::ptr_eq(&stranger(1), &stranger(2)));
        assert_eq!(fairness.accounts.lock().unwrap().len(), 0);
        fairness.account(&bridge, [10, 3, 0, 2].into(), true, now);
        fairness.keep(|_, _| false);
        assert_eq!(fairness.accounts.lock().unwrap().len(), 0);
    }
}
