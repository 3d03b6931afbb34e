//! The documentation of the configuration, written from the table of keys.
//!
//! Out: `docs/reference/configuration.md` and `doorward.example.toml`. A test compares them with what is in the
//! repository; `UPDATE_DOCS=1 cargo test -p doorward configuration::reference` writes them anew.

use super::keys::{APP, KEYS, Key, Kind, SECTIONS};

/// The page `docs/reference/configuration.md`.
pub fn reference_page() -> String {
    let mut page = String::from(
        "# Configuration\n\n\
         <!-- Generated from crates/server/src/configuration/keys.rs: UPDATE_DOCS=1 cargo test -p doorward reference -->\n\n\
         `doorward` reads the file after `--config`, else `doorward.toml` in the working directory if there is one. \
         Every key but those of `[[app]]` can also be given in the environment, as `DOORWARD_KEY` or \
         `DOORWARD_SECTION__KEY`; that wins over the file. A value there is TOML; a text may stand without quotes, and \
         an empty variable counts as not given. With nothing at all, Doorward serves on localhost and keeps its data \
         under `./data`.\n\n\
         A key that is not listed here is a mistake. `doorward check` tells every mistake at once, with its line and \
         what to write instead.\n",
    );
    for (section, about, keys) in sections() {
        match section {
            None => page.push_str("\n## At the top\n"),
            Some(APP) => page.push_str("\n## [[app]]\n"),
            Some(section) => push(&mut page, format_args!("\n## [{section}]\n")),
        }
        if let Some(about) = about {
            push(&mut page, format_args!("\n{about}\n"));
        }
        for key in keys {
            push(&mut page, format_args!("\n### `{}`\n\n{}\n\n", key.path, key.about));
            push(&mut page, format_args!("- Kind: {}\n", key.kind.in_words()));
            if let Some(default) = default_as_toml(key) {
                push(&mut page, format_args!("- Default: `{default}`\n"));
            }
            push(&mut page, format_args!("- Example: `{} = {}`\n", key.name(), key.example));
            if let Some(variable) = key.variable() {
                push(&mut page, format_args!("- Environment: `{variable}`\n"));
            }
        }
    }
    page
}

/// The file `doorward.example.toml`: every key commented out, with its meaning. A `#` directly before a key is to be
/// taken away; a `# ` with a space begins prose.
pub fn example_file() -> String {
    let mut file = String::from(
        "# Every key of Doorward's configuration. Copy this file to doorward.toml and take the # away from what you set.\n\
         # Generated from crates/server/src/configuration/keys.rs, as docs/reference/configuration.md is.\n",
    );
    for (section, about, keys) in sections() {
        if let Some(about) = about {
            file.push('\n');
            prose(&mut file, about);
        }
        match section {
            None => {}
            Some(APP) => file.push_str("#[[app]]\n"),
            Some(section) => push(&mut file, format_args!("#[{section}]\n")),
        }
        for key in keys {
            file.push('\n');
            prose(&mut file, key.about);
            if let Some(default) = default_as_toml(key).filter(|default| default != key.example) {
                prose(&mut file, &format!("Default: {default}"));
            }
            push(&mut file, format_args!("#{} = {}\n", key.name(), key.example));
        }
    }
    file
}

/// The keys by section, those at the top first.
fn sections()
-> impl Iterator<Item = (Option<&'static str>, Option<&'static str>, impl Iterator<Item = &'static Key>)> {
    let named = SECTIONS.iter().map(|(section, about)| (Some(*section), Some(*about)));
    std::iter::once((None, None))
        .chain(named)
        .map(|(section, about)| (section, about, KEYS.iter().filter(move |key| key.section() == section)))
}

fn default_as_toml(key: &Key) -> Option<String> {
    let default = key.default?;
    Some(match key.kind {
        Kind::Text | Kind::OneOf(_) => format!("\"{default}\""),
        Kind::Flag | Kind::List | Kind::Rules => default.to_owned(),
    })
}

/// Comment lines of at most 100 characters, broken between words.
fn prose(file: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > 100 {
            push(file, format_args!("{line}\n"));
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    push(file, format_args!("{line}\n"));
}

fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.push_str(&more.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::Configuration;
    use std::path::Path;

    fn compare_or_update(path: &str, written: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, written).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == written, "{} is stale: run with UPDATE_DOCS=1", path.display());
    }

    #[test]
    fn the_reference_page_in_the_repository_is_the_generated_one() {
        compare_or_update("docs/reference/configuration.md", &reference_page());
    }

    #[test]
    fn the_example_file_in_the_repository_is_the_generated_one() {
        compare_or_update("doorward.example.toml", &example_file());
    }

    #[test]
    fn the_example_file_is_without_mistakes_once_its_keys_are_uncommented() {
        let uncommented: String = example_file()
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(key) if !key.starts_with(' ') => format!("{key}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        for key in KEYS {
            assert!(uncommented.contains(&format!("\n{} = {}\n", key.name(), key.example)), "{}", key.path);
        }
        let configuration = Configuration::parse(Some(Path::new("doorward.example.toml")), &uncommented, []);
        let configuration = configuration.unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
        assert!(configuration.tls.is_some() && configuration.applications.len() == 1);
        assert!(Configuration::parse(None, &example_file(), []).is_ok(), "commented out, it is the default");
    }

    #[test]
    fn every_default_is_taken_by_its_own_parser() {
        for key in KEYS {
            if let (Some(default), Some(variable)) = (default_as_toml(key), key.variable()) {
                let taken = Configuration::parse(None, "", [(variable, default)]);
                assert!(taken.is_ok(), "{}: {taken:?}", key.path);
            }
        }
    }

    #[test]
    fn every_key_has_a_sentence_and_belongs_to_a_known_section() {
        for key in KEYS {
            assert!(key.about.ends_with('.'), "{}", key.path);
            assert!(key.section().is_none_or(|section| SECTIONS.iter().any(|(name, _)| *name == section)));
        }
    }
}
