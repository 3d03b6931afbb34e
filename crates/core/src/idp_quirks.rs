//! Where real identity providers deviate, as named data with sources.
//!
//! Microsoft's hosts (the one written exception to "metadata comes from its issuer's own URL", rule 1), issuers that
//! all customers share, pages that are pasted by mistake, Entra's error numbers.
//! Never here: behaviour; the rules in `oidc/` read these tables. Sources: `docs` of each provider, see each entry.

use crate::error_code::ErrorCode;

/// One of Microsoft's clouds: its sign-in host, and the other names under which the same service answers.
/// Source: Microsoft, "National clouds"; the aliases are those of the instance discovery answer.
#[derive(PartialEq, Eq, Debug)]
pub struct EntraCloud {
    /// The host of issuers and of metadata.
    pub host: &'static str,
    /// Hosts that are mapped to it.
    pub aliases: &'static [&'static str],
}

/// All clouds of Microsoft Entra ID. The German one is closed.
pub const ENTRA_CLOUDS: &[EntraCloud] = &[
    EntraCloud {
        host: "login.microsoftonline.com",
        aliases: &["login.windows.net", "login.microsoft.com", "sts.windows.net"],
    },
    EntraCloud { host: "login.microsoftonline.us", aliases: &["login.usgovcloudapi.net"] },
    EntraCloud {
        host: "login.partner.microsoftonline.cn",
        aliases: &["login.chinacloudapi.cn", "sts.chinacloudapi.cn"],
    },
];

/// The cloud whose sign-in service answers under `host` (lower case).
pub fn entra_cloud_of(host: &str) -> Option<&'static EntraCloud> {
    ENTRA_CLOUDS.iter().find(|cloud| cloud.host == host || cloud.aliases.contains(&host))
}

/// Microsoft Entra External ID: `NAME.ciamlogin.com`. The issuer's host is the tenant's GUID, whatever the name.
pub const EXTERNAL_ID_SUFFIX: &str = ".ciamlogin.com";

/// Azure AD B2C: `NAME.b2clogin.com`. The issuer is on the same host but lacks the policy that the URL names.
/// Source: microsoft-identity-web wiki. Tokens often lack `tid`, so this is not Entra-shaped.
pub const B2C_SUFFIX: &str = ".b2clogin.com";

/// The tenant of personal Microsoft accounts: open to everybody.
pub const PERSONAL_TENANT: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

/// Path segments in the place of a tenant that accept people of many organizations.
pub const SHARED_TENANTS: &[&str] = &["common", "organizations", "consumers", PERSONAL_TENANT, "{tenantid}"];

/// The placeholder in the issuer of metadata that many organizations share.
pub const TENANT_PLACEHOLDER: &str = "{tenantid}";

/// Consoles, portals and other services whose address is pasted instead of the issuer.
pub const WRONG_PAGE_HOSTS: &[&str] = &[
    "portal.azure.com",
    "aad.portal.azure.com",
    "entra.microsoft.com",
    "portal.azure.us",
    "entra.microsoft.us",
    "portal.azure.cn",
    "entra.microsoftonline.cn",
    "graph.microsoft.com",
    "graph.microsoft.us",
    "dod-graph.microsoft.us",
    "microsoftgraph.chinacloudapi.cn",
    "graph.windows.net",
    "myapps.microsoft.com",
    "myapplications.microsoft.com",
    "myaccount.microsoft.com",
    "account.activedirectory.windowsazure.com",
    "admin.microsoft.com",
    "portal.office.com",
    "www.office.com",
    "admin.google.com",
    "console.cloud.google.com",
    "console.developers.google.com",
    "manage.auth0.com",
    "console.aws.amazon.com",
];

/// Suffixes of hosts that are consoles or user pages, never issuers.
pub const WRONG_PAGE_SUFFIXES: &[&str] =
    &[".onmicrosoft.com", ".sharepoint.com", "-admin.okta.com", ".console.aws.amazon.com"];

/// Hosts of other providers: a bare host name under one of them is a URL without its `https://`, while any other bare
/// name is taken for a domain of an Entra tenant.
pub const OTHER_PROVIDER_SUFFIXES: &[&str] = &[
    ".okta.com",
    ".oktapreview.com",
    ".okta-emea.com",
    ".auth0.com",
    ".onelogin.com",
    ".pingone.com",
    ".pingone.eu",
    ".pingone.asia",
    ".pingone.ca",
    ".amazonaws.com",
    ".amazoncognito.com",
    ".jumpcloud.com",
    ".duosecurity.com",
    "gitlab.com",
    "accounts.google.com",
];

/// An issuer that all customers of a provider share: only a claim in the token tells them apart.
#[derive(PartialEq, Eq, Debug)]
pub struct SharedIssuer {
    /// The issuer.
    pub issuer: &'static str,
    /// The claim that names the customer's domain.
    pub domain_claim: &'static str,
}

/// Google Workspace: `hd` is the customer's primary domain, absent for personal accounts; as a request parameter it
/// is a hint only. Source: Google, "OpenID Connect", authentication URI parameters.
pub const SHARED_ISSUERS: &[SharedIssuer] =
    &[SharedIssuer { issuer: "https://accounts.google.com", domain_claim: "hd" }];

/// The entry for an issuer that everybody shares, if it is one. Such a connection needs domains to check.
pub fn shared_issuer(issuer: &str) -> Option<&'static SharedIssuer> {
    SHARED_ISSUERS.iter().find(|shared| shared.issuer == issuer)
}

/// Hosts whose issuer is everybody's, without a claim in the token that tells one organization's people from others and
/// that we check: whoever has a join link and a free account there would be let in. Source: each provider's metadata or its
/// pages on "Sign in with …".
pub const EVERYBODYS_HOSTS: &[&str] = &[
    "gitlab.com",
    "github.com",
    "token.actions.githubusercontent.com",
    "login.salesforce.com",
    "test.salesforce.com",
    "slack.com",
    "auth.atlassian.com",
    "appleid.apple.com",
    "account.apple.com",
    "facebook.com",
    "www.facebook.com",
    "limited.facebook.com",
    "linkedin.com",
    "www.linkedin.com",
    "discord.com",
    "id.twitch.tv",
    "access.line.me",
    "kauth.kakao.com",
    "api.login.yahoo.com",
    "www.paypal.com",
    "orcid.org",
    "accounts.zoho.com",
    "accounts.zoho.eu",
    "login.live.com",
];

/// What an AADSTS number means for us. Microsoft may change numbers, so they choose the help text and nothing else.
/// Source: Microsoft, "Authentication and authorization error codes", and recorded answers (entra.md section 8).
pub const AADSTS_CODES: &[(u64, ErrorCode)] = &[
    // The client's proof.
    (7_000_215, ErrorCode::OidcClientSecretWrong),
    (70_002, ErrorCode::OidcClientSecretWrong),
    (50_012, ErrorCode::OidcClientSecretWrong),
    (7_000_222, ErrorCode::OidcClientSecretExpired),
    (7_000_218, ErrorCode::OidcClientSecretNotSent),
    (7_000_216, ErrorCode::OidcClientSecretNotSent),
    (700_025, ErrorCode::OidcPlatformPublic),
    (9_002_325, ErrorCode::OidcPlatformSpa),
    (9_002_327, ErrorCode::OidcPlatformSpa),
    (700_084, ErrorCode::OidcPlatformSpa),
    // The application and the tenant.
    (700_016, ErrorCode::OidcClientUnknown),
    (700_011, ErrorCode::OidcClientUnknown),
    (700_038, ErrorCode::OidcClientUnknown),
    (7_000_110, ErrorCode::OidcClientRefused),
    (90_002, ErrorCode::OidcTenantUnknown),
    (900_021, ErrorCode::OidcTenantUnknown),
    (900_023, ErrorCode::OidcTenantUnknown),
    // The person and the consent.
    (50_105, ErrorCode::OidcNotAssigned),
    (65_004, ErrorCode::OidcConsentDeclined),
    (65_001, ErrorCode::OidcConsentMissing),
    (65_005, ErrorCode::OidcConsentMissing),
    (650_056, ErrorCode::OidcConsentMissing),
    (90_008, ErrorCode::OidcConsentMissing),
    (90_093, ErrorCode::OidcConsentMissing),
    (90_094, ErrorCode::OidcConsentMissing),
    (90_095, ErrorCode::OidcConsentMissing),
    // Scopes.
    (650_053, ErrorCode::OidcScopeRefused),
    (650_057, ErrorCode::OidcScopeRefused),
    (70_011, ErrorCode::OidcScopeRefused),
    (28_002, ErrorCode::OidcScopeRefused),
    (28_003, ErrorCode::OidcScopeRefused),
    (700_022, ErrorCode::OidcScopeRefused),
    (700_023, ErrorCode::OidcScopeRefused),
    (500_011, ErrorCode::OidcScopeRefused),
    // The code: start again.
    (54_005, ErrorCode::OidcCodeRefused),
    (70_000, ErrorCode::OidcCodeRefused),
    (70_008, ErrorCode::OidcCodeRefused),
    (700_005, ErrorCode::OidcCodeRefused),
    (501_481, ErrorCode::OidcCodeRefused),
    // Microsoft's own troubles.
    (50_000, ErrorCode::OidcProviderUnavailable),
    (90_006, ErrorCode::OidcProviderUnavailable),
    (90_012, ErrorCode::OidcProviderUnavailable),
    (90_024, ErrorCode::OidcProviderUnavailable),
    (90_033, ErrorCode::OidcProviderUnavailable),
    (90_055, ErrorCode::OidcProviderUnavailable),
];

/// The most specific of several AADSTS numbers that has help: the longest, and of equally long ones the last
/// (`[70002, 54005]` is about the code, although an older wrapper names the client first).
pub fn help_for_aadsts(numbers: &[u64]) -> Option<(u64, ErrorCode)> {
    numbers
        .iter()
        .filter_map(|number| AADSTS_CODES.iter().find(|(known, _)| known == number).copied())
        .max_by_key(|(number, _)| number.checked_ilog10())
}

/// The AADSTS numbers in a provider's words, in their order; at most 8.
pub fn aadsts_numbers(words: &str) -> Vec<u64> {
    words
        .split("AADSTS")
        .skip(1)
        .filter_map(|rest| {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).take(10).collect();
            digits.parse().ok()
        })
        .take(8)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_aadsts_number_is_listed_once() {
        let mut seen = HashSet::new();
        for (number, _) in AADSTS_CODES {
            assert!(seen.insert(number), "{number} twice");
        }
    }

    #[test]
    fn of_several_numbers_the_longest_and_then_the_last_one_counts() {
        assert_eq!(help_for_aadsts(&[70_002, 54_005]), Some((54_005, ErrorCode::OidcCodeRefused)));
        assert_eq!(
            help_for_aadsts(&[7_000_215, 70_002]),
            Some((7_000_215, ErrorCode::OidcClientSecretWrong))
        );
        assert_eq!(help_for_aadsts(&[12_345_678_901, 70_008]), Some((70_008, ErrorCode::OidcCodeRefused)));
        assert_eq!(help_for_aadsts(&[1]), None);
        assert_eq!(help_for_aadsts(&[]), None);
    }

    #[test]
    fn numbers_are_found_in_the_words() {
        assert_eq!(
            aadsts_numbers("AADSTS65004: User declined.\r\nAADSTSx AADSTS7000215:"),
            [65_004, 7_000_215]
        );
        assert!(aadsts_numbers("nothing").is_empty());
    }

    #[test]
    fn every_alias_leads_to_its_cloud_and_look_alikes_to_none() {
        for cloud in ENTRA_CLOUDS {
            for host in cloud.aliases.iter().chain([&cloud.host]) {
                assert_eq!(entra_cloud_of(host).map(|c| c.host), Some(cloud.host));
                assert_eq!(entra_cloud_of(&format!("{host}1")), None);
                assert_eq!(entra_cloud_of(&format!("x.{host}")), None);
            }
        }
    }
}
