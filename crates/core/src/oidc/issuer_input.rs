//! What an admin pastes into the field "Issuer URL" → where the metadata is, and which issuer it may name.
//!
//! In: the text as typed. Out: `IssuerInput`, or the code of a mistake of form. Never here: the network.
//! Invariant: metadata may name only the issuer whose own URL it was fetched from, except for the written table of
//! Microsoft hosts in `idp_quirks.rs` (rule 1; hub-sso.md S3, S4; conformance.md D1).

use crate::error_code::ErrorCode;
use crate::idp_quirks::{
    B2C_SUFFIX, EVERYBODYS_HOSTS, EXTERNAL_ID_SUFFIX, OTHER_PROVIDER_SUFFIXES, SHARED_TENANTS,
    WRONG_PAGE_HOSTS, WRONG_PAGE_SUFFIXES, entra_cloud_of,
};
use crate::oidc::http_answer::{EndpointFault, MAX_URL, judge_endpoint};
use percent_encoding::percent_decode_str;
use url::Url;

/// The path under which every issuer publishes its metadata (OpenID Connect Discovery 1.0 section 4).
pub const METADATA_PATH: &str = "/.well-known/openid-configuration";

/// Where the metadata is and what it may say about its issuer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IssuerInput {
    /// The metadata document's URL, its query as typed.
    pub metadata_url: Url,
    /// The issuer that the document must name.
    pub expected_issuer: ExpectedIssuer,
}

/// The issuer that a metadata document must name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExpectedIssuer {
    /// The typed issuer itself. One final slash more or less is forgiven here, never between metadata and token.
    Exact {
        /// As typed, without the metadata path and final slashes.
        typed: String,
        /// The same as a URL parser spells it.
        normalised: String,
    },
    /// Entra ID: a tenant of this cloud, by its GUID if that was typed, else any one that the cloud names.
    EntraTenant {
        /// The cloud's host.
        host: &'static str,
        /// The GUID in lower case; `None` for a tenant typed by its domain.
        tenant: Option<String>,
    },
    /// Entra External ID: the issuer's host is the tenant's GUID instead of its name.
    ExternalIdTenant {
        /// The GUID in lower case; `None` for a tenant typed by its domain.
        tenant: Option<String>,
    },
    /// Azure AD B2C: an issuer on this host, without the policy that the URL names.
    B2cTenant {
        /// The host, `NAME.b2clogin.com`.
        host: String,
    },
}

impl ExpectedIssuer {
    /// Whether a document at the metadata URL may name this issuer.
    pub fn accepts(&self, issuer: &str) -> bool {
        match self {
            Self::Exact { typed, normalised } => {
                let issuer = without_slash(issuer);
                issuer == typed || issuer == normalised
            }
            Self::EntraTenant { host, tenant } => {
                let found = tenant_of(issuer, host);
                found.is_some() && (tenant.is_none() || *tenant == found)
            }
            Self::ExternalIdTenant { tenant } => {
                let Some(guid) = issuer.strip_prefix("https://").and_then(|rest| rest.get(..36)) else {
                    return false;
                };
                let found = tenant_of(issuer, &format!("{guid}{EXTERNAL_ID_SUFFIX}"));
                found.as_deref() == Some(guid) && (tenant.is_none() || *tenant == found)
            }
            Self::B2cTenant { host } => {
                let Some(path) =
                    issuer.strip_prefix("https://").and_then(|rest| rest.strip_prefix(host.as_str()))
                else {
                    return false;
                };
                let segments: Vec<&str> = path.split('/').collect();
                match segments.as_slice() {
                    ["", tenant, "v2.0"] | ["", tenant, "v2.0", ""] => guid(tenant).is_some(),
                    ["", "tfp", tenant, policy, "v2.0", ""] => guid(tenant).is_some() && !policy.is_empty(),
                    _ => false,
                }
            }
        }
    }

    /// For a finding: what was expected, in words where there is no single value.
    pub fn describe(&self) -> String {
        match self {
            Self::Exact { typed, .. } => typed.clone(),
            Self::EntraTenant { host, tenant } => {
                format!("https://{host}/{}/v2.0", tenant.as_deref().unwrap_or("TENANT-ID"))
            }
            Self::ExternalIdTenant { tenant } => {
                let tenant = tenant.as_deref().unwrap_or("TENANT-ID");
                format!("https://{tenant}{EXTERNAL_ID_SUFFIX}/{tenant}/v2.0")
            }
            Self::B2cTenant { host } => format!("https://{host}/TENANT-ID/v2.0/"),
        }
    }

    /// Whether the address is one of the Microsoft table whose tokens carry `tid`, `oid` and `ver`.
    pub(crate) const fn is_entra(&self) -> bool {
        matches!(self, Self::EntraTenant { .. } | Self::ExternalIdTenant { .. })
    }
}

/// The GUID in an issuer `https://HOST/{guid}/v2.0`, only if it is spelled exactly so.
fn tenant_of(issuer: &str, host: &str) -> Option<String> {
    let tenant =
        issuer.strip_prefix("https://")?.strip_prefix(host)?.strip_prefix('/')?.strip_suffix("/v2.0")?;
    guid(tenant).filter(|lower| lower == tenant)
}

/// A GUID of the usual 36 characters, in lower case.
pub(crate) fn guid(text: &str) -> Option<String> {
    let shape = text.len() == 36
        && text.bytes().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        });
    shape.then(|| text.to_ascii_lowercase())
}

/// Without one final slash.
fn without_slash(text: &str) -> &str {
    text.strip_suffix('/').unwrap_or(text)
}

/// A pasted value without what copying drags along: blanks, quotes and brackets around it, line ends, invisible
/// characters (hub-sso.md S3). For client identifiers and secrets too.
pub fn clean_pasted(text: &str) -> String {
    let visible: String = text.chars().filter(|c| !is_invisible(*c)).collect();
    visible.trim_matches(|c: char| c.is_whitespace() || "\"'`“”‘’„‚«»‹›<>".contains(c)).to_owned()
}

fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
}

/// Reads what an admin typed. `insecure_allowed(host, port)` says whether the operator lets plain http reach it.
///
/// Taken: an issuer, a metadata URL (query kept), the GUID or a domain of an Entra tenant, any URL of a tenant on an
/// Entra host. Errors: `settings.issuer_…`.
pub fn parse_issuer_input(
    text: &str,
    insecure_allowed: impl Fn(&str, u16) -> bool,
) -> Result<IssuerInput, ErrorCode> {
    if text.len() > 4 * MAX_URL {
        return Err(ErrorCode::SettingsIssuerNotUrl);
    }
    let text = clean_pasted(text);
    if text.is_empty() {
        return Err(ErrorCode::SettingsIssuerMissing);
    }
    let lower = text.to_ascii_lowercase();
    if SHARED_TENANTS.contains(&lower.as_str()) {
        return Err(ErrorCode::SettingsIssuerMultiTenant);
    }
    if let Some(tenant) = guid(&text) {
        return entra_tenant("login.microsoftonline.com", &tenant, None);
    }
    let typed = complete(&text, &lower)?;
    let url = Url::parse(&typed).map_err(|_| ErrorCode::SettingsIssuerNotUrl)?;
    // A console is recognised before its fragment is complained about: that is how consoles address their pages.
    let host = url.host_str().unwrap_or_default();
    if WRONG_PAGE_HOSTS.contains(&host) || WRONG_PAGE_SUFFIXES.iter().any(|suffix| host.ends_with(suffix)) {
        return Err(ErrorCode::SettingsIssuerWrongPage);
    }
    if EVERYBODYS_HOSTS.contains(&host) {
        return Err(ErrorCode::SettingsIssuerShared);
    }
    judge_endpoint(&url, &insecure_allowed).map_err(|fault| match fault {
        EndpointFault::NotHttps => ErrorCode::SettingsIssuerNotHttps,
        EndpointFault::NotUrl | EndpointFault::Extras | EndpointFault::TooLong => {
            ErrorCode::SettingsIssuerNotUrl
        }
    })?;
    if let Some(cloud) = entra_cloud_of(host) {
        let tenant = first_segment(&url).ok_or(ErrorCode::SettingsIssuerWrongPage)?;
        let query = url.query().filter(|_| url.path().ends_with(METADATA_PATH));
        return entra_tenant(cloud.host, &tenant, query);
    }
    if host.ends_with(EXTERNAL_ID_SUFFIX) {
        return external_id_tenant(host, &url);
    }
    any_provider(&typed, url)
}

/// Makes a URL of what was typed without a scheme; a lone domain is taken for that of an Entra tenant, unless it is a
/// known provider's host.
fn complete(text: &str, lower: &str) -> Result<String, ErrorCode> {
    if text.contains(char::is_whitespace) {
        return Err(ErrorCode::SettingsIssuerNotUrl);
    }
    if lower.contains("://") {
        // "https://" in any case; `Url` takes care of the rest.
        return Ok(text.to_owned());
    }
    let host = lower.split(['/', ':', '?', '#']).next().unwrap_or_default();
    if host != "localhost" && !is_domain(host) {
        return Err(ErrorCode::SettingsIssuerNotUrl);
    }
    let is_lone = host.len() == lower.len();
    let is_other_provider = OTHER_PROVIDER_SUFFIXES.iter().any(|suffix| host.ends_with(suffix));
    let is_known_page = [WRONG_PAGE_HOSTS, EVERYBODYS_HOSTS].iter().any(|hosts| hosts.contains(&host))
        || entra_cloud_of(host).is_some();
    if is_lone && host != "localhost" && !is_other_provider && !is_known_page {
        return Ok(format!("https://login.microsoftonline.com/{host}/v2.0"));
    }
    Ok(format!("https://{text}"))
}

/// A host name of at least two labels whose last one is no number.
fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253
        && text.contains('.')
        && text.split('.').all(label)
        && text.rsplit('.').next().is_some_and(|last| last.bytes().any(|b| b.is_ascii_alphabetic()))
}

/// The first segment of the path, decoded, in lower case.
fn first_segment(url: &Url) -> Option<String> {
    let segment = url.path_segments()?.next()?;
    let decoded = percent_decode_str(segment).decode_utf8().ok()?.to_lowercase();
    (!decoded.is_empty()).then_some(decoded)
}

fn entra_tenant(host: &'static str, tenant: &str, query: Option<&str>) -> Result<IssuerInput, ErrorCode> {
    judge_tenant(tenant)?;
    Ok(IssuerInput {
        metadata_url: tenant_metadata_url(host, tenant, query)?,
        expected_issuer: ExpectedIssuer::EntraTenant { host, tenant: guid(tenant) },
    })
}

fn external_id_tenant(host: &str, url: &Url) -> Result<IssuerInput, ErrorCode> {
    let tenant = first_segment(url).ok_or(ErrorCode::SettingsIssuerWrongPage)?;
    judge_tenant(&tenant)?;
    let query = url.query().filter(|_| url.path().ends_with(METADATA_PATH));
    Ok(IssuerInput {
        metadata_url: tenant_metadata_url(host, &tenant, query)?,
        expected_issuer: ExpectedIssuer::ExternalIdTenant { tenant: guid(&tenant) },
    })
}

/// A tenant is named by its GUID or by one of its domains, and stands for one organization.
fn judge_tenant(tenant: &str) -> Result<(), ErrorCode> {
    if SHARED_TENANTS.contains(&tenant) {
        return Err(ErrorCode::SettingsIssuerMultiTenant);
    }
    if guid(tenant).is_some() || is_domain(tenant) {
        return Ok(());
    }
    Err(ErrorCode::SettingsIssuerWrongPage)
}

fn tenant_metadata_url(host: &str, tenant: &str, query: Option<&str>) -> Result<Url, ErrorCode> {
    let mut url = Url::parse(&format!("https://{host}/{tenant}/v2.0{METADATA_PATH}"))
        .map_err(|_| ErrorCode::SettingsIssuerNotUrl)?;
    url.set_query(query);
    Ok(url)
}

/// Every other provider: the issuer plus the metadata path, or the metadata URL as it is.
fn any_provider(typed: &str, mut url: Url) -> Result<IssuerInput, ErrorCode> {
    let typed = typed.split('?').next().unwrap_or_default();
    let issuer_of =
        |text: &str| text.strip_suffix(METADATA_PATH).unwrap_or(text).trim_end_matches('/').to_owned();
    let (issuer_typed, issuer_path) = (issuer_of(typed), issuer_of(url.path()));
    url.set_path(&issuer_path);
    if url.query() == Some("") {
        url.set_query(None);
    }
    let mut normalised = url.clone();
    normalised.set_query(None);
    let normalised = normalised.as_str().trim_end_matches('/').to_owned();
    url.set_path(&format!("{issuer_path}{METADATA_PATH}"));
    if url.as_str().len() > MAX_URL {
        return Err(ErrorCode::SettingsIssuerNotUrl);
    }
    let host = url.host_str().unwrap_or_default();
    let expected_issuer = if host.ends_with(B2C_SUFFIX) {
        ExpectedIssuer::B2cTenant { host: host.to_owned() }
    } else {
        ExpectedIssuer::Exact { typed: issuer_typed, normalised }
    };
    Ok(IssuerInput { metadata_url: url, expected_issuer })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TENANT: &str = "3f1c2b7a-6d54-4e0b-9a21-7c0de5a81f10";
    const ENTRA_METADATA: &str = "https://login.microsoftonline.com/3f1c2b7a-6d54-4e0b-9a21-7c0de5a81f10/v2.0/.well-known/openid-configuration";

    fn read(text: &str) -> Result<IssuerInput, ErrorCode> {
        parse_issuer_input(text, |_, _| false)
    }

    fn metadata_url(text: &str) -> String {
        read(text).unwrap_or_else(|code| panic!("{text}: {code}")).metadata_url.to_string()
    }

    fn code(text: &str) -> ErrorCode {
        read(text).expect_err(text)
    }

    #[test]
    fn s4_an_issuer_and_its_metadata_url_mean_the_same() {
        let wanted = "https://idp.example/realms/acme/.well-known/openid-configuration";
        for text in [
            "https://idp.example/realms/acme",
            "https://idp.example/realms/acme/",
            "https://idp.example/realms/acme///",
            wanted,
            "HTTPS://IDP.example/realms/acme",
            "idp.example/realms/acme",
            "https://idp.example:443/realms/acme",
        ] {
            assert_eq!(metadata_url(text), wanted, "{text}");
            assert!(read(text).unwrap().expected_issuer.accepts("https://idp.example/realms/acme"), "{text}");
        }
        assert_eq!(
            metadata_url("https://idp.example"),
            "https://idp.example/.well-known/openid-configuration"
        );
    }

    #[test]
    fn a_provider_at_which_everybody_has_an_account_is_refused_however_it_is_written() {
        for text in [
            "https://gitlab.com",
            "gitlab.com",
            "https://GitLab.com/",
            "https://gitlab.com:443/.well-known/openid-configuration",
            "https://login.salesforce.com",
            "https://slack.com",
            "slack.com",
            "https://appleid.apple.com",
            "https://www.facebook.com",
            "https://www.linkedin.com/oauth",
            "https://github.com/login/oauth",
            "github.com",
        ] {
            assert_eq!(code(text), ErrorCode::SettingsIssuerShared, "{text}");
        }
        // One's own is nobody else's; and of Google a claim tells whose person it is.
        for text in [
            "https://gitlab.acme.example",
            "https://acme.my.salesforce.com",
            "https://acme.gitlab.com.example",
            "https://accounts.google.com",
        ] {
            assert!(read(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn s4_the_query_of_a_metadata_url_is_kept() {
        let url = format!("https://idp.example/a{METADATA_PATH}?appid=7&p=%2F");
        assert_eq!(metadata_url(&url), url);
        let input = read(&url).unwrap();
        assert!(input.expected_issuer.accepts("https://idp.example/a"));
        let url = format!("{ENTRA_METADATA}?appid=b8a0d1e2-4c3f-4a5b-8d6e-0f1a2b3c4d5e");
        assert_eq!(metadata_url(&url), url);
    }

    #[test]
    fn s3_what_copying_drags_along_is_trimmed() {
        for text in [
            " https://idp.example/a\r\n",
            "\"https://idp.example/a\"",
            "“https://idp.example/a”",
            "<https://idp.example/a>",
            "\u{feff}https://idp.\u{200b}example/a\u{a0}",
            "' \thttps://idp.example/\r\na\t'",
        ] {
            assert_eq!(metadata_url(text), format!("https://idp.example/a{METADATA_PATH}"), "{text:?}");
        }
    }

    #[test]
    fn every_address_of_a_tenant_at_entra_leads_to_its_version_2_metadata() {
        let login = format!("https://login.microsoftonline.com/{TENANT}");
        for text in [
            TENANT.to_owned(),
            TENANT.to_uppercase(),
            format!("{login}/v2.0"),
            format!("{login}/v2.0/"),
            ENTRA_METADATA.to_owned(),
            login.clone(),
            format!("{login}/.well-known/openid-configuration"),
            format!("{login}/oauth2/v2.0/authorize?client_id=7&redirect_uri=x"),
            format!("{login}/oauth2/v2.0/token"),
            format!("{login}/oauth2/token"),
            format!("{login}/federationmetadata/2007-06/federationmetadata.xml?appid=7"),
            format!("{login}/saml2"),
            format!("https://sts.windows.net/{TENANT}/"),
            format!("https://login.windows.net/{TENANT}"),
            format!("https://login.microsoft.com/{TENANT}/v2.0"),
            format!("login.microsoftonline.com/{TENANT}/v2.0"),
            format!("https://LOGIN.microsoftonline.com/{}/v2.0", TENANT.to_uppercase()),
        ] {
            assert_eq!(metadata_url(&text), ENTRA_METADATA, "{text}");
            let expected = read(&text).unwrap().expected_issuer;
            assert!(expected.accepts(&format!("{login}/v2.0")), "{text}");
        }
    }

    #[test]
    fn national_clouds_keep_their_own_host() {
        for (text, host) in [
            ("https://login.microsoftonline.us/TENANT/v2.0", "login.microsoftonline.us"),
            ("https://login.usgovcloudapi.net/TENANT", "login.microsoftonline.us"),
            ("https://login.partner.microsoftonline.cn/TENANT/v2.0", "login.partner.microsoftonline.cn"),
            ("https://login.chinacloudapi.cn/TENANT/", "login.partner.microsoftonline.cn"),
        ] {
            let input = read(&text.replace("TENANT", TENANT)).unwrap();
            assert_eq!(input.metadata_url.host_str(), Some(host));
            assert!(input.expected_issuer.accepts(&format!("https://{host}/{TENANT}/v2.0")));
            assert!(
                !input.expected_issuer.accepts(&format!("https://login.microsoftonline.com/{TENANT}/v2.0"))
            );
        }
    }

    #[test]
    fn a_tenant_typed_by_its_domain_may_turn_out_to_be_any_guid_of_that_cloud() {
        for text in [
            "fjordline.example",
            "Fjordline.onmicrosoft.com",
            "https://login.microsoftonline.com/fjordline.example/v2.0",
        ] {
            let input = read(text).unwrap();
            assert_eq!(input.metadata_url.host_str(), Some("login.microsoftonline.com"));
            assert!(input.metadata_url.path().ends_with("/v2.0/.well-known/openid-configuration"));
            let accepts = |issuer: String| input.expected_issuer.accepts(&issuer);
            assert!(accepts(format!("https://login.microsoftonline.com/{TENANT}/v2.0")));
            for other in [
                "https://login.microsoftonline.com/fjordline.example/v2.0".to_owned(),
                format!("https://login.microsoftonline.us/{TENANT}/v2.0"),
                format!("https://login.microsoftonline.com/{TENANT}/v2.0/"),
                format!("https://login.microsoftonline.com/{TENANT}"),
                format!("https://login.microsoftonline.com.evil.example/{TENANT}/v2.0"),
                format!("https://sts.windows.net/{TENANT}/"),
                "https://login.microsoftonline.com/{tenantid}/v2.0".to_owned(),
            ] {
                assert!(!accepts(other.clone()), "{other}");
            }
        }
    }

    #[test]
    fn a_tenant_typed_by_its_guid_is_that_tenant() {
        let expected = read(TENANT).unwrap().expected_issuer;
        let other = TENANT.replace("f10", "f11");
        assert!(!expected.accepts(&format!("https://login.microsoftonline.com/{other}/v2.0")));
    }

    #[test]
    fn addresses_of_many_organizations_are_refused() {
        for host in ["login.microsoftonline.com", "login.microsoftonline.us", "sts.windows.net"] {
            for tenant in
                ["common", "Organizations", "consumers", "%7Btenantid%7D", crate::idp_quirks::PERSONAL_TENANT]
            {
                for rest in ["", "/v2.0", "/v2.0/.well-known/openid-configuration", "/oauth2/v2.0/authorize"]
                {
                    let text = format!("https://{host}/{tenant}{rest}");
                    assert_eq!(code(&text), ErrorCode::SettingsIssuerMultiTenant, "{text}");
                }
            }
        }
        for text in ["common", "consumers", "9188040D-6c67-4c5b-b112-36a304b66dad", "{tenantid}"] {
            assert_eq!(code(text), ErrorCode::SettingsIssuerMultiTenant, "{text}");
        }
    }

    #[test]
    fn pages_of_consoles_and_portals_are_refused() {
        for text in [
            "https://portal.azure.com/#view/Microsoft_AAD_IAM",
            "https://portal.azure.com/",
            "https://entra.microsoft.com/",
            "entra.microsoft.com",
            "https://graph.microsoft.com/v1.0/me",
            "https://myapps.microsoft.com/signin/7",
            "https://fjordline.onmicrosoft.com/app",
            "https://fjordline-admin.okta.com/admin/app",
            "https://admin.google.com/",
            "https://login.microsoftonline.com/",
            "login.microsoftonline.com",
            "https://login.microsoftonline.com/tfp/x",
        ] {
            assert_eq!(code(text), ErrorCode::SettingsIssuerWrongPage, "{text}");
        }
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for text in [
            "hello",
            "our provider",
            "https://",
            "https://idp example/a",
            "https:idp.example",
            "javascript:alert(1)",
            "mailto:mira@fjordline.example",
            "mira@fjordline.example",
            "ftp://idp.example/",
            "file:///etc/passwd",
            "data:text/html,x",
            "//idp.example/a",
            "1.2.3.4",
            "https://user@idp.example/",
            "https://user:password@idp.example/",
            "https://login.microsoftonline.com@evil.example/common",
            "https://idp.example/#fragment",
            "https://idp.example/a#",
        ] {
            assert_eq!(code(text), ErrorCode::SettingsIssuerNotUrl, "{text}");
        }
        for text in ["", "  ", "\"\"", "\u{200b}\r\n"] {
            assert_eq!(code(text), ErrorCode::SettingsIssuerMissing, "{text:?}");
        }
    }

    #[test]
    fn s5_more_than_2048_characters_are_refused() {
        let room = 2048 - "https://idp.example/".len() - METADATA_PATH.len();
        assert!(read(&format!("https://idp.example/{}", "a".repeat(room))).is_ok());
        let long = format!("https://idp.example/{}", "a".repeat(room + 1));
        assert_eq!(code(&long), ErrorCode::SettingsIssuerNotUrl);
        assert_eq!(code(&"a".repeat(1_000_000)), ErrorCode::SettingsIssuerNotUrl);
    }

    #[test]
    fn plain_http_needs_the_operators_word_for_host_and_port() {
        let allowed = |host: &str, port: u16| (host == "127.0.0.1" || host == "::1") && port == 9400;
        let read = |text: &str| parse_issuer_input(text, allowed);
        let input = read(&format!("http://127.0.0.1:9400/{TENANT}/v2.0")).unwrap();
        assert_eq!(
            input.metadata_url.as_str(),
            format!("http://127.0.0.1:9400/{TENANT}/v2.0/.well-known/openid-configuration")
        );
        assert!(input.expected_issuer.accepts(&format!("http://127.0.0.1:9400/{TENANT}/v2.0")));
        assert!(read("http://[::1]:9400/a").is_ok());
        for text in [
            "http://127.0.0.1:9401/a",
            "http://127.0.0.1/a",
            "http://idp.example/a",
            "http://localhost:9400/a",
        ] {
            assert_eq!(read(text), Err(ErrorCode::SettingsIssuerNotHttps), "{text}");
        }
    }

    #[test]
    fn plain_http_to_entra_is_refused_and_not_quietly_mended() {
        let text = format!("http://login.microsoftonline.com/{TENANT}/v2.0");
        assert_eq!(code(&text), ErrorCode::SettingsIssuerNotHttps);
    }

    #[test]
    fn d1_one_final_slash_is_forgiven_and_nothing_else() {
        for text in ["https://tenant.eu.auth0.com", "https://tenant.eu.auth0.com/", "tenant.eu.auth0.com"] {
            let expected = read(text).unwrap().expected_issuer;
            assert!(expected.accepts("https://tenant.eu.auth0.com/"), "{text}");
            assert!(expected.accepts("https://tenant.eu.auth0.com"), "{text}");
            for other in [
                "https://tenant.eu.auth0.com//",
                "https://tenant.eu.auth0.com1/",
                "https://Tenant.eu.auth0.com/",
                "http://tenant.eu.auth0.com/",
                "https://tenant.eu.auth0.com/a",
                "https://tenant.eu.auth0.com:443/",
                "",
            ] {
                assert!(!expected.accepts(other), "{other}");
            }
        }
    }

    #[test]
    fn an_issuer_that_spells_its_port_out_is_accepted_as_typed() {
        let expected = read("https://idp.example:443/a").unwrap().expected_issuer;
        assert!(expected.accepts("https://idp.example:443/a") && expected.accepts("https://idp.example/a"));
    }

    #[test]
    fn external_id_names_its_issuer_by_the_guid() {
        for text in [
            format!("https://fjordline.ciamlogin.com/{TENANT}/v2.0"),
            format!("https://fjordline.ciamlogin.com/{TENANT}/v2.0{METADATA_PATH}"),
        ] {
            let input = read(&text).unwrap();
            assert_eq!(
                input.metadata_url.as_str(),
                format!("https://fjordline.ciamlogin.com/{TENANT}/v2.0{METADATA_PATH}")
            );
            let other = TENANT.replace("f10", "f11");
            assert!(input.expected_issuer.accepts(&format!("https://{TENANT}.ciamlogin.com/{TENANT}/v2.0")));
            for wrong in [
                format!("https://{other}.ciamlogin.com/{other}/v2.0"),
                format!("https://{TENANT}.ciamlogin.com/{other}/v2.0"),
                format!("https://{other}.ciamlogin.com/{TENANT}/v2.0"),
                format!("https://fjordline.ciamlogin.com/{TENANT}/v2.0"),
                format!("https://{TENANT}.ciamlogin.com.evil.example/{TENANT}/v2.0"),
            ] {
                assert!(!input.expected_issuer.accepts(&wrong), "{wrong}");
            }
        }
        assert_eq!(code("https://fjordline.ciamlogin.com/common/v2.0"), ErrorCode::SettingsIssuerMultiTenant);
        assert_eq!(code("https://fjordline.ciamlogin.com/"), ErrorCode::SettingsIssuerWrongPage);
    }

    #[test]
    fn b2c_names_an_issuer_without_the_policy_on_the_same_host() {
        let text = format!("https://fjordline.b2clogin.com/{TENANT}/B2C_1_signin/v2.0{METADATA_PATH}");
        let input = read(&text).unwrap();
        assert_eq!(input.metadata_url.as_str(), text);
        let accepts = |issuer: &str| input.expected_issuer.accepts(&issuer.replace("TENANT", TENANT));
        assert!(accepts("https://fjordline.b2clogin.com/TENANT/v2.0/"));
        assert!(accepts("https://fjordline.b2clogin.com/tfp/TENANT/b2c_1_signin/v2.0/"));
        assert!(!accepts("https://other.b2clogin.com/TENANT/v2.0/"));
        assert!(!accepts("https://fjordline.b2clogin.com/x/v2.0/"));
        assert!(!accepts("https://fjordline.b2clogin.com.evil.example/TENANT/v2.0/"));
    }

    #[test]
    fn a_bare_host_of_another_provider_is_not_taken_for_a_tenant() {
        for host in ["fjordline.okta.com", "accounts.google.com", "fjordline.onelogin.com"] {
            assert_eq!(metadata_url(host), format!("https://{host}{METADATA_PATH}"));
        }
    }

    proptest! {
        #[test]
        fn random_texts_never_panic(text in "\\PC{0,60}", path in "[a-z0-9./%?#:@\\[\\]{}-]{0,40}") {
            for text in [text.clone(), format!("https://{text}"), format!("https://login.microsoftonline.com/{path}"), path] {
                if let Ok(input) = parse_issuer_input(&text, |_, _| true) {
                    let url = &input.metadata_url;
                    prop_assert!(url.path().ends_with(METADATA_PATH), "{url}");
                    prop_assert!(url.username().is_empty() && url.fragment().is_none());
                    prop_assert!(!input.expected_issuer.accepts("https://evil.example/v2.0"));
                }
            }
        }

        #[test]
        fn random_issuers_never_panic(issuer in "(https://)?[a-z0-9.-]{0,40}(.ciamlogin.com|.b2clogin.com)?/\\PC{0,50}") {
            for expected in [
                ExpectedIssuer::EntraTenant { host: "login.microsoftonline.com", tenant: None },
                ExpectedIssuer::ExternalIdTenant { tenant: None },
                ExpectedIssuer::B2cTenant { host: "a.b2clogin.com".to_owned() },
            ] {
                if expected.accepts(&issuer) {
                    prop_assert!(issuer.contains("/v2.0"), "{issuer}");
                }
            }
        }
    }
}
