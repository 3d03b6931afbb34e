//! A bounded number of places that organizations share fairly (rule 9).
//!
//! In: who asks. Out: a place, at once or in turn. Never here: what the place is used for, clocks.
//! Invariant: an organization gets a further place only while it holds fewer than are free. So one organization alone
//! may use half of them, and however many slow ones there are, a newcomer finds a place.

use doorward_core::ids::OrganizationId;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Places for calls that run at the same time.
#[derive(Clone)]
pub(super) struct FairShare(Arc<Mutex<Places>>);

struct Places {
    free: usize,
    waiting: usize,
    waiting_max: usize,
    organizations: HashMap<OrganizationId, Share>,
}

#[derive(Default)]
struct Share {
    held: usize,
    queue: VecDeque<oneshot::Sender<Place>>,
}

/// A place; dropping it gives it back and lets the next one in.
pub(super) struct Place {
    share: FairShare,
    organization: OrganizationId,
    /// False once it was given back by other means.
    counts: bool,
}

/// Every place is taken and the queue is full.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl FairShare {
    /// `places` calls at once, and at most `waiting_max` in the queue.
    pub(super) fn new(places: usize, waiting_max: usize) -> Self {
        let organizations = HashMap::new();
        Self(Arc::new(Mutex::new(Places { free: places, waiting: 0, waiting_max, organizations })))
    }

    /// Waits for a place, without a limit of time. Dropping the future leaves the queue.
    pub(super) async fn take(&self, organization: OrganizationId) -> Result<Place, Full> {
        let turn = {
            let mut places = self.lock();
            let free = places.free;
            let share = places.organizations.entry(organization).or_default();
            if share.queue.is_empty() && share.held < free {
                share.held += 1;
                places.free -= 1;
                return Ok(self.place(organization));
            }
            if places.waiting >= places.waiting_max {
                places.forget_if_unused(organization);
                return Err(Full);
            }
            places.waiting += 1;
            let (sender, turn) = oneshot::channel();
            places.organizations.entry(organization).or_default().queue.push_back(sender);
            turn
        };
        turn.await.map_err(|_| Full)
    }

    fn place(&self, organization: OrganizationId) -> Place {
        Place { share: self.clone(), organization, counts: true }
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives free places to those who wait, the organization that holds least first.
    fn admit(&self, places: &mut Places) {
        loop {
            let free = places.free;
            let next = places
                .organizations
                .iter_mut()
                .filter(|(_, share)| !share.queue.is_empty() && share.held < free)
                .min_by_key(|(_, share)| share.held);
            let Some((&organization, share)) = next else { return };
            let Some(sender) = share.queue.pop_front() else { return };
            places.waiting -= 1;
            match sender.send(self.place(organization)) {
                Ok(()) => {
                    share.held += 1;
                    places.free -= 1;
                }
                // Who waited has gone. The place never counted; dropping it must not take the lock again.
                Err(mut place) => {
                    place.counts = false;
                    places.forget_if_unused(organization);
                }
            }
        }
    }
}

impl Places {
    fn forget_if_unused(&mut self, organization: OrganizationId) {
        if self
            .organizations
            .get(&organization)
            .is_some_and(|share| share.held == 0 && share.queue.is_empty())
        {
            self.organizations.remove(&organization);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.counts {
            return;
        }
        let mut places = self.share.lock();
        places.free += 1;
        if let Some(share) = places.organizations.get_mut(&self.organization) {
            share.held = share.held.saturating_sub(1);
        }
        places.forget_if_unused(self.organization);
        self.share.admit(&mut places);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn organization(n: u8) -> OrganizationId {
        OrganizationId::new(0, [n; 10])
    }

    #[tokio::test]
    async fn rule_9_one_organization_takes_at_most_half_and_a_newcomer_always_finds_a_place() {
        let share = FairShare::new(64, 1000);
        let mut held = Vec::new();
        for hostile in 0..20 {
            while let Some(place) = share.take(organization(hostile)).now_or_never() {
                held.push(place.unwrap());
            }
            if hostile == 0 {
                assert_eq!(held.len(), 32);
            }
        }
        // Half of what was left each time: 32, 16, 8, 4, 2, 1. The last place goes to whoever holds none.
        assert!(held.len() <= 64);
        held.truncate(63);
        assert!(share.take(organization(99)).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_place_given_back_goes_to_the_organization_that_holds_least() {
        let share = FairShare::new(2, 10);
        let (a, b, c) = (organization(1), organization(2), organization(3));
        let first = share.take(a).await.unwrap();
        let second = share.take(b).await.unwrap();
        let mut greedy = Box::pin(share.take(a));
        let mut newcomer = Box::pin(share.take(c));
        assert!(greedy.as_mut().now_or_never().is_none());
        assert!(newcomer.as_mut().now_or_never().is_none());
        drop(second);
        let newcomer = newcomer.await.unwrap();
        assert!(greedy.as_mut().now_or_never().is_none());
        drop(first);
        drop(newcomer);
        drop(greedy.await.unwrap());
        let places = share.lock();
        assert!(places.organizations.is_empty());
        assert_eq!((places.free, places.waiting), (2, 0));
    }

    #[tokio::test]
    async fn who_leaves_the_queue_holds_nothing_up_and_a_full_queue_says_so() {
        let share = FairShare::new(1, 2);
        let place = share.take(organization(1)).await.unwrap();
        let mut gone = Box::pin(share.take(organization(2)));
        assert!(gone.as_mut().now_or_never().is_none());
        let mut patient = Box::pin(share.take(organization(3)));
        assert!(patient.as_mut().now_or_never().is_none());
        assert_eq!(share.take(organization(4)).await.err(), Some(Full));
        drop(gone);
        drop(place);
        drop(patient.await.unwrap());
        let places = share.lock();
        assert!(places.organizations.is_empty());
        assert_eq!((places.free, places.waiting), (1, 0));
    }
}
