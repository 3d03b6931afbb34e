//! The first larger proof: whoever has an admin's password, but nobody's identity at the live provider, gets nowhere.
//!
//! Random walks over HTTP in organizations whose SSO is live. The thief has the password of mira, an admin; an account
//! and an organization of his own (eve, evilcorp); and a provider that says whatever he likes. After each step nothing
//! private may have been shown, and nobody's access may be wider than before.
//! The seed is printed, a failure's walk and steps too; `DOORWARD_SEED` and `DOORWARD_WALKS` set them, and the test
//! command asks for ten thousand walks. Never here: single rules
//! (`rules.rs`) and ways that worked once (`attack.rs`).

use std::collections::BTreeMap;

use axum::Form;
use axum::extract::State;
use axum::response::Redirect;
use axum::routing::{MethodRouter, post};
use doorward::account_end::delete_account;
use doorward::app::SharedApp;
use doorward::refusal::Refusal;
use doorward::sso::settings::By;
use doorward::store::{
    Actor, Identity, NewRevision, Organization, Query as _, RevisionTest, load_access_tokens,
    load_account_by_name, load_connection, load_revision,
};
use doorward::values;
use doorward::web::Route;
use doorward::web::access::Access;
use doorward::web::visit::OrganizationVisit;
use doorward_core::connection::Enforcement;
use doorward_core::gate_decision::ExternalCollaborator;
use doorward_core::ids::{ConnectionId, RevisionNumber};
use doorward_core::membership::Role;
use doorward_core::secret::Secret;
use doorward_core::time::{Lifetime, Timestamp};
use doorward_testkit::{Browser, Client, Endpoint, FakeIdp, Page, Person, Request};
use http::Method;
use url::Url;

use crate::access_tokens::token_in;
use crate::harness::{On, Options, World};

/// What the thief and, between his steps, honest people can do. A name is what a failure prints.
const STEPS: &[&str] = &[
    "mira: signs in afresh",
    "mira: signs in with the password",
    "mira: opens the private page",
    "mira: fetches the private page",
    "mira: asks the gate for the private page",
    "mira: opens the settings page",
    "mira: opens every page of the route list",
    "mira: saves the live settings, secret kept",
    "mira: saves the live settings, secret guessed",
    "mira: saves the live settings, other scopes and claims",
    "mira: saves the hostile provider, and signs in there",
    "mira: saves the hostile provider, secret kept",
    "mira: saves the hostile provider under the live client id",
    "mira: tests again",
    "mira: enables the newest draft",
    "mira: enables the newest draft as optional",
    "mira: enables an older revision",
    "mira: disables",
    "mira: makes it optional",
    "mira: makes sessions last a year",
    "mira: makes eve a member",
    "mira: makes herself anything",
    "mira: makes nora an admin",
    "mira: removes ada",
    "mira: changes her own name",
    "mira: sends forms of the route list",
    "mira: completes single sign-on without being anybody",
    "mira: comes back with a code of the hostile provider",
    "mira: comes back with a made-up code",
    "mira: opens an old way back again",
    "mira: forges the hand-over",
    "mira: waits some minutes",
    "mira: deletes her own account",
    "mira: makes an external collaborator",
    "mira: takes an external collaborator's exception back",
    "mira: makes a token",
    "mira: authorises a token",
    "mira: uses her tokens",
    "mira: revokes a token",
    "mira: takes the authorisation of nora's tokens back",
    "mira: lets tokens reach for longer",
    "eve: completes her own organization's single sign-on",
    "eve: opens the private page",
    "eve: sends forms of the route list",
    "eve: makes mira a member of her organization",
    "eve: makes a token and uses it",
    "ada: completes single sign-on",
    "ada: tests the draft",
    "ada: makes mira an external collaborator until midnight",
    "ada: makes nora an external collaborator until midnight",
    "ada: takes the exceptions back",
    "ada: takes the authorisation of nora's tokens back",
    "nora: reads the private page",
    "nora: reads the private page without single sign-on",
    "nora: makes a token and authorises it",
    "nora: uses her tokens",
    "nora: revokes a token",
    "nora: her account is deleted",
    "a day passes",
];

/// Steps that do something when their time has come: each must have done it on some walk, or it proves nothing.
const DEEDS: &[&str] = &[
    "mira: makes a token",
    "mira: revokes a token",
    "eve: makes a token and uses it",
    "ada: makes mira an external collaborator until midnight",
    "ada: makes nora an external collaborator until midnight",
    "ada: takes the exceptions back",
    "ada: takes the authorisation of nora's tokens back",
    "nora: reads the private page",
    "nora: reads the private page without single sign-on",
    "nora: makes a token and authorises it",
    "nora: uses her tokens",
    "nora: revokes a token",
    "nora: her account is deleted",
];

/// How often each step was taken, and how often it did what it is for.
#[derive(Default)]
struct Tally(BTreeMap<&'static str, (u32, u32)>);

impl Tally {
    fn take(&mut self, step: &'static str) {
        self.0.entry(step).or_default().0 += 1;
    }

    fn did(&mut self, step: &'static str) {
        self.0.entry(step).or_default().1 += 1;
    }

    fn add(&mut self, other: Self) {
        for (step, (taken, done)) in other.0 {
            let sum = self.0.entry(step).or_default();
            *sum = (sum.0 + taken, sum.1 + done);
        }
    }

    /// The steps that no walk has taken, and the deeds that never came about.
    fn missed(&self) -> Vec<&'static str> {
        let of = |step: &&&'static str| self.0.get(**step).copied().unwrap_or_default();
        let untaken = STEPS.iter().filter(|step| of(step).0 == 0);
        untaken.chain(DEEDS.iter().filter(|step| of(step).1 == 0)).copied().collect()
    }
}

/// A generator of test choices: splitmix64, so that a walk depends on its seed alone.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).unwrap()
    }
}

/// A world with the hostile provider, and what every organization's live revision is copied from.
struct Stage {
    world: World,
    template: NewRevision,
    password_hash: String,
}

const PASSWORD: &str = "three quiet lanterns";
/// For how many days after her last single sign-on a member's tokens reach each organization.
const TOKEN_DAYS: i64 = 3;
/// So many walks take every step, and do each of `DEEDS`, whatever the seed. A plain `cargo test` takes fewer.
const ENOUGH_WALKS: u64 = 2000;
/// A fresh stage now and then, because the test kit's provider remembers every client that it ever had.
const WALKS_ON_A_STAGE: usize = 250;

impl Stage {
    async fn set(on: On, routes: fn() -> Vec<Route>) -> Self {
        let world = World::with(Options { on, routes, second_provider: true, ..Options::default() }).await;
        for name in ["ada", "mira", "nora", "eve"] {
            for idp in [&world.idp, world.second_idp()] {
                idp.add_person(Person::new(name, name, &format!("{name}@acme.example")));
            }
        }
        let (_, client) = world.enable_sso("acme", "ada").await;
        let acme = world.organization("acme").await.id;
        let live =
            load_revision(&mut world.app.store.reader(), acme, RevisionNumber(1)).await.unwrap().unwrap();
        let template = NewRevision {
            issuer_url: live.issuer_url,
            client_id: client.id,
            client_secret: Secret::new(String::new()),
            client_auth_method: live.client_auth_method,
            scopes: live.scopes,
            userinfo: live.userinfo,
            email_claim: live.email_claim,
            hosted_domains: live.hosted_domains,
            created_by: None,
            endpoints: live.endpoints,
        };
        let hash =
            world.app.passwords.hash(Secret::new(PASSWORD.to_owned()), &world.app.random).await.unwrap();
        world.add_organization("evilcorp", "eve", doorward::store::Plan::Enterprise).await;
        let stage = Self { world, template, password_hash: hash };
        stage.open_evilcorp().await;
        stage.world.idp.signs_out();
        stage
    }

    /// Eve's organization has its SSO at the hostile provider, honestly set up.
    async fn open_evilcorp(&self) {
        let eve = self.world.browser_of("eve").await;
        let client = self.evil_client("evilcorp");
        self.evil().signs_in("eve");
        let issuer = self.evil().issuer();
        let fields =
            [("client_id", &*client.id), ("client_secret", client.secret()), ("issuer_url", &*issuer)];
        let page = self.world.update_and_test(&eve, "evilcorp", &fields).await;
        eve.follow_all(page).await;
        let revision = self.world.draft("evilcorp").await;
        let page = eve.post(&self.world.settings("evilcorp", "/enable"), &[("revision", &revision)]).await;
        assert!(page.status.is_success() || page.status == 303, "{}", eve.history());
        assert_eq!(self.world.state("evilcorp").await, "live");
    }

    /// The hostile provider.
    fn evil(&self) -> &FakeIdp {
        self.world.second_idp()
    }

    fn evil_client(&self, organization: &str) -> Client {
        self.evil().new_client(&format!("{}/organizations/{organization}/oidc/consume", self.world.base))
    }
}

/// One organization for one walk, with its live SSO, its people and the thief's browsers.
struct Walk<'a> {
    stage: &'a Stage,
    dice: Dice,
    organization: Organization,
    name: String,
    live: Live,
    live_secret: String,
    mira: Browser,
    eve: Browser,
    evil_client: Client,
    ways_back: Vec<Url>,
    steps: Vec<&'static str>,
    /// Until when ada's word spares mira and nora single sign-on.
    spared: [Option<Timestamp>; 2],
    /// The personal access tokens that were made.
    tokens: Vec<Token>,
    /// When nora completed single sign-on last.
    nora_was_in: Option<Timestamp>,
    nora_is_gone: bool,
}

/// A personal access token as it is to be: whether it is there, and its owner's word that it may reach the organization.
struct Token {
    owner: Owner,
    id: String,
    secret: String,
    is_over: bool,
    is_authorised: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    Mira,
    Nora,
}

impl Owner {
    const fn name(self) -> &'static str {
        match self {
            Self::Mira => "mira",
            Self::Nora => "nora",
        }
    }
}

/// What may not be wider afterwards.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Live {
    issuer: String,
    token_endpoint: String,
    client_id: String,
}

impl<'a> Walk<'a> {
    /// Furnishes an organization straight in the store, because ten thousand walks each need a fresh one.
    async fn begin(stage: &'a Stage, seed: u64, number: u64) -> Self {
        let mut dice = Dice(seed ^ number.wrapping_mul(0x0005_deec_e66d));
        let world = &stage.world;
        let name = format!("org{number}");
        let people = ["ada", "mira", "nora"].map(|who| format!("{who}{number}"));
        for person in &people {
            world.add_account(person, person).await;
        }
        world.add_organization(&name, &people[0], doorward::store::Plan::Enterprise).await;
        world.set_role(&name, &people[1], Role::Admin).await;
        world.set_role(&name, &people[2], Role::Write).await;
        let organization = world.organization(&name).await;
        let client = world.register(&name);
        let [ada, mira, nora] = [&people[0], &people[1], &people[2]].map(|person| world.account(person));
        let (ada, mira, nora) = (ada.await, mira.await, nora.await);
        let now = world.app.clock.now();
        let mut tx = world.app.store.begin().await.unwrap();
        let revision = NewRevision {
            client_id: client.id.clone(),
            client_secret: Secret::new(client.secret().to_owned()),
            ..stage.template.clone()
        };
        let new_connection = ConnectionId::new(now.millis(), world.app.random.bytes().unwrap());
        let (connection, number_of) = tx
            .insert_revision(&organization, new_connection, &revision, &world.app.sealing, now)
            .await
            .unwrap();
        let issuer = revision.endpoints.as_ref().unwrap().issuer.clone();
        let identity = |who: &str| {
            let person = Person::new(who, who, &format!("{who}@acme.example"));
            Identity {
                issuer: issuer.clone(),
                subject: person.sub.clone(),
                sub: person.sub,
                email: person.email,
                display_name: None,
            }
        };
        let test = RevisionTest {
            passed: true,
            findings: Vec::new(),
            claims: Vec::new(),
            account: Some(ada),
            browser: None,
            identity: Some(identity("ada")),
        };
        tx.put_test(connection, number_of, &test, now).await.unwrap();
        assert!(
            tx.enable_revision(&organization, number_of, None, Enforcement::Enforced, true).await.unwrap()
        );
        tx.insert_identity(connection, &identity("ada"), ada, now).await.unwrap();
        tx.insert_identity(connection, &identity("nora"), nora, now).await.unwrap();
        // Whether mira herself ever completed it: then her link waits for somebody who can sign in as her.
        if dice.roll(2) == 0 {
            tx.insert_identity(connection, &identity("mira"), mira, now).await.unwrap();
        }
        tx.update_password(mira, &stage.password_hash, None).await.unwrap();
        tx.set_resource(organization.id, "", "website", true).await.unwrap();
        tx.update_token_sso_days(&organization, TOKEN_DAYS).await.unwrap();
        tx.commit(now).await.unwrap();

        let endpoints = revision.endpoints.as_ref().unwrap();
        let live = Live {
            issuer: endpoints.issuer.clone(),
            token_endpoint: endpoints.token_endpoint.clone(),
            client_id: client.id.clone(),
        };
        let mira = world.browser_of(&people[1]).await;
        let eve = world.browser_of("eve").await;
        let evil_client = stage.evil_client(&name);
        Self {
            stage,
            dice,
            organization,
            name,
            live,
            live_secret: client.secret().to_owned(),
            mira,
            eve,
            evil_client,
            ways_back: Vec::new(),
            steps: Vec::new(),
            spared: [None, None],
            tokens: Vec::new(),
            nora_was_in: None,
            nora_is_gone: false,
        }
    }

    /// Up to twelve steps; what became wider, if anything did.
    async fn go(&mut self, tally: &mut Tally) -> Option<String> {
        let length = 1 + self.dice.roll(12);
        for _ in 0..length {
            let step = STEPS[self.dice.roll(STEPS.len())];
            self.steps.push(step);
            tally.take(step);
            let shown = self.step(step, tally).await;
            if let Some(wrong) = shown {
                return Some(wrong);
            }
            if let Some(wider) = self.wider().await {
                return Some(wider);
            }
        }
        None
    }

    fn private_page(&self) -> String {
        format!("{}/{}/secret", self.stage.world.hub, self.name)
    }

    /// Whether somebody is spared single sign-on now.
    fn is_spared(&self, who: Owner) -> bool {
        let now = self.stage.world.app.clock.now();
        self.spared[who as usize].is_some_and(|until| now < until)
    }

    /// Whether a page shows mira what only members see who have completed SSO, though she is not spared it.
    fn shows_mira(&self, page: &Page) -> Option<String> {
        if self.is_spared(Owner::Mira) { None } else { self.shows(page) }
    }

    /// Whether a page holds what only members see who have completed SSO.
    fn shows(&self, page: &Page) -> Option<String> {
        let private = format!("the application's page /{}/secret", self.name);
        page.body.contains(&private).then(|| format!("the private page was shown at {}", page.url))
    }

    /// From a page of ours onwards, to wherever it leads; every redirect URI on the way is kept for later.
    async fn follow(&mut self, browser: &Browser, page: Page) -> Page {
        let page = browser.follow_all(page).await;
        if page.url.path().ends_with("/oidc/consume") {
            self.ways_back.push(page.url.clone());
        }
        page
    }

    async fn save(&mut self, fields: &[(&str, &str)]) -> Option<String> {
        let mira = self.mira.clone();
        let page = self.stage.world.update_and_test(&mira, &self.name, fields).await;
        let page = self.follow(&mira, page).await;
        self.shows_mira(&page)
    }

    /// Posts to a route of the settings as mira.
    async fn post(&mut self, rest: &str, fields: &[(&str, &str)]) -> Option<String> {
        let mira = self.mira.clone();
        let page =
            mira.post(&format!("{}/organizations/{}{rest}", self.stage.world.base, self.name), fields).await;
        let page = self.follow(&mira, page).await;
        self.shows_mira(&page)
    }

    /// Forms of the route list that name an organization, with fields that would widen something.
    async fn send_forms(&mut self, browser: &Browser, is_mira: bool) -> Option<String> {
        let world = &self.stage.world;
        let draft = world.draft(&self.name).await;
        let eve_id = world.account("eve").await.to_string();
        for route in doorward::web::routes() {
            if route.method != "post" || !route.path.contains("{org}") {
                continue;
            }
            // Some of them, another time others.
            if self.dice.roll(4) != 0 {
                continue;
            }
            let path = route.path.replace("{org}", &self.name).replace("{token}", "AAAA");
            let fields = [
                ("revision", &*draft),
                ("enforcement", "optional"),
                ("account", "eve"),
                ("account_id", &*eve_id),
                ("username", "eve"),
                ("name", "eve"),
                ("role", "admin"),
                ("session_timeout", "8760"),
                ("hours", "8760"),
                ("guests", "1"),
                ("code", "AAAA-AAAA-AAAA-AAAA"),
                ("next", "/"),
            ];
            let page = browser.post(&format!("{}{path}", world.base), &fields).await;
            assert!(page.status != 500, "{path}: {}", page.text());
            let shown = if is_mira { self.shows_mira(&page) } else { self.shows(&page) };
            if shown.is_some() {
                return shown;
            }
        }
        None
    }

    async fn step(&mut self, step: &'static str, tally: &mut Tally) -> Option<String> {
        let stage = self.stage;
        let world = &stage.world;
        let (mira, eve) = (self.mira.clone(), self.eve.clone());
        let (who, number) = ("mira", self.name.trim_start_matches("org").to_owned());
        let issuer = stage.evil().issuer();
        let live_url = stage.template.issuer_url.clone();
        let live_client = self.live.client_id.clone();
        let evil_client = self.evil_client.clone();
        match step {
            "mira: signs in afresh" => {
                world.sign_in(&mira, &format!("{who}{number}")).await;
                None
            }
            "mira: signs in with the password" => {
                // One in four, because a password's cost is its point.
                if self.dice.roll(4) == 0 {
                    let name = format!("{who}{number}");
                    let fields = [("username", &*name), ("password", PASSWORD), ("next", "/")];
                    let page = mira.post(&format!("{}/login", world.base), &fields).await;
                    assert!(page.status.as_u16() < 400, "{}", page.text());
                }
                None
            }
            "mira: opens the private page" => {
                let page = world.visit(&mira, &self.private_page()).await;
                self.shows_mira(&page)
            }
            "mira: fetches the private page" => {
                let page = mira.fetch(&self.private_page()).await;
                self.shows_mira(&page)
            }
            "mira: asks the gate for the private page" => {
                let cookies: Vec<String> =
                    [("localhost", "doorward-session"), ("hub.localhost", "doorward-app")]
                        .iter()
                        .filter_map(|(host, name)| Some(format!("doorward-app={}", mira.cookie(host, name)?)))
                        .collect();
                let target = self.private_page();
                for cookie in cookies {
                    let headers =
                        [("x-original-method", "GET"), ("x-original-url", &*target), ("cookie", &*cookie)];
                    let gate = format!("{}/auth-request", world.gate);
                    let page = Browser::new().request(Method::GET, &gate, &headers, "").await;
                    if page.status == 200 && !self.is_spared(Owner::Mira) {
                        return Some("the gate let the private page through".to_owned());
                    }
                }
                None
            }
            "mira: opens the settings page" => {
                let page = mira.get(&world.settings(&self.name, "")).await;
                self.shows_mira(&page)
            }
            "mira: opens every page of the route list" => {
                for route in doorward::web::routes() {
                    if route.method != "get"
                        || !route.path.contains("{org}")
                        || route.path.contains("consume")
                    {
                        continue;
                    }
                    let path = route.path.replace("{org}", &self.name).replace("{token}", "AAAA");
                    let page = mira.get(&format!("{}{path}", world.base)).await;
                    assert!(page.status != 500, "{path}: {}", page.text());
                    let tells = route.path.contains("audit-log") || route.path.ends_with("/members");
                    if tells && page.status == 200 && !self.is_spared(Owner::Mira) {
                        return Some(format!("{path} was shown without single sign-on"));
                    }
                }
                None
            }
            "mira: saves the live settings, secret kept" => {
                self.save(&[("client_id", &live_client), ("client_secret", ""), ("issuer_url", &live_url)])
                    .await
            }
            "mira: saves the live settings, secret guessed" => {
                let fields =
                    [("client_id", &*live_client), ("client_secret", "a guess"), ("issuer_url", &*live_url)];
                self.save(&fields).await
            }
            "mira: saves the live settings, other scopes and claims" => {
                let fields = [
                    ("client_id", &*live_client),
                    ("client_secret", ""),
                    ("issuer_url", &*live_url),
                    ("scopes", "openid profile"),
                    ("email_claim", "nickname"),
                    ("userinfo", "always"),
                ];
                self.save(&fields).await
            }
            "mira: saves the hostile provider, and signs in there" => {
                stage.evil().signs_in(["ada", "mira", "nora", "eve"][self.dice.roll(4)]);
                let secret = evil_client.secret().to_owned();
                let fields =
                    [("client_id", &*evil_client.id), ("client_secret", &*secret), ("issuer_url", &*issuer)];
                self.save(&fields).await
            }
            "mira: saves the hostile provider, secret kept" => {
                let fields =
                    [("client_id", &*evil_client.id), ("client_secret", ""), ("issuer_url", &*issuer)];
                self.save(&fields).await
            }
            "mira: saves the hostile provider under the live client id" => {
                stage.evil().add_client(Client::new(
                    &live_client,
                    "x",
                    evil_client.redirect_uris[0].as_str(),
                ));
                let fields = [("client_id", &*live_client), ("client_secret", ""), ("issuer_url", &*issuer)];
                self.save(&fields).await
            }
            "mira: tests again" => {
                stage.evil().signs_in(["ada", "mira"][self.dice.roll(2)]);
                self.post("/settings/sso/test", &[]).await
            }
            "mira: enables the newest draft" => {
                let draft = world.draft(&self.name).await;
                self.post("/settings/sso/enable", &[("revision", &draft), ("enforcement", "enforced")]).await
            }
            "mira: enables the newest draft as optional" => {
                let draft = world.draft(&self.name).await;
                self.post("/settings/sso/enable", &[("revision", &draft), ("enforcement", "optional")]).await
            }
            "mira: enables an older revision" => {
                let revision = self.dice.roll(6).to_string();
                self.post("/settings/sso/enable", &[("revision", &revision), ("enforcement", "optional")])
                    .await
            }
            "mira: disables" => self.post("/settings/sso/disable", &[]).await,
            "mira: makes it optional" => {
                self.post("/settings/sso/enforcement", &[("enforcement", "optional")]).await
            }
            "mira: makes sessions last a year" => {
                self.post("/settings/sso/users", &[("session_timeout", "8760"), ("hours", "8760")]).await
            }
            "mira: makes eve a member" => {
                self.post("/settings/members", &[("account", "eve"), ("name", "eve"), ("role", "admin")])
                    .await
            }
            "mira: makes herself anything" => {
                let name = format!("mira{number}");
                let fields = [("account", &*name), ("role", "admin"), ("external_collaborator", "1")];
                self.post("/settings/members/role", &fields).await
            }
            "mira: makes nora an admin" => {
                let name = format!("nora{number}");
                self.post("/settings/members/role", &[("account", &name), ("role", "admin")]).await
            }
            "mira: removes ada" => {
                let name = format!("ada{number}");
                self.post("/settings/members/remove", &[("account", &name)]).await
            }
            "mira: changes her own name" => {
                mira.post(&format!("{}/settings/account/name", world.base), &[("full_name", "Ada Admin")])
                    .await;
                None
            }
            "mira: sends forms of the route list" => self.send_forms(&mira, true).await,
            "mira: completes single sign-on without being anybody" => {
                let page = mira
                    .post(&format!("{}/organizations/{}/sso", world.base, self.name), &[("next", "/")])
                    .await;
                let page = self.follow(&mira, page).await;
                self.shows_mira(&page)
            }
            "mira: comes back with a code of the hostile provider" => self.mixed_up().await,
            "mira: comes back with a made-up code" => {
                let page = mira
                    .post(&format!("{}/organizations/{}/sso", world.base, self.name), &[("next", "/")])
                    .await;
                let to = page.meta_refresh().or_else(|| page.location())?;
                let state = to.query_pairs().find(|(name, _)| name == "state")?.1.into_owned();
                let back = format!(
                    "{}/organizations/{}/oidc/consume?code=c-made-up&state={state}&iss={}",
                    world.base, self.name, self.live.issuer
                );
                let page = mira.get(&back).await;
                self.ways_back.push(Url::parse(&back).unwrap());
                self.shows_mira(&page)
            }
            "mira: opens an old way back again" => {
                if self.ways_back.is_empty() {
                    return None;
                }
                let back = self.ways_back[self.dice.roll(self.ways_back.len())].clone();
                let page = mira.visit(back.as_str()).await;
                self.shows_mira(&page)
            }
            "mira: forges the hand-over" => {
                // Eve's session of the application's host, planted in mira's browser; and the reverse of names.
                for browser in [&eve, &mira] {
                    let Some(cookie) = browser.cookie("localhost", "doorward-session") else { continue };
                    mira.plant_cookie("hub.localhost", "doorward-app", &cookie);
                    let page = mira.fetch(&self.private_page()).await;
                    if let Some(shown) = self.shows_mira(&page) {
                        return Some(shown);
                    }
                }
                mira.lose_cookie("hub.localhost", "doorward-app");
                let address =
                    format!("{}/.doorward/ticket?ticket=AAAA&next=/{}/secret", world.hub, self.name);
                let page = mira.visit(&address).await;
                self.shows_mira(&page)
            }
            "mira: deletes her own account" => {
                let fields = [("current_password", PASSWORD)];
                let page = mira.post(&format!("{}/settings/account/delete", world.base), &fields).await;
                self.shows_mira(&page)
            }
            "mira: makes an external collaborator" => {
                let account = ["mira", "nora", "ada", "eve"][self.dice.roll(4)];
                let account =
                    if account == "eve" { account.to_owned() } else { format!("{account}{number}") };
                let until = if self.dice.roll(2) == 0 { String::new() } else { today(world) };
                let fields = [("account", &*account), ("until", &*until)];
                self.post("/settings/sso/users/collaborators", &fields).await
            }
            "mira: takes an external collaborator's exception back" => {
                let account = format!("nora{number}");
                self.post("/settings/sso/users/collaborators/remove", &[("account", &account)]).await
            }
            "mira: makes a token" => {
                self.newest_token(Owner::Mira, &mira, true).await;
                tally.did(step);
                None
            }
            "mira: authorises a token" => {
                let mut id = self.newest_token(Owner::Mira, &mira, false).await;
                // Now and then not her own, or for the other organization that she may belong to.
                if let Some(of_nora) = self.tokens.iter().find(|token| token.owner == Owner::Nora)
                    && self.dice.roll(3) == 0
                {
                    id.clone_from(&of_nora.id);
                }
                let organization = [&*self.name, "evilcorp"][self.dice.roll(2)].to_owned();
                let fields = [("token", &*id), ("organization", &*organization)];
                let page = mira.post(&format!("{}/settings/tokens/authorize", world.base), &fields).await;
                self.shows_mira(&page)
            }
            "mira: uses her tokens" => {
                self.newest_token(Owner::Mira, &mira, false).await;
                for token in self.tokens.iter().filter(|token| token.owner == Owner::Mira) {
                    if self.opens(token).await && (token.is_over || !self.is_spared(Owner::Mira)) {
                        return Some("a token of mira's opened the private page".to_owned());
                    }
                    let bearer = format!("Bearer {}", token.secret);
                    for what in ["members", "audit-log"] {
                        let url = format!("{}/api/organizations/{}/{what}", world.base, self.name);
                        let headers = [("authorization", &*bearer)];
                        if Browser::new().request(Method::GET, &url, &headers, "").await.status == 200 {
                            return Some(format!("a token of mira's read the organization's {what}"));
                        }
                    }
                }
                None
            }
            "mira: revokes a token" => {
                let id = self.newest_token(Owner::Mira, &mira, false).await;
                // Nora's is none of hers.
                let ids = self.tokens.iter().filter(|token| token.owner == Owner::Nora);
                for id in ids.map(|token| &token.id).chain([&id]) {
                    mira.post(&format!("{}/settings/tokens/revoke", world.base), &[("token", id)]).await;
                }
                self.end_token(&id);
                tally.did(step);
                None
            }
            "mira: takes the authorisation of nora's tokens back" => {
                let ids = self.tokens.iter().filter(|token| token.owner == Owner::Nora);
                for id in ids.map(|token| token.id.clone()).collect::<Vec<_>>() {
                    let own = format!("{}/settings/tokens/authorize/revoke", world.base);
                    mira.post(&own, &[("token", &id), ("organization", &self.name)]).await;
                    self.post("/settings/tokens/revoke", &[("token", &id)]).await;
                }
                None
            }
            "mira: lets tokens reach for longer" => {
                let days = ["4", "30"][self.dice.roll(2)];
                self.post("/settings/tokens", &[("days", days)]).await
            }
            "mira: waits some minutes" => {
                world.pass(Lifetime::from_minutes([1, 5, 16, 61][self.dice.roll(4)]));
                None
            }
            "eve: completes her own organization's single sign-on" => {
                stage.evil().signs_in("eve");
                world.sign_in(&eve, "eve").await;
                let page =
                    world.visit(&eve, &format!("{}/organizations/evilcorp/sso?next=/", world.base)).await;
                self.shows(&page)
            }
            "eve: opens the private page" => {
                let page = world.visit(&eve, &self.private_page()).await;
                self.shows(&page)
            }
            "eve: sends forms of the route list" => self.send_forms(&eve, false).await,
            "eve: makes mira a member of her organization" => {
                let name = format!("mira{number}");
                let members = format!("{}/organizations/evilcorp/settings/members", world.base);
                eve.post(&members, &[("account", &name), ("name", &name), ("role", "read")]).await;
                stage.evil().signs_in("mira");
                let page =
                    world.visit(&mira, &format!("{}/organizations/evilcorp/sso?next=/", world.base)).await;
                if let Some(shown) = self.shows_mira(&page) {
                    return Some(shown);
                }
                let page = world.visit(&mira, &self.private_page()).await;
                self.shows_mira(&page)
            }
            "eve: makes a token and uses it" => {
                // Ended again, because eve's account lasts as long as the stage.
                world.sign_in(&eve, "eve").await;
                let page = eve.post(&format!("{}/settings/tokens/new", world.base), NEW_TOKEN).await;
                let secret = token_in(&page.body).unwrap_or_else(|| panic!("{}", page.text()));
                let id = new_id(world, "eve", &[]).await;
                let (owner, is_over, is_authorised) = (Owner::Mira, false, false);
                let token = Token { owner, id, secret, is_over, is_authorised };
                let address = format!("{}/settings/tokens/authorize", world.base);
                eve.post(&address, &[("token", &token.id), ("organization", &self.name)]).await;
                let opened = self.opens(&token).await;
                let address = format!("{}/settings/tokens/revoke", world.base);
                let page = eve.post(&address, &[("token", &token.id)]).await;
                assert_eq!(page.status, 303, "{}", page.text());
                tally.did(step);
                opened.then(|| "a token of eve's opened the private page".to_owned())
            }
            "ada: makes mira an external collaborator until midnight"
            | "ada: makes nora an external collaborator until midnight" => {
                let who = if step.contains("nora") { Owner::Nora } else { Owner::Mira };
                if who == Owner::Nora && self.nora_is_gone {
                    return None;
                }
                let ada = self.ada_through_sso().await;
                let (account, until) = (format!("{}{number}", who.name()), today(world));
                let fields = [("account", &*account), ("until", &*until)];
                let page = ada.post(&world.settings(&self.name, "/users/collaborators"), &fields).await;
                assert_eq!(page.status, 303, "{}", ada.history());
                self.spared[who as usize] = Some(midnight_after(world.app.clock.now()));
                tally.did(step);
                None
            }
            "ada: takes the exceptions back" => {
                let ada = self.ada_through_sso().await;
                for who in [Owner::Mira, Owner::Nora] {
                    if self.spared[who as usize].take().is_some() {
                        let fields = [("account", &*format!("{}{number}", who.name()))];
                        let remove = world.settings(&self.name, "/users/collaborators/remove");
                        let page = ada.post(&remove, &fields).await;
                        assert_eq!(page.status, 303, "{}", ada.history());
                        tally.did(step);
                    }
                }
                None
            }
            "ada: takes the authorisation of nora's tokens back" => {
                self.have_a_token_of_noras().await;
                let ada = self.ada_through_sso().await;
                let revoke = format!("{}/organizations/{}/settings/tokens/revoke", world.base, self.name);
                for token in self.tokens.iter_mut().filter(|token| token.is_authorised) {
                    let page = ada.post(&revoke, &[("token", &token.id)]).await;
                    assert_eq!(page.status, 303, "{}", ada.history());
                    token.is_authorised = false;
                    tally.did(step);
                }
                None
            }
            "a day passes" => {
                world.pass(Lifetime::from_hours(25));
                None
            }
            "ada: completes single sign-on" => {
                let ada = world.browser_of(&format!("ada{number}")).await;
                world.idp.signs_in("ada");
                world.visit(&ada, &self.private_page()).await;
                world.idp.signs_out();
                None
            }
            "ada: tests the draft" => {
                let ada = world.browser_of(&format!("ada{number}")).await;
                world.idp.signs_in("ada");
                stage.evil().signs_in("ada");
                world.visit(&ada, &format!("{}/organizations/{}/sso?next=/", world.base, self.name)).await;
                let page = ada.post(&world.settings(&self.name, "/test"), &[]).await;
                ada.follow_all(page).await;
                world.idp.signs_out();
                None
            }
            "nora: reads the private page" => {
                if self.nora_is_gone {
                    return None;
                }
                let nora = world.browser_of(&format!("nora{number}")).await;
                world.idp.signs_in("nora");
                let page = world.visit(&nora, &self.private_page()).await;
                world.idp.signs_out();
                if !self.is_spared(Owner::Nora) {
                    self.nora_was_in = Some(world.app.clock.now());
                }
                assert!(self.shows(&page).is_some(), "an honest member is shut out: {}", nora.history());
                tally.did(step);
                None
            }
            "nora: reads the private page without single sign-on" => {
                if self.nora_is_gone {
                    return None;
                }
                let nora = world.browser_of(&format!("nora{number}")).await;
                let page = world.visit(&nora, &self.private_page()).await;
                let shown = self.shows(&page);
                if !self.is_spared(Owner::Nora) {
                    return shown;
                }
                assert!(shown.is_some(), "an external collaborator is shut out: {}", nora.history());
                tally.did(step);
                None
            }
            "nora: makes a token and authorises it" => {
                if !self.nora_is_gone {
                    self.authorise_a_token_of_noras().await;
                    tally.did(step);
                }
                None
            }
            "nora: uses her tokens" => {
                self.have_a_token_of_noras().await;
                let now = world.app.clock.now();
                let is_recent =
                    self.nora_was_in.is_some_and(|at| now < at.plus(Lifetime::from_days(TOKEN_DAYS)));
                for token in self.tokens.iter().filter(|token| token.owner == Owner::Nora) {
                    let reaches = (token.is_authorised && is_recent) || self.is_spared(Owner::Nora);
                    let (opens, may) = (self.opens(token).await, reaches && !token.is_over);
                    if opens && !may {
                        return Some("a token of nora's opened what it may reach no more".to_owned());
                    }
                    assert!(opens || !may, "an honest token is shut out");
                    if opens {
                        tally.did(step);
                    }
                }
                None
            }
            "nora: revokes a token" => {
                self.have_a_token_of_noras().await;
                let mut tokens = self.tokens.iter().rev();
                let newest = tokens.find(|token| token.owner == Owner::Nora && !token.is_over)?;
                let nora = world.browser_of(&format!("nora{number}")).await;
                let address = format!("{}/settings/tokens/revoke", world.base);
                let page = nora.post(&address, &[("token", &newest.id)]).await;
                assert_eq!(page.status, 303, "{}", nora.history());
                let id = newest.id.clone();
                self.end_token(&id);
                tally.did(step);
                None
            }
            "nora: her account is deleted" => {
                if std::mem::replace(&mut self.nora_is_gone, true) {
                    return None;
                }
                let name = format!("nora{number}");
                let id = world.account(&name).await;
                let by = By { actor: Actor::System, session: None, address: None, request_id: None };
                let now = world.app.clock.now();
                delete_account(&world.app.store, (id, &name), None, &by, now).await.unwrap();
                for token in self.tokens.iter_mut().filter(|token| token.owner == Owner::Nora) {
                    (token.is_over, token.is_authorised) = (true, false);
                }
                self.spared[Owner::Nora as usize] = None;
                tally.did(step);
                None
            }
            other => panic!("no such step: {other}"),
        }
    }

    /// A browser in which ada has just signed in and completed single sign-on.
    async fn ada_through_sso(&self) -> Browser {
        let world = &self.stage.world;
        let ada = world.browser_of(&format!("ada{}", self.name.trim_start_matches("org"))).await;
        world.idp.signs_in("ada");
        world.visit(&ada, &format!("{}/organizations/{}/sso?next=/", world.base, self.name)).await;
        world.idp.signs_out();
        ada
    }

    /// The id of somebody's newest token, which is made first if there is none or `anew`: who has the password signs in
    /// afresh for it.
    async fn newest_token(&mut self, owner: Owner, browser: &Browser, anew: bool) -> String {
        let mut tokens = self.tokens.iter().rev();
        if let Some(token) = tokens.find(|token| token.owner == owner && !token.is_over)
            && !anew
        {
            return token.id.clone();
        }
        let world = &self.stage.world;
        let name = format!("{}{}", owner.name(), self.name.trim_start_matches("org"));
        if owner == Owner::Mira {
            world.sign_in(browser, &name).await;
        }
        let page = browser.post(&format!("{}/settings/tokens/new", world.base), NEW_TOKEN).await;
        let secret = token_in(&page.body).unwrap_or_else(|| panic!("{}", page.text()));
        let id = new_id(world, &name, &self.tokens).await;
        self.tokens.push(Token { owner, id: id.clone(), secret, is_over: false, is_authorised: false });
        id
    }

    /// Nora completes single sign-on, makes a token, and says that it may reach the organization.
    async fn authorise_a_token_of_noras(&mut self) {
        let world = &self.stage.world;
        let nora = world.browser_of(&format!("nora{}", self.name.trim_start_matches("org"))).await;
        world.idp.signs_in("nora");
        world.visit(&nora, &format!("{}/organizations/{}/sso?next=/", world.base, self.name)).await;
        world.idp.signs_out();
        self.nora_was_in = Some(world.app.clock.now());
        let id = self.newest_token(Owner::Nora, &nora, true).await;
        let address = format!("{}/settings/tokens/authorize", world.base);
        let page = nora.post(&address, &[("token", &id), ("organization", &self.name)]).await;
        assert_eq!(page.status, 303, "{}", nora.history());
        for token in self.tokens.iter_mut().filter(|token| token.id == id) {
            token.is_authorised = true;
        }
    }

    /// The same, where she has not made one before: what is done to a token needs one.
    async fn have_a_token_of_noras(&mut self) {
        if !self.nora_is_gone && self.tokens.iter().all(|token| token.owner != Owner::Nora) {
            self.authorise_a_token_of_noras().await;
        }
    }

    fn end_token(&mut self, id: &str) {
        for token in self.tokens.iter_mut().filter(|token| token.id == id) {
            (token.is_over, token.is_authorised) = (true, false);
        }
    }

    /// Whether a token opens the private page, asked of the built-in proxy and of the gate.
    async fn opens(&self, token: &Token) -> bool {
        let world = &self.stage.world;
        let (bearer, target) = (format!("Bearer {}", token.secret), self.private_page());
        let page = Browser::new().request(Method::GET, &target, &[("authorization", &*bearer)], "").await;
        let headers =
            [("x-original-method", "GET"), ("x-original-url", &*target), ("authorization", &*bearer)];
        let gate = format!("{}/auth-request", world.gate);
        let asked = Browser::new().request(Method::GET, &gate, &headers, "").await;
        let opens = self.shows(&page).is_some();
        assert_eq!(opens, asked.status == 200, "built-in proxy and gate differ");
        opens
    }

    /// Starts at the live provider, and comes back with what the hostile one answers for the same state.
    async fn mixed_up(&mut self) -> Option<String> {
        let (stage, mira) = (self.stage, self.mira.clone());
        let world = &stage.world;
        let page =
            mira.post(&format!("{}/organizations/{}/sso", world.base, self.name), &[("next", "/")]).await;
        let to = page.meta_refresh().or_else(|| page.location())?;
        let mut at_evil = Url::parse(&stage.evil().url_of(Endpoint::Authorize)).unwrap();
        for (name, value) in to.query_pairs() {
            let value = if name == "client_id" { self.evil_client.id.clone().into() } else { value };
            at_evil.query_pairs_mut().append_pair(&name, &value);
        }
        stage.evil().signs_in(["ada", "mira"][self.dice.roll(2)]);
        let page = mira.get(at_evil.as_str()).await;
        let mut back = page.location()?;
        // Sometimes he writes the honest provider's name under it.
        if self.dice.roll(2) == 0 {
            let kept: Vec<(String, String)> = back
                .query_pairs()
                .filter(|(name, _)| name != "iss")
                .map(|(name, value)| (name.into_owned(), value.into_owned()))
                .collect();
            back.query_pairs_mut().clear().extend_pairs(kept).append_pair("iss", &self.live.issuer);
        }
        self.ways_back.push(back.clone());
        let page = mira.visit(back.as_str()).await;
        self.shows_mira(&page)
    }

    /// What is wider than it was: read from the store, whatever the pages said.
    async fn wider(&self) -> Option<String> {
        let mut reader = self.stage.world.app.store.reader();
        let organization = self.organization.id;
        let connection = load_connection(&mut reader, organization).await.unwrap().unwrap();
        let Some(live) = connection.live else { return Some("single sign-on is off".to_owned()) };
        if connection.enforcement != Enforcement::Enforced {
            return Some("single sign-on is optional".to_owned());
        }
        let live = load_revision(&mut reader, organization, live).await.unwrap().unwrap();
        let endpoints = live.endpoints.unwrap();
        let now = Live {
            issuer: endpoints.issuer,
            token_endpoint: endpoints.token_endpoint,
            client_id: live.client_id,
        };
        if now != self.live {
            return Some(format!("another provider or client is live: {now:?}"));
        }
        let sql = "SELECT session_timeout, token_sso_days FROM organization WHERE id = $1";
        let row = reader.fetch_optional(sql, values![organization]).await.unwrap().unwrap();
        if row.int("session_timeout").unwrap() > self.organization.session_timeout.millis() {
            return Some("sessions last longer".to_owned());
        }
        if row.int("token_sso_days").unwrap() != TOKEN_DAYS {
            return Some("tokens reach for longer".to_owned());
        }
        let sql = "SELECT n.spelled, m.role, m.external_collaborator, m.external_until FROM membership m \
                   JOIN account a ON a.id = m.account_id JOIN name n ON n.name_key = a.name_key \
                   WHERE m.organization_id = $1";
        let mut members = BTreeMap::new();
        for row in reader.fetch_all(sql, values![organization]).await.unwrap() {
            let (name, role) = (row.text("spelled").unwrap(), row.text("role").unwrap());
            let until = row.opt_int("external_until").unwrap().unwrap_or(i64::MAX);
            let spared = row.flag("external_collaborator").unwrap().then(|| Timestamp::from_millis(until));
            let who = name.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
            members.insert(who, (role, spared));
        }
        let [mira, nora] = self.spared;
        let mut expected = vec![("ada", "admin", None), ("mira", "admin", mira)];
        if !self.nora_is_gone {
            expected.push(("nora", "write", nora));
        }
        for (name, role, spared) in &expected {
            let found = members.remove(*name);
            if found != Some(((*role).to_owned(), *spared)) {
                return Some(format!("{name} is {found:?} instead of {role}, spared until {spared:?}"));
            }
        }
        if !members.is_empty() {
            return Some(format!("there are other members: {members:?}"));
        }
        let sql = "SELECT token_id FROM token_authorization WHERE organization_id = $1 ORDER BY token_id";
        let rows = reader.fetch_all(sql, values![organization]).await.unwrap();
        let found: Vec<String> = rows.iter().map(|row| row.text("token_id").unwrap()).collect();
        let expected = self.tokens.iter().filter(|token| token.is_authorised);
        let mut expected: Vec<String> = expected.map(|token| token.id.clone()).collect();
        expected.sort();
        if found != expected {
            return Some(format!("the tokens {found:?} are authorised instead of {expected:?}"));
        }
        let sql = "SELECT n.spelled, i.subject FROM identity i JOIN account a ON a.id = i.account_id \
                   JOIN name n ON n.name_key = a.name_key WHERE i.connection_id = $1";
        for row in reader.fetch_all(sql, values![connection.id]).await.unwrap() {
            let (name, subject) = (row.text("spelled").unwrap(), row.text("subject").unwrap());
            let who = name.trim_end_matches(|c: char| c.is_ascii_digit());
            if Person::new(who, who, "x@acme.example").sub != subject {
                return Some(format!("{name} is linked to {subject}"));
            }
        }
        let sql = "SELECT n.spelled FROM sso_session s JOIN browser_session b ON b.id = s.session_id \
                   JOIN account a ON a.id = b.account_id JOIN name n ON n.name_key = a.name_key \
                   WHERE s.organization_id = $1";
        for row in reader.fetch_all(sql, values![organization]).await.unwrap() {
            let name = row.text("spelled").unwrap();
            if name.starts_with("mira") || name == "eve" {
                return Some(format!("{name} has an SSO session"));
            }
        }
        None
    }
}

/// The form of a new token.
const NEW_TOKEN: &[(&str, &str)] = &[("name", "laptop"), ("role", "admin"), ("days", "30")];

/// The id of somebody's token that is not `known` yet: two of one moment have no order.
async fn new_id(world: &World, account: &str, known: &[Token]) -> String {
    let account = world.account(account).await;
    let tokens = load_access_tokens(&mut world.app.store.reader(), account).await.unwrap();
    let mut ids = tokens.iter().map(|token| token.id.to_string());
    ids.find(|id| known.iter().all(|token| token.id != *id)).expect("a new token")
}

/// The day that it is in this world, as a form names it.
fn today(world: &World) -> String {
    let seconds = world.app.clock.now().millis() / 1000;
    jiff::Timestamp::from_second(seconds).unwrap().strftime("%Y-%m-%d").to_string()
}

fn midnight_after(now: Timestamp) -> Timestamp {
    let day = Lifetime::from_days(1).millis();
    Timestamp::from_millis((now.millis() / day + 1) * day)
}

/// Whether a request to a provider carries this secret or code, in whatever place.
pub fn carries(request: &Request, secret: &str) -> bool {
    let mut fields = request.form.iter().chain(&request.query);
    fields.any(|(_, value)| value == secret)
        || request.header("authorization").and_then(basic_secret).as_deref() == Some(secret)
        || format!("{request:?}").contains(secret)
}

/// The secret in a Basic header, form-decoded (RFC 6749 §2.3.1).
fn basic_secret(header: &str) -> Option<String> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(header.strip_prefix("Basic ")?).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let pair = format!("secret={}", text.split_once(':')?.1);
    form_urlencoded::parse(pair.as_bytes()).next().map(|(_, secret)| secret.into_owned())
}

pub fn from_environment(name: &str) -> Option<u64> {
    std::env::vars().find(|(known, _)| known == name).and_then(|(_, value)| value.parse().ok())
}

/// Walks until something is wider or the walks are over: which walk, by which steps, what.
async fn walk(
    stage: &Stage,
    seed: u64,
    walks: std::ops::Range<u64>,
    tally: &mut Tally,
) -> Option<(u64, Vec<&'static str>, String)> {
    for number in walks {
        let mut walk = Walk::begin(stage, seed, number).await;
        if let Some(wider) = walk.go(tally).await {
            return Some((number, walk.steps, wider));
        }
        if stage.evil().requests().iter().any(|request| carries(request, &walk.live_secret)) {
            return Some((number, walk.steps, "the hostile provider was told the live secret".to_owned()));
        }
        stage.evil().forget_requests();
        stage.world.idp.forget_requests();
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "the seed is printed")]
async fn rule_12_a_stolen_password_gets_nowhere_on_any_random_walk() {
    let seed = from_environment("DOORWARD_SEED").unwrap_or(20_261_125);
    let walks = from_environment("DOORWARD_WALKS").unwrap_or(500);
    println!("seed {seed}, {walks} walks (DOORWARD_SEED, DOORWARD_WALKS)");
    let half = |range: std::ops::Range<u64>| {
        tokio::spawn(async move {
            let mut tally = Tally::default();
            for from in range.clone().step_by(WALKS_ON_A_STAGE) {
                let stage = Stage::set(Options::default().on, doorward::web::routes).await;
                let walks = from..range.end.min(from + WALKS_ON_A_STAGE as u64);
                let found = walk(&stage, seed, walks, &mut tally).await;
                if found.is_some() {
                    return (found, tally);
                }
            }
            (None, tally)
        })
    };
    let mut tally = Tally::default();
    for done in [half(0..walks / 2), half(walks / 2..walks)] {
        let (found, its) = done.await.unwrap();
        if let Some((number, steps, wider)) = found {
            panic!("seed {seed}, walk {number}: {wider}, after {steps:#?}");
        }
        tally.add(its);
    }
    // A handful of walks can't have done everything.
    if walks >= ENOUGH_WALKS {
        assert!(tally.missed().is_empty(), "seed {seed}: no walk did {:?}", tally.missed());
    }
}

/// The operator's word, by which a planted hole does what no lock asks about.
fn anybody() -> By {
    By { actor: Actor::System, session: None, address: None, request_id: None }
}

/// The route list with one line that asks for a fresh login alone, and is answered by what asks for nothing more under the
/// organization's lock either.
fn with_hole(path: &str, handler: MethodRouter<SharedApp>) -> Vec<Route> {
    let mut routes = doorward::web::routes();
    let is_it = |route: &Route| route.method == "post" && route.path.ends_with(path);
    let at = routes.iter().position(is_it).unwrap();
    let mut line = routes.remove(at).answered_by(handler);
    line.access = Access::FreshAdmin;
    routes.push(line);
    routes
}

async fn disable_for_anybody(State(app): State<SharedApp>, place: OrganizationVisit) -> Result<(), Refusal> {
    Ok(doorward::sso::enable::disable(&app, &place.organization, &anybody()).await?)
}

async fn loosen_for_anybody(State(app): State<SharedApp>, place: OrganizationVisit) -> Result<(), Refusal> {
    let loosened = Enforcement::Optional;
    Ok(doorward::sso::enable::set_enforcement(&app, &place.organization, loosened, &anybody()).await?)
}

async fn spare_for_anybody(
    State(app): State<SharedApp>,
    place: OrganizationVisit,
    Form(form): Form<BTreeMap<String, String>>,
) -> Result<Redirect, Refusal> {
    let now = app.clock.now();
    let mut tx = app.store.begin().await?;
    if let Some(account) = load_account_by_name(&mut tx, &form["account"]).await? {
        let spared = match form.get("until").map(String::as_str) {
            None | Some("") => ExternalCollaborator::Yes,
            Some(_) => ExternalCollaborator::Until(midnight_after(now)),
        };
        tx.set_external_collaborator(place.organization.id, account.id, spared).await?;
    }
    tx.commit(now).await?;
    Ok(Redirect::to("/"))
}

/// What is wrong with each planted hole, and how it is planted: in the route list, or by a trigger in the database.
async fn finds(routes: fn() -> Vec<Route>, trigger: Option<&'static str>) -> String {
    let stage = Stage::set(On::Sqlite, routes).await;
    if let Some(trigger) = trigger {
        stage.world.behind_its_back(trigger).await;
    }
    let found = walk(&stage, 7, 0..400, &mut Tally::default()).await;
    found.map(|(_, _, wider)| wider).expect("the hole is found")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_walks_find_a_disable_that_asks_for_a_fresh_login_alone() {
    let wider = finds(|| with_hole("/settings/sso/disable", post(disable_for_anybody)), None).await;
    assert_eq!(wider, "single sign-on is off");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_walks_find_a_login_that_counts_as_a_recovery_code() {
    let trigger = "CREATE TRIGGER hole AFTER INSERT ON browser_session BEGIN \
                   INSERT INTO recovery (session_id, organization_id, expires_at) \
                   SELECT NEW.id, m.organization_id, NEW.authenticated_at + 3600000 \
                   FROM membership m WHERE m.account_id = NEW.account_id AND m.role = 'admin'; END";
    let wider = finds(doorward::web::routes, Some(trigger)).await;
    assert!(!wider.is_empty(), "{wider}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_walks_find_a_login_that_counts_as_single_sign_on() {
    let trigger = "CREATE TRIGGER hole AFTER INSERT ON browser_session BEGIN \
                   INSERT INTO sso_session (session_id, organization_id, epoch, issuer, subject, authenticated_at) \
                   SELECT NEW.id, m.organization_id, c.epoch, 'hole', 'hole', NEW.authenticated_at \
                   FROM membership m JOIN connection c ON c.organization_id = m.organization_id \
                   WHERE m.account_id = NEW.account_id AND m.role = 'admin'; END";
    let wider = finds(doorward::web::routes, Some(trigger)).await;
    let sides = ["SSO session", "private page", "without single sign-on"];
    assert!(sides.iter().any(|side| wider.contains(side)), "{wider}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_walks_find_an_enforcement_that_anybody_fresh_may_loosen() {
    let wider = finds(|| with_hole("/settings/sso/enforcement", post(loosen_for_anybody)), None).await;
    assert_eq!(wider, "single sign-on is optional");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_walks_find_an_external_collaborator_whom_anybody_fresh_may_make() {
    let wider = finds(|| with_hole("/users/collaborators", post(spare_for_anybody)), None).await;
    assert!(wider.contains("spared until") || wider.contains("private page"), "{wider}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_walks_find_a_token_that_needs_no_single_sign_on() {
    let trigger = "CREATE TRIGGER hole AFTER INSERT ON access_token BEGIN \
                   UPDATE membership SET last_sso_at = NEW.created_at, last_sso_epoch = (SELECT epoch FROM connection c \
                   WHERE c.organization_id = membership.organization_id) WHERE account_id = NEW.account_id; \
                   INSERT INTO token_authorization (token_id, organization_id, epoch, authorized_at) \
                   SELECT NEW.id, m.organization_id, c.epoch, NEW.created_at FROM membership m \
                   JOIN connection c ON c.organization_id = m.organization_id WHERE m.account_id = NEW.account_id; END";
    let wider = finds(doorward::web::routes, Some(trigger)).await;
    assert!(wider.contains("token"), "{wider}");
}

#[test]
fn there_are_at_least_twenty_five_things_to_do() {
    assert!(STEPS.len() >= 25);
}
