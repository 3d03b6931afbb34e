//! What Doorward keeps: one store over SQLite or PostgreSQL.
//!
//! Reads go through a `Reader`, writes through a `Transaction`, whose commit writes the audit events and the changes
//! that other nodes must hear of in the same breath (rule 8). Functions are grouped by noun in the files beside this
//! one; each that reads what an organization owns takes that organization's id (rule 7).
//! Never here: HTTP, decisions, a clock. No transaction is open while somebody waits for a provider (rule 9).

mod access_tokens;
mod accounts;
mod api_tokens;
mod assertion_keys;
mod attempts;
mod audit_keys;
mod audit_log;
mod backups;
mod changes;
mod connections;
mod counted_events;
mod crash;
mod database;
mod facts;
mod facts_index;
mod facts_table;
mod few;
mod held_identities;
mod housekeeping;
mod imports;
mod invitations;
mod join_links;
mod key_check;
mod migrations;
mod organizations;
mod recovery;
mod sealed_columns;
mod sessions;
mod texts;

pub use access_tokens::{
    AccessToken, EndedToken, NewAccessToken, ReachingToken, load_access_tokens, load_reaching_tokens,
    load_token_sso_days,
};
pub use accounts::{
    Account, AccountEmail, FailureCount, KnownBrowser, NewAccount, SignInFacts, has_operator, load_account,
    load_account_by_name, load_emails, load_name, load_sign_in, load_sign_in_from, operator_link_is_good,
};
pub use api_tokens::{
    API_TOKEN_LIFETIME_MAX, API_TOKENS_MAX, ApiToken, NewApiToken, load_api_token, load_api_tokens,
};
pub use assertion_keys::{
    ASSERTION_KEY_AGE, ASSERTION_KEY_OVERLAP, AssertionKey, AssertionKeys, load_assertion_keys,
};
pub use attempts::{
    ATTEMPT_LIFETIME, Attempt, Purpose, SpentAttempt, Taken, attempt_is_open, load_spent_attempt,
};
pub use audit_log::{
    Actor, AuditEntry, AuditRecord, AuditSequence, SYSTEM_SCOPE, count_audit_events, load_audit_sequence,
};
pub use backups::{
    BackupError, BackupHeader, Restored, backed_up_and_left_out, read_backup_header, verify_backup,
};
pub use changes::Change;
pub use connections::{
    Connection, FrozenEndpoints, Identity, MemberLink, NewRevision, Revision, RevisionTest, StoredTest,
    count_linked_members, load_account_subject, load_connection, load_live, load_member_links, load_revision,
    load_state, load_test,
};
pub use database::{Query, Reader, Row, StoreError, Synchronous, Value};
pub use facts::{
    AccessTokenFacts, AccountFacts, AuthorizationFacts, FactsCache, HostFacts, MembershipFacts,
    OrganizationFacts, SessionFacts, SsoFacts,
};
pub use few::Few;
pub use held_identities::{
    HELD_LIFETIME, HeldIdentity, LINK_REQUESTS_MAX, LinkFacts, LinkRequest, REQUEST_LIFETIME,
    count_link_requests, is_in_question, load_held, load_link_facts, load_link_request_of,
    load_link_requests,
};
pub use imports::{ImportedAccount, ImportedMembership, ImportedOrganization, NameOwner};
pub use invitations::{
    INVITATION_LIFETIME, INVITATION_USES_MAX, Invitation, NewInvitation, load_invitation,
    load_open_invitations,
};
pub use join_links::{JOIN_LINK_USES_MAX, JoinLink, load_held_join, load_join_link};
pub use key_check::{KnownKey, keys_fit, load_every_key_id, load_known_keys};
pub use organizations::{
    Member, MemberOrganization, Organization, Plan, RESOURCE_NAME_BYTES_MAX, Resource, SEARCH_CHARS_MAX,
    count_members, count_other_admins, load_bonds, load_collaborators, load_external_collaborator,
    load_governed_alone, load_members, load_organization, load_organization_of_log, load_organizations,
    load_organizations_of, load_owing_sso, load_resources, load_role, owes_sso,
};
pub use recovery::{RECOVERY_LIFETIME, count_recovery_codes, load_recovery};
pub use sealed_columns::{Resealed, SEALED_COLUMNS, SealedColumn, Spoiled};
pub use sessions::{
    BrowserSession, HOST_SESSIONS_MAX, NewTicket, SESSION_ABSOLUTE, SESSION_IDLE, Ticket,
    load_browser_sessions, ticket_is_there,
};

use database::{AnyTransaction, Database};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use self::audit_keys::OpenAudit;
use crate::audit_chain::Checkpoint;

/// The store, and the cache of facts for the gate in front of it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    database: Database,
    facts: Arc<FactsCache>,
    audit_keys: Arc<OpenAudit>,
    asked: Arc<AtomicU64>,
}

impl Store {
    /// Opens an SQLite file and brings its schema up to date.
    pub async fn open_sqlite(path: &Path, synchronous: Synchronous) -> Result<Self, StoreError> {
        let database = Database::open_sqlite(path, synchronous).await?;
        migrations::migrate(&database).await?;
        Ok(Self::over(database))
    }

    /// Connects to PostgreSQL; the schema is neither changed nor checked (`migrate`, `check_schema`).
    pub async fn open_postgres(url: &str) -> Result<Self, StoreError> {
        Ok(Self::over(Database::open_postgres(url).await?))
    }

    fn over(database: Database) -> Self {
        Self {
            database,
            facts: Arc::new(FactsCache::new()),
            audit_keys: Arc::default(),
            asked: Arc::default(),
        }
    }

    /// Brings the schema up to date.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        migrations::migrate(&self.database).await
    }

    /// Says whether the schema is the one of this binary.
    pub async fn check_schema(&self) -> Result<(), StoreError> {
        migrations::check(&self.database).await
    }

    /// Whether the database answers, and with a schema of this binary: one cheap question, for `/readyz`.
    pub async fn ping(&self) -> Result<(), StoreError> {
        migrations::ask_newest(&mut self.reader()).await
    }

    /// For reading outside a transaction.
    pub fn reader(&self) -> Reader {
        Reader::new(self.database.clone(), Arc::clone(&self.asked))
    }

    /// How many statements requests have asked so far, in and out of transactions: what a page costs the database must
    /// not grow with what it shows. The regular reading of changes does not count.
    pub fn statements_asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// What the gate knows without asking the database.
    pub fn facts(&self) -> &Arc<FactsCache> {
        &self.facts
    }

    /// Begins to write. Dropped without `commit`, nothing was written.
    pub async fn begin(&self) -> Result<Transaction, StoreError> {
        Ok(Transaction {
            inner: self.database.begin().await?,
            changes: BTreeSet::new(),
            facts: Arc::clone(&self.facts),
            audit_keys: Arc::clone(&self.audit_keys),
            checkpoints: Vec::new(),
            asked: Arc::clone(&self.asked),
        })
    }
}

/// One piece of writing: all of it or nothing, with its audit events and its word to other nodes.
pub struct Transaction {
    inner: AnyTransaction,
    changes: BTreeSet<Change>,
    facts: Arc<FactsCache>,
    audit_keys: Arc<OpenAudit>,
    checkpoints: Vec<Checkpoint>,
    asked: Arc<AtomicU64>,
}

impl Transaction {
    /// Runs a statement that answers no rows; how many rows it touched.
    pub(crate) async fn execute(&mut self, sql: &'static str, values: Vec<Value>) -> Result<u64, StoreError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.inner.execute(sql, values).await
    }

    /// Notes what other nodes (and this one's cache) must forget once this is committed.
    pub fn changed(&mut self, change: Change) {
        self.changes.insert(change);
    }
}

impl Query for Transaction {
    async fn fetch_all(&mut self, sql: &'static str, values: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.inner.fetch_all(sql, values).await
    }

    async fn fetch_optional(
        &mut self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<Option<Row>, StoreError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.inner.fetch_optional(sql, values).await
    }
}
