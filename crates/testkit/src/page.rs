//! An answer as a person sees it: text, links, forms; and as a test sees it: status, headers, error code.
//!
//! In: bytes of HTML. Out: what a browser without script would show.
//! Never here: sockets, cookies. It reads the HTML that our templates write, not everything that exists.

use http::{HeaderMap, StatusCode};
use url::Url;

use crate::browser::Trip;

/// One answer to the browser.
#[derive(Clone, Debug)]
pub struct Page {
    /// Where it came from.
    pub url: Url,
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as text.
    pub body: String,
    /// How it was asked for.
    pub(crate) trip: Option<Trip>,
}

impl Page {
    /// The value of a header as text; `None` if it is missing. The first one counts.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Every value of a header, such as `set-cookie`.
    pub fn headers_named(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect()
    }

    /// Where a redirect leads to, as an absolute URL; `None` if this is no redirect.
    pub fn location(&self) -> Option<Url> {
        if !self.status.is_redirection() {
            return None;
        }
        self.url.join(self.header("location")?).ok()
    }

    /// Where a page with `<meta http-equiv="refresh">` leads to, as an absolute URL.
    pub fn meta_refresh(&self) -> Option<Url> {
        let refresh = self.elements().into_iter().find(|element| {
            element.name == "meta"
                && element.get("http-equiv").is_some_and(|v| v.eq_ignore_ascii_case("refresh"))
        })?;
        let content = refresh.get("content")?;
        let at = content.to_ascii_lowercase().find("url=")?;
        self.url.join(content[at + 4..].trim().trim_matches(['\'', '"'])).ok()
    }

    /// The stable error code that the page carries in `data-error-code`, or the `code` of a JSON problem.
    pub fn code(&self) -> Option<String> {
        let in_page =
            self.elements().iter().find_map(|element| element.get("data-error-code").map(str::to_owned));
        in_page.or_else(|| Some(self.json()?.get("code")?.as_str()?.to_owned()))
    }

    /// Every error code on the page: a page of findings has several.
    pub fn codes(&self) -> Vec<String> {
        let elements = self.elements();
        elements.iter().filter_map(|element| element.get("data-error-code").map(str::to_owned)).collect()
    }

    /// The body as JSON; `None` if it is none.
    pub fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_str(&self.body).ok()
    }

    /// The page's title.
    pub fn title(&self) -> String {
        let elements = self.elements();
        elements
            .iter()
            .find(|element| element.name == "title")
            .map(|title| title.text.clone())
            .unwrap_or_default()
    }

    /// What a person reads, blanks collapsed, one line for each block. Without head, script and hidden parts.
    pub fn text(&self) -> String {
        visible_text(&tokens(&self.body))
    }

    /// Whether a person can read this text on the page. Line breaks count as blanks.
    pub fn says(&self, text: &str) -> bool {
        let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        plain(&self.text()).contains(&plain(text))
    }

    /// Where the link with this text leads to. Fails the test if there is none.
    pub fn link(&self, text: &str) -> Url {
        let elements = self.elements();
        let links: Vec<&Element> = elements.iter().filter(|element| element.name == "a").collect();
        let href = links.iter().find(|link| link.text == text).and_then(|link| link.get("href"));
        let Some(href) = href else {
            let texts: Vec<&str> = links.iter().map(|link| link.text.as_str()).collect();
            panic!("no link {text:?} at {}; there are {texts:?}", self.url);
        };
        self.url.join(href).expect("a URL in a link")
    }

    /// The form whose action ends so, not counting a query. Fails the test if there is none.
    pub fn form(&self, action_suffix: &str) -> Form {
        let forms = self.forms();
        let found = forms.iter().find(|form| form.action.path().ends_with(action_suffix));
        found.cloned().unwrap_or_else(|| {
            let actions: Vec<&str> = forms.iter().map(|form| form.action.as_str()).collect();
            panic!(
                "no form for {action_suffix:?} at {} ({}); there are {actions:?}; the page says:\n{}",
                self.url,
                self.status,
                self.text()
            )
        })
    }

    /// Whether there is a form whose action ends so.
    pub fn has_form(&self, action_suffix: &str) -> bool {
        self.forms().iter().any(|form| form.action.path().ends_with(action_suffix))
    }

    /// Every form of the page.
    pub fn forms(&self) -> Vec<Form> {
        let mut forms: Vec<Form> = Vec::new();
        let mut open = false;
        let elements = self.elements();
        for (at, element) in elements.iter().enumerate() {
            match element.name.as_str() {
                "form" => {
                    let action =
                        self.url.join(element.get("action").unwrap_or_default()).expect("a form's action");
                    let is_post =
                        element.get("method").is_some_and(|method| method.eq_ignore_ascii_case("post"));
                    forms.push(Form {
                        page: self.url.clone(),
                        action,
                        is_post,
                        fields: Vec::new(),
                        buttons: Vec::new(),
                    });
                    open = true;
                }
                "/form" => open = false,
                _ if open && !element.has("disabled") => {
                    if let Some(form) = forms.last_mut() {
                        form.read(&self.url, element, &elements[at + 1..]);
                    }
                }
                _ => {}
            }
        }
        forms
    }

    fn elements(&self) -> Vec<Element> {
        elements(&tokens(&self.body))
    }
}

/// A form to be filled in and sent by `Browser::submit`.
#[derive(Clone, Debug)]
pub struct Form {
    pub(crate) page: Url,
    pub(crate) action: Url,
    pub(crate) is_post: bool,
    pub(crate) fields: Vec<Field>,
    buttons: Vec<Button>,
}

/// One control of a form.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) value: String,
    /// Whether it is sent: a checkbox that is not ticked isn't.
    pub(crate) sent: bool,
    kind: FieldKind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum FieldKind {
    Text,
    Hidden,
    Checkbox,
    Radio,
    Select,
}

#[derive(Clone, Debug)]
struct Button {
    label: String,
    name: Option<String>,
    value: String,
    action: Option<Url>,
}

impl Form {
    /// Where it is sent to.
    pub fn action(&self) -> &Url {
        &self.action
    }

    /// The value that would be sent; `None` if there is no such field or it would not be sent.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|field| field.name == name && field.sent).map(|field| field.value.as_str())
    }

    /// Types a value into a field, or chooses it where there is a choice. Fails the test if a person could not.
    #[must_use]
    pub fn fill(mut self, name: &str, value: &str) -> Self {
        let names = self.names();
        let mut fields: Vec<&mut Field> = self.fields.iter_mut().filter(|field| field.name == name).collect();
        assert!(!fields.is_empty(), "no field {name:?} in the form for {}; there are {names}", self.action);
        if fields.iter().any(|field| field.kind == FieldKind::Radio) {
            assert!(fields.iter().any(|field| field.value == value), "no choice {value:?} for {name:?}");
            for field in fields {
                field.sent = field.value == value;
            }
        } else {
            let field = &mut *fields[0];
            assert!(field.kind != FieldKind::Hidden, "nobody can type into the hidden field {name:?}");
            field.value = value.into();
            field.sent = true;
        }
        self
    }

    /// Ticks or clears a checkbox.
    #[must_use]
    pub fn tick(mut self, name: &str, ticked: bool) -> Self {
        let names = self.names();
        let boxes =
            self.fields.iter_mut().find(|field| field.name == name && field.kind == FieldKind::Checkbox);
        boxes.unwrap_or_else(|| panic!("no checkbox {name:?}; there are {names}")).sent = ticked;
        self
    }

    /// Sends a field that a forger adds or changes, hidden ones too.
    #[must_use]
    pub fn forge(mut self, name: &str, value: &str) -> Self {
        self.fields.retain(|field| field.name != name);
        self.fields.push(Field {
            name: name.into(),
            value: value.into(),
            sent: true,
            kind: FieldKind::Hidden,
        });
        self
    }

    /// Leaves a field out, as a forger would.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.fields.retain(|field| field.name != name);
        self
    }

    /// Chooses the button with this text: its name, value and `formaction` count. Fails the test if there is none.
    #[must_use]
    pub fn press(mut self, label: &str) -> Self {
        let button = self.buttons.iter().find(|button| button.label == label).cloned();
        let Some(button) = button else {
            let labels: Vec<&str> = self.buttons.iter().map(|button| button.label.as_str()).collect();
            panic!("no button {label:?} in the form for {}; there are {labels:?}", self.action);
        };
        if let Some(action) = button.action {
            self.action = action;
        }
        match button.name {
            Some(name) => self.forge(&name, &button.value),
            None => self,
        }
    }

    /// The pairs that are sent, in order.
    pub fn pairs(&self) -> Vec<(&str, &str)> {
        let sent = self.fields.iter().filter(|field| field.sent);
        sent.map(|field| (field.name.as_str(), field.value.as_str())).collect()
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.fields.iter().map(|field| field.name.as_str()).collect();
        format!("{names:?}")
    }

    fn read(&mut self, page: &Url, element: &Element, after: &[Element]) {
        let kind = element.get("type").unwrap_or_default().to_ascii_lowercase();
        let name = element.get("name").unwrap_or_default().to_owned();
        let value = element.get("value").map(str::to_owned);
        let is_button = element.name == "button" && !matches!(kind.as_str(), "button" | "reset")
            || element.name == "input" && matches!(kind.as_str(), "submit" | "image");
        if is_button {
            let label = if element.name == "button" { Some(element.text.clone()) } else { value.clone() };
            self.buttons.push(Button {
                label: label.unwrap_or_default(),
                name: Some(name).filter(|name| !name.is_empty()),
                value: value.unwrap_or_default(),
                action: element.get("formaction").map(|action| page.join(action).expect("a formaction")),
            });
            return;
        }
        let (value, sent, kind) = match (element.name.as_str(), kind.as_str()) {
            ("input", "button" | "reset") => return,
            ("input", "checkbox") => {
                (value.unwrap_or_else(|| "on".into()), element.has("checked"), FieldKind::Checkbox)
            }
            ("input", "radio") => {
                (value.unwrap_or_else(|| "on".into()), element.has("checked"), FieldKind::Radio)
            }
            ("input", "hidden") => (value.unwrap_or_default(), true, FieldKind::Hidden),
            ("input", _) => (value.unwrap_or_default(), true, FieldKind::Text),
            ("textarea", _) => (element.raw_text.clone(), true, FieldKind::Text),
            ("select", _) => {
                let options: Vec<&Element> = after
                    .iter()
                    .take_while(|inner| inner.name != "/select")
                    .filter(|inner| inner.name == "option")
                    .collect();
                let chosen = options.iter().find(|option| option.has("selected")).or(options.first());
                let value = chosen.map(|option| option.get("value").unwrap_or(&option.text).to_owned());
                (value.unwrap_or_default(), true, FieldKind::Select)
            }
            _ => return,
        };
        if !name.is_empty() {
            self.fields.push(Field { name, value, sent, kind });
        }
    }
}

// --- reading HTML -----------------------------------------------------------------------------------------------

#[derive(Debug)]
enum Token {
    Text(String),
    Open { name: String, attributes: Vec<(String, String)> },
    Close(String),
}

/// A tag with its attributes and the text up to its end; a closing tag's name starts with a slash.
#[derive(Debug)]
struct Element {
    name: String,
    attributes: Vec<(String, String)>,
    text: String,
    raw_text: String,
}

impl Element {
    fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
}

const VOID: [&str; 13] =
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"];

fn elements(tokens: &[Token]) -> Vec<Element> {
    let mut all = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Text(_) => {}
            Token::Close(name) => all.push(Element {
                name: format!("/{name}"),
                attributes: Vec::new(),
                text: String::new(),
                raw_text: String::new(),
            }),
            Token::Open { name, attributes } => {
                let inner = if VOID.contains(&name.as_str()) { &[] } else { inside(&tokens[at + 1..], name) };
                let raw_text: String = inner
                    .iter()
                    .filter_map(
                        |token| if let Token::Text(text) = token { Some(text.as_str()) } else { None },
                    )
                    .collect();
                let text = raw_text.split_whitespace().collect::<Vec<_>>().join(" ");
                all.push(Element { name: name.clone(), attributes: attributes.clone(), text, raw_text });
            }
        }
    }
    all
}

/// The tokens up to the end of an element that is open already.
fn inside<'a>(tokens: &'a [Token], name: &str) -> &'a [Token] {
    let mut depth = 1;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            // An option may leave its end out.
            Token::Open { name: other, .. } if name == "option" && other == "option" => depth = 0,
            Token::Close(other) if name == "option" && other == "select" => depth = 0,
            Token::Open { name: other, .. } if other == name => depth += 1,
            Token::Close(other) if other == name => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &tokens[..at];
        }
    }
    tokens
}

fn visible_text(tokens: &[Token]) -> String {
    const INLINE: [&str; 14] =
        ["a", "abbr", "b", "code", "em", "i", "kbd", "mark", "q", "small", "span", "strong", "time", "u"];
    let mut lines = vec![String::new()];
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            Token::Text(text) => lines.last_mut().expect("one line").push_str(text),
            Token::Open { name, attributes } => {
                let hidden = matches!(name.as_str(), "head" | "script" | "style" | "template")
                    || attributes.iter().any(|(key, _)| key == "hidden");
                if hidden && !VOID.contains(&name.as_str()) {
                    at += inside(&tokens[at..], name).len() + 1;
                } else if !INLINE.contains(&name.as_str()) {
                    lines.push(String::new());
                }
            }
            Token::Close(name) if !INLINE.contains(&name.as_str()) => lines.push(String::new()),
            Token::Close(_) => {}
        }
    }
    let lines = lines.iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

fn tokens(html: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = html;
    while !rest.is_empty() {
        let starts_tag = rest.starts_with('<')
            && rest[1..].starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?'));
        if !starts_tag {
            // At least one character, which may be a '<' that starts no tag.
            let end = rest.char_indices().skip(1).find(|(_, c)| *c == '<').map_or(rest.len(), |(at, _)| at);
            tokens.push(Token::Text(unescape(&rest[..end])));
            rest = &rest[end..];
        } else if let Some(comment) = rest.strip_prefix("<!--") {
            rest = comment.find("-->").map_or("", |at| &comment[at + 3..]);
        } else if rest.starts_with("<!") || rest.starts_with("<?") {
            rest = rest.find('>').map_or("", |at| &rest[at + 1..]);
        } else if let Some(close) = rest.strip_prefix("</") {
            let end = close.find('>').unwrap_or(close.len());
            tokens.push(Token::Close(close[..end].trim().to_ascii_lowercase()));
            rest = close.get(end + 1..).unwrap_or_default();
        } else {
            let (name, attributes, after) = open_tag(&rest[1..]);
            rest = after;
            let raw = matches!(name.as_str(), "script" | "style" | "textarea" | "title");
            tokens.push(Token::Open { name: name.clone(), attributes });
            if raw {
                let end = rest.to_ascii_lowercase().find(&format!("</{name}")).unwrap_or(rest.len());
                // The first line break of a textarea is not part of its value.
                let content =
                    if name == "textarea" { rest[..end].trim_start_matches('\n') } else { &rest[..end] };
                let is_text = matches!(name.as_str(), "textarea" | "title");
                tokens.push(Token::Text(if is_text { unescape(content) } else { content.into() }));
                rest = &rest[end..];
            }
        }
    }
    tokens
}

/// Name, attributes and what follows the tag, from behind its `<`.
fn open_tag(text: &str) -> (String, Vec<(String, String)>, &str) {
    let end = text.find(|c: char| c.is_whitespace() || matches!(c, '>' | '/')).unwrap_or(text.len());
    let name = text[..end].to_ascii_lowercase();
    let mut rest = &text[end..];
    let mut attributes = Vec::new();
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '/');
        if rest.is_empty() {
            return (name, attributes, rest);
        }
        if let Some(after) = rest.strip_prefix('>') {
            return (name, attributes, after);
        }
        let end = rest
            .char_indices()
            .skip(1)
            .find(|(_, c)| c.is_whitespace() || matches!(c, '=' | '>' | '/'))
            .map_or(rest.len(), |(at, _)| at);
        let key = rest[..end].to_ascii_lowercase();
        rest = rest[end..].trim_start();
        let mut value = String::new();
        if let Some(after) = rest.strip_prefix('=') {
            let after = after.trim_start();
            let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''));
            let (raw, behind) = if let Some(quote) = quote {
                after[1..].split_once(quote).unwrap_or((&after[1..], ""))
            } else {
                let end = after.find(|c: char| c.is_whitespace() || c == '>').unwrap_or(after.len());
                after.split_at(end)
            };
            value = unescape(raw);
            rest = behind;
        }
        attributes.push((key, value));
    }
}

/// Character references: the numeric ones and the names that templates use.
fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let reference = rest[1..].split_once(';').map(|(name, _)| name).filter(|name| name.len() <= 8);
        let character = reference.and_then(|name| match name {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            "nbsp" => Some('\u{a0}'),
            "hellip" => Some('\u{2026}'),
            "mdash" => Some('\u{2014}'),
            "ndash" => Some('\u{2013}'),
            "rarr" => Some('\u{2192}'),
            "middot" => Some('\u{b7}'),
            _ => {
                let number = name.strip_prefix('#')?;
                let code = match number.strip_prefix(['x', 'X']) {
                    Some(hex) => u32::from_str_radix(hex, 16),
                    None => number.parse(),
                };
                code.ok().and_then(char::from_u32)
            }
        });
        if let (Some(character), Some(name)) = (character, reference) {
            out.push(character);
            rest = &rest[name.len() + 2..];
        } else {
            out.push('&');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    out
}
