//! `backup` and `restore`: one file for either database, without the master key (docs/adr/0022).
//!
//! The file is whole or not there: it is written beside its place, flushed, and then given its name, which is never
//! taken from another file. A restore reads it twice: first so that nothing is touched for a file that is not whole,
//! then into one transaction, which compares the checksum of what it has read itself.

use super::Context;
use crate::audit_export::rfc3339;
use crate::command_line::{Backup, Restore};
use crate::failure::Failure;
use crate::key_file::sync_folder;
use crate::opening::{check_paths, open_and_migrate, open_sealing};
use crate::sealing::Sealing;
use crate::store::{self, BackupError, Store};
use doorward_core::audit_event::AuditAction;
use doorward_core::error_code::ErrorCode;
use doorward_core::time::Timestamp;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, ErrorKind, Seek as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Bytes that are read or written at once.
const BUFFER: usize = 256 * 1024;

/// `backup`.
pub async fn backup(context: &Context, backup: Backup, output: &mut dyn Write) -> Result<(), Failure> {
    let path = &backup.file;
    let exists = || {
        let what = format!("{} is there already; a backup never takes another file's place", path.display());
        Failure::about(ErrorCode::BackupFileExists, what)
    };
    if path.symlink_metadata().is_ok() {
        return Err(exists());
    }
    let store = context.store().await?;
    let now = context.clock.now();
    let sealing = open_sealing(&context.configuration, &store, &context.random, now).await?;
    let keys = keys_of(&store).await?;
    // Told before it happens: whoever has the file, finished or not, has it with an event.
    let mut tx = store.begin().await?;
    let details = vec![("keys", keys.join(" "))];
    tx.audit(context.entry(None, AuditAction::StoreBackup, details), now).await?;
    tx.commit(now).await?;
    let mut part = path.clone().into_os_string();
    part.push(format!(".part-{}", std::process::id()));
    let part = Path::new(&part);
    let written = write(&store, &sealing, part, now).await.and_then(|rows| {
        // A link, unlike a rename, takes nobody's place; where there are no links, nobody was there a moment ago.
        match std::fs::hard_link(part, path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(exists()),
            Err(_) => std::fs::rename(part, path).map_err(|error| cannot_use(path, &error))?,
            Ok(()) => {}
        }
        sync_folder(path).map_err(|error| cannot_use(path, &error))?;
        Ok(rows)
    });
    drop(std::fs::remove_file(part));
    let rows = written?;
    writeln!(output, "{rows} rows are in {}, without sessions and without the master key.", path.display())?;
    writeln!(output, "It is restored with master key {} alone: keep that apart.", keys.join(" and "))?;
    Ok(())
}

async fn keys_of(store: &Store) -> Result<Vec<String>, Failure> {
    let known = store::load_known_keys(&mut store.reader()).await?;
    Ok(known.into_iter().map(|key| key.id).collect())
}

async fn write(store: &Store, sealing: &Sealing, part: &Path, now: Timestamp) -> Result<u64, Failure> {
    let cannot = |error: io::Error| cannot_use(part, &error);
    // Left over from a process of the same number that was killed.
    drop(std::fs::remove_file(part));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(part).map_err(cannot)?;
    let mut to = BufWriter::with_capacity(BUFFER, file);
    let rows = store.write_backup(sealing, &mut to, now).await.map_err(|error| match error {
        BackupError::File(error) => cannot(error),
        error => error.into(),
    })?;
    to.flush().and_then(|()| to.get_ref().sync_all()).map_err(cannot)?;
    Ok(rows)
}

fn cannot_use(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        ErrorCode::BackupUnusable,
        format!("{} can't be read or written: {error}", path.display()),
        "Look at the path, who may use it, and the room on the disk.",
    )
}

/// `restore`.
pub async fn restore(context: &Context, restore: Restore, output: &mut dyn Write) -> Result<(), Failure> {
    let path = &restore.file;
    let file = File::open(path).map_err(|error| cannot_use(path, &error))?;
    let mut lines = BufReader::with_capacity(BUFFER, file);
    let header = store::read_backup_header(&mut lines)?;
    // The key first: with another one, nothing of this is worth reading. One is never made here.
    let sealing = Sealing::open(&context.configuration.master_key_file).map_err(|error| {
        let failure = Failure::from(error);
        let keys = header.keys.join(" and ");
        Failure { what: format!("{}; the backup needs key {keys}", failure.what), ..failure }
    })?;
    let rewind = |lines: &mut BufReader<File>| lines.rewind().map_err(|error| cannot_use(path, &error));
    rewind(&mut lines)?;
    store::verify_backup(&mut lines, &sealing)?;
    rewind(&mut lines)?;

    let store = open_and_migrate(&context.configuration).await?;
    let now = context.clock.now();
    let audit = |restored: &store::Restored| {
        let details = vec![
            ("rows", restored.rows.to_string()),
            ("generation", restored.generation.to_string()),
            ("backup_made_at", rfc3339(restored.made_at).unwrap_or_default()),
        ];
        context.entry(None, AuditAction::StoreRestore, details)
    };
    let restored = store.restore(&mut lines, &sealing, restore.replace, audit, &context.random, now).await?;
    // The backup's newest key seals until a newer one of the file is noted: now, not at the next start.
    store.open_audit(&sealing, &context.random, now).await?;
    store.note_newer_key(&sealing, now).await?;
    let made_at = rfc3339(restored.made_at).unwrap_or_default();
    writeln!(
        output,
        "{} rows of {made_at} are back; this is generation {}.",
        restored.rows, restored.generation
    )?;
    writeln!(
        output,
        "Void now: all sessions, sign-ins under way, invitations, join links, recovery codes.\n\
         Tell the organizations' admins: what was changed since {made_at} is gone. They should look at members, roles\n\
         and the connection (a client secret that was replaced since must be entered again), and make new recovery\n\
         codes. Accounts and organizations made since must be made again."
    )?;
    if let Err(failure) = check_paths(&context.configuration, &store).await {
        writeln!(output, "serve will not start: {}\nnext: {}", failure.what, failure.remedy)?;
    }
    let keys = keys_of(&store).await?;
    if let [old @ .., newest] = &*keys
        && !old.is_empty()
    {
        writeln!(
            output,
            "Key {newest} seals. {} is in use again for what the backup holds:\n\
             next: doorward key rotate, and a minute later doorward key rotate --drop-old",
            old.join(" and ")
        )?;
    }
    Ok(())
}
