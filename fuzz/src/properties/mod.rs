//! What must hold for any bytes at all: one function for each parser that takes bytes from outside.
//!
//! In: bytes, as a stranger, an admin or a provider may send them. Out: nothing, or a panic that says what does not hold.
//! Two callers: libFuzzer (`../main.rs`), and the server's tests, which replay the kept corpus (`fuzz_corpus.rs`).
//! Each property is told without the code that it judges: by a naive second reading, or by what must not change.

mod body_start;
mod callback;
mod configuration;
mod cookies;
mod forms;
mod headers;
mod keys;
mod metadata;
mod request_target;
mod return_to;
mod small_world;
mod tokens;
mod typed;

use doorward_core::finding::Finding;

/// Panics if something does not hold for these bytes.
pub type Check = fn(&[u8]);

/// Every target by its name, which is also the folder of its corpus.
pub const TARGETS: [(&str, Check); 12] = [
    ("request_target", request_target::check),
    ("cookies", cookies::check),
    ("headers", headers::check),
    ("metadata", metadata::check),
    ("keys", keys::check),
    ("tokens", tokens::check),
    ("callback", callback::check),
    ("forms", forms::check),
    ("configuration", configuration::check),
    ("return_to", return_to::check),
    ("typed", typed::check),
    ("body_start", body_start::check),
];

/// The target of that name.
pub fn target(name: &str) -> Option<Check> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, check)| *check)
}

/// What every finding promises: few values, short ones, nothing that turns a page or a terminal around.
fn finding_is_bounded(finding: &Finding) {
    assert!(finding.values.len() <= 8, "{finding:?}");
    let words = finding.provider_words.iter();
    for (text, longest) in
        finding.values.iter().map(|(_, value)| (value, 300)).chain(words.map(|text| (text, 600)))
    {
        assert!(text.chars().count() <= longest, "too long: {text:?}");
        let turns =
            |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        assert!(!text.chars().any(turns), "{text:?}");
    }
}

/// The text before the first line end, and what follows.
fn first_line(text: &str) -> (&str, &str) {
    text.split_once('\n').unwrap_or((text, ""))
}
