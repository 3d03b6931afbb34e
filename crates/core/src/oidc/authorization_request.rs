//! The URL that sends a browser to the provider.
//!
//! In: endpoint, client, and the attempt's state, nonce and PKCE verifier. Out: one URL.
//! Never here: making random values. Code flow, S256 and nonce always, whatever the metadata says (rule 2; OpenID
//! Connect Core 1.0 section 3.1.2.1, RFC 7636 section 4, RFC 9700 section 2.1).

use crate::secret::Secret;
use crate::time::Lifetime;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::collections::HashSet;
use url::Url;
use url::form_urlencoded;

/// The scopes that are asked for unless the organization chose others (conformance.md B14).
pub const DEFAULT_SCOPES: &str = "openid profile email";

/// One authorization request.
#[derive(Clone, Copy, Debug)]
pub struct AuthorizationRequest<'a> {
    /// The provider's endpoint; the parts of its query are kept.
    pub endpoint: &'a Url,
    /// Our identifier at the provider.
    pub client_id: &'a str,
    /// The organization's redirect URI, exactly as registered.
    pub redirect_uri: &'a str,
    /// Scopes, separated by blanks; contains `openid`.
    pub scopes: &'a str,
    /// The attempt's state.
    pub state: &'a Secret,
    /// The attempt's nonce.
    pub nonce: &'a Secret,
    /// The attempt's PKCE verifier: 43 to 128 unreserved characters, as `Secret::token` makes them.
    pub code_verifier: &'a Secret,
    /// Who will probably sign in.
    pub login_hint: Option<&'a str>,
    /// `login`, `select_account`, …
    pub prompt: Option<&'a str>,
    /// The oldest sign-in at the provider that is good enough; in whole seconds.
    pub max_age: Option<Lifetime>,
    /// Wanted ways of authenticating, separated by blanks.
    pub acr_values: Option<&'a str>,
    /// Google's hint at the domain; the check is in the token.
    pub hosted_domain: Option<&'a str>,
}

impl AuthorizationRequest<'_> {
    /// The URL to navigate to.
    pub fn to_url(&self) -> Url {
        let challenge = code_challenge(self.code_verifier);
        let max_age = self.max_age.map(|age| age.seconds().max(0).to_string());
        let mut parameters = vec![
            ("response_type", "code"),
            ("client_id", self.client_id),
            ("redirect_uri", self.redirect_uri),
            ("scope", self.scopes),
            ("state", self.state.expose()),
            ("nonce", self.nonce.expose()),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        let optional = [
            ("login_hint", self.login_hint),
            ("prompt", self.prompt),
            ("max_age", max_age.as_deref()),
            ("acr_values", self.acr_values),
            ("hd", self.hosted_domain),
        ];
        parameters.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));

        // The endpoint's own query stays (RFC 6749 section 3.1), but can't say twice what we say.
        let ours: HashSet<&str> = parameters.iter().map(|(name, _)| *name).collect();
        let mut query: Vec<String> = self
            .endpoint
            .query()
            .unwrap_or_default()
            .split('&')
            .filter(|part| !part.is_empty() && !ours.contains(name_of(part).as_str()))
            .map(str::to_owned)
            .collect();
        query.push(form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish());
        let mut url = self.endpoint.clone();
        url.set_query(Some(&query.join("&")));
        url
    }
}

/// The decoded name of one `name=value` part of a query.
fn name_of(part: &str) -> String {
    form_urlencoded::parse(part.as_bytes()).next().map(|(name, _)| name.into_owned()).unwrap_or_default()
}

/// The S256 challenge for a verifier (RFC 7636 section 4.2).
pub fn code_challenge(verifier: &Secret) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.expose().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn pairs(url: &Url) -> HashMap<String, String> {
        let mut map = HashMap::new();
        for (name, value) in url.query_pairs().into_owned() {
            assert!(map.insert(name.clone(), value).is_none(), "{name} twice");
        }
        map
    }

    fn secrets() -> [Secret; 3] {
        [[1; 32], [2; 32], [3; 32]].map(Secret::token)
    }

    fn request<'a>(endpoint: &'a Url, [state, nonce, verifier]: &'a [Secret; 3]) -> AuthorizationRequest<'a> {
        AuthorizationRequest {
            endpoint,
            client_id: "client+&=1",
            redirect_uri: "https://sso.example.com/organizations/Acme/oidc/consume",
            scopes: DEFAULT_SCOPES,
            state,
            nonce,
            code_verifier: verifier,
            login_hint: None,
            prompt: None,
            max_age: None,
            acr_values: None,
            hosted_domain: None,
        }
    }

    #[test]
    fn p2_the_challenge_is_that_of_rfc_7636_appendix_b() {
        let verifier = Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned());
        assert_eq!(code_challenge(&verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn rule_2_every_request_has_the_code_flow_state_nonce_and_an_s256_challenge() {
        let endpoint = Url::parse("https://idp.example/authorize").unwrap();
        let secrets = secrets();
        let pairs = pairs(&request(&endpoint, &secrets).to_url());
        assert_eq!(pairs["response_type"], "code");
        assert_eq!(pairs["client_id"], "client+&=1");
        assert_eq!(pairs["redirect_uri"], "https://sso.example.com/organizations/Acme/oidc/consume");
        assert_eq!(pairs["scope"], "openid profile email");
        assert_eq!(pairs["state"], secrets[0].expose());
        assert_eq!(pairs["nonce"], secrets[1].expose());
        assert_eq!(pairs["code_challenge"], code_challenge(&secrets[2]));
        assert_eq!(pairs["code_challenge_method"], "S256");
        assert_eq!(pairs.len(), 8);
        assert!(!pairs.values().any(|value| value == secrets[2].expose()), "the verifier stays here");
    }

    #[test]
    fn d3_the_endpoints_query_is_kept_and_never_says_twice_what_we_say() {
        let endpoint = Url::parse("https://idp.example/a?p=b2c_1&state=theirs&x=%2F&%73cope=all&&").unwrap();
        let secrets = secrets();
        let url = request(&endpoint, &secrets).to_url();
        let pairs = pairs(&url);
        assert_eq!((pairs["p"].as_str(), pairs["x"].as_str()), ("b2c_1", "/"));
        assert_eq!(pairs["state"], secrets[0].expose());
        assert_eq!(pairs["scope"], "openid profile email");
        assert!(url.as_str().starts_with("https://idp.example/a?p=b2c_1&x=%2F&response_type=code"));
    }

    #[test]
    fn what_was_chosen_is_asked_for() {
        let endpoint = Url::parse("https://idp.example/a").unwrap();
        let secrets = secrets();
        let request = AuthorizationRequest {
            login_hint: Some("mira@fjordline.example"),
            prompt: Some("login"),
            max_age: Some(Lifetime::from_minutes(5)),
            acr_values: Some("mfa phr"),
            hosted_domain: Some("fjordline.example"),
            ..request(&endpoint, &secrets)
        };
        let pairs = pairs(&request.to_url());
        assert_eq!(pairs["login_hint"], "mira@fjordline.example");
        assert_eq!(pairs["prompt"], "login");
        assert_eq!(pairs["max_age"], "300");
        assert_eq!(pairs["acr_values"], "mfa phr");
        assert_eq!(pairs["hd"], "fjordline.example");
    }
}
