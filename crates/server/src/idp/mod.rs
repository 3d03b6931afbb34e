//! The network half of the trip to the provider: what `doorward_core::oidc` decides, sent and fetched.
//!
//! In: URLs and requests that core made, and who asks. Out: core's checked types, or the finding of what failed.
//! Never here: the store, sessions, HTML, and rules: what an answer means is said in core.
//! Invariant: keys belong to one connection's revision and issuer, never to two organizations (conformance.md J8), and
//! come from the revision's own `jwks_uri`, never from a token. No transaction is open while anything here is awaited.

mod metadata_cache;
#[cfg(test)]
mod tests;

use crate::metrics::{Metrics, OutboundKind};
use crate::outbound::{Answer, Limits, Outbound, OutboundFault};
use doorward_core::finding::{Finding, Step};
use doorward_core::ids::{ConnectionId, OrganizationId, RevisionNumber};
use doorward_core::oidc::id_token::TokenFault;
use doorward_core::oidc::{
    CodeRedemption, Expected, HttpAnswer, IssuerInput, KeySet, Metadata, TokenResponse, Userinfo,
    VerifiedIdToken, parse_jwks, parse_metadata, parse_token_response, parse_userinfo, verify_id_token,
};
use doorward_core::secret::Secret;
use doorward_core::time::{Lifetime, Timestamp};
use metadata_cache::{AgedCache, Ages, Seen};
use std::sync::Arc;
use url::Url;

/// Key sets and metadata documents that are kept, each.
const ENTRIES: usize = 4096;

/// Keys are asked for again after ten minutes, and serve known key identifiers for a day while the provider is down.
/// Two fetches a minute: the first, and one more for a rotation right after it.
const KEY_AGES: Ages =
    Ages { fresh_for: Lifetime::from_minutes(10), kept_for: Lifetime::from_hours(24), fetches_per_minute: 2 };

/// The keys of one application at Entra, which few have: one fetch a minute.
const APPLICATION_KEY_AGES: Ages = Ages { fetches_per_minute: 1, ..KEY_AGES };

/// Whose keys are meant. Two sources are never served from one another's copy.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct KeySource {
    /// For whom the call is made; calls are shared fairly by it.
    pub organization: OrganizationId,
    /// The connection.
    pub connection: ConnectionId,
    /// Its revision.
    pub revision: RevisionNumber,
    /// The revision's issuer.
    pub issuer: String,
    /// Where the keys are, frozen into the revision.
    pub jwks_uri: Url,
}

/// The client of all identity providers. One for the process.
pub struct ProviderClient {
    outbound: Arc<Outbound>,
    keys: AgedCache<KeySource, KeySet>,
    application_keys: AgedCache<KeySource, KeySet>,
    metrics: Option<Arc<Metrics>>,
}

impl ProviderClient {
    /// Over the process's outgoing client.
    pub fn new(outbound: Arc<Outbound>) -> Self {
        let keys = AgedCache::new(ENTRIES, KEY_AGES);
        let application_keys = AgedCache::new(ENTRIES, APPLICATION_KEY_AGES);
        Self { outbound, keys, application_keys, metrics: None }
    }

    /// Counts its calls there.
    #[must_use]
    pub fn counted_by(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// Counts a call's end, and turns a fault into the finding of its step.
    fn counted(
        &self,
        kind: OutboundKind,
        step: Step,
        url: &Url,
        called: Result<Answer, OutboundFault>,
    ) -> Result<Answer, Finding> {
        if let Some(metrics) = &self.metrics {
            metrics.outbound(kind, called.as_ref().map(|_| ()).map_err(|fault| fault.code));
        }
        called.map_err(|fault| fault.finding(step, url))
    }

    /// Fetches the provider's metadata. Always anew: an admin who saves wants to see what the provider says now, and
    /// sign-ins use what was frozen into the revision.
    pub async fn discover(
        &self,
        organization: OrganizationId,
        input: &IssuerInput,
    ) -> Result<Metadata, Finding> {
        let url = &input.metadata_url;
        let answer = self.get(OutboundKind::Metadata, organization, url).await?;
        parse_metadata(&http_answer(&answer), input, |host, port| self.outbound.insecure_allowed(host, port))
    }

    /// The provider's keys, at most ten minutes old unless the provider is down. For the settings test, which looks at
    /// them before anybody is sent to the provider; `verify` fetches by itself.
    pub async fn keys(&self, source: &KeySource, now: Timestamp) -> Result<Arc<KeySet>, Finding> {
        self.keys.get(source, now, self.fetch_keys(source)).await.map(|seen| seen.value)
    }

    /// Redeems the code. Sent once, whatever happens: a code that was shown twice may end the session at the provider.
    pub async fn redeem(
        &self,
        organization: OrganizationId,
        token_endpoint: &Url,
        redemption: &CodeRedemption<'_>,
    ) -> Result<TokenResponse, Finding> {
        let request = redemption.to_request();
        let authorization = request.authorization.as_ref();
        let called = self
            .outbound
            .post_form(organization, token_endpoint, authorization, &request.body, Limits::TOKEN)
            .await;
        let answer = self.counted(OutboundKind::Token, Step::Token, token_endpoint, called)?;
        let sent = [redemption.client_secret, redemption.code, redemption.code_verifier];
        parse_token_response(&http_answer(&answer), &sent)
    }

    /// Checks the ID token with the provider's keys, which are fetched if need be: once more if none of them signed
    /// it, and from Entra those of the application, which are not in its tenant's set (entra.md section 3).
    pub async fn verify(
        &self,
        source: &KeySource,
        id_token: &Secret,
        expected: &Expected<'_>,
        now: Timestamp,
    ) -> Result<VerifiedIdToken, Finding> {
        let judge = |keys: &Seen<KeySet>| verify_id_token(id_token.expose(), &keys.value, expected, now);
        let keys = self.keys.get(source, now, self.fetch_keys(source)).await?;
        let unknown = match judge(&keys) {
            Ok(verified) => return Ok(verified),
            Err(TokenFault::Refused(finding)) => return Err(finding),
            Err(TokenFault::UnknownKey(finding)) => finding,
        };
        // An application with keys of its own must not cost its tenant's set a refetch at each sign-in.
        let application = expected.entra_tenant.map(|_| application_source(source, expected.client_id));
        if let Some(keys) = application.as_ref().and_then(|source| self.application_keys.peek(source, now))
            && let Some(end) = settled(judge(&keys))
        {
            return end;
        }
        let newer = self.keys.newer(source, &keys, now, self.fetch_keys(source)).await;
        if let Ok(Some(keys)) = &newer
            && let Some(end) = settled(judge(keys))
        {
            return end;
        }
        if let Some(source) = application {
            let fetched = self.application_keys.get(&source, now, self.fetch_keys(&source)).await;
            if let Ok(keys) = fetched
                && let Some(end) = settled(judge(&keys))
            {
                return end;
            }
        }
        // If the keys could not be asked for, that is the truer reason.
        Err(newer.err().unwrap_or(unknown))
    }

    /// Asks for further claims about the person of a verified ID token.
    pub async fn userinfo(
        &self,
        organization: OrganizationId,
        endpoint: &Url,
        access_token: &Secret,
        id_token: &VerifiedIdToken,
    ) -> Result<Userinfo, Finding> {
        let bearer = Secret::new(format!("Bearer {}", access_token.expose()));
        let called = self.outbound.get_as(organization, endpoint, Some(&bearer), Limits::USERINFO).await;
        let answer = self.counted(OutboundKind::UserInfo, Step::Userinfo, endpoint, called)?;
        parse_userinfo(&http_answer(&answer), id_token)
    }

    /// Whether keys can be had at all: asked once when settings are saved, before anybody is sent to the provider.
    /// Nothing is kept of it.
    pub async fn check_keys(&self, organization: OrganizationId, jwks_uri: &Url) -> Result<(), Finding> {
        let answer = self.get(OutboundKind::Keys, organization, jwks_uri).await?;
        parse_jwks(&http_answer(&answer)).map(|_| ())
    }

    async fn fetch_keys(&self, source: &KeySource) -> Result<KeySet, Finding> {
        let answer = self.get(OutboundKind::Keys, source.organization, &source.jwks_uri).await?;
        parse_jwks(&http_answer(&answer))
    }

    /// One of the two documents of discovery.
    async fn get(
        &self,
        kind: OutboundKind,
        organization: OrganizationId,
        url: &Url,
    ) -> Result<Answer, Finding> {
        let called = self.outbound.get(organization, url, Limits::DOCUMENT).await;
        self.counted(kind, Step::Discovery, url, called)
    }
}

fn http_answer(answer: &Answer) -> HttpAnswer<'_> {
    HttpAnswer { status: answer.status, content_type: answer.content_type.as_deref(), bytes: &answer.body }
}

/// The end of the check, unless another key set may still know the key.
fn settled(verified: Result<VerifiedIdToken, TokenFault>) -> Option<Result<VerifiedIdToken, Finding>> {
    match verified {
        Ok(verified) => Some(Ok(verified)),
        Err(TokenFault::Refused(finding)) => Some(Err(finding)),
        Err(TokenFault::UnknownKey(_)) => None,
    }
}

/// Where Entra publishes the keys of one application beside those of its tenant.
fn application_source(source: &KeySource, client_id: &str) -> KeySource {
    let mut application = source.clone();
    if !application.jwks_uri.query_pairs().any(|(name, _)| name == "appid") {
        application.jwks_uri.query_pairs_mut().append_pair("appid", client_id);
    }
    application
}
