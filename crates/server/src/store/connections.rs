//! Connections: immutable revisions, draft and live, tests, and linked identities (architecture.md §3).

use doorward_core::connection::{ClientAuthMethod, ConnectionState, Enforcement, TestOutcome, UserinfoMode};
use doorward_core::error_code::ErrorCode;
use doorward_core::finding::{Finding, Step};
use doorward_core::ids::{AccountId, ConnectionId, OrganizationId, RevisionNumber};
use doorward_core::secret::{Secret, TokenHash};
use doorward_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::database::{Query, Row, StoreError};
use super::organizations::Organization;
use super::{Change, Transaction};
use crate::sealing::{Place, Sealing};
use crate::values;

/// An organization's connection: where draft and live point.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Its id.
    pub id: ConnectionId,
    /// The newest revision.
    pub draft: Option<RevisionNumber>,
    /// The enabled revision.
    pub live: Option<RevisionNumber>,
    /// Whether SSO is needed or only asked for, once live.
    pub enforcement: Enforcement,
    /// Grows when the live provider changes and at Disable.
    pub epoch: i64,
    /// Whether the provider's guests may be linked.
    pub guests_may_link: bool,
}

/// What discovery froze into a revision (conformance.md D5, D7).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FrozenEndpoints {
    /// The provider's own spelling.
    pub issuer: String,
    /// Where the browser is sent.
    pub authorization_endpoint: String,
    /// Where codes are redeemed.
    pub token_endpoint: String,
    /// Where details are asked.
    pub userinfo_endpoint: Option<String>,
    /// Where keys are published.
    pub jwks_uri: String,
    /// How the client proves itself: `client_secret_basic` or `client_secret_post`.
    pub auth_method: String,
    /// Signature algorithms: ours that are theirs too.
    pub algorithms: Vec<String>,
    /// The provider promises to name itself in each answer (RFC 9207).
    pub iss_promised: bool,
    /// The tenant, for an Entra-shaped issuer.
    pub entra_tenant: Option<String>,
}

/// One immutable saving of a connection's settings. Its secret is sealed.
#[derive(Clone, Debug)]
pub struct Revision {
    /// Its number, from 1.
    pub number: RevisionNumber,
    /// As typed (cleaned of blanks and quotes).
    pub issuer_url: String,
    /// The client id.
    pub client_id: String,
    /// The sealed client secret.
    pub sealed_secret: String,
    /// The secret's last four characters, for display: the one exception to rule 6 (decisions.md).
    pub client_secret_end: String,
    /// What the admin chose; `None` leaves it to us.
    pub client_auth_method: Option<ClientAuthMethod>,
    /// Scopes, separated by blanks; empty: the default.
    pub scopes: String,
    /// When UserInfo is asked.
    pub userinfo: UserinfoMode,
    /// The claim that holds the address; empty: `email`.
    pub email_claim: String,
    /// Domains that the claim `hd` must be one of, in lower case; needed for an issuer that everybody shares (Google).
    pub hosted_domains: Vec<String>,
    /// Which account saved it; `None`: the command line.
    pub created_by: Option<AccountId>,
    /// When.
    pub created_at: Timestamp,
    /// What discovery found; `None` if it failed.
    pub endpoints: Option<FrozenEndpoints>,
}

/// A revision to be saved.
#[derive(Clone, Debug)]
pub struct NewRevision {
    /// As typed (cleaned of blanks and quotes).
    pub issuer_url: String,
    /// The client id.
    pub client_id: String,
    /// The client secret.
    pub client_secret: Secret,
    /// What the admin chose.
    pub client_auth_method: Option<ClientAuthMethod>,
    /// Scopes, separated by blanks; empty: the default.
    pub scopes: String,
    /// When UserInfo is asked.
    pub userinfo: UserinfoMode,
    /// The claim that holds the address; empty: `email`.
    pub email_claim: String,
    /// Domains that the claim `hd` must be one of, in lower case.
    pub hosted_domains: Vec<String>,
    /// Which account saves it; `None`: the command line.
    pub created_by: Option<AccountId>,
    /// What discovery found.
    pub endpoints: Option<FrozenEndpoints>,
}

/// A finding in the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct StoredFinding {
    step: String,
    code: String,
    values: Vec<(String, String)>,
    provider_words: Option<String>,
}

impl From<&Finding> for StoredFinding {
    fn from(finding: &Finding) -> Self {
        Self {
            step: finding.step.as_str().to_owned(),
            code: finding.code.as_str().to_owned(),
            values: finding.values.clone(),
            provider_words: finding.provider_words.clone(),
        }
    }
}

impl StoredFinding {
    /// The finding again; `None` if a newer version wrote it.
    fn read(self) -> Option<Finding> {
        Some(Finding {
            step: Step::from_text(&self.step)?,
            code: ErrorCode::from_code(&self.code)?,
            values: self.values,
            provider_words: self.provider_words,
        })
    }
}

/// Whom the provider named.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The issuer.
    pub issuer: String,
    /// The key within the issuer: `sub`, or Entra's object id.
    pub subject: String,
    /// `sub`, kept beside it.
    pub sub: String,
    /// The address that the provider sent, as text.
    pub email: Option<String>,
    /// The person's name at the provider.
    pub display_name: Option<String>,
}

/// How a test ended, to be stored.
#[derive(Clone, Debug)]
pub struct RevisionTest {
    /// Passed or failed.
    pub passed: bool,
    /// What was found; warnings too.
    pub findings: Vec<Finding>,
    /// Claims received, for display: names and bounded values.
    pub claims: Vec<(String, String)>,
    /// Who tested.
    pub account: Option<AccountId>,
    /// In which browser.
    pub browser: Option<TokenHash>,
    /// Whom the provider named.
    pub identity: Option<Identity>,
}

/// A stored test.
#[derive(Clone, Debug)]
pub struct StoredTest {
    /// How it ended, who did it, and whom the provider named.
    pub test: RevisionTest,
    /// When it ended.
    pub tested_at: Timestamp,
}

impl StoredTest {
    /// For `ConnectionState::of`.
    pub const fn outcome(&self) -> TestOutcome {
        if self.test.passed { TestOutcome::Passed } else { TestOutcome::Failed }
    }
}

/// Where a revision's secret is sealed to.
fn secret_place(row: &str) -> Place<'_> {
    Place { table: "revision", column: "client_secret", row }
}

impl Revision {
    /// The client secret, opened.
    pub fn open_secret(&self, connection: ConnectionId, sealing: &Sealing) -> Result<Secret, StoreError> {
        let row = format!("{connection}.{}", self.number);
        Ok(sealing.open_sealed(secret_place(&row), &self.sealed_secret)?)
    }

    /// The client secret, or nothing if what is stored does not open: the operator is told, and whoever can type the
    /// secret again mends it.
    pub fn usable_secret(&self, connection: ConnectionId, sealing: &Sealing) -> Option<Secret> {
        match self.open_secret(connection, sealing) {
            Ok(secret) => Some(secret),
            Err(error) => {
                tracing::error!(%error, %connection, revision = %self.number, "a client secret does not open");
                None
            }
        }
    }
}

/// An organization's connection.
pub async fn load_connection(
    query: &mut impl Query,
    organization: OrganizationId,
) -> Result<Option<Connection>, StoreError> {
    let sql = "SELECT id, draft, live, enforcement, epoch, guests_may_link FROM connection WHERE organization_id = $1";
    query.fetch_optional(sql, values![organization]).await?.as_ref().map(connection).transpose()
}

fn connection(row: &Row) -> Result<Connection, StoreError> {
    Ok(Connection {
        id: row.parsed("id")?,
        draft: row.opt_int("draft")?.map(RevisionNumber),
        live: row.opt_int("live")?.map(RevisionNumber),
        enforcement: row.known("enforcement", Enforcement::from_text)?,
        epoch: row.int("epoch")?,
        guests_may_link: row.flag("guests_may_link")?,
    })
}

/// An organization's connection with its live revision; nothing while SSO is off.
pub async fn load_live(
    query: &mut impl Query,
    organization: OrganizationId,
) -> Result<Option<(Connection, Revision)>, StoreError> {
    let sql = "SELECT c.id, c.draft, c.live, c.enforcement, c.epoch, c.guests_may_link, r.number, r.issuer_url, \
               r.client_id, r.client_secret, r.client_secret_end, r.client_auth_method, r.scopes, r.userinfo, r.email_claim, \
               r.hosted_domains, r.created_by, r.created_at, r.metadata FROM connection c \
               JOIN revision r ON r.connection_id = c.id AND r.number = c.live WHERE c.organization_id = $1";
    let row = query.fetch_optional(sql, values![organization]).await?;
    row.map(|row| Ok((connection(&row)?, revision(&row)?))).transpose()
}

/// One revision of an organization's connection.
pub async fn load_revision(
    query: &mut impl Query,
    organization: OrganizationId,
    number: RevisionNumber,
) -> Result<Option<Revision>, StoreError> {
    let sql = "SELECT r.number, r.issuer_url, r.client_id, r.client_secret, r.client_secret_end, r.client_auth_method, \
               r.scopes, r.userinfo, r.email_claim, r.hosted_domains, r.created_by, r.created_at, r.metadata FROM revision r \
               JOIN connection c ON c.id = r.connection_id WHERE c.organization_id = $1 AND r.number = $2";
    query.fetch_optional(sql, values![organization, number]).await?.as_ref().map(revision).transpose()
}

fn revision(row: &Row) -> Result<Revision, StoreError> {
    let corrupt = |name: &str| StoreError::Corrupt(format!("column {name}"));
    Ok(Revision {
        number: RevisionNumber(row.int("number")?),
        issuer_url: row.text("issuer_url")?,
        client_id: row.text("client_id")?,
        sealed_secret: row.text("client_secret")?,
        client_secret_end: row.text("client_secret_end")?,
        client_auth_method: match row.opt_text("client_auth_method")? {
            None => None,
            Some(text) => {
                Some(ClientAuthMethod::from_text(&text).ok_or_else(|| corrupt("client_auth_method"))?)
            }
        },
        scopes: row.text("scopes")?,
        userinfo: row.known("userinfo", UserinfoMode::from_text)?,
        email_claim: row.text("email_claim")?,
        hosted_domains: row.text("hosted_domains")?.split_ascii_whitespace().map(str::to_owned).collect(),
        created_by: row.opt_text("created_by")?.and_then(|text| text.parse().ok()),
        created_at: row.time("created_at")?,
        endpoints: match row.opt_text("metadata")? {
            None => None,
            Some(text) => Some(serde_json::from_str(&text).map_err(|_| corrupt("metadata"))?),
        },
    })
}

/// The newest test of a revision.
pub async fn load_test(
    query: &mut impl Query,
    organization: OrganizationId,
    number: RevisionNumber,
) -> Result<Option<StoredTest>, StoreError> {
    let sql = "SELECT t.outcome, t.findings, t.claims, t.account_id, t.browser_hash, t.issuer, t.subject, t.sub, \
               t.email, t.display_name, t.tested_at FROM revision_test t JOIN connection c ON c.id = t.connection_id \
               WHERE c.organization_id = $1 AND t.revision = $2";
    let Some(row) = query.fetch_optional(sql, values![organization, number]).await? else { return Ok(None) };
    let findings: Vec<StoredFinding> = row.known("findings", |text| serde_json::from_str(text).ok())?;
    let identity = match (row.opt_text("issuer")?, row.opt_text("subject")?, row.opt_text("sub")?) {
        (Some(issuer), Some(subject), Some(sub)) => Some(Identity {
            issuer,
            subject,
            sub,
            email: row.opt_text("email")?,
            display_name: row.opt_text("display_name")?,
        }),
        _ => None,
    };
    Ok(Some(StoredTest {
        test: RevisionTest {
            passed: row.text("outcome")? == TestOutcome::Passed.as_str(),
            findings: findings.into_iter().filter_map(StoredFinding::read).collect(),
            claims: row.known("claims", |text| serde_json::from_str(text).ok())?,
            account: row.opt_text("account_id")?.and_then(|text| text.parse().ok()),
            browser: row.opt_text("browser_hash")?.as_deref().and_then(TokenHash::from_text),
            identity,
        },
        tested_at: row.time("tested_at")?,
    }))
}

/// The state shown, derived from draft, its test, and live.
pub async fn load_state(
    query: &mut impl Query,
    organization: OrganizationId,
) -> Result<(ConnectionState, Option<Connection>), StoreError> {
    let Some(connection) = load_connection(query, organization).await? else {
        return Ok((ConnectionState::NotSetUp, None));
    };
    let draft = match connection.draft {
        None => None,
        Some(number) => {
            let test = load_test(query, organization, number).await?;
            Some((number, test.as_ref().map_or(TestOutcome::None, StoredTest::outcome)))
        }
    };
    Ok((ConnectionState::of(draft, connection.live), Some(connection)))
}

/// How many of an organization's members have an identity at the connection's issuers.
pub async fn count_linked_members(
    query: &mut impl Query,
    organization: OrganizationId,
    connection: ConnectionId,
) -> Result<i64, StoreError> {
    let sql = "SELECT CAST(COUNT(DISTINCT i.account_id) AS BIGINT) AS n FROM identity i \
               JOIN membership m ON m.account_id = i.account_id \
               WHERE i.connection_id = $2 AND m.organization_id = $1";
    query.fetch_optional(sql, values![organization, connection]).await?.map_or(Ok(0), |row| row.int("n"))
}

/// Whom a member is linked to, as the members page shows it.
#[derive(Clone, Debug)]
pub struct MemberLink {
    /// The account.
    pub account: AccountId,
    /// The issuer.
    pub issuer: String,
    /// The key within the issuer.
    pub subject: String,
    /// The address that came with the newest sign-in.
    pub email: Option<String>,
    /// Since when.
    pub linked_at: Timestamp,
    /// Who approved it, where the address alone did not make it.
    pub approved_by: Option<String>,
}

/// The links of the members whose names (in lower case) lie from `first` to `last`.
pub async fn load_member_links(
    query: &mut impl Query,
    organization: OrganizationId,
    first: &str,
    last: &str,
) -> Result<Vec<MemberLink>, StoreError> {
    let sql = "SELECT i.account_id, i.issuer, i.subject, i.email, i.linked_at, i.approved_by FROM membership m \
               JOIN account a ON a.id = m.account_id JOIN connection c ON c.organization_id = m.organization_id \
               JOIN identity i ON i.account_id = m.account_id AND i.connection_id = c.id \
               WHERE m.organization_id = $1 AND a.name_key >= $2 AND a.name_key <= $3 ORDER BY i.linked_at LIMIT 1000";
    let rows = query.fetch_all(sql, values![organization, first, last]).await?;
    rows.iter()
        .map(|row| {
            Ok(MemberLink {
                account: row.parsed("account_id")?,
                issuer: row.text("issuer")?,
                subject: row.text("subject")?,
                email: row.opt_text("email")?,
                linked_at: row.time("linked_at")?,
                approved_by: row.opt_text("approved_by")?,
            })
        })
        .collect()
}

/// The subject that an account is linked to at an issuer.
pub async fn load_account_subject(
    query: &mut impl Query,
    connection: ConnectionId,
    issuer: &str,
    account: AccountId,
) -> Result<Option<String>, StoreError> {
    let sql = "SELECT subject FROM identity WHERE connection_id = $1 AND issuer = $2 AND account_id = $3";
    query
        .fetch_optional(sql, values![connection, issuer, account])
        .await?
        .map(|row| row.text("subject"))
        .transpose()
}

impl Transaction {
    /// Saves a new revision as the draft. Makes the connection with `new_connection` as its id where there is none.
    pub async fn insert_revision(
        &mut self,
        organization: &Organization,
        new_connection: ConnectionId,
        revision: &NewRevision,
        sealing: &Sealing,
        now: Timestamp,
    ) -> Result<(ConnectionId, RevisionNumber), StoreError> {
        self.execute(
            "INSERT INTO connection (id, organization_id, protocol, enforcement) VALUES ($1, $2, 'oidc', 'enforced') \
             ON CONFLICT (organization_id) DO NOTHING",
            values![new_connection, organization.id],
        )
        .await?;
        let sql = "UPDATE connection SET draft = COALESCE(draft, 0) + 1 WHERE organization_id = $1 RETURNING id, draft";
        let row = self.fetch_optional(sql, values![organization.id]).await?;
        let row = row.ok_or_else(|| StoreError::Corrupt("connection".to_owned()))?;
        let connection: ConnectionId = row.parsed("id")?;
        let number = RevisionNumber(row.int("draft")?);
        let sealed =
            sealing.seal(secret_place(&format!("{connection}.{number}")), &revision.client_secret)?;
        let end: String = {
            let text: Vec<char> = revision.client_secret.expose().chars().collect();
            // Of a short secret four characters would be too much of it.
            if text.len() < 16 { String::new() } else { text.iter().skip(text.len() - 4).collect() }
        };
        let metadata =
            revision.endpoints.as_ref().and_then(|endpoints| serde_json::to_string(endpoints).ok());
        self.execute(
            "INSERT INTO revision (connection_id, number, issuer_url, client_id, client_secret, client_secret_end, \
             client_auth_method, scopes, userinfo, email_claim, hosted_domains, created_by, created_at, metadata) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
            values![
                connection,
                number,
                &revision.issuer_url,
                &revision.client_id,
                sealed,
                end,
                revision.client_auth_method.map(ClientAuthMethod::as_str),
                &revision.scopes,
                revision.userinfo.as_str(),
                &revision.email_claim,
                revision.hosted_domains.join(" "),
                revision.created_by.map(|id| id.to_string()),
                now,
                metadata,
            ],
        )
        .await?;
        self.changed(Change::Organization(organization.name.key().to_owned()));
        Ok((connection, number))
    }

    /// Stores how a revision's test ended, over an older test's end.
    pub async fn put_test(
        &mut self,
        connection: ConnectionId,
        revision: RevisionNumber,
        test: &RevisionTest,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let findings: Vec<StoredFinding> = test.findings.iter().map(StoredFinding::from).collect();
        let json =
            |value: Result<String, serde_json::Error>| value.map_err(|e| StoreError::Corrupt(e.to_string()));
        let identity = test.identity.as_ref();
        self.execute(
            "INSERT INTO revision_test (connection_id, revision, outcome, findings, claims, account_id, browser_hash, \
             issuer, subject, sub, email, display_name, tested_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT (connection_id, revision) \
             DO UPDATE SET outcome = $3, findings = $4, claims = $5, account_id = $6, browser_hash = $7, issuer = $8, \
             subject = $9, sub = $10, email = $11, display_name = $12, tested_at = $13",
            values![
                connection,
                revision,
                if test.passed { "passed" } else { "failed" },
                json(serde_json::to_string(&findings))?,
                json(serde_json::to_string(&test.claims))?,
                test.account.map(|id| id.to_string()),
                test.browser.map(TokenHash::to_text),
                identity.map(|i| i.issuer.clone()),
                identity.map(|i| i.subject.clone()),
                identity.map(|i| i.sub.clone()),
                identity.and_then(|i| i.email.clone()),
                identity.and_then(|i| i.display_name.clone()),
                now,
            ],
        )
        .await?;
        Ok(())
    }

    /// Makes the draft `revision` live, if it still is the newest and `before` still is what is live. `new_epoch`:
    /// the issuer is another one, so SSO sessions under the old one end. Whether it happened.
    pub async fn enable_revision(
        &mut self,
        organization: &Organization,
        revision: RevisionNumber,
        before: Option<RevisionNumber>,
        enforcement: Enforcement,
        new_epoch: bool,
    ) -> Result<bool, StoreError> {
        let changed = self
            .execute(
                "UPDATE connection SET live = $2, enforcement = $3, epoch = epoch + $4 \
                 WHERE organization_id = $1 AND draft = $2 AND COALESCE(live, 0) = $5",
                values![
                    organization.id,
                    revision,
                    enforcement.as_str(),
                    new_epoch,
                    before.map_or(0, |number| number.0)
                ],
            )
            .await?;
        if changed == 0 {
            return Ok(false);
        }
        if new_epoch {
            self.end_sso_sessions(organization.id).await?;
        }
        self.changed(Change::Organization(organization.name.key().to_owned()));
        Ok(true)
    }

    /// Changes enforcement of a live connection. Whether it is live.
    pub async fn update_enforcement(
        &mut self,
        organization: &Organization,
        enforcement: Enforcement,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE connection SET enforcement = $2 WHERE organization_id = $1 AND live IS NOT NULL";
        let changed = self.execute(sql, values![organization.id, enforcement.as_str()]).await?;
        self.changed(Change::Organization(organization.name.key().to_owned()));
        Ok(changed > 0)
    }

    /// Switches SSO off and ends its sessions and open attempts; everything else is kept. The revision that was live.
    pub async fn disable_connection(
        &mut self,
        organization: &Organization,
    ) -> Result<Option<RevisionNumber>, StoreError> {
        let live = load_connection(self, organization.id).await?.and_then(|connection| connection.live);
        let Some(live) = live else { return Ok(None) };
        let sql =
            "UPDATE connection SET live = NULL, epoch = epoch + 1 WHERE organization_id = $1 AND live = $2";
        if self.execute(sql, values![organization.id, live]).await? == 0 {
            return Ok(None);
        }
        self.end_sso_sessions(organization.id).await?;
        self.changed(Change::Organization(organization.name.key().to_owned()));
        Ok(Some(live))
    }

    /// Deletes the SSO sessions, the open attempts, the held identities and the authorisations of tokens of an
    /// organization. The new epoch already voids sessions and authorisations in every cache, so accounts need no word each.
    pub(super) async fn end_sso_sessions(&mut self, organization: OrganizationId) -> Result<(), StoreError> {
        self.execute("DELETE FROM sso_session WHERE organization_id = $1", values![organization]).await?;
        self.delete_attempts_of(organization).await?;
        self.end_token_authorizations(organization).await?;
        self.delete_held_of_organization(organization).await
    }

    /// Links an identity to an account. `Conflict` if either is linked otherwise at this issuer.
    pub async fn insert_identity(
        &mut self,
        connection: ConnectionId,
        identity: &Identity,
        account: AccountId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO identity (connection_id, issuer, subject, sub, account_id, email, linked_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            values![
                connection,
                &identity.issuer,
                &identity.subject,
                &identity.sub,
                account,
                identity.email.clone(),
                now,
            ],
        )
        .await?;
        // Whose identity the account's is, is answered by this, at whichever issuer it was asked.
        let answered = "DELETE FROM link_question WHERE connection_id = $1 AND account_id = $2";
        self.execute(answered, values![connection, account]).await?;
        Ok(())
    }

    /// Notes who approved a link that the address alone did not make.
    pub async fn note_approval(
        &mut self,
        connection: ConnectionId,
        identity: &Identity,
        approved_by: &str,
    ) -> Result<(), StoreError> {
        let sql =
            "UPDATE identity SET approved_by = $4 WHERE connection_id = $1 AND issuer = $2 AND subject = $3";
        self.execute(sql, values![connection, &identity.issuer, &identity.subject, approved_by]).await?;
        Ok(())
    }

    /// Unlinks an account from all its identities at a connection; which they were.
    pub async fn delete_identities_of(
        &mut self,
        connection: ConnectionId,
        account: AccountId,
    ) -> Result<Vec<Identity>, StoreError> {
        let sql = "DELETE FROM identity WHERE connection_id = $1 AND account_id = $2 \
                   RETURNING issuer, subject, sub, email";
        let rows = self.fetch_all(sql, values![connection, account]).await?;
        rows.iter()
            .map(|row| {
                Ok(Identity {
                    issuer: row.text("issuer")?,
                    subject: row.text("subject")?,
                    sub: row.text("sub")?,
                    email: row.opt_text("email")?,
                    display_name: None,
                })
            })
            .collect()
    }

    /// Sets whether the provider's guests may be linked. Whether there is a connection.
    pub async fn update_guests_may_link(
        &mut self,
        organization: OrganizationId,
        may: bool,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE connection SET guests_may_link = $2 WHERE organization_id = $1";
        Ok(self.execute(sql, values![organization, may]).await? > 0)
    }

    /// Notes the address and the `sub` that came with the newest sign-in of a linked identity.
    pub async fn update_identity(
        &mut self,
        connection: ConnectionId,
        identity: &Identity,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE identity SET sub = $4, email = $5 WHERE connection_id = $1 AND issuer = $2 AND subject = $3 \
                   AND (sub <> $4 OR COALESCE(email, '') <> COALESCE($5, ''))";
        let v =
            values![connection, &identity.issuer, &identity.subject, &identity.sub, identity.email.clone()];
        self.execute(sql, v).await?;
        Ok(())
    }
}
