//! `account …`.

use super::{Context, account};
use crate::account_end::{self, Tie, load_ties};
use crate::command_line::{
    AccountCreate, AccountDelete, AccountEmail, AccountPassword, AccountSwitch, AccountTokens,
};
use crate::failure::Failure;
use crate::passwords::{Passwords, judge_new_password};
use crate::sso::enable::NotDone;
use crate::store::{self, Account, NewAccount, StoreError};
use crate::web::page::Moment;
use doorward_core::audit_event::AuditAction;
use doorward_core::email::Email;
use doorward_core::error_code::ErrorCode;
use doorward_core::ids::{AccessTokenId, AccountId};
use doorward_core::name::Name;
use doorward_core::secret::Secret;
use doorward_core::time::Timestamp;
use std::io::Write;

/// Longest name of a person, in characters.
const FULL_NAME_CHARACTERS_MAX: usize = 100;

/// `account create`: the operator's word proves the address (rule 13).
pub async fn create_account(
    context: &Context,
    create: AccountCreate,
    password: Secret,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let name = Name::parse(&create.name)
        .map_err(|why| Failure::about(ErrorCode::AccountNameInvalid, format!("{:?}: {why}", create.name)))?;
    let email = Email::parse(&create.email).map_err(|why| {
        Failure::about(ErrorCode::AccountEmailInvalid, format!("{:?}: {why}", create.email))
    })?;
    let full_name = create.full_name.trim().to_owned();
    if full_name.chars().count() > FULL_NAME_CHARACTERS_MAX || full_name.chars().any(char::is_control) {
        return Err(Failure::new(
            ErrorCode::RequestMalformed,
            "a person's name has at most 100 characters, and no control characters",
            "Shorten --full-name.",
        ));
    }
    judge_new_password(&password, name.as_str())?;

    let store = context.store().await?;
    let mut reader = store.reader();
    if store::load_account_by_name(&mut reader, name.key()).await?.is_some() {
        return Err(Failure::about(
            ErrorCode::AccountNameTaken,
            format!("the account {name} is there already; nothing was changed"),
        ));
    }
    let password_hash = Passwords::new(&context.random)?.hash(password, &context.random).await?;
    let now = context.clock.now();
    let account = NewAccount {
        id: AccountId::new(now.millis(), context.random.bytes()?),
        name: name.clone(),
        full_name,
        email: Some(email.clone()),
        email_proved: true,
        password_hash: Some(password_hash),
        operator: create.operator,
    };
    let mut tx = store.begin().await?;
    match tx.insert_account(&account, now).await {
        Ok(()) => {}
        Err(StoreError::Conflict) => {
            drop(tx);
            let owner = store::load_sign_in(&mut reader, email.key()).await?;
            return Err(match owner {
                Some(owner) => Failure::new(
                    ErrorCode::AccountEmailTaken,
                    format!("{email} is a proved address of the account {}", owner.account.name),
                    "Use another address.",
                ),
                None => ErrorCode::AccountNameTaken.into(),
            });
        }
        Err(error) => return Err(error.into()),
    }
    let details = vec![("name", name.to_string()), ("operator", create.operator.to_string())];
    tx.audit(context.entry(None, AuditAction::AccountCreate, details), now).await?;
    tx.commit(now).await?;
    let kind = if create.operator { "operator account" } else { "account" };
    writeln!(output, "The {kind} {name} can sign in now.")?;
    Ok(())
}

/// `account password`: the account's sessions end, and whoever was locked out by wrong passwords may try at once.
pub async fn set_password(
    context: &Context,
    set: AccountPassword,
    password: Secret,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let store = context.store().await?;
    let account = account(&mut store.reader(), &set.name).await?;
    judge_new_password(&password, account.name.as_str())?;
    let password_hash = Passwords::new(&context.random)?.hash(password, &context.random).await?;
    let now = context.clock.now();
    let mut tx = store.begin().await?;
    let ended = tx.update_password(account.id, &password_hash, None).await?;
    let details = vec![("name", account.name.to_string())];
    let entry = context.entry(None, AuditAction::AccountPassword, details);
    tx.audit_ended_tokens(&ended, account.name.as_str(), &entry, now).await?;
    tx.audit(entry, now).await?;
    tx.commit(now).await?;
    writeln!(output, "{} has a new password; its sessions and access tokens have ended.", account.name)?;
    Ok(())
}

/// `account tokens`: one line a token, or the end of one.
pub async fn list_or_revoke_tokens(
    context: &Context,
    tokens: AccountTokens,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let store = context.store().await?;
    let account = account(&mut store.reader(), &tokens.name).await?;
    let Some(id) = tokens.revoke else {
        for token in store::load_access_tokens(&mut store.reader(), account.id).await? {
            let at = |at: Timestamp| Moment::from(at).iso;
            let used = token.last_used_at.map_or_else(|| "never".to_owned(), at);
            let (id, until, role) = (token.id, at(token.expires_at), token.ceiling);
            let organizations = token.authorizations.len();
            writeln!(
                output,
                "{id}  {role}  until {until}  last used {used}  authorised for {organizations}  {}",
                token.name
            )?;
        }
        return Ok(());
    };
    let missing = || Failure::about(ErrorCode::TokenMissing, format!("{} has no token {id:?}", account.name));
    let id: AccessTokenId = id.parse().map_err(|_| missing())?;
    let now = context.clock.now();
    let mut tx = store.begin().await?;
    let ended = tx.delete_access_token(id, account.id).await?.ok_or_else(missing)?;
    let details = vec![
        ("account", account.name.to_string()),
        ("token", ended.id.to_string()),
        ("name", ended.name.clone()),
    ];
    let entry = context.entry(None, AuditAction::AccountTokenRevoke, details);
    tx.audit_ended_tokens(&[ended], account.name.as_str(), &entry, now).await?;
    tx.audit(entry, now).await?;
    tx.commit(now).await?;
    writeln!(output, "The token is revoked.")?;
    Ok(())
}

/// `account email`: the operator's word proves the address (rule 13).
pub async fn add_email(context: &Context, add: AccountEmail, output: &mut dyn Write) -> Result<(), Failure> {
    let email = Email::parse(&add.add)
        .map_err(|why| Failure::about(ErrorCode::AccountEmailInvalid, format!("{:?}: {why}", add.add)))?;
    let store = context.store().await?;
    let account = account(&mut store.reader(), &add.name).await?;
    let now = context.clock.now();
    let mut tx = store.begin().await?;
    match tx.prove_email(account.id, &email, now).await {
        Ok(()) => {}
        Err(StoreError::Conflict) => return Err(ErrorCode::AccountEmailTaken.into()),
        Err(error) => return Err(error.into()),
    }
    let details = vec![("name", account.name.to_string()), ("address", email.to_string())];
    tx.audit(context.entry(None, AuditAction::AccountEmail, details), now).await?;
    tx.commit(now).await?;
    writeln!(output, "{email} is a proved address of {}.", account.name)?;
    Ok(())
}

/// `account disable`: refused while an organization would be left without an admin who can govern it.
pub async fn disable_account(
    context: &Context,
    switch: AccountSwitch,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let store = context.store().await?;
    let now = context.clock.now();
    let mut tx = store.begin().await?;
    let account = account(&mut tx, &switch.name).await?;
    // Of two admins who are switched off at once, one is found to be the last.
    for (organization, _) in store::load_bonds(&mut tx, account.id).await? {
        tx.lock_organization(organization).await?;
    }
    let governs_alone = !store::load_governed_alone(&mut tx, account.id, now).await?.is_empty();
    if !account.disabled && governs_alone {
        let ties = load_ties(&mut tx, account.id, now).await?;
        return Err(last_admin(&account, &ties, "nothing was changed"));
    }
    if !tx.set_disabled(account.id, true).await? {
        writeln!(output, "{} is switched off already.", account.name)?;
        return Ok(());
    }
    let details = vec![("name", account.name.to_string())];
    tx.audit(context.entry(None, AuditAction::AccountDisable, details), now).await?;
    tx.commit(now).await?;
    writeln!(output, "{} is switched off; its sessions have ended.", account.name)?;
    Ok(())
}

/// `account enable`: nothing that ended comes back.
pub async fn enable_account(
    context: &Context,
    switch: AccountSwitch,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let store = context.store().await?;
    let now = context.clock.now();
    let mut tx = store.begin().await?;
    let account = account(&mut tx, &switch.name).await?;
    if !tx.set_disabled(account.id, false).await? {
        writeln!(output, "{} is switched on already.", account.name)?;
        return Ok(());
    }
    let details = vec![("name", account.name.to_string())];
    tx.audit(context.entry(None, AuditAction::AccountEnable, details), now).await?;
    tx.commit(now).await?;
    writeln!(output, "{} can sign in again.", account.name)?;
    Ok(())
}

fn last_admin(account: &Account, ties: &[Tie], so: &str) -> Failure {
    let alone = ties.iter().filter(|tie| tie.is_last_admin);
    let alone: Vec<String> = alone.map(|tie| tie.member.organization.name.to_string()).collect();
    Failure::new(
        ErrorCode::OrganizationLastAdmin,
        format!("{} is the last admin of {}; {so}", account.name, alone.join(", ")),
        "Give somebody else the role: doorward org member set ORG ACCOUNT --role admin",
    )
}

/// `account delete`: refused while an organization would be left without an admin.
pub async fn delete_account(
    context: &Context,
    delete: AccountDelete,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let store = context.store().await?;
    let account = account(&mut store.reader(), &delete.name).await?;
    let who = (account.id, account.name.as_str());
    match account_end::delete_account(&store, who, None, &context.by(), context.clock.now()).await {
        Ok(()) => {}
        Err(NotDone::Refused(ErrorCode::OrganizationLastAdmin)) => {
            let ties = load_ties(&mut store.reader(), account.id, context.clock.now()).await?;
            return Err(last_admin(&account, &ties, "nothing was deleted"));
        }
        Err(NotDone::Refused(code)) => return Err(code.into()),
        Err(NotDone::Store(error)) => return Err(error.into()),
    }
    writeln!(output, "The account {} is deleted; its name is never given again.", account.name)?;
    Ok(())
}
