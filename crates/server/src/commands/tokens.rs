//! `token …`: an organization's tokens for the JSON API.

use super::{Context, organization};
use crate::audit_export::rfc3339;
use crate::command_line::{TokenCreate, TokenList, TokenRevoke};
use crate::failure::Failure;
use crate::store::{API_TOKEN_LIFETIME_MAX, NewApiToken, load_api_tokens};
use crate::web::api::new_api_token;
use doorward_core::api_scope::ApiScope;
use doorward_core::audit_event::AuditAction;
use doorward_core::error_code::ErrorCode;
use doorward_core::ids::ApiTokenId;
use doorward_core::time::Lifetime;
use std::io::Write;

/// `token create`: the token is all that is printed, this once, so that it can be piped.
pub async fn create_token(
    context: &Context,
    create: TokenCreate,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let name = create.name.trim();
    if !(1..=100).contains(&name.chars().count()) || name.chars().any(char::is_control) {
        return Err(Failure::new(
            ErrorCode::RequestMalformed,
            "a token's name has 1 to 100 characters, none of them a control character",
            "Say in a few words what the token is for, as in --name \"support desk\".",
        ));
    }
    let lifetime = Lifetime::from_days(i64::from(create.days)).min(API_TOKEN_LIFETIME_MAX);
    let mut scopes = create.scope.clone();
    if scopes.is_empty() {
        scopes.push(ApiScope::Decision);
    }
    let store = context.store().await?;
    let now = context.clock.now();
    let token = new_api_token(&context.random)?;
    let mut tx = store.begin().await?;
    let organization = organization(&mut tx, &create.organization).await?;
    tx.lock_organization(organization.id).await?;
    let new = NewApiToken {
        id: ApiTokenId::new(now.millis(), context.random.bytes()?),
        organization: organization.id,
        token: token.hash(),
        name: name.to_owned(),
        scopes,
        created_by_name: context.operator.clone(),
        expires_at: now.plus(lifetime),
    };
    if !tx.insert_api_token(&new, now).await? {
        return Err(ErrorCode::ApiTooManyTokens.into());
    }
    let scopes: Vec<&str> = new.scopes.iter().map(|scope| scope.as_str()).collect();
    let details = vec![
        ("token", new.id.to_string()),
        ("name", new.name.clone()),
        ("scopes", scopes.join(" ")),
        ("expires_at", rfc3339(new.expires_at).unwrap_or_default()),
    ];
    tx.audit(context.entry(Some(organization.id), AuditAction::OrgApiTokenCreate, details), now).await?;
    tx.commit(now).await?;
    writeln!(output, "{}", token.expose())?;
    Ok(())
}

/// `token list`: id, name, scopes, maker, end and last use, parted by tabs.
pub async fn list_tokens(context: &Context, list: TokenList, output: &mut dyn Write) -> Result<(), Failure> {
    let store = context.store().await?;
    let mut reader = store.reader();
    let organization = organization(&mut reader, &list.organization).await?;
    for token in load_api_tokens(&mut reader, organization.id).await? {
        let scopes: Vec<&str> = token.scopes.iter().map(|scope| scope.as_str()).collect();
        let used = token.last_used_at.and_then(rfc3339).unwrap_or_else(|| "never used".to_owned());
        let ends = rfc3339(token.expires_at).unwrap_or_default();
        let (id, name, by) = (token.id, token.name, token.created_by_name);
        writeln!(output, "{id}\t{name}\t{}\t{by}\t{ends}\t{used}", scopes.join(" "))?;
    }
    Ok(())
}

/// `token revoke`: it is refused from the next call on.
pub async fn revoke_token(
    context: &Context,
    revoke: TokenRevoke,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let store = context.store().await?;
    let now = context.clock.now();
    let missing = || Failure::from(ErrorCode::ApiTokenMissing);
    let id: ApiTokenId = revoke.token.parse().map_err(|_| missing())?;
    let mut tx = store.begin().await?;
    let organization = organization(&mut tx, &revoke.organization).await?;
    tx.lock_organization(organization.id).await?;
    let name = tx.delete_api_token(organization.id, id).await?.ok_or_else(missing)?;
    let details = vec![("token", id.to_string()), ("name", name.clone())];
    tx.audit(context.entry(Some(organization.id), AuditAction::OrgApiTokenRevoke, details), now).await?;
    tx.commit(now).await?;
    writeln!(output, "The token {name} works no longer.")?;
    Ok(())
}
