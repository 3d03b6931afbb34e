//! Many rows at once, for `doorward import`: looking up what is there, and writing one commit's worth of lines.
//!
//! In: what the file says, judged by `commands/import.rs`. Names are taken from the one namespace (rule 7); an address
//! that two accounts claim as proved is refused by the database itself (rule 13).

use doorward_core::ids::{AccountId, OrganizationId};
use doorward_core::membership::Role;
use doorward_core::name::Name;
use doorward_core::time::Timestamp;

use super::database::{Row, StoreError, Value};
use super::{Change, NewAccount, Plan, Store, Transaction};
use crate::values;
use doorward_core::connection::DEFAULT_SESSION_TIMEOUT;
use doorward_core::email::Email;

/// What a name belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NameOwner {
    /// An account.
    Account(AccountId),
    /// An organization.
    Organization(OrganizationId),
    /// Nobody any more: the account or organization is gone, and the name is never given again (rule 7).
    Gone,
}

/// An account of the file.
#[derive(Clone, Debug)]
pub struct ImportedAccount {
    /// Id, name, person's name, password hash. Its address is not looked at.
    pub account: NewAccount,
    /// Switched off.
    pub disabled: bool,
    /// Addresses: the address, whether it is proved, whether applications are told it.
    pub emails: Vec<(Email, bool, bool)>,
}

/// An organization of the file.
#[derive(Clone, Debug)]
pub struct ImportedOrganization {
    /// Its id.
    pub id: OrganizationId,
    /// Its name.
    pub name: Name,
    /// What it is called on pages.
    pub display_name: String,
    /// Its plan.
    pub plan: Plan,
}

/// A membership of the file.
#[derive(Clone, Copy, Debug)]
pub struct ImportedMembership {
    /// The organization.
    pub organization: OrganizationId,
    /// The account.
    pub account: AccountId,
    /// The role.
    pub role: Role,
    /// Reaches the organization without SSO.
    pub external_collaborator: bool,
    /// The account was there before this commit, so caches may know it.
    pub account_is_older: bool,
}

impl Store {
    /// Whom names belong to; names that are free are not among the answers. With their keys.
    pub async fn load_owners(&self, keys: &[String]) -> Result<Vec<(String, NameOwner)>, StoreError> {
        let head = "SELECT n.name_key, n.kind, n.owner_id, a.id AS account_id, o.id AS organization_id FROM name n \
                    LEFT JOIN account a ON a.id = n.owner_id LEFT JOIN organization o ON o.id = n.owner_id \
                    WHERE n.name_key IN (VALUES ";
        let rows = self.reader().fetch_listed(head, 1, texts(keys)).await?;
        let read = |row: &Row| {
            let is_there = row.opt_text("account_id")?.or(row.opt_text("organization_id")?).is_some();
            let owner = match &*row.text("kind")? {
                _ if !is_there => NameOwner::Gone,
                "account" => NameOwner::Account(row.parsed("owner_id")?),
                _ => NameOwner::Organization(row.parsed("owner_id")?),
            };
            Ok((row.text("name_key")?, owner))
        };
        rows.iter().map(read).collect()
    }

    /// Those of these addresses that some account has proved.
    pub async fn load_proved(&self, keys: &[String]) -> Result<Vec<String>, StoreError> {
        let head =
            "SELECT email_key FROM account_email WHERE proved_at IS NOT NULL AND email_key IN (VALUES ";
        let rows = self.reader().fetch_listed(head, 1, texts(keys)).await?;
        rows.iter().map(|row| row.text("email_key")).collect()
    }

    /// Those of these lines that were imported before.
    pub async fn load_imported(&self, hashes: &[String]) -> Result<Vec<String>, StoreError> {
        let head = "SELECT line_hash FROM imported_line WHERE line_hash IN (VALUES ";
        let rows = self.reader().fetch_listed(head, 1, texts(hashes)).await?;
        rows.iter().map(|row| row.text("line_hash")).collect()
    }

    /// Those of these accounts that are switched on and have a password.
    pub async fn load_able_to_sign_in(&self, accounts: &[AccountId]) -> Result<Vec<AccountId>, StoreError> {
        let head =
            "SELECT id FROM account WHERE disabled = 0 AND password_hash IS NOT NULL AND id IN (VALUES ";
        let values = accounts.iter().flat_map(|&account| values![account]).collect();
        let rows = self.reader().fetch_listed(head, 1, values).await?;
        rows.iter().map(|row| row.parsed("id")).collect()
    }

    /// Those of these memberships that are there.
    pub async fn load_existing_members(
        &self,
        pairs: &[(OrganizationId, AccountId)],
    ) -> Result<Vec<(OrganizationId, AccountId)>, StoreError> {
        let head = "SELECT organization_id, account_id FROM membership WHERE (organization_id, account_id) IN (VALUES ";
        let values =
            pairs.iter().flat_map(|&(organization, account)| values![organization, account]).collect();
        let rows = self.reader().fetch_listed(head, 2, values).await?;
        rows.iter().map(|row| Ok((row.parsed("organization_id")?, row.parsed("account_id")?))).collect()
    }
}

fn texts(keys: &[String]) -> Vec<Value> {
    keys.iter().map(Value::from).collect()
}

impl Transaction {
    /// Makes accounts. `Conflict` if a name is taken or a proved address is another account's.
    pub async fn import_accounts(
        &mut self,
        accounts: &[ImportedAccount],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (mut names, mut rows, mut emails) = (Vec::new(), Vec::new(), Vec::new());
        for ImportedAccount { account, disabled, emails: theirs } in accounts {
            let key = account.name.key();
            names.extend(values![key, account.name.as_str(), "account", account.id, now]);
            let hash = account.password_hash.clone();
            rows.extend(values![account.id, key, &account.full_name, hash, *disabled, now]);
            for (email, proved, primary) in theirs {
                let proved_at = proved.then_some(now.millis());
                emails.extend(values![account.id, email.key(), email.as_str(), proved_at, *primary]);
            }
        }
        self.take_names(names).await?;
        let head =
            "INSERT INTO account (id, name_key, full_name, password_hash, disabled, created_at) VALUES ";
        self.inner.insert_rows(head, 6, rows).await?;
        let head =
            "INSERT INTO account_email (account_id, email_key, address, proved_at, is_primary) VALUES ";
        self.inner.insert_rows(head, 5, emails).await
    }

    /// Makes organizations. `Conflict` if a name is taken.
    pub async fn import_organizations(
        &mut self,
        organizations: &[ImportedOrganization],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (mut names, mut rows) = (Vec::new(), Vec::new());
        for organization in organizations {
            let key = organization.name.key();
            names.extend(values![key, organization.name.as_str(), "organization", organization.id, now]);
            let timeout = DEFAULT_SESSION_TIMEOUT.millis();
            let (plan, display_name) = (organization.plan.as_str(), &organization.display_name);
            rows.extend(values![organization.id, key, display_name, plan, timeout, now]);
            // A gate may remember that nobody has this name.
            self.changed(Change::Organization(key.to_owned()));
        }
        self.take_names(names).await?;
        let head = "INSERT INTO organization (id, name_key, display_name, plan, session_timeout, created_at) VALUES ";
        self.inner.insert_rows(head, 6, rows).await
    }

    /// Makes accounts members. `Conflict` if one is a member already.
    pub async fn import_memberships(
        &mut self,
        memberships: &[ImportedMembership],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut rows = Vec::new();
        for one in memberships {
            let role = one.role.as_str();
            rows.extend(values![one.organization, one.account, role, one.external_collaborator, now]);
            if one.account_is_older {
                self.changed(Change::Account(one.account));
            }
        }
        let head = "INSERT INTO membership (organization_id, account_id, role, external_collaborator, created_at) VALUES ";
        self.inner.insert_rows(head, 5, rows).await
    }

    /// Notes that lines were taken. `Conflict` if one was before: by another import at the same time.
    pub async fn note_imported(&mut self, hashes: &[String]) -> Result<(), StoreError> {
        self.inner.insert_rows("INSERT INTO imported_line (line_hash) VALUES ", 1, texts(hashes)).await
    }

    async fn take_names(&mut self, rows: Vec<Value>) -> Result<(), StoreError> {
        let head = "INSERT INTO name (name_key, spelled, kind, owner_id, created_at) VALUES ";
        self.inner.insert_rows(head, 5, rows).await
    }
}
