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

/// Headers that make some servers serve another path or method than the one that was judged.
pub const OVERRIDE_HEADER_NAMES: [&str; 7] = [
    "X-Original-URL",
    "X-Rewrite-URL",
    "X-HTTP-Method-Override",
    "X-HTTP-Method",
    "X-Method-Override",
    "X-Original-Method",
    "X-Original-URI",
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
    let begins_ours = name.get(..OUR_PREFIX.len()).is_some_and(|start| same_header(start, OUR_PREFIX));
    begins_ours || IDENTITY_HEADER_NAMES.iter().any(|ours| same_header(name, ours))
}

/// Whether a header of this name, in any spelling, is one of [`OVERRIDE_HEADER_NAMES`].
pub fn is_override_header(name: &str) -> bool {
    OVERRIDE_HEADER_NAMES.iter().any(|known| same_header(name, known))
}

const OUR_PREFIX: &str = "Doorward-";

fn same_header(name: &str, ours: &str) -> bool {
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
