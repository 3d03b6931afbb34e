//! How often a password may be tried (decisions.md, Throttling; docs/adr/0028).
//!
//! An account: 5 failures, then one a minute, doubling to one in 15. A browser in which the account signed in before
//! has a budget of its own, so that strangers who guess lock nobody out. Both are kept in the store, and written after
//! the answer; names that nobody has are counted like accounts, here alone. An address: 20 failures a minute. Whoever is
//! signed in: 300 ways to an application or a provider a minute, each of which is a write.
//! Never here: the store; what is asked costs the same whoever has the name.
//! Invariant: a place is taken before the password is looked at, so that many guesses at once gain nothing.

use doorward_core::ids::{AccountId, SessionId};
use doorward_core::secret::TokenHash;
use doorward_core::time::{Lifetime, Timestamp};
use quick_cache::sync::Cache;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use crate::store::{FailureCount, SignInFacts};

/// Failures that cost nothing.
const FREE_FAILURES: i64 = 5;
/// Failures of one address within a minute.
const ADDRESS_FAILURES_MAX: u32 = 20;
/// Passwords of one address that are looked at, or wait for it, at the same time: half the places there are
/// (`passwords.rs`), so that no address keeps everybody else out.
const ADDRESS_AT_ONCE_MAX: u32 = 32;
/// Accounts that one link makes within `SIGN_UP_SPAN`.
const SIGN_UPS_MAX: u32 = 100;
const SIGN_UP_SPAN: Lifetime = Lifetime::from_hours(1);
/// Hand-overs to an application and trips to a provider that an account begins within a minute: a browser that opens a
/// hundred pages again at once begins two for each at most.
const BEGINNINGS_MAX: u32 = 300;
const MINUTE: Lifetime = Lifetime::from_minutes(1);
/// The longest that one waits, twice over: so far the clocks of two nodes may differ.
const BLOCKED_MAX: Lifetime = Lifetime::from_minutes(30);
/// Things remembered of each kind; the least used give way.
const REMEMBERED_MAX: usize = 50_000;

/// How long the next attempt waits after so many failures in a row.
fn wait_after(failures: i64) -> Lifetime {
    match failures - FREE_FAILURES {
        ..0 => Lifetime::from_millis(0),
        0 => Lifetime::from_minutes(1),
        1 => Lifetime::from_minutes(2),
        2 => Lifetime::from_minutes(4),
        3 => Lifetime::from_minutes(8),
        4.. => Lifetime::from_minutes(15),
    }
}

/// Whose failures are counted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Budget {
    /// An account's, whoever tries.
    Account(AccountId),
    /// That of a browser in which the account signed in before.
    Browser(AccountId, TokenHash),
    /// That of a name that nobody has.
    Nobody(TokenHash),
    /// That of a browser session that tries recovery codes. The session's and not the account's, so that whoever has the
    /// password too uses nothing of it up.
    Recovery(SessionId),
}

impl Budget {
    /// Whose failure it would be, and how many there were as far as the store knows.
    pub fn of(facts: Option<&SignInFacts>, name: &str, browser: Option<TokenHash>) -> (Self, FailureCount) {
        match (facts, facts.and_then(|facts| facts.known_browser), browser) {
            (Some(facts), Some(known), Some(browser)) => {
                (Self::Browser(facts.account.id, browser), known.count)
            }
            (Some(facts), ..) => (Self::Account(facts.account.id), facts.count),
            (None, ..) => (Self::Nobody(TokenHash::of(&name.to_ascii_lowercase())), FailureCount::default()),
        }
    }
}

/// A password that may be looked at: counted as a failure until it turns out otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Guess {
    /// Whose failure it is.
    pub budget: Budget,
    /// The count with it.
    pub counted: FailureCount,
}

/// What an address did lately.
#[derive(Clone, Copy)]
struct Address {
    minute_began: i64,
    failures: u32,
    at_once: u32,
}

/// What was done lately, in a span of fixed length.
#[derive(Clone, Copy)]
struct Span {
    began: Timestamp,
    count: u32,
}

impl Span {
    /// One more, at most `max` within `length`. `Err`: how long to wait.
    fn one_more(known: Option<Self>, max: u32, length: Lifetime, now: Timestamp) -> Result<Self, Lifetime> {
        // A span that has not begun yet was begun by a clock that ran ahead.
        let runs = |span: &Self| (Lifetime::from_millis(0)..length).contains(&now.since(span.began));
        let span = known.filter(runs).unwrap_or(Self { began: now, count: 0 });
        if span.count >= max {
            return Err(span.began.plus(length).since(now));
        }
        Ok(Self { count: span.count + 1, ..span })
    }
}

/// Why nobody at an address may try now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressRefused {
    /// It failed too often: how long to wait.
    Failures(Lifetime),
    /// Too many passwords of it are being looked at.
    Crowded,
}

/// The counters of this node.
pub struct SignInThrottle {
    /// One lock around small steps in memory: taking a place must be one step.
    step: Mutex<()>,
    addresses: Cache<IpAddr, Address>,
    budgets: Cache<Budget, FailureCount>,
    sign_ups: Cache<TokenHash, Span>,
    beginnings: Cache<AccountId, Span>,
}

impl std::fmt::Debug for SignInThrottle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignInThrottle").field("addresses", &self.addresses.len()).finish_non_exhaustive()
    }
}

impl Default for SignInThrottle {
    fn default() -> Self {
        Self {
            step: Mutex::default(),
            addresses: Cache::new(REMEMBERED_MAX),
            budgets: Cache::new(REMEMBERED_MAX),
            sign_ups: Cache::new(REMEMBERED_MAX),
            beginnings: Cache::new(REMEMBERED_MAX),
        }
    }
}

/// A person's network: an IPv4 address, or the /64 of an IPv6 address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// One password of an address on its way through the pool; dropped, it is through.
pub struct AddressPlace<'a> {
    throttle: &'a SignInThrottle,
    network: IpAddr,
}

impl std::fmt::Debug for AddressPlace<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AddressPlace").finish_non_exhaustive()
    }
}

impl AddressPlace<'_> {
    /// Whether the address has not failed too often in the meantime; asked when the password's turn has come. `Err`:
    /// how long to wait.
    pub fn is_still_open(&self, now: Timestamp) -> Result<(), Lifetime> {
        let _step = self.throttle.step();
        self.throttle.address(self.network, now).may_fail(now)
    }

    /// The password was wrong.
    pub fn failed(&self, now: Timestamp) {
        let _step = self.throttle.step();
        let mut address = self.throttle.address(self.network, now);
        address.failures = address.failures.saturating_add(1);
        self.throttle.addresses.insert(self.network, address);
    }
}

impl Drop for AddressPlace<'_> {
    fn drop(&mut self) {
        let _step = self.throttle.step();
        if let Some(mut address) = self.throttle.addresses.get(&self.network) {
            address.at_once = address.at_once.saturating_sub(1);
            self.throttle.addresses.insert(self.network, address);
        }
    }
}

/// One of the accounts that a link makes in an hour; given back when dropped, unless the account was made.
pub struct SignUpPlace<'a> {
    throttle: &'a SignInThrottle,
    link: TokenHash,
    hour_began: Timestamp,
    made: bool,
}

impl std::fmt::Debug for SignUpPlace<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignUpPlace").finish_non_exhaustive()
    }
}

impl SignUpPlace<'_> {
    /// The account was made.
    pub fn made(mut self) {
        self.made = true;
    }
}

impl Drop for SignUpPlace<'_> {
    fn drop(&mut self) {
        if self.made {
            return;
        }
        let _step = self.throttle.step();
        let sign_ups = &self.throttle.sign_ups;
        if let Some(mut hour) = sign_ups.get(&self.link).filter(|hour| hour.began == self.hour_began) {
            hour.count = hour.count.saturating_sub(1);
            sign_ups.insert(self.link, hour);
        }
    }
}

impl Address {
    fn may_fail(&self, now: Timestamp) -> Result<(), Lifetime> {
        if self.failures < ADDRESS_FAILURES_MAX {
            return Ok(());
        }
        Err(Timestamp::from_millis(self.minute_began).plus(MINUTE).since(now))
    }
}

impl SignInThrottle {
    fn step(&self) -> std::sync::MutexGuard<'_, ()> {
        self.step.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a network did in the minute that runs now.
    fn address(&self, network: IpAddr, now: Timestamp) -> Address {
        let kept = self.addresses.get(&network);
        let at_once = kept.map_or(0, |kept| kept.at_once);
        let this_minute = kept.filter(|kept| {
            let age = now.since(Timestamp::from_millis(kept.minute_began));
            (Lifetime::from_millis(0)..MINUTE).contains(&age)
        });
        this_minute.unwrap_or(Address { minute_began: now.millis(), failures: 0, at_once })
    }

    /// Lets a password of this address on its way, unless the address failed too often or has many there already.
    pub fn enter(&self, address: IpAddr, now: Timestamp) -> Result<AddressPlace<'_>, AddressRefused> {
        let _step = self.step();
        let network = network(address);
        let mut address = self.address(network, now);
        address.may_fail(now).map_err(AddressRefused::Failures)?;
        if address.at_once >= ADDRESS_AT_ONCE_MAX {
            return Err(AddressRefused::Crowded);
        }
        address.at_once += 1;
        self.addresses.insert(network, address);
        Ok(AddressPlace { throttle: self, network })
    }

    /// Takes a place for one look at a password. `stored`: the count as the store knew it a moment ago. `Err`: how
    /// long to wait.
    pub fn take(&self, budget: Budget, stored: FailureCount, now: Timestamp) -> Result<Guess, Lifetime> {
        // A time further ahead than anybody waits was written by a clock that ran ahead: it keeps nobody out for ever.
        let in_reach = |count: FailureCount| {
            let is_far = count.blocked_until > now.plus(BLOCKED_MAX).millis();
            FailureCount { blocked_until: if is_far { 0 } else { count.blocked_until }, ..count }
        };
        let stored = in_reach(stored);
        let _step = self.step();
        let remembered = self.budgets.get(&budget).map(in_reach).filter(|own| own.round >= stored.round);
        // This node knows of failures that are not written yet, the store of those at other nodes.
        let before = match remembered {
            Some(own) if own.round == stored.round => FailureCount {
                round: own.round,
                failures: own.failures.max(stored.failures),
                blocked_until: own.blocked_until.max(stored.blocked_until),
            },
            Some(own) => own,
            None => stored,
        };
        if now.millis() < before.blocked_until {
            return Err(Timestamp::from_millis(before.blocked_until).since(now));
        }
        let failures = before.failures.saturating_add(1);
        let blocked_until = now.plus(wait_after(failures)).millis();
        let counted = FailureCount { round: before.round, failures, blocked_until };
        self.budgets.insert(budget, counted);
        Ok(Guess { budget, counted })
    }

    /// Gives a place back: the password was not looked at.
    pub fn give_back(&self, guess: Guess, now: Timestamp) {
        let _step = self.step();
        if let Some(own) = self.budgets.get(&guess.budget).filter(|own| own.round == guess.counted.round) {
            let failures = own.failures.saturating_sub(1).max(0);
            let blocked_until = own.blocked_until.min(now.millis());
            self.budgets.insert(guess.budget, FailureCount { failures, blocked_until, ..own });
        }
    }

    /// Takes one of the places for making accounts by a link in this hour, whatever the address: whoever holds a link
    /// makes a few accounts and not thousands. `Err`: how long to wait.
    pub fn take_sign_up(&self, link: TokenHash, now: Timestamp) -> Result<SignUpPlace<'_>, Lifetime> {
        let _step = self.step();
        let hour = Span::one_more(self.sign_ups.get(&link), SIGN_UPS_MAX, SIGN_UP_SPAN, now)?;
        self.sign_ups.insert(link, hour);
        Ok(SignUpPlace { throttle: self, link, hour_began: hour.began, made: false })
    }

    /// Takes one of an account's places of this minute for going to an application or to a provider. `Err`: how long to
    /// wait.
    pub fn take_beginning(&self, account: AccountId, now: Timestamp) -> Result<(), Lifetime> {
        let _step = self.step();
        let minute = Span::one_more(self.beginnings.get(&account), BEGINNINGS_MAX, MINUTE, now)?;
        self.beginnings.insert(account, minute);
        Ok(())
    }

    /// The password was right: the count begins anew.
    pub fn forget(&self, guess: Guess) {
        let _step = self.step();
        self.budgets.remove(&guess.budget);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_seconds(1_800_000_000);
    const NONE: FailureCount = FailureCount { round: 0, failures: 0, blocked_until: 0 };

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn nobody(name: &str) -> Budget {
        Budget::of(None, name, None).0
    }

    #[test]
    fn after_five_failures_there_is_one_attempt_a_minute_doubling_to_fifteen() {
        let throttle = SignInThrottle::default();
        let mut now = START;
        for _ in 0..5 {
            throttle.take(nobody("mira"), NONE, now).unwrap();
        }
        for minutes in [1, 2, 4, 8, 15, 15] {
            assert_eq!(throttle.take(nobody("Mira"), NONE, now), Err(Lifetime::from_minutes(minutes)));
            now = now.plus(Lifetime::from_minutes(minutes));
            throttle.take(nobody("mira"), NONE, now).unwrap();
        }
        throttle.take(nobody("jonas"), NONE, now).unwrap();
    }

    #[test]
    fn what_other_nodes_have_written_counts_and_what_began_anew_there_is_forgotten_here() {
        let throttle = SignInThrottle::default();
        let account = Budget::Account(AccountId::new(1, [1; 10]));
        for failures in 0..3 {
            throttle.take(account, FailureCount { failures, ..NONE }, START).unwrap();
        }
        // Another node has counted two more.
        let blocked = FailureCount { failures: 5, blocked_until: START.plus(MINUTE).millis(), round: 0 };
        assert_eq!(throttle.take(account, blocked, START), Err(MINUTE));
        // The account signed in there.
        let anew = FailureCount { round: 1, ..NONE };
        assert_eq!(throttle.take(account, anew, START).unwrap().counted.failures, 1);
        // What was read a moment before that changes nothing.
        assert_eq!(throttle.take(account, blocked, START).unwrap().counted.failures, 2);
    }

    #[test]
    fn a_time_that_a_clock_far_ahead_has_stored_blocks_nobody_and_the_failures_still_count() {
        let throttle = SignInThrottle::default();
        let ahead = START.plus(Lifetime::from_days(400)).millis();
        let stored = FailureCount { failures: 9, blocked_until: ahead, round: 3 };
        throttle.take(nobody("mira"), stored, START).unwrap();
        assert_eq!(throttle.take(nobody("mira"), stored, START), Err(Lifetime::from_minutes(15)));
        // Clocks that differ by minutes are no such thing.
        let near = FailureCount { blocked_until: START.plus(Lifetime::from_minutes(16)).millis(), ..stored };
        assert_eq!(throttle.take(nobody("jonas"), near, START), Err(Lifetime::from_minutes(16)));
    }

    #[test]
    fn a_place_that_is_given_back_was_never_taken() {
        let throttle = SignInThrottle::default();
        for _ in 0..100 {
            let guess = throttle.take(nobody("mira"), NONE, START).unwrap();
            throttle.give_back(guess, START);
        }
    }

    #[test]
    fn an_address_fails_twenty_times_a_minute_and_its_neighbours_in_a_64_count_with_it() {
        let throttle = SignInThrottle::default();
        for n in 0..20 {
            throttle.enter(address(&format!("2001:db8:1:2::{n:x}")), START).unwrap().failed(START);
        }
        let later = START.plus(Lifetime::from_seconds(40));
        let refused = throttle.enter(address("2001:db8:1:2:ffff::"), later).unwrap_err();
        assert_eq!(refused, AddressRefused::Failures(Lifetime::from_seconds(20)));
        throttle.enter(address("2001:db8:1:3::1"), later).unwrap();
        throttle.enter(address("192.0.2.1"), later).unwrap();
        throttle.enter(address("2001:db8:1:2::1"), START.plus(MINUTE)).unwrap();
    }

    #[test]
    fn an_office_behind_one_address_signs_in_together_and_uses_up_nothing() {
        let throttle = SignInThrottle::default();
        let office = address("192.0.2.1");
        for _ in 0..10 {
            let colleagues: Vec<_> = (0..32).map(|_| throttle.enter(office, START).unwrap()).collect();
            // More than half of all places it does not get; that is no failure of anybody.
            assert_eq!(throttle.enter(office, START).unwrap_err(), AddressRefused::Crowded);
            throttle.enter(address("192.0.2.2"), START).unwrap();
            assert!(colleagues.iter().all(|place| place.is_still_open(START).is_ok()));
        }
    }

    #[test]
    fn who_waits_for_his_turn_while_his_address_fails_too_often_is_not_looked_at_any_more() {
        let throttle = SignInThrottle::default();
        let places: Vec<_> = (0..30).map(|_| throttle.enter(address("192.0.2.1"), START).unwrap()).collect();
        let mut looked_at = 0;
        for place in &places {
            if place.is_still_open(START).is_ok() {
                looked_at += 1;
                place.failed(START);
            }
        }
        assert_eq!(looked_at, 20);
    }

    #[test]
    fn a_link_makes_a_hundred_accounts_an_hour_and_another_link_its_own_hundred() {
        let throttle = SignInThrottle::default();
        let (one, other) = (TokenHash::of("one"), TokenHash::of("other"));
        for _ in 0..100 {
            // No account came of it: the place is given back.
            drop(throttle.take_sign_up(one, START).unwrap());
            throttle.take_sign_up(one, START).unwrap().made();
        }
        let later = START.plus(Lifetime::from_minutes(20));
        assert_eq!(throttle.take_sign_up(one, later).unwrap_err(), Lifetime::from_minutes(40));
        throttle.take_sign_up(other, later).unwrap().made();
        let (before, next) = (throttle.take_sign_up(other, later).unwrap(), later.plus(SIGN_UP_SPAN));
        for _ in 0..100 {
            throttle.take_sign_up(other, next).unwrap().made();
        }
        drop(before);
        assert!(
            throttle.take_sign_up(other, next).is_err(),
            "a place of the hour before is none of this one's"
        );
        throttle.take_sign_up(one, START.plus(SIGN_UP_SPAN)).unwrap().made();
    }
}
