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
    let has_capitals = name.bytes().any(|b| b.is_ascii_uppercase());
    match port {
        // Most hosts arrive as they are kept.
        None if !has_capitals => Some(Cow::Borrowed(name)),
        None => Some(Cow::Owned(name.to_ascii_lowercase())),
        Some(port) if host.len() == name.len() + 1 + port.len() && !has_capitals => Some(Cow::Borrowed(host)),
        Some(port) => Some(Cow::Owned(format!("{}:{port}", name.to_ascii_lowercase()))),
    }
}

/// Splits `name:port`. The port is 1 to 65535 without leading zeros, or the whole is refused.
fn split_port(host: &str) -> Option<(&str, Option<&str>)> {
    let name_ends = if host.starts_with('[') { host.find(']')? } else { 0 };
    let colon = host.bytes().rposition(|b| b == b':');
    let Some(colon) = colon.filter(|colon| *colon > name_ends) else {
        return Some((host, None));
    };
    let (name, port) = (host.get(..colon)?, host.get(colon + 1..)?);
    let plain =
        !port.starts_with('0') && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    plain.then_some((name, Some(port)))
}

fn is_host_name(name: &str) -> bool {
    let mut label_bytes = 0;
    let mut before = b'.';
    for b in name.bytes() {
        let fits = match b {
            b'.' => before != b'.' && before != b'-',
            b'-' => before != b'.',
            _ => b.is_ascii_alphanumeric(),
        };
        label_bytes = if b == b'.' { 0 } else { label_bytes + 1 };
        if !fits || label_bytes > 63 {
            return false;
        }
        before = b;
    }
    name.len() <= 253 && before != b'.' && before != b'-'
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
    let other_readings =
        if decoded.contains([';', '%']) { other_readings(path, &decoded)? } else { Vec::new() };
    Ok(NormalisedPath { decoded, other_readings })
}

/// The place in a refused path that it is refused for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offence<'p> {
    /// Bytes before the character.
    pub at: usize,
    /// The character, or the escape `%xx` as it was sent.
    pub character: &'p str,
    /// The segment that it stands in, as it was sent.
    pub segment: &'p str,
}

/// Which character of a path is to blame for `why`: the one behind the longest beginning of the path that `judge` does
/// not refuse for the same cause. Asks for each character, so it is for explaining one request and not for judging many.
/// `None` where no single character is to blame.
pub fn offence(
    path_and_query: &str,
    why: Ambiguous,
    judge: impl Fn(&str) -> Result<(), Ambiguous>,
) -> Option<Offence<'_>> {
    let path = path_and_query.split_once('?').map_or(path_and_query, |(path, _)| path);
    if why == Ambiguous::TooLong {
        return None;
    }
    let mut found = None;
    let mut at = 0;
    while let Some(rest) = path.get(at..).filter(|rest| !rest.is_empty()) {
        let is_escape = rest.strip_prefix('%').is_some_and(begins_with_two_hex_digits);
        let length = if is_escape { 3 } else { rest.chars().next().map_or(1, char::len_utf8) };
        let until = at + length;
        if path.get(..until).is_some_and(|beginning| judge(beginning) == Err(why)) {
            found = found.or(Some(at..until));
        } else {
            found = None;
        }
        at = until;
    }
    let found = found?;
    let begins = path.get(..found.start)?.rfind('/').map_or(0, |slash| slash + 1);
    let character = path.get(found.clone())?;
    let segment = path.get(begins..)?.split('/').next()?;
    Some(Offence { at: found.start, character, segment })
}

/// What a server that decodes again, or that cuts path parameters off, would read. Each is checked like the first.
fn other_readings(raw: &str, once: &str) -> Result<Vec<String>, Ambiguous> {
    let twice = decode(once)?;
    if has_escape(&twice) {
        return Err(Ambiguous::NestedEscape);
    }
    // A server may cut before it decodes, or in between: then plain and encoded semicolons together give more readings
    // than are looked at below. Nobody sends both.
    let [plain, early, all] = [raw, once, &twice].map(|text| text.matches(';').count());
    if [plain, early].into_iter().any(|count| count != 0 && count != all) {
        return Err(Ambiguous::HiddenCharacter);
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
    /// As the operator wrote it.
    text: String,
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
    /// `{org}` where the host tells the organization.
    #[error("{{org}} is not in the paths of an application whose host tells the organization")]
    OrganizationTwice,
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
        let mut pattern =
            Self { text: text.to_owned(), head: Vec::new(), tail: None, resource_prefix: String::new() };
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

    /// Reads a pattern of an application whose host tells the organization: it has no `{org}`.
    pub fn parse_without_organization(text: &str) -> Result<Self, PatternError> {
        let pattern = Self::parse(text)?;
        if pattern.head.contains(&Segment::Organization) {
            Err(PatternError::OrganizationTwice)
        } else {
            Ok(pattern)
        }
    }

    /// Reads a pattern of an application's `public`: it has neither `{org}` nor `{resource}`.
    pub fn parse_public(text: &str) -> Result<Self, PatternError> {
        let pattern = Self::parse(text)?;
        let deciding = |segment: &Segment| matches!(segment, Segment::Organization | Segment::Resource);
        if pattern.head.iter().any(deciding) { Err(PatternError::PublicPlaceholder) } else { Ok(pattern) }
    }

    /// As the operator wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The first segment if it is a literal one: no organization may have such a name.
    pub fn first_literal(&self) -> Option<&str> {
        match self.head.first() {
            Some(Segment::Literal(literal)) => Some(literal),
            _ => None,
        }
    }

    /// A path that the pattern matches, encoded as a request has it: `{org}` is `organization`, every other placeholder and a
    /// `**` is `other`.
    pub fn example(&self, organization: &str, other: &str) -> String {
        let text = |segment: &Segment| match segment {
            Segment::Literal(literal) => literal.clone(),
            Segment::Organization => organization.to_owned(),
            Segment::Resource | Segment::Any => other.to_owned(),
        };
        let mut segments: Vec<_> = self.head.iter().map(text).collect();
        if let Some(tail) = &self.tail {
            segments.push(other.to_owned());
            segments.extend(tail.iter().map(text));
        }
        let mut path = String::from("/");
        for byte in segments.join("/").bytes() {
            match byte {
                b'/' | b'-' | b'.' | b'_' | b'~' => path.push(byte.into()),
                _ if byte.is_ascii_alphanumeric() => path.push(byte.into()),
                _ => {
                    path.push('%');
                    let digits = [byte >> 4, byte & 15].into_iter();
                    let digits = digits.filter_map(|digit| char::from_digit(digit.into(), 16));
                    path.extend(digits.map(|digit| digit.to_ascii_uppercase()));
                }
            }
        }
        path
    }

    /// Whether it ends with `**`: whatever follows a path that it matches, it matches that too.
    pub fn is_open_ended(&self) -> bool {
        self.tail.as_ref().is_some_and(Vec::is_empty)
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

/// How the host of an application begins whose hosts tell the organization.
pub const ORGANIZATION_LABEL: &str = "{org}";

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

/// What tells whose a request is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Mapping {
    /// `{org}` in the path.
    #[default]
    Path,
    /// The first label of the host, as in `acme.hub.example.com`.
    Host,
    /// Nothing: what has no `{org}` in its pattern belongs to the organization of this name, in lower case.
    Fixed(String),
}

/// An application behind the gate, compiled from `[[app]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Application {
    /// The operator's name for it; the audience of assertions.
    pub name: String,
    /// Its host as [`normalise_host`] gives it; for [`Mapping::Host`] with `{org}` in the place of the first label.
    pub host: String,
    /// What tells whose a request is.
    pub mapping: Mapping,
    /// From [`Pattern::parse_organization`], or [`Pattern::parse_without_organization`] if the host tells the
    /// organization, or either with [`Mapping::Fixed`]; the first that matches names organization and resource.
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

/// Which of an application's patterns made a target what it is, for whoever asks why. Decides nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Matched<'a> {
    /// Of `public`.
    pub public: Option<&'a Pattern>,
    /// Of `organization`.
    pub organization: Option<&'a Pattern>,
    /// Of `rules`; without one, the method says which role is needed.
    pub rule: Option<&'a Rule>,
}

impl Application {
    /// The first label of a host of this application, for [`Mapping::Host`]; `None` if the host is none of its hosts, or
    /// tells no organization. `host` in the form of [`normalise_host`].
    pub fn organization_in<'h>(&self, host: &'h str) -> Option<&'h str> {
        let label = host.strip_suffix(self.host.strip_prefix(ORGANIZATION_LABEL)?)?;
        (!label.is_empty() && !label.contains(['.', ':', '['])).then_some(label)
    }

    /// The organization that a host of this application belongs to whatever the path, in lower case; `None` if paths tell
    /// it. `host` in the form of [`normalise_host`].
    pub fn organization_of_host<'h>(&'h self, host: &'h str) -> Option<&'h str> {
        match &self.mapping {
            Mapping::Path => None,
            Mapping::Host => self.organization_in(host),
            Mapping::Fixed(name) => Some(name),
        }
    }

    /// Finds what a request on one of its hosts is for. Refuses a path that different servers could lead to different
    /// targets.
    pub fn target<'a>(
        &'a self,
        method: Method,
        host: &'a str,
        path: &'a NormalisedPath<'_>,
    ) -> Result<(Target<'a>, Matched<'a>), Ambiguous> {
        let (mut target, mut matched) = self.target_of_reading(method, host, path.as_str())?;
        for reading in &path.other_readings {
            let (other, _) = self.target_of_reading(method, host, reading)?;
            if other == target {
                continue;
            }
            if !(target.public && other.public) {
                return Err(Ambiguous::TwoTargets);
            }
            // Open to everybody under both readings; only whose it is can't be said.
            target = Target { organization: None, resource: None, ..target };
            matched.organization = None;
        }
        Ok((target, matched))
    }

    /// The first segments that are literal in some pattern: no organization may have such a name if the path tells it.
    pub fn literal_first_segments(&self) -> impl Iterator<Item = &str> {
        let by_path = self.is_by_path();
        let rules = self.rules.iter().map(|rule| &rule.path).filter(move |_| by_path);
        self.patterns_that_open().chain(rules).filter_map(Pattern::first_literal)
    }

    /// The patterns that say of a path that it is everybody's or whose it is, if the path tells it: an organization whose
    /// name one of them begins with would be open there. A rule opens nothing.
    pub fn patterns_that_open(&self) -> impl Iterator<Item = &Pattern> {
        let by_path = self.is_by_path();
        self.organization.iter().chain(&self.public).filter(move |_| by_path)
    }

    /// Whether a path may tell whose it is.
    fn is_by_path(&self) -> bool {
        let has_organization = |pattern: &Pattern| pattern.head.contains(&Segment::Organization);
        self.mapping == Mapping::Path || self.organization.iter().any(has_organization)
    }

    fn target_of_reading<'a>(
        &'a self,
        method: Method,
        host: &'a str,
        path: &'a str,
    ) -> Result<(Target<'a>, Matched<'a>), Ambiguous> {
        let mut matched = Matched {
            public: self.public.iter().find(|pattern| pattern.captures(path, Case::Exact).is_some()),
            organization: None,
            rule: self.rule(method, path),
        };
        let public = matched.public.is_some();
        let mut target = Target {
            organization: None,
            resource: None,
            public,
            needed_role: matched.rule.map_or(method.default_role(), |rule| rule.role.max(Role::Read)),
            unowned: self.unowned,
        };
        let found = self
            .organization
            .iter()
            .find_map(|pattern| Some((pattern, pattern.captures(path, Case::Ignored)?)));
        let Some((pattern, captures)) = found else {
            return Ok((target, matched));
        };
        let deciding = [captures.organization, captures.resource];
        if !deciding.into_iter().flatten().all(is_deciding_segment) {
            // A public file may have any name: then it belongs to nobody. Elsewhere such a name is not guessed at.
            return if public { Ok((target, matched)) } else { Err(Ambiguous::DecidingSegment) };
        }
        matched.organization = Some(pattern);
        target.organization = match &self.mapping {
            Mapping::Path => captures.organization.map(lower_case),
            Mapping::Host => self.organization_in(host).map(Cow::Borrowed),
            Mapping::Fixed(name) => {
                Some(captures.organization.map_or(Cow::Borrowed(name.as_str()), lower_case))
            }
        };
        target.resource = captures
            .resource
            .map(|name| ResourceKey { prefix: &pattern.resource_prefix, name: lower_case(name) });
        Ok((target, matched))
    }

    fn rule(&self, method: Method, path: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| {
            (rule.methods.is_empty() || rule.methods.contains(&method))
                && rule.path.captures(path, Case::Ignored).is_some()
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOST: &str = "hub.example.com";

    fn hub() -> Application {
        let organization = ["/datasets/{org}/{resource}/**", "/{org}/{resource}/**", "/{org}/**"];
        let public = ["/", "/static/**", "/about"];
        Application {
            name: "hub".to_owned(),
            host: HOST.to_owned(),
            mapping: Mapping::Path,
            organization: organization.map(|text| Pattern::parse_organization(text).unwrap()).to_vec(),
            public: public.map(|text| Pattern::parse_public(text).unwrap()).to_vec(),
            unowned: Unowned::Deny,
            rules: vec![
                Rule {
                    methods: vec![Method::Delete],
                    path: Pattern::parse("/{org}/settings/**").unwrap(),
                    role: Role::Admin,
                },
                Rule {
                    methods: vec![],
                    path: Pattern::parse("/{org}/settings/**").unwrap(),
                    role: Role::Write,
                },
                Rule {
                    methods: vec![Method::Post],
                    path: Pattern::parse("/{org}/**/votes").unwrap(),
                    role: Role::Read,
                },
            ],
        }
    }

    /// Public or not, organization, resource with its prefix.
    type Seen = (bool, Option<String>, Option<(String, String)>);

    /// What the hub makes of a GET.
    fn read(path: &str) -> Result<Seen, Ambiguous> {
        let hub = hub();
        let path = normalise_path(path)?;
        let (target, _) = hub.target(Method::Get, HOST, &path)?;
        let resource = target.resource.map(|key| (key.prefix.to_owned(), key.name.into_owned()));
        Ok((target.public, target.organization.map(Cow::into_owned), resource))
    }

    fn needed(method: Method, path: &str) -> Role {
        let hub = hub();
        let path = normalise_path(path).unwrap();
        hub.target(method, HOST, &path).unwrap().0.needed_role
    }

    #[test]
    fn an_example_of_a_pattern_is_matched_by_it() {
        for (text, path, open_ended) in [
            ("/", "/", false),
            ("/static/**", "/static/x", true),
            ("/{org}/{resource}/**", "/acme/x/x", true),
            ("/v1/{name}/**/raw", "/v1/x/x/raw", false),
            ("/caf\u{e9} menu/{org}", "/caf%C3%A9%20menu/acme", false),
        ] {
            let pattern = Pattern::parse(text).unwrap();
            assert_eq!((pattern.example("acme", "x").as_str(), pattern.is_open_ended()), (path, open_ended));
            let normalised = normalise_path(path).unwrap();
            assert!(pattern.captures(normalised.as_str(), Case::Exact).is_some(), "{text}: {path}");
        }
    }

    #[test]
    fn the_first_pattern_that_matches_names_organization_and_resource() {
        let resource = |prefix: &str, name: &str| Some((prefix.to_owned(), name.to_owned()));
        let acme = || Some("acme".to_owned());
        for (path, organization, named) in [
            ("/acme", acme(), None),
            ("/acme/", acme(), None),
            ("/acme/x", acme(), resource("", "x")),
            ("/acme/x/y/z", acme(), resource("", "x")),
            ("/datasets/acme/x", acme(), resource("datasets", "x")),
            ("/datasets/acme/x/tree/main/", acme(), resource("datasets", "x")),
            ("/acme/x?next=/other/../y%2f", acme(), resource("", "x")),
        ] {
            assert_eq!(read(path), Ok((false, organization, named)), "{path}");
        }
    }

    #[test]
    fn names_that_decide_compare_in_lower_case() {
        let expected =
            Ok((false, Some("acme".to_owned()), Some(("datasets".to_owned(), "corpus".to_owned()))));
        for path in ["/datasets/Acme/Corpus", "/DataSets/ACME/corpus/", "/datasets/%41cme/cor%70us"] {
            assert_eq!(read(path), expected, "{path}");
        }
    }

    #[test]
    fn a_public_path_is_exact_in_case_because_it_opens() {
        for path in ["/", "/about", "/about/", "/static", "/static/app.css", "/static/a/%62.js", "/?q"] {
            assert!(read(path).unwrap().0, "{path}");
        }
        for path in ["/About", "/STATIC/app.css", "/aboutx", "/about/x", "/acme/about"] {
            assert!(!read(path).unwrap().0, "{path}");
        }
    }

    #[test]
    fn v10_a_plain_and_an_encoded_semicolon_together_are_refused() {
        // Cut at the plain one and then decoded, the first ends in a segment that a rule may name.
        for path in
            ["/acme/x/settings%3b/danger;r/y;z", "/acme/x;a%3bb", "/acme/x%3ba/%253bb", "/acme/x;%253b"]
        {
            assert_eq!(normalise_path(path), Err(Ambiguous::HiddenCharacter), "{path}");
        }
        for path in ["/acme/x/a;b;c", "/acme/x/a%3bb%3Bc", "/acme/x/a%253bb"] {
            assert!(normalise_path(path).is_ok(), "{path}");
        }
    }

    #[test]
    fn a_public_file_may_have_any_name() {
        assert_eq!(read("/static/my%20file/%C3%BC.txt"), Ok((true, None, None)));
    }

    #[test]
    fn a_name_that_decides_is_letters_digits_dots_underscores_and_hyphens_or_the_request_is_refused() {
        for path in [
            "/ac%20me/x",
            "/acm%C3%A9",
            "/acme/a%20b",
            "/acme/a+b",
            "/ac~me",
            "/acme%20",
            "/a@b",
            "/datasets/a:b/c",
        ] {
            assert_eq!(read(path), Err(Ambiguous::DecidingSegment), "{path}");
        }
        assert!(read("/acme/x/a%20b+c@d").is_ok(), "what follows may be named as it likes");
    }

    #[test]
    fn v10_whatever_climbs_or_hides_under_some_reading_is_refused() {
        use Ambiguous::*;
        for (path, why) in [
            ("", NotOriginForm),
            ("*", NotOriginForm),
            ("acme/x", NotOriginForm),
            ("http://hub.example.com/acme", NotOriginForm),
            ("hub.example.com:443", NotOriginForm),
            ("?/acme", NotOriginForm),
            ("//acme/x", EmptySegment),
            ("/acme//x", EmptySegment),
            ("/acme/x//", EmptySegment),
            ("/acme/./x", DotSegment),
            ("/acme/x/..", DotSegment),
            ("/static/../acme", DotSegment),
            ("/static/%2e%2e/acme", DotSegment),
            ("/static/%2E./acme", DotSegment),
            ("/static/%252e%252e/acme", DotSegment),
            ("/static/..;/acme", DotSegment),
            ("/static/..;x=y/acme", DotSegment),
            ("/static/..%3b/acme", DotSegment),
            ("/static/%2e%2e%253b/acme", DotSegment),
            ("/static/..%20/acme", DotSegment),
            ("/static/.../acme", DotSegment),
            ("/acme/;x/y", EmptySegment),
            ("/static/..%2facme", HiddenCharacter),
            ("/acme%2Fx", HiddenCharacter),
            ("/acme%252fx", HiddenCharacter),
            ("/acme\\x", HiddenCharacter),
            ("/acme%5cx", HiddenCharacter),
            ("/acme%255cx", HiddenCharacter),
            ("/acme%00", HiddenCharacter),
            ("/acme%2500", HiddenCharacter),
            ("/acme%0d%0aX:y", HiddenCharacter),
            ("/acme%7f", HiddenCharacter),
            ("/acme%c2%85", HiddenCharacter),
            ("/acme x", HiddenCharacter),
            ("/acme\t", HiddenCharacter),
            ("/acmé", HiddenCharacter),
            ("/acme%", BrokenEscape),
            ("/acme%2", BrokenEscape),
            ("/acme%zz", BrokenEscape),
            ("/static/%u002e%u002e/acme", BrokenEscape),
            ("/static/%c0%ae%c0%ae/acme", BrokenEscape),
            ("/static/%c0%af", BrokenEscape),
            ("/static/%e0%80%ae", BrokenEscape),
            ("/static/%ff", BrokenEscape),
            ("/static/%25ff", BrokenEscape),
            ("/static/%25252e", NestedEscape),
        ] {
            assert_eq!(read(path), Err(why), "{path:?}");
        }
        assert_eq!(read(&format!("/{}", "a".repeat(PATH_BYTES_MAX))), Err(TooLong));
    }

    #[test]
    fn a_refused_path_names_the_character_that_it_is_refused_for() {
        let hub = hub();
        let judge = |path: &str| hub.target(Method::Get, HOST, &normalise_path(path)?).map(|_| ());
        for (path, character, segment) in [
            ("/acme/..%2fx", "%2f", "..%2fx"),
            ("/acme/../x", ".", ".."),
            ("/.x/y/../z", ".", ".."),
            ("/acme//x", "/", ""),
            ("/acme/a\\b", "\\", "a\\b"),
            ("/%c3%bc/%ff", "%ff", "%ff"),
            ("/%c3%bc%ff", "%ff", "%c3%bc%ff"),
            ("/acme/100%", "%", "100%"),
            ("/acme/%zz", "%", "%zz"),
            ("/ac%20me/x", "%20", "ac%20me"),
            ("/acme/b~c/d", "~", "b~c"),
            ("/acme/ü/x", "ü", "ü"),
            ("/acme/settings;x/keys?a/../b", ";", "settings;x"),
            ("acme", "a", "acme"),
        ] {
            let why = judge(path).unwrap_err();
            let offence = offence(path, why, judge).unwrap_or_else(|| panic!("{path}: {why}"));
            assert_eq!((offence.character, offence.segment), (character, segment), "{path}: {why}");
            assert!(path[offence.at..].starts_with(character), "{path}");
        }
        let long = format!("/{}", "a".repeat(PATH_BYTES_MAX));
        assert_eq!(offence(&long, Ambiguous::TooLong, judge), None);
        assert_eq!(offence("", Ambiguous::NotOriginForm, judge), None);
    }

    #[test]
    fn what_matched_is_named_by_the_operators_own_text() {
        let hub = hub();
        let path = normalise_path("/acme/settings/keys").unwrap();
        let (_, matched) = hub.target(Method::Delete, HOST, &path).unwrap();
        assert_eq!(matched.organization.map(Pattern::as_str), Some("/{org}/{resource}/**"));
        assert_eq!(
            matched.rule.map(|rule| (rule.path.as_str(), rule.role)),
            Some(("/{org}/settings/**", Role::Admin))
        );
        assert!(matched.public.is_none());
        let path = normalise_path("/static/x.css").unwrap();
        let (_, matched) = hub.target(Method::Get, HOST, &path).unwrap();
        assert_eq!(matched.public.map(Pattern::as_str), Some("/static/**"));
    }

    #[test]
    fn the_host_or_the_configuration_may_tell_the_organization_instead_of_the_path() {
        let told = |application: &Application, host: &str, path: &str| {
            let path = normalise_path(path).unwrap();
            let (target, _) = application.target(Method::Get, host, &path).unwrap();
            let resource = target.resource.map(|resource| resource.name.into_owned());
            (target.organization.map(Cow::into_owned), resource)
        };
        let patterns =
            ["/data/{resource}/**", "/**"].map(|text| Pattern::parse_without_organization(text).unwrap());
        let by_host = Application {
            host: "{org}.hub.example.com:8443".to_owned(),
            mapping: Mapping::Host,
            organization: patterns.to_vec(),
            rules: vec![],
            ..hub()
        };
        let acme = || Some("acme".to_owned());
        assert_eq!(told(&by_host, "acme.hub.example.com:8443", "/"), (acme(), None));
        assert_eq!(told(&by_host, "acme.hub.example.com:8443", "/globex/x"), (acme(), None));
        assert_eq!(told(&by_host, "acme.hub.example.com:8443", "/data/X/y"), (acme(), Some("x".to_owned())));
        for host in [
            "hub.example.com:8443",
            ".hub.example.com:8443",
            "a.acme.hub.example.com:8443",
            "acme.hub.example.com",
            "acmehub.example.com:8443",
            "acme.evil.example",
        ] {
            assert_eq!(by_host.organization_in(host), None, "{host}");
        }
        assert_eq!(hub().organization_in(HOST), None);
        assert_eq!(by_host.literal_first_segments().count(), 0, "its paths take no name away");

        let fixed =
            Application { host: HOST.to_owned(), mapping: Mapping::Fixed("acme".to_owned()), ..by_host };
        assert_eq!(told(&fixed, HOST, "/globex"), (acme(), None));
        let shared = Pattern::parse_organization("/shared/{org}/**").unwrap();
        let both = Application { organization: vec![shared, patterns[1].clone()], ..fixed.clone() };
        assert_eq!(told(&both, HOST, "/shared/Globex/x"), (Some("globex".to_owned()), None));
        assert_eq!(told(&both, HOST, "/globex"), (acme(), None));
        let some = Application { organization: patterns[..1].to_vec(), ..fixed };
        assert_eq!(told(&some, HOST, "/elsewhere"), (None, None), "what no pattern names belongs to nobody");
        assert_eq!(Pattern::parse_without_organization("/{org}/x"), Err(PatternError::OrganizationTwice));
    }

    #[test]
    fn v09_no_number_sign_question_mark_or_semicolon_makes_a_path_public() {
        for trick in ["#", "%23", "%3f", "%253f", ";", "%3b", "?"] {
            for path in [
                format!("/acme/x{trick}/static/app.css"),
                format!("/acme{trick}/../static/"),
                format!("/{trick}static/app.css"),
                format!("/acme/secret{trick}/about"),
                format!("/acme/secret/{trick}about"),
            ] {
                let public = read(&path).is_ok_and(|(public, ..)| public);
                assert!(!public || path.starts_with("/?"), "{path}");
            }
        }
    }

    #[test]
    fn v10_a_semicolon_or_a_second_escape_is_refused_only_where_it_would_lead_elsewhere() {
        for path in
            ["/acme/settings;x/keys", "/about;x", "/about%3bx", "/%2561bout", "/acme/x;v", "/ac%256de/x"]
        {
            assert!(read(path).is_err(), "{path}");
        }
        for path in ["/acme/x/draft;v2.txt", "/acme/x/100%25", "/acme/x/a%2520b", "/static/a;b.css"] {
            assert!(read(path).is_ok(), "{path}");
        }
    }

    #[test]
    fn without_a_rule_looking_needs_read_and_everything_else_write() {
        for method in Method::ALL {
            let expected = match method {
                Method::Get | Method::Head | Method::Options => Role::Read,
                _ => Role::Write,
            };
            assert_eq!(needed(method, "/acme/x"), expected, "{}", method.as_str());
        }
    }

    #[test]
    fn m10_the_first_rule_for_method_and_path_says_which_role_is_needed() {
        assert_eq!(needed(Method::Delete, "/acme/settings/keys"), Role::Admin);
        assert_eq!(needed(Method::Get, "/acme/settings"), Role::Write);
        assert_eq!(
            needed(Method::Get, "/acme/SETTINGS/"),
            Role::Write,
            "servers that ignore case are behind us too"
        );
        assert_eq!(needed(Method::Post, "/acme/x/y/votes"), Role::Read);
        assert_eq!(needed(Method::Post, "/acme/votes"), Role::Read, "two stars are no segment, too");
        assert_eq!(needed(Method::Post, "/acme/votes/x"), Role::Write);
    }

    #[test]
    fn a_rule_never_lets_members_without_access_in() {
        let mut hub = hub();
        hub.rules =
            vec![Rule { methods: vec![], path: Pattern::parse("/**").unwrap(), role: Role::NoAccess }];
        let path = normalise_path("/acme/x").unwrap();
        assert_eq!(hub.target(Method::Post, HOST, &path).unwrap().0.needed_role, Role::Read);
    }

    #[test]
    fn a_mistaken_pattern_is_explained() {
        use PatternError::*;
        for (text, why) in [
            ("", NoLeadingSlash),
            ("acme", NoLeadingSlash),
            ("//", EmptySegment),
            ("/static/", EmptySegment),
            ("/a/../b", DotSegment),
            ("/a%20b", Character),
            ("/*", Character),
            ("/a**", Character),
            ("/{org", Character),
            ("/a;b", Character),
            ("/{}", PlaceholderName),
            ("/{Org}", PlaceholderName),
            ("/{org}/{org}", PlaceholderTwice),
            ("/**/a/**", DoubleStarTwice),
            ("/**/{org}", PlaceholderBehindDoubleStar),
        ] {
            assert_eq!(Pattern::parse(text), Err(why), "{text}");
        }
        assert_eq!(Pattern::parse_organization("/{x}/**"), Err(NoOrganization));
        assert_eq!(Pattern::parse_public("/{org}/about"), Err(PublicPlaceholder));
        assert!(NoOrganization.to_string().contains("needs {org}"));
    }

    #[test]
    fn the_literal_first_segments_are_the_names_that_no_organization_may_have() {
        let hub = hub();
        let mut names: Vec<&str> = hub.literal_first_segments().collect();
        names.sort_unstable();
        assert_eq!(names, ["about", "datasets", "static"]);
    }

    #[test]
    fn unknown_methods_and_upgrades_are_not_passed_on() {
        for method in Method::ALL {
            assert_eq!(Method::from_text(method.as_str()), Some(method));
        }
        for method in ["get", "TRACE", "CONNECT", "PROPFIND", "", "GET "] {
            assert_eq!(Method::from_text(method), None, "{method}");
        }
        assert!(is_allowed_upgrade("websocket") && is_allowed_upgrade("WebSocket"));
        for upgrade in ["h2c", "websocket, h2c", "TLS/1.0", ""] {
            assert!(!is_allowed_upgrade(upgrade), "{upgrade}");
        }
    }

    #[test]
    fn v12_hosts_compare_in_one_form() {
        for (host, https, expected) in [
            ("hub.example.com", true, Some("hub.example.com")),
            ("HUB.Example.COM.", true, Some("hub.example.com")),
            ("hub.example.com:443", true, Some("hub.example.com")),
            ("hub.example.com.:443", true, Some("hub.example.com")),
            ("hub.example.com:80", true, Some("hub.example.com:80")),
            ("Hub.localhost:8080", false, Some("hub.localhost:8080")),
            ("hub.example.com:80", false, Some("hub.example.com")),
            ("xn--bcher-kva.example", true, Some("xn--bcher-kva.example")),
            ("127.0.0.1:8080", false, Some("127.0.0.1:8080")),
            ("[::1]:8080", false, Some("[::1]:8080")),
            ("[::1]", false, Some("[::1]")),
            ("", true, None),
            (".", true, None),
            ("hub.example.com..", true, None),
            ("hub..example.com", true, None),
            ("hub.example.com:", true, None),
            ("hub.example.com:0443", true, None),
            ("hub.example.com:65536", true, None),
            ("hub.example.com:+80", true, None),
            ("hub.example.com:80:80", true, None),
            ("evil.example@hub.example.com", true, None),
            ("hub.example.com/x", true, None),
            ("hub.example.com, evil.example", true, None),
            ("hub_example.com", true, None),
            ("bücher.example", true, None),
            ("hub\u{3002}example.com", true, None),
            ("[::1", false, None),
            ("[::1]x", false, None),
            ("::1", false, None),
        ] {
            assert_eq!(normalise_host(host, https).as_deref(), expected, "{host}");
        }
    }

    #[test]
    fn only_a_navigation_of_a_browser_is_redirected() {
        let html = Some("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8");
        assert!(is_navigation(Method::Get, Some("navigate"), None, false, false));
        assert!(is_navigation(Method::Head, None, html, false, false));
        assert!(is_navigation(Method::Get, None, Some("application/json, Text/HTML ;q=0.5"), false, false));
        for (method, mode, accept, requested_with, upgrade) in [
            (Method::Post, Some("navigate"), html, false, false),
            (Method::Get, Some("cors"), html, false, false),
            (Method::Get, Some("websocket"), None, false, true),
            (Method::Get, None, html, true, false),
            (Method::Get, None, html, false, true),
            (Method::Get, None, Some("*/*"), false, false),
            (Method::Get, None, Some("text/htmlx"), false, false),
            (Method::Get, None, None, false, false),
        ] {
            assert!(
                !is_navigation(method, mode, accept, requested_with, upgrade),
                "{method:?} {mode:?} {accept:?}"
            );
        }
    }

    /// A careless server, written without looking at the code above: decodes `times`, cuts at `;` or not, takes `\` for
    /// `/`, ends at NUL, drops empty segments and walks dots. Returns the segments in lower case.
    fn careless_segments(path: &str, times: usize, cut: bool) -> Vec<String> {
        let mut bytes = path.split('?').next().unwrap_or("").as_bytes().to_vec();
        for _ in 0..times {
            let mut out = Vec::new();
            let mut rest = bytes.as_slice();
            while let Some((first, more)) = rest.split_first() {
                let hex = |b: u8| char::from(b).to_digit(16);
                match more {
                    [high, low, after @ ..]
                        if *first == b'%' && hex(*high).is_some() && hex(*low).is_some() =>
                    {
                        out.push(u8::try_from(hex(*high).unwrap() * 16 + hex(*low).unwrap()).unwrap());
                        rest = after;
                    }
                    _ => {
                        out.push(*first);
                        rest = more;
                    }
                }
            }
            bytes = out;
        }
        let text = String::from_utf8_lossy(&bytes).replace('\\', "/");
        let text = text.split('\0').next().unwrap_or("");
        let mut walked: Vec<&str> = Vec::new();
        for segment in text.split('/') {
            let segment = if cut { segment.split(';').next().unwrap_or("") } else { segment };
            match segment.trim() {
                "" | "." => {}
                ".." => {
                    walked.pop();
                }
                _ => walked.push(segment),
            }
        }
        walked.iter().map(|name| name.to_lowercase()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn v10_whatever_path_variants_decode_to_another_organization_are_refused(
            first in prop::sample::select(vec!["acme", "other", "static", "ACME", "static/a", "acme/other", "acme/a", ""]),
            pieces in proptest::collection::vec(
                prop::sample::select(vec![
                    "/", "/", "/", "acme", "other", "static", "ACME", ".", "..", ";", ";x=1", "%2e", "%2E%2e",
                    "%2f", "%252f", "%252e", "%25", "25", "2e", "%5c", "\\", "%00", "%3b", "%253b", "%20", "%c0%ae", "%",
                    "%41", "%2541", "%256fther", "/..", "a", "?", "#", "%23", "%3f", "~",
                ]),
                0..5,
            )
        ) {
            let path = format!("/{first}{}", pieces.concat());
            // Public, organization and role each hang on one segment, so that a careless server's view is easy to say.
            let mut hub = hub();
            hub.organization = vec![Pattern::parse_organization("/{org}/**").unwrap()];
            hub.public = vec![Pattern::parse_public("/static/**").unwrap()];
            hub.rules =
                vec![Rule { methods: vec![], path: Pattern::parse("/{org}/other/**").unwrap(), role: Role::Admin }];
            if let Ok(normalised) = normalise_path(&path)
                && let Ok((target, _)) = hub.target(Method::Get, HOST, &normalised)
            {
                for (times, cut) in [(1, false), (1, true), (2, false), (2, true)] {
                    let segments = careless_segments(&path, times, cut);
                    let segment = |n: usize| segments.get(n).map(String::as_str);
                    prop_assert_eq!(target.public, segment(0) == Some("static"), "{} {} {}", path, times, cut);
                    if !target.public {
                        prop_assert_eq!(target.organization.as_deref(), segment(0), "{} {} {}", path, times, cut);
                        let admin = segment(1) == Some("other");
                        prop_assert_eq!(target.needed_role == Role::Admin, admin, "{} {} {}", path, times, cut);
                    }
                }
            }
        }

        #[test]
        fn no_text_makes_the_reading_of_a_request_panic(path in any::<String>(), bytes in any::<Vec<u8>>()) {
            let hub = hub();
            for text in [path.clone(), format!("/{path}"), String::from_utf8_lossy(&bytes).into_owned()] {
                if let Ok(normalised) = normalise_path(&text) {
                    drop(hub.target(Method::Get, HOST, &normalised));
                }
                drop(normalise_host(&text, true));
                drop(Pattern::parse(&text));
                is_navigation(Method::Get, None, Some(&text), false, false);
            }
        }
    }
}
