//! The pages, one file for each subject: handlers beside what they show.

pub mod sso;
pub mod sso_settings;
