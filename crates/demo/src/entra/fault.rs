//! The faults that somebody can switch on for an application because they can't be clicked otherwise.
//!
//! One table: value in the form, label, what it does. Where each acts: `authorize.rs` (pages, redirects),
//! `token.rs` (answers), `id_token.rs` (claims). Never here: what happens on its own through wrong choices.

/// Something that goes wrong at the provider on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// The sign-in ends on the provider's own error page with this number.
    Page(u32),
    /// The sign-in comes back with this error number.
    Callback(u32),
    /// The sign-in comes back without `state`.
    CallbackWithoutState,
    /// The sign-in comes back with another `state`.
    CallbackWithForeignState,
    /// The token endpoint refuses with this number.
    Token(u32),
    /// The token endpoint answers 503 with a page.
    TokenUnavailable,
    /// The token endpoint answers 200 with something that is not JSON.
    TokenNotJson,
    /// The token endpoint takes 15 seconds.
    TokenSlow,
    /// The answer holds no ID token.
    NoIdToken,
    /// Something is wrong with the ID token.
    IdToken(TokenFault),
}

/// What is wrong with an ID token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TokenFault {
    /// `aud` is another application.
    WrongAudience,
    /// `nonce` is not the one that was sent.
    WrongNonce,
    /// `nonce` is left out.
    NoNonce,
    /// `iss` and `ver` are those of a v1 token.
    IssuerV1,
    /// `iss` and `tid` are those of another tenant.
    WrongTenant,
    /// `iat`, `nbf` and `exp` are ten minutes ahead.
    ClockAhead,
    /// `exp` passed an hour ago.
    Expired,
    /// The signature is damaged.
    WrongSignature,
    /// Signed with a key that only `?appid=` publishes.
    UnknownKey,
    /// Signed with the published key of another issuer.
    ForeignKey,
    /// `alg` is `none`.
    Unsigned,
    /// Neither `oid`, `name` nor `preferred_username`.
    NoObjectId,
    /// No `email`, whatever the directory holds.
    NoEmail,
    /// `email` is somebody else's: nobody verifies a directory's mail attribute.
    SomebodyElsesEmail,
    /// The person counts as a guest of another directory.
    Guest,
    /// Too many groups: a link in place of the claim.
    GroupOverage,
}

/// A fault with the words that the console shows it with.
pub(crate) struct Offer {
    /// Value in the form; stable, so that browser tests can name it.
    pub(crate) value: &'static str,
    /// Heading in the list.
    pub(crate) group: &'static str,
    /// One line.
    pub(crate) label: &'static str,
    /// What it switches on.
    pub(crate) fault: Fault,
}

const PAGE: &str = "The sign-in stops on the provider's page";
const CALLBACK: &str = "The sign-in comes back with an error";
const TOKEN: &str = "The token endpoint refuses or fails";
const ID_TOKEN: &str = "The ID token is wrong";

const fn offer(value: &'static str, group: &'static str, label: &'static str, fault: Fault) -> Offer {
    Offer { value, group, label, fault }
}

const fn id_token(value: &'static str, label: &'static str, fault: TokenFault) -> Offer {
    offer(value, ID_TOKEN, label, Fault::IdToken(fault))
}

/// Every fault there is, in the order of the page.
pub(crate) const OFFERS: &[Offer] = &[
    offer("page-50011", PAGE, "50011: redirect URI not registered", Fault::Page(50_011)),
    offer("page-700016", PAGE, "700016: application not found in the directory", Fault::Page(700_016)),
    offer("page-90002", PAGE, "90002: tenant not found", Fault::Page(90_002)),
    offer("page-50105", PAGE, "50105: person not assigned to the application", Fault::Page(50_105)),
    offer("page-50020", PAGE, "50020: account of another directory", Fault::Page(50_020)),
    offer("page-53003", PAGE, "53003: blocked by Conditional Access", Fault::Page(53_003)),
    offer("page-7000112", PAGE, "7000112: application disabled", Fault::Page(7_000_112)),
    offer("callback-65004", CALLBACK, "65004: person declined to consent", Fault::Callback(65_004)),
    offer("callback-90094", CALLBACK, "90094: an administrator must consent", Fault::Callback(90_094)),
    offer(
        "callback-no-state",
        CALLBACK,
        "Comes back with a code but without state",
        Fault::CallbackWithoutState,
    ),
    offer(
        "callback-foreign-state",
        CALLBACK,
        "Comes back with another state",
        Fault::CallbackWithForeignState,
    ),
    offer("token-7000215", TOKEN, "7000215: secret is wrong", Fault::Token(7_000_215)),
    offer("token-7000222", TOKEN, "7000222: secret expired", Fault::Token(7_000_222)),
    offer("token-7000218", TOKEN, "7000218: secret missing", Fault::Token(7_000_218)),
    offer("token-700025", TOKEN, "700025: public client must not send a secret", Fault::Token(700_025)),
    offer("token-9002325", TOKEN, "9002325: single-page application needs PKCE", Fault::Token(9_002_325)),
    offer(
        "token-9002327",
        TOKEN,
        "9002327: single-page application, not cross-origin",
        Fault::Token(9_002_327),
    ),
    offer("token-54005", TOKEN, "54005: code already redeemed", Fault::Token(54_005)),
    offer("token-70008", TOKEN, "70008: code expired", Fault::Token(70_008)),
    offer("token-501481", TOKEN, "501481: code verifier does not match", Fault::Token(501_481)),
    offer("token-700016", TOKEN, "700016: application not found", Fault::Token(700_016)),
    offer("token-90055", TOKEN, "90055: throttled, with Retry-After", Fault::Token(90_055)),
    offer("token-503", TOKEN, "503 and a page instead of an answer", Fault::TokenUnavailable),
    offer("token-not-json", TOKEN, "200, but not JSON", Fault::TokenNotJson),
    offer("token-slow", TOKEN, "Answers after 15 seconds", Fault::TokenSlow),
    offer("token-no-id-token", TOKEN, "Answers without an ID token", Fault::NoIdToken),
    id_token("wrong-audience", "Wrong audience", TokenFault::WrongAudience),
    id_token("wrong-nonce", "Wrong nonce", TokenFault::WrongNonce),
    id_token("no-nonce", "No nonce", TokenFault::NoNonce),
    id_token("issuer-v1", "Issuer and version of a v1 token", TokenFault::IssuerV1),
    id_token("wrong-tenant", "Issuer and tenant of another directory", TokenFault::WrongTenant),
    id_token("clock-ahead", "Clock ten minutes ahead", TokenFault::ClockAhead),
    id_token("expired", "Expired an hour ago", TokenFault::Expired),
    id_token("wrong-signature", "Damaged signature", TokenFault::WrongSignature),
    id_token(
        "unknown-key",
        "Signed with the application's own key (as SAML or claims mapping does)",
        TokenFault::UnknownKey,
    ),
    id_token("foreign-key", "Signed with the key of another issuer", TokenFault::ForeignKey),
    id_token("unsigned", "Not signed at all (alg none)", TokenFault::Unsigned),
    id_token("no-oid", "No object ID, as without the scope profile", TokenFault::NoObjectId),
    id_token("no-email", "No e-mail address", TokenFault::NoEmail),
    id_token(
        "others-email",
        "E-mail address of somebody else (ada@acme.example)",
        TokenFault::SomebodyElsesEmail,
    ),
    id_token("guest", "Person is a guest of the directory", TokenFault::Guest),
    id_token("group-overage", "More than 200 groups: a link in place of the claim", TokenFault::GroupOverage),
];

impl Fault {
    /// The fault behind a value of the form.
    pub(crate) fn from_value(value: &str) -> Option<Self> {
        OFFERS.iter().find(|offer| offer.value == value).map(|offer| offer.fault)
    }

    /// The offer that this fault came from.
    pub(crate) fn offer(self) -> Option<&'static Offer> {
        OFFERS.iter().find(|offer| offer.fault == self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_offer_is_found_again_by_its_value() {
        for offer in OFFERS {
            assert_eq!(Fault::from_value(offer.value), Some(offer.fault), "{}", offer.value);
            assert_eq!(offer.fault.offer().map(|found| found.value), Some(offer.value));
        }
    }
}
