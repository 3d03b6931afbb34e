//! What the provider knows: tenants, people, applications with their secrets, codes that wait to be redeemed.
//!
//! Plain data in memory, one mutex around it (`Provider::directory`), gone when the process ends. In: what the
//! console's forms say, already checked. Never here: HTTP, HTML, tokens. Everything is bounded.

use super::fault::Fault;
use crate::random;
use std::collections::{BTreeSet, HashMap};

/// GUID of the tenant Acme; fixed, so that documentation and tests may name it.
pub(crate) const ACME_TENANT: &str = "3f1c2b7a-6d54-4e0b-9a21-7c0de5a81f10";
/// GUID of the tenant Globex.
pub(crate) const GLOBEX_TENANT: &str = "9a8b7c6d-5e4f-4a3b-8c2d-1e0f9a8b7c6d";

/// Most applications, secrets of one, redirect URIs of one, and waiting codes.
const APPLICATIONS_MAX: usize = 200;
const SECRETS_MAX: usize = 20;
const REDIRECTS_MAX: usize = 256;
const GRANTS_MAX: usize = 5_000;
/// A code can be redeemed for ten minutes, and is remembered for an hour to tell why it can't be any more.
const CODE_SECONDS: i64 = 600;
const CODE_REMEMBERED_SECONDS: i64 = 3_600;

/// One customer of the provider: a directory with its people.
#[derive(Clone)]
pub(crate) struct Tenant {
    /// Directory (tenant) ID, a GUID.
    pub(crate) id: String,
    /// Shown name.
    pub(crate) name: String,
    /// Verified domain.
    pub(crate) domain: String,
    /// Who can sign in.
    pub(crate) people: Vec<Person>,
}

/// Somebody in a directory.
#[derive(Clone)]
pub(crate) struct Person {
    /// Object ID in this tenant.
    pub(crate) oid: String,
    pub(crate) name: String,
    pub(crate) given_name: String,
    pub(crate) family_name: String,
    /// User principal name; for guests the mangled one.
    pub(crate) upn: String,
    /// The mail attribute, if there is a mailbox. Nobody verifies it.
    pub(crate) mail: Option<String>,
    /// Home tenant of a guest.
    pub(crate) guest_of: Option<String>,
    /// Whether the account may sign in at all.
    pub(crate) enabled: bool,
    /// Whether the person may consent for everybody.
    pub(crate) admin: bool,
    /// What makes this person worth trying.
    pub(crate) note: &'static str,
}

impl Person {
    /// What the person types to sign in: the UPN, or a guest's own address.
    pub(crate) fn sign_in_name(&self) -> &str {
        match (&self.guest_of, &self.mail) {
            (Some(_), Some(mail)) => mail,
            _ => &self.upn,
        }
    }
}

/// How an application was made, which decides what it can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AppKind {
    /// "App you're developing": OpenID Connect with the tenant's keys.
    Developing,
    /// "Non-gallery": made for SAML, signs with a key of its own.
    NonGallery,
}

/// Who may sign in by account type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Audience {
    /// People of this tenant alone: the right choice here.
    SingleTenant,
    /// People of any tenant; the endpoints then name `organizations`.
    AnyTenant,
    /// People of any tenant and personal accounts; the endpoints then name `common`.
    AnyTenantAndPersonal,
}

/// The kind of program behind a redirect URI; it decides how codes are redeemed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Platform {
    /// A server that keeps a secret.
    Web,
    /// A program in the browser.
    SinglePage,
    /// A program on a device.
    Native,
}

impl Platform {
    /// Every platform, in the order of the console's list: Web is not the first.
    pub(crate) const ALL: [Self; 3] = [Self::Native, Self::Web, Self::SinglePage];

    /// Value in the console's forms.
    pub(crate) const fn value(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::SinglePage => "spa",
            Self::Native => "native",
        }
    }

    /// Label in the console's forms.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Web => "Web",
            Self::SinglePage => "Single-page application (SPA)",
            Self::Native => "Public client/native (mobile & desktop)",
        }
    }

    /// From a form's value.
    pub(crate) fn from_value(value: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|platform| platform.value() == value)
    }
}

/// One registered redirect URI.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RedirectUri {
    pub(crate) platform: Platform,
    pub(crate) uri: String,
}

/// One client secret.
#[derive(Clone)]
pub(crate) struct ClientSecret {
    /// The Secret ID, which people paste by mistake.
    pub(crate) id: String,
    pub(crate) description: String,
    /// The value, compared at the token endpoint.
    pub(crate) value: String,
    /// Seconds since the Unix epoch.
    pub(crate) expires_at: i64,
    /// Whether the console has yet to show the value, which it does once.
    pub(crate) unseen: bool,
}

/// An application: registration and enterprise application in one.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) tenant_id: String,
    /// Application (client) ID.
    pub(crate) client_id: String,
    /// Object ID of the registration: the trap beside the client ID.
    pub(crate) object_id: String,
    pub(crate) name: String,
    pub(crate) kind: AppKind,
    pub(crate) audience: Audience,
    pub(crate) redirect_uris: Vec<RedirectUri>,
    pub(crate) secrets: Vec<ClientSecret>,
    /// "Enabled for users to sign-in?"
    pub(crate) enabled: bool,
    /// "Assignment required?"
    pub(crate) assignment_required: bool,
    /// Object IDs of assigned people.
    pub(crate) assigned: BTreeSet<String>,
    /// An administrator consented for everybody.
    pub(crate) admin_consent: bool,
    /// Object IDs of people who consented for themselves.
    pub(crate) consented: BTreeSet<String>,
    /// The fault that is switched on.
    pub(crate) fault: Option<Fault>,
    /// Whether the fault stays on after it acted.
    pub(crate) fault_stays: bool,
}

impl App {
    /// A new application of a tenant, with nothing registered yet.
    pub(crate) fn new(tenant_id: &str, name: &str, kind: AppKind) -> Self {
        Self {
            tenant_id: tenant_id.to_owned(),
            client_id: random::guid(),
            object_id: random::guid(),
            name: name.to_owned(),
            kind,
            audience: Audience::SingleTenant,
            redirect_uris: Vec::new(),
            secrets: Vec::new(),
            enabled: true,
            assignment_required: false,
            assigned: BTreeSet::new(),
            admin_consent: false,
            consented: BTreeSet::new(),
            fault: None,
            fault_stays: false,
        }
    }

    /// Registers a redirect URI. False if it is there already or there are too many.
    pub(crate) fn add_redirect_uri(&mut self, platform: Platform, uri: &str) -> bool {
        let new = RedirectUri { platform, uri: uri.to_owned() };
        if self.redirect_uris.contains(&new) || self.redirect_uris.len() >= REDIRECTS_MAX {
            return false;
        }
        self.redirect_uris.push(new);
        true
    }

    /// Makes a client secret that expires at `expires_at`, and gives its value. None when there are too many.
    pub(crate) fn add_secret(&mut self, description: &str, expires_at: i64) -> Option<&ClientSecret> {
        if self.secrets.len() >= SECRETS_MAX {
            return None;
        }
        self.secrets.push(ClientSecret {
            id: random::guid(),
            description: description.to_owned(),
            value: random::client_secret(),
            expires_at,
            unseen: true,
        });
        self.secrets.last()
    }

    /// The registration that a requested redirect URI meets. Exact, but the port of `localhost` does not count.
    pub(crate) fn matching_redirect(&self, requested: &str) -> Option<&RedirectUri> {
        self.redirect_uris.iter().find(|registered| {
            registered.uri == requested
                || without_localhost_port(&registered.uri) == without_localhost_port(requested)
        })
    }

    /// Takes the fault out if `acts_here` says that this is its place, unless it is to stay on.
    pub(crate) fn take_fault(&mut self, acts_here: impl FnOnce(Fault) -> bool) -> Option<Fault> {
        let fault = self.fault.filter(|fault| acts_here(*fault))?;
        if !self.fault_stays {
            self.fault = None;
        }
        Some(fault)
    }
}

/// A URI on `http://localhost` without its port; any other one as it is.
fn without_localhost_port(uri: &str) -> String {
    let Some(rest) = uri.strip_prefix("http://localhost:") else { return uri.to_owned() };
    format!("http://localhost{}", rest.trim_start_matches(|c: char| c.is_ascii_digit()))
}

/// A code that was handed out, with everything the token endpoint compares.
#[derive(Clone)]
pub(crate) struct Grant {
    pub(crate) client_id: String,
    pub(crate) tenant_id: String,
    pub(crate) platform: Platform,
    pub(crate) redirect_uri: String,
    pub(crate) oid: String,
    pub(crate) nonce: Option<String>,
    pub(crate) scopes: Vec<String>,
    /// PKCE challenge and whether it is S256 (otherwise plain).
    pub(crate) challenge: Option<(String, bool)>,
    /// Seconds since the Unix epoch.
    pub(crate) issued_at: i64,
    /// Redeemed, or burned by a wrong verifier.
    pub(crate) spent: bool,
}

impl Grant {
    /// Whether the code is too old to be redeemed.
    pub(crate) fn expired(&self, now: i64) -> bool {
        now.saturating_sub(self.issued_at) > CODE_SECONDS
    }
}

/// Everything behind the mutex.
pub(crate) struct Directory {
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) apps: Vec<App>,
    /// Grants by their code.
    pub(crate) grants: HashMap<String, Grant>,
    /// What each access token stands for, for UserInfo.
    pub(crate) access_tokens: HashMap<String, AccessToken>,
}

/// What an access token stands for.
#[derive(Clone)]
pub(crate) struct AccessToken {
    pub(crate) client_id: String,
    pub(crate) oid: String,
    /// Whether the scope `email` was granted.
    pub(crate) with_email: bool,
    /// Seconds since the Unix epoch.
    pub(crate) expires_at: i64,
}

impl Directory {
    /// Two directories with their people and no application.
    pub(crate) fn new() -> Self {
        Self {
            tenants: vec![acme(), globex()],
            apps: Vec::new(),
            grants: HashMap::new(),
            access_tokens: HashMap::new(),
        }
    }

    /// The tenant that an address names, by GUID or by domain.
    pub(crate) fn tenant(&self, name: &str) -> Option<&Tenant> {
        self.tenants
            .iter()
            .find(|tenant| tenant.id.eq_ignore_ascii_case(name) || tenant.domain.eq_ignore_ascii_case(name))
    }

    /// An application of a tenant by its client ID.
    pub(crate) fn app(&self, tenant_id: &str, client_id: &str) -> Option<&App> {
        self.apps
            .iter()
            .find(|app| app.tenant_id == tenant_id && app.client_id.eq_ignore_ascii_case(client_id))
    }

    /// The same, to change it.
    pub(crate) fn app_mut(&mut self, tenant_id: &str, client_id: &str) -> Option<&mut App> {
        self.apps
            .iter_mut()
            .find(|app| app.tenant_id == tenant_id && app.client_id.eq_ignore_ascii_case(client_id))
    }

    /// A person and the tenant of that person, by object ID, wherever it is.
    pub(crate) fn person(&self, oid: &str) -> Option<(&Tenant, &Person)> {
        self.tenants.iter().find_map(|tenant| {
            tenant.people.iter().find(|person| person.oid == oid).map(|person| (tenant, person))
        })
    }

    /// Keeps a new application. False when there are too many.
    pub(crate) fn add_app(&mut self, app: App) -> bool {
        let room = self.apps.len() < APPLICATIONS_MAX;
        if room {
            self.apps.push(app);
        }
        room
    }

    /// Keeps a grant and gives its code. Forgets the old ones on the way; None when too many wait.
    pub(crate) fn add_grant(&mut self, grant: Grant, now: i64) -> Option<String> {
        self.grants.retain(|_, old| now.saturating_sub(old.issued_at) < CODE_REMEMBERED_SECONDS);
        self.access_tokens.retain(|_, token| token.expires_at > now);
        if self.grants.len() >= GRANTS_MAX || self.access_tokens.len() >= GRANTS_MAX {
            return None;
        }
        let code = format!("1.{}", random::opaque());
        self.grants.insert(code.clone(), grant);
        Some(code)
    }
}

fn person(oid: &str, name: &str, upn: &str, note: &'static str) -> Person {
    let (given_name, family_name) = name.split_once(' ').unwrap_or((name, ""));
    Person {
        oid: oid.to_owned(),
        name: name.to_owned(),
        given_name: given_name.to_owned(),
        family_name: family_name.to_owned(),
        upn: upn.to_owned(),
        mail: Some(upn.to_owned()),
        guest_of: None,
        enabled: true,
        admin: false,
        note,
    }
}

fn acme() -> Tenant {
    let ada = person(
        "5b0e6a52-91c4-4d7e-8f33-2a6d1c9e7b01",
        "Ada Quill",
        "ada@acme.example",
        "Directory administrator",
    );
    let mira = person(
        "7d2e9c41-0b5a-4f6e-8a37-5c1d2e3f4a5b",
        "Mira Holt",
        "mira.holt@acme.example",
        "Has a mailbox",
    );
    let alex = person(
        "2c7f4b18-6e3d-4a95-b0c2-8d5e1f7a9c03",
        "Alex Renn",
        "alex@acme.example",
        "No mailbox, so no email claim",
    );
    let eve = person(
        "e1f0c3a7-4b62-4d18-9c5e-7a3b6d2f8e04",
        "Eve Tarn",
        "eve@acme.example",
        "In the directory, but in no organization at the hub",
    );
    let uma = person(
        "a94d7e20-3c1b-4f86-8e5d-0b2c9f6a1d05",
        "Uma Norr",
        "uma@acme.example",
        "Never assigned to anything",
    );
    let dan =
        person("c3b8f5d1-7e94-4260-a1d8-6f0e3c7b2a06", "Dan Orrel", "dan@acme.example", "Account disabled");
    let guest = person(
        "1c0d2e3f-4a5b-4c6d-8e7f-9a0b1c2d3e4f",
        "Alice Berg",
        "alice_partner.example#EXT#@acme.example",
        "Guest of another directory",
    );
    Tenant {
        id: ACME_TENANT.to_owned(),
        name: "Acme".to_owned(),
        domain: "acme.example".to_owned(),
        people: vec![
            Person { admin: true, ..ada },
            mira,
            Person { mail: None, ..alex },
            eve,
            uma,
            Person { enabled: false, ..dan },
            Person {
                mail: Some("alice@partner.example".to_owned()),
                guest_of: Some("0d4c3b2a-1f9e-4d8c-b7a6-5f4e3d2c1b0a".to_owned()),
                ..guest
            },
        ],
    }
}

fn globex() -> Tenant {
    let ben = person(
        "f6a1d9c4-2b7e-4835-9d0a-3e8c5b1f7d07",
        "Ben Sorrel",
        "ben@globex.example",
        "Directory administrator",
    );
    let mira = person(
        "8e2b5f7c-9d01-4c63-a4f8-1b6d0e3a5c08",
        "Mira Holt",
        "mira.holt@globex.example",
        "Works for Acme too: her mail attribute is her address there",
    );
    Tenant {
        id: GLOBEX_TENANT.to_owned(),
        name: "Globex".to_owned(),
        domain: "globex.example".to_owned(),
        people: vec![
            Person { admin: true, ..ben },
            Person { mail: Some("mira.holt@acme.example".to_owned()), ..mira },
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_uri_matches_letter_by_letter_except_for_the_port_of_localhost() {
        let mut app = App::new(ACME_TENANT, "Hub", AppKind::Developing);
        app.add_redirect_uri(Platform::Web, "http://localhost:8080/organizations/acme/oidc/consume");
        let matches = |uri: &str| app.matching_redirect(uri).is_some();
        assert!(matches("http://localhost:8080/organizations/acme/oidc/consume"));
        assert!(matches("http://localhost:9090/organizations/acme/oidc/consume"));
        assert!(!matches("http://localhost:8080/organizations/acme/oidc/consume/"));
        assert!(!matches("http://localhost:8080/organizations/Acme/oidc/consume"));
        assert!(!matches("http://localhost.evil.example/organizations/acme/oidc/consume"));
    }

    #[test]
    fn a_fault_acts_once_unless_it_is_to_stay() {
        let mut app = App::new(ACME_TENANT, "Hub", AppKind::Developing);
        app.fault = Some(Fault::TokenSlow);
        assert_eq!(app.take_fault(|fault| matches!(fault, Fault::Page(_))), None);
        assert_eq!(app.take_fault(|fault| fault == Fault::TokenSlow), Some(Fault::TokenSlow));
        assert_eq!(app.take_fault(|fault| fault == Fault::TokenSlow), None);
    }
}
