//! Decides what the proxy does with one request (architecture.md §4, steps 2 to 6).
//!
//! In: facts already loaded (target, account, organization, membership, SSO session) and now. Out: a `Decision`.
//! Never here: HTTP types, the store, the clock. Adapters live in the server's `gate/`. An ambiguous request or a store
//! that can't be reached never comes here: they are errors of the caller, answered with 400 and 503 (rule 15).
//! Invariant: identity headers need a `Permit`, and only `decide` makes one.
//! Read next: `identity_headers.rs`.

use crate::connection::{Enforcement, sso_session_ends_at};
use crate::error_code::ErrorCode;
use crate::ids::{AccountId, OrganizationId};
use crate::membership::Role;
use crate::request_target::{Target, Unowned};
use crate::time::{Lifetime, Timestamp};

/// What was loaded for one request. Borrowed: a decision copies nothing.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The account that the browser session belongs to, if there is a good one.
    pub account: Option<AccountFacts<'a>>,
    /// Whose name the target's organization segment is; `Nobody` for a target without one.
    pub owner: Owner<'a>,
    /// The account's membership in that organization.
    pub membership: Option<Membership>,
    /// The browser session's SSO session for that organization.
    pub sso_session: Option<SsoSession>,
    /// The target's resource is registered as public. `false` for a resource that nobody registered.
    pub resource_is_public: bool,
}

/// The account that is signed in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AccountFacts<'a> {
    /// Never given again: what an application keys on.
    pub id: AccountId,
    /// The account's name as created.
    pub name: &'a str,
    /// What the person wants to be called; may be empty.
    pub display_name: &'a str,
    /// The primary address if it is proved, else empty (rule 13).
    pub email: &'a str,
}

/// Whose the name in the path is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner<'a> {
    /// No organization has or had this name, or the path names none.
    Nobody,
    /// An organization that is gone. Its name is never given again, and nothing is left to see.
    DeletedOrganization,
    /// An organization.
    Organization(OrganizationFacts<'a>),
}

/// The organization that the path belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OrganizationFacts<'a> {
    /// Its identifier.
    pub id: OrganizationId,
    /// Its name as created.
    pub name: &'a str,
    /// Its single sign-on.
    pub sso: Sso,
}

/// An organization's single sign-on, as far as the gate cares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sso {
    /// No live connection.
    Off,
    /// A live connection.
    On {
        /// Needed, or only asked for.
        enforcement: Enforcement,
        /// How long after its beginning an SSO session counts.
        session_timeout: Lifetime,
    },
}

/// The account's place in the organization.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Membership {
    /// What he may do.
    pub role: Role,
    /// Whether he is spared SSO.
    pub external_collaborator: ExternalCollaborator,
}

/// Whether a member is an external collaborator, who needs no SSO (hub-sso.md M8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExternalCollaborator {
    /// An ordinary member.
    No,
    /// Without an end.
    Yes,
    /// Until then; afterwards he needs SSO as everybody.
    Until(Timestamp),
}

/// Proof, inside a browser session, that SSO was completed for the organization.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SsoSession {
    /// When the person signed in at the identity provider.
    pub authenticated_at: Timestamp,
    /// The issuer it came from is still that of the live revision.
    pub under_live_issuer: bool,
}

/// What happens to a request. There is no fourth answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision<'a> {
    /// It goes on to the application, with these facts about the person.
    Allow(Permit<'a>),
    /// The person has to do something first.
    Authenticate(Step),
    /// It does not go on.
    Deny(DenyReason),
}

/// What a person has to do before the request can go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Sign in to the account.
    SignIn,
    /// Complete the organization's single sign-on.
    CompleteSso,
}

impl Step {
    /// The code of the 401 for whoever can't be redirected.
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::SignIn => ErrorCode::AccountSignInNeeded,
            Self::CompleteSso => ErrorCode::SsoRequired,
        }
    }
}

/// Why a request is denied: for the log and the audit, never for the person, who gets one 403 for all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DenyReason {
    /// The path belongs to no organization, and the application wants such paths closed.
    Unowned,
    /// The path belonged to an organization that is gone.
    OrganizationDeleted,
    /// The account is no member.
    NotMember,
    /// The member's role is too low.
    RoleTooLow,
}

impl DenyReason {
    /// The reason's name in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unowned => "unowned",
            Self::OrganizationDeleted => "organization_deleted",
            Self::NotMember => "not_member",
            Self::RoleTooLow => "role_too_low",
        }
    }

    /// The one code that every reason shows, so that it tells nothing of what exists.
    pub const fn code(self) -> ErrorCode {
        ErrorCode::GateForbidden
    }
}

/// Where the member stands with the organization's single sign-on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SsoStanding {
    /// Completed, and still good.
    Complete,
    /// The organization has SSO, and this member has none that is still good.
    Missing,
    /// Nothing to complete: no organization, no membership, no SSO, or an external collaborator.
    None,
}

/// Leave to go on, and what the application may know about the person. Only [`decide`] makes one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Permit<'a> {
    account: Option<AccountFacts<'a>>,
    place: Option<Place<'a>>,
    sso: SsoStanding,
    banner: bool,
}

/// The organization of the request and the member's role there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place<'a> {
    /// The organization's identifier.
    pub organization_id: OrganizationId,
    /// The organization's name as created.
    pub organization: &'a str,
    /// The member's role.
    pub role: Role,
}

impl<'a> Permit<'a> {
    /// Who asks; `None` for a stranger on a public page.
    pub const fn account(&self) -> Option<AccountFacts<'a>> {
        self.account
    }

    /// The request's organization and the role there; `None` whenever SSO is needed and missing, on public pages too.
    pub const fn place(&self) -> Option<Place<'a>> {
        self.place
    }

    /// Where the member stands with the organization's SSO.
    pub const fn sso(&self) -> SsoStanding {
        self.sso
    }

    /// SSO is optional here and missing: the application's page should ask for it (hub-sso.md M3).
    pub const fn banner(&self) -> bool {
        self.banner
    }
}

/// Decides. The order is the order of architecture.md §4.
pub fn decide<'a>(target: &Target<'_>, facts: &Facts<'a>, now: Timestamp) -> Decision<'a> {
    let organization = match (&target.organization, facts.owner) {
        (Some(_), Owner::Organization(organization)) => Some(organization),
        (Some(_), Owner::DeletedOrganization | Owner::Nobody) | (None, _) => None,
    };
    let standing = Standing::of(organization, facts, now);

    // Step 2: what is open to everybody, and what belongs to nobody.
    let public_resource = organization.is_some() && target.resource.is_some() && facts.resource_is_public;
    if target.public || public_resource {
        return Decision::Allow(standing.permit(facts));
    }
    let Some(_) = organization else {
        return decide_without_organization(target, facts, &standing);
    };

    // Step 3: an account. Step 4: a place in the organization, high enough.
    if facts.account.is_none() {
        return Decision::Authenticate(Step::SignIn);
    }
    let Some(membership) = facts.membership else {
        return Decision::Deny(DenyReason::NotMember);
    };
    if membership.role == Role::NoAccess || membership.role < target.needed_role {
        return Decision::Deny(DenyReason::RoleTooLow);
    }

    // Step 5: the organization's single sign-on. Step 6: go on.
    if standing.sso_is_owed {
        return Decision::Authenticate(Step::CompleteSso);
    }
    Decision::Allow(standing.permit(facts))
}

fn decide_without_organization<'a>(
    target: &Target<'_>,
    facts: &Facts<'a>,
    standing: &Standing<'a>,
) -> Decision<'a> {
    let deleted = target.organization.is_some() && facts.owner == Owner::DeletedOrganization;
    let policy = if deleted { Unowned::Deny } else { target.unowned };
    match (policy, facts.account) {
        (Unowned::Allow, _) | (Unowned::SignedIn, Some(_)) => Decision::Allow(standing.permit(facts)),
        (Unowned::SignedIn, None) => Decision::Authenticate(Step::SignIn),
        // A stranger learns nothing of which organizations exist: he is asked to sign in at a name that nobody has, as
        // at one that somebody has.
        (Unowned::Deny, None) if target.organization.is_some() => Decision::Authenticate(Step::SignIn),
        (Unowned::Deny, _) if deleted => Decision::Deny(DenyReason::OrganizationDeleted),
        (Unowned::Deny, _) => Decision::Deny(DenyReason::Unowned),
    }
}

/// How the account stands with the request's organization, whatever is asked for.
struct Standing<'a> {
    place: Option<Place<'a>>,
    sso: SsoStanding,
    /// Step 5 fails: SSO is enforced, this member is not spared it, and it is missing.
    sso_is_owed: bool,
}

impl<'a> Standing<'a> {
    const NONE: Self = Self { place: None, sso: SsoStanding::None, sso_is_owed: false };

    fn of(organization: Option<OrganizationFacts<'a>>, facts: &Facts<'a>, now: Timestamp) -> Self {
        let (Some(organization), Some(_), Some(membership)) = (organization, facts.account, facts.membership)
        else {
            return Self::NONE;
        };
        if membership.role == Role::NoAccess {
            return Self::NONE;
        }
        let place = Place {
            organization_id: organization.id,
            organization: organization.name,
            role: membership.role,
        };
        let Sso::On { enforcement, session_timeout } = organization.sso else {
            return Self { place: Some(place), ..Self::NONE };
        };
        let complete = facts.sso_session.is_some_and(|session| {
            session.under_live_issuer && now < sso_session_ends_at(session.authenticated_at, session_timeout)
        });
        let spared = match membership.external_collaborator {
            ExternalCollaborator::No => false,
            ExternalCollaborator::Yes => true,
            ExternalCollaborator::Until(end) => now < end,
        };
        let sso = match (complete, spared) {
            (true, _) => SsoStanding::Complete,
            (false, true) => SsoStanding::None,
            (false, false) => SsoStanding::Missing,
        };
        let sso_is_owed = sso == SsoStanding::Missing && enforcement == Enforcement::Enforced;
        Self { place: (!sso_is_owed).then_some(place), sso, sso_is_owed }
    }

    fn permit(&self, facts: &Facts<'a>) -> Permit<'a> {
        Permit {
            account: facts.account,
            place: self.place,
            sso: self.sso,
            banner: self.sso == SsoStanding::Missing && !self.sso_is_owed,
        }
    }
}
