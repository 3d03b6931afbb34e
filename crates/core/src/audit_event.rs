//! Every audit event: its stable code and what it says (hub-sso.md A2; architecture.md rule 8).
//!
//! A code never changes its meaning and never vanishes; `docs/reference/audit-events.md` is generated from this table.

use std::fmt;

macro_rules! audit_actions {
    ($( $variant:ident = $code:literal, $meaning:literal, $details:literal; )*) => {
        /// What was done, as `scope.action`.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum AuditAction {
            $(
                #[doc = $meaning]
                $variant,
            )*
        }

        impl AuditAction {
            /// Every action, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The code: `scope.action`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code),* }
            }

            /// What happened, in one sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),* }
            }

            /// The names of the details that the entry carries.
            pub const fn details(self) -> &'static str {
                match self { $(Self::$variant => $details),* }
            }
        }
    };
}

audit_actions! {
    AccountCreate = "account.create", "An account was made.", "name, operator";
    AccountSignIn = "account.sign_in", "Somebody signed in to an account.", "";
    AccountSignInFailed = "account.sign_in_failed", "A wrong password was given for an account, at the sign-in or for what asks for it once more; or, with a code, the right one of an account that is switched off. The first one tells where from; those of the hour after it are counted in one more entry.", "name, code, count";
    AccountSignOut = "account.sign_out", "Somebody signed out.", "";
    AccountName = "account.name", "An account's person changed the name that is shown.", "before, after";
    AccountPassword = "account.password", "An account's password was changed; its other sessions and its access tokens ended.", "name";
    AccountEmail = "account.email", "An e-mail address of an account was proved, by the operator's word.", "name, address";
    AccountDisable = "account.disable", "An account was switched off: its sessions ended, and nobody signs in to it.", "name";
    AccountEnable = "account.enable", "An account was switched on again.", "name";
    AccountDelete = "account.delete", "An account was deleted with all that was its own; neither its id nor its name is given again.", "name";
    AccountSessionEnd = "account.session_end", "One or all sessions of an account were ended.", "count";
    AccountTokenCreate = "account.token.create", "A personal access token was made.", "token, name, role, expires_at";
    AccountTokenRevoke = "account.token.revoke", "Personal access tokens were revoked: one, or all by a new password.", "account, token, name, count";
    OrgCreate = "org.create", "An organization was made.", "name, plan";
    OrgDelete = "org.delete", "The organization was deleted with its members, its settings and whatever let somebody in; its name is never given again.", "name";
    OrgSettings = "org.settings", "General settings of the organization were changed.", "before, after";
    OrgAddUser = "org.add_user", "An account became a member.", "account, role";
    OrgRemoveUser = "org.remove_user", "A member was removed; what he could open is closed, and the invitations and join link that he made are void.", "account, role";
    OrgChangeRole = "org.change_role", "A member's role was changed; a lower one voids the invitations and join link that he made.", "account, before, after";
    OrgLeave = "org.leave", "A member left; the invitations and join link that he made are void.", "account";
    OrgAccountDelete = "org.account_delete", "A member's account was deleted: the membership, its links and the invitations that it made went with it.", "account, role";
    OrgInviteUser = "org.invite_user", "An invitation by link was made.", "invitation, role, account, uses";
    OrgInviteRevoke = "org.invite.revoke", "An invitation was taken back before it was used up.", "invitation, role";
    OrgInviteAccept = "org.invite.accept", "An account became a member by an invitation.", "account, role, invitation, invited_by";
    OrgSsoJoin = "org.sso_join", "An account became a member by the SSO join link; its identity was linked.", "account, role, issuer, subject, email";
    OrgUpdateJoinSettings = "org.update_join_settings", "The SSO join link was made, rotated or turned off.", "join_link, role, uses";
    OrgSettingsSso = "org.settings.sso", "A new revision of the SSO settings was saved.", "revision, issuer_url, client_id, changed";
    OrgSettingsSsoTest = "org.settings.sso.test", "A test of SSO settings ended. With an account, that was whose test it was, who was not signed in any more by then.", "revision, outcome, code, step, account";
    OrgSettingsSsoEnable = "org.settings.sso.enable", "A revision became the live one: members need (or are asked for) its SSO.", "revision, enforcement, issuer, untested";
    OrgSettingsSsoDisable = "org.settings.sso.disable", "SSO was switched off; its sessions ended.", "revision";
    OrgSettingsSsoEnforcement = "org.settings.sso.enforcement", "Enforcement was changed.", "before, after";
    OrgSettingsSsoTimeout = "org.settings.sso.session_timeout", "The SSO session time-out was changed.", "before, after";
    OrgSettingsSsoGuests = "org.settings.sso.guests", "Whether the provider's guests may be linked was changed.", "before, after";
    OrgSettingsSsoCollaborator = "org.settings.sso.collaborator", "Whether a member is an external collaborator, who needs no SSO, was changed. A day: until its end.", "account, before, after";
    OrgRecoveryCodes = "org.recovery.codes", "Recovery codes were made; older ones are void.", "count";
    OrgRecoveryUse = "org.recovery.use", "A recovery code was used: for 60 minutes it stands in for SSO in this browser, on settings pages alone.", "number, left";
    OrgRecoveryFailed = "org.recovery.failed", "A recovery code was refused. After five of an account in an hour, the others of that hour are counted in one more entry.", "account, count";
    OrgSsoLogin = "org.sso_login", "A member completed SSO.", "issuer, subject, email";
    OrgSsoLink = "org.sso_link", "An identity of the provider was linked to an account: by its proved address, by the admin's own Enable, or by an approval.", "account, issuer, subject, email, how";
    OrgSsoLinkRequest = "org.sso_link.request", "A member asked the admins to approve a first link. After five of an account in an hour, the others of that hour are counted in one more entry.", "account, issuer, subject, email, code; account, count";
    OrgSsoLinkRefuse = "org.sso_link.refuse", "An admin refused a first link.", "account, issuer, subject, email";
    OrgSsoUnlink = "org.sso_unlink", "An account was unlinked from an identity; its SSO sessions ended.", "account, issuer, subject, email";
    OrgSsoLoginFailed = "org.sso_login_failed", "A member's SSO ended without a session. With an account, that was whose it was, who was not signed in any more by then. After five of an account in an hour, the others of that hour are counted in one more entry.", "code, step, purpose, account; account, count";
    OrgApiTokenCreate = "org.api_token.create", "A token for the JSON API was made.", "token, name, scopes, expires_at";
    OrgApiTokenRevoke = "org.api_token.revoke", "A token for the JSON API was revoked.", "token, name";
    OrgTokenAuthorize = "org.token.authorize", "A member authorised a personal access token of his for the organization.", "account, token, name, role";
    OrgTokenRevoke = "org.token.revoke", "A personal access token reaches the organization no longer: the member or an admin took its authorisation back, or it was revoked.", "account, token, name";
    OrgSettingsTokens = "org.settings.tokens", "For how many days after their owner's last SSO tokens reach the organization was changed.", "before, after";
    ResourceSet = "resource.set", "A resource was registered as public or private.", "name, prefix, public";
    AuditChainStart = "audit.chain_start", "From here on each entry carries a hash; the entries before are bound by their number and their SHA-256.", "events, sha256";
    AuditKeyNew = "audit.key_new", "A key of the audit log's chain was made: the first one, or in the place of another. lost: keys that were gone.", "key, lost";
    AuditKeyLost = "audit.key_lost", "The keys of the entries before were gone: their codes can't be checked any more. A new key goes on from their hash.", "events, key";
    AuditExport = "audit.export", "The system's own log was exported.", "count";
    KeyRotate = "key.rotate", "A new master key seals from now on; everything sealed is sealed anew with it.", "key";
    KeyDropOld = "key.drop_old", "Old master keys were dropped: nothing is sealed with them.", "keys";
    AccountImport = "account.import", "Accounts were taken from another system's file.", "count";
    OrgImport = "org.import", "The organization, members or a draft of its connection were taken from another system's file.", "created, members, admins, revision";
    StoreBackup = "store.backup", "A backup of the store was begun; the event is in it.", "keys";
    StoreRestore = "store.restore", "The store was restored from a backup: what was written after it is gone; sessions, invitations, links and recovery codes of before are void. In the system's log and in each organization's; with the word gone, the organization was made since and nothing but its name is left.", "rows, generation, backup_made_at, gone";
    OrgAuditLogExport = "org.audit_log.export", "The audit log was downloaded. Hidden from the default view.", "count";
}

impl AuditAction {
    /// The action of that code.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|action| action.as_str() == code)
    }

    /// Whether the default view leaves it out (hub-sso.md A3).
    pub const fn is_hidden_by_default(self) -> bool {
        matches!(self, Self::OrgAuditLogExport)
    }
}

impl fmt::Display for AuditAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a2_each_action_has_a_code_of_its_own() {
        let codes: HashSet<_> = AuditAction::ALL.iter().map(|action| action.as_str()).collect();
        assert_eq!(codes.len(), AuditAction::ALL.len());
        for action in AuditAction::ALL {
            assert_eq!(AuditAction::from_code(action.as_str()), Some(*action));
            // Shown on a page as it is.
            assert!(action.meaning().ends_with('.') && !action.meaning().contains('`'), "{action:?}");
        }
    }
}
