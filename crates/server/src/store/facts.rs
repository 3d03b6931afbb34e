//! What the gate knows without asking the database: a bounded cache of facts with a lease (rule 16).
//!
//! A loaded fact is kept only if nothing changed about it since before its loading began. When the last good reading of
//! changes is older than the lease, nothing is trusted and every question goes to the database.
//! Most of what is kept is kept a million times, so its size is counted (ADR 0039).
//! Never here: decisions. Read next: `facts_table.rs`, `changes.rs`.

use doorward_core::connection::Enforcement;
use doorward_core::gate_decision::{self, ExternalCollaborator, Sso};
use doorward_core::ids::{AccessTokenId, AccountId, OrganizationId, SessionId};
use doorward_core::membership::Role;
use doorward_core::name::{NAME_BYTES_MAX, Name};
use doorward_core::secret::TokenHash;
use doorward_core::time::{Lifetime, Timestamp, WholeSecond};
use quick_cache::Equivalent;
use quick_cache::sync::Cache;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::database::{Query as _, Reader, Row, StoreError, Value};
use super::facts_index::Key;
use super::facts_table::Table;
use super::few::{Few, Rare};
use super::organizations::{RESOURCE_NAME_BYTES_MAX, external_collaborator};
use super::texts::Texts;
use super::{Change, Organization, Plan, Store};
use crate::values;

/// How long the cache is trusted without a good reading of changes (decisions.md).
const LEASE: Lifetime = Lifetime::from_seconds(5);

/// Notes of changes are kept at least as long as a load can take.
const NOTES_MAX: usize = 100_000;

/// Accounts kept at most: some 270 bytes each.
const ACCOUNTS_MAX: usize = 1_000_000;
/// Organizations kept at most: some 120 bytes each.
const ORGANIZATIONS_MAX: usize = 200_000;
/// Names kept at most that nobody has. Strangers ask for any, and push out nothing but each other's.
const UNOWNED_NAMES_MAX: usize = 20_000;
/// Resources kept at most, of organizations that have registered any.
const RESOURCES_MAX: usize = 200_000;

/// An account with everything that decides for it: memberships, sessions, and the SSO done in each.
#[derive(Debug)]
pub struct AccountFacts {
    /// The account.
    pub id: AccountId,
    /// Name, person's name and address.
    texts: Texts<60>,
    /// Switched off by the operator.
    pub disabled: bool,
    /// May do what operators may.
    pub operator: bool,
    /// Its memberships.
    pub memberships: Few<MembershipFacts>,
    /// Its browser sessions.
    pub sessions: Few<SessionFacts>,
    /// Its personal access tokens: mostly none.
    pub access_tokens: Rare<AccessTokenFacts>,
}

impl AccountFacts {
    /// An account that is nowhere a member and signed in nowhere, for a question about somebody of whom nothing may be told.
    pub fn of_nobody(name: &str) -> Self {
        Self {
            id: AccountId::new(0, [0; 10]),
            texts: Texts::new([name, "", ""]),
            disabled: false,
            operator: false,
            memberships: Few::default(),
            sessions: Few::default(),
            access_tokens: Rare::default(),
        }
    }

    /// Its name as created.
    pub fn name(&self) -> &str {
        self.texts.text(0)
    }

    /// The person's name; may be empty.
    pub fn full_name(&self) -> &str {
        self.texts.text(1)
    }

    /// The primary proved address; empty if there is none (rule 13).
    pub fn email(&self) -> &str {
        self.texts.text(2)
    }
}

/// One membership.
#[derive(Clone, Copy, Debug)]
pub struct MembershipFacts {
    /// The organization.
    pub organization: OrganizationId,
    /// The role.
    pub role: Role,
    spared: Spared,
}

impl MembershipFacts {
    /// As the decision takes it.
    pub fn for_decision(&self) -> gate_decision::Membership {
        let external_collaborator = self.external_collaborator();
        gate_decision::Membership { role: self.role, external_collaborator }
    }

    /// Whether it reaches the organization without SSO (hub-sso.md M8).
    pub fn external_collaborator(&self) -> ExternalCollaborator {
        match self.spared {
            Spared::NEVER => ExternalCollaborator::No,
            Spared::ALWAYS => ExternalCollaborator::Yes,
            Spared(end) => ExternalCollaborator::Until(Timestamp::from_seconds(end.into())),
        }
    }
}

/// Until when a member is spared SSO, in whole seconds: a quarter of an `ExternalCollaborator`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Spared(u32);

impl Spared {
    const NEVER: Self = Self(0);
    const ALWAYS: Self = Self(u32::MAX);
}

impl From<ExternalCollaborator> for Spared {
    fn from(external: ExternalCollaborator) -> Self {
        match external {
            ExternalCollaborator::No => Self::NEVER,
            ExternalCollaborator::Yes => Self::ALWAYS,
            // Never later than it was said, and never by rounding what has no end.
            ExternalCollaborator::Until(end) => {
                let seconds = end.millis().div_euclid(1000).clamp(1, i64::from(u32::MAX) - 1);
                Self(u32::try_from(seconds).unwrap_or(1))
            }
        }
    }
}

/// One browser session.
#[derive(Debug)]
pub struct SessionFacts {
    /// Stays the same when the cookie's secret changes.
    pub id: SessionId,
    /// Of the cookie's secret on our own host.
    pub token: TokenMark,
    created_at: WholeSecond,
    authenticated_at: WholeSecond,
    last_seen_at: WholeSecond,
    /// The SSO done in it.
    pub sso: Few<SsoFacts>,
    /// Its sessions on applications' hosts.
    pub hosts: Few<HostFacts>,
}

impl SessionFacts {
    /// When it began, to the second.
    pub fn created_at(&self) -> Timestamp {
        self.created_at.into()
    }

    /// When the password was last proved in it, to the second.
    pub fn authenticated_at(&self) -> Timestamp {
        self.authenticated_at.into()
    }

    /// When it was last used, to within an hour.
    pub fn last_seen_at(&self) -> Timestamp {
        self.last_seen_at.into()
    }
}

/// A browser session's session on an application's host.
#[derive(Debug)]
pub struct HostFacts {
    /// Of the cookie's secret on that host.
    pub token: TokenMark,
    /// The host; there are few, so all sessions share their names. Not `Arc<str>`, which takes two words.
    pub host: Arc<String>,
}

/// Half of a token's hash, to recognise the token by: 128 bits, which nobody meets by guessing at a secret that we drew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenMark([u8; 16]);

impl From<TokenHash> for TokenMark {
    fn from(hash: TokenHash) -> Self {
        Self(hash.as_bytes().first_chunk().copied().unwrap_or_default())
    }
}

impl TokenMark {
    /// Octets of a hash of octets that we drew: nobody can steer them.
    fn key(self) -> Key {
        Key::new(u64::from_ne_bytes(self.0.first_chunk().copied().unwrap_or_default()))
    }
}

/// SSO done for one organization.
#[derive(Clone, Copy, Debug)]
pub struct SsoFacts {
    /// The organization.
    pub organization: OrganizationId,
    epoch: u32,
    authenticated_at: WholeSecond,
}

impl SsoFacts {
    /// The connection's epoch then; another one now ends the session.
    pub fn epoch(&self) -> i64 {
        self.epoch.into()
    }

    /// When the provider said who this is, to the second.
    pub fn authenticated_at(&self) -> Timestamp {
        self.authenticated_at.into()
    }
}

/// One personal access token.
#[derive(Debug)]
pub struct AccessTokenFacts {
    /// Its id.
    pub id: AccessTokenId,
    /// Its mark.
    pub token: TokenMark,
    /// The most that it gives.
    pub ceiling: Role,
    /// When it is over.
    pub expires_at: Timestamp,
    /// When it was last used, to within an hour.
    pub last_used_at: Option<Timestamp>,
    /// The organizations with SSO that its owner lets it reach.
    pub authorizations: Box<[AuthorizationFacts]>,
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
    /// Its name as created, and what it is called on pages.
    texts: Texts<36>,
    /// Its plan.
    pub plan: Plan,
    /// SSO: `None` is off.
    pub sso: Option<Enforcement>,
    epoch: u32,
    session_timeout_seconds: u32,
    token_sso_days: u32,
    /// Deleted: its name stays owned, its pages are gone.
    pub deleted: bool,
    /// Has registered resources: otherwise all are private, and none need be asked for.
    pub has_resources: bool,
}

impl OrganizationFacts {
    /// Its name as created.
    pub fn name(&self) -> &str {
        self.texts.text(0)
    }

    /// The connection's epoch: an SSO session of another one is over.
    pub fn epoch(&self) -> i64 {
        self.epoch.into()
    }

    /// How long an SSO session lasts.
    pub fn session_timeout(&self) -> Lifetime {
        Lifetime::from_seconds(self.session_timeout_seconds.into())
    }

    /// For how many days after their owner's last SSO tokens reach it.
    pub fn token_sso_days(&self) -> i64 {
        self.token_sso_days.into()
    }

    /// As the decision takes it.
    pub fn for_decision(&self) -> gate_decision::OrganizationFacts<'_> {
        let session_timeout = self.session_timeout();
        let sso = self.sso.map_or(Sso::Off, |enforcement| Sso::On { enforcement, session_timeout });
        gate_decision::OrganizationFacts { id: self.id, name: self.name(), sso }
    }

    /// The organization as its pages know it; nothing if it was deleted.
    pub fn organization(&self) -> Option<Organization> {
        (!self.deleted).then(|| Organization {
            id: self.id,
            name: Name::from_store(self.name().to_owned()),
            display_name: self.texts.text(1).to_owned(),
            plan: self.plan,
            session_timeout: self.session_timeout(),
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

/// Names of hosts that are kept before those that nobody uses are dropped.
const HOSTS_MAX: usize = 10_000;

/// The cache. One to a store.
pub struct FactsCache {
    /// Found by id, and by each of its sessions' and access tokens.
    accounts: Table<AccountFacts>,
    /// Found by name, in lower case, and by id.
    organizations: Table<OrganizationFacts>,
    /// Names that nobody has.
    unowned: Cache<String, ()>,
    resources: Cache<ResourceKey, bool>,
    /// The names of applications' hosts, each once.
    hosts: Mutex<HashSet<Arc<String>>>,
    hashing: RandomState,
    /// Grows with each forgetting; a load is stamped with it.
    sequence: AtomicU64,
    /// How often an organization was forgotten, or everything.
    organization_changes: AtomicU64,
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
        let hashing = RandomState::new();
        let (for_accounts, for_organizations) = (hashing.clone(), hashing.clone());
        Self {
            accounts: Table::new(ACCOUNTS_MAX, move |account| account_keys(account, &for_accounts)),
            organizations: Table::new(ORGANIZATIONS_MAX, move |organization: &OrganizationFacts| {
                let name = name_key(&organization.name().to_ascii_lowercase(), &for_organizations);
                vec![name, organization_key(organization.id, &for_organizations)]
            }),
            unowned: Cache::new(UNOWNED_NAMES_MAX),
            resources: Cache::new(RESOURCES_MAX),
            hosts: Mutex::default(),
            hashing,
            sequence: AtomicU64::new(0),
            organization_changes: AtomicU64::new(0),
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

    /// A number that changes whenever everything is forgotten: after a restore, among other things. What was read from
    /// the store under another number is of another time.
    pub fn forgettings(&self) -> u64 {
        self.notes().everything
    }

    /// A number that changes whenever something changes about any organization. What was made from organizations that were
    /// asked for after it was read, and is kept, is of another time under another number.
    pub fn organization_changes(&self) -> u64 {
        self.organization_changes.load(Ordering::Acquire)
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
    pub(super) fn forget_own(&self, n: i64, changes: impl IntoIterator<Item = Change>) {
        let mut notes = self.notes();
        if self.read_up_to().is_some_and(|seen| n > seen) {
            notes.own.insert(n);
        }
        for change in changes {
            self.forget_noted(&mut notes, change);
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
        self.accounts.clear();
        self.organizations.clear();
        self.unowned.clear();
        self.resources.clear();
        self.organization_changes.fetch_add(1, Ordering::Release);
    }

    fn forget_noted(&self, notes: &mut Notes, change: Change) {
        if notes.forgotten.len() >= NOTES_MAX {
            // Loads under way are refused instead of keeping ever more notes.
            notes.everything = self.sequence.load(Ordering::Acquire) + 1;
            notes.forgotten.clear();
        }
        let at = self.sequence.fetch_add(1, Ordering::AcqRel) + 1;
        match &change {
            Change::Account(id) => self.accounts.remove(account_key(*id, &self.hashing)),
            Change::Organization(key) => {
                self.organizations.remove(name_key(key, &self.hashing));
                self.unowned.remove(key);
                // Last: whoever reads the new number finds the old facts no more.
                self.organization_changes.fetch_add(1, Ordering::Release);
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
        self.organizations.len() + self.unowned.len()
    }

    /// How many accounts are in the cache, for metrics.
    pub fn accounts_cached(&self) -> usize {
        self.accounts.len()
    }

    /// The account with this token among its sessions'.
    fn account_of(&self, token: TokenMark) -> Option<FoundSession> {
        let (account, (place, on_host)) =
            self.accounts.get(token.key(), |account| place_of(account, token))?;
        Some((account, place, on_host))
    }

    fn account(&self, id: AccountId) -> Option<Arc<AccountFacts>> {
        let found =
            self.accounts.get(account_key(id, &self.hashing), |account| (account.id == id).then_some(()));
        found.map(|(account, ())| account)
    }

    fn organization(&self, key: &str) -> Option<Arc<OrganizationFacts>> {
        let is_it = |organization: &OrganizationFacts| {
            organization.texts.octets(0).eq_ignore_ascii_case(key.as_bytes()).then_some(())
        };
        let found = self.organizations.get(name_key(key, &self.hashing), is_it);
        found.map(|(organization, ())| organization)
    }

    fn organization_of_id(&self, id: OrganizationId) -> Option<Arc<OrganizationFacts>> {
        let is_it = |organization: &OrganizationFacts| (organization.id == id).then_some(());
        let found = self.organizations.get(organization_key(id, &self.hashing), is_it);
        found.map(|(organization, ())| organization)
    }

    /// The one copy of a host's name.
    fn shared_host(&self, host: String) -> Arc<String> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = hosts.get(&host) {
            return Arc::clone(known);
        }
        // Applications have few; where each organization has a host, what no session uses any more makes room.
        if hosts.len() >= HOSTS_MAX {
            hosts.retain(|host| Arc::strong_count(host) > 1);
        }
        let host = Arc::new(host);
        hosts.insert(Arc::clone(&host));
        host
    }
}

/// An account with the place of one of its sessions, and whether the token that led there is a host's.
type FoundSession = (Arc<AccountFacts>, usize, bool);

fn account_key(id: AccountId, hashing: &RandomState) -> Key {
    Key::new(hashing.hash_one(id))
}

fn organization_key(id: OrganizationId, hashing: &RandomState) -> Key {
    Key::new(hashing.hash_one(id))
}

fn name_key(key: &str, hashing: &RandomState) -> Key {
    Key::new(hashing.hash_one(key))
}

fn account_keys(account: &AccountFacts, hashing: &RandomState) -> Vec<Key> {
    let tokens = account.sessions.iter().flat_map(|session| {
        let on_hosts = session.hosts.iter().map(|host| host.token);
        std::iter::once(session.token).chain(on_hosts)
    });
    let access_tokens = account.access_tokens.iter().map(|token| token.token);
    std::iter::once(account_key(account.id, hashing))
        .chain(tokens.chain(access_tokens).map(TokenMark::key))
        .collect()
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
    ) -> Result<Option<FoundSession>, StoreError> {
        if let Some(found) = self.known_session(token, now) {
            return Ok(Some(found));
        }
        // Nobody's, or of a session that was made since the account was loaded.
        let account = Box::pin(self.load_and_keep_account(ACCOUNT_BY_TOKEN, values![token])).await?;
        Ok(account.and_then(|account| {
            let (place, on_host) = place_of(&account, token.into())?;
            Some((account, place, on_host))
        }))
    }

    /// The same as far as it is known without asking the database.
    pub fn known_session(&self, token: TokenHash, now: Timestamp) -> Option<FoundSession> {
        if self.facts.is_trusted(now) { self.facts.account_of(token.into()) } else { None }
    }

    /// The account that this personal access token belongs to, with the token's place in `access_tokens`; `None` for a
    /// token that nobody has. Whether it is over is not judged here.
    pub async fn access_token_facts(
        &self,
        token: TokenHash,
        now: Timestamp,
    ) -> Result<Option<(Arc<AccountFacts>, usize)>, StoreError> {
        let mark = TokenMark::from(token);
        if self.facts.is_trusted(now)
            && let Some(found) =
                self.facts.accounts.get(mark.key(), |account| access_token_place(account, mark))
        {
            return Ok(Some(found));
        }
        let account = Box::pin(self.load_and_keep_account(ACCOUNT_BY_ACCESS_TOKEN, values![token])).await?;
        Ok(account.and_then(|account| {
            let place = access_token_place(&account, mark)?;
            Some((account, place))
        }))
    }

    /// An account with everything that decides for it.
    pub async fn account_facts(
        &self,
        id: AccountId,
        now: Timestamp,
    ) -> Result<Option<Arc<AccountFacts>>, StoreError> {
        if self.facts.is_trusted(now)
            && let Some(account) = self.facts.account(id)
        {
            return Ok(Some(account));
        }
        Box::pin(self.load_and_keep_account(ACCOUNT_BY_ID, values![id])).await
    }

    async fn load_and_keep_account(
        &self,
        sql: &'static str,
        by: Vec<Value>,
    ) -> Result<Option<Arc<AccountFacts>>, StoreError> {
        let stamp = self.facts.sequence.load(Ordering::Acquire);
        let mut reader = self.reader();
        let Some(row) = reader.fetch_optional(sql, by).await? else { return Ok(None) };
        let account = Arc::new(self.load_account_facts(&mut reader, &row).await?);
        let change = Change::Account(account.id);
        self.facts.keep(stamp, &change, || self.facts.accounts.insert(Arc::clone(&account)));
        Ok(Some(account))
    }

    /// What hangs on an account, of which `row` is.
    async fn load_account_facts(&self, reader: &mut Reader, row: &Row) -> Result<AccountFacts, StoreError> {
        let id: AccountId = row.parsed("id")?;
        let sql = "SELECT organization_id, role, external_collaborator, external_until FROM membership WHERE account_id = $1";
        let mut memberships = Vec::new();
        for row in reader.fetch_all(sql, values![id]).await? {
            memberships.push(MembershipFacts {
                organization: row.parsed("organization_id")?,
                role: row.parsed("role")?,
                spared: external_collaborator(&row)?.into(),
            });
        }
        let sql = "SELECT h.session_id, h.token_hash, h.host FROM browser_session s \
                   JOIN host_session h ON h.session_id = s.id WHERE s.account_id = $1";
        let mut hosts: HashMap<SessionId, Vec<HostFacts>> = HashMap::new();
        for row in reader.fetch_all(sql, values![id]).await? {
            hosts.entry(row.parsed("session_id")?).or_default().push(HostFacts {
                token: row.known("token_hash", TokenHash::from_text)?.into(),
                host: self.facts.shared_host(row.text("host")?),
            });
        }
        let sql = "SELECT s.id, s.token_hash, s.created_at, s.authenticated_at, s.last_seen_at, \
                   o.organization_id, o.epoch, o.authenticated_at AS sso_at FROM (SELECT * FROM browser_session \
                   WHERE account_id = $1 ORDER BY last_seen_at DESC LIMIT 100) s \
                   LEFT JOIN sso_session o ON o.session_id = s.id ORDER BY s.last_seen_at DESC, s.id";
        let rows = reader.fetch_all(sql, values![id]).await?;
        let mut sessions = Vec::new();
        for rows in rows.chunk_by(|a, b| a.text("id").ok() == b.text("id").ok()) {
            let Some(row) = rows.first() else { continue };
            let session: SessionId = row.parsed("id")?;
            let mut sso = Vec::new();
            for row in rows {
                // The columns of a session without SSO are NULL.
                if row.opt_text("organization_id")?.is_some() {
                    sso.push(SsoFacts {
                        organization: row.parsed("organization_id")?,
                        epoch: small(row.int("epoch")?)?,
                        authenticated_at: row.time("sso_at")?.into(),
                    });
                }
            }
            sessions.push(SessionFacts {
                id: session,
                token: row.known("token_hash", TokenHash::from_text)?.into(),
                created_at: row.time("created_at")?.into(),
                authenticated_at: row.time("authenticated_at")?.into(),
                last_seen_at: row.time("last_seen_at")?.into(),
                sso: sso.into(),
                hosts: hosts.remove(&session).unwrap_or_default().into(),
            });
        }
        // An authorisation without an SSO of its own epoch is worth nothing, and is left out.
        let sql = "SELECT t.id, t.token_hash, t.ceiling, t.expires_at, t.last_used_at, m.organization_id, \
                   m.last_sso_epoch, m.last_sso_at FROM access_token t \
                   LEFT JOIN token_authorization z ON z.token_id = t.id \
                   LEFT JOIN membership m ON m.organization_id = z.organization_id AND m.account_id = t.account_id \
                   AND m.last_sso_epoch = z.epoch WHERE t.account_id = $1 ORDER BY t.id LIMIT 5000";
        let rows = reader.fetch_all(sql, values![id]).await?;
        let mut access_tokens = Vec::new();
        for rows in rows.chunk_by(|a, b| a.text("id").ok() == b.text("id").ok()) {
            let Some(row) = rows.first() else { continue };
            let mut authorizations = Vec::new();
            for row in rows {
                if let (Some(epoch), Some(last_sso_at)) =
                    (row.opt_int("last_sso_epoch")?, row.opt_int("last_sso_at")?)
                {
                    authorizations.push(AuthorizationFacts {
                        organization: row.parsed("organization_id")?,
                        epoch,
                        last_sso_at: Timestamp::from_millis(last_sso_at),
                    });
                }
            }
            access_tokens.push(AccessTokenFacts {
                id: row.parsed("id")?,
                token: row.known("token_hash", TokenHash::from_text)?.into(),
                ceiling: row.parsed("ceiling")?,
                expires_at: row.time("expires_at")?,
                last_used_at: row.opt_int("last_used_at")?.map(Timestamp::from_millis),
                authorizations: authorizations.into(),
            });
        }
        let email = row.opt_text("email")?.unwrap_or_default();
        Ok(AccountFacts {
            id,
            texts: Texts::new([&row.text("spelled")?, &row.text("full_name")?, &email]),
            disabled: row.flag("disabled")?,
            operator: row.flag("operator")?,
            memberships: memberships.into(),
            sessions: sessions.into(),
            access_tokens: access_tokens.into(),
        })
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
        if self.facts.is_trusted(now) {
            if let Some(organization) = self.facts.organization(key) {
                return Ok(Some(organization));
            }
            if self.facts.unowned.get(key).is_some() {
                return Ok(None);
            }
        }
        Box::pin(self.load_organization_facts(key)).await
    }

    async fn load_organization_facts(&self, key: &str) -> Result<Option<Arc<OrganizationFacts>>, StoreError> {
        let stamp = self.facts.sequence.load(Ordering::Acquire);
        let row = self.reader().fetch_optional(ORGANIZATION_BY_NAME, values![key]).await?;
        let organization = row.map(|row| organization_of_row(&row)).transpose()?.map(Arc::new);
        self.facts.keep(stamp, &Change::Organization(key.to_owned()), || match &organization {
            Some(organization) => self.facts.organizations.insert(Arc::clone(organization)),
            None => self.facts.unowned.insert(key.to_owned(), ()),
        });
        Ok(organization)
    }

    /// The organizations that an account is a member of, deleted ones too, in no order.
    pub async fn organizations_of(
        &self,
        account: &AccountFacts,
        now: Timestamp,
    ) -> Result<Vec<Arc<OrganizationFacts>>, StoreError> {
        let ids = account.memberships.iter().map(|membership| membership.organization);
        if self.facts.is_trusted(now)
            && let Some(all) = ids.map(|id| self.facts.organization_of_id(id)).collect()
        {
            return Ok(all);
        }
        Box::pin(self.load_organizations_of_account(account.id, now)).await
    }

    async fn load_organizations_of_account(
        &self,
        account: AccountId,
        now: Timestamp,
    ) -> Result<Vec<Arc<OrganizationFacts>>, StoreError> {
        let stamp = self.facts.sequence.load(Ordering::Acquire);
        let rows = self.reader().fetch_all(ORGANIZATIONS_OF_ACCOUNT, values![account]).await?;
        let mut all = Vec::with_capacity(rows.len());
        for row in &rows {
            // What is known already stays: whoever remembers it, as assertions do, would take a new copy for a change.
            if self.facts.is_trusted(now)
                && let Some(known) = self.facts.organization_of_id(row.parsed("id")?)
            {
                all.push(known);
                continue;
            }
            let organization = Arc::new(organization_of_row(row)?);
            let change = Change::Organization(organization.name().to_ascii_lowercase());
            self.facts.keep(stamp, &change, || self.facts.organizations.insert(Arc::clone(&organization)));
            all.push(organization);
        }
        Ok(all)
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

/// The place of the session whose own token or one of whose hosts' tokens this is; whether it is a host's.
fn place_of(account: &AccountFacts, token: TokenMark) -> Option<(usize, bool)> {
    account.sessions.iter().enumerate().find_map(|(place, session)| {
        if session.token == token {
            Some((place, false))
        } else {
            session.hosts.iter().any(|host| host.token == token).then_some((place, true))
        }
    })
}

/// The place of the access token that this is.
fn access_token_place(account: &AccountFacts, token: TokenMark) -> Option<usize> {
    account.access_tokens.iter().position(|known| known.token == token)
}

/// A number as facts keep it; what doesn't fit is refused, never another number.
fn small(number: i64) -> Result<u32, StoreError> {
    u32::try_from(number).map_err(|_| StoreError::Corrupt(format!("the number {number}")))
}

/// An organization as the gate knows it; `row` has the columns of `organization_columns`.
fn organization_of_row(row: &Row) -> Result<OrganizationFacts, StoreError> {
    let sso = match row.opt_int("live")? {
        None => None,
        Some(_) => Some(row.known("enforcement", Enforcement::from_text)?),
    };
    Ok(OrganizationFacts {
        id: row.parsed("id")?,
        texts: Texts::new([&row.text("spelled")?, &row.text("display_name")?, ""]),
        plan: row.known("plan", Plan::from_text)?,
        sso,
        epoch: small(row.opt_int("epoch")?.unwrap_or(0))?,
        // Rounded down: nothing lasts longer than it was said.
        session_timeout_seconds: small(Lifetime::from_millis(row.int("session_timeout")?).seconds())?,
        token_sso_days: small(row.int("token_sso_days")?)?,
        deleted: row.opt_int("deleted_at")?.is_some(),
        has_resources: row.opt_int("any_resource")?.is_some(),
    })
}

macro_rules! organization_columns {
    () => {
        "o.id, n.spelled, o.display_name, o.plan, o.session_timeout, o.token_sso_days, o.deleted_at, c.live, c.enforcement, \
         c.epoch, \
         (SELECT r.is_public FROM resource r WHERE r.organization_id = o.id LIMIT 1) AS any_resource"
    };
}

const ORGANIZATION_BY_NAME: &str = concat!(
    "SELECT ",
    organization_columns!(),
    " FROM organization o JOIN name n ON n.name_key = o.name_key LEFT JOIN connection c ON c.organization_id = o.id \
      WHERE o.name_key = $1"
);

const ORGANIZATIONS_OF_ACCOUNT: &str = concat!(
    "SELECT ",
    organization_columns!(),
    " FROM membership m JOIN organization o ON o.id = m.organization_id JOIN name n ON n.name_key = o.name_key \
      LEFT JOIN connection c ON c.organization_id = o.id WHERE m.account_id = $1"
);

const ACCOUNT_BY_ID: &str = "SELECT a.id, n.spelled, a.full_name, a.disabled, a.operator, \
     (SELECT e.address FROM account_email e WHERE e.account_id = a.id AND e.proved_at IS NOT NULL \
      ORDER BY e.is_primary DESC, e.proved_at LIMIT 1) AS email \
     FROM account a JOIN name n ON n.name_key = a.name_key WHERE a.id = $1";

const ACCOUNT_BY_TOKEN: &str = "SELECT a.id, n.spelled, a.full_name, a.disabled, a.operator, \
     (SELECT e.address FROM account_email e WHERE e.account_id = a.id AND e.proved_at IS NOT NULL \
      ORDER BY e.is_primary DESC, e.proved_at LIMIT 1) AS email \
     FROM account a JOIN name n ON n.name_key = a.name_key \
     WHERE a.id = COALESCE((SELECT account_id FROM browser_session WHERE token_hash = $1), \
      (SELECT s.account_id FROM host_session h JOIN browser_session s ON s.id = h.session_id WHERE h.token_hash = $1))";

const ACCOUNT_BY_ACCESS_TOKEN: &str = "SELECT a.id, n.spelled, a.full_name, a.disabled, a.operator, \
     (SELECT e.address FROM account_email e WHERE e.account_id = a.id AND e.proved_at IS NOT NULL \
      ORDER BY e.is_primary DESC, e.proved_at LIMIT 1) AS email \
     FROM account a JOIN name n ON n.name_key = a.name_key \
     WHERE a.id = (SELECT account_id FROM access_token WHERE token_hash = $1)";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::facts_table::{RECORD_OCTETS, octets_of_keys};

    fn kept(cache: &FactsCache, stamp: u64, change: &Change) -> bool {
        let mut kept = false;
        cache.keep(stamp, change, || kept = true);
        kept
    }

    /// What an allocation of so many octets takes from glibc: 8 octets of its own, in steps of 16.
    fn allocated(octets: usize) -> usize {
        (octets + 8).next_multiple_of(16).max(32)
    }

    /// A host session with its account and its share of an organization: what of each is allocated, their keys in the
    /// index, and their places in the table. The growth of a process is measured by bench/at_size.py; this says at once
    /// who made a fact larger.
    #[test]
    fn a_cached_host_session_takes_less_than_300_octets_among_ten_and_less_than_400_alone() {
        let arc = 16;
        let account = allocated(arc + size_of::<AccountFacts>());
        let organization = allocated(arc + size_of::<OrganizationFacts>());
        assert_eq!((account, organization), (240, 96));
        let account = account + octets_of_keys(3) + RECORD_OCTETS;
        let organization = organization + octets_of_keys(2) + RECORD_OCTETS;
        assert!(account + organization / 10 <= 300, "{account} + {organization} / 10");
        assert!(account + organization <= 400, "{account} + {organization}");
    }

    #[test]
    fn texts_of_usual_length_take_no_memory_of_their_own() {
        let account: Texts<60> = Texts::new(["filler-123456", "Filler 123456", "filler-123456@example.test"]);
        let organization: Texts<36> = Texts::new(["filler-12345-org", "Filler 12345", ""]);
        assert!(account.lies_here() && organization.lies_here());
    }

    #[test]
    fn a_number_that_does_not_fit_is_refused() {
        assert_eq!(small(u32::MAX.into()).ok(), Some(u32::MAX));
        assert!(small(i64::from(u32::MAX) + 1).is_err() && small(-1).is_err());
    }

    #[test]
    fn an_external_collaborator_reads_as_he_was_stored_to_the_second() {
        let kept = |external: ExternalCollaborator| {
            let organization = OrganizationId::new(0, [0; 10]);
            MembershipFacts { organization, role: Role::Read, spared: external.into() }
                .external_collaborator()
        };
        assert_eq!(kept(ExternalCollaborator::No), ExternalCollaborator::No);
        assert_eq!(kept(ExternalCollaborator::Yes), ExternalCollaborator::Yes);
        let end = ExternalCollaborator::Until(Timestamp::from_seconds(1_800_000_000));
        assert_eq!(kept(end), end);
        let (long_ago, for_ages) = (Timestamp::from_millis(-1), Timestamp::from_millis(i64::MAX));
        assert!(!kept(ExternalCollaborator::Until(long_ago)).spares(Timestamp::from_seconds(1_000_000_000)));
        assert!(matches!(kept(ExternalCollaborator::Until(for_ages)), ExternalCollaborator::Until(_)));
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
    fn rule_16_whatever_changes_an_organization_changes_the_number_that_is_kept_with_what_was_made_from_it() {
        let cache = FactsCache::new();
        cache.begin_at(0, Timestamp::from_millis(0));
        let mut before = cache.organization_changes();
        let mut changes = |what: &str, should: bool| {
            let after = cache.organization_changes();
            assert_eq!(after != before, should, "{what}");
            before = after;
        };
        let acme = Change::Organization("acme".to_owned());
        cache.forget_own(1, [acme.clone()]);
        changes("this node's own commit", true);
        cache.forget(1, acme.clone());
        changes("which is read later", false);
        cache.forget(2, acme);
        changes("another node's", true);
        cache.forget(3, Change::Account(AccountId::new(0, [0; 10])));
        changes("an account", false);
        cache.begin_at(9, Timestamp::from_millis(0));
        changes("everything", true);
    }

    #[test]
    fn rule_16_a_nodes_own_change_is_carried_out_once_and_anothers_always() {
        let cache = FactsCache::new();
        cache.begin_at(0, Timestamp::from_millis(0));
        let change = Change::Organization("acme".to_owned());
        cache.forget_own(1, [change.clone()]);
        let after_own = cache.sequence.load(Ordering::Acquire);
        assert!(kept(&cache, after_own, &change));
        cache.forget(1, change.clone());
        assert!(kept(&cache, after_own, &change), "the reading of its own commit");
        cache.forget(2, change.clone());
        assert!(!kept(&cache, after_own, &change), "another node's commit");
    }
}
