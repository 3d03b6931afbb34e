//! What the fake provider publishes about itself: issuers and their paths, metadata, key sets.
//!
//! In: a personality, an issuer, at most one misbehaviour. Out: the answer as text.
//! Never here: sockets, tokens. Shapes of Entra and Google follow entra.md sections 1, 2 and 12.

use serde_json::{Map, Value, json};

use crate::misbehavior::Misbehavior;
use crate::signing::{
    EC_K256, EC_P256, RSA_ASIDE, RSA_EVEN, RSA_ODD, RSA_STRANGER, RsaKey, base64url, ed25519_jwk, guid, word,
};

/// The issuer of Microsoft's personal accounts: its keys must never validate a work token.
const PERSONAL_TENANT: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

/// Whose habits the fake provider has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Personality {
    /// By the book, with everything that the OIDF suite mixes in: every algorithm listed, junk among the keys.
    Generic,
    /// Microsoft Entra ID: an issuer per tenant, no PKCE in the metadata, keys without `alg`, no `email_verified`,
    /// `oid` and `tid`, back-dated tokens, AADSTS errors. See entra.md.
    EntraLike,
    /// Google: one issuer for everybody, so that `hd` decides; `azp` and `at_hash` in each token.
    GoogleLike,
}

/// One issuer with its paths on the server. Nothing in them can be guessed.
#[derive(Clone, Debug)]
pub(crate) struct Issuer {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) tenant: String,
    pub(crate) discovery: String,
    pub(crate) authorize: String,
    pub(crate) token: String,
    pub(crate) jwks: String,
    pub(crate) userinfo: String,
    pub(crate) claims: String,
    seed: u64,
    personality: Personality,
    base: String,
}

impl Issuer {
    pub(crate) fn new(personality: Personality, seed: u64, base: &str, name: &str) -> Self {
        let some = |label: &str| word(seed, &format!("{name}/{label}"));
        let tenant = guid(seed, &format!("{name}/tenant"));
        let (path, authorize, token, jwks, userinfo) = match personality {
            Personality::Generic => (
                format!("/{}", some("issuer")),
                format!("/{}/{}", some("a"), some("authorize")),
                format!("/{}/{}", some("b"), some("token")),
                format!("/{}/{}.json", some("c"), some("jwks")),
                format!("/{}/{}", some("d"), some("userinfo")),
            ),
            Personality::EntraLike => (
                format!("/{tenant}/v2.0"),
                format!("/{tenant}/oauth2/v2.0/authorize"),
                format!("/{tenant}/oauth2/v2.0/token"),
                format!("/{tenant}/discovery/v2.0/keys"),
                format!("/{}/oidc/userinfo", some("graph")),
            ),
            Personality::GoogleLike => (
                format!("/accounts-{}", some("issuer")),
                format!("/o/oauth2/v2/auth-{}", some("authorize")),
                format!("/token-{}", some("token")),
                format!("/oauth2/v3/certs-{}", some("jwks")),
                format!("/v1/userinfo-{}", some("userinfo")),
            ),
        };
        Self {
            name: name.into(),
            url: format!("{base}{path}"),
            tenant,
            discovery: format!("{path}/.well-known/openid-configuration"),
            authorize,
            token,
            jwks,
            userinfo,
            claims: format!("/{}/claims", some("claims")),
            seed,
            personality,
            base: base.into(),
        }
    }

    /// The `kid` of the RSA key that signs in a generation.
    pub(crate) fn rsa_kid(&self, generation: u32) -> String {
        word(self.seed, &format!("{}/rsa/{generation}", self.name))
    }

    /// The `kid` of another key: `ec`, `ed`, `k256` or `aside`.
    pub(crate) fn kid(&self, key: &str) -> String {
        word(self.seed, &format!("{}/{key}", self.name))
    }

    /// The metadata document as it ought to be.
    pub(crate) fn metadata(&self) -> Map<String, Value> {
        let at = |path: &str| format!("{}{path}", self.base);
        let mut document = json!({
            "issuer": self.url,
            "authorization_endpoint": at(&self.authorize),
            "token_endpoint": at(&self.token),
            "jwks_uri": at(&self.jwks),
            "userinfo_endpoint": at(&self.userinfo),
        });
        let more = match self.personality {
            Personality::Generic => json!({
                "response_types_supported": ["id_token", "code token", "code", "code id_token token", "none"],
                "response_modes_supported": ["form_post", "fragment", "query"],
                "grant_types_supported": ["implicit", "authorization_code", "refresh_token"],
                "subject_types_supported": ["pairwise", "public"],
                "id_token_signing_alg_values_supported":
                    ["none", "HS256", "RS256", "RS512", "PS256", "ES256", "ES256K", "EdDSA", "Ed25519"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "private_key_jwt"],
                "scopes_supported": ["openid", "profile", "email", "phone", "address"],
                "claims_supported": ["sub", "email", "email_verified", "name"],
                "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": true,
                "request_uri_parameter_supported": false,
                "x_a_member_nobody_knows": {"and": ["its", "content"]},
            }),
            Personality::EntraLike => json!({
                "token_endpoint_auth_methods_supported":
                    ["client_secret_post", "private_key_jwt", "client_secret_basic", "self_signed_tls_client_auth"],
                "response_modes_supported": ["query", "fragment", "form_post"],
                "subject_types_supported": ["pairwise"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
                "scopes_supported": ["openid", "profile", "email", "offline_access"],
                "request_uri_parameter_supported": false,
                "device_authorization_endpoint": at(&format!("/{}/oauth2/v2.0/devicecode", self.tenant)),
                "http_logout_supported": true,
                "frontchannel_logout_supported": true,
                "end_session_endpoint": at(&format!("/{}/oauth2/v2.0/logout", self.tenant)),
                "claims_supported": ["sub", "iss", "cloud_instance_name", "aud", "exp", "iat", "nonce",
                    "preferred_username", "name", "tid", "ver", "email"],
                "kerberos_endpoint": at(&format!("/{}/kerberos", self.tenant)),
                "tls_client_certificate_bound_access_tokens": true,
                "tenant_region_scope": "EU",
                "cloud_instance_name": "microsoftonline.com",
                "cloud_graph_host_name": "graph.windows.net",
                "msgraph_host": "graph.microsoft.com",
                "rbac_url": "https://pas.windows.net",
            }),
            Personality::GoogleLike => json!({
                "response_types_supported": ["code", "token", "id_token", "code token", "none"],
                "response_modes_supported": ["query", "fragment", "form_post"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
                "scopes_supported": ["openid", "email", "profile"],
                "claims_supported": ["aud", "email", "email_verified", "exp", "iat", "iss", "name", "sub"],
                "code_challenge_methods_supported": ["plain", "S256"],
                "grant_types_supported": ["authorization_code", "refresh_token"],
                "authorization_response_iss_parameter_supported": true,
            }),
        };
        let document = document.as_object_mut().map(std::mem::take).unwrap_or_default();
        document.into_iter().chain(more.as_object().cloned().unwrap_or_default()).collect()
    }

    /// The metadata document as text, with what `fault` does to it.
    pub(crate) fn metadata_text(&self, fault: Option<Misbehavior>) -> Vec<u8> {
        use Misbehavior as M;
        let mut document = self.metadata();
        let mut set = |name: &str, value: Value| {
            document.insert(name.into(), value);
        };
        match fault {
            Some(M::DiscoveryIssuerOther) => set("issuer", json!(format!("{}INVALID", self.url))),
            Some(M::DiscoveryIssuerSlash) => set("issuer", json!(format!("{}/", self.url))),
            Some(M::DiscoveryIssuerNumber) => set("issuer", json!(5)),
            Some(M::DiscoveryIssuerTemplate) => {
                set("issuer", json!(format!("{}/{{tenantid}}/v2.0", self.base)));
            }
            Some(M::DiscoveryNested) => set("deep", nested(20)),
            Some(M::DiscoveryResponseTypesWithoutCode) => {
                set("response_types_supported", json!(["id_token"]));
            }
            Some(M::DiscoveryResponseTypesString) => set("response_types_supported", json!("code")),
            Some(M::DiscoveryAlgsWeakOnly) => {
                set("id_token_signing_alg_values_supported", json!(["HS256", "none"]));
            }
            Some(M::DiscoveryTokenEndpointNumber) => set("token_endpoint", json!(443)),
            Some(M::DiscoveryTokenEndpointRelative) => set("token_endpoint", json!(self.token)),
            Some(M::DiscoveryAuthorizationEndpointPlainHttp) => {
                set("authorization_endpoint", json!("http://login.example.com/authorize"));
            }
            Some(M::DiscoveryTokenEndpointPlainHttp) => {
                set("token_endpoint", json!("http://login.example.com/token"));
            }
            Some(M::DiscoveryJwksUriPlainHttp) => set("jwks_uri", json!("http://login.example.com/keys")),
            Some(M::DiscoveryTokenEndpointPrivate) => set("token_endpoint", json!("https://10.1.2.3/token")),
            Some(M::DiscoveryJwksUriPrivate) => set("jwks_uri", json!("https://192.168.7.7/keys")),
            Some(M::DiscoveryJwksUriLinkLocal) => {
                set("jwks_uri", json!("https://169.254.169.254/latest/meta-data"));
            }
            Some(M::DiscoveryUserinfoEndpointPrivate) => {
                set("userinfo_endpoint", json!("https://10.1.2.3/userinfo"));
            }
            Some(M::DiscoveryTokenEndpointOtherPort) => {
                set("token_endpoint", json!("http://127.0.0.1:9/token"));
            }
            Some(M::DiscoveryTokenEndpointUserinfo) => {
                let url = format!("{}{}", self.base, self.token).replacen("://", "://name:word@", 1);
                set("token_endpoint", json!(url));
            }
            Some(M::DiscoveryAuthorizationEndpointFragment) => {
                set("authorization_endpoint", json!(format!("{}{}#top", self.base, self.authorize)));
            }
            Some(M::DiscoveryAuthorizationEndpointScript) => {
                set("authorization_endpoint", json!("javascript:alert(document.domain)"));
            }
            Some(M::DiscoveryAuthorizationEndpointQuery) => {
                set(
                    "authorization_endpoint",
                    json!(format!("{}{}?policy=sign%20in", self.base, self.authorize)),
                );
            }
            Some(M::DiscoveryEndpointsMoved) => {
                let moved = self.base.replacen("127.0.0.1", "localhost", 1);
                set("authorization_endpoint", json!(format!("{moved}{}", self.authorize)));
                set("token_endpoint", json!(format!("{moved}{}", self.token)));
                set("jwks_uri", json!(format!("{moved}{}", self.jwks)));
            }
            Some(M::DiscoveryIssuerMissing) => drop(document.remove("issuer")),
            Some(M::DiscoveryAuthorizationEndpointMissing) => drop(document.remove("authorization_endpoint")),
            Some(M::DiscoveryTokenEndpointMissing) => drop(document.remove("token_endpoint")),
            Some(M::DiscoveryJwksUriMissing) => drop(document.remove("jwks_uri")),
            Some(M::DiscoveryUserinfoEndpointMissing) => drop(document.remove("userinfo_endpoint")),
            Some(M::DiscoveryResponseTypesMissing) => drop(document.remove("response_types_supported")),
            Some(M::DiscoverySubjectTypesMissing) => drop(document.remove("subject_types_supported")),
            Some(M::DiscoveryAlgsMissing) => drop(document.remove("id_token_signing_alg_values_supported")),
            Some(M::DiscoveryAuthMethodsMissing) => {
                drop(document.remove("token_endpoint_auth_methods_supported"));
            }
            Some(M::DiscoveryGrantTypesMissing) => drop(document.remove("grant_types_supported")),
            Some(M::DiscoveryPkceMissing) => drop(document.remove("code_challenge_methods_supported")),
            _ => {}
        }
        let text = Value::Object(document).to_string();
        let spliced = |member: &str| format!("{{{member},{}", text.strip_prefix('{').unwrap_or(&text));
        match fault {
            Some(M::DiscoveryDuplicateIssuer) => spliced("\"issuer\":\"https://evil.example\"").into_bytes(),
            Some(M::DiscoveryDeepNesting) => {
                spliced(&format!("\"deep\":{}{}", "[".repeat(50_000), "]".repeat(50_000))).into_bytes()
            }
            Some(M::DiscoveryNotUtf8) => {
                [b"{\"service\":\"\xff\xfe\",".as_slice(), text.trim_start_matches('{').as_bytes()].concat()
            }
            _ => text.into_bytes(),
        }
    }

    /// The keys as they ought to be in a generation, those of the one before included if they overlap.
    pub(crate) fn keys(&self, generation: u32, overlap: bool) -> Vec<Value> {
        let signing = |of: u32| {
            let kid = self.rsa_kid(of);
            match self.personality {
                Personality::Generic => with(rsa(of).jwk(), json!({"kid": kid})),
                Personality::EntraLike => entra_key(rsa(of), &kid, &self.url),
                Personality::GoogleLike => {
                    with(rsa(of).jwk(), json!({"kid": kid, "use": "sig", "alg": "RS256"}))
                }
            }
        };
        let mut keys = match self.personality {
            Personality::Generic => vec![
                json!({"kty": "XYZ", "kid": self.kid("unknown"), "use": "sig", "secret_sauce": [1, 2, 3]}),
                with(RSA_ASIDE.jwk(), json!({"kid": self.kid("aside"), "use": "enc"})),
                with(EC_K256.jwk(), json!({"kid": self.kid("k256")})),
                signing(generation),
                with(EC_P256.jwk(), json!({"kid": self.kid("ec"), "use": "sig"})),
                with(ed25519_jwk(), json!({"kid": self.kid("ed")})),
            ],
            Personality::EntraLike => {
                let personal = format!("{}/{PERSONAL_TENANT}/v2.0", self.base);
                let template = format!("{}/{{tenantid}}/v2.0", self.base);
                vec![
                    entra_key(&RSA_ASIDE, &self.kid("aside"), &personal),
                    signing(generation),
                    entra_key(rsa(generation + 1), &self.kid("spare"), &template),
                ]
            }
            Personality::GoogleLike => vec![
                with(RSA_ASIDE.jwk(), json!({"kid": self.kid("aside"), "use": "enc", "alg": "RSA-OAEP-256"})),
                signing(generation),
            ],
        };
        if overlap && generation > 0 {
            keys.push(signing(generation - 1));
        }
        keys
    }

    /// The key set as text, with what `fault` does to it.
    pub(crate) fn jwks_text(&self, generation: u32, overlap: bool, fault: Option<Misbehavior>) -> String {
        use Misbehavior as M;
        let kid = self.rsa_kid(generation);
        let mut keys = self.keys(generation, overlap);
        // Every fault of one key turns the key that signs.
        let turn = |keys: &mut Vec<Value>, name: &str, value: Value| {
            for key in keys.iter_mut().filter(|key| key["kid"] == json!(kid)) {
                key[name] = value.clone();
            }
        };
        match fault {
            Some(M::JwksEmpty) => keys.clear(),
            Some(M::JwksOnlyJunk) => keys = self.junk(),
            Some(M::JwksBadKeyAmongGood) => {
                let junk = self.junk();
                keys = [&junk[..3], &keys, &junk[3..]].concat();
            }
            Some(M::JwksDuplicateKid) => keys.insert(0, with(RSA_STRANGER.jwk(), json!({"kid": kid}))),
            Some(M::JwksOtherKeySameKid) => turn(&mut keys, "n", json!(RSA_STRANGER.n)),
            Some(M::JwksKeyForEncryption) => turn(&mut keys, "use", json!("enc")),
            Some(M::JwksKeyForOtherAlg) => turn(&mut keys, "alg", json!("PS256")),
            Some(M::JwksExponentOne) => turn(&mut keys, "e", json!("AQ")),
            Some(M::JwksShortModulus) => turn(&mut keys, "n", json!(&rsa(generation).n[..86])),
            Some(M::JwksTooManyKeys) => {
                let junk = (0..300).map(|n| json!({"kty": "EC", "crv": "P-256", "kid": format!("junk-{n}")}));
                keys = junk.chain(keys).collect();
            }
            Some(M::JwksWrongType) => return json!({"keys": {"first": keys}}).to_string(),
            Some(M::KidMissingManyKeys) => {
                keys = vec![RSA_STRANGER.jwk(), RSA_ASIDE.jwk(), rsa(generation).jwk()];
            }
            _ => {}
        }
        json!({ "keys": keys }).to_string()
    }

    /// Keys of which none can check anything: each is broken in its own way.
    fn junk(&self) -> Vec<Value> {
        let kid = |n: u8| self.kid(&format!("junk/{n}"));
        vec![
            json!(7),
            json!({"kty": "RSA", "kid": kid(1), "n": 12345, "e": "AQAB"}),
            json!({"kty": "RSA", "kid": kid(2), "e": "AQAB"}),
            json!({"kty": "EC", "kid": kid(3), "crv": "P-256", "x": base64url([1; 32]), "y": base64url([2; 32])}),
            json!({"kty": "EC", "kid": kid(4), "crv": "P-999", "x": "AA", "y": "AA"}),
            json!({"kty": "oct", "kid": kid(5), "k": ""}),
            json!({"kty": "RSA", "kid": kid(6), "n": "not base64 !", "e": "AQAB"}),
            json!({"kid": kid(8)}),
            json!(null),
        ]
    }
}

/// The RSA key that signs in a generation.
pub(crate) fn rsa(generation: u32) -> &'static RsaKey {
    if generation.is_multiple_of(2) { &RSA_EVEN } else { &RSA_ODD }
}

/// A key as Entra publishes it: no `alg`, `x5t` = `kid`, an issuer of its own, and an `x5c` that nobody has to
/// look into (it holds the bare public key here, not a certificate).
fn entra_key(key: &RsaKey, kid: &str, issuer: &str) -> Value {
    use base64::Engine;
    let x5c = base64::engine::general_purpose::STANDARD.encode(&key.public_der);
    with(key.jwk(), json!({"use": "sig", "kid": kid, "x5t": kid, "x5c": [x5c], "issuer": issuer}))
}

/// `object` with the members of `more`.
pub(crate) fn with(mut object: Value, more: Value) -> Value {
    if let (Value::Object(members), Value::Object(more)) = (&mut object, more) {
        members.extend(more);
    }
    object
}

/// An object in an object in an object …
pub(crate) fn nested(depth: u32) -> Value {
    (0..depth).fold(json!("bottom"), |inner, _| json!({ "in": inner }))
}
