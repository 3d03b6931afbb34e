//! The signed identity assertion: who this is, for one application, for a minute (architecture.md §6).
//!
//! Signed once for a session or token, application and organization, and used again for half its life, with the other
//! identity headers beside it, while the facts that they were made from are the very same objects; any change to account, membership, session or organization loads new facts,
//! and so a new assertion. So one organization's role is never told at another, and the hot path signs nothing.
//! Keys are in the store, sealed; `/.well-known/jwks.json` publishes them. Never here: what the claims are (core).

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use doorward_core::assertion::{OpenOrganization, assertion_claims};
use doorward_core::error_code::ErrorCode;
use doorward_core::gate_decision::{
    Membership, OrganizationFacts as CoreOrganization, Permit, Sso, SsoStanding, open_until,
};
use doorward_core::identity_headers::identity_headers;
use doorward_core::ids::OrganizationId;
use doorward_core::secret::Secret;
use doorward_core::time::{Lifetime, Timestamp};
use http::HeaderValue;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use quick_cache::sync::Cache;
use serde_json::{Value, json};
use std::sync::{Arc, PoisonError, RwLock};

use super::caller::{At, Caller, CredentialId};
use super::{ASSERTION_PLACE, IdentityValues, values};
use crate::app::App;
use crate::configuration::Application;
use crate::store::{
    ASSERTION_KEY_AGE, ASSERTION_KEY_OVERLAP, AccountFacts, AssertionKey, OrganizationFacts, StoreError,
    load_assertion_keys, load_organizations_of,
};

/// An assertion is used again while it has at least this long to live.
const REUSED_WITH: Lifetime = Lifetime::from_seconds(30);
/// How often a node looks for keys that another has made.
const KEYS_READ_EVERY: Lifetime = Lifetime::from_minutes(5);
/// Assertions kept: some kilobyte each.
const KEPT: usize = 20_000;

/// For whom and where: an assertion is used for nothing else.
type Key = (CredentialId, usize, Option<OrganizationId>);

/// What the time changes of a permit while the facts stay: whether the organization counts, its SSO, the banner.
type Standing = (bool, SsoStanding, bool);

/// A signed assertion, with the facts that it was made from.
#[derive(Clone)]
struct Signed {
    account: Arc<AccountFacts>,
    organization: Option<Arc<OrganizationFacts>>,
    standing: Standing,
    good_from: Timestamp,
    good_until: Timestamp,
    headers: IdentityValues,
}

/// Signs assertions, and publishes the keys.
pub struct Assertions {
    keys: RwLock<Option<Arc<Keys>>>,
    signed: Cache<Key, Signed>,
}

struct Keys {
    all: Vec<AssertionKey>,
    read_at: Timestamp,
    /// Of what the node knew when it read them: after a restore it has forgotten everything, and these keys too.
    forgettings: u64,
}

impl std::fmt::Debug for Assertions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Assertions").field("signed", &self.signed.len()).finish_non_exhaustive()
    }
}

impl Default for Assertions {
    fn default() -> Self {
        Self { keys: RwLock::default(), signed: Cache::new(KEPT) }
    }
}

impl Assertions {
    /// The identity headers for a request that goes on, the assertion among them; it is empty for a stranger.
    pub(super) async fn headers(
        &self,
        app: &App,
        permit: &Permit<'_>,
        caller: &Caller,
        organization: Option<&Arc<OrganizationFacts>>,
        application: &Application,
        now: Timestamp,
    ) -> Result<IdentityValues, StoreError> {
        let (Some(account), Some(credential)) = (caller.account(), caller.credential_id()) else {
            return Ok(values(identity_headers(permit)));
        };
        let place = app.configuration.applications.iter().position(|known| std::ptr::eq(known, application));
        let Some(place) = place else { return Ok(values(identity_headers(permit))) };
        let key = (credential, place, organization.map(|organization| organization.id));
        // All else in a permit follows from the facts; this is compared because the time goes on.
        let standing = (permit.place().is_some(), permit.sso(), permit.banner());
        if let Some(signed) = self.signed.get(&key)
            && Arc::ptr_eq(&signed.account, account)
            && same(signed.organization.as_ref(), organization)
            && signed.standing == standing
            && (signed.good_from..signed.good_until).contains(&now)
        {
            return Ok(signed.headers);
        }
        Box::pin(self.sign(app, permit, (caller, account), organization, application, key, standing, now))
            .await
    }

    #[expect(clippy::too_many_arguments, reason = "the slow half of `header`")]
    async fn sign(
        &self,
        app: &App,
        permit: &Permit<'_>,
        (caller, account): (&Caller, &Arc<AccountFacts>),
        organization: Option<&Arc<OrganizationFacts>>,
        application: &Application,
        key: Key,
        standing: Standing,
        now: Timestamp,
    ) -> Result<IdentityValues, StoreError> {
        let mut headers = values(identity_headers(permit));
        let keys = self.keys(app, now, Box::pin(read_or_make_keys(app, now))).await?;
        // The newest that may sign; the oldest where another node's clock, which made the first one, is ahead of ours.
        let signer = keys.all.iter().find(|key| key.signs_from <= now).or(keys.all.last());
        let signer = signer.ok_or_else(|| StoreError::Corrupt("assertion_key".to_owned()))?;
        let open = open_organizations(app, caller, account, now).await?;
        let issuer = app.configuration.base_url.join("");
        let issuer = issuer.trim_end_matches('/');
        let Some(claims) = assertion_claims(permit, issuer, application.name(), &open, now) else {
            return Ok(headers);
        };
        let corrupt = |_| StoreError::Corrupt("assertion_key".to_owned());
        let der = URL_SAFE_NO_PAD.decode(signer.private_key.expose()).map_err(corrupt)?;
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(signer.kid.clone());
        let token = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_ec_der(&der))
            .map_err(|error| StoreError::Corrupt(format!("assertion_key: {error}")))?;
        let value = HeaderValue::from_str(&token).map_err(|_| StoreError::Corrupt("assertion".to_owned()))?;
        if let Some(assertion) = headers.get_mut(ASSERTION_PLACE) {
            *assertion = value;
        }
        let signed = Signed {
            account: Arc::clone(account),
            organization: organization.cloned(),
            standing,
            good_from: now,
            good_until: Timestamp::from_seconds(claims.exp).minus(REUSED_WITH),
            headers: headers.clone(),
        };
        self.signed.insert(key, signed);
        Ok(headers)
    }

    /// Makes the first key, so that the set is published before anything is signed.
    pub async fn prepare(&self, app: &App, now: Timestamp) -> Result<(), StoreError> {
        self.keys(app, now, Box::pin(read_or_make_keys(app, now))).await.map(drop)
    }

    /// The key set that applications verify by (RFC 7517): every key that signs, has signed lately, or will soon. Makes
    /// none, because strangers ask for it (rule 9).
    pub async fn key_set(&self, app: &App, now: Timestamp) -> Result<Value, StoreError> {
        let keys = self.keys(app, now, read_keys(app)).await?;
        let keys: Vec<Value> = keys
            .all
            .iter()
            .map(|key| {
                let (x, y) = key.public();
                json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": key.kid,
                        "x": x, "y": y })
            })
            .collect();
        Ok(json!({ "keys": keys }))
    }

    /// The keys as this node knows them; every now and then, and while there is none that is young enough, it looks again.
    async fn keys(
        &self,
        app: &App,
        now: Timestamp,
        look: impl Future<Output = Result<Vec<AssertionKey>, StoreError>>,
    ) -> Result<Arc<Keys>, StoreError> {
        let forgettings = app.store.facts().forgettings();
        let known = self.keys.read().unwrap_or_else(PoisonError::into_inner).clone();
        let known = known.filter(|known| known.forgettings == forgettings);
        if let Some(known) = &known
            && known.all.first().is_some_and(|newest| now.since(newest.created_at) < ASSERTION_KEY_AGE)
            && (Lifetime::from_millis(0)..KEYS_READ_EVERY).contains(&now.since(known.read_at))
        {
            return Ok(Arc::clone(known));
        }
        let read = match look.await {
            Ok(all) => Arc::new(Keys { all, read_at: now, forgettings }),
            // Keys that are known go on: a store that is away for a moment is no reason to sign nothing.
            Err(error) => return known.ok_or(error),
        };
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&read));
        Ok(read)
    }
}

fn same(a: Option<&Arc<OrganizationFacts>>, b: Option<&Arc<OrganizationFacts>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    }
}

/// Every organization whose pages are open to the person now.
async fn open_organizations(
    app: &App,
    caller: &Caller,
    account: &AccountFacts,
    now: Timestamp,
) -> Result<Vec<OpenOrganization>, StoreError> {
    let all = load_organizations_of(&mut app.store.reader(), account.id).await?;
    let open = all.into_iter().filter_map(|member| {
        let organization = CoreOrganization {
            id: member.organization.id,
            name: member.organization.name.as_str(),
            sso: match member.sso {
                None => Sso::Off,
                Some(enforcement) => {
                    Sso::On { enforcement, session_timeout: member.organization.session_timeout }
                }
            },
        };
        let membership =
            Membership { role: member.role, external_collaborator: member.external_collaborator };
        let at = Some(At { id: organization.id, epoch: member.epoch, token_sso_days: member.token_sso_days });
        let credential = caller.credential(at);
        let (role, sso_ends_at) =
            open_until(organization, membership, credential, caller.sso_session(at), now)?;
        Some(OpenOrganization { name: member.organization.name.as_str().to_owned(), role, sso_ends_at })
    });
    Ok(open.collect())
}

async fn read_keys(app: &App) -> Result<Vec<AssertionKey>, StoreError> {
    let keys = load_assertion_keys(&mut app.store.reader(), &app.sealing).await?;
    for kid in keys.corrupt {
        let error = StoreError::Corrupt(format!("assertion_key {kid:?}"));
        tracing::error!(code = %ErrorCode::StoreCorrupt, %error, "a key that does not open is not published and signs nothing");
        app.metrics.store_error();
    }
    Ok(keys.good)
}

/// Reads the keys, and makes the first, or the next when the newest is old.
async fn read_or_make_keys(app: &App, now: Timestamp) -> Result<Vec<AssertionKey>, StoreError> {
    let keys = read_keys(app).await?;
    if keys.first().is_some_and(|newest| now.since(newest.created_at) < ASSERTION_KEY_AGE) {
        return Ok(keys);
    }
    let mut tx = app.store.begin().await?;
    tx.lock_assertion_keys().await?;
    // Somebody else may have made it meanwhile.
    let keys = load_assertion_keys(&mut tx, &app.sealing).await?.good;
    let newest = keys.first();
    if newest.is_none_or(|newest| now.since(newest.created_at) >= ASSERTION_KEY_AGE) {
        let signs_from = if newest.is_some() { now.plus(ASSERTION_KEY_OVERLAP) } else { now };
        tx.insert_assertion_key(&new_key(app, now, signs_from)?, &app.sealing).await?;
    }
    let keys = load_assertion_keys(&mut tx, &app.sealing).await?.good;
    tx.commit(now).await?;
    Ok(keys)
}

fn new_key(app: &App, now: Timestamp, signs_from: Timestamp) -> Result<AssertionKey, StoreError> {
    let library = |_| StoreError::NoRandomness(crate::random::NoRandomness);
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(library)?;
    let private_key = pair.to_pkcs8v1().map_err(library)?;
    let private_key = Secret::new(URL_SAFE_NO_PAD.encode(private_key.as_ref()));
    AssertionKey::new(URL_SAFE_NO_PAD.encode(app.random.bytes::<12>()?), private_key, now, signs_from)
        .ok_or_else(|| StoreError::Corrupt("a new assertion_key".to_owned()))
}
