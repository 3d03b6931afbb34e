//! The headers that tell the application who this is (architecture.md §6).
//!
//! In: a `Permit`, or nothing. Out: always the complete set, empty where nothing is known, so that whatever a browser
//! sent under these names is overwritten (conformance.md V02).
//! Also here: which names of a request are ours under any spelling that a server behind us might map to one (V01),
//! and which would make that server look at another path or method than the gate did.

use crate::gate_decision::{Permit, SsoStanding};
use std::borrow::Cow;

/// How many identity headers there are.
pub const IDENTITY_HEADER_COUNT: usize = 9;

/// The names of the identity headers, in the order of [`identity_headers`].
pub const IDENTITY_HEADER_NAMES: [&str; IDENTITY_HEADER_COUNT] = [
    "Remote-User",
    "Remote-Name",
    "Remote-Email",
    "Remote-Groups",
    "Doorward-Account",
    "Doorward-Organization",
    "Doorward-Role",
    "Doorward-Assertion",
    "Doorward-Sso",
];

/// Headers that make some servers serve another path, method or host than the one that was judged: gateways of IIS and
/// PHP, gunicorn and Daphne (a path to be taken off), Rack (a path that nginx is told to serve).
pub const OVERRIDE_HEADER_NAMES: [&str; 17] = [
    "X-Original-URL",
    "X-Rewrite-URL",
    "X-HTTP-Method-Override",
    "X-HTTP-Method",
    "X-Method-Override",
    "X-Original-Method",
    "X-Original-URI",
    "X-Override-URL",
    "Script-Name",
    "X-Script-Name",
    "Path-Info",
    "Daphne-Root-Path",
    "X-Sendfile-Type",
    "X-Accel-Mapping",
    "X-Host",
    "X-Original-Host",
    "X-HTTP-Host-Override",
];

/// Name and value of each identity header. Values are UTF-8 without control characters.
pub type IdentityHeaders<'a> = [(&'static str, Cow<'a, str>); IDENTITY_HEADER_COUNT];

/// The complete set for a request that goes on.
pub fn identity_headers<'a>(permit: &Permit<'a>) -> IdentityHeaders<'a> {
    let (user, name, email, account) = match permit.account() {
        Some(account) => (
            without_control_characters(account.name),
            without_control_characters(account.display_name),
            without_control_characters(account.email),
            Cow::Owned(account.id.to_string()),
        ),
        None => Default::default(),
    };
    let (organization, role) = match permit.place() {
        Some(place) => (without_control_characters(place.organization), place.role.as_str()),
        None => Default::default(),
    };
    let sso = match permit.sso() {
        SsoStanding::Complete => "complete",
        SsoStanding::Missing => "missing",
        SsoStanding::None => "",
    };
    let [
        user_name,
        name_name,
        email_name,
        groups_name,
        account_name,
        organization_name,
        role_name,
        assertion,
        sso_name,
    ] = IDENTITY_HEADER_NAMES;
    [
        (user_name, user),
        (name_name, name),
        (email_name, email),
        (groups_name, Cow::Borrowed("")),
        (account_name, account),
        (organization_name, organization),
        (role_name, Cow::Borrowed(role)),
        (assertion, Cow::Borrowed("")),
        (sso_name, Cow::Borrowed(sso)),
    ]
}

/// The complete set with nothing in it, for whatever is answered without a permit.
pub fn empty_identity_headers() -> IdentityHeaders<'static> {
    IDENTITY_HEADER_NAMES.map(|name| (name, Cow::Borrowed("")))
}

/// Whether a server behind us could take a header of this name for one of ours: case aside, and with `_`, `.` or any
/// other sign for `-`, as CGI and its heirs map names. Everything that begins with `Doorward-` is ours.
pub fn is_identity_header(name: &str) -> bool {
    let begins_ours = name.get(..OUR_PREFIX.len()).is_some_and(|start| is_spelling_of(start, OUR_PREFIX));
    begins_ours || IDENTITY_HEADER_NAMES.iter().any(|ours| is_spelling_of(name, ours))
}

/// Whether a header of this name, in any spelling, is one of [`OVERRIDE_HEADER_NAMES`].
pub fn is_override_header(name: &str) -> bool {
    OVERRIDE_HEADER_NAMES.iter().any(|known| is_spelling_of(name, known))
}

/// Whether only we may say what a header of this name says: who this is, where he comes from, and what was asked for.
///
/// A name with another sign than letters, digits and `-` is nobody's to send, as in nginx: CGI and its heirs make a variable
/// of their own of it, gunicorn the path of `SCRIPT_NAME` (V10).
pub fn is_not_the_clients(name: &str) -> bool {
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return true;
    }
    // Most names are nobody's, and are known for that by their first letter.
    let may_be = name.bytes().next().is_some_and(|first| FIRST_LETTERS.contains(&first.to_ascii_lowercase()));
    may_be
        && (is_identity_header(name)
            || is_override_header(name)
            || name
                .get(..FORWARDED_PREFIX.len())
                .is_some_and(|start| is_spelling_of(start, FORWARDED_PREFIX))
            || FORWARDING_HEADER_NAMES.into_iter().any(|known| is_spelling_of(name, known)))
}

/// What the names that are not the client's begin with, in small letters.
const FIRST_LETTERS: [u8; 6] = *b"dfprsx";

/// Names beside those that begin with [`FORWARDED_PREFIX`]. CGI makes HTTP_PROXY of `Proxy`, which many HTTP clients obey.
const FORWARDING_HEADER_NAMES: [&str; 3] = ["forwarded", "x-real-ip", "proxy"];

const FORWARDED_PREFIX: &str = "x-forwarded-";

const OUR_PREFIX: &str = "Doorward-";

/// Whether a server that maps header names as CGI does could take `name` for `ours`.
pub fn is_spelling_of(name: &str, ours: &str) -> bool {
    let fold = |b: u8| if b.is_ascii_alphanumeric() { b.to_ascii_lowercase() } else { b'-' };
    name.len() == ours.len() && name.bytes().map(fold).eq(ours.bytes().map(fold))
}

fn without_control_characters(value: &str) -> Cow<'_, str> {
    if value.chars().any(char::is_control) {
        Cow::Owned(value.chars().filter(|c| !c.is_control()).collect())
    } else {
        Cow::Borrowed(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Enforcement;
    use crate::gate_decision::{
        AccountFacts, Credential, Decision, ExternalCollaborator, Facts, Membership, OrganizationFacts,
        Owner, Sso, SsoSession, decide,
    };
    use crate::ids::{AccountId, OrganizationId};
    use crate::membership::Role;
    use crate::request_target::{Target, Unowned};
    use crate::time::{Lifetime, Timestamp};
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_000_000_000);

    fn headers(display_name: &'static str, sso_session: Option<SsoSession>) -> IdentityHeaders<'static> {
        let target = Target {
            organization: Some("acme".into()),
            resource: None,
            public: true,
            needed_role: Role::Read,
            unowned: Unowned::Deny,
        };
        let facts = Facts {
            credential: Credential::Session,
            account: Some(AccountFacts {
                id: AccountId::new(1, [1; 10]),
                name: "mira",
                display_name,
                email: "mira@fjordline.example",
            }),
            owner: Owner::Organization(OrganizationFacts {
                id: OrganizationId::new(1, [2; 10]),
                name: "Acme",
                sso: Sso::On { enforcement: Enforcement::Enforced, session_timeout: Lifetime::from_days(7) },
            }),
            membership: Some(Membership {
                role: Role::Contributor,
                external_collaborator: ExternalCollaborator::No,
            }),
            sso_session,
            resource_is_public: false,
        };
        let Decision::Allow(permit) = decide(&target, &facts, NOW) else { panic!("public") };
        identity_headers(&permit)
    }

    fn value<'h>(headers: &'h IdentityHeaders<'_>, name: &str) -> &'h str {
        &headers.iter().find(|(known, _)| *known == name).unwrap().1
    }

    #[test]
    fn v01_every_name_that_is_not_the_clients_is_known_for_it() {
        let known =
            IDENTITY_HEADER_NAMES.iter().chain(&OVERRIDE_HEADER_NAMES).chain(&FORWARDING_HEADER_NAMES);
        let more =
            ["X-Forwarded-For", "x-forwarded-anything", "Doorward-Later", "doorward-", "A_B", "a.b", "ä"];
        for name in known.chain(&more) {
            for spelled in [(*name).to_owned(), name.to_lowercase(), name.to_uppercase()] {
                assert!(is_not_the_clients(&spelled), "{spelled}");
                assert!(is_not_the_clients(&spelled.replace('-', "_")), "{spelled} with _");
            }
        }
        for name in
            ["Accept", "User-Agent", "Cookie", "X-Requested-With", "Sec-Fetch-Mode", "Referer", "Remote"]
        {
            assert!(!is_not_the_clients(name), "{name}");
        }
    }

    #[test]
    fn the_application_is_told_who_this_is_in_which_organization_and_role() {
        let session = SsoSession { authenticated_at: NOW, under_live_issuer: true };
        let headers = headers("Mira Holt", Some(session));
        for (name, expected) in [
            ("Remote-User", "mira"),
            ("Remote-Name", "Mira Holt"),
            ("Remote-Email", "mira@fjordline.example"),
            ("Remote-Groups", ""),
            ("Doorward-Account", &AccountId::new(1, [1; 10]).to_string()),
            ("Doorward-Organization", "Acme"),
            ("Doorward-Role", "contributor"),
            ("Doorward-Assertion", ""),
            ("Doorward-Sso", "complete"),
        ] {
            assert_eq!(value(&headers, name), expected, "{name}");
        }
    }

    #[test]
    fn v02_the_set_is_always_complete_and_empty_where_nothing_is_known() {
        let names = |headers: &IdentityHeaders<'_>| headers.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        assert_eq!(names(&empty_identity_headers()), IDENTITY_HEADER_NAMES);
        assert!(empty_identity_headers().iter().all(|(_, value)| value.is_empty()));

        let without_sso = headers("Mira Holt", None);
        assert_eq!(names(&without_sso), IDENTITY_HEADER_NAMES);
        assert_eq!(value(&without_sso, "Remote-User"), "mira");
        assert_eq!(value(&without_sso, "Doorward-Organization"), "");
        assert_eq!(value(&without_sso, "Doorward-Role"), "");
        assert_eq!(value(&without_sso, "Doorward-Sso"), "missing");
    }

    #[test]
    fn values_are_utf8_without_control_characters() {
        assert_eq!(
            value(&headers("Zoë\r\nDoorward-Role: admin\0\u{85}", None), "Remote-Name"),
            "ZoëDoorward-Role: admin"
        );
    }

    #[test]
    fn v01_each_spelling_that_a_server_could_take_for_ours_is_recognised() {
        for name in IDENTITY_HEADER_NAMES {
            for spelling in [
                name.to_owned(),
                name.to_lowercase(),
                name.to_uppercase(),
                name.replace('-', "_"),
                name.replace('-', "_").to_lowercase(),
                name.replace('-', "."),
                name.replace('-', "\0"),
                name.replace('-', " "),
                name.replace('-', "!"),
            ] {
                assert!(is_identity_header(&spelling), "{spelling:?}");
            }
        }
        assert!(is_identity_header("doorward_anything-new"));
        for other in
            ["Remote-Users", "Remote", "X-Remote-User", "Authorization", "Doorward", "Cookie", "", "é"]
        {
            assert!(!is_identity_header(other), "{other}");
        }
    }

    #[test]
    fn v10_headers_that_override_path_or_method_are_recognised() {
        for name in [
            "X-Original-URL",
            "x_rewrite_url",
            "X-HTTP-METHOD-OVERRIDE",
            "x-http-method",
            "X_Method_Override",
        ] {
            assert!(is_override_header(name), "{name}");
        }
        assert!(!is_override_header("X-Forwarded-For"));
    }

    #[test]
    fn v05_who_is_asking_for_what_and_from_where_is_not_the_clients_to_say() {
        for name in [
            "Forwarded",
            "x_real_ip",
            "X-Forwarded-For",
            "x-forwarded_prefix",
            "Proxy",
            "remote_user",
            "X-Rewrite-URL",
            "SCRIPT_NAME",
            "x.anything",
            "daphne-root-path",
        ] {
            assert!(is_not_the_clients(name), "{name}");
        }
        for name in ["Accept", "Cookie", "Authorization", "X-Forwarded", "Proxy-Agent", ""] {
            assert!(!is_not_the_clients(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_header_name_makes_the_recognition_panic(name in any::<String>()) {
            let _: (bool, bool) = (is_identity_header(&name), is_override_header(&name));
        }
    }
}
