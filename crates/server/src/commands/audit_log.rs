//! `audit …`.

use super::{Context, organization, rfc3339};
use crate::command_line::AuditExport;
use crate::failure::Failure;
use crate::store::AuditRecord;
use doorward_core::audit_event::AuditAction;
use serde_json::{Value, json};
use std::io::Write;

/// Events of one read.
const PAGE: i64 = 1000;

/// `audit export`: one JSON object a line, oldest first. The export itself is an event, after the exported ones.
pub async fn export_audit_log(
    context: &Context,
    export: AuditExport,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let store = context.store().await?;
    let mut reader = store.reader();
    let organization = organization(&mut reader, &export.organization).await?;
    let (mut after, mut count) = (0, 0_u64);
    loop {
        let page = reader.audit_after(organization.id, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.sequence;
        for record in &page {
            writeln!(output, "{}", audit_record_as_json(organization.name.as_str(), record))?;
            count += 1;
        }
    }
    output.flush()?;
    let now = context.clock.now();
    let mut tx = store.begin().await?;
    let details = vec![("count", count.to_string())];
    tx.audit(context.entry(Some(organization.id), AuditAction::OrgAuditLogExport, details), now).await?;
    tx.commit(now).await?;
    Ok(())
}

/// One event as the export and the download give it.
pub fn audit_record_as_json(organization: &str, record: &AuditRecord) -> Value {
    json!({
        "organization": organization,
        "sequence": record.sequence,
        "at": rfc3339(record.at),
        "action": record.action,
        "actor": { "kind": record.actor_kind, "id": record.actor_id, "name": record.actor_name },
        "details": record.details,
        "address": record.address,
        "request_id": record.request_id,
    })
}
