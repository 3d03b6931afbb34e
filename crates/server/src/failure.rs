//! Why a command ended: a code, what happened, what to do. Printed as two lines.

use crate::passwords::PasswordError;
use crate::random::NoRandomness;
use crate::sealing::SealingError;
use crate::serve::CannotListen;
use crate::sso::enable::NotDone;
use crate::store::{BackupError, StoreError};
use doorward_core::error_code::ErrorCode;
use std::fmt;

/// One reason for an exit code of 1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The stable code.
    pub code: ErrorCode,
    /// What happened, with names and values; never a secret.
    pub what: String,
    /// The next step.
    pub remedy: String,
}

impl Failure {
    /// With words of its own.
    pub fn new(code: ErrorCode, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code, what: what.into(), remedy: remedy.into() }
    }

    /// With words of its own about what happened, and the code's remedy.
    pub fn about(code: ErrorCode, what: impl Into<String>) -> Self {
        Self::new(code, what, code.remedy())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}]: {}\nnext: {}", self.code, self.what, self.remedy)
    }
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Self {
        Self::about(code, code.meaning())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::Schema(_) => ErrorCode::StoreSchema,
            StoreError::Corrupt(_) => ErrorCode::StoreCorrupt,
            // SQLite says so of a damaged or foreign file.
            StoreError::Unavailable(source)
                if ["malformed", "not a database"].iter().any(|words| source.to_string().contains(words)) =>
            {
                ErrorCode::StoreCorrupt
            }
            StoreError::Unavailable(_) => ErrorCode::StoreUnreachable,
            StoreError::Sealing(_) | StoreError::AuditKeys(_) => ErrorCode::KeyUnusable,
            StoreError::AuditKeysMissing(_) => ErrorCode::AuditKeysMissing,
            StoreError::Conflict | StoreError::NoRandomness(_) => ErrorCode::ServiceInternal,
        };
        let what = match &error {
            // What the pool says after it has tried for its five seconds.
            StoreError::Unavailable(sqlx::Error::PoolTimedOut) => "no connection within 5 seconds".to_owned(),
            _ => error.to_string(),
        };
        match &error {
            StoreError::Sealing(error) => Self::new(code, what, error.remedy()),
            _ => Self::about(code, what),
        }
    }
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Store(error) => error.into(),
            BackupError::Sealing(error) => error.into(),
            BackupError::File(error) => error.into(),
            BackupError::Unusable(what) => Self::about(ErrorCode::BackupUnusable, what),
            BackupError::NotEmpty => ErrorCode::BackupStoreNotEmpty.into(),
        }
    }
}

impl From<NotDone> for Failure {
    fn from(not_done: NotDone) -> Self {
        match not_done {
            NotDone::Refused(code) => code.into(),
            NotDone::Store(error) => error.into(),
        }
    }
}

/// Alone where several could be told.
impl From<Failure> for Vec<Failure> {
    fn from(failure: Failure) -> Self {
        vec![failure]
    }
}

impl From<SealingError> for Failure {
    fn from(error: SealingError) -> Self {
        Self::new(ErrorCode::KeyUnusable, error.to_string(), error.remedy())
    }
}

impl From<NoRandomness> for Failure {
    fn from(error: NoRandomness) -> Self {
        Self::about(ErrorCode::ServiceInternal, error.to_string())
    }
}

impl From<PasswordError> for Failure {
    fn from(error: PasswordError) -> Self {
        Self::about(ErrorCode::ServiceInternal, error.to_string())
    }
}

impl From<CannotListen> for Failure {
    fn from(cannot: CannotListen) -> Self {
        Self::new(ErrorCode::ServiceCannotListen, cannot.to_string(), cannot.remedy())
    }
}

/// Standard output or input is gone.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        let remedy = "Look where the command's input comes from and where its output goes.";
        Self::new(ErrorCode::ServiceInternal, format!("reading or writing failed: {error}"), remedy)
    }
}
