//! The signed identity assertion: who this is, for one application, for a minute (architecture.md §6).
//!
//! Signed once for a session or token, application and organization, and used again for half its life. Whole answers are kept for
//! the last who came, and count while their facts are the very same objects (a change loads new ones) and no other
//! organization has changed (they tell of all that are open to the person). For many more only the signature is, and counts
//! while the text made anew is the one that was signed (ADR 0045). So one organization's role is never told at another.
//! Keys are in the store, sealed; `/.well-known/jwks.json` publishes them. Never here: what the claims are (core).

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use doorward_core::assertion::{OpenOrganization, assertion_claims};
use doorward_core::error_code::ErrorCode;
use doorward_core::gate_decision::{Permit, SsoStanding, open_until};
use doorward_core::identity_headers::identity_headers;
use doorward_core::ids::OrganizationId;
use doorward_core::secret::Secret;
use doorward_core::time::{Lifetime, Timestamp};
use http::HeaderValue;
use quick_cache::sync::Cache;
use serde_json::{Value, json};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, PoisonError, RwLock};

use super::caller::{At, Caller, CredentialId};
use super::identity::{ASSERTION_PLACE, Identity, headers_of};
use crate::app::App;
use crate::configuration::Application;
use crate::store::{
    ASSERTION_KEY_AGE, ASSERTION_KEY_OVERLAP, AccountFacts, AssertionKey, OrganizationFacts, StoreError,
    load_assertion_keys,
};

/// An assertion is used again while it has at least this long to live.
const REUSED_WITH: Lifetime = Lifetime::from_seconds(30);
/// How often a node looks for keys that another has made.
const KEYS_READ_EVERY: Lifetime = Lifetime::from_minutes(5);
/// Whole answers kept: one to three kilobytes each.
const ANSWERS_KEPT: usize = 20_000;
/// Signatures kept: some 150 bytes each.
const SIGNATURES_KEPT: usize = 100_000;
/// Octets of a signature: two numbers of P-256.
const SIGNATURE_BYTES: usize = 64;

/// For whom and where: an assertion is used for nothing else.
type Key = (CredentialId, usize, Option<OrganizationId>);

/// What may change while account and organization stay: by the time, whether the organization counts, its SSO and the
/// banner; and how often any organization has changed, because the assertion tells of all that are open to the person.
type Standing = (bool, SsoStanding, bool, u64);

/// A signed assertion, with the facts that it was made from.
struct Signed {
    account: Arc<AccountFacts>,
    organization: Option<Arc<OrganizationFacts>>,
    standing: Standing,
    good_from: Timestamp,
    good_until: Timestamp,
    identity: Identity,
}

/// What signing needs and the gate has not at hand.
pub(super) struct Ready {
    /// How often any organization had changed before these were asked for.
    changes: u64,
    keys: Arc<Keys>,
    /// Those whose pages are open to the person.
    open: Vec<OpenOrganization>,
}

/// What can't be made anew of an assertion.
#[derive(Clone, Copy)]
struct Signature {
    /// When: `iat` of the text that was signed.
    signed_at: Timestamp,
    /// A hash of that text. Were it another text's, the application would refuse the signature.
    text: u64,
    octets: [u8; SIGNATURE_BYTES],
}

/// Signs assertions, and publishes the keys.
pub struct Assertions {
    keys: RwLock<Option<Arc<Keys>>>,
    signed: Cache<Key, Arc<Signed>>,
    /// By a hash of their `Key`.
    signatures: Cache<u64, Signature>,
    hashing: RandomState,
}

/// A key, ready to sign.
struct Signer {
    key: AssertionKey,
    pair: EcdsaKeyPair,
    /// The token's header, as it stands in a token.
    header: String,
}

impl Signer {
    fn new(key: AssertionKey) -> Result<Self, StoreError> {
        let corrupt = || StoreError::Corrupt("assertion_key".to_owned());
        let der = URL_SAFE_NO_PAD.decode(key.private_key.expose()).map_err(|_| corrupt())?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der).map_err(|_| corrupt())?;
        let header = json!({ "typ": "JWT", "alg": "ES256", "kid": key.kid }).to_string();
        Ok(Self { header: URL_SAFE_NO_PAD.encode(header), key, pair })
    }

    fn sign(&self, text: &str) -> Result<[u8; SIGNATURE_BYTES], StoreError> {
        let library = |_| StoreError::NoRandomness(crate::random::NoRandomness);
        let signature = self.pair.sign(&crate::random::for_signatures(), text.as_bytes()).map_err(library)?;
        signature.as_ref().try_into().map_err(|_| StoreError::Corrupt("assertion".to_owned()))
    }
}

struct Keys {
    /// The newest first.
    all: Vec<Signer>,
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
        Self {
            keys: RwLock::default(),
            signed: Cache::new(ANSWERS_KEPT),
            signatures: Cache::new(SIGNATURES_KEPT),
            hashing: RandomState::new(),
        }
    }
}

impl Assertions {
    /// The identity headers for a request that goes on, the assertion among them; it is empty for a stranger, and for an
    /// application that doesn't read it. `None`: it has to be signed, which needs what `make_ready` looks up.
    #[expect(clippy::too_many_arguments, reason = "what an assertion tells")]
    pub(super) fn identity(
        &self,
        app: &App,
        permit: &Permit<'_>,
        caller: &Caller,
        organization: Option<&Arc<OrganizationFacts>>,
        application: &Application,
        now: Timestamp,
        ready: Option<&Ready>,
    ) -> Result<Option<Identity>, StoreError> {
        let without = || Ok(Some(Identity::new(headers_of(identity_headers(permit)))));
        let (true, Some(account), Some(credential)) =
            (application.assertion, caller.account(), caller.credential_id())
        else {
            return without();
        };
        let place = app.configuration.applications.iter().position(|known| std::ptr::eq(known, application));
        let Some(place) = place else { return without() };
        let key = (credential, place, organization.map(|organization| organization.id));
        // All else in a permit follows from the facts; this is compared because the time goes on.
        let changes = ready.map_or_else(|| app.store.facts().organization_changes(), |ready| ready.changes);
        let standing = (permit.place().is_some(), permit.sso(), permit.banner(), changes);
        if let Some(signed) = self.signed.get(&key)
            && Arc::ptr_eq(&signed.account, account)
            && same(signed.organization.as_ref(), organization)
            && signed.standing == standing
            && (signed.good_from..signed.good_until).contains(&now)
        {
            return Ok(Some(signed.identity.clone()));
        }
        let Some(ready) = ready else { return Ok(None) };

        let mut headers = headers_of(identity_headers(permit));
        // The newest that may sign; the oldest where another node's clock, which made the first one, is ahead of ours.
        let keys = &ready.keys.all;
        let signer = keys.iter().find(|signer| signer.key.signs_from <= now).or(keys.last());
        let signer = signer.ok_or_else(|| StoreError::Corrupt("assertion_key".to_owned()))?;
        let issuer = app.configuration.base_url.join("");
        let issuer = issuer.trim_end_matches('/');
        let text_at = |at: Timestamp| {
            let claims = assertion_claims(permit, issuer, application.name(), &ready.open, at)?;
            let good_until = Timestamp::from_seconds(claims.exp).minus(REUSED_WITH);
            let claims = serde_json::to_vec(&claims).ok()?;
            Some((format!("{}.{}", signer.header, URL_SAFE_NO_PAD.encode(claims)), good_until))
        };
        // What was signed before counts still, if the same text is to be signed and it is young enough.
        let mark = self.hashing.hash_one(key);
        let kept = self.signatures.get(&mark).and_then(|kept| {
            let (text, good_until) = text_at(kept.signed_at)?;
            let counts =
                kept.text == self.hashing.hash_one(&text) && (kept.signed_at..good_until).contains(&now);
            counts.then_some((kept, text, good_until))
        });
        let (signature, text, good_until) = match kept {
            Some(kept) => kept,
            None => {
                let Some((text, good_until)) = text_at(now) else { return without() };
                let (hash, octets) = (self.hashing.hash_one(&text), signer.sign(&text)?);
                let signature = Signature { signed_at: now, text: hash, octets };
                self.signatures.insert(mark, signature);
                (signature, text, good_until)
            }
        };
        let token = format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.octets));
        let value = HeaderValue::try_from(token).map_err(|_| StoreError::Corrupt("assertion".to_owned()))?;
        if let Some((_, assertion)) = headers.get_mut(ASSERTION_PLACE) {
            *assertion = value;
        }
        let identity = Identity::new(headers);
        let signed = Signed {
            account: Arc::clone(account),
            organization: organization.cloned(),
            standing,
            good_from: signature.signed_at,
            good_until,
            identity: identity.clone(),
        };
        self.signed.insert(key, Arc::new(signed));
        Ok(Some(identity))
    }

    /// Looks up what a new assertion needs beside the decision.
    pub(super) async fn make_ready(
        &self,
        app: &App,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<Ready, StoreError> {
        // The number is read before the organizations are asked for, so that one that changes meanwhile counts.
        let changes = app.store.facts().organization_changes();
        let keys = self.keys(app, now, Box::pin(read_or_make_keys(app, now))).await?;
        let open = match caller.account() {
            Some(account) => open_organizations(app, caller, account, now).await?,
            None => Vec::new(),
        };
        Ok(Ready { changes, keys, open })
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
            .map(|Signer { key, .. }| {
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
            && known.all.first().is_some_and(|newest| now.since(newest.key.created_at) < ASSERTION_KEY_AGE)
            && (Lifetime::from_millis(0)..KEYS_READ_EVERY).contains(&now.since(known.read_at))
        {
            return Ok(Arc::clone(known));
        }
        let ready = |all: Vec<AssertionKey>| all.into_iter().map(Signer::new).collect::<Result<_, _>>();
        let read = match look.await.and_then(ready) {
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
    let mut all = app.store.organizations_of(account, now).await?;
    all.sort_by_cached_key(|organization| organization.name().to_ascii_lowercase());
    let open = all.iter().filter(|organization| !organization.deleted).filter_map(|organization| {
        let membership =
            account.memberships.iter().find(|membership| membership.organization == organization.id)?;
        let at = Some(At::of(organization));
        let credential = caller.credential(at);
        let (role, sso_ends_at) = open_until(
            organization.for_decision(),
            membership.for_decision(),
            credential,
            caller.sso_session(at),
            now,
        )?;
        Some(OpenOrganization { name: organization.name().to_owned(), role, sso_ends_at })
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
