//! Every misbehaviour of the test kit's provider, one by one: refused ones end without a session, with one audit
//! entry and a page that names its code; odd but allowed ones let the member in (conformance.md §1, §2; rule 3).

use doorward_core::error_code::ErrorCode;
use doorward_testkit::{Endpoint, Misbehavior, Misbehavior as M, Personality, Stage, Verdict};

use crate::harness::{Options, World};

const SSO_SESSIONS: &str = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM sso_session";
/// Words that frighten and explain nothing.
const ALARMING: [&str; 7] = ["attack", "malicious", "hack", "forged", "csrf", "invalid state", "fatal"];

/// Each misbehaviour in a sign-in that is refused, by the code that the member reads. Every other one is let in.
#[rustfmt::skip]
const REFUSALS: &[(&str, &[M])] = &[
    ("oidc.token_status", &[M::TokenNotFound]),
    ("oidc.client_secret_not_sent", &[M::TokenSecretNotSent]),
    ("oidc.platform_public", &[M::TokenPlatformPublic]),
    ("oidc.platform_spa", &[M::TokenPlatformSpa]),
    ("oidc.client_unknown", &[M::TokenClientUnknown]),
    ("oidc.keys_unusable", &[M::JwksEmpty, M::JwksOnlyJunk, M::JwksWrongType, M::JwksTooManyKeys, M::JwksNotJson, M::JwksHtml, M::JwksNotFound]),
    ("oidc.signature_invalid", &[M::JwksOtherKeySameKid, M::SignatureBit, M::HeaderBit, M::PayloadBit, M::SignatureTruncated, M::SignatureEmpty, M::SignedByStranger, M::Es256SignatureBit, M::Es256SignatureZero, M::Es256SignatureDer, M::HeaderJwk]),
    ("oidc.key_unknown", &[M::JwksKeyForEncryption, M::JwksExponentOne, M::JwksShortModulus, M::SignedByEncryptionKey, M::KidUnknown, M::KidHostile, M::HeaderJku, M::HeaderX5u, M::SignedByForeignIssuersKey]),
    ("oidc.algorithm_refused", &[M::JwksKeyForOtherAlg, M::AlgNone, M::AlgNoneCapital, M::AlgNoneMixed, M::AlgMissing, M::AlgNumber, M::AlgHs256Secret, M::AlgHs256Broken, M::AlgHs256PublicPem, M::AlgHs256PublicDer, M::AlgHs256PublicJwk, M::AlgEs256WithRsaKey, M::SignedEs256k]),
    ("oidc.provider_unavailable", &[M::JwksServerError, M::CallbackError, M::CallbackErrorScript, M::TokenErrorBesideTokens, M::TokenTooManyRequests, M::TokenUnavailable, M::TokenServerError]),
    ("outbound.redirected", &[M::JwksRedirect, M::TokenRedirect, M::TokenRedirect307, M::UserinfoRedirect]),
    ("outbound.too_large", &[M::JwksOneGiB, M::TokenHuge, M::TokenOneGiB, M::HugeToken, M::UserinfoOneGiB]),
    ("outbound.timeout", &[M::JwksSlowDrip, M::JwksNeverAnswers, M::TokenSlowDrip, M::TokenNeverAnswers, M::UserinfoNeverAnswers]),
    ("outbound.unreachable", &[M::JwksReset, M::TokenReset]),
    ("oidc.response_issuer_mismatch", &[M::CallbackIssWrong, M::CallbackIssOfOtherIssuer, M::CallbackErrorIssWrong]),
    ("oidc.response_issuer_missing", &[M::CallbackIssMissing]),
    ("oidc.response_malformed", &[M::CallbackIssTwice, M::CallbackStateTwice, M::CallbackCodeTwice, M::CallbackErrorTwice, M::CallbackCodeAndError, M::CallbackStateMissing, M::CallbackStateEmpty, M::CallbackCodeMissing, M::CallbackCodeEmpty, M::CallbackErrorWithoutState]),
    ("sso.attempt_unknown", &[M::CallbackStateChanged, M::CallbackStateOfPrevious, M::CallbackErrorForeignState]),
    ("oidc.code_refused", &[M::CallbackCodeUnknown, M::CallbackCodeOfPrevious, M::TokenErrorWith200, M::TokenInvalidGrant]),
    ("oidc.cancelled", &[M::CallbackCancelled]),
    ("oidc.provider_refused", &[M::CallbackLoginRequired]),
    ("oidc.id_token_missing", &[M::TokenNoIdToken]),
    ("oidc.token_malformed", &[M::TokenIdTokenNumber, M::TokenTwoIdTokens, M::TokenHtml, M::TokenEmpty, M::TokenNotJson, M::TokenArray, M::TokenGzipBomb, M::TokenTypeOther, M::TokenTypeMissing]),
    ("oidc.client_refused", &[M::TokenInvalidClient]),
    ("oidc.token_issuer_mismatch", &[M::IssWrong, M::IssMissing, M::IssSlash, M::IssCase, M::IssPercentEncoded, M::IssLookAlike, M::IssArray, M::IssOfOtherIssuer]),
    ("oidc.audience_mismatch", &[M::AudWrong, M::AudMissing, M::AudPrefix, M::AudNumber, M::AudObject, M::AudEmptyArray, M::AudWithStranger, M::AudOfOtherClient]),
    ("oidc.authorized_party_mismatch", &[M::AzpOther]),
    ("oidc.token_not_jws", &[M::KidHuge, M::KidNumber, M::HeaderCrit, M::HeaderB64False, M::HeaderZip, M::HeaderTypLogout, M::FourParts, M::JsonSerialization, M::PaddedBase64, M::TrailingBlank, M::DeepClaims, M::PayloadArray, M::PayloadNotJson, M::PayloadNotUtf8]),
    ("oidc.claim_invalid", &[M::DuplicateHeaderMember, M::ManyClaims, M::DuplicateClaim, M::ExpMissing, M::ExpString, M::ExpNegative, M::ExpAstronomic, M::ExpNull, M::ExpTooFar, M::NbfString, M::EmailNumber]),
    ("oidc.token_encrypted", &[M::Jwe]),
    ("oidc.expired", &[M::ExpPast, M::ExpLongPast]),
    ("oidc.issued_at_invalid", &[M::IatMissing, M::IatString]),
    ("oidc.clock_skew", &[M::IatAhead, M::IatDayOld]),
    ("oidc.not_yet_valid", &[M::NbfAhead]),
    ("oidc.auth_time_invalid", &[M::AuthTimeString]),
    ("oidc.nonce_mismatch", &[M::NonceWrong, M::NonceMissing, M::NoncePrefix, M::NonceNumber, M::NonceOfPrevious]),
    ("oidc.subject_invalid", &[M::SubMissing, M::SubEmpty, M::SubNumber, M::SubArray, M::SubTooLong, M::SubNotAscii]),
    ("oidc.access_token_hash_mismatch", &[M::AtHashWrong, M::AtHashWrongSize, M::AtHashNumber]),
    ("oidc.userinfo_subject_mismatch", &[M::UserinfoOtherSub, M::UserinfoSubMissing]),
    ("oidc.userinfo_malformed", &[M::UserinfoArray, M::UserinfoHtml, M::UserinfoNotJson, M::UserinfoWrongContentType]),
    ("oidc.userinfo_status", &[M::UserinfoUnauthorized, M::UserinfoServerError]),
    ("oidc.tenant_mismatch", &[M::TidOther, M::TidMissing]),
    ("oidc.object_id_missing", &[M::OidMissing]),
    ("oidc.version_mismatch", &[M::VerOne]),
];

/// The code with which a sign-in ends; `None`: the member is let in.
fn refusal(fault: Misbehavior, entra: bool) -> Option<&'static str> {
    match (fault, entra) {
        // Entra tells which way the secret is wrong.
        (M::TokenInvalidClient, true) => Some("oidc.client_secret_expired"),
        // Entra sends no `iss` that could come twice.
        (M::CallbackIssTwice, true) => None,
        // Allowed, but another person than the one who is linked; Entra's key is the object id.
        (M::SubLongest, false) => Some("sso.account_linked_elsewhere"),
        _ => REFUSALS.iter().find(|(_, faults)| faults.contains(&fault)).map(|(code, _)| *code),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_3_v43_v51_each_misbehaviour_in_a_sign_in_ends_in_its_own_code_without_a_session() {
    for entra in [false, true] {
        let world = World::with(Options { entra, hasty: true, ..Options::default() }).await;
        world.enable_sso("acme", "ada").await;
        let mira = world.browser_of("mira").await;
        world.idp.signs_in("mira");
        world.visit(&mira, &format!("{}/acme/secret", world.hub)).await;
        let mut wrong = Vec::new();
        for &fault in Misbehavior::ALL {
            let personality = if entra { Personality::EntraLike } else { Personality::Generic };
            if fault.stage() == Stage::Discovery || !fault.fits(personality) {
                continue;
            }
            // Keys are fetched at most twice a minute.
            // Else what comes after an hour's first five failures would be counted and not told (ADR 0046).
            world.behind_its_back("DELETE FROM counted_event").await;
            world.pass(doorward_core::time::Lifetime::from_seconds(61));
            let browser = world.browser_of("mira").await;
            let entries = world.audit("acme").await.len();
            let sessions = world.count(SSO_SESSIONS).await;
            match fault.stage() {
                // Keys are asked for when a token names one that nobody knows yet.
                Stage::Jwks => {
                    world.idp.rotate_keys(false);
                    world.idp.misbehave(fault);
                }
                Stage::Userinfo => {
                    world.idp.set_claims_at_userinfo_only(true);
                    world.idp.misbehave_once(fault);
                }
                _ => world.idp.misbehave_once(fault),
            }
            let page = world.visit(&browser, &format!("{}/acme/secret", world.hub)).await;
            world.idp.behave();
            world.idp.set_claims_at_userinfo_only(false);

            let let_in = page.says("the application's page");
            let code = page.code();
            let expected = refusal(fault, entra);
            if code.as_deref() != expected || let_in != expected.is_none() {
                wrong.push(format!(
                    "{fault:?}: {code:?} instead of {expected:?}: {} {}",
                    page.status,
                    page.text()
                ));
            }
            if let Some(known) = code.as_deref().and_then(ErrorCode::from_code)
                && !(page.says(known.title()) && page.says(known.remedy()))
            {
                wrong.push(format!("{fault:?}: the page does not say what to do: {}", page.text()));
            }
            // No session, unless the member was let in.
            if world.count(SSO_SESSIONS).await - sessions != i64::from(let_in) {
                wrong.push(format!("{fault:?}: the sessions are not what they should be"));
            }
            // One entry. A callback that names no attempt of ours is a stranger's, and leaves no row (rule 9).
            let new = world.audit("acme").await.len() - entries;
            let is_a_strangers =
                matches!(code.as_deref(), Some("oidc.response_malformed" | "sso.attempt_unknown"));
            if new != usize::from(!is_a_strangers) {
                wrong.push(format!("{fault:?}: {new} audit entries, {code:?}"));
            }
            // Whoever reads the page has done nothing wrong, and reads nothing that says so (rule 18).
            let text = page.text().to_lowercase();
            if let Some(alarm) = ALARMING.iter().find(|word| text.contains(**word)) {
                wrong.push(format!("{fault:?}: {alarm:?} on the page: {text}"));
            }
            // The list above says nothing else than the test kit's own verdict.
            let fits = match fault.verdict() {
                Verdict::Refuse => expected.is_some() || (entra && fault == M::CallbackIssTwice),
                Verdict::Accept => expected.is_none() || fault == M::SubLongest,
                Verdict::Either | Verdict::RefuseIfAsked => true,
            };
            if !fits {
                wrong.push(format!("{fault:?}: {expected:?} is not {:?}", fault.verdict()));
            }
        }
        assert!(wrong.is_empty(), "entra: {entra}\n{}", wrong.join("\n"));
        // Whatever a header, a claim or a redirect named: nobody went there (conformance.md V51, V59).
        for nowhere in [Endpoint::Claims, Endpoint::Moved, Endpoint::Stray] {
            assert_eq!(world.idp.calls(nowhere), 0, "entra: {entra}, {nowhere:?}");
        }
    }
}

/// Each misbehaviour of metadata and keys that shows before anybody is sent to the provider, by the code that the admin
/// reads. A key that is wrong without being broken shows only with a token: those are in the list above.
#[rustfmt::skip]
const REFUSED_AT_ONCE: &[(&str, &[M])] = &[
    ("oidc.metadata_not_json", &[M::DiscoveryNotJson, M::DiscoveryHtml, M::DiscoveryWrongContentType, M::DiscoveryEmpty, M::DiscoveryArray, M::DiscoveryNotUtf8, M::DiscoveryGzipBomb, M::DiscoveryNested, M::DiscoveryDeepNesting]),
    ("oidc.metadata_status", &[M::DiscoveryNotFound]),
    ("oidc.provider_unavailable", &[M::DiscoveryServerError, M::JwksServerError]),
    ("outbound.redirected", &[M::DiscoveryRedirect, M::JwksRedirect]),
    ("outbound.too_large", &[M::DiscoveryOneGiB, M::JwksOneGiB]),
    ("outbound.timeout", &[M::DiscoverySlowDrip, M::DiscoveryNeverAnswers, M::JwksSlowDrip, M::JwksNeverAnswers]),
    ("outbound.unreachable", &[M::DiscoveryReset, M::JwksReset]),
    ("oidc.metadata_wrong", &[M::DiscoveryDuplicateIssuer, M::DiscoveryIssuerNumber, M::DiscoveryResponseTypesString, M::DiscoveryTokenEndpointNumber, M::DiscoveryTokenEndpointRelative, M::DiscoveryAuthorizationEndpointPlainHttp, M::DiscoveryTokenEndpointPlainHttp, M::DiscoveryJwksUriPlainHttp, M::DiscoveryTokenEndpointOtherPort, M::DiscoveryTokenEndpointUserinfo, M::DiscoveryAuthorizationEndpointFragment, M::DiscoveryAuthorizationEndpointScript]),
    ("oidc.issuer_mismatch", &[M::DiscoveryIssuerOther]),
    ("oidc.metadata_incomplete", &[M::DiscoveryIssuerMissing, M::DiscoveryAuthorizationEndpointMissing, M::DiscoveryTokenEndpointMissing, M::DiscoveryJwksUriMissing]),
    ("settings.issuer_multi_tenant", &[M::DiscoveryIssuerTemplate]),
    ("oidc.code_flow_unsupported", &[M::DiscoveryResponseTypesWithoutCode]),
    ("oidc.algorithm_unsupported", &[M::DiscoveryAlgsWeakOnly]),
    ("outbound.address_refused", &[M::DiscoveryTokenEndpointPrivate, M::DiscoveryJwksUriPrivate, M::DiscoveryJwksUriLinkLocal, M::DiscoveryUserinfoEndpointPrivate]),
    ("oidc.keys_unusable", &[M::JwksEmpty, M::JwksOnlyJunk, M::JwksWrongType, M::JwksTooManyKeys, M::JwksNotJson, M::JwksHtml, M::JwksNotFound]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_misbehaviour_of_discovery_and_keys_is_explained_before_anybody_is_sent_away() {
    let world = World::with(Options { hasty: true, ..Options::default() }).await;
    let ada = world.browser_of("ada").await;
    let client = world.register("acme");
    let issuer = world.idp.issuer();
    let mut wrong = Vec::new();
    for &fault in Misbehavior::ALL {
        if !matches!(fault.stage(), Stage::Discovery | Stage::Jwks) {
            continue;
        }
        // Past what is remembered of metadata and keys.
        world.pass(doorward_core::time::Lifetime::from_minutes(6));
        world.sign_in(&ada, "ada").await;
        world.idp.misbehave(fault);
        let fields =
            [("client_id", &*client.id), ("client_secret", client.secret()), ("issuer_url", &*issuer)];
        let page = world.update_and_test(&ada, "acme", &fields).await;
        world.idp.behave();
        let expected =
            REFUSED_AT_ONCE.iter().find(|(_, faults)| faults.contains(&fault)).map(|(code, _)| *code);
        let Some(expected) = expected else {
            let may_pass = fault.verdict() != Verdict::Refuse || fault.stage() == Stage::Jwks;
            if page.status != 200 || !may_pass {
                wrong.push(format!("{fault:?}: {} {}", page.status, page.text()));
            }
            continue;
        };
        let state = world.state("acme").await;
        let shown = ada.follow_all(page).await;
        let known = ErrorCode::from_code(expected).unwrap();
        let says = shown.codes().iter().any(|code| code == expected)
            && shown.says(known.title())
            && shown.says(known.remedy());
        if state != "test_failed" || !says || fault.verdict() == Verdict::Accept {
            wrong.push(format!("{fault:?}: not {expected}: {state} {:?} {}", shown.codes(), shown.text()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
