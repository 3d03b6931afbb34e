//! The trip to a provider over the loopback, and how often the provider is called for it.

use super::*;
use crate::outbound::OutboundSettings;
use crate::outbound::test_server::{Say, TestServer};
use doorward_core::error_code::ErrorCode;
use doorward_core::oidc::{
    AuthorizationRequest, CallbackAnswer, DEFAULT_SCOPES, choose_auth_method, parse_callback,
    parse_issuer_input,
};
use doorward_testkit::{Browser, Client, Endpoint, FakeIdp, Misbehavior, Personality, clock_at};
use std::net::SocketAddr;

const START_MS: i64 = 1_800_000_000_000;
const REDIRECT_URI: &str = "https://sso.example.com/organizations/fjordline/oidc/consume";

fn now() -> Timestamp {
    Timestamp::from_millis(START_MS)
}

fn organization() -> OrganizationId {
    OrganizationId::new(0, [1; 10])
}

fn client(allow: &[SocketAddr]) -> ProviderClient {
    ProviderClient::new(Arc::new(
        Outbound::new(OutboundSettings::new(allow.to_vec()), crate::clock::Clock::system()).unwrap(),
    ))
}

/// A provider, what Doorward knows of it, and a member's browser.
struct Trip {
    idp: FakeIdp,
    client: Client,
    providers: ProviderClient,
    metadata: Metadata,
    source: KeySource,
}

/// What came back with one sign-in.
struct SignedIn {
    response: TokenResponse,
    nonce: Secret,
}

impl Trip {
    async fn to(personality: Personality) -> Self {
        let idp = FakeIdp::start(personality, &clock_at(START_MS));
        let providers = client(&[idp.address()]);
        let input = input(&providers, &idp.issuer());
        let metadata = providers.discover(organization(), &input).await.unwrap();
        let source = KeySource {
            organization: organization(),
            connection: ConnectionId::new(0, [2; 10]),
            revision: RevisionNumber(1),
            issuer: metadata.issuer.clone(),
            jwks_uri: metadata.jwks_uri.clone(),
        };
        Self { client: idp.new_client(REDIRECT_URI), idp, providers, metadata, source }
    }

    async fn redeem(&self, nonce: &Secret) -> Result<TokenResponse, Finding> {
        let (state, code_verifier) = (Secret::token([3; 32]), Secret::token([4; 32]));
        let request = AuthorizationRequest {
            endpoint: &self.metadata.authorization_endpoint,
            client_id: &self.client.id,
            redirect_uri: REDIRECT_URI,
            scopes: DEFAULT_SCOPES,
            state: &state,
            nonce,
            code_verifier: &code_verifier,
            login_hint: None,
            prompt: None,
            max_age: None,
            acr_values: None,
            hosted_domain: None,
        };
        let page = Browser::new().get(request.to_url().as_str()).await;
        let callback = parse_callback(page.location().unwrap().query().unwrap()).unwrap();
        let CallbackAnswer::Code(code) = callback.answer else { panic!("no code: {callback:?}") };
        let redemption = CodeRedemption {
            code: &code,
            redirect_uri: REDIRECT_URI,
            code_verifier: &code_verifier,
            client_id: &self.client.id,
            client_secret: &Secret::new(self.client.secret().to_owned()),
            auth_method: choose_auth_method(&self.metadata, None),
        };
        self.providers.redeem(organization(), &self.metadata.token_endpoint, &redemption).await
    }

    async fn signs_in(&self) -> SignedIn {
        let nonce = Secret::token([5; 32]);
        SignedIn { response: self.redeem(&nonce).await.unwrap(), nonce }
    }

    async fn verify(&self, signed_in: &SignedIn, now: Timestamp) -> Result<VerifiedIdToken, Finding> {
        let expected = Expected {
            issuer: &self.metadata.issuer,
            client_id: &self.client.id,
            nonce: &signed_in.nonce,
            algorithms: &self.metadata.algorithms,
            attempt_started_at: now,
            access_token: signed_in.response.access_token.as_ref(),
            max_age: None,
            acr_values: &[],
            hosted_domains: &[],
            entra_tenant: self.metadata.entra_tenant.as_deref(),
        };
        self.providers.verify(&self.source, &signed_in.response.id_token, &expected, now).await
    }

    fn calls(&self) -> [usize; 4] {
        [Endpoint::Discovery, Endpoint::Jwks, Endpoint::Token, Endpoint::Userinfo]
            .map(|kind| self.idp.calls(kind))
    }
}

fn input(providers: &ProviderClient, typed: &str) -> IssuerInput {
    parse_issuer_input(typed, |host, port| providers.outbound.insecure_allowed(host, port)).unwrap()
}

#[tokio::test]
async fn a_whole_trip_ends_with_a_verified_token_and_the_person_s_details() {
    for personality in [Personality::Generic, Personality::EntraLike] {
        let trip = Trip::to(personality).await;
        let signed_in = trip.signs_in().await;
        let verified = trip.verify(&signed_in, now()).await.unwrap();
        let access_token = signed_in.response.access_token.as_ref().unwrap();
        if let (Personality::Generic, Some(endpoint)) = (personality, &trip.metadata.userinfo_endpoint) {
            let details =
                trip.providers.userinfo(organization(), endpoint, access_token, &verified).await.unwrap();
            assert_eq!(
                details.claim("email").and_then(|email| email.as_str()),
                Some("mira.holt@fjordline.example")
            );
        }
        assert_eq!(trip.calls()[..3], [1, 1, 1], "{personality:?}");
    }
}

#[tokio::test]
async fn in_steady_state_a_sign_in_calls_the_provider_once() {
    let trip = Trip::to(Personality::Generic).await;
    for _ in 0..5 {
        let signed_in = trip.signs_in().await;
        trip.verify(&signed_in, now()).await.unwrap();
    }
    assert_eq!(trip.calls(), [1, 1, 5, 0]);
}

#[tokio::test]
async fn f19_a_hundred_first_sign_ins_together_fetch_the_keys_once() {
    let trip = Trip::to(Personality::Generic).await;
    let signed_in = trip.signs_in().await;
    let all = (0..100).map(|_| trip.verify(&signed_in, now()));
    assert!(futures_util::future::join_all(all).await.into_iter().all(|verified| verified.is_ok()));
    assert_eq!(trip.calls(), [1, 1, 1, 0]);
}

#[tokio::test]
async fn f5_a_rotation_before_the_second_sign_in_and_one_just_before_signing_both_succeed() {
    for overlap in [true, false] {
        let trip = Trip::to(Personality::Generic).await;
        let first = trip.signs_in().await;
        trip.verify(&first, now()).await.unwrap();
        trip.idp.rotate_keys(overlap);
        let second = trip.signs_in().await;
        trip.verify(&second, now()).await.unwrap();
        assert_eq!(trip.idp.calls(Endpoint::Jwks), 2, "overlap: {overlap}");
    }
    let trip = Trip::to(Personality::Generic).await;
    trip.providers.keys(&trip.source, now()).await.unwrap();
    trip.idp.misbehave_once(Misbehavior::KeysRotatedWithoutOverlap);
    let signed_in = trip.signs_in().await;
    trip.verify(&signed_in, now()).await.unwrap();
    assert_eq!(trip.idp.calls(Endpoint::Jwks), 2);
}

#[tokio::test]
async fn v54_tokens_with_unknown_keys_ask_for_the_keys_twice_a_minute_at_most() {
    let trip = Trip::to(Personality::Generic).await;
    trip.idp.misbehave(Misbehavior::KidUnknown);
    for _ in 0..20 {
        let signed_in = trip.signs_in().await;
        assert_eq!(trip.verify(&signed_in, now()).await.unwrap_err().code, ErrorCode::OidcKeyUnknown);
    }
    assert_eq!(trip.idp.calls(Endpoint::Jwks), 2);
    // Known keys go on meanwhile.
    trip.idp.behave();
    let signed_in = trip.signs_in().await;
    trip.verify(&signed_in, now()).await.unwrap();
}

#[tokio::test]
async fn f4_known_keys_serve_for_a_day_while_the_key_document_is_broken_and_unknown_ones_name_the_cause() {
    let trip = Trip::to(Personality::Generic).await;
    let signed_in = trip.signs_in().await;
    trip.verify(&signed_in, now()).await.unwrap();
    for broken in
        [Misbehavior::JwksEmpty, Misbehavior::JwksServerError, Misbehavior::JwksHtml, Misbehavior::JwksReset]
    {
        trip.idp.behave();
        trip.idp.misbehave(broken);
        let later = now().plus(Lifetime::from_minutes(11));
        assert!(trip.providers.keys(&trip.source, later).await.is_ok(), "{broken:?}");
        let next_day = now().plus(Lifetime::from_hours(24));
        assert!(trip.providers.keys(&trip.source, next_day).await.is_err(), "{broken:?}");
    }
    trip.idp.behave();
    trip.idp.rotate_keys(false);
    let rotated = trip.signs_in().await;
    trip.idp.misbehave(Misbehavior::JwksServerError);
    let finding = trip.verify(&rotated, now().plus(Lifetime::from_minutes(2))).await.unwrap_err();
    assert_eq!(finding.code, ErrorCode::OidcProviderUnavailable);
}

#[tokio::test]
async fn j8_keys_are_never_shared_between_connections_revisions_or_issuers() {
    let trip = Trip::to(Personality::Generic).await;
    let source = trip.source.clone();
    let others = [
        KeySource { connection: ConnectionId::new(0, [9; 10]), ..source.clone() },
        KeySource { organization: OrganizationId::new(0, [9; 10]), ..source.clone() },
        KeySource { revision: RevisionNumber(2), ..source.clone() },
        KeySource { issuer: "https://other.example.com".to_owned(), ..source.clone() },
    ];
    trip.providers.keys(&source, now()).await.unwrap();
    for (fetched, other) in others.iter().enumerate() {
        trip.providers.keys(other, now()).await.unwrap();
        assert_eq!(trip.idp.calls(Endpoint::Jwks), fetched + 2);
    }
}

#[tokio::test]
async fn an_entra_application_with_keys_of_its_own_is_asked_for_them_once() {
    let mut trip = Trip::to(Personality::EntraLike).await;
    let stranger = FakeIdp::start(Personality::EntraLike, &clock_at(START_MS));
    // The tenant's set lacks the key that signs; the application's has it.
    let fetcher = client(&[trip.idp.address(), stranger.address()]);
    let mut documents = Vec::new();
    for idp in [&trip.idp, &stranger] {
        let url = Url::parse(&idp.url_of(Endpoint::Jwks)).unwrap();
        let answer = fetcher.outbound.get(organization(), &url, Limits::DOCUMENT).await.unwrap();
        documents.push(String::from_utf8(answer.body.to_vec()).unwrap());
    }
    let wanted = format!("appid={}", trip.client.id);
    let keys = TestServer::start(move |request| {
        let document = if request.contains(&wanted) { &documents[0] } else { &documents[1] };
        vec![Say::json(200, document)]
    })
    .await;
    trip.providers = client(&[trip.idp.address(), keys.address]);
    trip.source.jwks_uri = Url::parse(&format!("http://{}/keys", keys.address)).unwrap();
    for second in (0..300).step_by(30) {
        let signed_in = trip.signs_in().await;
        trip.verify(&signed_in, now().plus(Lifetime::from_seconds(second))).await.unwrap();
    }
    let asked = keys.requests().iter().filter(|request| request.contains("appid=")).count();
    assert_eq!(
        (asked, keys.requests().len()),
        (1, 3),
        "the tenant's keys, once more, then the application's"
    );
}

#[tokio::test]
async fn each_step_names_what_could_not_be_reached() {
    let trip = Trip::to(Personality::Generic).await;
    let signed_in = trip.signs_in().await;
    let verified = trip.verify(&signed_in, now()).await.unwrap();
    let userinfo = trip.metadata.userinfo_endpoint.clone().unwrap();
    let input = input(&trip.providers, &trip.idp.issuer());
    trip.idp.goes_down().await;

    let discovery = trip.providers.discover(organization(), &input).await.unwrap_err();
    assert_eq!((discovery.step, discovery.code), (Step::Discovery, ErrorCode::OutboundUnreachable));
    let access_token = signed_in.response.access_token.as_ref().unwrap();
    let details =
        trip.providers.userinfo(organization(), &userinfo, access_token, &verified).await.unwrap_err();
    assert_eq!((details.step, details.code), (Step::Userinfo, ErrorCode::OutboundUnreachable));
    let redemption = CodeRedemption {
        code: &Secret::new("code".to_owned()),
        redirect_uri: REDIRECT_URI,
        code_verifier: &Secret::token([4; 32]),
        client_id: "client",
        client_secret: &Secret::new("swordfish".to_owned()),
        auth_method: choose_auth_method(&trip.metadata, None),
    };
    let token =
        trip.providers.redeem(organization(), &trip.metadata.token_endpoint, &redemption).await.unwrap_err();
    assert_eq!((token.step, token.code), (Step::Token, ErrorCode::OutboundUnreachable));
    assert!(!format!("{token:?}").contains("swordfish"));
}

#[tokio::test]
async fn d3_an_endpoint_that_the_metadata_hides_in_a_private_network_is_not_called() {
    let trip = Trip::to(Personality::Generic).await;
    for target in
        ["https://169.254.169.254/token", "https://[::ffff:10.0.0.1]/token", "http://127.0.0.1:1/token"]
    {
        let url = Url::parse(target).unwrap();
        let access_token = Secret::token([6; 32]);
        let signed_in = trip.signs_in().await;
        let verified = trip.verify(&signed_in, now()).await.unwrap();
        let finding =
            trip.providers.userinfo(organization(), &url, &access_token, &verified).await.unwrap_err();
        assert_eq!(finding.code, ErrorCode::OutboundAddressRefused, "{target}");
    }
}
