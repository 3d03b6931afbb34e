//! The one gate between a provider's ID token and everything that believes it.
//!
//! In: the token as sent, the provider's keys, what the attempt expects, and now. Out: a `VerifiedIdToken`, or one
//! finding with one code. Never here: fetching keys, a clock, linking. Reads top to bottom in the order of the checks.
//! Invariant: only `verify_id_token` makes a `VerifiedIdToken` (rule 3; OpenID Connect Core 1.0 sections 2 and
//! 3.1.3.7, RFC 8725; conformance.md OC1 to OC14, J1 to J15).

use crate::error_code::ErrorCode;
use crate::finding::{Finding, Step, bounded};
use crate::idp_quirks::shared_issuer;
use crate::oidc::issuer_input::guid;
use crate::oidc::signing_keys::{KeyChoice, KeySet, MAX_KID, SignatureAlgorithm, SigningKey};
use crate::oidc::strict_json::{JsonFault, Limits, parse_object};
use crate::secret::{Secret, same_bytes};
use crate::time::{Lifetime, Timestamp};
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// How far the clocks of provider and service may differ.
pub const CLOCK_SKEW: Lifetime = Lifetime::from_seconds(60);
/// How long before the attempt a token may say it was issued: Entra back-dates. Freshness is the nonce's.
pub const ISSUED_BEFORE_ATTEMPT: Lifetime = Lifetime::from_minutes(10);
/// The longest time from issue to expiry.
pub const LONGEST_LIFETIME: Lifetime = Lifetime::from_hours(24);

const MAX_TOKEN: usize = 64 * 1024;
const MAX_CLAIMS: usize = 64;
const LIMITS: Limits = Limits { bytes: MAX_TOKEN, depth: 8 };

/// What the attempt and its revision expect of the token.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The revision's issuer.
    pub issuer: &'a str,
    /// The revision's client identifier.
    pub client_id: &'a str,
    /// The attempt's nonce.
    pub nonce: &'a Secret,
    /// The algorithms frozen into the revision.
    pub algorithms: &'a [SignatureAlgorithm],
    /// When the attempt was started.
    pub attempt_started_at: Timestamp,
    /// The access token that came with it, for `at_hash`.
    pub access_token: Option<&'a Secret>,
    /// The `max_age` that was asked for.
    pub max_age: Option<Lifetime>,
    /// The ways of authenticating that the organization demands; empty for any.
    pub acr_values: &'a [String],
    /// The domains that `hd` must be one of; required for an issuer that everybody shares.
    pub hosted_domains: &'a [String],
    /// The tenant's GUID for an Entra-shaped issuer (`Metadata::entra_tenant`).
    pub entra_tenant: Option<&'a str>,
}

/// Why a token was not accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TokenFault {
    /// No known key has signed it. Fetch the keys once (throttled) and verify again; if it stays so, this is the
    /// finding.
    UnknownKey(Finding),
    /// Refused for good.
    Refused(Finding),
}

impl TokenFault {
    /// The finding of either kind.
    pub fn into_finding(self) -> Finding {
        match self {
            Self::UnknownKey(finding) | Self::Refused(finding) => finding,
        }
    }
}

impl From<Finding> for TokenFault {
    fn from(finding: Finding) -> Self {
        Self::Refused(finding)
    }
}

/// An ID token after every check. The only source of an identity.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifiedIdToken {
    issuer: String,
    sub: String,
    object_id: Option<String>,
    entra_tenant: Option<String>,
    auth_time: Option<Timestamp>,
    claims: Map<String, Value>,
}

impl std::fmt::Debug for VerifiedIdToken {
    /// Claims are personal: only who issued it for whom is printed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifiedIdToken")
            .field("issuer", &self.issuer)
            .field("key_subject", &self.key_subject())
            .finish_non_exhaustive()
    }
}

/// Turns an untrusted ID token into the only form that the rest of the code accepts.
///
/// The allowed algorithms are fixed before a key is chosen: a token may not pick how it is judged. Nothing of the
/// claims is read before the signature is good.
pub fn verify_id_token(
    token: &str,
    keys: &KeySet,
    expected: &Expected<'_>,
    now: Timestamp,
) -> Result<VerifiedIdToken, TokenFault> {
    // Form: three parts, nothing encrypted, nothing that we would have to understand and don't.
    let (signed, header, payload, signature) = split(token)?;
    let header = read_part(header, "header")?;
    let (algorithm, kid) = judge_header(&header, expected)?;
    if URL_SAFE_NO_PAD.decode(signature).is_err() {
        return Err(refused(ErrorCode::OidcTokenNotJws).with("found", "a signature not of Base64url").into());
    }

    // Signature, by a key that the provider publishes for this issuer.
    match keys.choose(kid, algorithm, expected.issuer, expected.entra_tenant) {
        KeyChoice::Unknown => {
            return Err(TokenFault::UnknownKey(
                refused(ErrorCode::OidcKeyUnknown).with("kid", kid.unwrap_or("none")),
            ));
        }
        KeyChoice::OtherAlgorithm => {
            return Err(refused(ErrorCode::OidcAlgorithmRefused)
                .with("found", algorithm.as_str())
                .with("expected", "the algorithm of the key that the token names")
                .into());
        }
        KeyChoice::OtherIssuer => {
            return Err(refused(ErrorCode::OidcKeyUnknown)
                .with("kid", kid.unwrap_or("none"))
                .with("found", "the key signs for another issuer")
                .into());
        }
        KeyChoice::Try(keys) => judge_signature(&keys, signed, signature, algorithm, kid)?,
    }
    let claims = read_part(payload, "payload")?;
    if claims.len() > MAX_CLAIMS {
        return Err(refused(ErrorCode::OidcClaimInvalid).with("found", "more than 64 claims").into());
    }

    // Who issued it, for whom.
    judge_issuer_claim(&claims, expected)?;
    judge_audience(&claims, expected)?;

    // When.
    judge_times(&claims, expected, now)?;

    // In answer to this very attempt.
    let nonce = text(&claims, "nonce", ErrorCode::OidcNonceMismatch)?;
    if !nonce.is_some_and(|nonce| same_bytes(nonce.as_bytes(), expected.nonce.expose().as_bytes())) {
        return Err(refused(ErrorCode::OidcNonceMismatch).into());
    }
    judge_access_token_hash(&claims, algorithm, expected)?;

    // About whom, and signed in how.
    let sub = subject(&claims)?;
    let auth_time = judge_auth_time(&claims, expected, now)?;
    judge_acr(&claims, expected)?;
    judge_hosted_domain(&claims, expected)?;
    let object_id = expected.entra_tenant.map(|tenant| entra_object_id(&claims, tenant)).transpose()?;

    Ok(VerifiedIdToken {
        issuer: expected.issuer.to_owned(),
        sub,
        object_id,
        entra_tenant: expected.entra_tenant.map(str::to_owned),
        auth_time,
        claims,
    })
}

fn refused(code: ErrorCode) -> Finding {
    Finding::new(Step::IdToken, code)
}

fn wrong_claim(name: &str, found: &str) -> Finding {
    refused(ErrorCode::OidcClaimInvalid).with("claim", name).with("found", found)
}

/// The signed text, header, payload and signature of a compact JWS (RFC 7515 section 7.1).
fn split(token: &str) -> Result<(&str, &str, &str, &str), Finding> {
    let not_jws = |found: &str| refused(ErrorCode::OidcTokenNotJws).with("found", found);
    if token.len() > MAX_TOKEN {
        return Err(not_jws("longer than 64 KiB"));
    }
    let mut parts = token.splitn(6, '.');
    match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(header), Some(payload), Some(signature), None, None, None) => {
            let (signed, _) = token.rsplit_once('.').ok_or_else(|| not_jws("not three parts"))?;
            Ok((signed, header, payload, signature))
        }
        (Some(_), Some(_), Some(_), Some(_), Some(_), None) => Err(refused(ErrorCode::OidcTokenEncrypted)),
        _ => Err(not_jws("not three parts")),
    }
}

/// One part: strict Base64url without padding around one JSON object without doubled members.
fn read_part(part: &str, name: &str) -> Result<Map<String, Value>, Finding> {
    let not_jws = |found: String| refused(ErrorCode::OidcTokenNotJws).with("part", name).with("found", found);
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| not_jws("not Base64url".to_owned()))?;
    parse_object(&bytes, LIMITS).map_err(|fault| match fault {
        JsonFault::Doubled(member) => wrong_claim(&member, "there twice"),
        other => not_jws(other.to_string()),
    })
}

/// The header's algorithm and key identifier. What could make us fetch or inflate something is refused or ignored.
fn judge_header<'h>(
    header: &'h Map<String, Value>,
    expected: &Expected<'_>,
) -> Result<(SignatureAlgorithm, Option<&'h str>), Finding> {
    let not_jws =
        |found: &str| refused(ErrorCode::OidcTokenNotJws).with("part", "header").with("found", found);
    if header.contains_key("enc") {
        return Err(refused(ErrorCode::OidcTokenEncrypted));
    }
    // `crit` names extensions that must be understood; we understand none (RFC 7515 section 4.1.11).
    for member in ["crit", "zip", "b64"] {
        if header.contains_key(member) {
            return Err(not_jws(member));
        }
    }
    // A token of another kind (logout+jwt, at+jwt, …) is no ID token (RFC 8725 section 3.12).
    match header.get("typ") {
        None => {}
        Some(Value::String(typ))
            if typ.eq_ignore_ascii_case("JWT") || typ.eq_ignore_ascii_case("application/jwt") => {}
        Some(other) => return Err(not_jws(&format!("typ {other}"))),
    }
    if header.contains_key("cty") {
        return Err(not_jws("a nested token"));
    }
    let name = header.get("alg").and_then(Value::as_str).unwrap_or_default();
    let algorithm = SignatureAlgorithm::from_name(name)
        .filter(|algorithm| expected.algorithms.contains(algorithm))
        .ok_or_else(|| {
            let ours: Vec<_> = expected.algorithms.iter().map(|algorithm| algorithm.as_str()).collect();
            refused(ErrorCode::OidcAlgorithmRefused)
                .with("expected", ours.join(", "))
                .with("found", header.get("alg").map_or("none at all".to_owned(), Value::to_string))
        })?;
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) if kid.chars().count() <= MAX_KID => Some(kid.as_str()),
        Some(_) => return Err(not_jws("a kid that is no text of at most 256 characters")),
    };
    Ok((algorithm, kid))
}

fn judge_signature(
    keys: &[&SigningKey],
    signed: &str,
    signature: &str,
    algorithm: SignatureAlgorithm,
    kid: Option<&str>,
) -> Result<(), TokenFault> {
    if keys.iter().any(|key| key.has_signed(signed, signature, algorithm)) {
        return Ok(());
    }
    let finding = refused(ErrorCode::OidcSignatureInvalid)
        .with("kid", kid.unwrap_or("none"))
        .with("alg", algorithm.as_str());
    // A token that names no key may be signed with one that was published since.
    Err(if kid.is_some() { TokenFault::Refused(finding) } else { TokenFault::UnknownKey(finding) })
}

/// OC2: `iss` is the revision's issuer, octet by octet. Entra's old endpoint is told apart, because its remedy differs.
fn judge_issuer_claim(claims: &Map<String, Value>, expected: &Expected<'_>) -> Result<(), Finding> {
    let issuer = text(claims, "iss", ErrorCode::OidcTokenIssuerMismatch)?;
    if issuer == Some(expected.issuer) {
        return Ok(());
    }
    let code = if expected.entra_tenant.is_some() && claims.get("ver").is_some_and(|ver| ver == "1.0") {
        ErrorCode::OidcVersionMismatch
    } else {
        ErrorCode::OidcTokenIssuerMismatch
    };
    Err(refused(code).with("expected", expected.issuer).with("found", issuer.unwrap_or("none")))
}

/// OC3, OC4: made for this client alone.
fn judge_audience(claims: &Map<String, Value>, expected: &Expected<'_>) -> Result<(), Finding> {
    let is_ours = match claims.get("aud") {
        Some(Value::String(audience)) => audience == expected.client_id,
        Some(Value::Array(list)) => match list.as_slice() {
            [Value::String(audience)] => audience == expected.client_id,
            _ => false,
        },
        _ => false,
    };
    if !is_ours {
        return Err(refused(ErrorCode::OidcAudienceMismatch)
            .with("expected", expected.client_id)
            .with("found", claims.get("aud").map_or("none".to_owned(), shown)));
    }
    match claims.get("azp") {
        None => Ok(()),
        Some(Value::String(party)) if party == expected.client_id => Ok(()),
        Some(other) => Err(refused(ErrorCode::OidcAuthorizedPartyMismatch)
            .with("expected", expected.client_id)
            .with("found", shown(other))),
    }
}

/// OC8, OC9, OC13: `exp`, `iat` and `nbf` are times, and now and the attempt lie among them.
fn judge_times(claims: &Map<String, Value>, expected: &Expected<'_>, now: Timestamp) -> Result<(), Finding> {
    let expires_at =
        time(claims, "exp", ErrorCode::OidcClaimInvalid)?.ok_or_else(|| wrong_claim("exp", "missing"))?;
    let issued_at = time(claims, "iat", ErrorCode::OidcIssuedAtInvalid)?
        .ok_or_else(|| refused(ErrorCode::OidcIssuedAtInvalid).with("found", "missing"))?;
    let not_before = time(claims, "nbf", ErrorCode::OidcClaimInvalid)?;
    if now >= expires_at.plus(CLOCK_SKEW) {
        return Err(
            refused(ErrorCode::OidcExpired).with("expired_seconds_ago", now.since(expires_at).seconds())
        );
    }
    if issued_at > now.plus(CLOCK_SKEW) {
        return Err(refused(ErrorCode::OidcClockSkew).with("seconds_ahead", issued_at.since(now).seconds()));
    }
    if issued_at < expected.attempt_started_at.minus(ISSUED_BEFORE_ATTEMPT) {
        return Err(refused(ErrorCode::OidcClockSkew)
            .with("seconds_before_the_attempt", expected.attempt_started_at.since(issued_at).seconds()));
    }
    if expires_at.since(issued_at) > LONGEST_LIFETIME {
        return Err(wrong_claim("exp", "more than 24 hours after iat"));
    }
    if not_before.is_some_and(|not_before| not_before > now.plus(CLOCK_SKEW)) {
        return Err(refused(ErrorCode::OidcNotYetValid));
    }
    Ok(())
}

/// OC14: `at_hash`, if there, is the left half of the access token's hash (Core section 3.1.3.8).
fn judge_access_token_hash(
    claims: &Map<String, Value>,
    algorithm: SignatureAlgorithm,
    expected: &Expected<'_>,
) -> Result<(), Finding> {
    let Some(found) = text(claims, "at_hash", ErrorCode::OidcAccessTokenHashMismatch)? else { return Ok(()) };
    let Some(access_token) = expected.access_token else { return Ok(()) };
    let hash_algorithm = match algorithm {
        SignatureAlgorithm::Rs256 | SignatureAlgorithm::Ps256 | SignatureAlgorithm::Es256 => &digest::SHA256,
        SignatureAlgorithm::Rs384 | SignatureAlgorithm::Ps384 | SignatureAlgorithm::Es384 => &digest::SHA384,
        SignatureAlgorithm::Rs512 | SignatureAlgorithm::Ps512 | SignatureAlgorithm::Ed25519 => {
            &digest::SHA512
        }
    };
    let hash = digest::digest(hash_algorithm, access_token.expose().as_bytes());
    let (left, _) = hash.as_ref().split_at(hash.as_ref().len() / 2);
    if same_bytes(found.as_bytes(), URL_SAFE_NO_PAD.encode(left).as_bytes()) {
        Ok(())
    } else {
        Err(refused(ErrorCode::OidcAccessTokenHashMismatch))
    }
}

/// OC11: 1 to 255 ASCII characters. Control characters are no part of a name, and a store could not keep a NUL.
fn subject(claims: &Map<String, Value>) -> Result<String, Finding> {
    text(claims, "sub", ErrorCode::OidcSubjectInvalid)?
        .filter(|sub| {
            (1..=255).contains(&sub.len()) && sub.bytes().all(|b| b.is_ascii() && !b.is_ascii_control())
        })
        .map(str::to_owned)
        .ok_or_else(|| refused(ErrorCode::OidcSubjectInvalid))
}

/// OC12: `auth_time` is a time if it is there, and proves `max_age` if that was asked for.
fn judge_auth_time(
    claims: &Map<String, Value>,
    expected: &Expected<'_>,
    now: Timestamp,
) -> Result<Option<Timestamp>, Finding> {
    let auth_time = time(claims, "auth_time", ErrorCode::OidcAuthTimeInvalid)?;
    if let Some(max_age) = expected.max_age {
        let auth_time =
            auth_time.ok_or_else(|| refused(ErrorCode::OidcAuthTimeInvalid).with("found", "missing"))?;
        if now > auth_time.plus(max_age).plus(CLOCK_SKEW) || auth_time > now.plus(CLOCK_SKEW) {
            return Err(refused(ErrorCode::OidcAuthTimeInvalid)
                .with("expected", max_age)
                .with("found", now.since(auth_time)));
        }
    }
    Ok(auth_time)
}

/// OC12: `acr` is one of those that the organization demands, if it demands any.
fn judge_acr(claims: &Map<String, Value>, expected: &Expected<'_>) -> Result<(), Finding> {
    let acr = text(claims, "acr", ErrorCode::OidcAcrInvalid)?;
    if expected.acr_values.is_empty()
        || acr.is_some_and(|acr| expected.acr_values.iter().any(|own| own == acr))
    {
        return Ok(());
    }
    Err(refused(ErrorCode::OidcAcrInvalid)
        .with("expected", expected.acr_values.join(" "))
        .with("found", acr.unwrap_or("none")))
}

/// Google: the customer's domain is in the token. An issuer that everybody shares is worth nothing without it.
fn judge_hosted_domain(claims: &Map<String, Value>, expected: &Expected<'_>) -> Result<(), Finding> {
    let shared = shared_issuer(expected.issuer);
    if shared.is_none() && expected.hosted_domains.is_empty() {
        return Ok(());
    }
    let claim = shared.map_or("hd", |shared| shared.domain_claim);
    let domain = text(claims, claim, ErrorCode::OidcHostedDomainMismatch)?;
    if domain.is_some_and(|found| expected.hosted_domains.iter().any(|own| own.eq_ignore_ascii_case(found))) {
        return Ok(());
    }
    Err(refused(ErrorCode::OidcHostedDomainMismatch)
        .with("expected", expected.hosted_domains.join(", "))
        .with("found", domain.unwrap_or("none")))
}

/// Entra: version 2.0, the pinned tenant, and the object id that is the person's key (entra.md section 5).
fn entra_object_id(claims: &Map<String, Value>, tenant: &str) -> Result<String, Finding> {
    let version = text(claims, "ver", ErrorCode::OidcVersionMismatch)?;
    if version != Some("2.0") {
        return Err(refused(ErrorCode::OidcVersionMismatch)
            .with("expected", "2.0")
            .with("found", version.unwrap_or("none")));
    }
    let found = text(claims, "tid", ErrorCode::OidcTenantMismatch)?;
    if found.and_then(guid).as_deref() != Some(tenant) {
        return Err(refused(ErrorCode::OidcTenantMismatch)
            .with("expected", tenant)
            .with("found", found.unwrap_or("none")));
    }
    text(claims, "oid", ErrorCode::OidcObjectIdMissing)?
        .and_then(guid)
        .ok_or_else(|| refused(ErrorCode::OidcObjectIdMissing))
}

/// A claim that is a text if it is there; of another kind it is an error, never "absent" (J15).
fn text<'c>(claims: &'c Map<String, Value>, name: &str, code: ErrorCode) -> Result<Option<&'c str>, Finding> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(refused(code).with("claim", name).with("found", "not a text")),
    }
}

/// A claim that is a time if it is there: seconds since 1970, perhaps with a fraction, up to the year 9999
/// (RFC 7519 section 2).
fn time(claims: &Map<String, Value>, name: &str, code: ErrorCode) -> Result<Option<Timestamp>, Finding> {
    const YEAR_10000: f64 = 253_402_300_800.0;
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_f64().filter(|seconds| (0.0..YEAR_10000).contains(seconds));
    match seconds {
        #[expect(clippy::cast_possible_truncation, reason = "within the range just checked")]
        Some(seconds) => Ok(Some(Timestamp::from_millis((seconds * 1000.0) as i64))),
        None => Err(refused(code).with("claim", name).with("found", "not a time")),
    }
}

/// A claim's value as people read it.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => bounded(text, 300),
        Value::Array(list) if list.iter().all(Value::is_string) => {
            bounded(&list.iter().take(20).filter_map(Value::as_str).collect::<Vec<_>>().join(", "), 300)
        }
        other => bounded(&other.to_string(), 300),
    }
}

/// Claims that say nothing to a person, or belong to this one sign-in.
const NOT_FOR_DISPLAY: &[&str] = &["nonce", "at_hash", "c_hash", "aio", "rh", "uti", "jti"];

impl VerifiedIdToken {
    /// The issuer: the revision's, which the token repeated.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// What identifies the person within the issuer: the object id for an Entra-shaped issuer, else `sub`.
    pub fn key_subject(&self) -> &str {
        self.object_id.as_deref().unwrap_or(&self.sub)
    }

    /// The claim `sub`.
    pub fn sub(&self) -> &str {
        &self.sub
    }

    /// Whether the issuer is Entra or shaped like it.
    pub const fn is_entra(&self) -> bool {
        self.entra_tenant.is_some()
    }

    /// When the person signed in at the provider, if it says so.
    pub const fn auth_time(&self) -> Option<Timestamp> {
        self.auth_time
    }

    /// A claim by its name. Its kind is not checked: use it as `identity.rs` does.
    pub fn claim(&self, name: &str) -> Option<&Value> {
        self.claims.get(name)
    }

    /// Whether this is a guest of an Entra tenant: `acct` is 1, or `idp` names another home. What can't be read counts
    /// as a guest. Always false elsewhere.
    pub fn is_guest(&self) -> bool {
        let Some(tenant) = &self.entra_tenant else { return false };
        let is_member = match self.claims.get("acct") {
            None => true,
            Some(Value::Number(acct)) => acct.as_i64() == Some(0),
            Some(Value::String(acct)) => acct == "0",
            Some(_) => false,
        };
        let is_at_home = match self.claims.get("idp") {
            None => true,
            Some(Value::String(idp)) => {
                *idp == self.issuer || *idp == format!("https://sts.windows.net/{tenant}/")
            }
            Some(_) => false,
        };
        !(is_member && is_at_home)
    }

    /// The claims for the page after a test, in alphabetical order: at most 40, each at most 300 characters.
    pub fn claims_for_display(&self) -> Vec<(String, String)> {
        self.claims
            .iter()
            .filter(|(name, _)| !NOT_FOR_DISPLAY.contains(&name.as_str()))
            .take(40)
            .map(|(name, value)| (bounded(name, 100), shown(value)))
            .collect()
    }
}

#[cfg(test)]
mod tests;
