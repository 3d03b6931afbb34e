//! Every way in which the fake provider can be wrong, one variant each.
//!
//! A table: what is sent, in which answer, what a relying party must do, which conformance ids it covers.
//! Never here: how it is done (`id_token.rs`, `metadata.rs`, `fake_idp.rs`).
//! Invariant: a variant turns exactly one thing, so a test that sees a refusal knows its reason.
//! To add one: a line below, then the compiler or `every_misbehavior_changes_its_answer` asks for the deed.

use crate::metadata::Personality;

/// The answer in which a misbehaviour shows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stage {
    /// The metadata document.
    Discovery,
    /// The key set.
    Jwks,
    /// The parameters with which the browser returns to the redirect URI.
    Callback,
    /// The token endpoint's answer around the ID token.
    Token,
    /// The ID token itself.
    IdToken,
    /// The userinfo endpoint's answer.
    Userinfo,
}

/// What a relying party must do when it meets a misbehaviour.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Verdict {
    /// Stop: no session, no further call with the answer.
    Refuse,
    /// Go on: odd, but allowed; to refuse it would lock people out.
    Accept,
    /// Both are right; what must not happen is a crash or a hang.
    Either,
    /// Stop if this was asked for (`max_age`, `acr_values`, `hd`) or is part of the agreed set-up (Entra's pinned
    /// tenant); otherwise go on.
    RefuseIfAsked,
}

macro_rules! misbehaviors {
    ($($(#[$doc:meta])* $name:ident: $stage:ident, $verdict:ident, $covers:literal;)*) => {
        /// One way to be wrong. Switched on by `FakeIdp::misbehave` or `FakeIdp::misbehave_once`.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Misbehavior { $($(#[$doc])* $name,)* }

        impl Misbehavior {
            /// All of them, so that a test can walk the table.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The answer in which it shows.
            pub const fn stage(self) -> Stage {
                match self { $(Self::$name => Stage::$stage,)* }
            }

            /// What a relying party must do.
            pub const fn verdict(self) -> Verdict {
                match self { $(Self::$name => Verdict::$verdict,)* }
            }

            /// The ids of conformance.md and the OIDF modules (without `oidcc-client-test`) that it covers,
            /// separated by spaces.
            pub const fn covers(self) -> &'static str {
                match self { $(Self::$name => $covers,)* }
            }
        }
    };
}

misbehaviors! {
    // --- metadata ---------------------------------------------------------------------------------------------
    /// Text that is no JSON, sent as JSON.
    DiscoveryNotJson: Discovery, Refuse, "D2 F3";
    /// A login page in HTML with status 200.
    DiscoveryHtml: Discovery, Refuse, "D6 F3";
    /// The right document sent as `text/html`.
    DiscoveryWrongContentType: Discovery, Refuse, "D6";
    /// Status 200 with an empty body.
    DiscoveryEmpty: Discovery, Refuse, "F3";
    /// A JSON array.
    DiscoveryArray: Discovery, Refuse, "D2";
    /// Bytes that are not UTF-8 inside a string.
    DiscoveryNotUtf8: Discovery, Refuse, "D2 J7";
    /// Status 404.
    DiscoveryNotFound: Discovery, Refuse, "F3";
    /// Status 500.
    DiscoveryServerError: Discovery, Refuse, "F3";
    /// Status 302 to a place that has the right document.
    DiscoveryRedirect: Discovery, Refuse, "D6 F3";
    /// Claims 1 GiB and sends as much as is read.
    DiscoveryOneGiB: Discovery, Refuse, "D6 F3 S9";
    /// 33 KiB of gzip that unpack to 32 MiB.
    DiscoveryGzipBomb: Discovery, Refuse, "F3";
    /// One byte every 100 ms, for an hour.
    DiscoverySlowDrip: Discovery, Refuse, "F2 S9";
    /// The connection is held, no answer comes.
    DiscoveryNeverAnswers: Discovery, Refuse, "F2 S9";
    /// The connection is closed without an answer.
    DiscoveryReset: Discovery, Refuse, "F1";
    /// The right document with a member nested 20 deep: past the limit of 16.
    DiscoveryNested: Discovery, Refuse, "D6";
    /// The right document with a member nested 50,000 deep.
    DiscoveryDeepNesting: Discovery, Refuse, "D6 F3";
    /// Two members `issuer`, the second one right.
    DiscoveryDuplicateIssuer: Discovery, Refuse, "OC13 D1";
    /// `issuer` + "INVALID".
    DiscoveryIssuerOther: Discovery, Refuse, "D1 -discovery-issuer-mismatch";
    /// `issuer` with a slash more than what was typed: forgiven there, and then the tokens' `iss`, which has none,
    /// must be refused.
    DiscoveryIssuerSlash: Discovery, Either, "D1";
    /// No `issuer`.
    DiscoveryIssuerMissing: Discovery, Refuse, "D2";
    /// `issuer` is a number.
    DiscoveryIssuerNumber: Discovery, Refuse, "D2";
    /// `issuer` holds Entra's placeholder `{tenantid}`.
    DiscoveryIssuerTemplate: Discovery, Refuse, "D1";
    /// No `authorization_endpoint`.
    DiscoveryAuthorizationEndpointMissing: Discovery, Refuse, "D2";
    /// No `token_endpoint`.
    DiscoveryTokenEndpointMissing: Discovery, Refuse, "D2";
    /// No `jwks_uri`.
    DiscoveryJwksUriMissing: Discovery, Refuse, "D2";
    /// No `userinfo_endpoint`.
    DiscoveryUserinfoEndpointMissing: Discovery, Accept, "D2";
    /// No `response_types_supported`: code is assumed, with a hint (decisions.md, Metadata).
    DiscoveryResponseTypesMissing: Discovery, Accept, "D2";
    /// No `subject_types_supported`.
    DiscoverySubjectTypesMissing: Discovery, Accept, "D2";
    /// No `id_token_signing_alg_values_supported`: RS256 is assumed, with a hint.
    DiscoveryAlgsMissing: Discovery, Accept, "D2";
    /// No `token_endpoint_auth_methods_supported`: means `client_secret_basic`.
    DiscoveryAuthMethodsMissing: Discovery, Accept, "D4";
    /// No `grant_types_supported`: code is allowed.
    DiscoveryGrantTypesMissing: Discovery, Accept, "D4";
    /// No `code_challenge_methods_supported`: PKCE is sent all the same.
    DiscoveryPkceMissing: Discovery, Accept, "B4";
    /// Response types without `code`.
    DiscoveryResponseTypesWithoutCode: Discovery, Refuse, "D2";
    /// `response_types_supported` is one string.
    DiscoveryResponseTypesString: Discovery, Refuse, "D2";
    /// Only `HS256` and `none` are offered for ID tokens.
    DiscoveryAlgsWeakOnly: Discovery, Refuse, "D5 OC7";
    /// `token_endpoint` is a number.
    DiscoveryTokenEndpointNumber: Discovery, Refuse, "D2";
    /// `token_endpoint` is a path without host.
    DiscoveryTokenEndpointRelative: Discovery, Refuse, "D3";
    /// `authorization_endpoint` on plain http at a public name.
    DiscoveryAuthorizationEndpointPlainHttp: Discovery, Refuse, "D3";
    /// `token_endpoint` on plain http at a public name.
    DiscoveryTokenEndpointPlainHttp: Discovery, Refuse, "D3";
    /// `jwks_uri` on plain http at a public name.
    DiscoveryJwksUriPlainHttp: Discovery, Refuse, "D3";
    /// `token_endpoint` on a private address: to be refused at the latest when it would be called.
    DiscoveryTokenEndpointPrivate: Discovery, Refuse, "D3";
    /// `jwks_uri` on a private address: to be refused at the latest when it would be called.
    DiscoveryJwksUriPrivate: Discovery, Refuse, "D3";
    /// `jwks_uri` on the link-local address where clouds keep machine credentials.
    DiscoveryJwksUriLinkLocal: Discovery, Refuse, "D3";
    /// `userinfo_endpoint` on a private address: to be refused at the latest when it would be called.
    DiscoveryUserinfoEndpointPrivate: Discovery, Refuse, "D3";
    /// `token_endpoint` on another port of loopback: the operator allowed one address and one port.
    DiscoveryTokenEndpointOtherPort: Discovery, Refuse, "D3";
    /// `token_endpoint` with a name and password.
    DiscoveryTokenEndpointUserinfo: Discovery, Refuse, "D3";
    /// `authorization_endpoint` with a fragment.
    DiscoveryAuthorizationEndpointFragment: Discovery, Refuse, "D3";
    /// `authorization_endpoint` is a `javascript:` URL.
    DiscoveryAuthorizationEndpointScript: Discovery, Refuse, "D3 V22";
    /// `authorization_endpoint` with a query of its own, which must be kept.
    DiscoveryAuthorizationEndpointQuery: Discovery, Accept, "D3";
    /// A good document whose endpoints sit on another host name of this server (`localhost`). At set-up this is a
    /// question of what the operator allows; for a live connection it is a change that nobody approved.
    DiscoveryEndpointsMoved: Discovery, Either, "D7 F6";

    // --- key set ----------------------------------------------------------------------------------------------
    /// `{"keys":[]}`.
    JwksEmpty: Jwks, Refuse, "F4";
    /// Only keys that nobody can use for signatures.
    JwksOnlyJunk: Jwks, Refuse, "F4";
    /// The good key in the midst of broken ones: wrong types, a point off the curve, missing members, no key at all.
    JwksBadKeyAmongGood: Jwks, Accept, "F4";
    /// Another RSA key under the signing key's `kid`, before the right one.
    JwksDuplicateKid: Jwks, Either, "F4";
    /// The signing key's `kid` belongs to another RSA key.
    JwksOtherKeySameKid: Jwks, Refuse, "OC5";
    /// The signing key is marked `use: enc`.
    JwksKeyForEncryption: Jwks, Refuse, "OC6";
    /// The signing key is marked with another `alg` (PS256).
    JwksKeyForOtherAlg: Jwks, Refuse, "OC6 J1";
    /// The signing key with exponent 1, under which everything verifies.
    JwksExponentOne: Jwks, Refuse, "J5";
    /// The signing key cut to 512 bits.
    JwksShortModulus: Jwks, Refuse, "J5";
    /// `keys` is an object.
    JwksWrongType: Jwks, Refuse, "F4";
    /// 300 junk keys before the right ones.
    JwksTooManyKeys: Jwks, Either, "F4";
    /// Text that is no JSON.
    JwksNotJson: Jwks, Refuse, "F4";
    /// An HTML page with status 200.
    JwksHtml: Jwks, Refuse, "F3 F4";
    /// Status 404.
    JwksNotFound: Jwks, Refuse, "F4";
    /// Status 500.
    JwksServerError: Jwks, Refuse, "F4";
    /// Status 302 to a place that has the right keys.
    JwksRedirect: Jwks, Refuse, "F3";
    /// Claims 1 GiB and sends as much as is read.
    JwksOneGiB: Jwks, Refuse, "F3 S9";
    /// One byte every 100 ms, for an hour.
    JwksSlowDrip: Jwks, Refuse, "F2 S9";
    /// No answer comes.
    JwksNeverAnswers: Jwks, Refuse, "F2 S9";
    /// The connection is closed without an answer.
    JwksReset: Jwks, Refuse, "F1";

    // --- callback ---------------------------------------------------------------------------------------------
    /// `iss` + "1".
    CallbackIssWrong: Callback, Refuse, "I1 fapi2-invalid-authorization-response-iss";
    /// `iss` of this server's issuer named "other": mix-up.
    CallbackIssOfOtherIssuer: Callback, Refuse, "I1 B5";
    /// No `iss` although metadata promises it.
    CallbackIssMissing: Callback, Refuse, "I2 fapi2-remove-authorization-response-iss";
    /// An error answer whose `iss` is wrong.
    CallbackErrorIssWrong: Callback, Refuse, "I1";
    /// Two parameters `iss`, both right.
    CallbackIssTwice: Callback, Refuse, "OC17";
    /// Two parameters `state`, both right.
    CallbackStateTwice: Callback, Refuse, "OC17";
    /// Two parameters `code`, both right.
    CallbackCodeTwice: Callback, Refuse, "OC17";
    /// Two parameters `error`.
    CallbackErrorTwice: Callback, Refuse, "OC17";
    /// Both `code` and `error`.
    CallbackCodeAndError: Callback, Refuse, "OC17";
    /// One character of `state` changed.
    CallbackStateChanged: Callback, Refuse, "B2 fapi2-authorization-response-with-invalid-state-fails";
    /// No `state`.
    CallbackStateMissing: Callback, Refuse, "B2 fapi2-authorization-response-with-missing-state-fails";
    /// An empty `state`.
    CallbackStateEmpty: Callback, Refuse, "B2";
    /// The `state` of the attempt before this one. Needs an attempt before.
    CallbackStateOfPrevious: Callback, Refuse, "B2";
    /// No `code` and no `error`.
    CallbackCodeMissing: Callback, Refuse, "OC17";
    /// An empty `code`.
    CallbackCodeEmpty: Callback, Refuse, "OC17";
    /// A code that this provider never gave.
    CallbackCodeUnknown: Callback, Refuse, "B3";
    /// The code of the attempt before this one: injection. Needs an attempt before.
    CallbackCodeOfPrevious: Callback, Refuse, "B3";
    /// `error=server_error` with the right state.
    CallbackError: Callback, Refuse, "OC17";
    /// `error=access_denied` without a description: the person pressed "Cancel".
    CallbackCancelled: Callback, Refuse, "OC17";
    /// `error=login_required`.
    CallbackLoginRequired: Callback, Refuse, "OC17 -form-post-error";
    /// `error` without `state`.
    CallbackErrorWithoutState: Callback, Refuse, "OC17";
    /// `error` with a state that nobody gave.
    CallbackErrorForeignState: Callback, Refuse, "OC17";
    /// `error_description` with a script and a line break in it.
    CallbackErrorScript: Callback, Refuse, "V22";
    /// Parameters that nobody asked for (`session_state`, `client_info`, `utm`).
    CallbackExtraParameters: Callback, Accept, "OC17";

    // --- token endpoint ---------------------------------------------------------------------------------------
    /// No `id_token`.
    TokenNoIdToken: Token, Refuse, "OC16";
    /// `id_token` is a number.
    TokenIdTokenNumber: Token, Refuse, "OC16 J15";
    /// Two members `id_token`, both good.
    TokenTwoIdTokens: Token, Refuse, "OC16";
    /// An error object with status 200.
    TokenErrorWith200: Token, Refuse, "OC16";
    /// Everything good, and a member `error` beside it.
    TokenErrorBesideTokens: Token, Refuse, "OC16";
    /// Status 400, `invalid_grant`.
    TokenInvalidGrant: Token, Refuse, "F3";
    /// Status 401, `invalid_client`: the secret expired or was revoked.
    TokenInvalidClient: Token, Refuse, "F7";
    /// Status 429 with `Retry-After`.
    TokenTooManyRequests: Token, Refuse, "F3";
    /// Status 404 in HTML: no token endpoint there.
    TokenNotFound: Token, Refuse, "F3";
    /// Entra's AADSTS7000218: no client secret arrived.
    TokenSecretNotSent: Token, Refuse, "F7";
    /// Entra's AADSTS700025: the redirect URI is that of a mobile or desktop application.
    TokenPlatformPublic: Token, Refuse, "F7";
    /// Entra's AADSTS9002325: the redirect URI is that of a single-page application.
    TokenPlatformSpa: Token, Refuse, "F7";
    /// Entra's AADSTS700016: no such application in this tenant.
    TokenClientUnknown: Token, Refuse, "F7";
    /// Status 503.
    TokenUnavailable: Token, Refuse, "F1";
    /// Status 500 in HTML.
    TokenServerError: Token, Refuse, "F3";
    /// An HTML page with status 200.
    TokenHtml: Token, Refuse, "F3";
    /// Status 200 with an empty body.
    TokenEmpty: Token, Refuse, "F3";
    /// Text that is no JSON.
    TokenNotJson: Token, Refuse, "F3";
    /// A JSON array.
    TokenArray: Token, Refuse, "OC16";
    /// Good JSON of 1 MiB.
    TokenHuge: Token, Refuse, "F3 S9";
    /// Claims 1 GiB and sends as much as is read.
    TokenOneGiB: Token, Refuse, "F3 S9";
    /// 33 KiB of gzip that unpack to 32 MiB.
    TokenGzipBomb: Token, Refuse, "F3";
    /// One byte every 100 ms, for an hour.
    TokenSlowDrip: Token, Refuse, "F2 S9";
    /// The connection is held, no answer comes.
    TokenNeverAnswers: Token, Refuse, "F2 S9";
    /// The connection is closed without an answer; the code is spent.
    TokenReset: Token, Refuse, "F1";
    /// Status 302 elsewhere.
    TokenRedirect: Token, Refuse, "F3";
    /// Status 307 to a place that would take the code and the secret, and answer well.
    TokenRedirect307: Token, Refuse, "F3";
    /// `token_type` is `mac`.
    TokenTypeOther: Token, Refuse, "OC16";
    /// No `token_type`.
    TokenTypeMissing: Token, Refuse, "OC16";
    /// `token_type` is `bEARER`.
    TokenTypeMixedCase: Token, Accept, "OC16 fapi2-token-type-case-insensitivity";
    /// No `expires_in`.
    TokenNoExpiresIn: Token, Accept, "fapi2-token-endpoint-response-without-expires_in";
    /// No `Cache-Control`.
    TokenCacheable: Token, Accept, "OC16";

    // --- ID token: issuer and audience ------------------------------------------------------------------------
    /// `iss` + "1".
    IssWrong: IdToken, Refuse, "OC2 -invalid-iss";
    /// No `iss`.
    IssMissing: IdToken, Refuse, "OC2 fapi2-invalid-missing-iss";
    /// `iss` with a slash more.
    IssSlash: IdToken, Refuse, "OC2";
    /// `iss` with its scheme in capitals.
    IssCase: IdToken, Refuse, "OC2";
    /// `iss` with one letter of its path percent-encoded.
    IssPercentEncoded: IdToken, Refuse, "OC2";
    /// `iss` with a Cyrillic letter for a Latin one.
    IssLookAlike: IdToken, Refuse, "OC2";
    /// `iss` is an array that holds the right one.
    IssArray: IdToken, Refuse, "OC2 J15";
    /// `iss` of this server's issuer named "other", with the same keys.
    IssOfOtherIssuer: IdToken, Refuse, "OC2 B5";
    /// `aud` + "1".
    AudWrong: IdToken, Refuse, "OC3 -invalid-aud";
    /// No `aud`.
    AudMissing: IdToken, Refuse, "OC3 -missing-aud";
    /// `aud` without its last character.
    AudPrefix: IdToken, Refuse, "OC3";
    /// `aud` is a number.
    AudNumber: IdToken, Refuse, "OC3 J15";
    /// `aud` is an object with the client id as member.
    AudObject: IdToken, Refuse, "OC3 J15";
    /// `aud` is an empty array.
    AudEmptyArray: IdToken, Refuse, "OC3";
    /// `aud` is an array with the client id and a stranger.
    AudWithStranger: IdToken, Refuse, "OC3 fapi2-invalid-secondary-aud";
    /// `aud` is an array with the client id alone.
    AudArrayOwn: IdToken, Accept, "OC3 fapi2-valid-aud-as-array";
    /// `aud` is the id of another client of the same provider: of another organization's.
    AudOfOtherClient: IdToken, Refuse, "OC3 V39";
    /// `azp` names a stranger while `aud` is right.
    AzpOther: IdToken, Refuse, "OC4";
    /// `azp` names this client.
    AzpOwn: IdToken, Accept, "OC4";

    // --- ID token: signature and header -----------------------------------------------------------------------
    /// One bit of the signature turned.
    SignatureBit: IdToken, Refuse, "OC5 -invalid-sig-rs256";
    /// One bit of the header turned after signing.
    HeaderBit: IdToken, Refuse, "OC5";
    /// The payload's `sub` changed after signing.
    PayloadBit: IdToken, Refuse, "OC5";
    /// The signature's last 8 bytes cut off.
    SignatureTruncated: IdToken, Refuse, "OC5";
    /// An empty signature under RS256.
    SignatureEmpty: IdToken, Refuse, "OC5";
    /// Signed with a key that is in no set, under the right `kid`.
    SignedByStranger: IdToken, Refuse, "OC5";
    /// `alg: none`, no signature.
    AlgNone: IdToken, Refuse, "OC6 -idtoken-sig-none fapi2-invalid-null-alg";
    /// `alg: None`.
    AlgNoneCapital: IdToken, Refuse, "OC6";
    /// `alg: nOnE`.
    AlgNoneMixed: IdToken, Refuse, "OC6";
    /// No `alg`.
    AlgMissing: IdToken, Refuse, "OC6";
    /// `alg` is a number.
    AlgNumber: IdToken, Refuse, "OC6";
    /// HS256, keyed with the client secret.
    AlgHs256Secret: IdToken, Refuse, "OC7 fapi2-invalid-alternate-alg";
    /// HS256, keyed with the client secret, and a bit of it turned.
    AlgHs256Broken: IdToken, Refuse, "OC7 -invalid-sig-hs256";
    /// HS256, keyed with the public key as PEM.
    AlgHs256PublicPem: IdToken, Refuse, "OC6";
    /// HS256, keyed with the public key as DER.
    AlgHs256PublicDer: IdToken, Refuse, "OC6";
    /// HS256, keyed with the public key's JWK.
    AlgHs256PublicJwk: IdToken, Refuse, "OC6";
    /// Header ES256, `kid` and signature of the RSA key.
    AlgEs256WithRsaKey: IdToken, Refuse, "OC6";
    /// Good ES256.
    SignedEs256: IdToken, Accept, "OC6";
    /// ES256 with a broken signature.
    Es256SignatureBit: IdToken, Refuse, "OC5 -invalid-sig-es256";
    /// ES256 with r = s = 0 (CVE-2022-21449).
    Es256SignatureZero: IdToken, Refuse, "J4";
    /// Good ES256 whose signature is DER, not r and s.
    Es256SignatureDer: IdToken, Refuse, "OC5";
    /// Good Ed25519, called `EdDSA`.
    SignedEdDsa: IdToken, Accept, "OC6";
    /// Good Ed25519, called `Ed25519` (RFC 9864).
    SignedEd25519: IdToken, Accept, "OC6";
    /// Good PS256.
    SignedPs256: IdToken, Accept, "OC6";
    /// Good RS512.
    SignedRs512: IdToken, Accept, "OC6";
    /// Good ES256K: not on our list.
    SignedEs256k: IdToken, Refuse, "OC6";
    /// Good RS256 by the published key that is marked `use: enc`.
    SignedByEncryptionKey: IdToken, Refuse, "OC6";
    /// Good RS256 by the published key whose per-key `issuer` is another tenant's (Entra only).
    SignedByForeignIssuersKey: IdToken, RefuseIfAsked, "OC5";
    /// A `kid` that stays unknown.
    KidUnknown: IdToken, Refuse, "F5";
    /// No `kid`; one RSA key fits.
    KidMissing: IdToken, Accept, "-kid-absent-single-jwks";
    /// No `kid`, and three RSA keys without `kid` in the set.
    KidMissingManyKeys: IdToken, Either, "-kid-absent-multiple-jwks";
    /// A `kid` of 300 characters.
    KidHuge: IdToken, Refuse, "J10";
    /// A `kid` that climbs folders and quotes SQL.
    KidHostile: IdToken, Refuse, "J10";
    /// `kid` is a number.
    KidNumber: IdToken, Refuse, "J10 J15";
    /// Keys change just before signing; the old key is still published.
    KeysRotatedWithOverlap: IdToken, Accept, "F5 -signing-key-rotation";
    /// Keys change just before signing; the old key is gone.
    KeysRotatedWithoutOverlap: IdToken, Accept, "F5 -signing-key-rotation-just-before-signing";
    /// The header's `jwk` holds the key that signed: a stranger's.
    HeaderJwk: IdToken, Refuse, "J10";
    /// The header's `jku` points at keys that hold the stranger's key that signed.
    HeaderJku: IdToken, Refuse, "J10";
    /// The header's `x5u` points somewhere; the stranger's key signed.
    HeaderX5u: IdToken, Refuse, "J10";
    /// `crit` names an extension that nobody knows.
    HeaderCrit: IdToken, Refuse, "OC13";
    /// `crit` and `b64: false` (RFC 7797).
    HeaderB64False: IdToken, Refuse, "OC13";
    /// `zip: DEF`.
    HeaderZip: IdToken, Refuse, "J6";
    /// `typ: logout+jwt`: another kind of token.
    HeaderTypLogout: IdToken, Refuse, "J11 J12";
    /// Two members `alg` in the header.
    DuplicateHeaderMember: IdToken, Refuse, "OC13 J14";

    // --- ID token: form ---------------------------------------------------------------------------------------
    /// Five parts: encrypted.
    Jwe: IdToken, Refuse, "OC1";
    /// A fourth part behind a good token.
    FourParts: IdToken, Refuse, "J13";
    /// The JSON serialisation.
    JsonSerialization: IdToken, Refuse, "J13";
    /// Base64url with padding, signed so.
    PaddedBase64: IdToken, Refuse, "J13";
    /// A blank behind the token.
    TrailingBlank: IdToken, Refuse, "J13";
    /// 80 KiB of claims.
    HugeToken: IdToken, Refuse, "J13";
    /// 80 claims: more than the limit of 64.
    ManyClaims: IdToken, Refuse, "J13";
    /// A claim nested 12 deep: past the limit of 8.
    DeepClaims: IdToken, Refuse, "J13";
    /// The payload is an array.
    PayloadArray: IdToken, Refuse, "J13";
    /// The payload is no JSON.
    PayloadNotJson: IdToken, Refuse, "J13";
    /// Bytes that are not UTF-8 in the payload.
    PayloadNotUtf8: IdToken, Refuse, "J7";
    /// Two members `sub`, the second one right.
    DuplicateClaim: IdToken, Refuse, "OC13 J14";
    /// Distributed claims whose source is on this server, where a fetch shows as `Endpoint::Claims`.
    DistributedClaims: IdToken, Accept, "-distributed-claims";
    /// Aggregated claims, signed by somebody else.
    AggregatedClaims: IdToken, Accept, "-aggregated-claims";
    /// A claim that nobody knows.
    UnknownClaim: IdToken, Accept, "OC13";

    // --- ID token: times --------------------------------------------------------------------------------------
    /// No `exp`.
    ExpMissing: IdToken, Refuse, "OC8 fapi2-invalid-missing-exp";
    /// `exp` is a string.
    ExpString: IdToken, Refuse, "OC8 J15";
    /// `exp` is -1.
    ExpNegative: IdToken, Refuse, "OC8";
    /// `exp` is 1e300.
    ExpAstronomic: IdToken, Refuse, "OC8";
    /// `exp` is null.
    ExpNull: IdToken, Refuse, "OC8";
    /// Expired 61 seconds ago.
    ExpPast: IdToken, Refuse, "OC8";
    /// Expired 5 minutes ago.
    ExpLongPast: IdToken, Refuse, "OC8 fapi2-invalid-expired-exp";
    /// Expired 50 seconds ago: within the skew.
    ExpWithinSkew: IdToken, Accept, "OC8 F8";
    /// Lives for 25 hours.
    ExpTooFar: IdToken, Refuse, "OC8";
    /// `exp` with a fraction of a second.
    ExpFraction: IdToken, Either, "OC8";
    /// No `iat`.
    IatMissing: IdToken, Refuse, "OC9 -missing-iat";
    /// `iat` is a string.
    IatString: IdToken, Refuse, "OC9 J15";
    /// `iat` 61 seconds ahead.
    IatAhead: IdToken, Refuse, "OC9 F8";
    /// `iat` 50 seconds ahead: within the skew.
    IatWithinSkew: IdToken, Accept, "OC9 F8";
    /// `iat` five minutes ago, as Entra back-dates.
    IatBackDated: IdToken, Accept, "OC9";
    /// `iat` 23 hours ago: old, but the token's life is within a day.
    IatDayOld: IdToken, Refuse, "OC9";
    /// `nbf` 61 seconds ahead.
    NbfAhead: IdToken, Refuse, "OC13";
    /// `nbf` is a string.
    NbfString: IdToken, Refuse, "OC13 J15";
    /// `auth_time` a day ago.
    AuthTimeOld: IdToken, RefuseIfAsked, "OC12";
    /// No `auth_time` although `max_age` was asked.
    AuthTimeMissing: IdToken, RefuseIfAsked, "OC12";
    /// `auth_time` is a string.
    AuthTimeString: IdToken, RefuseIfAsked, "OC12 J15";
    /// `acr` is another one than asked for.
    AcrOther: IdToken, RefuseIfAsked, "OC12";
    /// No `acr` although `acr_values` was asked.
    AcrMissing: IdToken, RefuseIfAsked, "OC12";

    // --- ID token: nonce, subject and what hangs on them ------------------------------------------------------
    /// `nonce` + "1".
    NonceWrong: IdToken, Refuse, "OC10 -nonce-invalid";
    /// No `nonce`.
    NonceMissing: IdToken, Refuse, "OC10 fapi2-invalid-missing-nonce";
    /// `nonce` without its last character.
    NoncePrefix: IdToken, Refuse, "OC10";
    /// `nonce` is a number.
    NonceNumber: IdToken, Refuse, "OC10 J15";
    /// The `nonce` of the attempt before this one. Needs an attempt before.
    NonceOfPrevious: IdToken, Refuse, "OC10 B3";
    /// No `sub`.
    SubMissing: IdToken, Refuse, "OC11 -missing-sub";
    /// `sub` is empty.
    SubEmpty: IdToken, Refuse, "OC11";
    /// `sub` is a number.
    SubNumber: IdToken, Refuse, "OC11 J15";
    /// `sub` is an array.
    SubArray: IdToken, Refuse, "OC11 J15";
    /// `sub` of 256 characters.
    SubTooLong: IdToken, Refuse, "OC11";
    /// `sub` of 255 characters.
    SubLongest: IdToken, Accept, "OC11";
    /// `sub` with a letter beyond ASCII.
    SubNotAscii: IdToken, Refuse, "OC11";
    /// `at_hash` of another access token.
    AtHashWrong: IdToken, Refuse, "OC14 -invalid-athash";
    /// `at_hash` of the whole SHA-256, not its left half.
    AtHashWrongSize: IdToken, Refuse, "OC14";
    /// `at_hash` is a number.
    AtHashNumber: IdToken, Refuse, "OC14 J15";
    /// A right `at_hash`.
    AtHashRight: IdToken, Accept, "OC14";
    /// `email` is a number.
    EmailNumber: IdToken, Refuse, "J15";
    /// `tid` of another tenant (Entra).
    TidOther: IdToken, RefuseIfAsked, "entra-1";
    /// No `tid` (Entra).
    TidMissing: IdToken, RefuseIfAsked, "entra-1";
    /// No `oid` (Entra).
    OidMissing: IdToken, RefuseIfAsked, "entra-5";
    /// `ver` is 1.0 (Entra).
    VerOne: IdToken, RefuseIfAsked, "entra-1";
    /// `hd` of another domain (Google).
    HdOther: IdToken, RefuseIfAsked, "entra-12";
    /// No `hd` (Google).
    HdMissing: IdToken, RefuseIfAsked, "entra-12";

    // --- userinfo ---------------------------------------------------------------------------------------------
    /// `sub` + "1".
    UserinfoOtherSub: Userinfo, Refuse, "OC15 -userinfo-invalid-sub";
    /// No `sub`.
    UserinfoSubMissing: Userinfo, Refuse, "OC15";
    /// A JSON array.
    UserinfoArray: Userinfo, Refuse, "OC15";
    /// An HTML page with status 200.
    UserinfoHtml: Userinfo, Refuse, "OC15";
    /// Text that is no JSON.
    UserinfoNotJson: Userinfo, Refuse, "OC15";
    /// The right answer as `text/html`.
    UserinfoWrongContentType: Userinfo, Refuse, "OC15";
    /// Status 401.
    UserinfoUnauthorized: Userinfo, Refuse, "OC15";
    /// Status 500.
    UserinfoServerError: Userinfo, Refuse, "F3";
    /// Status 302 to a place that answers well.
    UserinfoRedirect: Userinfo, Refuse, "F3";
    /// Claims 1 GiB and sends as much as is read.
    UserinfoOneGiB: Userinfo, Refuse, "F3 S9";
    /// No answer comes.
    UserinfoNeverAnswers: Userinfo, Refuse, "F2 S9";
}

impl Misbehavior {
    /// Whether it shows in two answers (a token and the key set fetched after it), so that it can't be for one
    /// answer only: it holds until `FakeIdp::behave`.
    pub const fn holds(self) -> bool {
        matches!(self, Self::KidMissingManyKeys)
    }

    /// Whether a provider of this personality can show it, so that its verdict means something there. Entra and
    /// Google announce RS256 alone, Entra promises no `iss` in its callback.
    pub const fn fits(self, personality: Personality) -> bool {
        match self {
            Self::TidOther | Self::TidMissing | Self::OidMissing | Self::VerOne => {
                matches!(personality, Personality::EntraLike)
            }
            Self::SignedByForeignIssuersKey
            | Self::TokenSecretNotSent
            | Self::TokenPlatformPublic
            | Self::TokenPlatformSpa
            | Self::TokenClientUnknown => matches!(personality, Personality::EntraLike),
            Self::HdOther | Self::HdMissing => matches!(personality, Personality::GoogleLike),
            Self::CallbackIssMissing
            | Self::SignedByEncryptionKey
            | Self::DiscoveryPkceMissing
            // Entra back-dates every token.
            | Self::IatBackDated
            | Self::DiscoveryGrantTypesMissing => {
                !matches!(personality, Personality::EntraLike)
            }
            Self::SignedEs256
            | Self::SignedEdDsa
            | Self::SignedEd25519
            | Self::SignedPs256
            | Self::SignedRs512
            | Self::SignedEs256k
            | Self::Es256SignatureBit
            | Self::Es256SignatureZero
            | Self::Es256SignatureDer
            // Entra publishes several keys at any time, so none is the only one that fits.
            | Self::KidMissing => matches!(personality, Personality::Generic),
            _ => true,
        }
    }
}
