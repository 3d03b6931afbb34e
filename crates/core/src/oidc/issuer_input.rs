//! What an admin pastes into the field "Issuer URL" → where the metadata is, and which issuer it may name.
//!
//! In: the text as typed. Out: `IssuerInput`, or the code of a mistake of form. Never here: the network.
//! Invariant: metadata may name only the issuer whose own URL it was fetched from, except for the written table of
//! Microsoft hosts in `idp_quirks.rs` (rule 1; hub-sso.md S3, S4; conformance.md D1).

use crate::error_code::ErrorCode;
use crate::idp_quirks::{
    B2C_SUFFIX, EXTERNAL_ID_SUFFIX, OTHER_PROVIDER_SUFFIXES, SHARED_TENANTS, WRONG_PAGE_HOSTS,
    WRONG_PAGE_SUFFIXES, entra_cloud_of,
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
        /// As typed, without the metadata path and a final slash.
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
    /// Expects exactly this issuer: for metadata that is fetched again after a revision has pinned its issuer.
    pub fn pinned(issuer: &str) -> Self {
        let typed = without_slash(issuer).to_owned();
        Self::Exact { normalised: typed.clone(), typed }
    }

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
    judge_endpoint(&url, &insecure_allowed).map_err(|fault| match fault {
        EndpointFault::NotHttps => ErrorCode::SettingsIssuerNotHttps,
        EndpointFault::NotUrl | EndpointFault::Extras | EndpointFault::TooLong => {
            ErrorCode::SettingsIssuerNotUrl
        }
    })?;
    let host = url.host_str().unwrap_or_default();
    if WRONG_PAGE_HOSTS.contains(&host) || WRONG_PAGE_SUFFIXES.iter().any(|suffix| host.ends_with(suffix)) {
        return Err(ErrorCode::SettingsIssuerWrongPage);
    }
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
    let is_known_page = WRONG_PAGE_HOSTS.contains(&host) || entra_cloud_of(host).is_some();
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
    let issuer_typed = without_slash(typed.strip_suffix(METADATA_PATH).unwrap_or(typed)).to_owned();
    let issuer_path = without_slash(url.path().strip_suffix(METADATA_PATH).unwrap_or(url.path())).to_owned();
    url.set_path(&issuer_path);
    let mut normalised = url.clone();
    normalised.set_query(None);
    let normalised = without_slash(normalised.as_str()).to_owned();
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
