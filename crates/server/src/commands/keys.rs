//! `key …`: the master key is rotated while the server runs (conformance.md F24; docs/adr/0022).
//!
//! The order keeps every moment good to be killed in: the file first (both keys open), then the store's word, by which
//! the new key seals, then the values in small batches; the old key goes only when asked, from the store first and then
//! the file. A file without the key that seals is refused before anything: it is a copy from before a rotation.

use super::Context;
use crate::command_line::KeyRotate;
use crate::configuration::Database;
use crate::failure::Failure;
use crate::key_file::{self, MasterKey};
use crate::opening::{key_is_missing, open_sealing, open_store};
use crate::sealing::{Sealing, key_id};
use crate::store::{self, KnownKey, Spoiled, Store};
use doorward_core::audit_event::AuditAction;
use doorward_core::error_code::ErrorCode;
use doorward_core::time::Lifetime;
use std::io::Write;
use std::path::Path;

/// How long an old key is kept at least: longer than any transaction that began before the new one was there.
const OLD_KEPT: Lifetime = Lifetime::from_minutes(1);

/// `key fingerprint`: what each key of the file does, by the store's word (docs/adr/0035). Makes no database.
pub async fn fingerprint(context: &Context, output: &mut dyn Write) -> Result<(), Failure> {
    let (path, database) = (&context.configuration.master_key_file, &context.configuration.database);
    let (keys, _) = key_file::read(path)?;
    let store = match database {
        Database::Sqlite(file) if !file.exists() => None,
        _ => match open_store(&context.configuration).await {
            Ok(store) => Some(store),
            Err(failure) => {
                for key in &keys {
                    writeln!(output, "{}\tunknown: the database could not be asked", key_id(&key.bytes))?;
                }
                return Err(failure);
            }
        },
    };
    let (mut known, mut every) = (Vec::new(), Vec::new());
    if let Some(store) = &store {
        known = store::load_known_keys(&mut store.reader()).await?;
        every = store::load_every_key_id(&mut store.reader()).await?;
    }
    let newest = known.last().map(|known| &known.id);
    for (n, key) in keys.iter().enumerate() {
        let id = key_id(&key.bytes);
        let use_of_it = if newest == Some(&id) {
            "seals and opens"
        } else if known.iter().any(|known| known.id == id) {
            "opens: an old key"
        } else if every.contains(&id) {
            "dropped: nothing is sealed with it"
        } else if key.prepared {
            "opens: prepared for the next rotation"
        } else if newest.is_none() && n == 0 {
            "seals from the first start on"
        } else {
            "opens: not in the database yet"
        };
        writeln!(output, "{id}\t{use_of_it}")?;
    }
    if let Some(store) = store {
        store::keys_fit(&mut store.reader(), &Sealing::open(path)?).await?;
    }
    Ok(())
}

/// `key rotate`.
pub async fn rotate_key(context: &Context, rotate: KeyRotate, output: &mut dyn Write) -> Result<(), Failure> {
    let path = &context.configuration.master_key_file;
    let store = context.store().await?;
    let known = store::load_known_keys(&mut store.reader()).await?;
    if let Some(known) = known.last().filter(|_| !path.exists()) {
        return Err(key_is_missing(path, &known.id));
    }
    let _lock = key_file::lock(path)?;
    // Fits, or nothing is touched. A new key that an interrupted rotation left in the file is noted here.
    let sealing = open_sealing(&context.configuration, &store, &context.random, context.clock.now()).await?;
    let known = store::load_known_keys(&mut store.reader()).await?;
    put_in_order(&store, &sealing, path).await?;
    if rotate.prepare {
        prepare(context, path, output)
    } else if rotate.drop_old {
        drop_old(context, &store, &sealing, &known, path, output).await
    } else {
        rotate_now(context, &store, &sealing, &known, path, output).await
    }
}

/// Puts the key that seals in front: this node's file may be from before another node rotated to a prepared key. A key
/// that the store knows is not prepared any more.
async fn put_in_order(store: &Store, sealing: &Sealing, path: &Path) -> Result<(), Failure> {
    let every = store::load_every_key_id(&mut store.reader()).await?;
    let (mut keys, _) = key_file::read(path)?;
    if sealing.first_key_id() == sealing.key_id()
        && !keys.iter().any(|key| key.prepared && every.contains(&key_id(&key.bytes)))
    {
        return Ok(());
    }
    for key in &mut keys {
        key.prepared &= !every.contains(&key_id(&key.bytes));
    }
    keys.sort_by_key(|key| key_id(&key.bytes) != sealing.key_id());
    Ok(key_file::replace(path, &keys)?)
}

fn prepare(context: &Context, path: &Path, output: &mut dyn Write) -> Result<(), Failure> {
    let (mut keys, _) = key_file::read(path)?;
    let id = if let Some(key) = keys.iter().find(|key| key.prepared) {
        key_id(&key.bytes)
    } else {
        let key = MasterKey { prepared: true, ..MasterKey::generate(&context.random)? };
        let id = key_id(&key.bytes);
        keys.push(key);
        key_file::replace(path, &keys)?;
        id
    };
    writeln!(output, "Key {id} is prepared in {}: it opens, and does not seal yet.", path.display())?;
    writeln!(output, "next: copy the file to every node, then run doorward key rotate on one of them.")?;
    Ok(())
}

async fn rotate_now(
    context: &Context,
    store: &Store,
    sealing: &Sealing,
    known: &[KnownKey],
    path: &Path,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    if known.len() > 1 {
        writeln!(
            output,
            "Key {} seals already; an old key is still kept. Looking after what it sealed.",
            sealing.key_id()
        )?;
    } else {
        let (mut keys, _) = key_file::read(path)?;
        let new = match keys.iter().position(|key| key.prepared) {
            Some(place) => MasterKey { prepared: false, ..keys.remove(place) },
            None => MasterKey::generate(&context.random)?,
        };
        keys.insert(0, new);
        let now = context.clock.now();
        let mut tx = store.begin().await?;
        // Two nodes that rotate at once: the second finds that its file is an older copy, and nothing is written to it.
        tx.hold_keys(sealing).await?;
        key_file::replace(path, &keys)?;
        if tx.insert_key(sealing, now).await? {
            let details = vec![("key", sealing.first_key_id())];
            tx.audit(context.entry(None, AuditAction::KeyRotate, details), now).await?;
        }
        tx.commit(now).await?;
        store.look_at_keys(sealing).await?;
        writeln!(output, "Key {} seals from now on.", sealing.key_id())?;
    }
    reseal(context, store, sealing, output).await?;
    writeln!(output, "next: copy {} apart from the database, and to every node;", path.display())?;
    writeln!(output, "      then, a minute later or whenever you like: doorward key rotate --drop-old")?;
    Ok(())
}

async fn reseal(
    context: &Context,
    store: &Store,
    sealing: &Sealing,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let report = store.reseal(sealing, context.clock.now()).await?;
    writeln!(output, "{} of {} sealed values were sealed anew.", report.resealed, report.seen)?;
    for Spoiled { place, row, sealed_with } in &report.spoiled {
        match sealed_with {
            None => writeln!(
                output,
                "A value of {place} ({row}) does not open: it was changed or moved, and is left as it is."
            )?,
            Some(key) => writeln!(
                output,
                "A value of {place} ({row}) is of an older database: master key {key} sealed it, which this one uses no \
                 more. It is left as it is: save it anew, or put the copy of that key into the file and rotate again."
            )?,
        }
    }
    Ok(())
}

async fn drop_old(
    context: &Context,
    store: &Store,
    sealing: &Sealing,
    known: &[KnownKey],
    path: &Path,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let newest = sealing.key_id();
    let (mut keys, _) = key_file::read(path)?;
    let is_old = |key: &MasterKey| !key.prepared && key_id(&key.bytes) != newest;
    if known.len() < 2 && !keys.iter().any(is_old) {
        writeln!(output, "There is no old key; {newest} is the only one.")?;
        return Ok(());
    }
    let now = context.clock.now();
    let rotated_at = known.iter().find(|known| known.id == newest).map(|known| known.since);
    if rotated_at.is_none_or(|at| now < at.plus(OLD_KEPT)) {
        return Err(ErrorCode::KeyRotatedJustNow.into());
    }
    reseal(context, store, sealing, output).await?;
    let mut tx = store.begin().await?;
    tx.hold_keys(sealing).await?;
    if tx.drop_old_keys(now).await? > 0 {
        let old: Vec<&str> = known.iter().map(|known| &*known.id).filter(|id| *id != newest).collect();
        let details = vec![("keys", old.join(" "))];
        tx.audit(context.entry(None, AuditAction::KeyDropOld, details), now).await?;
    }
    tx.commit(now).await?;
    keys.retain(|key| !is_old(key));
    key_file::replace(path, &keys)?;
    writeln!(output, "{newest} is the only key that seals and opens now.")?;
    writeln!(output, "Backups made before need the old key: keep its copy for as long as you keep them.")?;
    Ok(())
}
