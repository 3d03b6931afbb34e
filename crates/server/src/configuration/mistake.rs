//! One mistake in the configuration: where it is, what is wrong, what to write instead.

use std::fmt;
use std::path::PathBuf;

/// Where a value was given.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
    /// In the file; line and column count from 1, the column in characters.
    File {
        /// The file as it was named.
        file: PathBuf,
        /// Line, from 1; 0 when the whole file is meant.
        line: usize,
        /// Column, from 1; 0 when the whole file is meant.
        column: usize,
    },
    /// In a variable of the environment.
    Environment {
        /// The variable's name.
        variable: String,
    },
    /// Nowhere: it is missing, or a default.
    Nowhere,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line: 0, .. } => write!(f, "{}", file.display()),
            Self::File { file, line, column } => write!(f, "{}:{line}:{column}", file.display()),
            Self::Environment { variable } => write!(f, "environment {variable}"),
            Self::Nowhere => f.write_str("configuration"),
        }
    }
}

/// One mistake. Never holds the value of `database`, which may have a password in it (rule 6).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigurationMistake {
    /// Where it is.
    pub place: Place,
    /// The key, as in `gate.listen`; empty for a mistake of form.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl ConfigurationMistake {
    /// The line in the file, from 1, if it is in the file.
    pub fn line(&self) -> Option<usize> {
        match &self.place {
            Place::File { line, .. } if *line > 0 => Some(*line),
            _ => None,
        }
    }
}

impl fmt::Display for ConfigurationMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}\n    next: {}", self.what, self.remedy)
    }
}

/// What a value's own parser finds wrong; the reader adds place and key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wrong {
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl Wrong {
    /// Both sentences.
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }
}
