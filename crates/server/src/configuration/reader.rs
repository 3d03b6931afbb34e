//! Reads the file and the environment into typed values with their places, and collects every mistake.
//!
//! In: TOML text, `DOORWARD_SECTION__KEY` variables, the table of keys. Out: `Table`s and a growing list of mistakes.
//! Never here: what a value means; each value's own parser is passed in.
//! Invariant: whoever gets `Err(Reported)` finds the reason in `mistakes`.

use super::keys::{APP, KEYS, Key, Kind, SECTIONS, key};
use super::mistake::{ConfigurationMistake, Place, Wrong};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The mistake is already in the list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported;

/// A value of the kind that its key asks for.
enum Value {
    Text(String),
    Flag(bool),
    List(Vec<(String, Place)>),
    Rules(Vec<RawRule>),
    /// Of another kind, and reported.
    Wrong,
}

/// One entry of `rules`, as written.
pub(super) struct RawRule {
    pub(super) methods: Vec<String>,
    pub(super) path: String,
    pub(super) role: String,
    pub(super) place: Place,
}

/// The values of the whole file without `[[app]]`, or those of one `[[app]]`.
pub(super) struct Table {
    pub(super) place: Place,
    given: BTreeMap<&'static str, (Value, Place)>,
}

impl Table {
    fn new(place: Place) -> Self {
        Self { place, given: BTreeMap::new() }
    }

    /// Where a key's value was given, or the place of the table when it was not.
    pub(super) fn place_of(&self, path: &str) -> Place {
        self.given.get(path).map_or_else(|| self.place.clone(), |(_, place)| place.clone())
    }

    /// Whether the key was given at all.
    pub(super) fn has(&self, path: &str) -> bool {
        self.given.contains_key(path)
    }
}

/// Collects values and mistakes.
pub(super) struct Reader<'a> {
    file: Option<&'a Path>,
    text: &'a str,
    pub(super) mistakes: Vec<ConfigurationMistake>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: Option<&'a Path>, text: &'a str) -> Self {
        Self { file, text, mistakes: Vec::new() }
    }

    /// The file's values: those outside of `[[app]]`, and each `[[app]]`.
    pub(super) fn read_file(&mut self) -> (Table, Vec<Table>) {
        let mut main = Table::new(Place::Nowhere);
        let mut apps = Vec::new();
        let (root, faults) = DeTable::parse_recoverable(self.text);
        for fault in faults {
            let place = self.place(&fault.span().unwrap_or(0..0));
            let what = fault.message().replace('\n', ", ");
            self.report(
                place,
                "",
                what,
                "Correct the TOML here; texts stand in double quotes (https://toml.io).",
            );
        }
        for (name, value) in root.get_ref() {
            let name_place = self.place(&name.span());
            let name = name.get_ref().as_ref();
            match value.get_ref() {
                DeValue::Array(entries) if name == APP => {
                    for entry in entries {
                        let place = self.place(&entry.span());
                        let mut app = Table::new(place.clone());
                        match entry.get_ref() {
                            DeValue::Table(table) => self.read_section(table, Some(APP), &mut app),
                            _ => {
                                self.report(
                                    place,
                                    APP,
                                    "is not a table",
                                    "Write [[app]] and its keys below.",
                                );
                            }
                        }
                        apps.push(app);
                    }
                }
                _ if name == APP => {
                    self.report(
                        name_place,
                        APP,
                        "stands there only once",
                        "Write [[app]], with two brackets.",
                    );
                }
                DeValue::Table(table) if SECTIONS.iter().any(|(section, _)| *section == name) => {
                    self.read_section(table, Some(name), &mut main);
                }
                _ if SECTIONS.iter().any(|(section, _)| *section == name) => {
                    self.report(
                        name_place,
                        name,
                        "is not a section",
                        format!("Write [{name}] and its keys below."),
                    );
                }
                _ => self.read_entry(name, name_place, value, &mut main),
            }
        }
        (main, apps)
    }

    fn read_section(&mut self, table: &DeTable<'_>, section: Option<&str>, into: &mut Table) {
        for (name, value) in table {
            let path = section.map_or_else(
                || name.get_ref().to_string(),
                |section| format!("{section}.{}", name.get_ref().as_ref()),
            );
            self.read_entry(&path, self.place(&name.span()), value, into);
        }
    }

    fn read_entry(&mut self, path: &str, name_place: Place, value: &Spanned<DeValue<'_>>, into: &mut Table) {
        let Some(key) = key(path) else {
            self.report(name_place, path, "is not a key of the configuration", remedy_for_unknown(path));
            return;
        };
        let value = self.typed(key, value, &|reader, span| reader.place(span));
        into.given.insert(key.path, (value, name_place));
    }

    /// Lays the environment over the file's values. An empty variable counts as not given.
    pub(super) fn read_environment(
        &mut self,
        environment: impl Iterator<Item = (String, String)>,
        into: &mut Table,
    ) {
        for (variable, raw) in environment {
            let Some(rest) = variable.strip_prefix("DOORWARD_") else { continue };
            if raw.trim().is_empty() || not_meant_for_us(rest) {
                continue;
            }
            let path = rest.to_ascii_lowercase().replace("__", ".");
            let place = Place::Environment { variable: variable.clone() };
            match key(&path) {
                Some(key) if key.section() != Some(APP) => {
                    let value = self.read_variable(key, &raw, &place);
                    into.given.insert(key.path, (value, place));
                }
                _ if path == APP || path.starts_with("app.") => {
                    let what = "applications can't be given in the environment";
                    self.report(place, &path, what, "Write it below an [[app]] in doorward.toml.");
                }
                _ => {
                    self.report(place, &path, "is not a key of the configuration", remedy_for_unknown(&path));
                }
            }
        }
    }

    /// A text may stand without its quotes; everything else is TOML.
    fn read_variable(&mut self, key: &'static Key, raw: &str, place: &Place) -> Value {
        let parsed = DeValue::parse(raw.trim());
        match (key.kind, &parsed) {
            (Kind::Text | Kind::OneOf(_), parsed)
                if !parsed.as_ref().is_ok_and(|value| value.get_ref().is_str()) =>
            {
                Value::Text(raw.trim().to_owned())
            }
            (_, Ok(value)) => self.typed(key, value, &|_, _| place.clone()),
            (_, Err(_)) => {
                let remedy = format!("Write it as in TOML: {}", key.example);
                self.report(place.clone(), key.path, format!("is not {}", key.kind.in_words()), remedy);
                Value::Wrong
            }
        }
    }

    /// The value, if it is of the key's kind. What kind of list or text is the business of its parser.
    fn typed(
        &mut self,
        key: &'static Key,
        value: &Spanned<DeValue<'_>>,
        place_of: &dyn Fn(&Self, &Range<usize>) -> Place,
    ) -> Value {
        let place = place_of(self, &value.span());
        let typed = match (key.kind, value.get_ref()) {
            (Kind::Text | Kind::OneOf(_), DeValue::String(text)) => Some(Value::Text(text.to_string())),
            (Kind::Flag, DeValue::Boolean(flag)) => Some(Value::Flag(*flag)),
            (Kind::List, DeValue::Array(entries)) => {
                let texts = entries
                    .iter()
                    .map(|entry| {
                        let text = entry.get_ref().as_str()?.to_owned();
                        Some((text, place_of(self, &entry.span())))
                    })
                    .collect::<Option<Vec<_>>>();
                texts.map(Value::List)
            }
            (Kind::Rules, DeValue::Array(entries)) => {
                let rules = entries
                    .iter()
                    .map(|entry| raw_rule(entry.get_ref(), place_of(self, &entry.span())))
                    .collect::<Option<Vec<_>>>();
                rules.map(Value::Rules)
            }
            _ => None,
        };
        typed.unwrap_or_else(|| {
            let what = format!("is not {}", key.kind.in_words());
            self.report(place, key.path, what, format!("Write it like {} = {}", key.name(), key.example));
            Value::Wrong
        })
    }

    /// A text that was given, through its parser. `Ok(None)` when it was not given and has no default.
    pub(super) fn optional<T>(
        &mut self,
        table: &Table,
        path: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Result<Option<T>, Reported> {
        let (text, place) = match table.given.get(path) {
            Some((Value::Text(text), place)) => (text.as_str(), place.clone()),
            Some(_) => return Err(Reported),
            None => match key(path).and_then(|key| key.default) {
                Some(default) => (default, table.place.clone()),
                None => return Ok(None),
            },
        };
        parse(text).map(Some).map_err(|wrong| self.report(place, path, wrong.what, wrong.remedy))
    }

    /// A text that has a default or must be given.
    pub(super) fn text<T>(
        &mut self,
        table: &Table,
        path: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Result<T, Reported> {
        if let Some(value) = self.optional(table, path, parse)? {
            return Ok(value);
        }
        let (name, example) = key(path).map_or((path, ""), |key| (key.name(), key.example));
        Err(self.report(table.place.clone(), path, "is missing", format!("Add {name} = {example}")))
    }

    /// `true` or `false`; without either, its default.
    pub(super) fn flag(table: &Table, path: &'static str) -> Result<bool, Reported> {
        match table.given.get(path) {
            Some((Value::Flag(flag), _)) => Ok(*flag),
            Some(_) => Err(Reported),
            None => Ok(key(path).and_then(|key| key.default) == Some("true")),
        }
    }

    /// Each entry of a list through its parser; every wrong entry is reported.
    pub(super) fn list<T>(
        &mut self,
        table: &Table,
        path: &'static str,
        parse: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Result<Vec<T>, Reported> {
        let Some((Value::List(entries), _)) = table.given.get(path) else { return Ok(Vec::new()) };
        let mut parsed = Vec::with_capacity(entries.len());
        let mut outcome = Ok(());
        for (entry, place) in entries {
            match parse(entry) {
                Ok(value) => parsed.push(value),
                Err(wrong) => outcome = Err(self.report(place.clone(), path, wrong.what, wrong.remedy)),
            }
        }
        outcome.map(|()| parsed)
    }

    /// The rules of an application.
    pub(super) fn rules<T>(
        &mut self,
        table: &Table,
        path: &'static str,
        parse: impl Fn(&RawRule) -> Result<T, Wrong>,
    ) -> Result<Vec<T>, Reported> {
        let Some((Value::Rules(rules), _)) = table.given.get(path) else { return Ok(Vec::new()) };
        let mut parsed = Vec::with_capacity(rules.len());
        let mut outcome = Ok(());
        for rule in rules {
            match parse(rule) {
                Ok(value) => parsed.push(value),
                Err(wrong) => outcome = Err(self.report(rule.place.clone(), path, wrong.what, wrong.remedy)),
            }
        }
        outcome.map(|()| parsed)
    }

    /// Adds a mistake.
    pub(super) fn report(
        &mut self,
        place: Place,
        key: &str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Reported {
        self.mistakes.push(ConfigurationMistake {
            place,
            key: key.to_owned(),
            what: what.into(),
            remedy: remedy.into(),
        });
        Reported
    }

    fn place(&self, span: &Range<usize>) -> Place {
        let Some(file) = self.file else { return Place::Nowhere };
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place::File {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).map_or(0, |line| line.chars().count()) + 1,
        }
    }
}

fn raw_rule(value: &DeValue<'_>, place: Place) -> Option<RawRule> {
    let table = value.as_table()?;
    if table.len() != 3 {
        return None;
    }
    let text = |name: &str| table.get(name)?.get_ref().as_str().map(str::to_owned);
    let methods = table.get("methods")?.get_ref().as_array()?;
    Some(RawRule {
        methods: methods
            .iter()
            .map(|method| method.get_ref().as_str().map(str::to_owned))
            .collect::<Option<_>>()?,
        path: text("path")?,
        role: text("role")?,
        place,
    })
}

/// Whether a variable beginning with `DOORWARD_` is somebody else's: Kubernetes makes such names for every Service
/// that is called doorward (`DOORWARD_SERVICE_HOST`, `DOORWARD_PORT_8080_TCP`), and our own tests have some.
fn not_meant_for_us(rest: &str) -> bool {
    rest.starts_with("TEST_")
        || rest == "PORT"
        || ["SERVICE_HOST", "SERVICE_PORT"].iter().any(|of_kubernetes| rest.contains(of_kubernetes))
        || rest.split("PORT_").nth(1).is_some_and(|port| port.starts_with(|c: char| c.is_ascii_digit()))
        || rest.ends_with("_PORT")
}

/// The nearest key by spelling, or the one of that name in another section.
fn remedy_for_unknown(path: &str) -> String {
    let name = path.rsplit('.').next().unwrap_or(path);
    let in_app = path.starts_with("app.");
    let nearest = KEYS
        .iter()
        .filter(|key| (key.section() == Some(APP)) == in_app)
        .map(|key| {
            let begins_alike = name.len() > 3 && key.name().starts_with(name);
            let distance = match key.name() {
                same if same == name => 0,
                _ if begins_alike => 1,
                other => edits(key.path, path).min(edits(other, name) + 1),
            };
            (distance, key)
        })
        .min_by_key(|(distance, _)| *distance);
    match nearest {
        Some((distance, key)) if distance <= 3 && distance * 2 < name.chars().count() + 2 => {
            match key.section() {
                Some(APP) => format!("Did you mean {} of [[app]]?", key.name()),
                Some(section) => format!("Did you mean {} of [{section}]?", key.name()),
                None => format!("Did you mean {}, at the top, before the first [section]?", key.name()),
            }
        }
        _ => "Remove it; docs/reference/configuration.md has every key.".to_owned(),
    }
}

/// How many letters must be added, removed or changed to make one text of the other. Bounded by 64 letters.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().take(64).enumerate() {
        let mut next = vec![i + 1];
        for ((to, above), diagonal) in b.iter().zip(row.iter().skip(1)).zip(&row) {
            let left = next.last().copied().unwrap_or(0);
            next.push((above + 1).min(left + 1).min(diagonal + usize::from(from != *to)));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_count_letters() {
        assert_eq!((edits("kitten", "sitting"), edits("", "abc"), edits("same", "same")), (3, 3, 0));
    }

    #[test]
    fn variables_that_kubernetes_makes_for_a_service_called_doorward_are_not_ours() {
        for theirs in [
            "SERVICE_HOST",
            "SERVICE_PORT_HTTP",
            "PORT",
            "PORT_8080_TCP_ADDR",
            "GATE_SERVICE_HOST",
            "GATE_PORT",
        ] {
            assert!(not_meant_for_us(theirs), "{theirs}");
        }
        for key in KEYS {
            let ours = key.path.to_ascii_uppercase().replace('.', "__");
            assert!(!not_meant_for_us(&ours), "{ours}");
        }
    }
}
