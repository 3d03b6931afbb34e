//! The first larger proof: whoever has an admin's password, but nobody's identity at the live provider, gets nowhere.
//!
//! Random walks over HTTP in organizations whose SSO is live. The thief has the password of mira, an admin; an account
//! and an organization of his own (eve, evilcorp); and a provider that says whatever he likes. After each step nothing
//! private may have been shown, and nobody's access may be wider than before.
//! The seed is printed, a failure's walk and steps too; `DOORWARD_SEED` and `DOORWARD_WALKS` set them, and the test
//! command asks for ten thousand walks. Never here: single rules
//! (`rules.rs`) and ways that worked once (`attack.rs`).

use doorward::store::{
    Identity, NewRevision, Organization, Query as _, RevisionTest, load_connection, load_revision,
};
use doorward::values;
use doorward::web::Route;
use doorward::web::access::Access;
use doorward_core::connection::Enforcement;
use doorward_core::ids::{ConnectionId, RevisionNumber};
use doorward_core::membership::Role;
use doorward_core::secret::Secret;
use doorward_core::time::Lifetime;
use doorward_testkit::{Browser, Client, Endpoint, FakeIdp, Page, Person, Request};
use url::Url;

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
    "eve: completes her own organization's single sign-on",
    "eve: opens the private page",
    "eve: sends forms of the route list",
    "eve: makes mira a member of her organization",
    "ada: completes single sign-on",
    "ada: tests the draft",
    "nora: reads the private page",
];

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
        }
    }

    /// Up to twelve steps; what became wider, if anything did.
    async fn go(&mut self) -> Option<String> {
        let length = 1 + self.dice.roll(12);
        for _ in 0..length {
            let step = STEPS[self.dice.roll(STEPS.len())];
            self.steps.push(step);
            let shown = self.step(step).await;
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
        self.shows(&page)
    }

    /// Posts to a route of the settings as mira.
    async fn post(&mut self, rest: &str, fields: &[(&str, &str)]) -> Option<String> {
        let mira = self.mira.clone();
        let page =
            mira.post(&format!("{}/organizations/{}{rest}", self.stage.world.base, self.name), fields).await;
        let page = self.follow(&mira, page).await;
        self.shows(&page)
    }

    /// Forms of the route list that name an organization, with fields that would widen something.
    async fn send_forms(&mut self, browser: &Browser) -> Option<String> {
        let world = &self.stage.world;
        let draft = world.draft(&self.name).await;
        let eve_id = world.account("eve").await.to_string();
        for route in doorward::web::routes() {
            if route.method != "post" || !route.path.contains("{org}") || route.path.ends_with("/leave") {
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
            if let Some(shown) = self.shows(&page) {
                return Some(shown);
            }
        }
        None
    }

    async fn step(&mut self, step: &'static str) -> Option<String> {
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
                self.shows(&page)
            }
            "mira: fetches the private page" => {
                let page = mira.fetch(&self.private_page()).await;
                self.shows(&page)
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
                    let page = Browser::new().request(http::Method::GET, &gate, &headers, "").await;
                    if page.status == 200 {
                        return Some("the gate let the private page through".to_owned());
                    }
                }
                None
            }
            "mira: opens the settings page" => {
                let page = mira.get(&world.settings(&self.name, "")).await;
                self.shows(&page)
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
                    if tells && page.status == 200 {
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
            "mira: sends forms of the route list" => self.send_forms(&mira).await,
            "mira: completes single sign-on without being anybody" => {
                let page = mira
                    .post(&format!("{}/organizations/{}/sso", world.base, self.name), &[("next", "/")])
                    .await;
                let page = self.follow(&mira, page).await;
                self.shows(&page)
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
                self.shows(&page)
            }
            "mira: opens an old way back again" => {
                if self.ways_back.is_empty() {
                    return None;
                }
                let back = self.ways_back[self.dice.roll(self.ways_back.len())].clone();
                let page = mira.visit(back.as_str()).await;
                self.shows(&page)
            }
            "mira: forges the hand-over" => {
                // Eve's session of the application's host, planted in mira's browser; and the reverse of names.
                for browser in [&eve, &mira] {
                    let Some(cookie) = browser.cookie("localhost", "doorward-session") else { continue };
                    mira.plant_cookie("hub.localhost", "doorward-app", &cookie);
                    let page = mira.fetch(&self.private_page()).await;
                    if let Some(shown) = self.shows(&page) {
                        return Some(shown);
                    }
                }
                mira.lose_cookie("hub.localhost", "doorward-app");
                let address =
                    format!("{}/.doorward/ticket?ticket=AAAA&next=/{}/secret", world.hub, self.name);
                let page = mira.visit(&address).await;
                self.shows(&page)
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
            "eve: sends forms of the route list" => self.send_forms(&eve).await,
            "eve: makes mira a member of her organization" => {
                let name = format!("mira{number}");
                let members = format!("{}/organizations/evilcorp/settings/members", world.base);
                eve.post(&members, &[("account", &name), ("name", &name), ("role", "read")]).await;
                stage.evil().signs_in("mira");
                let page =
                    world.visit(&mira, &format!("{}/organizations/evilcorp/sso?next=/", world.base)).await;
                if let Some(shown) = self.shows(&page) {
                    return Some(shown);
                }
                let page = world.visit(&mira, &self.private_page()).await;
                self.shows(&page)
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
                let nora = world.browser_of(&format!("nora{number}")).await;
                world.idp.signs_in("nora");
                let page = world.visit(&nora, &self.private_page()).await;
                world.idp.signs_out();
                assert!(self.shows(&page).is_some(), "an honest member is shut out: {}", nora.history());
                None
            }
            other => panic!("no such step: {other}"),
        }
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
        self.shows(&page)
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
        let sql = "SELECT session_timeout FROM organization WHERE id = $1";
        let row = reader.fetch_optional(sql, values![organization]).await.unwrap().unwrap();
        if row.int("session_timeout").unwrap() > self.organization.session_timeout.millis() {
            return Some("sessions last longer".to_owned());
        }
        let sql = "SELECT n.spelled, m.role, m.external_collaborator FROM membership m \
                   JOIN account a ON a.id = m.account_id JOIN name n ON n.name_key = a.name_key \
                   WHERE m.organization_id = $1";
        for row in reader.fetch_all(sql, values![organization]).await.unwrap() {
            let (name, role) = (row.text("spelled").unwrap(), row.text("role").unwrap());
            let as_before = match name.trim_end_matches(|c: char| c.is_ascii_digit()) {
                "ada" | "mira" => true,
                "nora" => role == "write",
                _ => false,
            };
            if !as_before || row.flag("external_collaborator").unwrap() {
                return Some(format!("{name} has the role {role}"));
            }
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
) -> Option<(u64, Vec<&'static str>, String)> {
    for number in walks {
        let mut walk = Walk::begin(stage, seed, number).await;
        if let Some(wider) = walk.go().await {
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
            for from in range.clone().step_by(WALKS_ON_A_STAGE) {
                let stage = Stage::set(Options::default().on, doorward::web::routes).await;
                let found = walk(&stage, seed, from..range.end.min(from + WALKS_ON_A_STAGE as u64)).await;
                if found.is_some() {
                    return found;
                }
            }
            None
        })
    };
    for done in [half(0..walks / 2), half(walks / 2..walks)] {
        if let Some((number, steps, wider)) = done.await.unwrap() {
            panic!("seed {seed}, walk {number}: {wider}, after {steps:#?}");
        }
    }
}

/// The route list with one line asking less than it must.
fn with_access(path: &str, access: Access) -> Vec<Route> {
    let mut routes = doorward::web::routes();
    let line = routes.iter_mut().find(|route| route.method == "post" && route.path.ends_with(path)).unwrap();
    line.access = access;
    routes
}

/// What is wrong with each planted hole, and how it is planted: in the route list, or by a trigger in the database.
async fn finds(routes: fn() -> Vec<Route>, trigger: Option<&'static str>) -> String {
    let stage = Stage::set(On::Sqlite, routes).await;
    if let Some(trigger) = trigger {
        stage.world.behind_its_back(trigger).await;
    }
    let found = walk(&stage, 7, 0..400).await;
    found.map(|(_, _, wider)| wider).expect("the hole is found")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_walks_find_a_disable_that_asks_for_a_fresh_login_alone() {
    let wider = finds(|| with_access("/settings/sso/disable", Access::FreshAdmin), None).await;
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
    assert!(wider.contains("SSO session") || wider.contains("private page"), "{wider}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_walks_find_an_enforcement_that_anybody_fresh_may_loosen() {
    let wider = finds(|| with_access("/settings/sso/enforcement", Access::FreshAdmin), None).await;
    assert_eq!(wider, "single sign-on is optional");
}

#[test]
fn there_are_at_least_twenty_five_things_to_do() {
    assert!(STEPS.len() >= 25);
}
