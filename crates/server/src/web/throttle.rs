//! How often a password may be tried (decisions.md, Throttling).
//!
//! An account: 5 failures, then one a minute, doubling to one in 15; counted on its row, so that all nodes count
//! together. An address: 20 failures a minute. A browser in which the account signed in before has a budget of its
//! own, so that strangers who guess lock nobody out. Names that nobody has are counted like accounts, so that the
//! answer tells nothing. All but the accounts' own counters is in bounded memory of this node.
//! Invariant: a place is taken before the password is looked at, so that many guesses at once gain nothing.

use doorward_core::ids::AccountId;
use doorward_core::secret::TokenHash;
use doorward_core::time::{Lifetime, Timestamp};
use quick_cache::sync::Cache;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

/// Failures that cost nothing.
pub const FREE_FAILURES: i64 = 5;
/// Failures of one address within a minute.
const ADDRESS_FAILURES_MAX: u32 = 20;
/// Accounts that one link makes within `SIGN_UP_SPAN`.
const SIGN_UPS_MAX: u32 = 100;
const SIGN_UP_SPAN: Lifetime = Lifetime::from_hours(1);
const MINUTE: Lifetime = Lifetime::from_minutes(1);
/// Things remembered of each kind; the least used give way.
const REMEMBERED_MAX: usize = 50_000;

/// How long the next attempt waits after so many failures in a row.
pub fn wait_after(failures: i64) -> Lifetime {
    match failures - FREE_FAILURES {
        ..0 => Lifetime::from_millis(0),
        0 => Lifetime::from_minutes(1),
        1 => Lifetime::from_minutes(2),
        2 => Lifetime::from_minutes(4),
        3 => Lifetime::from_minutes(8),
        4.. => Lifetime::from_minutes(15),
    }
}

/// Failures in a row, and until when there is no further attempt.
#[derive(Clone, Copy, Default)]
struct Failures {
    count: i64,
    blocked_until: i64,
}

impl Failures {
    fn take(&mut self, now: Timestamp) -> Result<(), Lifetime> {
        if now.millis() < self.blocked_until {
            return Err(Timestamp::from_millis(self.blocked_until).since(now));
        }
        self.count = self.count.saturating_add(1);
        self.blocked_until = now.plus(wait_after(self.count)).millis();
        Ok(())
    }
}

impl Failures {
    fn give_back(&mut self, now: Timestamp) {
        self.count = self.count.saturating_sub(1).max(0);
        self.blocked_until = now.millis();
    }
}

#[derive(Clone, Copy)]
struct Minute {
    began: i64,
    failures: u32,
}

/// The counters of this node.
pub struct SignInThrottle {
    /// One lock around small steps in memory: taking a place must be one step.
    step: Mutex<()>,
    addresses: Cache<IpAddr, Minute>,
    unknown_names: Cache<TokenHash, Failures>,
    known_browsers: Cache<(TokenHash, AccountId), Failures>,
    sign_ups: Cache<TokenHash, Minute>,
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
            unknown_names: Cache::new(REMEMBERED_MAX),
            known_browsers: Cache::new(REMEMBERED_MAX),
            sign_ups: Cache::new(REMEMBERED_MAX),
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

impl SignInThrottle {
    fn step(&self) -> std::sync::MutexGuard<'_, ()> {
        self.step.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one of the address's places in this minute; given back after a success. `Err`: how long to wait.
    pub fn take_address(&self, address: IpAddr, now: Timestamp) -> Result<(), Lifetime> {
        let _step = self.step();
        let address = network(address);
        let kept = self.addresses.get(&address).filter(|minute| {
            let age = now.since(Timestamp::from_millis(minute.began));
            (Lifetime::from_millis(0)..MINUTE).contains(&age)
        });
        let mut minute = kept.unwrap_or(Minute { began: now.millis(), failures: 0 });
        if minute.failures >= ADDRESS_FAILURES_MAX {
            return Err(Timestamp::from_millis(minute.began).plus(MINUTE).since(now));
        }
        minute.failures += 1;
        self.addresses.insert(address, minute);
        Ok(())
    }

    /// Gives the address's place back: the password was right.
    pub fn give_back_address(&self, address: IpAddr) {
        let _step = self.step();
        let address = network(address);
        if let Some(mut minute) = self.addresses.get(&address) {
            minute.failures = minute.failures.saturating_sub(1);
            self.addresses.insert(address, minute);
        }
    }

    /// Takes one of the places for making accounts by a link in this hour, whatever the address: whoever holds a link
    /// makes a few accounts and not thousands. `Err`: how long to wait.
    pub fn take_sign_up(&self, link: TokenHash, now: Timestamp) -> Result<(), Lifetime> {
        let _step = self.step();
        let kept = self.sign_ups.get(&link).filter(|hour| {
            let age = now.since(Timestamp::from_millis(hour.began));
            (Lifetime::from_millis(0)..SIGN_UP_SPAN).contains(&age)
        });
        let mut hour = kept.unwrap_or(Minute { began: now.millis(), failures: 0 });
        if hour.failures >= SIGN_UPS_MAX {
            return Err(Timestamp::from_millis(hour.began).plus(SIGN_UP_SPAN).since(now));
        }
        hour.failures += 1;
        self.sign_ups.insert(link, hour);
        Ok(())
    }

    /// As an account's row would: a name that nobody has.
    pub fn take_unknown_name(&self, name: &str, now: Timestamp) -> Result<(), Lifetime> {
        let _step = self.step();
        let key = TokenHash::of(&name.to_ascii_lowercase());
        let mut failures = self.unknown_names.get(&key).unwrap_or_default();
        let taken = failures.take(now);
        self.unknown_names.insert(key, failures);
        taken
    }

    /// The budget of a browser in which this account signed in before; `None` if it did not.
    pub fn take_known_browser(
        &self,
        browser: TokenHash,
        account: AccountId,
        now: Timestamp,
    ) -> Option<Result<(), Lifetime>> {
        let _step = self.step();
        let mut failures = self.known_browsers.get(&(browser, account))?;
        let taken = failures.take(now);
        self.known_browsers.insert((browser, account), failures);
        Some(taken)
    }

    /// Gives the places of a name that nobody has, or of a known browser, back: the password was not looked at.
    pub fn give_back(
        &self,
        name: &str,
        browser: Option<TokenHash>,
        account: Option<AccountId>,
        now: Timestamp,
    ) {
        let _step = self.step();
        let Some(account) = account else {
            let key = TokenHash::of(&name.to_ascii_lowercase());
            if let Some(mut failures) = self.unknown_names.get(&key) {
                failures.give_back(now);
                self.unknown_names.insert(key, failures);
            }
            return;
        };
        if let Some(browser) = browser
            && let Some(mut failures) = self.known_browsers.get(&(browser, account))
        {
            failures.give_back(now);
            self.known_browsers.insert((browser, account), failures);
        }
    }

    /// Whether this account signed in in this browser before, as far as this node remembers.
    pub fn knows_browser(&self, browser: TokenHash, account: AccountId) -> bool {
        self.known_browsers.get(&(browser, account)).is_some()
    }

    /// The account has signed in in this browser.
    pub fn remember_browser(&self, browser: TokenHash, account: AccountId) {
        let _step = self.step();
        self.known_browsers.insert((browser, account), Failures::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn after_five_failures_there_is_one_attempt_a_minute_doubling_to_fifteen() {
        let throttle = SignInThrottle::default();
        let mut now = START;
        for _ in 0..5 {
            throttle.take_unknown_name("mira", now).unwrap();
        }
        for minutes in [1, 2, 4, 8, 15, 15] {
            assert_eq!(throttle.take_unknown_name("Mira", now), Err(Lifetime::from_minutes(minutes)));
            now = now.plus(Lifetime::from_minutes(minutes));
            throttle.take_unknown_name("mira", now).unwrap();
        }
        throttle.take_unknown_name("jonas", now).unwrap();
    }

    #[test]
    fn an_address_fails_twenty_times_a_minute_and_its_neighbours_in_a_64_count_with_it() {
        let throttle = SignInThrottle::default();
        for n in 0..20 {
            throttle.take_address(address(&format!("2001:db8:1:2::{n:x}")), START).unwrap();
        }
        let later = START.plus(Lifetime::from_seconds(40));
        assert_eq!(
            throttle.take_address(address("2001:db8:1:2:ffff::"), later),
            Err(Lifetime::from_seconds(20))
        );
        throttle.take_address(address("2001:db8:1:3::1"), later).unwrap();
        throttle.take_address(address("192.0.2.1"), later).unwrap();
        throttle.take_address(address("2001:db8:1:2::1"), START.plus(MINUTE)).unwrap();
    }

    #[test]
    fn a_right_password_uses_up_nothing_of_the_address() {
        let throttle = SignInThrottle::default();
        for _ in 0..100 {
            throttle.take_address(address("192.0.2.1"), START).unwrap();
            throttle.give_back_address(address("192.0.2.1"));
        }
    }

    #[test]
    fn a_link_makes_a_hundred_accounts_an_hour_and_another_link_its_own_hundred() {
        let throttle = SignInThrottle::default();
        let (one, other) = (TokenHash::of("one"), TokenHash::of("other"));
        for _ in 0..100 {
            throttle.take_sign_up(one, START).unwrap();
        }
        let later = START.plus(Lifetime::from_minutes(20));
        assert_eq!(throttle.take_sign_up(one, later), Err(Lifetime::from_minutes(40)));
        throttle.take_sign_up(other, later).unwrap();
        throttle.take_sign_up(one, START.plus(SIGN_UP_SPAN)).unwrap();
    }

    #[test]
    fn a_browser_that_signed_in_before_has_its_own_budget() {
        let throttle = SignInThrottle::default();
        let account = AccountId::new(1, [1; 10]);
        let (own, foreign) = (TokenHash::of("own"), TokenHash::of("foreign"));
        assert_eq!(throttle.take_known_browser(own, account, START), None);
        throttle.remember_browser(own, account);
        for _ in 0..5 {
            assert_eq!(throttle.take_known_browser(own, account, START), Some(Ok(())));
        }
        assert_eq!(throttle.take_known_browser(own, account, START), Some(Err(Lifetime::from_minutes(1))));
        assert_eq!(throttle.take_known_browser(foreign, account, START), None);
        assert_eq!(throttle.take_known_browser(own, AccountId::new(1, [2; 10]), START), None);
    }
}
