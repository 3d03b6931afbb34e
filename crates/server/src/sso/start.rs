//! Starts an attempt: remembers what must come back, and says where the browser goes.

use doorward_core::error_code::ErrorCode;
use doorward_core::finding::{Finding, Step};
use doorward_core::ids::RevisionNumber;
use doorward_core::oidc::{AuthorizationRequest, DEFAULT_SCOPES};
use doorward_core::secret::{Secret, TokenHash};
use url::Url;

use super::Endpoints;
use crate::app::App;
use crate::sealing::Place;
use crate::session::SignedIn;
use crate::store::{Attempt, Connection, Organization, Purpose, Revision, StoreError};

/// Where the browser goes, and the cookie that binds the attempt to it.
#[derive(Debug)]
pub struct Started {
    /// The provider's authorization endpoint with everything it needs.
    pub url: Url,
    /// A new browser cookie, where the browser had none.
    pub new_browser: Option<Secret>,
}

/// What an attempt keeps sealed: nonce and PKCE verifier, each 43 characters.
pub(super) fn sealed_place(state: &str) -> Place<'_> {
    Place { table: "attempt", column: "sealed", row: state }
}

/// Starts a trip to the provider under one revision.
#[expect(clippy::too_many_arguments, reason = "one trip, and all that it is bound to")]
pub async fn start(
    app: &App,
    organization: &Organization,
    connection: &Connection,
    revision: &Revision,
    purpose: Purpose,
    signed_in: &SignedIn,
    browser: Option<TokenHash>,
    next: &str,
    login_hint: Option<&str>,
) -> Result<Result<Started, Finding>, StoreError> {
    start_by(app, organization, connection, revision, (purpose, None), signed_in, browser, next, login_hint)
        .await
}

/// Starts the trip of somebody who holds the join link of this token, under the live revision.
#[expect(clippy::too_many_arguments, reason = "one trip, and all that it is bound to")]
pub async fn start_to_join(
    app: &App,
    organization: &Organization,
    connection: &Connection,
    revision: &Revision,
    join_link: TokenHash,
    signed_in: &SignedIn,
    browser: Option<TokenHash>,
    next: &str,
) -> Result<Result<Started, Finding>, StoreError> {
    let purpose = (Purpose::Join, Some(join_link));
    start_by(app, organization, connection, revision, purpose, signed_in, browser, next, None).await
}

#[expect(clippy::too_many_arguments, reason = "one trip, and all that it is bound to")]
async fn start_by(
    app: &App,
    organization: &Organization,
    connection: &Connection,
    revision: &Revision,
    (purpose, join_link): (Purpose, Option<TokenHash>),
    signed_in: &SignedIn,
    browser: Option<TokenHash>,
    next: &str,
    login_hint: Option<&str>,
) -> Result<Result<Started, Finding>, StoreError> {
    let Some(frozen) = &revision.endpoints else {
        return Ok(Err(Finding::new(Step::Discovery, ErrorCode::SettingsNotTested)));
    };
    let endpoints = Endpoints::of(frozen)?;
    let Some(session) = signed_in.session() else {
        return Ok(Err(Finding::new(Step::Settings, ErrorCode::AccountSignInNeeded)));
    };
    let now = app.clock.now();
    if app.sign_ins.take_beginning(signed_in.account.id, now).is_err() {
        return Ok(Err(Finding::new(Step::Settings, ErrorCode::AccountBeginsTooOften)));
    }
    let (state, nonce, verifier) = (app.random.token()?, app.random.token()?, app.random.token()?);
    let (browser, new_browser) = match browser {
        Some(hash) => (hash, None),
        None => {
            let token = app.random.token()?;
            (token.hash(), Some(token))
        }
    };
    let both = Secret::new(format!("{}.{}", nonce.expose(), verifier.expose()));
    let attempt = Attempt {
        state: state.hash(),
        browser,
        organization: organization.id,
        connection: connection.id,
        revision: revision.number,
        purpose,
        join_link,
        account: signed_in.account.id,
        session: session.id,
        sealed: app.sealing.seal(sealed_place(&state.hash().to_text()), &both)?,
        next: next.to_owned(),
        created_at: now,
    };
    let mut tx = app.store.begin().await?;
    tx.insert_attempt(&attempt).await?;
    tx.commit(now).await?;

    let redirect_uri = app.redirect_uri(organization.name.as_str());
    let request = AuthorizationRequest {
        endpoint: &endpoints.authorization,
        client_id: &revision.client_id,
        redirect_uri: &redirect_uri,
        scopes: if revision.scopes.is_empty() { DEFAULT_SCOPES } else { &revision.scopes },
        state: &state,
        nonce: &nonce,
        code_verifier: &verifier,
        login_hint,
        prompt: None,
        max_age: None,
        acr_values: None,
        hosted_domain: match revision.hosted_domains.as_slice() {
            [one] => Some(one),
            _ => None,
        },
    };
    Ok(Ok(Started { url: request.to_url(), new_browser }))
}

/// The revision that a purpose runs under.
pub fn revision_for(connection: &Connection, purpose: Purpose) -> Option<RevisionNumber> {
    match purpose {
        Purpose::Test => connection.draft,
        Purpose::SignIn | Purpose::Join => connection.live,
    }
}
