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
    /// What speaks for the account.
    pub credential: Credential,
    /// The account that the credential belongs to, if it is a good one.
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

/// What speaks for the account. One credential decides: a token is looked at, and the cookie beside it is not
/// (docs/adr/0040).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Credential {
    /// A browser session, or nothing.
    Session,
    /// A personal access token that is good.
    Token(TokenFacts),
    /// A token of ours that is unknown, over, revoked or malformed. It opens nothing, not even what is open to everybody:
    /// whoever sends it learns so at once.
    BadToken,
}

/// A personal access token, as the request's organization sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenFacts {
    /// It gives at most this role, whatever its owner's is.
    pub ceiling: Role,
    /// Its owner's word, given in an SSO session, that it may reach the organization.
    pub authorization: Option<TokenAuthorization>,
}

/// That a token may reach an organization with SSO.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenAuthorization {
    /// It was given, and its owner's last SSO completed, under the issuer that is live now.
    pub under_live_issuer: bool,
    /// When the owner's last SSO is too long ago.
    pub ends_at: Timestamp,
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

impl ExternalCollaborator {
    /// Whether he is spared SSO at `now`.
    pub fn spares(self, now: Timestamp) -> bool {
        match self {
            Self::No => false,
            Self::Yes => true,
            Self::Until(end) => now < end,
        }
    }
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
    /// Send a token that is good, or none.
    PresentToken,
    /// Let the token reach the organization, in an SSO session.
    AuthorizeToken,
}

impl Step {
    /// The code of the answer for whoever can't be redirected.
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::SignIn => ErrorCode::AccountSignInNeeded,
            Self::CompleteSso => ErrorCode::SsoRequired,
            Self::PresentToken => ErrorCode::TokenInvalid,
            Self::AuthorizeToken => ErrorCode::TokenSsoAuthorizationRequired,
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
    /// The member's role would do, but his token gives less.
    AboveCeiling,
}

impl DenyReason {
    /// The reason's name in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unowned => "unowned",
            Self::OrganizationDeleted => "organization_deleted",
            Self::NotMember => "not_member",
            Self::RoleTooLow => "role_too_low",
            Self::AboveCeiling => "above_ceiling",
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

/// What a decision rests on, for whoever asks why. Decides nothing: [`decide_and_say_why`] gives it beside the decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ground {
    /// A token of ours was sent that is none, or no more.
    BadToken,
    /// The operator declared the path public.
    PublicPath,
    /// The resource is registered as public, and the request only reads.
    PublicResource,
    /// The path belongs to no organization: the application's `unowned` decides.
    Unowned,
    /// Nobody has the name in the path, and whoever asks is not signed in: he is answered as at a name that somebody has.
    UnownedName,
    /// The organization is gone.
    OrganizationDeleted,
    /// Nobody is signed in.
    NoAccount,
    /// The account is no member.
    NotMember,
    /// The member's role is too low.
    RoleTooLow,
    /// The token's ceiling is too low, though the member's role is not.
    AboveCeiling,
    /// SSO is enforced, and this member has none that is still good.
    SsoMissing,
    /// SSO is enforced, and the token is not authorised for the organization, or no more.
    TokenNotAuthorized,
    /// SSO is optional here and missing.
    SsoSkipped,
    /// Nothing is against it.
    NothingAgainst,
}

impl Ground {
    /// All grounds.
    pub const ALL: [Self; 14] = [
        Self::BadToken,
        Self::PublicPath,
        Self::PublicResource,
        Self::Unowned,
        Self::UnownedName,
        Self::OrganizationDeleted,
        Self::NoAccount,
        Self::NotMember,
        Self::RoleTooLow,
        Self::AboveCeiling,
        Self::SsoMissing,
        Self::TokenNotAuthorized,
        Self::SsoSkipped,
        Self::NothingAgainst,
    ];

    /// Its name for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadToken => "bad_token",
            Self::PublicPath => "public_path",
            Self::PublicResource => "public_resource",
            Self::Unowned => "unowned",
            Self::UnownedName => "unowned_name",
            Self::OrganizationDeleted => "organization_deleted",
            Self::NoAccount => "no_account",
            Self::NotMember => "not_member",
            Self::RoleTooLow => "role_too_low",
            Self::AboveCeiling => "above_ceiling",
            Self::SsoMissing => "sso_missing",
            Self::TokenNotAuthorized => "token_not_authorized",
            Self::SsoSkipped => "sso_skipped",
            Self::NothingAgainst => "nothing_against",
        }
    }

    /// The step of architecture.md §4 that decided. Step 1 refuses before there is a decision.
    pub const fn step(self) -> u8 {
        match self {
            Self::PublicPath
            | Self::PublicResource
            | Self::Unowned
            | Self::UnownedName
            | Self::OrganizationDeleted => 2,
            // Judged first of all, on public pages too: who it is that asks.
            Self::BadToken | Self::NoAccount => 3,
            Self::NotMember | Self::RoleTooLow | Self::AboveCeiling => 4,
            Self::SsoMissing | Self::TokenNotAuthorized | Self::SsoSkipped => 5,
            Self::NothingAgainst => 6,
        }
    }

    /// In words.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::BadToken => "The access token is unknown, over, or not whole.",
            Self::PublicPath => "The path is declared public.",
            Self::PublicResource => "The resource is public, and the request only reads.",
            Self::Unowned => "The path belongs to no organization, so the application's `unowned` decides.",
            Self::UnownedName => {
                "Nobody has the organization's name, but a stranger is asked to sign in as if somebody had it."
            }
            Self::OrganizationDeleted => "The organization was deleted; its name stays closed.",
            Self::NoAccount => "Nobody is signed in.",
            Self::NotMember => "The account is not a member of the organization.",
            Self::RoleTooLow => "The member's role is lower than the one that is needed.",
            Self::AboveCeiling => "The access token's ceiling is lower than the role that is needed.",
            Self::TokenNotAuthorized => {
                "The organization enforces single sign-on, and the access token is not authorised for it."
            }
            Self::SsoMissing => {
                "The organization enforces single sign-on, and the member has none that is still good."
            }
            Self::SsoSkipped => "Single sign-on is optional here and missing, so the banner asks for it.",
            Self::NothingAgainst => "The member's role is high enough, and no single sign-on is missing.",
        }
    }
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

/// Decides.
pub fn decide<'a>(target: &Target<'_>, facts: &Facts<'a>, now: Timestamp) -> Decision<'a> {
    decide_and_say_why(target, facts, now).0
}

/// Decides, and says on what ground. The order is the order of architecture.md §4.
pub fn decide_and_say_why<'a>(
    target: &Target<'_>,
    facts: &Facts<'a>,
    now: Timestamp,
) -> (Decision<'a>, Ground) {
    if facts.credential == Credential::BadToken {
        return (Decision::Authenticate(Step::PresentToken), Ground::BadToken);
    }
    let organization = match (&target.organization, facts.owner) {
        (Some(_), Owner::Organization(organization)) => Some(organization),
        (Some(_), Owner::DeletedOrganization | Owner::Nobody) | (None, _) => None,
    };
    let standing = Standing::of(organization, facts, now);

    // Step 2: what is open to everybody, and what belongs to nobody. A public resource is open for reading; who writes,
    // or meets a rule that asks for more, goes through the steps below (docs/adr/0017).
    let reads = target.needed_role <= Role::Read;
    let public_resource =
        organization.is_some() && target.resource.is_some() && facts.resource_is_public && reads;
    if target.public || public_resource {
        let ground = if target.public { Ground::PublicPath } else { Ground::PublicResource };
        return (Decision::Allow(standing.permit(facts)), ground);
    }
    let Some(_) = organization else {
        return decide_without_organization(target, facts, &standing);
    };

    // Step 3: an account. Step 4: a place in the organization, high enough.
    if facts.account.is_none() {
        return (Decision::Authenticate(Step::SignIn), Ground::NoAccount);
    }
    let Some(membership) = facts.membership else {
        return (Decision::Deny(DenyReason::NotMember), Ground::NotMember);
    };
    if membership.role == Role::NoAccess || membership.role < target.needed_role {
        return (Decision::Deny(DenyReason::RoleTooLow), Ground::RoleTooLow);
    }
    if facts.credential.role(membership.role) < target.needed_role {
        return (Decision::Deny(DenyReason::AboveCeiling), Ground::AboveCeiling);
    }

    // Step 5: the organization's single sign-on. Step 6: go on.
    if standing.sso_is_owed {
        return match facts.credential {
            Credential::Token(_) => {
                (Decision::Authenticate(Step::AuthorizeToken), Ground::TokenNotAuthorized)
            }
            Credential::Session | Credential::BadToken => {
                (Decision::Authenticate(Step::CompleteSso), Ground::SsoMissing)
            }
        };
    }
    let permit = standing.permit(facts);
    let ground = if permit.banner { Ground::SsoSkipped } else { Ground::NothingAgainst };
    (Decision::Allow(permit), ground)
}

/// Whether an organization's pages are open to a member now, as far as its single sign-on goes (step 5); `None` if they
/// are not, else his role there and when the SSO that opens them ends, or his being spared it (`None`: none is needed).
pub fn open_until(
    organization: OrganizationFacts<'_>,
    membership: Membership,
    credential: Credential,
    sso_session: Option<SsoSession>,
    now: Timestamp,
) -> Option<(Role, Option<Timestamp>)> {
    let standing = Standing::of_member(organization, membership, credential, sso_session, now);
    let role = standing.place?.role;
    let ends = match (standing.sso, organization.sso, membership.external_collaborator) {
        (SsoStanding::Complete, _, _) => credential.sso_ends_at(organization.sso, sso_session),
        (
            SsoStanding::None,
            Sso::On { enforcement: Enforcement::Enforced, .. },
            ExternalCollaborator::Until(end),
        ) => Some(end),
        _ => None,
    };
    Some((role, ends))
}

impl Credential {
    /// What a member's role comes to.
    fn role(self, role: Role) -> Role {
        match self {
            Self::Session | Self::BadToken => role,
            Self::Token(token) => role.min(token.ceiling),
        }
    }

    /// When the proof of SSO ends that comes with the credential, if there is one under the live issuer: for a browser its
    /// SSO session, for a token its authorisation. Neither stands in for the other.
    fn sso_ends_at(self, sso: Sso, sso_session: Option<SsoSession>) -> Option<Timestamp> {
        let Sso::On { session_timeout, .. } = sso else { return None };
        match self {
            Self::Session => sso_session
                .filter(|session| session.under_live_issuer)
                .map(|session| sso_session_ends_at(session.authenticated_at, session_timeout)),
            Self::Token(token) => token
                .authorization
                .filter(|authorization| authorization.under_live_issuer)
                .map(|authorization| authorization.ends_at),
            Self::BadToken => None,
        }
    }
}

fn decide_without_organization<'a>(
    target: &Target<'_>,
    facts: &Facts<'a>,
    standing: &Standing<'a>,
) -> (Decision<'a>, Ground) {
    let deleted = target.organization.is_some() && facts.owner == Owner::DeletedOrganization;
    let policy = if deleted { Unowned::Deny } else { target.unowned };
    match (policy, facts.account) {
        (Unowned::Allow, _) | (Unowned::SignedIn, Some(_)) => {
            (Decision::Allow(standing.permit(facts)), Ground::Unowned)
        }
        (Unowned::SignedIn, None) => (Decision::Authenticate(Step::SignIn), Ground::Unowned),
        // A stranger learns nothing of which organizations exist: he is asked to sign in at a name that nobody has, as
        // at one that somebody has.
        (Unowned::Deny, None) if target.organization.is_some() => {
            let ground = if deleted { Ground::OrganizationDeleted } else { Ground::UnownedName };
            (Decision::Authenticate(Step::SignIn), ground)
        }
        (Unowned::Deny, _) if deleted => {
            (Decision::Deny(DenyReason::OrganizationDeleted), Ground::OrganizationDeleted)
        }
        (Unowned::Deny, _) => (Decision::Deny(DenyReason::Unowned), Ground::Unowned),
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
        Self::of_member(organization, membership, facts.credential, facts.sso_session, now)
    }

    fn of_member(
        organization: OrganizationFacts<'a>,
        membership: Membership,
        credential: Credential,
        sso_session: Option<SsoSession>,
        now: Timestamp,
    ) -> Self {
        let role = credential.role(membership.role);
        if role == Role::NoAccess {
            return Self::NONE;
        }
        let place = Place { organization_id: organization.id, organization: organization.name, role };
        let Sso::On { enforcement, .. } = organization.sso else {
            return Self { place: Some(place), ..Self::NONE };
        };
        let complete = credential.sso_ends_at(organization.sso, sso_session).is_some_and(|ends| now < ends);
        let sso = match (complete, membership.external_collaborator.spares(now)) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request_target::ResourceKey;
    use std::borrow::Cow;

    const NOW: Timestamp = Timestamp::from_seconds(1_000_000_000);
    const WEEK: Lifetime = Lifetime::from_days(7);
    const ENFORCED: Sso = Sso::On { enforcement: Enforcement::Enforced, session_timeout: WEEK };
    const OPTIONAL: Sso = Sso::On { enforcement: Enforcement::Optional, session_timeout: WEEK };

    fn mira() -> AccountFacts<'static> {
        AccountFacts {
            id: AccountId::new(1, [1; 10]),
            name: "mira",
            display_name: "Mira Holt",
            email: "mira@fjordline.example",
        }
    }

    fn acme(sso: Sso) -> Owner<'static> {
        Owner::Organization(OrganizationFacts { id: OrganizationId::new(1, [2; 10]), name: "Acme", sso })
    }

    fn member(role: Role) -> Membership {
        Membership { role, external_collaborator: ExternalCollaborator::No }
    }

    fn session(age: Lifetime) -> SsoSession {
        SsoSession { authenticated_at: NOW.minus(age), under_live_issuer: true }
    }

    /// A member with the role read, SSO enforced and completed a minute ago.
    fn good() -> Facts<'static> {
        Facts {
            credential: Credential::Session,
            account: Some(mira()),
            owner: acme(ENFORCED),
            membership: Some(member(Role::Read)),
            sso_session: Some(session(Lifetime::from_minutes(1))),
            resource_is_public: false,
        }
    }

    fn private() -> Target<'static> {
        Target {
            organization: Some(Cow::Borrowed("acme")),
            resource: Some(ResourceKey { prefix: "", name: Cow::Borrowed("x") }),
            public: false,
            needed_role: Role::Read,
            unowned: Unowned::Deny,
        }
    }

    fn outside(unowned: Unowned) -> Target<'static> {
        Target { organization: None, resource: None, unowned, ..private() }
    }

    /// Account, role at the organization, standing and banner of a permit.
    type Seen = (Option<&'static str>, Option<Role>, SsoStanding, bool);

    fn allowed(target: &Target<'_>, facts: &Facts<'static>) -> Seen {
        match decide(target, facts, NOW) {
            Decision::Allow(permit) => (
                permit.account().map(|account| account.name),
                permit.place().map(|place| place.role),
                permit.sso(),
                permit.banner(),
            ),
            other => panic!("{other:?}"),
        }
    }

    const SIGN_IN: Decision<'static> = Decision::Authenticate(Step::SignIn);
    const COMPLETE_SSO: Decision<'static> = Decision::Authenticate(Step::CompleteSso);

    #[test]
    fn m1_account_first_then_membership_then_sso_then_in() {
        let (target, mut facts) =
            (private(), Facts { account: None, membership: None, sso_session: None, ..good() });
        assert_eq!(decide(&target, &facts, NOW), SIGN_IN);
        facts.account = Some(mira());
        assert_eq!(decide(&target, &facts, NOW), Decision::Deny(DenyReason::NotMember));
        facts.membership = Some(member(Role::Read));
        assert_eq!(decide(&target, &facts, NOW), COMPLETE_SSO);
        facts.sso_session = Some(session(Lifetime::from_minutes(1)));
        assert_eq!(allowed(&target, &facts), (Some("mira"), Some(Role::Read), SsoStanding::Complete, false));
    }

    #[test]
    fn m2_enforced_without_sso_nothing_private_is_reached_with_any_role_or_method() {
        for role in [Role::Read, Role::Contributor, Role::Write, Role::Admin] {
            let facts = Facts { membership: Some(member(role)), sso_session: None, ..good() };
            for needed_role in Role::ALL.into_iter().filter(|needed| *needed <= role) {
                let target = Target { needed_role, ..private() };
                assert_eq!(decide(&target, &facts, NOW), COMPLETE_SSO, "{role} {needed_role}");
            }
        }
    }

    #[test]
    fn m3_optional_sso_lets_in_and_asks_by_the_banner() {
        let facts = Facts { owner: acme(OPTIONAL), sso_session: None, ..good() };
        assert_eq!(allowed(&private(), &facts), (Some("mira"), Some(Role::Read), SsoStanding::Missing, true));
        let facts = Facts { owner: acme(OPTIONAL), ..good() };
        assert_eq!(
            allowed(&private(), &facts),
            (Some("mira"), Some(Role::Read), SsoStanding::Complete, false)
        );
    }

    #[test]
    fn m4_public_paths_and_resources_are_open_to_everyone() {
        let stranger = Facts { account: None, membership: None, sso_session: None, ..good() };
        let public_path = Target { public: true, ..private() };
        let nothing = (None, None, SsoStanding::None, false);
        assert_eq!(allowed(&public_path, &stranger), nothing);
        assert_eq!(allowed(&private(), &Facts { resource_is_public: true, ..stranger }), nothing);
        assert_eq!(
            decide(&private(), &stranger, NOW),
            SIGN_IN,
            "a resource that nobody registered is private"
        );
    }

    #[test]
    fn m4_a_public_resource_is_open_for_reading_and_not_for_writing() {
        let stranger =
            Facts { account: None, membership: None, sso_session: None, resource_is_public: true, ..good() };
        let writes = Target { needed_role: Role::Write, ..private() };
        assert_eq!(decide(&writes, &stranger, NOW), Decision::Authenticate(Step::SignIn));
        let reader = Facts { resource_is_public: true, ..good() };
        assert_eq!(decide(&writes, &reader, NOW), Decision::Deny(DenyReason::RoleTooLow));
        // What the operator declares as a public path is open to every method: a webhook, say.
        let declared = Target { public: true, ..writes };
        assert!(matches!(decide(&declared, &stranger, NOW), Decision::Allow(_)));
    }

    #[test]
    fn m4_on_a_public_page_organization_and_role_are_empty_while_sso_is_missing() {
        let public = Target { public: true, ..private() };
        assert_eq!(allowed(&public, &good()), (Some("mira"), Some(Role::Read), SsoStanding::Complete, false));
        let without = Facts { sso_session: None, ..good() };
        assert_eq!(allowed(&public, &without), (Some("mira"), None, SsoStanding::Missing, false));
        let foreign = Facts { membership: None, ..good() };
        assert_eq!(allowed(&public, &foreign), (Some("mira"), None, SsoStanding::None, false));
        let no_access = Facts { membership: Some(member(Role::NoAccess)), ..good() };
        assert_eq!(allowed(&public, &no_access), (Some("mira"), None, SsoStanding::None, false));
    }

    #[test]
    fn m4_a_public_flag_opens_nothing_outside_a_resource_of_an_organization_that_exists() {
        let facts = Facts { account: None, resource_is_public: true, ..good() };
        let no_resource = Target { resource: None, ..private() };
        assert_eq!(decide(&no_resource, &facts, NOW), SIGN_IN);
        for owner in [Owner::DeletedOrganization, Owner::Nobody] {
            assert_eq!(decide(&private(), &Facts { owner, ..facts }, NOW), SIGN_IN);
        }
        assert_eq!(decide(&outside(Unowned::Deny), &facts, NOW), Decision::Deny(DenyReason::Unowned));
    }

    #[test]
    fn m6_the_sso_session_ends_when_the_organizations_time_out_of_this_moment_has_passed() {
        let just_before = Lifetime::from_millis(WEEK.millis() - 1);
        assert!(matches!(
            decide(&private(), &Facts { sso_session: Some(session(just_before)), ..good() }, NOW),
            Decision::Allow(_)
        ));
        assert_eq!(
            decide(&private(), &Facts { sso_session: Some(session(WEEK)), ..good() }, NOW),
            COMPLETE_SSO
        );

        let shorter =
            Sso::On { enforcement: Enforcement::Enforced, session_timeout: Lifetime::from_hours(1) };
        let facts =
            Facts { owner: acme(shorter), sso_session: Some(session(Lifetime::from_hours(2))), ..good() };
        assert_eq!(decide(&private(), &facts, NOW), COMPLETE_SSO);
    }

    #[test]
    fn a_new_live_issuer_ends_the_sso_sessions_of_the_old_one() {
        let old = SsoSession { authenticated_at: NOW, under_live_issuer: false };
        assert_eq!(decide(&private(), &Facts { sso_session: Some(old), ..good() }, NOW), COMPLETE_SSO);
    }

    #[test]
    fn without_a_live_connection_no_sso_is_asked_for() {
        let facts = Facts { owner: acme(Sso::Off), sso_session: None, ..good() };
        assert_eq!(allowed(&private(), &facts), (Some("mira"), Some(Role::Read), SsoStanding::None, false));
    }

    #[test]
    fn m8_an_external_collaborator_needs_no_sso_until_his_time_is_over() {
        let collaborator = |external_collaborator| Facts {
            membership: Some(Membership { role: Role::Read, external_collaborator }),
            sso_session: None,
            ..good()
        };
        let later = NOW.plus(Lifetime::from_millis(1));
        let spared = (Some("mira"), Some(Role::Read), SsoStanding::None, false);
        assert_eq!(allowed(&private(), &collaborator(ExternalCollaborator::Yes)), spared);
        assert_eq!(allowed(&private(), &collaborator(ExternalCollaborator::Until(later))), spared);
        assert_eq!(decide(&private(), &collaborator(ExternalCollaborator::Until(NOW)), NOW), COMPLETE_SSO);

        let write = Target { needed_role: Role::Write, ..private() };
        let low = decide(&write, &collaborator(ExternalCollaborator::Yes), NOW);
        assert_eq!(
            low,
            Decision::Deny(DenyReason::RoleTooLow),
            "the organization's access control holds for him too"
        );
    }

    #[test]
    fn m10_a_role_opens_what_it_reaches_and_nothing_above() {
        for role in Role::ALL {
            for needed_role in Role::ALL {
                let target = Target { needed_role, ..private() };
                let decision = decide(&target, &Facts { membership: Some(member(role)), ..good() }, NOW);
                if role >= needed_role && role != Role::NoAccess {
                    assert!(matches!(decision, Decision::Allow(_)), "{role} {needed_role}");
                } else {
                    assert_eq!(decision, Decision::Deny(DenyReason::RoleTooLow), "{role} {needed_role}");
                }
            }
        }
    }

    #[test]
    fn a_role_that_is_too_low_is_refused_before_sso_is_asked_for() {
        let target = Target { needed_role: Role::Admin, ..private() };
        let facts = Facts { sso_session: None, ..good() };
        assert_eq!(decide(&target, &facts, NOW), Decision::Deny(DenyReason::RoleTooLow));
    }

    #[test]
    fn a_path_without_an_organization_follows_the_applications_policy() {
        let somebody = Facts { owner: Owner::Nobody, membership: None, sso_session: None, ..good() };
        let stranger = Facts { account: None, ..somebody };
        let denied = Decision::Deny(DenyReason::Unowned);
        assert_eq!(decide(&outside(Unowned::Deny), &stranger, NOW), denied);
        assert_eq!(decide(&outside(Unowned::Deny), &somebody, NOW), denied);
        assert_eq!(decide(&outside(Unowned::SignedIn), &stranger, NOW), SIGN_IN);
        assert_eq!(
            allowed(&outside(Unowned::SignedIn), &somebody),
            (Some("mira"), None, SsoStanding::None, false)
        );
        assert_eq!(allowed(&outside(Unowned::Allow), &stranger), (None, None, SsoStanding::None, false));
    }

    #[test]
    fn facts_of_an_organization_that_the_path_does_not_name_count_for_nothing() {
        assert_eq!(
            allowed(&outside(Unowned::SignedIn), &good()),
            (Some("mira"), None, SsoStanding::None, false)
        );
    }

    #[test]
    fn a_name_that_nobody_has_is_unowned_and_a_stranger_can_not_tell_it_from_one_that_exists() {
        let unknown = Facts { owner: Owner::Nobody, membership: None, sso_session: None, ..good() };
        let stranger = Facts { account: None, ..unknown };
        assert_eq!(decide(&private(), &stranger, NOW), SIGN_IN);
        assert_eq!(decide(&private(), &unknown, NOW), Decision::Deny(DenyReason::Unowned));
        let open = Target { unowned: Unowned::Allow, ..private() };
        assert!(matches!(decide(&open, &stranger, NOW), Decision::Allow(_)));
    }

    #[test]
    fn rule_7_a_deleted_organizations_name_stays_closed_whatever_the_policy() {
        for unowned in [Unowned::Deny, Unowned::SignedIn, Unowned::Allow] {
            let target = Target { unowned, ..private() };
            let facts = Facts { owner: Owner::DeletedOrganization, ..good() };
            assert_eq!(decide(&target, &facts, NOW), Decision::Deny(DenyReason::OrganizationDeleted));
            assert_eq!(decide(&target, &Facts { account: None, ..facts }, NOW), SIGN_IN);
        }
    }

    #[test]
    fn every_refusal_shows_one_and_the_same_code() {
        use DenyReason::*;
        for reason in [Unowned, OrganizationDeleted, NotMember, RoleTooLow, AboveCeiling] {
            assert_eq!(reason.code(), ErrorCode::GateForbidden, "{}", reason.as_str());
        }
    }

    #[test]
    fn each_decision_says_on_what_ground_it_rests() {
        let nobody = Facts { account: None, membership: None, sso_session: None, ..good() };
        let admins = Target { needed_role: Role::Admin, ..private() };
        let public = Target { public: true, ..private() };
        let optional = Facts { owner: acme(OPTIONAL), sso_session: None, ..good() };
        for (target, facts, ground) in [
            (public, nobody, Ground::PublicPath),
            (private(), Facts { resource_is_public: true, ..nobody }, Ground::PublicResource),
            (outside(Unowned::Deny), good(), Ground::Unowned),
            (outside(Unowned::SignedIn), nobody, Ground::Unowned),
            (private(), Facts { owner: Owner::Nobody, ..nobody }, Ground::UnownedName),
            (private(), Facts { owner: Owner::DeletedOrganization, ..good() }, Ground::OrganizationDeleted),
            (private(), nobody, Ground::NoAccount),
            (private(), Facts { membership: None, ..good() }, Ground::NotMember),
            (admins, good(), Ground::RoleTooLow),
            (private(), Facts { sso_session: None, ..good() }, Ground::SsoMissing),
            (private(), optional, Ground::SsoSkipped),
            (private(), good(), Ground::NothingAgainst),
        ] {
            assert_eq!(decide_and_say_why(&target, &facts, NOW).1, ground, "{target:?} {facts:?}");
        }
        let mut names: Vec<&str> = Ground::ALL.into_iter().map(Ground::as_str).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Ground::ALL.len());
        assert!(Ground::ALL.into_iter().all(|ground| !ground.in_words().is_empty()));
    }

    /// All combinations of facts, checked against the invariants rather than against the algorithm.
    #[test]
    fn rule_15_no_combination_of_facts_lets_anybody_in_by_accident() {
        let owners =
            [Owner::Nobody, Owner::DeletedOrganization, acme(Sso::Off), acme(ENFORCED), acme(OPTIONAL)];
        let sessions = [None, Some(session(Lifetime::from_minutes(1))), Some(session(WEEK))];
        let mut memberships = vec![None];
        for role in Role::ALL {
            for external_collaborator in [ExternalCollaborator::No, ExternalCollaborator::Yes] {
                memberships.push(Some(Membership { role, external_collaborator }));
            }
        }
        let mut let_in = 0;
        for account in [None, Some(mira())] {
            for owner in owners {
                for membership in &memberships {
                    for sso_session in sessions {
                        let facts = Facts {
                            credential: Credential::Session,
                            account,
                            owner,
                            membership: *membership,
                            sso_session,
                            resource_is_public: false,
                        };
                        if let Decision::Allow(permit) = decide(&private(), &facts, NOW) {
                            let_in += 1;
                            let membership = membership.unwrap();
                            assert!(account.is_some() && membership.role >= Role::Read);
                            assert!(permit.place().is_some() && matches!(owner, Owner::Organization(_)));
                            assert!(
                                owner != acme(ENFORCED)
                                    || membership.external_collaborator == ExternalCollaborator::Yes
                                    || sso_session == Some(session(Lifetime::from_minutes(1)))
                            );
                        }
                    }
                }
            }
        }
        // Four roles, of which each gets in: 2 × 3 without SSO, 2 × 3 optional, 3 + 1 enforced.
        assert_eq!(let_in, 4 * (6 + 6 + 4));
    }

    // === Personal access tokens: credential × SSO × ceiling × role × what is asked for

    const A_MINUTE: Lifetime = Lifetime::from_minutes(1);

    fn authorised(under_live_issuer: bool, ends_at: Timestamp) -> TokenAuthorization {
        TokenAuthorization { under_live_issuer, ends_at }
    }

    fn token(ceiling: Role, authorization: Option<TokenAuthorization>) -> Credential {
        Credential::Token(TokenFacts { ceiling, authorization })
    }

    #[test]
    fn a_token_gives_its_owners_role_up_to_its_ceiling_and_where_sso_is_owed_only_if_it_is_authorised() {
        let authorizations = [
            (None, false),
            (Some(authorised(true, NOW.plus(A_MINUTE))), true),
            (Some(authorised(false, NOW.plus(A_MINUTE))), false),
            (Some(authorised(true, NOW)), false),
        ];
        let mut let_in = 0;
        for sso in [Sso::Off, OPTIONAL, ENFORCED] {
            for (authorization, proves) in authorizations {
                for ceiling in Role::ALL {
                    for role in Role::ALL {
                        for external_collaborator in [ExternalCollaborator::No, ExternalCollaborator::Yes] {
                            for needed_role in [Role::Read, Role::Contributor, Role::Write, Role::Admin] {
                                let spared = external_collaborator == ExternalCollaborator::Yes;
                                let target = Target { needed_role, ..private() };
                                let facts = Facts {
                                    credential: token(ceiling, authorization),
                                    owner: acme(sso),
                                    membership: Some(Membership { role, external_collaborator }),
                                    // An SSO session of the owner's browser is no authorisation of his token.
                                    sso_session: Some(session(A_MINUTE)),
                                    ..good()
                                };
                                let expected = if role < needed_role {
                                    Err(Decision::Deny(DenyReason::RoleTooLow))
                                } else if ceiling < needed_role {
                                    Err(Decision::Deny(DenyReason::AboveCeiling))
                                } else if sso == ENFORCED && !proves && !spared {
                                    Err(Decision::Authenticate(Step::AuthorizeToken))
                                } else {
                                    Ok(role.min(ceiling))
                                };
                                let decided = match decide(&target, &facts, NOW) {
                                    Decision::Allow(permit) => Ok(permit.place().unwrap().role),
                                    other => Err(other),
                                };
                                let_in += u32::from(decided.is_ok());
                                assert_eq!(decided, expected, "{sso:?} {authorization:?} {ceiling} {role}");
                            }
                        }
                    }
                }
            }
        }
        // Pairs of role and ceiling for the four needed roles: 16 + 9 + 4 + 1; of 24 settings, 3 owe what they lack.
        assert_eq!(let_in, 30 * (24 - 3));
    }

    #[test]
    fn a_token_that_is_none_opens_nothing_not_even_what_is_public() {
        let bad = Facts { credential: Credential::BadToken, account: None, membership: None, ..good() };
        let refused = Decision::Authenticate(Step::PresentToken);
        for target in [private(), Target { public: true, ..private() }, outside(Unowned::Allow)] {
            assert_eq!(decide(&target, &bad, NOW), refused);
            assert_eq!(decide(&target, &Facts { credential: Credential::BadToken, ..good() }, NOW), refused);
        }
    }

    #[test]
    fn a_strangers_token_learns_what_a_strangers_session_learns() {
        let stranger = Facts { credential: token(Role::Admin, None), membership: None, ..good() };
        assert_eq!(decide(&private(), &stranger, NOW), Decision::Deny(DenyReason::NotMember));
        let unknown = Facts { owner: Owner::Nobody, ..stranger };
        assert_eq!(decide(&private(), &unknown, NOW).code(), DenyReason::NotMember.code());
    }

    #[test]
    fn on_a_public_page_a_token_without_authorisation_names_its_owner_and_no_organization() {
        let public = Target { public: true, ..private() };
        let facts = Facts { credential: token(Role::Read, None), ..good() };
        assert_eq!(allowed(&public, &facts), (Some("mira"), None, SsoStanding::Missing, false));
        let ceiling = Facts { credential: token(Role::NoAccess, None), owner: acme(Sso::Off), ..good() };
        assert_eq!(allowed(&public, &ceiling), (Some("mira"), None, SsoStanding::None, false));
    }

    impl Decision<'_> {
        fn code(&self) -> ErrorCode {
            match self {
                Self::Deny(reason) => reason.code(),
                other => panic!("{other:?}"),
            }
        }
    }
}
