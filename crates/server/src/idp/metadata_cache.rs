//! What providers publish (keys, metadata), kept for a while and fetched by one caller at a time.
//!
//! In: a key, the caller's time, and how to fetch. Out: the kept value, or the finding of the fetch that failed.
//! Never here: HTTP, what the values mean, a clock.
//! Invariant: however many callers come and whatever they ask for, each value is fetched by one of them at a time, and
//! a value that is there is fetched at most `fetches_per_minute` times a minute (conformance.md V54, F4, F5).

use doorward_core::error_code::ErrorCode;
use doorward_core::finding::{Finding, Step};
use doorward_core::time::{Lifetime, Timestamp};
use quick_cache::sync::Cache;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const MINUTE: Lifetime = Lifetime::from_minutes(1);
const NO_AGE: Lifetime = Lifetime::from_millis(0);

/// How long values count, and how often they may be fetched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ages {
    /// Younger values are used without asking.
    pub(super) fresh_for: Lifetime,
    /// Older values are not used, even if the provider is down.
    pub(super) kept_for: Lifetime,
    /// Fetches of one value in a minute, once there is one. Without any, each caller may try.
    pub(super) fetches_per_minute: usize,
}

/// A bounded cache of values by key.
pub(super) struct AgedCache<K, T> {
    ages: Ages,
    slots: Cache<K, Arc<Slot<T>>>,
}

/// One value's place. Whoever holds `flight` fetches; `kept` is held for moments only, so that callers who are content
/// with what is there never wait for a slow provider.
struct Slot<T> {
    flight: tokio::sync::Mutex<()>,
    kept: Mutex<Kept<T>>,
}

struct Kept<T> {
    value: Option<(Arc<T>, Timestamp)>,
    /// Fetches that have ended, well or badly.
    ended: u64,
    /// What was wrong with the last fetch.
    fault: Option<Finding>,
    /// When the last fetches began; at most `fetches_per_minute`.
    begun: VecDeque<Timestamp>,
}

/// A value, and how many fetches had ended when it was handed out.
pub(super) struct Seen<T> {
    pub(super) value: Arc<T>,
    ended: u64,
}

impl<K: Eq + Hash + Clone, T> AgedCache<K, T> {
    /// Keeps at most about `entries` values.
    pub(super) fn new(entries: usize, ages: Ages) -> Self {
        Self { ages, slots: Cache::new(entries) }
    }

    /// The fresh value, without fetching.
    pub(super) fn peek(&self, key: &K, now: Timestamp) -> Option<Seen<T>> {
        self.slots.get(key).and_then(|slot| slot.fresh(now, self.ages).ok())
    }

    /// The fresh value; else what `fetch` brings; else, if the provider fails, the last good value.
    pub(super) async fn get(
        &self,
        key: &K,
        now: Timestamp,
        fetch: impl Future<Output = Result<T, Finding>> + Send,
    ) -> Result<Seen<T>, Finding> {
        let slot = self.slot(key);
        let ended = match slot.fresh(now, self.ages) {
            Ok(seen) => return Ok(seen),
            Err(ended) => ended,
        };
        slot.fetch(ended, now, self.ages, fetch).await;
        slot.lock().usable(now, self.ages)
    }

    /// A value newer than the one that did not do. `None` if there is none, because the provider was asked enough.
    pub(super) async fn newer(
        &self,
        key: &K,
        than: &Seen<T>,
        now: Timestamp,
        fetch: impl Future<Output = Result<T, Finding>> + Send,
    ) -> Result<Option<Seen<T>>, Finding> {
        let slot = self.slot(key);
        slot.fetch(than.ended, now, self.ages, fetch).await;
        let kept = slot.lock();
        match (&kept.value, &kept.fault) {
            (Some((value, _)), _) if !Arc::ptr_eq(value, &than.value) => {
                Ok(Some(Seen { value: Arc::clone(value), ended: kept.ended }))
            }
            (_, Some(fault)) if kept.ended != than.ended => Err(fault.clone()),
            _ => Ok(None),
        }
    }

    fn slot(&self, key: &K) -> Arc<Slot<T>> {
        let made: Result<_, Infallible> = self.slots.get_or_insert_with(key, || Ok(Arc::new(Slot::empty())));
        made.unwrap_or_else(|never| match never {})
    }
}

impl<T> Slot<T> {
    fn empty() -> Self {
        let kept = Kept { value: None, ended: 0, fault: None, begun: VecDeque::new() };
        Self { flight: tokio::sync::Mutex::default(), kept: Mutex::new(kept) }
    }

    fn lock(&self) -> MutexGuard<'_, Kept<T>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fresh value, or how many fetches have ended.
    fn fresh(&self, now: Timestamp, ages: Ages) -> Result<Seen<T>, u64> {
        let kept = self.lock();
        match &kept.value {
            // A value from the future means that the clock was set back: its age is not known.
            Some((value, at)) if now.since(*at) < ages.fresh_for && now.since(*at) >= NO_AGE => {
                Ok(Seen { value: Arc::clone(value), ended: kept.ended })
            }
            _ => Err(kept.ended),
        }
    }

    /// Fetches, unless somebody's fetch has ended since `ended` was read, or the provider was asked enough.
    async fn fetch(
        &self,
        ended: u64,
        now: Timestamp,
        ages: Ages,
        fetch: impl Future<Output = Result<T, Finding>> + Send,
    ) {
        let _flight = self.flight.lock().await;
        {
            let mut kept = self.lock();
            if kept.ended != ended || !kept.may_fetch(now, ages) {
                return;
            }
        }
        let fetched = fetch.await;
        let mut kept = self.lock();
        kept.ended += 1;
        match fetched {
            Ok(value) => {
                kept.value = Some((Arc::new(value), now));
                kept.fault = None;
            }
            Err(fault) => kept.fault = Some(fault),
        }
    }
}

impl<T> Kept<T> {
    /// Counts a fetch, if there may be one.
    fn may_fetch(&mut self, now: Timestamp, ages: Ages) -> bool {
        let is_recent = |at: &Timestamp| now.since(*at) < MINUTE && at.since(now) < MINUTE;
        self.begun.retain(is_recent);
        if self.begun.len() >= ages.fetches_per_minute {
            // Who has nothing at all can't go on without asking.
            let has_value = self.value.as_ref().is_some_and(|(_, at)| now.since(*at) < ages.kept_for);
            if has_value {
                return false;
            }
            self.begun.pop_front();
        }
        self.begun.push_back(now);
        true
    }

    /// What can be used now: the last good value if it is not too old, else the last fault.
    fn usable(&self, now: Timestamp, ages: Ages) -> Result<Seen<T>, Finding> {
        match (&self.value, &self.fault) {
            (Some((value, at)), _) if now.since(*at) < ages.kept_for => {
                Ok(Seen { value: Arc::clone(value), ended: self.ended })
            }
            (_, Some(fault)) => Err(fault.clone()),
            // A value too old always leads to a fetch, which leaves a value or a fault.
            (_, None) => Err(Finding::new(Step::Discovery, ErrorCode::OutboundBusy)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use std::sync::atomic::{AtomicU64, Ordering};

    const AGES: Ages = Ages {
        fresh_for: Lifetime::from_minutes(10),
        kept_for: Lifetime::from_hours(24),
        fetches_per_minute: 2,
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_800_000_000 + seconds)
    }

    fn down() -> Finding {
        Finding::new(Step::Discovery, ErrorCode::OutboundUnreachable)
    }

    /// Gives 1, 2, 3, …: the value tells how often the provider was asked.
    struct Provider(AtomicU64);

    impl Provider {
        async fn answer(&self) -> Result<u64, Finding> {
            let answer = self.0.fetch_add(1, Ordering::SeqCst) + 1;
            tokio::task::yield_now().await;
            Ok(answer)
        }

        fn asked(&self) -> u64 {
            self.0.load(Ordering::SeqCst)
        }
    }

    fn setup() -> (AgedCache<u8, u64>, Provider) {
        (AgedCache::new(16, AGES), Provider(AtomicU64::new(0)))
    }

    #[tokio::test]
    async fn a_hundred_callers_at_once_ask_the_provider_once() {
        let (cache, provider) = setup();
        let all = (0..100).map(|_| cache.get(&1, at(0), provider.answer()));
        for seen in futures_util::future::join_all(all).await {
            assert_eq!(*seen.unwrap().value, 1);
        }
        assert_eq!(provider.asked(), 1);
    }

    #[tokio::test]
    async fn a_hundred_callers_at_once_share_one_failure_and_the_next_caller_tries_again() {
        let (cache, provider) = setup();
        let failing = || async {
            provider.answer().await?;
            Err(down())
        };
        let all = (0..100).map(|_| cache.get(&1, at(0), failing()));
        assert!(futures_util::future::join_all(all).await.into_iter().all(|seen| seen.is_err()));
        assert_eq!(provider.asked(), 1);
        for asked in 2..10 {
            assert_eq!(*cache.get(&asked, at(0), provider.answer()).await.unwrap().value, u64::from(asked));
        }
    }

    #[tokio::test]
    async fn f1_without_any_value_every_retry_asks_so_that_a_recovered_provider_is_seen_at_once() {
        let (cache, provider) = setup();
        for _ in 0..5 {
            assert!(cache.get(&1, at(0), async { Err(down()) }).await.is_err());
        }
        assert_eq!(*cache.get(&1, at(0), provider.answer()).await.unwrap().value, 1);
    }

    #[tokio::test]
    async fn a_value_is_used_for_ten_minutes_and_then_fetched_again() {
        let (cache, provider) = setup();
        for (second, value) in [(0, 1), (599, 1), (600, 2), (1199, 2), (1200, 3)] {
            assert_eq!(*cache.get(&1, at(second), provider.answer()).await.unwrap().value, value, "{second}");
        }
    }

    #[tokio::test]
    async fn f4_the_last_good_value_serves_for_a_day_while_the_provider_is_down() {
        let (cache, provider) = setup();
        cache.get(&1, at(0), provider.answer()).await.unwrap();
        let day = 24 * 3600;
        for second in [600, 3600, day - 1] {
            let seen = cache.get(&1, at(second), async { Err(down()) }).await.unwrap();
            assert_eq!(*seen.value, 1, "{second}");
        }
        assert_eq!(cache.get(&1, at(day), async { Err(down()) }).await.err(), Some(down()));
        assert_eq!(*cache.get(&1, at(day), provider.answer()).await.unwrap().value, 2);
    }

    #[tokio::test]
    async fn f4_a_down_provider_is_not_asked_by_every_caller_who_can_go_on_without() {
        let (cache, provider) = setup();
        cache.get(&1, at(0), provider.answer()).await.unwrap();
        let failing = || async {
            provider.answer().await?;
            Err(down())
        };
        for _ in 0..50 {
            assert_eq!(*cache.get(&1, at(700), failing()).await.unwrap().value, 1);
        }
        assert_eq!(provider.asked(), 3, "the first, and two within the minute");
    }

    #[tokio::test]
    async fn v54_ten_thousand_wishes_for_a_newer_value_ask_twice_a_minute() {
        let (cache, provider) = setup();
        let first = cache.get(&1, at(0), provider.answer()).await.unwrap();
        let newer = cache.newer(&1, &first, at(1), provider.answer()).await.unwrap();
        assert_eq!(*newer.unwrap().value, 2, "room for a rotation just after the first fetch");
        for _ in 0..10_000 {
            let seen = cache.get(&1, at(2), provider.answer()).await.unwrap();
            assert!(cache.newer(&1, &seen, at(2), provider.answer()).await.unwrap().is_none());
        }
        assert_eq!(provider.asked(), 2);
        let seen = cache.get(&1, at(60), provider.answer()).await.unwrap();
        assert!(cache.newer(&1, &seen, at(60), provider.answer()).await.unwrap().is_some(), "a minute later");
        assert_eq!(provider.asked(), 3);
    }

    #[tokio::test]
    async fn f5_many_sign_ins_that_meet_a_rotation_together_refetch_once() {
        let (cache, provider) = setup();
        cache.get(&1, at(0), provider.answer()).await.unwrap();
        let all = (0..100).map(|_| async {
            let seen = cache.get(&1, at(300), provider.answer()).await.unwrap();
            cache.newer(&1, &seen, at(300), provider.answer()).await.unwrap().map(|seen| *seen.value)
        });
        assert!(futures_util::future::join_all(all).await.into_iter().all(|value| value == Some(2)));
        assert_eq!(provider.asked(), 2);
    }

    #[tokio::test]
    async fn f2_who_is_content_with_a_fresh_value_does_not_wait_for_a_slow_refetch() {
        let (cache, provider) = setup();
        let seen = cache.get(&1, at(0), provider.answer()).await.unwrap();
        let mut slow = Box::pin(cache.newer(&1, &seen, at(1), std::future::pending()));
        assert!(slow.as_mut().now_or_never().is_none());
        assert_eq!(*cache.get(&1, at(1), provider.answer()).await.unwrap().value, 1);
    }

    #[tokio::test]
    async fn a_caller_who_goes_away_in_the_middle_of_a_fetch_blocks_nobody() {
        let (cache, provider) = setup();
        {
            let mut gone = Box::pin(cache.get(&1, at(0), std::future::pending()));
            assert!(gone.as_mut().now_or_never().is_none());
        }
        assert_eq!(*cache.get(&1, at(0), provider.answer()).await.unwrap().value, 1);
    }

    #[tokio::test]
    async fn f9_a_clock_set_back_neither_keeps_a_value_fresh_nor_the_throttle_closed() {
        let (cache, provider) = setup();
        let seen = cache.get(&1, at(0), provider.answer()).await.unwrap();
        cache.newer(&1, &seen, at(0), provider.answer()).await.unwrap();
        assert_eq!(*cache.get(&1, at(-3600), provider.answer()).await.unwrap().value, 3);
    }

    #[tokio::test]
    async fn memory_is_bounded() {
        let (cache, provider) = setup();
        for key in 0..=255 {
            cache.get(&key, at(0), provider.answer()).await.unwrap();
        }
        assert!(cache.slots.len() <= 16);
    }
}
