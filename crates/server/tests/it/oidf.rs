//! The relying-party modules of the OpenID Foundation's conformance plans B (basic), C (configuration) and T (login begun
//! by a third party), by their names, each run through the whole server; and some of those that no plan asks for.
//!
//! What each sends and how it must end is restated in conformance.md §1; nothing of the suite itself is in here. As there,
//! a refusal means that the provider is asked nothing more, and a good end that UserInfo was asked.
//! `docs/conformance.md` lists them all, with those that don't apply.

use doorward_testkit::{Browser, Client, ClientAuth, Endpoint, Misbehavior as M, Page};

use crate::harness::World;

const SSO_SESSIONS: &str = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM sso_session";

/// Acme with single sign-on that asks UserInfo always, as the suite demands, and a member in front of her browser.
struct Suite {
    world: World,
    mira: Browser,
    client: Client,
}

impl Suite {
    async fn new() -> Self {
        Self::with(ClientAuth::Either, "").await
    }

    /// With a client that shows its secret in this way alone; `method`: as the settings name it.
    async fn with(auth: ClientAuth, method: &str) -> Self {
        let world = World::new().await;
        let ada = world.browser_of("ada").await;
        let client = world.register("acme").demanding(auth);
        world.idp.add_client(client.clone());
        world.idp.signs_in("ada");
        let issuer = world.idp.issuer();
        let fields = [
            ("client_id", &*client.id),
            ("client_secret", client.secret()),
            ("issuer_url", &*issuer),
            ("userinfo", "always"),
            ("client_auth_method", method),
        ];
        let page = world.update_and_test(&ada, "acme", &fields).await;
        ada.follow_all(page).await;
        let revision = world.draft("acme").await;
        let page = ada.post(&world.settings("acme", "/enable"), &[("revision", &revision)]).await;
        // With the recovery codes.
        assert_eq!(page.status, 200, "{}", ada.history());
        world.idp.signs_in("mira");
        world.idp.forget_requests();
        let mira = world.browser_of("mira").await;
        Self { world, mira, client }
    }

    async fn sign_in(&self) -> Page {
        self.world.visit(&self.mira, &format!("{}/acme/secret", self.world.hub)).await
    }

    /// Signs in, and is through, with UserInfo asked once.
    async fn is_through(&self) -> Page {
        let before = self.world.idp.calls(Endpoint::Userinfo);
        let page = self.sign_in().await;
        assert!(page.says("the application's page /acme/secret"), "{}\n{}", page.text(), self.mira.history());
        assert_eq!(self.world.idp.calls(Endpoint::Userinfo), before + 1);
        page
    }

    /// The same with a fault that is allowed.
    async fn accepts(fault: M) {
        let suite = Self::new().await;
        suite.world.idp.misbehave_once(fault);
        suite.is_through().await;
        suite.went_nowhere_else();
    }

    /// Signs in at a provider with this fault: the code of the page, no session, and nothing asked beyond `last`.
    async fn stops(fault: M, code: &str, last: Endpoint) {
        let suite = Self::new().await;
        let sessions = suite.world.count(SSO_SESSIONS).await;
        let entries = suite.world.audit("acme").await.len();
        suite.world.idp.misbehave_once(fault);
        let page = suite.sign_in().await;
        assert_eq!(page.code().as_deref(), Some(code), "{}", page.text());
        assert_eq!(suite.world.count(SSO_SESSIONS).await, sessions);
        assert_eq!(suite.world.audit("acme").await.len(), entries + 1);
        assert_eq!(suite.world.idp.calls(Endpoint::Token), 1, "a code is redeemed once");
        assert_eq!(suite.world.idp.calls(Endpoint::Userinfo), usize::from(last == Endpoint::Userinfo));
        suite.went_nowhere_else();
        // The attempt is over: its address, opened again, asks nothing more either.
        let page = suite.mira.get(page.url.as_str()).await;
        assert_eq!(page.code().as_deref(), Some(code), "{}", page.text());
        assert_eq!(suite.world.idp.calls(Endpoint::Token), 1);
    }

    fn went_nowhere_else(&self) {
        for nowhere in [Endpoint::Claims, Endpoint::Moved, Endpoint::Stray] {
            assert_eq!(self.world.idp.calls(nowhere), 0, "{nowhere:?}");
        }
    }
}

macro_rules! accepts {
    ($($module:ident: $fault:ident;)*) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $module() {
            Suite::accepts(M::$fault).await;
        }
    )* };
}

macro_rules! stops {
    ($($module:ident: $fault:ident, $code:literal, after $last:ident;)*) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $module() {
            Suite::stops(M::$fault, $code, Endpoint::$last).await;
        }
    )* };
}

accepts! {
    oidcc_client_test_kid_absent_single_jwks: KidMissing;
    oidcc_client_test_signing_key_rotation_just_before_signing: KeysRotatedWithoutOverlap;
    oidcc_client_test_aggregated_claims: AggregatedClaims;
    oidcc_client_test_distributed_claims: DistributedClaims;
}

stops! {
    oidcc_client_test_invalid_iss: IssWrong, "oidc.token_issuer_mismatch", after Token;
    oidcc_client_test_missing_sub: SubMissing, "oidc.subject_invalid", after Token;
    oidcc_client_test_invalid_aud: AudWrong, "oidc.audience_mismatch", after Token;
    oidcc_client_test_missing_aud: AudMissing, "oidc.audience_mismatch", after Token;
    oidcc_client_test_missing_iat: IatMissing, "oidc.issued_at_invalid", after Token;
    oidcc_client_test_nonce_invalid: NonceWrong, "oidc.nonce_mismatch", after Token;
    oidcc_client_test_idtoken_sig_none: AlgNone, "oidc.algorithm_refused", after Token;
    oidcc_client_test_invalid_sig_rs256: SignatureBit, "oidc.signature_invalid", after Token;
    oidcc_client_test_invalid_sig_es256: Es256SignatureBit, "oidc.signature_invalid", after Token;
    oidcc_client_test_invalid_sig_hs256: AlgHs256Broken, "oidc.algorithm_refused", after Token;
    oidcc_client_test_invalid_athash: AtHashWrong, "oidc.access_token_hash_mismatch", after Token;
    oidcc_client_test_userinfo_invalid_sub: UserinfoOtherSub, "oidc.userinfo_subject_mismatch", after Userinfo;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oidcc_client_test() {
    let suite = Suite::new().await;
    suite.is_through().await;
    let idp = &suite.world.idp;
    let asked = idp.last_request(Endpoint::Authorize).unwrap();
    assert_eq!(asked.field("response_type"), Some("code"));
    assert!(asked.field("scope").unwrap().split(' ').any(|scope| scope == "openid"));
    assert_eq!(asked.field("redirect_uri"), Some(&*suite.client.redirect_uris[0]));
    let redeemed = idp.last_request(Endpoint::Token).unwrap();
    assert_eq!(redeemed.field("grant_type"), Some("authorization_code"));
    assert_eq!(redeemed.field("redirect_uri"), Some(&*suite.client.redirect_uris[0]));
    assert_eq!(idp.calls(Endpoint::Token), 1);
    suite.went_nowhere_else();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oidcc_client_test_userinfo_bearer_header() {
    let suite = Suite::new().await;
    suite.is_through().await;
    let asked = suite.world.idp.last_request(Endpoint::Userinfo).unwrap();
    assert!(asked.header("authorization").unwrap().starts_with("Bearer "));
    assert!(asked.query.is_empty() && asked.form.is_empty(), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oidcc_client_test_idtoken_sig_rs256() {
    // The kit's provider signs with RS256 unless it is told otherwise; with others as good, so are these.
    Suite::new().await.is_through().await;
    for good in [M::SignedEs256, M::SignedPs256, M::SignedEd25519] {
        Suite::accepts(good).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oidcc_client_test_missing_athash() {
    // In the code flow it may be left out, and the kit's provider does.
    Suite::new().await.is_through().await;
    Suite::accepts(M::AtHashRight).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oidcc_client_test_kid_absent_multiple_jwks() {
    // Both ends are allowed: refused, or one of at most 8 fitting keys is the right one. It is the second.
    let suite = Suite::new().await;
    suite.world.idp.misbehave(M::KidMissingManyKeys);
    suite.is_through().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oidcc_client_test_scope_userinfo_claims() {
    let suite = Suite::new().await;
    suite.world.idp.set_claims_at_userinfo_only(true);
    suite.is_through().await;
    let asked = suite.world.idp.last_request(Endpoint::Authorize).unwrap();
    let scopes: Vec<&str> = asked.field("scope").unwrap().split(' ').collect();
    assert!(scopes.contains(&"profile") && scopes.contains(&"email"), "{scopes:?}");
    // The address by which mira was linked came from there alone.
    let linked =
        suite.world.audit("acme").await.into_iter().rev().find(|event| event.action == "org.sso_link");
    assert_eq!(linked.unwrap().details["email"], "mira@acme.example");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oidcc_client_test_client_secret_basic() {
    let suite = Suite::with(ClientAuth::Basic, "").await;
    suite.is_through().await;
    let redeemed = suite.world.idp.last_request(Endpoint::Token).unwrap();
    assert!(redeemed.header("authorization").unwrap().starts_with("Basic "));
    assert_eq!(redeemed.field("client_secret"), None, "one way to show it, not two");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oidcc_client_test_discovery_openid_config() {
    for (auth, method) in
        [(ClientAuth::Basic, "client_secret_basic"), (ClientAuth::Post, "client_secret_post")]
    {
        // The paths of the kit's provider are made of its seed: nobody finds them but in its metadata.
        let suite = Suite::with(auth, method).await;
        suite.is_through().await;
        suite.went_nowhere_else();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oidcc_client_test_discovery_jwks_uri_keys() {
    let [first, second] = [Suite::new().await, Suite::new().await];
    let uris = [&first, &second].map(|suite| suite.world.idp.url_of(Endpoint::Jwks));
    let paths = uris.clone().map(|uri| uri.splitn(4, '/').last().map(str::to_owned));
    assert_ne!(paths[0], paths[1], "the key set has another path in each run");
    for suite in [&first, &second] {
        suite.is_through().await;
        suite.went_nowhere_else();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oidcc_client_test_discovery_issuer_mismatch() {
    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    let client = world.register("acme");
    let issuer = world.idp.issuer();
    world.idp.misbehave(M::DiscoveryIssuerOther);
    let fields = [("client_id", &*client.id), ("client_secret", client.secret()), ("issuer_url", &*issuer)];
    let page = world.update_and_test(&ada, "acme", &fields).await;
    let page = ada.follow_all(page).await;
    assert!(page.codes().contains(&"oidc.issuer_mismatch".to_owned()), "{}", page.text());
    assert_eq!(world.state("acme").await, "test_failed");
    for never in [Endpoint::Authorize, Endpoint::Token, Endpoint::Userinfo] {
        assert_eq!(world.idp.calls(never), 0, "{never:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oidcc_client_test_signing_key_rotation() {
    let suite = Suite::new().await;
    suite.is_through().await;
    let before = suite.world.idp.calls(Endpoint::Jwks);
    suite.world.idp.rotate_keys(false);
    let second = suite.world.browser_of("mira").await;
    let page = suite.world.visit(&second, &format!("{}/acme/secret", suite.world.hub)).await;
    assert!(page.says("the application's page"), "{}", second.history());
    assert_eq!(suite.world.idp.calls(Endpoint::Jwks), before + 1, "the new keys were fetched, once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oidcc_client_test_3rd_party_init_login() {
    let suite = Suite::new().await;
    let world = &suite.world;
    let open = async |parameters: &[(&str, &str)]| {
        let mut address = url::Url::parse(&format!("{}/organizations/acme/sso", world.base)).unwrap();
        address.query_pairs_mut().extend_pairs(parameters);
        suite.mira.get(address.as_str()).await
    };
    let (issuer, target) = (world.idp.issuer(), format!("{}/acme/secret", world.hub));
    // Another issuer than the organization's own, or a place that is not ours: nobody is sent anywhere.
    for (iss, target, code) in [
        (&*format!("{issuer}1"), &*target, "sso.foreign_issuer"),
        (&*world.idp.issuer_named("other"), &*target, "sso.foreign_issuer"),
        (&*issuer, "https://elsewhere.example/", "gate.return_refused"),
    ] {
        let page = open(&[("iss", iss), ("target_link_uri", target)]).await;
        assert_eq!(page.code().as_deref(), Some(code), "{}", page.text());
        assert_eq!(world.idp.calls(Endpoint::Authorize), 0);
    }
    let hint = "mira@acme.example";
    let page = open(&[("iss", &issuer), ("login_hint", hint), ("target_link_uri", &target)]).await;
    let page = world.arrive(&suite.mira, page).await;
    assert!(page.says("the application's page /acme/secret"), "{}", suite.mira.history());
    assert_eq!(world.idp.last_request(Endpoint::Authorize).unwrap().field("login_hint"), Some(hint));
}
