//! An audit log, an organization's or the system's, as files hold it, read and checked page by page, so that its
//! length costs no memory.
//!
//! In: the store. Out: events as JSON, each with its hash, and at the end a signed checkpoint over the last of them.
//! Never here: what stands between the events (lines, an array). Invariant: a log that does not fit its chain is
//! written out as it is and never signed.

use crate::audit_chain::{ChainWalk, Checkpoint, Wrong};
use crate::store::{AuditRecord, Store, StoreError};
use doorward_core::time::Timestamp;
use serde_json::{Map, Value as Json, json};

/// Events that are read at once.
const PAGE: i64 = 500;

/// Where an export stands.
#[derive(Debug)]
pub struct AuditExport {
    store: Store,
    organization: String,
    walk: ChainWalk,
    /// The last number that belongs to it: what comes later is not waited for.
    until: i64,
    wrong: Option<Wrong>,
}

impl AuditExport {
    /// The events of a scope, an organization's id or `SYSTEM_SCOPE`, up to the number `until`. `organization`: what
    /// people call it.
    pub fn new(store: Store, scope: &str, organization: &str, until: i64) -> Self {
        let walk = ChainWalk::new(scope);
        Self { store, organization: organization.to_owned(), walk, until, wrong: None }
    }

    /// The next events as JSON; empty at the end.
    pub async fn next(&mut self, after: &mut i64) -> Result<Vec<Json>, StoreError> {
        let records = self.store.reader().audit_of_scope_after(self.walk.scope(), *after, PAGE).await?;
        let keys = self.store.audit_keys()?;
        let mut events = Vec::with_capacity(records.len());
        for record in records.iter().take_while(|record| record.sequence <= self.until) {
            if self.wrong.is_none() {
                self.wrong = self.walk.take(record, Some(&keys)).err();
            }
            events.push(event_as_json(&self.organization, self.walk.scope(), record));
            *after = record.sequence;
        }
        Ok(events)
    }

    /// What stands after the last event: `checkpoint`, or `null` with what is wrong.
    pub fn end(&self, now: Timestamp) -> Result<(Json, Option<Wrong>), StoreError> {
        let count = self.walk.finish(self.until, self.walk.hash());
        if let Some(wrong) = self.wrong.or(count.err()) {
            let what = json!({ "sequence": wrong.sequence, "reason": wrong.damage.as_str() });
            return Ok((json!({ "checkpoint": null, "wrong": what }), Some(wrong)));
        }
        let keys = self.store.audit_keys()?;
        let signed = self.walk.hash().map(|hash| keys.sign(self.walk.scope(), self.walk.last(), hash, now));
        let organization = &self.organization;
        let checkpoint = signed.as_ref().map(Checkpoint::to_json);
        Ok((json!({ "organization": organization, "checkpoint": checkpoint }), None))
    }
}

/// One event as the export, the download and the API give it.
pub fn event_as_json(organization: &str, scope: &str, record: &AuditRecord) -> Json {
    json!({
        "organization": organization,
        "scope": scope,
        "sequence": record.sequence,
        "at": rfc3339(record.at),
        "action": record.action,
        "actor": { "kind": record.actor_kind, "id": record.actor_id, "name": record.actor_name },
        "details": record.details,
        "address": record.address,
        "request_id": record.request_id,
        "hash": record.hash,
        "mac": record.mac,
    })
}

/// Why a line is none of ours.
const NOT_AS_WRITTEN: &str =
    "not as Doorward writes it: a member is unknown, missing, doubled, moved or of another form";

/// Reads a line that `event_as_json` wrote: the organization's name, the scope, and the event. What is not written in
/// the very same way is refused, because a reader may see something in it that no hash is over.
pub fn event_from_line(line: &str) -> Result<(String, String, AuditRecord), String> {
    let json: Json = serde_json::from_str(line).map_err(|error| format!("not JSON: {error}"))?;
    let (organization, scope, event) = event_from_json(&json).ok_or("not an event of an audit log")?;
    let written_again = event_as_json(&organization, &scope, &event).to_string();
    if written_again != line {
        return Err(NOT_AS_WRITTEN.to_owned());
    }
    Ok((organization, scope, event))
}

/// Reads the line after the last event, or one of `audit checkpoint`: the organization's name, and the checkpoint,
/// which an export has not whose chain was broken.
pub fn end_from_line(line: &str) -> Result<(Option<String>, Option<Checkpoint>), String> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct End {
        organization: Option<String>,
        checkpoint: Option<Json>,
        wrong: Option<Json>,
    }
    let end: End =
        serde_json::from_str(line).map_err(|error| format!("neither an event nor a checkpoint: {error}"))?;
    let Some(json) = end.checkpoint else {
        // A broken chain says what is wrong with it; anything else is none of ours.
        return if end.wrong.is_some() { Ok((None, None)) } else { Err(NOT_AS_WRITTEN.to_owned()) };
    };
    let checkpoint =
        Checkpoint::from_json(&json).filter(|read| read.to_json() == json && end.wrong.is_none());
    Ok((end.organization, Some(checkpoint.ok_or(NOT_AS_WRITTEN)?)))
}

fn event_from_json(json: &Json) -> Option<(String, String, AuditRecord)> {
    let object = json.as_object()?;
    let actor = object.get("actor")?.as_object()?;
    let at: jiff::Timestamp = object.get("at")?.as_str()?.parse().ok()?;
    let record = AuditRecord {
        sequence: object.get("sequence")?.as_i64()?,
        at: Timestamp::from_millis(at.as_millisecond()),
        action: text(object, "action")?,
        actor_kind: text(actor, "kind")?,
        actor_id: text(actor, "id"),
        actor_name: text(actor, "name")?,
        details: object.get("details")?.as_object()?.clone(),
        address: text(object, "address"),
        request_id: text(object, "request_id"),
        hash: text(object, "hash"),
        mac: text(object, "mac"),
    };
    Some((text(object, "organization")?, text(object, "scope")?, record))
}

fn text(object: &Map<String, Json>, name: &str) -> Option<String> {
    object.get(name)?.as_str().map(str::to_owned)
}

/// As RFC 3339, in UTC, with milliseconds.
pub fn rfc3339(at: Timestamp) -> Option<String> {
    jiff::Timestamp::from_millisecond(at.millis()).ok().map(|at| format!("{at:.3}"))
}
