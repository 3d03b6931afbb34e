//! Host and path of a request, normalised strictly, then read by an application's patterns.
//!
//! In: the raw request-target and the operator's patterns. Out: a `Target`: organization, resource, public or not, and
//! the role that is needed; or `Ambiguous`, which is answered with 400.
//! Never here: who asks. That is `gate_decision.rs`.
//! Invariant: an accepted path leads to one and the same `Target` under every reading that a server behind us may
//! have: decoded once or twice, with what follows a `;` kept or cut off. (architecture.md §4.1; conformance.md V09, V10)

use crate::error_code::ErrorCode;
use crate::membership::Role;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// The longest path that is looked at, in bytes before decoding. The query doesn't count.
pub const PATH_BYTES_MAX: usize = 8192;

// === Method ===

/// The methods that are passed on. Everything else is refused (`gate.method_refused`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `OPTIONS`
    Options,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `PATCH`
    Patch,
    /// `DELETE`
    Delete,
}

impl Method {
    /// All methods that are passed on.
    pub const ALL: [Self; 7] =
        [Self::Get, Self::Head, Self::Options, Self::Post, Self::Put, Self::Patch, Self::Delete];

    /// The method as it is sent.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// The method of that name. Methods are case-sensitive (RFC 9110 section 9.1).
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == text)
    }

    /// The role that the method needs where no rule says otherwise.
    pub const fn default_role(self) -> Role {
        match self {
            Self::Get | Self::Head | Self::Options => Role::Read,
            Self::Post | Self::Put | Self::Patch | Self::Delete => Role::Write,
        }
    }
}

/// Whether a request with this `Upgrade` header may be passed on: a single `websocket`, whatever its case.
pub fn is_allowed_upgrade(upgrade: &str) -> bool {
    upgrade.trim().eq_ignore_ascii_case("websocket")
}

/// Whether a browser's address bar is waiting for the answer, so that a redirect to a sign-in page makes sense.
/// A fetch, an API call and a WebSocket get 401 instead. (decisions.md, Navigation)
///
/// `x_requested_with` and `upgrade` say whether the request has such a header at all.
pub fn is_navigation(
    method: Method,
    sec_fetch_mode: Option<&str>,
    accept: Option<&str>,
    x_requested_with: bool,
    upgrade: bool,
) -> bool {
    if !matches!(method, Method::Get | Method::Head) {
        return false;
    }
    match sec_fetch_mode {
        Some(mode) => mode == "navigate",
        None => !x_requested_with && !upgrade && accept.is_some_and(names_html),
    }
}

/// Whether an `Accept` header names `text/html` itself; `*/*` is what every script sends.
fn names_html(accept: &str) -> bool {
    accept.split(',').any(|range| {
        let media_type = range.split_once(';').map_or(range, |(media_type, _)| media_type);
        media_type.trim().eq_ignore_ascii_case("text/html")
    })
}

// === Host ===

/// A `Host` in the one form that is compared: lower case, without the scheme's default port and without a dot at the
/// end. `None` when it is no plain host name or address. (conformance.md V12, V13)
pub fn normalise_host(host: &str, https: bool) -> Option<Cow<'_, str>> {
    let (name, port) = split_port(host)?;
    let default_port = if https { "443" } else { "80" };
    let port = port.filter(|port| *port != default_port);

    let is_address = name.starts_with('[');
    let name = if is_address { name } else { name.strip_suffix('.').unwrap_or(name) };
    let well_formed = if is_address { is_bracketed_ipv6(name) } else { is_host_name(name) };
    if !well_formed {
        return None;
    }
    match port {
        // Most hosts arrive as they are kept.
        None if !name.bytes().any(|b| b.is_ascii_uppercase()) => Some(Cow::Borrowed(name)),
        None => Some(Cow::Owned(name.to_ascii_lowercase())),
        Some(port) => Some(Cow::Owned(format!("{}:{port}", name.to_ascii_lowercase()))),
    }
}

/// Splits `name:port`. The port is 1 to 65535 without leading zeros, or the whole is refused.
fn split_port(host: &str) -> Option<(&str, Option<&str>)> {
    let name_ends = if host.starts_with('[') { host.find(']')? } else { 0 };
    let Some(colon) = host.rfind(':').filter(|colon| *colon > name_ends) else {
        return Some((host, None));
    };
    let (name, port) = (host.get(..colon)?, host.get(colon + 1..)?);
    let plain =
        !port.starts_with('0') && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    plain.then_some((name, Some(port)))
}

fn is_host_name(name: &str) -> bool {
    (1..=253).contains(&name.len())
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

fn is_bracketed_ipv6(name: &str) -> bool {
    name.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok())
}

// === Path ===

/// Why a path is not passed on. Always answered with 400; the cause is for the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Ambiguous {
    /// A proxy's request (`http://…`), `CONNECT`'s `host:port`, or `*`.
    #[error("the request-target does not start with /")]
    NotOriginForm,
    /// Longer than [`PATH_BYTES_MAX`].
    #[error("the path is too long")]
    TooLong,
    /// A percent sign without two hexadecimal digits, or bytes that are no UTF-8 (overlong forms are none).
    #[error("the path has a broken or overlong percent-encoding")]
    BrokenEscape,
    /// Percent-encoded more than twice.
    #[error("the path is percent-encoded again and again")]
    NestedEscape,
    /// A slash, backslash, question mark, number sign or control character where none belongs.
    #[error("the path hides a separator or a control character")]
    HiddenCharacter,
    /// `.` or `..`, under some reading.
    #[error("the path has a dot segment")]
    DotSegment,
    /// Two slashes in a row, under some reading.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// The segment that names the organization or resource has something other than letters, digits, `.`, `_`, `-`.
    #[error("the segment of the organization or resource has other characters than A-Z a-z 0-9 . _ -")]
    DecidingSegment,
    /// Two readings lead to two targets.
    #[error("two readings of the path lead to different places")]
    TwoTargets,
}

impl Ambiguous {
    /// The code that the answer carries.
    pub const fn code(self) -> ErrorCode {
        ErrorCode::GateAmbiguousTarget
    }
}

/// A path that has been decoded once and found harmless under every reading.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NormalisedPath<'a> {
    decoded: Cow<'a, str>,
    /// What others may read instead; nearly always empty.
    other_readings: Vec<String>,
}

impl NormalisedPath<'_> {
    /// The path, decoded once; starts with `/`.
    pub fn as_str(&self) -> &str {
        &self.decoded
    }
}

/// Judges the path of a request-target in origin form; what follows the first `?` is not looked at.
pub fn normalise_path(path_and_query: &str) -> Result<NormalisedPath<'_>, Ambiguous> {
    let path = path_and_query.split_once('?').map_or(path_and_query, |(path, _)| path);
    if !path.starts_with('/') {
        return Err(Ambiguous::NotOriginForm);
    }
    if path.len() > PATH_BYTES_MAX {
        return Err(Ambiguous::TooLong);
    }
    // A request-target is ASCII (RFC 3986 section 2): servers differ in how they read other bytes.
    if !path.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Ambiguous::HiddenCharacter);
    }

    let decoded = if path.contains('%') {
        if !escapes_are_whole(path) {
            return Err(Ambiguous::BrokenEscape);
        }
        decode(path)?
    } else {
        Cow::Borrowed(path)
    };
    check_reading(&decoded)?;
    let other_readings = if decoded.contains([';', '%']) { other_readings(&decoded)? } else { Vec::new() };
    Ok(NormalisedPath { decoded, other_readings })
}

/// What a server that decodes again, or that cuts path parameters off, would read. Each is checked like the first.
fn other_readings(once: &str) -> Result<Vec<String>, Ambiguous> {
    let twice = decode(once)?;
    if has_escape(&twice) {
        return Err(Ambiguous::NestedEscape);
    }
    let mut readings = Vec::with_capacity(5);
    for text in [once, &twice] {
        if text.contains(';') {
            // RFC 3986 section 3.3: parameters belong to one segment. Old servers cut everything behind the first.
            let cut: Vec<&str> = text.split('/').map(before_semicolon).collect();
            readings.push(cut.join("/"));
            readings.push(before_semicolon(text).to_owned());
        }
    }
    readings.push(twice.into_owned());
    for reading in &readings {
        check_reading(reading)?;
    }
    Ok(readings)
}

fn before_semicolon(text: &str) -> &str {
    text.split_once(';').map_or(text, |(before, _)| before)
}

/// Decodes once. A `%2f` is refused: the segments must stay the ones that are seen.
fn decode(text: &str) -> Result<Cow<'_, str>, Ambiguous> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| Ambiguous::BrokenEscape)?;
    let slashes = |text: &str| text.bytes().filter(|b| *b == b'/').count();
    if slashes(&decoded) == slashes(text) { Ok(decoded) } else { Err(Ambiguous::HiddenCharacter) }
}

/// Whether every percent sign begins an escape.
fn escapes_are_whole(text: &str) -> bool {
    text.split('%').skip(1).all(begins_with_two_hex_digits)
}

/// Whether there is at least one escape.
fn has_escape(text: &str) -> bool {
    text.split('%').skip(1).any(begins_with_two_hex_digits)
}

fn begins_with_two_hex_digits(text: &str) -> bool {
    matches!(text.as_bytes(), [first, second, ..] if first.is_ascii_hexdigit() && second.is_ascii_hexdigit())
}

/// Refuses what climbs or hides in one reading of a path.
fn check_reading(path: &str) -> Result<(), Ambiguous> {
    if path.chars().any(|c| c.is_control() || matches!(c, '\\' | '?' | '#')) {
        return Err(Ambiguous::HiddenCharacter);
    }
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() {
            // One slash at the end is allowed, and so is `/` itself.
            if segments.peek().is_some() {
                return Err(Ambiguous::EmptySegment);
            }
        } else if segment.bytes().all(|b| b == b'.' || b == b' ') {
            // Some systems drop blanks and dots at a name's end, so `.. ` climbs too, and `...` may.
            return Err(Ambiguous::DotSegment);
        }
    }
    Ok(())
}

// === Patterns ===

/// A path pattern of the operator's configuration: literal segments, `{org}`, `{resource}` or another `{name}` for one
/// segment, and at most one `**` for any number of segments. A slash at the end of a path says nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern {
    head: Vec<Segment>,
    /// What follows a `**`; `None` without one.
    tail: Option<Vec<Segment>>,
    /// The literal segments before `{resource}`, in lower case, joined by `/`.
    resource_prefix: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Segment {
    Literal(String),
    Organization,
    Resource,
    Any,
}

/// What is wrong with a pattern, in words for the operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PatternError {
    /// Not a path.
    #[error("a path pattern starts with /")]
    NoLeadingSlash,
    /// `//`, or a slash at the end.
    #[error("leave out doubled slashes and a slash at the end; use /** for everything below")]
    EmptySegment,
    /// `.` or `..`.
    #[error("a path pattern has no . or .. segments")]
    DotSegment,
    /// A character that no normalised path has, or that means something else.
    #[error(
        "a segment is plain text (decoded, without \\ ? # % ; * and control characters), {{org}}, {{resource}}, another {{name}}, or **"
    )]
    Character,
    /// Something other than letters, digits and `_` within braces.
    #[error("a name in braces has lower-case letters, digits and _ only, as in {{org}}")]
    PlaceholderName,
    /// The same of `{org}` or `{resource}` twice.
    #[error("{{org}} and {{resource}} stand at most once in a pattern")]
    PlaceholderTwice,
    /// More than one `**`.
    #[error("** stands at most once in a pattern")]
    DoubleStarTwice,
    /// `{org}` or `{resource}` behind a `**`.
    #[error("{{org}} and {{resource}} stand before **")]
    PlaceholderBehindDoubleStar,
    /// A pattern of `organization` that names none.
    #[error("a pattern of `organization` needs {{org}}")]
    NoOrganization,
    /// A pattern of `public` with `{org}` or `{resource}`.
    #[error(
        "a pattern of `public` has no {{org}} or {{resource}}; make a resource public with `doorward resource set`"
    )]
    PublicPlaceholder,
}

impl Pattern {
    /// Reads a pattern, as a rule's `path` has it.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let path = text.strip_prefix('/').ok_or(PatternError::NoLeadingSlash)?;
        let mut pattern = Self { head: Vec::new(), tail: None, resource_prefix: String::new() };
        if path.is_empty() {
            return Ok(pattern);
        }
        for text in path.split('/') {
            if text == "**" {
                if pattern.tail.replace(Vec::new()).is_some() {
                    return Err(PatternError::DoubleStarTwice);
                }
                continue;
            }
            let segment = Segment::parse(text)?;
            if matches!(segment, Segment::Organization | Segment::Resource) {
                if pattern.tail.is_some() {
                    return Err(PatternError::PlaceholderBehindDoubleStar);
                }
                if pattern.head.contains(&segment) {
                    return Err(PatternError::PlaceholderTwice);
                }
            }
            if segment == Segment::Resource {
                pattern.resource_prefix = literal_prefix(&pattern.head);
            }
            pattern.tail.as_mut().unwrap_or(&mut pattern.head).push(segment);
        }
        Ok(pattern)
    }

    /// Reads a pattern of an application's `organization`: it has `{org}`.
    pub fn parse_organization(text: &str) -> Result<Self, PatternError> {
        let pattern = Self::parse(text)?;
        if pattern.head.contains(&Segment::Organization) {
            Ok(pattern)
        } else {
            Err(PatternError::NoOrganization)
        }
    }

    /// Reads a pattern of an application's `public`: it has neither `{org}` nor `{resource}`.
    pub fn parse_public(text: &str) -> Result<Self, PatternError> {
        let pattern = Self::parse(text)?;
        let deciding = |segment: &Segment| matches!(segment, Segment::Organization | Segment::Resource);
        if pattern.head.iter().any(deciding) { Err(PatternError::PublicPlaceholder) } else { Ok(pattern) }
    }

    /// The first segment if it is a literal one: no organization may have such a name.
    pub fn first_literal(&self) -> Option<&str> {
        match self.head.first() {
            Some(Segment::Literal(literal)) => Some(literal),
            _ => None,
        }
    }

    /// Matches a decoded path and returns what `{org}` and `{resource}` stand for.
    fn captures<'p>(&self, path: &'p str, case: Case) -> Option<Captures<'p>> {
        // The path has no empty segments but before its first slash and behind its last.
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let mut captures = Captures::default();
        for expected in &self.head {
            let segment = segments.next()?;
            match expected {
                Segment::Literal(literal) if !case.equal(literal, segment) => return None,
                Segment::Literal(_) | Segment::Any => {}
                Segment::Organization => captures.organization = Some(segment),
                Segment::Resource => captures.resource = Some(segment),
            }
        }
        let Some(tail) = &self.tail else {
            return segments.next().is_none().then_some(captures);
        };
        for expected in tail.iter().rev() {
            let segment = segments.next_back()?;
            if matches!(expected, Segment::Literal(literal) if !case.equal(literal, segment)) {
                return None;
            }
        }
        Some(captures)
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, PatternError> {
        if let Some(name) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
            if name.is_empty() || !name.bytes().all(plain) {
                return Err(PatternError::PlaceholderName);
            }
            return Ok(match name {
                "org" => Self::Organization,
                "resource" => Self::Resource,
                _ => Self::Any,
            });
        }
        if text.is_empty() {
            return Err(PatternError::EmptySegment);
        }
        if text.bytes().all(|b| b == b'.' || b == b' ') {
            return Err(PatternError::DotSegment);
        }
        if text.chars().any(|c| c.is_control() || "\\?#%;*{}".contains(c)) {
            return Err(PatternError::Character);
        }
        Ok(Self::Literal(text.to_owned()))
    }
}

fn literal_prefix(segments: &[Segment]) -> String {
    let literals: Vec<String> = segments
        .iter()
        .filter_map(|segment| match segment {
            Segment::Literal(literal) => Some(literal.to_ascii_lowercase()),
            _ => None,
        })
        .collect();
    literals.join("/")
}

/// How literal segments compare. What opens is exact; what closes also holds for servers that ignore case.
#[derive(Clone, Copy)]
enum Case {
    Exact,
    Ignored,
}

impl Case {
    fn equal(self, literal: &str, segment: &str) -> bool {
        match self {
            Self::Exact => literal == segment,
            Self::Ignored => literal.eq_ignore_ascii_case(segment),
        }
    }
}

#[derive(Default)]
struct Captures<'p> {
    organization: Option<&'p str>,
    resource: Option<&'p str>,
}

// === Application ===

/// What happens to a path that belongs to no organization.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Unowned {
    /// Nobody gets in.
    #[default]
    Deny,
    /// Whoever is signed in.
    SignedIn,
    /// Everybody.
    Allow,
}

impl Unowned {
    /// The policy's name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::SignedIn => "signed_in",
            Self::Allow => "allow",
        }
    }

    /// The policy of that name.
    pub fn from_text(text: &str) -> Option<Self> {
        [Self::Deny, Self::SignedIn, Self::Allow].into_iter().find(|known| known.as_str() == text)
    }
}

/// The role that some methods on some paths need.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// The methods it is for; empty for all.
    pub methods: Vec<Method>,
    /// The paths it is for.
    pub path: Pattern,
    /// The least role that is let through.
    pub role: Role,
}

/// An application behind the gate, compiled from `[[app]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Application {
    /// The operator's name for it; the audience of assertions.
    pub name: String,
    /// Its host as [`normalise_host`] gives it.
    pub host: String,
    /// From [`Pattern::parse_organization`]; the first that matches names organization and resource.
    pub organization: Vec<Pattern>,
    /// From [`Pattern::parse_public`]; open to everybody, before anything else is asked.
    pub public: Vec<Pattern>,
    /// What happens to paths without an organization.
    pub unowned: Unowned,
    /// The first that matches says which role is needed.
    pub rules: Vec<Rule>,
}

/// A registered thing of an organization, public or not.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ResourceKey<'a> {
    /// The pattern's literal segments before `{resource}`, joined by `/`, in lower case: so that a public
    /// `/datasets/acme/x` does not open `/acme/x`.
    pub prefix: &'a str,
    /// The resource's name in lower case.
    pub name: Cow<'a, str>,
}

/// What a request is for, as its application's patterns read it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target<'a> {
    /// The organization's name in lower case, if the path names one. Whether anybody has that name is not known here.
    pub organization: Option<Cow<'a, str>>,
    /// The resource, if the path names one.
    pub resource: Option<ResourceKey<'a>>,
    /// The operator declared this path public.
    pub public: bool,
    /// The least role that a member needs; never below `read`.
    pub needed_role: Role,
    /// What the application wants for a path that belongs to no organization.
    pub unowned: Unowned,
}

impl Application {
    /// Finds what a request is for. Refuses a path that different servers could lead to different targets.
    pub fn target<'a>(
        &'a self,
        method: Method,
        path: &'a NormalisedPath<'_>,
    ) -> Result<Target<'a>, Ambiguous> {
        let target = self.target_of_reading(method, path.as_str())?;
        for reading in &path.other_readings {
            if self.target_of_reading(method, reading)? != target {
                return Err(Ambiguous::TwoTargets);
            }
        }
        Ok(target)
    }

    /// The first segments that are literal in some pattern: no organization may have such a name.
    pub fn literal_first_segments(&self) -> impl Iterator<Item = &str> {
        let rules = self.rules.iter().map(|rule| &rule.path);
        self.organization.iter().chain(&self.public).chain(rules).filter_map(Pattern::first_literal)
    }

    fn target_of_reading<'a>(&'a self, method: Method, path: &'a str) -> Result<Target<'a>, Ambiguous> {
        let public = self.public.iter().any(|pattern| pattern.captures(path, Case::Exact).is_some());
        let mut target = Target {
            organization: None,
            resource: None,
            public,
            needed_role: self.needed_role(method, path),
            unowned: self.unowned,
        };
        let found = self
            .organization
            .iter()
            .find_map(|pattern| Some((pattern, pattern.captures(path, Case::Ignored)?)));
        let Some((pattern, captures)) = found else {
            return Ok(target);
        };
        let deciding = [captures.organization, captures.resource];
        if !deciding.into_iter().flatten().all(is_deciding_segment) {
            // A public file may have any name: then it belongs to nobody. Elsewhere such a name is not guessed at.
            return if public { Ok(target) } else { Err(Ambiguous::DecidingSegment) };
        }
        target.organization = captures.organization.map(lower_case);
        target.resource = captures
            .resource
            .map(|name| ResourceKey { prefix: &pattern.resource_prefix, name: lower_case(name) });
        Ok(target)
    }

    fn needed_role(&self, method: Method, path: &str) -> Role {
        self.rules
            .iter()
            .find(|rule| {
                (rule.methods.is_empty() || rule.methods.contains(&method))
                    && rule.path.captures(path, Case::Ignored).is_some()
            })
            .map_or(method.default_role(), |rule| rule.role.max(Role::Read))
    }
}

fn is_deciding_segment(segment: &str) -> bool {
    segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn lower_case(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}
