//! What the signed assertion tells an application: the claims of `Doorward-Assertion` (architecture.md §6).
//!
//! In: a `Permit`, the organizations that are open to the person now, and now. Out: claims, to be signed by the server.
//! Invariant: organization and role are those of the permit, so one organization's role never travels with another's
//! request; and the assertion is over when the first SSO that it speaks of is.

use serde::Serialize;
use std::collections::BTreeMap;

use crate::gate_decision::{Permit, SsoStanding};
use crate::membership::Role;
use crate::time::{Lifetime, Timestamp};

/// How long an assertion counts at most (architecture.md §6).
pub const ASSERTION_LIFETIME: Lifetime = Lifetime::from_seconds(60);
/// Names in `organizations` take at most this many bytes, so that the whole answer stays within 4 KiB (conformance.md F22).
const ORGANIZATIONS_BYTES_MAX: usize = 1_000;

/// An organization whose pages are open to the person now.
#[derive(Clone, Debug)]
pub struct OpenOrganization {
    /// Its name as created.
    pub name: String,
    /// The person's role there.
    pub role: Role,
    /// When the SSO that opens it ends; `None` if none was needed.
    pub sso_ends_at: Option<Timestamp>,
}

/// The claims. Absent where nothing is known, never empty.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct AssertionClaims {
    /// Our base URL.
    pub iss: String,
    /// The application's name in the configuration.
    pub aud: String,
    /// The account's id: never given again.
    pub sub: String,
    /// Seconds since 1970.
    pub iat: i64,
    /// Seconds since 1970.
    pub exp: i64,
    /// The account's name.
    pub preferred_username: String,
    /// What the person wants to be called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The primary proved address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The organization of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    /// Its id: never given again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<String>,
    /// The role in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    /// `complete`, or `missing` where SSO is asked for and not done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sso: Option<&'static str>,
    /// Every organization that is open to the person now, with the role there: for pages across organizations.
    pub organizations: BTreeMap<String, &'static str>,
    /// There are more than fit.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub organizations_truncated: bool,
}

/// The claims for a request that goes on; `None` for a stranger. `open` is in the order in which names are dropped last.
pub fn assertion_claims(
    permit: &Permit<'_>,
    issuer: &str,
    audience: &str,
    open: &[OpenOrganization],
    now: Timestamp,
) -> Option<AssertionClaims> {
    let account = permit.account()?;
    let place = permit.place();
    let mut end = now.plus(ASSERTION_LIFETIME);
    // That of the request's own organization counts first, whether or not its name finds room below.
    let own =
        place.and_then(|place| open.iter().find(|organization| organization.name == place.organization));
    if let Some(ends) = own.and_then(|organization| organization.sso_ends_at) {
        end = end.min(ends);
    }
    let mut organizations = BTreeMap::new();
    let mut bytes = 0;
    for organization in open {
        bytes += organization.name.len() + organization.role.as_str().len() + 6;
        if bytes > ORGANIZATIONS_BYTES_MAX {
            break;
        }
        end = organization.sso_ends_at.map_or(end, |ends| end.min(ends));
        organizations.insert(organization.name.clone(), organization.role.as_str());
    }
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Some(AssertionClaims {
        iss: issuer.to_owned(),
        aud: audience.to_owned(),
        sub: account.id.to_string(),
        iat: now.millis().div_euclid(1000),
        exp: end.millis().div_euclid(1000),
        preferred_username: account.name.to_owned(),
        name: some(account.display_name),
        email: some(account.email),
        organization: place.map(|place| place.organization.to_owned()),
        organization_id: place.map(|place| place.organization_id.to_string()),
        role: place.map(|place| place.role.as_str()),
        sso: match permit.sso() {
            SsoStanding::Complete => Some("complete"),
            SsoStanding::Missing => Some("missing"),
            SsoStanding::None => None,
        },
        organizations_truncated: organizations.len() < open.len(),
        organizations,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate_decision::{
        AccountFacts, Credential, Decision, ExternalCollaborator, Facts, Membership, OrganizationFacts,
        Owner, Sso, SsoSession, decide,
    };
    use crate::ids::{AccountId, OrganizationId};
    use crate::request_target::{Target, Unowned};

    const NOW: Timestamp = Timestamp::from_seconds(1_000_000_000);

    fn claims(account: bool, sso_session: bool, open: &[OpenOrganization]) -> Option<AssertionClaims> {
        let target = Target {
            organization: Some("acme".into()),
            resource: None,
            public: true,
            needed_role: Role::Read,
            unowned: Unowned::Deny,
        };
        let session = SsoSession { authenticated_at: NOW, under_live_issuer: true };
        let facts = Facts {
            credential: Credential::Session,
            account: account.then_some(AccountFacts {
                id: AccountId::new(1, [1; 10]),
                name: "mira",
                display_name: "",
                email: "mira@acme.example",
            }),
            owner: Owner::Organization(OrganizationFacts {
                id: OrganizationId::new(1, [2; 10]),
                name: "Acme",
                sso: Sso::On {
                    enforcement: crate::connection::Enforcement::Enforced,
                    session_timeout: Lifetime::from_days(7),
                },
            }),
            membership: Some(Membership {
                role: Role::Write,
                external_collaborator: ExternalCollaborator::No,
            }),
            sso_session: sso_session.then_some(session),
            resource_is_public: false,
        };
        let Decision::Allow(permit) = decide(&target, &facts, NOW) else { panic!("public") };
        assertion_claims(&permit, "https://sso.example.com", "hub", open, NOW)
    }

    #[test]
    fn an_assertion_names_the_person_and_the_requests_organization_for_one_application() {
        let claims = claims(true, true, &[]).unwrap();
        assert_eq!(claims.sub, AccountId::new(1, [1; 10]).to_string());
        assert_eq!((claims.iss.as_str(), claims.aud.as_str()), ("https://sso.example.com", "hub"));
        assert_eq!((claims.organization.as_deref(), claims.role), (Some("Acme"), Some("write")));
        assert_eq!(claims.sso, Some("complete"));
        assert_eq!((claims.iat, claims.exp), (1_000_000_000, 1_000_000_060));
        assert_eq!(claims.name, None, "absent, never empty");
    }

    #[test]
    fn without_single_sign_on_an_assertion_has_neither_organization_nor_role() {
        let claims = claims(true, false, &[]).unwrap();
        assert_eq!((claims.organization, claims.organization_id, claims.role), (None, None, None));
        assert_eq!(claims.sso, Some("missing"));
    }

    #[test]
    fn a_stranger_has_no_assertion() {
        assert_eq!(claims(false, false, &[]), None);
    }

    #[test]
    fn an_assertion_ends_with_the_first_single_sign_on_that_it_speaks_of() {
        let open = |seconds| OpenOrganization {
            name: format!("org{seconds}"),
            role: Role::Read,
            sso_ends_at: Some(NOW.plus(Lifetime::from_seconds(seconds))),
        };
        assert_eq!(claims(true, true, &[open(900), open(20)]).unwrap().exp, 1_000_000_020);
    }

    #[test]
    fn an_assertion_ends_with_the_single_sign_on_of_its_own_organization_even_where_its_name_found_no_room() {
        let of = |name: String, sso_ends_at| OpenOrganization { name, role: Role::Write, sso_ends_at };
        let mut open: Vec<OpenOrganization> = (0..500).map(|n| of(format!("aardvark-{n}"), None)).collect();
        open.push(of("Acme".to_owned(), Some(NOW.plus(Lifetime::from_seconds(20)))));
        let claims = claims(true, true, &open).unwrap();
        assert_eq!(claims.organization.as_deref(), Some("Acme"));
        assert!(!claims.organizations.contains_key("Acme"), "it is beyond the cut");
        assert_eq!(claims.exp, 1_000_000_020);
    }

    #[test]
    fn f22_many_organizations_do_not_make_an_answer_too_long_for_a_proxy() {
        let open: Vec<OpenOrganization> = (0..500)
            .map(|n| OpenOrganization {
                name: format!("organization-{n}"),
                role: Role::Read,
                sso_ends_at: None,
            })
            .collect();
        let claims = claims(true, true, &open).unwrap();
        assert!(claims.organizations_truncated);
        assert!(serde_json::to_string(&claims).unwrap().len() < 2_000);
    }
}
