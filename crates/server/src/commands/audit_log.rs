//! `audit …`: export, check, sign, show the key and make another.

use super::{Context, no_organization};
use crate::audit_chain::{
    AuditKeys, ChainWalk, Checkpoint, Damage, Signed, Wrong, checkpoint_is_due, is_signed_by,
};
use crate::audit_export::{AuditExport, end_from_line, event_from_line};
use crate::command_line::{AuditCheckpoint, AuditExported, AuditNewKey, AuditVerify};
use crate::failure::Failure;
use crate::opening::{open_master_key, open_store};
use crate::store::{
    Actor, AuditRecord, Reader, SYSTEM_SCOPE, Store, StoreError, load_audit_sequence, load_name,
    load_organization_of_log,
};
use doorward_core::audit_event::AuditAction;
use doorward_core::error_code::ErrorCode;
use doorward_core::ids::OrganizationId;
use doorward_core::name::Name;
use doorward_core::time::Timestamp;
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read as _, Write};
use std::path::Path;
use std::sync::Arc;

/// Rows of one read.
const PAGE: i64 = 500;
/// The longest line of a file that is read, in bytes; ours are below 10 KiB.
const LINE_BYTES_MAX: u64 = 1024 * 1024;
/// The most checkpoints that one file may hold.
const CHECKPOINTS_MAX: usize = 1_000_000;

/// `audit export`, of an organization's log or the system's: one JSON object a line, oldest first, then a checkpoint. The
/// export itself is an event, after the exported ones.
pub async fn export_audit_log(
    context: &Context,
    export: AuditExported,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let store = context.store().await?;
    let (id, action, scope, name) = match &export.organization {
        Some(name) => {
            let (id, name) = organization_of_log(&store, name).await?;
            (Some(id), AuditAction::OrgAuditLogExport, id.to_string(), name.as_str().to_owned())
        }
        None => (None, AuditAction::AuditExport, SYSTEM_SCOPE.to_owned(), SYSTEM_SCOPE.to_owned()),
    };
    let until = load_audit_sequence(&mut store.reader(), &scope).await?;
    let until = until.map_or(0, |sequence| sequence.count);
    // Told before it happens: whoever reads the first lines only has read them too.
    let now = context.clock.now();
    let mut tx = store.begin().await?;
    let details = vec![("count", until.to_string())];
    tx.audit(context.entry(id, action, details), now).await?;
    tx.commit(now).await?;
    let mut export = AuditExport::new(store.clone(), &scope, &name, until);
    let mut after = 0;
    loop {
        let events = export.next(&mut after).await?;
        if events.is_empty() {
            break;
        }
        for event in events {
            writeln!(output, "{event}")?;
        }
    }
    let (end, wrong) = export.end(context.clock.now())?;
    writeln!(output, "{end}")?;
    output.flush()?;
    wrong.map_or(Ok(()), |wrong| Err(broken(&name, wrong)))
}

/// The organization whose log that is; a deleted one's log outlives it.
async fn organization_of_log(store: &Store, name: &str) -> Result<(OrganizationId, Name), Failure> {
    let found = load_organization_of_log(&mut store.reader(), name).await?;
    found.ok_or_else(|| no_organization(name))
}

fn broken(log: &str, wrong: Wrong) -> Failure {
    Failure::about(ErrorCode::AuditChainBroken, format!("the audit log of {log}: {wrong}"))
}

fn unreadable(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::about(ErrorCode::AuditFileUnreadable, format!("{}: {why}", path.display()))
}

/// `audit public-key`: what an auditor keeps, to check exports and checkpoints without the database.
pub async fn print_public_key(context: &Context, output: &mut dyn Write) -> Result<(), Failure> {
    let store = context.store().await?;
    writeln!(output, "{}", store.audit_keys()?.public_key())?;
    Ok(())
}

/// `audit new-key`: another key makes the codes from now on, older ones check. With `--lost` although keys are gone,
/// which no start of the service and no other command does by itself (ADR 0034).
pub async fn make_audit_key(
    context: &Context,
    new: AuditNewKey,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let store = open_store(&context.configuration).await?;
    let now = context.clock.now();
    let sealing = open_master_key(&context.configuration, &store, &context.random, now).await?;
    let operator = Actor::Operator(context.operator.clone());
    let lost = store.renew_audit_key(&sealing, &context.random, new.lost, operator, now).await?;
    store.open_audit(&sealing, &context.random, now).await?;
    let keys = store.audit_keys()?;
    writeln!(output, "Key {} makes the codes of the audit log from now on.", keys.id())?;
    writeln!(output, "next: give its public key to whoever keeps one: {}", keys.public_key())?;
    if new.lost {
        let gone = if lost.is_empty() { String::new() } else { format!(" (gone: {})", lost.join(" ")) };
        writeln!(
            output,
            "Warning: no code of what was written before can be trusted any more{gone}. audit verify names the last such\n\
             number of each log. Hold these events against checkpoints and exports that were kept elsewhere. If none of\n\
             you lost the keys, somebody who may write to the database took them away: find out who, and what he changed."
        )?;
    }
    Ok(())
}

/// `audit checkpoint`: signs what each log is now, one JSON object a line. For the machine that keeps them elsewhere.
pub async fn print_checkpoints(
    context: &Context,
    wanted: AuditCheckpoint,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let store = context.store().await?;
    let mut scopes = Scopes::of(&store, wanted.logs.organization.as_deref()).await?;
    let mut first_wrong = None;
    while let Some((scope, name)) = scopes.next().await? {
        let keys = store.audit_keys()?;
        let mut signed = sign_scope(&store, &keys, &scope, context.clock.now()).await?;
        if signed.is_err() {
            // Somebody may have made another key since this began.
            let keys = store.audit_keys_now().await?;
            signed = sign_scope(&store, &keys, &scope, context.clock.now()).await?;
        }
        match signed {
            Ok(signed) => {
                writeln!(output, "{}", json!({ "organization": name, "checkpoint": signed.to_json() }))?;
            }
            Err(wrong) => {
                first_wrong.get_or_insert_with(|| broken(&name, wrong));
            }
        }
    }
    output.flush()?;
    first_wrong.map_or(Ok(()), Err)
}

/// Signs what a scope's log is now. That must at least be the hash of an event of ours; the whole chain is for
/// `audit verify`.
async fn sign_scope(
    store: &Store,
    keys: &AuditKeys,
    scope: &str,
    now: Timestamp,
) -> Result<Result<Checkpoint, Wrong>, StoreError> {
    let Some(sequence) = load_audit_sequence(&mut store.reader(), scope).await? else {
        return Ok(Err(Wrong { sequence: 1, damage: Damage::MissingAtEnd }));
    };
    let count = sequence.count;
    let newest = store.reader().audit_of_scope_after(scope, count - 1, 1).await?;
    let is_ours = |hash: &String| {
        newest.first().is_some_and(|event| {
            let ours = |mac: &String| keys.mac_fits(hash, mac);
            event.sequence == count && event.mac.as_ref().is_some_and(ours)
        })
    };
    let signed = sequence.hash.filter(is_ours).map(|hash| keys.sign(scope, count, &hash, now));
    Ok(signed.ok_or(Wrong { sequence: count, damage: Damage::BesideTheSequence }))
}

/// Logs, one after the other: of one organization, or all that there are or should be.
struct Scopes {
    reader: Reader,
    one: Option<(String, String)>,
    all: bool,
    after: String,
    system_told: bool,
}

impl Scopes {
    async fn of(store: &Store, name: Option<&str>) -> Result<Self, Failure> {
        let reader = store.reader();
        let one = match name {
            Some(name) => {
                let (id, name) = organization_of_log(store, name).await?;
                Some((id.to_string(), name.as_str().to_owned()))
            }
            None => None,
        };
        let all = one.is_none();
        Ok(Self { reader, one, all, after: String::new(), system_told: false })
    }

    /// The next scope, and the name of its organization.
    async fn next(&mut self) -> Result<Option<(String, String)>, StoreError> {
        if !self.all {
            return Ok(self.one.take());
        }
        let scope = match self.reader.next_audit_scope(&self.after).await? {
            Some(scope) => scope,
            // The system has a log even if nothing in the database says so.
            None if !self.system_told => SYSTEM_SCOPE.to_owned(),
            None => return Ok(None),
        };
        self.system_told |= scope == SYSTEM_SCOPE;
        self.after.clone_from(&scope);
        // A deleted organization's log outlives it; its name does too.
        let name = load_name(&mut self.reader, &scope).await?.unwrap_or_else(|| scope.clone());
        Ok(Some((scope, name)))
    }
}

/// `audit verify ORG` or `--all`: goes through the logs as they are kept. Fails if one is not what was written.
pub async fn verify_audit_logs(
    context: &Context,
    verify: AuditVerify,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let mut kept: BTreeMap<String, Vec<Checkpoint>> = BTreeMap::new();
    for checkpoint in verify.checkpoint.as_deref().map(read_checkpoints).transpose()?.unwrap_or_default() {
        kept.entry(checkpoint.scope.clone()).or_default().push(checkpoint);
    }
    let store = context.store().await?;
    let mut scopes = Scopes::of(&store, verify.logs.organization.as_deref()).await?;
    let mut first_wrong = None;
    while let Some((scope, name)) = scopes.next().await? {
        let of_scope = kept.remove(&scope).unwrap_or_default();
        let verified = verify_scope(&store, &scope, of_scope).await?;
        verified.tell(&name, &scope, verify.json, output)?;
        if let Some(wrong) = verified.wrong {
            first_wrong.get_or_insert_with(|| broken(&name, wrong));
        }
    }
    // Logs of which nothing at all is left.
    for scope in kept.keys().filter(|_| verify.logs.all) {
        let wrong = Wrong { sequence: 1, damage: Damage::MissingAtEnd };
        let verified = Verified { wrong: Some(wrong), ..Verified::default() };
        verified.tell(scope, scope, verify.json, output)?;
        first_wrong.get_or_insert_with(|| broken(scope, wrong));
    }
    output.flush()?;
    first_wrong.map_or(Ok(()), Err)
}

/// What was found of one log.
#[derive(Default)]
struct Verified {
    events: i64,
    checkpoints: u64,
    newest: Option<i64>,
    /// Events up to this number have no code that could be checked.
    unproved: Option<i64>,
    /// The newest event that tells of a restore.
    restored: Option<i64>,
    wrong: Option<Wrong>,
}

impl Verified {
    fn tell(&self, name: &str, scope: &str, as_json: bool, output: &mut dyn Write) -> Result<(), Failure> {
        let Self { events, checkpoints, newest, unproved, restored, wrong } = self;
        if as_json {
            let line = json!({
                "organization": name,
                "scope": scope,
                "intact": wrong.is_none(),
                "events": events,
                "checkpoints": checkpoints,
                "newest_checkpoint": newest,
                "unproved_until": unproved,
                "restored_at": restored,
                "first_wrong": wrong.map(|wrong| wrong.sequence),
                "reason": wrong.map(|wrong| wrong.damage.as_str()),
            });
            writeln!(output, "{line}")?;
            return Ok(());
        }
        if let Some(wrong) = wrong {
            write!(output, "{name} ({scope}): not intact: {wrong}")?;
        } else {
            let newest = newest.map_or_else(|| "none".to_owned(), |newest| format!("the newest at {newest}"));
            write!(output, "{name} ({scope}): intact, {events} events, {checkpoints} checkpoints, {newest}")?;
        }
        if let Some(unproved) = unproved {
            write!(output, "; up to {unproved} by their hashes alone, without codes that could be checked")?;
        }
        if let Some(restored) = restored {
            write!(output, "; event {restored} tells of a restore, and from when the backup was")?;
        }
        writeln!(output)?;
        Ok(())
    }
}

/// Walks through a log while others may write into it. What looks wrong is looked at once more, with the keys of now:
/// between two reads somebody may have written an event, a checkpoint or a key.
async fn verify_scope(store: &Store, scope: &str, kept: Vec<Checkpoint>) -> Result<Verified, StoreError> {
    let verified = walk_scope(store, store.audit_keys()?, scope, kept.clone()).await?;
    if verified.wrong.is_none() {
        return Ok(verified);
    }
    walk_scope(store, store.audit_keys_now().await?, scope, kept).await
}

async fn walk_scope(
    store: &Store,
    keys: Arc<AuditKeys>,
    scope: &str,
    kept: Vec<Checkpoint>,
) -> Result<Verified, StoreError> {
    let mut reader = store.reader();
    let mut verified = Verified::default();
    if let Some(sequence) = reader.audit_before_the_first(scope).await? {
        verified.wrong = Some(Wrong { sequence, damage: Damage::BeforeTheFirst });
        return Ok(verified);
    }
    let mut walk = ChainWalk::new(scope);
    let mut judge = Judge::new(scope, &keys, kept);
    loop {
        let page = match reader.audit_of_scope_after(scope, walk.last(), PAGE).await {
            Ok(page) => page,
            // One row can't be read: which one, by asking one by one.
            Err(StoreError::Corrupt(_)) => match reader.audit_of_scope_after(scope, walk.last(), 1).await {
                Ok(page) => page,
                Err(StoreError::Corrupt(_)) => {
                    let sequence = walk.last() + 1;
                    verified.wrong = Some(Wrong { sequence, damage: Damage::Unreadable });
                    return Ok(verified);
                }
                Err(error) => return Err(error),
            },
            Err(error) => return Err(error),
        };
        judge.look_again();
        for event in &page {
            let mut taken = walk.take(event, Some(&keys));
            if taken.is_ok() {
                taken = judge.compare(&walk, event, &mut reader).await?;
            }
            verified.events = walk.last();
            verified.unproved = Some(walk.unproved()).filter(|&until| until > 0);
            verified.restored = walk.restored();
            (verified.checkpoints, verified.newest) = (judge.seen, judge.newest);
            if let Err(wrong) = taken {
                verified.wrong = Some(wrong);
                return Ok(verified);
            }
        }
        if !page.is_empty() {
            continue;
        }
        // One statement, after the last event was read: what was written in between is read first.
        let sequence = load_audit_sequence(&mut reader, scope).await?;
        let (count, hash) = sequence.map_or((0, None), |sequence| (sequence.count, sequence.hash));
        let is_newer =
            count > walk.last() && !reader.audit_of_scope_after(scope, walk.last(), 1).await?.is_empty();
        if is_newer {
            continue;
        }
        let end = walk.finish(count, hash.as_deref()).and_then(|()| judge.finish(&walk));
        verified.wrong = end.err();
        if verified.wrong.is_some() {
            return Ok(verified);
        }
        let Some(beyond) = judge.take_up_to(i64::MAX, &mut reader).await? else { return Ok(verified) };
        // Written since the last event was read, it has one of its own by now.
        if reader.audit_of_scope_after(scope, walk.last(), 1).await?.is_empty() {
            verified.wrong = Some(judge.beyond(&walk, &beyond.0));
            return Ok(verified);
        }
        judge.put_back(beyond);
    }
}

/// Holds the walk against checkpoints: those that the store keeps, and those that were kept elsewhere.
struct Judge<'a> {
    scope: &'a str,
    keys: &'a AuditKeys,
    /// From the store, page by page.
    stored: VecDeque<Checkpoint>,
    after: i64,
    /// Nothing was stored beyond `after` when it was asked last.
    all_read: bool,
    kept: VecDeque<Checkpoint>,
    seen: u64,
    newest: Option<i64>,
    /// When the last checkpoint was signed beside an event: says when the next one was due.
    signed_at: Timestamp,
    /// The newest number of a checkpoint whose key nobody knows: fine only where keys were lost later.
    unknown_key: i64,
}

impl<'a> Judge<'a> {
    fn new(scope: &'a str, keys: &'a AuditKeys, mut kept: Vec<Checkpoint>) -> Self {
        kept.sort_by_key(|checkpoint| checkpoint.sequence);
        let (stored, kept) = (VecDeque::new(), kept.into());
        let signed_at = Timestamp::from_millis(0);
        let (after, all_read, seen, newest, unknown_key) = (0, false, 0, None, 0);
        Self { scope, keys, stored, after, all_read, kept, seen, newest, signed_at, unknown_key }
    }

    /// Newer events were read: their checkpoints may be newer than those that were asked for.
    fn look_again(&mut self) {
        self.all_read = false;
    }

    /// Compares every checkpoint for the number that was taken last, which is `event`'s.
    async fn compare(
        &mut self,
        walk: &ChainWalk,
        event: &AuditRecord,
        reader: &mut Reader,
    ) -> Result<Result<(), Wrong>, StoreError> {
        let mut is_signed = false;
        while let Some((checkpoint, is_stored)) = self.take_up_to(walk.last(), reader).await? {
            match self.keys.signed(&checkpoint) {
                Signed::Fits => {}
                Signed::UnknownKey => self.unknown_key = checkpoint.sequence,
                Signed::DoesNotFit => {
                    let damage = Damage::CheckpointNotSigned;
                    return Ok(Err(Wrong { sequence: checkpoint.sequence, damage }));
                }
            }
            if let Err(wrong) = walk.compare(&checkpoint) {
                return Ok(Err(wrong));
            }
            is_signed |= is_stored;
            self.seen += 1;
            self.newest = Some(checkpoint.sequence);
        }
        if event.hash.is_some() && checkpoint_is_due(event.sequence, event.at, self.signed_at) {
            if !is_signed {
                return Ok(Err(Wrong { sequence: event.sequence, damage: Damage::CheckpointMissing }));
            }
            self.signed_at = event.at;
        }
        Ok(Ok(()))
    }

    /// After the last event.
    fn finish(&self, walk: &ChainWalk) -> Result<(), Wrong> {
        if self.unknown_key > walk.unproved() {
            return Err(Wrong { sequence: self.unknown_key, damage: Damage::CheckpointNotSigned });
        }
        Ok(())
    }

    /// What is wrong where a checkpoint names a number that is not there.
    fn beyond(&self, walk: &ChainWalk, checkpoint: &Checkpoint) -> Wrong {
        if self.keys.signed(checkpoint) == Signed::Fits {
            Wrong { sequence: walk.last() + 1, damage: Damage::MissingAtEnd }
        } else {
            Wrong { sequence: checkpoint.sequence, damage: Damage::CheckpointNotSigned }
        }
    }

    /// Gives back what was taken too early.
    fn put_back(&mut self, (checkpoint, is_stored): (Checkpoint, bool)) {
        let queue = if is_stored { &mut self.stored } else { &mut self.kept };
        queue.push_front(checkpoint);
    }

    /// The next checkpoint for a number up to `sequence`, and whether it is the store's own.
    async fn take_up_to(
        &mut self,
        sequence: i64,
        reader: &mut Reader,
    ) -> Result<Option<(Checkpoint, bool)>, StoreError> {
        if self.kept.front().is_some_and(|first| first.sequence <= sequence) {
            return Ok(self.kept.pop_front().map(|kept| (kept, false)));
        }
        if self.stored.is_empty() && !self.all_read {
            self.stored = reader.checkpoints_after(self.scope, self.after, PAGE).await?.into();
            self.all_read = self.stored.is_empty();
            self.after = self.stored.back().map_or(self.after, |last| last.sequence);
        }
        Ok(match self.stored.front() {
            Some(first) if first.sequence <= sequence => self.stored.pop_front().map(|stored| (stored, true)),
            _ => None,
        })
    }
}

/// What `audit verify ORG --file` is given.
#[derive(Clone, Copy, Debug)]
pub struct VerifyFile<'a> {
    /// The organization that the file must be of: its name, or its id.
    pub of: &'a str,
    /// The export or download.
    pub file: &'a Path,
    /// The keys that the auditor kept.
    pub public_keys: &'a [String],
    /// Checkpoints that the auditor kept.
    pub checkpoint: Option<&'a Path>,
    /// Whether to tell as JSON.
    pub json: bool,
}

/// `audit verify ORG --file`: an exported file, without any database. Its hashes must make one chain, and its
/// checkpoint must be signed by the holder of a public key; codes need the key that only the database has.
pub fn verify_audit_file(given: VerifyFile<'_>, output: &mut dyn Write) -> Result<(), Failure> {
    let mut kept = given.checkpoint.map(read_checkpoints).transpose()?.unwrap_or_default();
    let mut name = String::new();
    let mut walk: Option<ChainWalk> = None;
    let mut end: Option<Option<Checkpoint>> = None;
    let mut verified = Verified::default();
    for_each_line(given.file, |line| {
        if end.is_some() {
            return Err("something follows the checkpoint".to_owned());
        }
        if line.contains("\"checkpoint\":") && event_from_line(line).is_err() {
            let (organization, checkpoint) = end_from_line(line)?;
            if organization.is_some_and(|organization| organization != name) {
                return Err("the checkpoint is of another organization than the events".to_owned());
            }
            end = Some(checkpoint);
            return Ok(());
        }
        let (organization, scope, event) = event_from_line(line)?;
        if walk.is_none() {
            if scope != given.of && !organization.eq_ignore_ascii_case(given.of) {
                return Err(format!("this is the log of {organization} ({scope}), not of {}", given.of));
            }
            name.clone_from(&organization);
        }
        let walk = walk.get_or_insert_with(|| ChainWalk::new(&scope));
        if let Some(wrong) = &mut verified.wrong {
            // What seemed to be missing turns up later.
            let turns_up = wrong.damage == Damage::Missing && wrong.sequence == event.sequence;
            if turns_up && scope == walk.scope() {
                wrong.damage = Damage::OutOfOrder;
            }
            return Ok(());
        }
        let taken = if scope == walk.scope() && organization == name {
            walk.take(&event, None)
        } else {
            Err(Wrong { sequence: event.sequence, damage: Damage::OfAnotherLog })
        };
        let of_event = |kept: &&Checkpoint| kept.scope == scope && kept.sequence == event.sequence;
        let compared = taken.and_then(|()| {
            kept.iter().filter(of_event).try_for_each(|kept| {
                judge_signature(given.public_keys, kept)?;
                verified.checkpoints += 1;
                verified.newest = Some(kept.sequence);
                walk.compare(kept)
            })
        });
        verified.events = walk.last();
        verified.restored = walk.restored();
        verified.wrong = compared.err();
        Ok(())
    })?;
    let walk = walk.ok_or_else(|| unreadable(given.file, "it holds no event"))?;
    let end = end.ok_or_else(|| unreadable(given.file, "it ends without a checkpoint: it was cut off"))?;
    kept.retain(|kept| kept.scope == walk.scope());
    if let (Some(path), true) = (given.checkpoint, kept.is_empty()) {
        // Of another organization, or of one that had this name before: nothing would be compared.
        return Err(unreadable(path, format!("it holds no checkpoint of {name} ({})", walk.scope())));
    }
    if verified.wrong.is_none() {
        verified.wrong = match end {
            Some(checkpoint) => {
                verified.checkpoints += 1;
                verified.newest = Some(checkpoint.sequence);
                judge_signature(given.public_keys, &checkpoint)
                    .and_then(|()| walk.finish(checkpoint.sequence, Some(&checkpoint.hash)))
                    .and_then(|()| walk.compare(&checkpoint))
                    .err()
            }
            None => Some(Wrong { sequence: walk.last(), damage: Damage::CheckpointNotSigned }),
        };
    }
    let missing = kept.iter().find(|kept| kept.sequence > walk.last());
    if let (None, Some(_)) = (verified.wrong, missing) {
        verified.wrong = Some(Wrong { sequence: walk.last() + 1, damage: Damage::MissingAtEnd });
    }
    verified.tell(&name, walk.scope(), given.json, output)?;
    output.flush()?;
    verified.wrong.map_or(Ok(()), |wrong| Err(broken(&name, wrong)))
}

fn judge_signature(public_keys: &[String], checkpoint: &Checkpoint) -> Result<(), Wrong> {
    if public_keys.iter().any(|key| is_signed_by(key, checkpoint)) {
        Ok(())
    } else {
        Err(Wrong { sequence: checkpoint.sequence, damage: Damage::CheckpointNotSigned })
    }
}

/// Every checkpoint in a file: of `audit checkpoint`, of an export, or of both one after the other.
fn read_checkpoints(path: &Path) -> Result<Vec<Checkpoint>, Failure> {
    let mut kept = Vec::new();
    for_each_line(path, |line| {
        if event_from_line(line).is_ok() {
            return Ok(());
        }
        let (_, checkpoint) = end_from_line(line)?;
        kept.push(checkpoint.ok_or("an export whose chain was broken already, which has no checkpoint")?);
        if kept.len() > CHECKPOINTS_MAX {
            return Err("more checkpoints than can be held".to_owned());
        }
        Ok(())
    })?;
    if kept.is_empty() {
        return Err(unreadable(path, "it holds no checkpoint"));
    }
    Ok(kept)
}

/// Each line that holds something: of JSON lines, and of an array whose elements stand on lines of their own.
fn for_each_line(path: &Path, mut each: impl FnMut(&str) -> Result<(), String>) -> Result<(), Failure> {
    let mut file = BufReader::new(std::fs::File::open(path).map_err(|error| unreadable(path, error))?);
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let read = file.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        if read.map_err(|error| unreadable(path, error))? == 0 {
            break;
        }
        let text = std::str::from_utf8(&line).map_err(|error| unreadable(path, error))?;
        let text = text.trim_end().trim_end_matches(',');
        if !matches!(text, "" | "[" | "]") {
            each(text).map_err(|why| unreadable(path, format!("line {number}: {why}")))?;
        }
    }
    Ok(())
}
