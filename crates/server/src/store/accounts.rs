//! Accounts, their names, addresses and passwords.

use doorward_core::audit_event::AuditAction;
use doorward_core::email::Email;
use doorward_core::ids::AccountId;
use doorward_core::name::Name;
use doorward_core::secret::TokenHash;
use doorward_core::time::{Lifetime, Timestamp};

use super::audit_log::{Actor, AuditEntry};
use super::database::{Query, Row, StoreError};
use super::{Change, EndedToken, Transaction};
use crate::values;

/// For how long wrong passwords of one account are counted before their number is told.
const SIGN_IN_FAILURES_COUNTED: Lifetime = Lifetime::from_hours(1);
/// Browsers with a count of their own that an account may have.
const KNOWN_BROWSERS_MAX: i64 = 20;

/// An account to be made.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// Its id.
    pub id: AccountId,
    /// Its name; must be free for ever before.
    pub name: Name,
    /// The person's name; may be empty.
    pub full_name: String,
    /// Its first address.
    pub email: Option<Email>,
    /// Whether the address is proved: by the operator's word, or by a link (rule 13).
    pub email_proved: bool,
    /// Argon2id in PHC form; `None`: nobody can sign in by password.
    pub password_hash: Option<String>,
    /// May do what operators may.
    pub operator: bool,
}

/// An account as pages show it.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Its name.
    pub name: Name,
    /// The person's name; may be empty.
    pub full_name: String,
    /// May do what operators may.
    pub operator: bool,
    /// Switched off by the operator.
    pub disabled: bool,
}

/// One address of an account.
#[derive(Clone, Debug)]
pub struct AccountEmail {
    /// As written.
    pub address: String,
    /// In lower case.
    pub key: String,
    /// When it was proved.
    pub proved_at: Option<Timestamp>,
    /// The one that applications are told.
    pub primary: bool,
}

/// Failed sign-ins in a row.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct FailureCount {
    /// Grows whenever the count begins anew, so that nobody adds to a count of before.
    pub round: i64,
    /// Failures since then.
    pub failures: i64,
    /// No password is looked at before this, in milliseconds since 1970.
    pub blocked_until: i64,
}

/// A browser in which the account signed in before.
#[derive(Clone, Copy, Debug)]
pub struct KnownBrowser {
    /// The failures of this browser.
    pub count: FailureCount,
    /// When it last signed in, to within a day.
    pub signed_in_at: Timestamp,
}

/// What a sign-in by password needs to know.
#[derive(Clone, Debug)]
pub struct SignInFacts {
    /// The account.
    pub account: Account,
    /// Argon2 in PHC form.
    pub password_hash: Option<String>,
    /// The failures of browsers that are not known.
    pub count: FailureCount,
    /// The browser that asks, if the account signed in in it before.
    pub known_browser: Option<KnownBrowser>,
}

const ACCOUNT: &str = "SELECT a.id, n.spelled, a.full_name, a.operator, a.disabled \
                       FROM account a JOIN name n ON n.name_key = a.name_key WHERE a.id = $1";
const ACCOUNT_BY_NAME: &str = "SELECT a.id, n.spelled, a.full_name, a.operator, a.disabled \
                               FROM account a JOIN name n ON n.name_key = a.name_key WHERE a.name_key = $1";

fn account(row: &Row) -> Result<Account, StoreError> {
    Ok(Account {
        id: row.parsed("id")?,
        name: Name::from_store(row.text("spelled")?),
        full_name: row.text("full_name")?,
        operator: row.flag("operator")?,
        disabled: row.flag("disabled")?,
    })
}

/// The account of that id.
pub async fn load_account(query: &mut impl Query, id: AccountId) -> Result<Option<Account>, StoreError> {
    query.fetch_optional(ACCOUNT, values![id]).await?.as_ref().map(account).transpose()
}

/// The account of that name, whatever its spelling.
pub async fn load_account_by_name(query: &mut impl Query, name: &str) -> Result<Option<Account>, StoreError> {
    let key = name.to_ascii_lowercase();
    query.fetch_optional(ACCOUNT_BY_NAME, values![key]).await?.as_ref().map(account).transpose()
}

/// What a sign-in needs, by name or by a proved address (rule 13: an unproved one never signs in).
pub async fn load_sign_in(
    query: &mut impl Query,
    name_or_email: &str,
) -> Result<Option<SignInFacts>, StoreError> {
    load_sign_in_from(query, name_or_email, None).await
}

/// The same, with what is known of the browser that asks. One statement, whether or not anybody has that name.
pub async fn load_sign_in_from(
    query: &mut impl Query,
    name_or_email: &str,
    browser: Option<TokenHash>,
) -> Result<Option<SignInFacts>, StoreError> {
    let key = name_or_email.trim().to_ascii_lowercase();
    let sql = if key.contains('@') {
        "SELECT a.id, n.spelled, a.full_name, a.operator, a.disabled, a.password_hash, a.sign_in_round, \
         a.failed_sign_ins, a.blocked_until, k.sign_in_round AS own_round, k.failed_sign_ins AS own_failures, \
         k.blocked_until AS own_blocked_until, k.signed_in_at FROM account_email e \
         JOIN account a ON a.id = e.account_id JOIN name n ON n.name_key = a.name_key \
         LEFT JOIN known_browser k ON k.account_id = a.id AND k.browser_hash = $2 \
         WHERE e.email_key = $1 AND e.proved_at IS NOT NULL"
    } else {
        "SELECT a.id, n.spelled, a.full_name, a.operator, a.disabled, a.password_hash, a.sign_in_round, \
         a.failed_sign_ins, a.blocked_until, k.sign_in_round AS own_round, k.failed_sign_ins AS own_failures, \
         k.blocked_until AS own_blocked_until, k.signed_in_at FROM account a \
         JOIN name n ON n.name_key = a.name_key \
         LEFT JOIN known_browser k ON k.account_id = a.id AND k.browser_hash = $2 WHERE a.name_key = $1"
    };
    let browser = browser.map_or_else(String::new, TokenHash::to_text);
    let Some(row) = query.fetch_optional(sql, values![key, browser]).await? else { return Ok(None) };
    let known_browser = match row.opt_int("signed_in_at")? {
        None => None,
        Some(signed_in_at) => Some(KnownBrowser {
            count: FailureCount {
                round: row.int("own_round")?,
                failures: row.int("own_failures")?,
                blocked_until: row.int("own_blocked_until")?,
            },
            signed_in_at: Timestamp::from_millis(signed_in_at),
        }),
    };
    Ok(Some(SignInFacts {
        account: account(&row)?,
        password_hash: row.opt_text("password_hash")?,
        count: FailureCount {
            round: row.int("sign_in_round")?,
            failures: row.int("failed_sign_ins")?,
            blocked_until: row.int("blocked_until")?,
        },
        known_browser,
    }))
}

/// The addresses of an account, the primary one first.
pub async fn load_emails(query: &mut impl Query, id: AccountId) -> Result<Vec<AccountEmail>, StoreError> {
    let sql = "SELECT address, email_key, proved_at, is_primary FROM account_email WHERE account_id = $1 \
               ORDER BY is_primary DESC, email_key";
    let rows = query.fetch_all(sql, values![id]).await?;
    rows.iter()
        .map(|row| {
            Ok(AccountEmail {
                address: row.text("address")?,
                key: row.text("email_key")?,
                proved_at: row.opt_int("proved_at")?.map(Timestamp::from_millis),
                primary: row.flag("is_primary")?,
            })
        })
        .collect()
}

/// Whether any account is an operator: before the first one, the start prints a link.
pub async fn has_operator(query: &mut impl Query) -> Result<bool, StoreError> {
    Ok(query.fetch_optional("SELECT id FROM account WHERE operator = 1 LIMIT 1", Vec::new()).await?.is_some())
}

impl Transaction {
    /// Takes a name from the one namespace. `Conflict` if anybody has it, or ever had.
    pub(super) async fn take_name(
        &mut self,
        name: &Name,
        kind: &'static str,
        owner: String,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sql =
            "INSERT INTO name (name_key, spelled, kind, owner_id, created_at) VALUES ($1, $2, $3, $4, $5)";
        self.execute(sql, values![name.key(), name.as_str(), kind, owner, now]).await?;
        Ok(())
    }

    /// Makes an account. `Conflict` if the name is taken, or the proved address is another account's.
    pub async fn insert_account(&mut self, new: &NewAccount, now: Timestamp) -> Result<(), StoreError> {
        self.take_name(&new.name, "account", new.id.to_string(), now).await?;
        self.execute(
            "INSERT INTO account (id, name_key, full_name, password_hash, operator, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6)",
            values![new.id, new.name.key(), &new.full_name, new.password_hash.clone(), new.operator, now],
        )
        .await?;
        if new.operator {
            // The link for a first operator is for nobody any more, should this one go within its 24 hours.
            self.execute("DELETE FROM operator_link", Vec::new()).await?;
        }
        if let Some(email) = &new.email {
            self.insert_email(new.id, email, new.email_proved.then_some(now), true).await?;
        }
        self.changed(Change::Account(new.id));
        Ok(())
    }

    /// Adds an address. `Conflict` if the account has it, or if it is proved and another account has proved it.
    pub async fn insert_email(
        &mut self,
        id: AccountId,
        email: &Email,
        proved_at: Option<Timestamp>,
        primary: bool,
    ) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO account_email (account_id, email_key, address, proved_at, is_primary) \
             VALUES ($1, $2, $3, $4, $5)",
            values![id, email.key(), email.as_str(), proved_at.map(Timestamp::millis), primary],
        )
        .await?;
        self.changed(Change::Account(id));
        Ok(())
    }

    /// Makes an address a proved one of the account, adding it if need be. `Conflict` if another account has proved it.
    pub async fn prove_email(
        &mut self,
        id: AccountId,
        email: &Email,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO account_email (account_id, email_key, address, proved_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (account_id, email_key) DO UPDATE SET proved_at = COALESCE(account_email.proved_at, $4)",
            values![id, email.key(), email.as_str(), now],
        )
        .await?;
        self.changed(Change::Account(id));
        Ok(())
    }

    /// Sets a new password and ends what the old one opened: every session but `keep`, all open attempts, and all access
    /// tokens, for who knew it may have made one. The tokens.
    pub async fn update_password(
        &mut self,
        id: AccountId,
        password_hash: &str,
        keep: Option<doorward_core::ids::SessionId>,
    ) -> Result<Vec<EndedToken>, StoreError> {
        self.execute(
            "UPDATE account SET password_hash = $2, failed_sign_ins = 0, blocked_until = 0, \
             sign_in_round = sign_in_round + 1 WHERE id = $1",
            values![id, password_hash],
        )
        .await?;
        // Who knew the old password in a browser is nobody to whom the new one owes a budget.
        self.execute("DELETE FROM known_browser WHERE account_id = $1", values![id]).await?;
        let keep = keep.map_or_else(String::new, |id| id.to_string());
        self.delete_sso_sessions_before_the_rest(id, &keep).await?;
        self.execute("DELETE FROM attempt WHERE account_id = $1", values![id]).await?;
        // A question to admins too: whoever knew the old password may have asked it for an identity of his own.
        self.execute("DELETE FROM held_identity WHERE account_id = $1", values![id]).await?;
        self.execute("DELETE FROM browser_session WHERE account_id = $1 AND id <> $2", values![id, keep])
            .await?;
        self.changed(Change::Account(id));
        self.delete_access_tokens_of(id).await
    }

    /// Switches an account off, or on again; whether it was the other way. Off, its sessions and open attempts end and come
    /// back with nothing; its access tokens and the links that it made open nothing for as long (`facts.rs`,
    /// `invitations.rs`).
    pub async fn set_disabled(&mut self, id: AccountId, disabled: bool) -> Result<bool, StoreError> {
        let sql = "UPDATE account SET disabled = $2 WHERE id = $1 AND disabled <> $2";
        if self.execute(sql, values![id, disabled]).await? == 0 {
            return Ok(false);
        }
        if disabled {
            self.delete_sso_sessions_before_the_rest(id, "").await?;
            self.execute("DELETE FROM attempt WHERE account_id = $1", values![id]).await?;
            self.execute("DELETE FROM browser_session WHERE account_id = $1", values![id]).await?;
        }
        self.changed(Change::Account(id));
        Ok(true)
    }

    /// Holds an account's browser sessions but one, and ends their SSO sessions: first, as whoever ends single sign-on
    /// (`end_sso_of`) takes those before the attempts; each would else wait for the other (PostgreSQL).
    async fn delete_sso_sessions_before_the_rest(
        &mut self,
        id: AccountId,
        keep: &str,
    ) -> Result<(), StoreError> {
        for sql in [
            "UPDATE browser_session SET account_id = account_id WHERE account_id = $1 AND id <> $2",
            "DELETE FROM sso_session WHERE session_id IN \
             (SELECT id FROM browser_session WHERE account_id = $1 AND id <> $2)",
        ] {
            self.execute(sql, values![id, keep]).await?;
        }
        Ok(())
    }

    /// Whether this account is the only operator's, with the operators' rows held until the transaction ends: of two who
    /// delete themselves at once, one finds himself the last.
    pub async fn is_last_operator(&mut self, id: AccountId) -> Result<bool, StoreError> {
        let sql = "UPDATE account SET operator = operator WHERE operator = 1 RETURNING id, disabled";
        let (mut is_operator, mut others) = (false, 0);
        for row in &self.fetch_all(sql, Vec::new()).await? {
            if row.parsed::<AccountId>("id")? == id {
                is_operator = true;
            } else if !row.flag("disabled")? {
                others += 1;
            }
        }
        Ok(is_operator && others == 0)
    }

    /// Deletes an account with all that is its own; whether it was there. Its memberships and links must have ended before,
    /// each under its organization's lock. Its id and name stay taken (architecture.md rule 7).
    pub async fn delete_account(&mut self, id: AccountId) -> Result<bool, StoreError> {
        self.delete_sso_sessions_before_the_rest(id, "").await?;
        for sql in [
            "DELETE FROM link_question WHERE account_id = $1",
            "DELETE FROM former_member WHERE account_id = $1",
            "DELETE FROM counted_event WHERE account_id = $1",
            "DELETE FROM sign_in_failure WHERE account_id = $1",
            "DELETE FROM attempt WHERE account_id = $1",
            "DELETE FROM held_identity WHERE account_id = $1",
            "DELETE FROM browser_session WHERE account_id = $1",
            "DELETE FROM access_token WHERE account_id = $1",
            "DELETE FROM known_browser WHERE account_id = $1",
            "DELETE FROM account_email WHERE account_id = $1",
            "DELETE FROM invitation WHERE account_id = $1",
            "DELETE FROM join_link WHERE created_by = $1",
            // Its page still says why it opens nothing.
            "UPDATE invitation SET ended = 'voided' WHERE created_by = $1 AND ended IS NULL AND uses_left > 0",
            "UPDATE invitation SET created_by = NULL WHERE created_by = $1",
        ] {
            self.execute(sql, values![id]).await?;
        }
        self.changed(Change::Account(id));
        Ok(self.execute("DELETE FROM account WHERE id = $1", values![id]).await? > 0)
    }

    /// Sets the person's name.
    pub async fn update_full_name(&mut self, id: AccountId, full_name: &str) -> Result<(), StoreError> {
        self.execute("UPDATE account SET full_name = $2 WHERE id = $1", values![id, full_name]).await?;
        self.changed(Change::Account(id));
        Ok(())
    }

    /// Adds a failure to the account's count, or to that of a browser it knows; `counted`: as the node counts that
    /// looked at the password. Of a round that is over, nothing is added.
    pub async fn note_failed_sign_in(
        &mut self,
        id: AccountId,
        known_browser: Option<TokenHash>,
        counted: FailureCount,
    ) -> Result<(), StoreError> {
        match known_browser {
            None => {
                self.execute(
                    "UPDATE account SET failed_sign_ins = failed_sign_ins + 1, blocked_until = \
                     CASE WHEN blocked_until > $2 THEN blocked_until ELSE $2 END \
                     WHERE id = $1 AND sign_in_round = $3",
                    values![id, counted.blocked_until, counted.round],
                )
                .await?
            }
            Some(browser) => {
                self.execute(
                    "UPDATE known_browser SET failed_sign_ins = failed_sign_ins + 1, blocked_until = \
                     CASE WHEN blocked_until > $2 THEN blocked_until ELSE $2 END \
                     WHERE account_id = $1 AND sign_in_round = $3 AND browser_hash = $4",
                    values![id, counted.blocked_until, counted.round, browser],
                )
                .await?
            }
        };
        Ok(())
    }

    /// The account signed in in this browser: from now on it has a count of its own, which begins anew. The browsers
    /// that were not used for longest give way.
    pub async fn remember_browser(
        &mut self,
        id: AccountId,
        browser: TokenHash,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO known_browser (account_id, browser_hash, signed_in_at) VALUES ($1, $2, $3) \
             ON CONFLICT (account_id, browser_hash) DO UPDATE SET failed_sign_ins = 0, blocked_until = 0, \
             sign_in_round = known_browser.sign_in_round + 1, signed_in_at = $3",
            values![id, browser, now],
        )
        .await?;
        self.execute(
            "DELETE FROM known_browser WHERE account_id = $1 AND browser_hash IN \
             (SELECT browser_hash FROM known_browser WHERE account_id = $1 \
             ORDER BY signed_in_at DESC, browser_hash LIMIT 1000 OFFSET $2)",
            values![id, KNOWN_BROWSERS_MAX],
        )
        .await?;
        Ok(())
    }

    /// Holds an account's row until the transaction ends. Whoever takes its sessions or tokens besides takes it first.
    pub async fn lock_account(&mut self, id: AccountId) -> Result<(), StoreError> {
        self.execute("UPDATE account SET disabled = disabled WHERE id = $1", values![id]).await?;
        Ok(())
    }

    /// Forgets failed sign-ins after a good one with the password of this hash, and holds the account's row until the
    /// transaction ends. `false`: the password was changed, or the account switched off, while it was looked at.
    pub async fn confirm_sign_in(&mut self, id: AccountId, password_hash: &str) -> Result<bool, StoreError> {
        let confirmed = self
            .execute(
                "UPDATE account SET failed_sign_ins = 0, blocked_until = 0, sign_in_round = sign_in_round + 1 \
                 WHERE id = $1 AND password_hash = $2 AND disabled = 0",
                values![id, password_hash],
            )
            .await?;
        Ok(confirmed > 0)
    }

    /// Notes a wrong password for an account. The first one in an hour is an event; the others are counted until
    /// `report_sign_in_failures` tells their number, so that strangers add at most two events an account and hour.
    pub async fn note_sign_in_failure(
        &mut self,
        id: AccountId,
        mut entry: AuditEntry,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let counted = self
            .execute(
                "UPDATE sign_in_failure SET failures = failures + 1 \
                 WHERE account_id = $1 AND began_at > $2 AND began_at <= $3",
                values![id, now.minus(SIGN_IN_FAILURES_COUNTED), now],
            )
            .await?;
        if counted > 0 {
            return Ok(());
        }
        // What an hour that is over has counted is told before the new one begins.
        for entry in self.take_sign_in_failures_of(id).await? {
            self.audit(entry, now).await?;
        }
        let sql = "INSERT INTO sign_in_failure (account_id, began_at, failures) VALUES ($1, $2, 1) \
                   ON CONFLICT (account_id) DO NOTHING";
        // Another node's failure of the same moment was first: it has told.
        if self.execute(sql, values![id, now]).await? == 0 {
            return Ok(());
        }
        entry.details.push(("count", "1".to_owned()));
        self.audit(entry, now).await?;
        Ok(())
    }

    /// What was counted of wrong passwords for an account, as entries that are still to be written.
    pub async fn take_sign_in_failures_of(&mut self, id: AccountId) -> Result<Vec<AuditEntry>, StoreError> {
        let sql = "DELETE FROM sign_in_failure WHERE account_id = $1 RETURNING account_id, failures";
        let rows = self.fetch_all(sql, values![id]).await?;
        self.further_sign_in_failures(&rows).await
    }

    /// Tells how many wrong passwords were counted in hours that are over, of at most `limit` accounts; how many those
    /// were.
    pub async fn report_sign_in_failures(&mut self, limit: i64, now: Timestamp) -> Result<u64, StoreError> {
        let sql = "DELETE FROM sign_in_failure WHERE account_id IN \
                   (SELECT account_id FROM sign_in_failure WHERE began_at <= $1 LIMIT $2) \
                   RETURNING account_id, failures";
        let rows = self.fetch_all(sql, values![now.minus(SIGN_IN_FAILURES_COUNTED), limit]).await?;
        for entry in self.further_sign_in_failures(&rows).await? {
            self.audit(entry, now).await?;
        }
        Ok(u64::try_from(rows.len()).unwrap_or(u64::MAX))
    }

    /// What the log says of those that were counted and not told.
    async fn further_sign_in_failures(&mut self, rows: &[Row]) -> Result<Vec<AuditEntry>, StoreError> {
        let mut entries = Vec::new();
        for row in rows {
            let further = row.int("failures")?.saturating_sub(1);
            if further > 0 {
                let id = row.text("account_id")?;
                let name = load_name(self, &id).await?.unwrap_or(id);
                entries.push(AuditEntry {
                    organization: None,
                    action: AuditAction::AccountSignInFailed,
                    actor: Actor::System,
                    details: vec![("name", name), ("count", further.to_string())],
                    address: None,
                    request_id: None,
                });
            }
        }
        Ok(entries)
    }

    /// Puts a new hash of the same password in the place of an imported one, unless the password was changed meanwhile.
    pub async fn replace_password_hash(
        &mut self,
        id: AccountId,
        before: &str,
        password_hash: &str,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE account SET password_hash = $3 WHERE id = $1 AND password_hash = $2";
        self.execute(sql, values![id, before, password_hash]).await?;
        Ok(())
    }

    /// Leaves exactly one link for the first operator: the one of this start.
    pub async fn replace_operator_link(
        &mut self,
        hash: TokenHash,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute("DELETE FROM operator_link", Vec::new()).await?;
        self.execute(
            "INSERT INTO operator_link (token_hash, created_at, expires_at) VALUES ($1, $2, $3)",
            values![hash, now, expires_at],
        )
        .await?;
        Ok(())
    }

    /// Takes the first operator's link, once: whether it was good.
    pub async fn take_operator_link(&mut self, hash: TokenHash, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "DELETE FROM operator_link WHERE token_hash = $1 RETURNING expires_at";
        let row = self.fetch_optional(sql, values![hash]).await?;
        Ok(match row {
            Some(row) => row.time("expires_at")? > now,
            None => false,
        })
    }
}

/// The name that was given to an account or organization of this id, as it was spelled.
pub async fn load_name(query: &mut impl Query, id: &str) -> Result<Option<String>, StoreError> {
    let sql = "SELECT spelled FROM name WHERE owner_id = $1";
    query.fetch_optional(sql, values![id]).await?.map(|row| row.text("spelled")).transpose()
}

/// Whether a link for the first operator is good, without taking it.
pub async fn operator_link_is_good(
    query: &mut impl Query,
    hash: TokenHash,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "SELECT token_hash FROM operator_link WHERE token_hash = $1 AND expires_at > $2";
    Ok(query.fetch_optional(sql, values![hash, now]).await?.is_some())
}
