//! What the operator's commands do, directly on the store, with the server running or not.
//!
//! Each is one transaction with its audit events, which name the system user (rule 8). The server hears of the change
//! within half a second (rule 16).
//! Never here: arguments as text, standard error, exit codes; those are `command_line.rs`.

mod accounts;
mod audit_log;
mod backups;
mod explain;
mod import;
mod joining;
mod keys;
mod linking;
mod organizations;
mod sso;
mod tokens;

pub use accounts::{
    add_email, create_account, delete_account, disable_account, enable_account, list_or_revoke_tokens,
    set_password,
};
pub use audit_log::{
    VerifyFile, export_audit_log, make_audit_key, print_checkpoints, print_public_key, verify_audit_file,
    verify_audit_logs,
};
pub use backups::{backup, restore};
pub use explain::explain;
pub use import::import;
pub use joining::{invite, join_link, list_invitations, revoke_invitation};
pub use keys::{fingerprint, rotate_key};
pub use linking::{approve_link, list_link_requests, make_recovery_codes, unlink};
pub use organizations::{
    create_organization, delete_organization, list_organizations, remove_member, set_member, set_plan,
    set_resource,
};
pub use sso::{disable_sso, enable_sso, set_sso, show_sso};
pub use tokens::{create_token, list_tokens, revoke_token};

use crate::app::SharedApp;
use crate::clock::Clock;
use crate::configuration::Configuration;
use crate::failure::Failure;
use crate::opening::{open_and_migrate, open_app, open_sealing, open_store};
use crate::random::Random;
use crate::sso::settings::By;
use crate::store::{self, Account, Actor, AuditEntry, Organization, Query, Store};
use doorward_core::audit_event::AuditAction;
use doorward_core::error_code::ErrorCode;
use doorward_core::ids::OrganizationId;
use doorward_core::secret::Secret;
use std::io::{BufRead, Read as _, Write};
use std::os::unix::fs::MetadataExt as _;

/// Longest line that is taken from standard input, in bytes.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// What every command needs.
#[derive(Debug)]
pub struct Context {
    /// What the operator decided.
    pub configuration: Configuration,
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
    /// The system user, for the audit log.
    pub operator: String,
}

impl Context {
    /// The store, with the audit log's keys opened: whatever a command does, it must be able to write down.
    async fn store(&self) -> Result<Store, Failure> {
        let store = open_store(&self.configuration).await?;
        open_sealing(&self.configuration, &store, &self.random, self.clock.now()).await?;
        Ok(store)
    }

    /// Everything open, for what the pages do too. Our own listeners are those of the configuration.
    pub(crate) async fn app(self) -> Result<SharedApp, Failure> {
        let Configuration { listen, gate_listen, metrics_listen, .. } = self.configuration;
        let own = [Some(listen), Some(gate_listen), metrics_listen].into_iter().flatten().collect();
        open_app(self.configuration, self.clock, self.random, own).await
    }

    /// The operator, as the one who does it.
    fn by(&self) -> By {
        By { actor: Actor::Operator(self.operator.clone()), session: None, address: None, request_id: None }
    }

    /// An audit event by the operator.
    fn entry(
        &self,
        organization: Option<OrganizationId>,
        action: AuditAction,
        details: Vec<(&'static str, String)>,
    ) -> AuditEntry {
        let actor = Actor::Operator(self.operator.clone());
        AuditEntry { organization, action, actor, details, address: None, request_id: None }
    }
}

/// `migrate`.
pub async fn migrate(context: &Context, output: &mut dyn Write) -> Result<(), Failure> {
    open_and_migrate(&context.configuration).await?;
    writeln!(output, "The schema is current.")?;
    Ok(())
}

/// One line of standard input without its end. An empty line is refused: nobody means an empty secret.
pub fn read_secret_line(input: &mut dyn BufRead) -> Result<Secret, Failure> {
    let mut line = String::new();
    input.take(LINE_BYTES_MAX).read_line(&mut line)?;
    let length = line.trim_end_matches(['\n', '\r']).len();
    line.truncate(length);
    if line.is_empty() {
        return Err(ErrorCode::CommandInputMissing.into());
    }
    Ok(Secret::new(line))
}

/// Who runs the command: the name of the process's user, and who is behind it if sudo says so.
pub fn system_user(environment: &[(String, String)]) -> String {
    let uid = std::fs::metadata("/proc/self").map_or(0, |process| process.uid());
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = name_of_user(&users, uid).unwrap_or_else(|| format!("uid {uid}"));
    let behind = environment.iter().find(|(variable, _)| variable == "SUDO_USER").map(|(_, value)| value);
    match behind {
        // The variable is free text of whoever calls: bounded, and beside the name that the system vouches for.
        Some(behind) => {
            let behind: String = behind.chars().filter(char::is_ascii_graphic).take(32).collect();
            format!("{name} (sudo by {behind})")
        }
        None => name,
    }
}

fn name_of_user(users: &str, uid: u32) -> Option<String> {
    let uid = uid.to_string();
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    })
}

/// The organization of that name, or the failure that names it.
async fn organization(query: &mut impl Query, name: &str) -> Result<Organization, Failure> {
    store::load_organization(query, name).await?.ok_or_else(|| no_organization(name))
}

fn no_organization(name: &str) -> Failure {
    Failure::new(
        ErrorCode::OrganizationUnknown,
        format!("there is no organization {name:?}"),
        "List them with: doorward org list",
    )
}

/// The account of that name, or the failure that names it.
async fn account(query: &mut impl Query, name: &str) -> Result<Account, Failure> {
    store::load_account_by_name(query, name).await?.ok_or_else(|| {
        Failure::new(
            ErrorCode::MembershipAccountUnknown,
            format!("there is no account {name:?}"),
            "Check the spelling, or make it with: doorward account create",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_line_without_its_end() {
        for (input, read) in [("swordfish\n", "swordfish"), ("a b \r\n", "a b "), ("x", "x"), ("x\ny\n", "x")]
        {
            assert_eq!(read_secret_line(&mut input.as_bytes()).unwrap().expose(), read, "{input:?}");
        }
        for empty in ["", "\n", "\r\n"] {
            let failure = read_secret_line(&mut empty.as_bytes()).unwrap_err();
            assert_eq!(failure.code, ErrorCode::CommandInputMissing);
        }
    }

    #[test]
    fn the_system_user_is_the_one_of_the_process() {
        let users = "root:x:0:0:root:/root:/bin/sh\nmira:x:1000:1000::/home/mira:/bin/sh\n";
        assert_eq!(name_of_user(users, 1000).as_deref(), Some("mira"));
        assert_eq!(name_of_user(users, 7), None);
        let by = system_user(&[("SUDO_USER".to_owned(), "mira\n\u{1b}[1m".to_owned())]);
        assert!(by.ends_with("(sudo by mira[1m)"), "{by}");
    }
}
