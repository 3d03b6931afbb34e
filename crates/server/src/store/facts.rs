//! What the gate knows without asking the database: a bounded cache of facts with a lease (rule 16).
//!
//! A loaded fact is kept only if nothing changed about it since before its loading began. A hit takes no lock that
//! another request waits on: the mutex is touched by loads and changes alone. When the last good reading of changes
//! is older than the lease, nothing is trusted and every question goes to the database.
//! Never here: decisions. Read next: `changes.rs`.

use doorward_core::connection::Enforcement;
use doorward_core::ids::{AccessTokenId, AccountId, OrganizationId, SessionId};
use doorward_core::membership::Role;
use doorward_core::name::{NAME_BYTES_MAX, Name};
use doorward_core::secret::TokenHash;
use doorward_core::time::{Lifetime, Timestamp};
use quick_cache::Equivalent;
use quick_cache::sync::Cache;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::database::{Query as _, StoreError};
use super::organizations::RESOURCE_NAME_BYTES_MAX;
use super::{Change, Organization, Plan, Store};
use crate::values;

/// How long the cache is trusted without a good reading of changes (decisions.md).
const LEASE: Lifetime = Lifetime::from_seconds(5);

/// Notes of changes are kept at least as long as a load can take.
const NOTES_MAX: usize = 100_000;

/// An account with everything that decides for it: memberships, sessions, and the SSO done in each.
#[derive(Debug)]
pub struct AccountFacts {
    /// The account.
    pub id: AccountId,
    /// Its name as created.
    pub name: String,
    /// The person's name; may be empty.
    pub full_name: String,
    /// The primary proved address; empty if there is none (rule 13).
    pub email: String,
    /// Switched off by the operator.
    pub disabled: bool,
    /// May do what operators may.
    pub operator: bool,
    /// Its memberships.
    pub memberships: Vec<MembershipFacts>,
    /// Its browser sessions.
    pub sessions: Vec<SessionFacts>,
    /// Its personal access tokens.
    pub access_tokens: Vec<AccessTokenFacts>,
}

/// One membership.
#[derive(Clone, Copy, Debug)]
pub struct MembershipFacts {
    /// The organization.
    pub organization: OrganizationId,
    /// The role.
    pub role: Role,
    /// Reaches the organization without SSO (hub-sso.md M8).
    pub external_collaborator: bool,
}

/// One browser session.
#[derive(Debug)]
pub struct SessionFacts {
    /// Stays the same when the cookie's secret changes.
    pub id: SessionId,
    /// Hash of the cookie's secret on our own host.
    pub token_hash: TokenHash,
    /// When it began.
    pub created_at: Timestamp,
    /// When the password was last proved in it.
    pub authenticated_at: Timestamp,
    /// When it was last used, to within an hour.
    pub last_seen_at: Timestamp,
    /// The SSO done in it.
    pub sso: Vec<SsoFacts>,
    /// Its sessions on applications' hosts: hash of the cookie's secret, and the host.
    pub hosts: Vec<(TokenHash, String)>,
}

/// SSO done for one organization.
#[derive(Clone, Copy, Debug)]
pub struct SsoFacts {
    /// The organization.
    pub organization: OrganizationId,
    /// The connection's epoch then; another one now ends the session.
    pub epoch: i64,
    /// When the provider said who this is.
    pub authenticated_at: Timestamp,
}

/// One personal access token.
#[derive(Debug)]
pub struct AccessTokenFacts {
    /// Its id.
    pub id: AccessTokenId,
    /// Hash of the token.
    pub token_hash: TokenHash,
    /// The most that it gives.
    pub ceiling: Role,
    /// When it is over.
    pub expires_at: Timestamp,
    /// When it was last used, to within an hour.
    pub last_used_at: Option<Timestamp>,
    /// The organizations with SSO that its owner lets it reach.
    pub authorizations: Vec<AuthorizationFacts>,
}

/// That a token may reach one organization.
#[derive(Clone, Copy, Debug)]
pub struct AuthorizationFacts {
    /// The organization.
    pub organization: OrganizationId,
    /// The connection's epoch then; another one now ends it.
    pub epoch: i64,
    /// When the token's owner last completed SSO there, in that epoch.
    pub last_sso_at: Timestamp,
}

/// An organization with what decides for it.
#[derive(Debug)]
pub struct OrganizationFacts {
    /// The organization.
    pub id: OrganizationId,
    /// Its name.
    pub name: Name,
    /// What it is called on pages.
    pub display_name: String,
    /// Its plan.
    pub plan: Plan,
    /// SSO: `None` is off.
    pub sso: Option<Enforcement>,
    /// The connection's epoch: an SSO session of another one is over.
    pub epoch: i64,
    /// How long an SSO session lasts.
    pub session_timeout: Lifetime,
    /// For how many days after their owner's last SSO tokens reach it.
    pub token_sso_days: i64,
    /// Deleted: its name stays owned, its pages are gone.
    pub deleted: bool,
}

impl OrganizationFacts {
    /// The organization as its pages know it; nothing if it was deleted.
    pub fn organization(&self) -> Option<Organization> {
        (!self.deleted).then(|| Organization {
            id: self.id,
            name: self.name.clone(),
            display_name: self.display_name.clone(),
            plan: self.plan,
            session_timeout: self.session_timeout,
        })
    }
}

type ResourceKey = (OrganizationId, String, String);

/// A `ResourceKey` that owns nothing, to look up with.
#[derive(Hash)]
struct ResourceRef<'a>(OrganizationId, &'a str, &'a str);

impl Equivalent<ResourceKey> for ResourceRef<'_> {
    fn equivalent(&self, key: &ResourceKey) -> bool {
        self.0 == key.0 && self.1 == key.1 && self.2 == key.2
    }
}

/// The cache. One to a store.
pub struct FactsCache {
    tokens: Cache<TokenHash, AccountId>,
    accounts: Cache<AccountId, Arc<AccountFacts>>,
    organizations: Cache<String, Option<Arc<OrganizationFacts>>>,
    resources: Cache<ResourceKey, bool>,
    /// Grows with each forgetting; a load is stamped with it.
    sequence: AtomicU64,
    read_until: AtomicI64,
    read_at: AtomicI64,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    /// At which `sequence` a thing was last forgotten.
    forgotten: HashMap<Change, u64>,
    /// Everything loaded before this is refused.
    everything: u64,
    /// Numbers of this node's own commits, already carried out here.
    own: HashSet<i64>,
}

impl std::fmt::Debug for FactsCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FactsCache").field("accounts", &self.accounts.len()).finish_non_exhaustive()
    }
}

const NEVER: i64 = i64::MIN;

impl FactsCache {
    pub(super) fn new() -> Self {
        Self {
            tokens: Cache::new(1_000_000),
            accounts: Cache::new(200_000),
            organizations: Cache::new(100_000),
            resources: Cache::new(200_000),
            sequence: AtomicU64::new(0),
            read_until: AtomicI64::new(NEVER),
            read_at: AtomicI64::new(NEVER),
            notes: Mutex::default(),
        }
    }

    /// Whether the last good reading of changes is fresh enough. A clock that went back counts as stale.
    pub fn is_trusted(&self, now: Timestamp) -> bool {
        let age = now.millis().saturating_sub(self.read_at.load(Ordering::Acquire));
        (0..=LEASE.millis()).contains(&age)
    }

    pub(super) fn read_up_to(&self) -> Option<i64> {
        Some(self.read_until.load(Ordering::Acquire)).filter(|&n| n != NEVER)
    }

    pub(super) fn begin_at(&self, n: i64, now: Timestamp) {
        self.forget_everything();
        self.read_until(n, now);
    }

    pub(super) fn read_until(&self, n: i64, now: Timestamp) {
        self.read_until.store(n, Ordering::Release);
        self.read_at.store(now.millis(), Ordering::Release);
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        // A poisoned lock means a panic between two map operations; the maps themselves are whole.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out this node's own commit at once; the later reading of it is skipped.
    pub(super) fn forget_own(&self, n: i64, changes: &[Change]) {
        let mut notes = self.notes();
        if self.read_up_to().is_some_and(|seen| n > seen) {
            notes.own.insert(n);
        }
        for change in changes {
            self.forget_noted(&mut notes, change.clone());
        }
    }

    /// Carries out a change that was read.
    pub(super) fn forget(&self, n: i64, change: Change) {
        let mut notes = self.notes();
        if !notes.own.contains(&n) {
            self.forget_noted(&mut notes, change);
        }
        notes.own.retain(|&own| own >= n);
    }

    pub(super) fn forget_everything(&self) {
        let mut notes = self.notes();
        notes.everything = self.sequence.fetch_add(1, Ordering::AcqRel) + 1;
        notes.forgotten.clear();
        notes.own.clear();
        self.tokens.clear();
        self.accounts.clear();
        self.organizations.clear();
        self.resources.clear();
    }

    fn forget_noted(&self, notes: &mut Notes, change: Change) {
        if notes.forgotten.len() >= NOTES_MAX {
            // Loads under way are refused instead of keeping ever more notes.
            notes.everything = self.sequence.load(Ordering::Acquire) + 1;
            notes.forgotten.clear();
        }
        let at = self.sequence.fetch_add(1, Ordering::AcqRel) + 1;
        match &change {
            Change::Account(id) => {
                self.accounts.remove(id);
            }
            Change::Organization(key) => {
                self.organizations.remove(key);
            }
            Change::Resource { organization, prefix, name_key } => {
                self.resources.remove(&(*organization, prefix.clone(), name_key.clone()));
            }
        }
        notes.forgotten.insert(change, at);
    }

    /// Keeps what was loaded, unless it was forgotten since `stamp`.
    fn keep(&self, stamp: u64, change: &Change, keep: impl FnOnce()) {
        let notes = self.notes();
        if stamp >= notes.everything && notes.forgotten.get(change).is_none_or(|&at| at <= stamp) {
            keep();
        }
    }

    /// How many organizations and names that nobody has are in the cache.
    pub fn organizations_cached(&self) -> usize {
        self.organizations.len()
    }

    /// How many accounts are in the cache, for metrics.
    pub fn accounts_cached(&self) -> usize {
        self.accounts.len()
    }
}

// What must be loaded is loaded in a box: the gate's future, which mostly finds everything here, stays small.
impl Store {
    /// The account whose session has this token, with that session's place in `sessions`; and on which host the token
    /// counts (`None`: on our own). `None` for a token that nobody has.
    ///
    /// Lifetimes are not judged here: `session_is_alive` does.
    pub async fn session_facts(
        &self,
        token: TokenHash,
        now: Timestamp,
    ) -> Result<Option<(Arc<AccountFacts>, usize, bool)>, StoreError> {
        // Whose a token is never changes, so this is good however old it is; whether it still counts, the account says.
        if let Some(id) = self.facts.tokens.get(&token) {
            let account = self.account_facts(id, now).await?;
            return Ok(account.and_then(|account| find_session(account, token)));
        }
        Box::pin(self.load_session_facts(token, now)).await
    }

    async fn load_session_facts(
        &self,
        token: TokenHash,
        now: Timestamp,
    ) -> Result<Option<(Arc<AccountFacts>, usize, bool)>, StoreError> {
        let sql = "SELECT account_id FROM browser_session WHERE token_hash = $1 \
                   UNION ALL SELECT s.account_id FROM host_session h JOIN browser_session s ON s.id = h.session_id \
                   WHERE h.token_hash = $1";
        let Some(row) = self.reader().fetch_optional(sql, values![token]).await? else { return Ok(None) };
        let id: AccountId = row.parsed("account_id")?;
        self.facts.tokens.insert(token, id);
        let account = self.account_facts(id, now).await?;
        if let Some(found) = account.and_then(|account| find_session(account, token)) {
            return Ok(Some(found));
        }
        // What is remembered of the account is older than this session: another node made it a moment ago.
        let account = self.load_and_keep_account(id).await?;
        Ok(account.and_then(|account| find_session(account, token)))
    }

    /// The account that this personal access token belongs to, with the token's place in `access_tokens`; `None` for a
    /// token that nobody has. Whether it is over is not judged here.
    pub async fn access_token_facts(
        &self,
        token: TokenHash,
        now: Timestamp,
    ) -> Result<Option<(Arc<AccountFacts>, usize)>, StoreError> {
        if let Some(id) = self.facts.tokens.get(&token) {
            let account = self.account_facts(id, now).await?;
            return Ok(account.and_then(|account| find_access_token(account, token)));
        }
        Box::pin(self.load_access_token_facts(token, now)).await
    }

    async fn load_access_token_facts(
        &self,
        token: TokenHash,
        now: Timestamp,
    ) -> Result<Option<(Arc<AccountFacts>, usize)>, StoreError> {
        let sql = "SELECT account_id FROM access_token WHERE token_hash = $1";
        let Some(row) = self.reader().fetch_optional(sql, values![token]).await? else { return Ok(None) };
        let id: AccountId = row.parsed("account_id")?;
        self.facts.tokens.insert(token, id);
        let account = self.account_facts(id, now).await?;
        if let Some(found) = account.and_then(|account| find_access_token(account, token)) {
            return Ok(Some(found));
        }
        // As with sessions: another node made it a moment ago.
        let account = self.load_and_keep_account(id).await?;
        Ok(account.and_then(|account| find_access_token(account, token)))
    }

    /// An account with everything that decides for it.
    pub async fn account_facts(
        &self,
        id: AccountId,
        now: Timestamp,
    ) -> Result<Option<Arc<AccountFacts>>, StoreError> {
        if self.facts.is_trusted(now)
            && let Some(account) = self.facts.accounts.get(&id)
        {
            return Ok(Some(account));
        }
        self.load_and_keep_account(id).await
    }

    async fn load_and_keep_account(&self, id: AccountId) -> Result<Option<Arc<AccountFacts>>, StoreError> {
        let stamp = self.facts.sequence.load(Ordering::Acquire);
        let Some(account) = Box::pin(self.load_account_facts(id)).await? else { return Ok(None) };
        let account = Arc::new(account);
        self.facts.keep(stamp, &Change::Account(id), || self.facts.accounts.insert(id, Arc::clone(&account)));
        Ok(Some(account))
    }

    async fn load_account_facts(&self, id: AccountId) -> Result<Option<AccountFacts>, StoreError> {
        let mut reader = self.reader();
        let sql = "SELECT n.spelled, a.full_name, a.disabled, a.operator, \
                   (SELECT e.address FROM account_email e WHERE e.account_id = a.id AND e.proved_at IS NOT NULL \
                    ORDER BY e.is_primary DESC, e.proved_at LIMIT 1) AS email \
                   FROM account a JOIN name n ON n.name_key = a.name_key WHERE a.id = $1";
        let Some(row) = reader.fetch_optional(sql, values![id]).await? else { return Ok(None) };
        let mut account = AccountFacts {
            id,
            name: row.text("spelled")?,
            full_name: row.text("full_name")?,
            email: row.opt_text("email")?.unwrap_or_default(),
            disabled: row.flag("disabled")?,
            operator: row.flag("operator")?,
            memberships: Vec::new(),
            sessions: Vec::new(),
            access_tokens: Vec::new(),
        };
        let sql = "SELECT organization_id, role, external_collaborator FROM membership WHERE account_id = $1";
        for row in reader.fetch_all(sql, values![id]).await? {
            account.memberships.push(MembershipFacts {
                organization: row.parsed("organization_id")?,
                role: row.parsed("role")?,
                external_collaborator: row.flag("external_collaborator")?,
            });
        }
        let sql = "SELECT s.id, s.token_hash, s.created_at, s.authenticated_at, s.last_seen_at, \
                   o.organization_id, o.epoch, o.authenticated_at AS sso_at FROM (SELECT * FROM browser_session \
                   WHERE account_id = $1 ORDER BY last_seen_at DESC LIMIT 100) s \
                   LEFT JOIN sso_session o ON o.session_id = s.id ORDER BY s.last_seen_at DESC, s.id";
        for row in reader.fetch_all(sql, values![id]).await? {
            let session: SessionId = row.parsed("id")?;
            if account.sessions.last().is_none_or(|last| last.id != session) {
                account.sessions.push(SessionFacts {
                    id: session,
                    token_hash: row.known("token_hash", TokenHash::from_text)?,
                    created_at: row.time("created_at")?,
                    authenticated_at: row.time("authenticated_at")?,
                    last_seen_at: row.time("last_seen_at")?,
                    sso: Vec::new(),
                    hosts: Vec::new(),
                });
            }
            // The columns of a session without SSO are NULL.
            if row.opt_text("organization_id")?.is_some()
                && let Some(session) = account.sessions.last_mut()
            {
                session.sso.push(SsoFacts {
                    organization: row.parsed("organization_id")?,
                    epoch: row.int("epoch")?,
                    authenticated_at: row.time("sso_at")?,
                });
            }
        }
        let sql = "SELECT h.session_id, h.token_hash, h.host FROM browser_session s \
                   JOIN host_session h ON h.session_id = s.id WHERE s.account_id = $1";
        for row in reader.fetch_all(sql, values![id]).await? {
            let session: SessionId = row.parsed("session_id")?;
            if let Some(session) = account.sessions.iter_mut().find(|s| s.id == session) {
                session.hosts.push((row.known("token_hash", TokenHash::from_text)?, row.text("host")?));
            }
        }
        // An authorisation without an SSO of its own epoch is worth nothing, and is left out.
        let sql = "SELECT t.id, t.token_hash, t.ceiling, t.expires_at, t.last_used_at, m.organization_id, \
                   m.last_sso_epoch, m.last_sso_at FROM access_token t \
                   LEFT JOIN token_authorization z ON z.token_id = t.id \
                   LEFT JOIN membership m ON m.organization_id = z.organization_id AND m.account_id = t.account_id \
                   AND m.last_sso_epoch = z.epoch WHERE t.account_id = $1 ORDER BY t.id LIMIT 5000";
        for row in reader.fetch_all(sql, values![id]).await? {
            let token: AccessTokenId = row.parsed("id")?;
            if account.access_tokens.last().is_none_or(|last| last.id != token) {
                account.access_tokens.push(AccessTokenFacts {
                    id: token,
                    token_hash: row.known("token_hash", TokenHash::from_text)?,
                    ceiling: row.parsed("ceiling")?,
                    expires_at: row.time("expires_at")?,
                    last_used_at: row.opt_int("last_used_at")?.map(Timestamp::from_millis),
                    authorizations: Vec::new(),
                });
            }
            if let (Some(epoch), Some(last_sso_at)) =
                (row.opt_int("last_sso_epoch")?, row.opt_int("last_sso_at")?)
                && let Some(token) = account.access_tokens.last_mut()
            {
                token.authorizations.push(AuthorizationFacts {
                    organization: row.parsed("organization_id")?,
                    epoch,
                    last_sso_at: Timestamp::from_millis(last_sso_at),
                });
            }
        }
        // Most lists have one entry, for which a growing list keeps room for four: three quarters of what is cached.
        for session in &mut account.sessions {
            session.sso.shrink_to_fit();
            session.hosts.shrink_to_fit();
        }
        account.sessions.shrink_to_fit();
        for token in &mut account.access_tokens {
            token.authorizations.shrink_to_fit();
        }
        account.access_tokens.shrink_to_fit();
        account.memberships.shrink_to_fit();
        Ok(Some(account))
    }

    /// The organization of this name (in lower case), deleted ones too; `None` if nobody ever had the name.
    pub async fn organization_facts(
        &self,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<Arc<OrganizationFacts>>, StoreError> {
        // Strangers ask for any name there is: what can't be one is neither looked up nor remembered.
        if key.len() > NAME_BYTES_MAX {
            return Ok(None);
        }
        if self.facts.is_trusted(now)
            && let Some(organization) = self.facts.organizations.get(key)
        {
            return Ok(organization);
        }
        Box::pin(self.load_organization_facts(key)).await
    }

    async fn load_organization_facts(&self, key: &str) -> Result<Option<Arc<OrganizationFacts>>, StoreError> {
        let stamp = self.facts.sequence.load(Ordering::Acquire);
        let sql = "SELECT o.id, n.spelled, o.display_name, o.plan, o.session_timeout, o.token_sso_days, o.deleted_at, c.live, \
                   c.enforcement, c.epoch FROM organization o JOIN name n ON n.name_key = o.name_key \
                   LEFT JOIN connection c ON c.organization_id = o.id WHERE o.name_key = $1";
        let organization = match self.reader().fetch_optional(sql, values![key]).await? {
            None => None,
            Some(row) => {
                let enforcement = match row.opt_int("live")? {
                    None => None,
                    Some(_) => Some(row.known("enforcement", Enforcement::from_text)?),
                };
                Some(Arc::new(OrganizationFacts {
                    id: row.parsed("id")?,
                    name: Name::from_store(row.text("spelled")?),
                    display_name: row.text("display_name")?,
                    plan: row.known("plan", Plan::from_text)?,
                    sso: enforcement,
                    epoch: row.opt_int("epoch")?.unwrap_or(0),
                    session_timeout: Lifetime::from_millis(row.int("session_timeout")?),
                    token_sso_days: row.int("token_sso_days")?,
                    deleted: row.opt_int("deleted_at")?.is_some(),
                }))
            }
        };
        self.facts.keep(stamp, &Change::Organization(key.to_owned()), || {
            self.facts.organizations.insert(key.to_owned(), organization.clone());
        });
        Ok(organization)
    }

    /// Whether a resource is registered as public. One that nobody registered is private.
    pub async fn resource_is_public(
        &self,
        organization: OrganizationId,
        prefix: &str,
        name_key: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        if name_key.len() > RESOURCE_NAME_BYTES_MAX {
            return Ok(false);
        }
        if self.facts.is_trusted(now)
            && let Some(public) = self.facts.resources.get(&ResourceRef(organization, prefix, name_key))
        {
            return Ok(public);
        }
        Box::pin(self.load_resource_is_public(organization, prefix, name_key)).await
    }

    async fn load_resource_is_public(
        &self,
        organization: OrganizationId,
        prefix: &str,
        name_key: &str,
    ) -> Result<bool, StoreError> {
        let stamp = self.facts.sequence.load(Ordering::Acquire);
        let sql =
            "SELECT is_public FROM resource WHERE organization_id = $1 AND prefix = $2 AND name_key = $3";
        let row = self.reader().fetch_optional(sql, values![organization, prefix, name_key]).await?;
        let public = row.map(|row| row.flag("is_public")).transpose()?.unwrap_or(false);
        let (prefix, name_key) = (prefix.to_owned(), name_key.to_owned());
        let key = (organization, prefix.clone(), name_key.clone());
        let change = Change::Resource { organization, prefix, name_key };
        self.facts.keep(stamp, &change, || self.facts.resources.insert(key, public));
        Ok(public)
    }
}

/// The session whose own token or one of whose host tokens this is; whether it is a host's.
fn find_session(account: Arc<AccountFacts>, token: TokenHash) -> Option<(Arc<AccountFacts>, usize, bool)> {
    let found = account.sessions.iter().enumerate().find_map(|(place, session)| {
        if session.token_hash == token {
            Some((place, false))
        } else {
            session.hosts.iter().any(|(host_token, _)| *host_token == token).then_some((place, true))
        }
    });
    found.map(|(place, host)| (account, place, host))
}

fn find_access_token(account: Arc<AccountFacts>, token: TokenHash) -> Option<(Arc<AccountFacts>, usize)> {
    let place = account.access_tokens.iter().position(|known| known.token_hash == token)?;
    Some((account, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(cache: &FactsCache, stamp: u64, change: &Change) -> bool {
        let mut kept = false;
        cache.keep(stamp, change, || kept = true);
        kept
    }

    #[test]
    fn rule_16_a_fact_whose_loading_began_before_its_change_is_not_kept() {
        let cache = FactsCache::new();
        cache.begin_at(0, Timestamp::from_millis(0));
        let (mine, other) =
            (Change::Organization("acme".to_owned()), Change::Organization("globex".to_owned()));
        let stamp = cache.sequence.load(Ordering::Acquire);
        assert!(kept(&cache, stamp, &mine));
        cache.forget(1, mine.clone());
        assert!(!kept(&cache, stamp, &mine), "what was loaded may be from before the change");
        assert!(kept(&cache, stamp, &other), "nothing was said of this one");
        let later = cache.sequence.load(Ordering::Acquire);
        assert!(kept(&cache, later, &mine), "loaded after the change");
        cache.forget_everything();
        assert!(!kept(&cache, later, &other));
    }

    #[test]
    fn rule_16_a_nodes_own_change_is_carried_out_once_and_anothers_always() {
        let cache = FactsCache::new();
        cache.begin_at(0, Timestamp::from_millis(0));
        let change = Change::Organization("acme".to_owned());
        cache.forget_own(1, std::slice::from_ref(&change));
        let after_own = cache.sequence.load(Ordering::Acquire);
        assert!(kept(&cache, after_own, &change));
        cache.forget(1, change.clone());
        assert!(kept(&cache, after_own, &change), "the reading of its own commit");
        cache.forget(2, change.clone());
        assert!(!kept(&cache, after_own, &change), "another node's commit");
    }
}
