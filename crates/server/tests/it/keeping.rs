//! What an operator may lose and keep: keys that are rotated, backups that are restored, files that are imported, with
//! the service running, killed in the middle, on both databases and from one to the other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use doorward::key_file;
use doorward::sealing::{Sealing, sealed_with};
use doorward::store::{Query as _, SEALED_COLUMNS, Store};
use doorward_core::secret::Secret;
use doorward_core::time::Lifetime;
use doorward_testkit::TempDir;
use serde_json::Value;

use crate::harness::{On, Options, World, command_on, fresh_store};

/// Whether a command ended with this code, and said so first.
fn is_refused(exit: u8, errors: &str, code: &str) -> bool {
    exit == 1 && errors.starts_with(&format!("error[{code}]: "))
}

async fn world_on(on: On) -> World {
    World::with(Options { on, ..Options::default() }).await
}

/// The ids of the keys in the key file of a world, the newest first.
fn key_ids(world: &World) -> Vec<String> {
    Sealing::open(&world.folder().join("master.key")).unwrap().key_ids()
}

/// Every sealed value, as (table, key id).
async fn sealed_by(store: &Store) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    for (table, sql) in [
        ("revision", "SELECT client_secret AS sealed FROM revision"),
        ("attempt", "SELECT sealed FROM attempt"),
    ] {
        for row in store.reader().fetch_all(sql, Vec::new()).await.unwrap() {
            found.push((table, sealed_with(&row.text("sealed").unwrap()).unwrap().to_owned()));
        }
    }
    found
}

// === The master key ===

#[tokio::test]
async fn rule_6_the_master_key_is_rotated_while_serving_and_nobody_notices() {
    for on in On::all() {
        let world = world_on(on).await;
        let (_ada, _client) = world.enable_sso("acme", "ada").await;
        let first = key_ids(&world);
        let mira = world.browser_of("mira").await;
        world.idp.signs_in("mira");
        let before = world.returning(&mira, "acme").await;

        let told = world.good_command("key rotate").await;
        let both = key_ids(&world);
        assert!(both.len() == 2 && both[1..] == first, "the old key still opens: {both:?}");
        assert!(told.contains(&both[0]) && !told.contains(&first[0]), "{told}");
        for (table, key) in sealed_by(&world.app.store).await {
            assert_eq!(key, both[0], "{table} is sealed anew");
        }
        // An attempt that began under the old key ends well; the next one is sealed with the new key.
        assert_eq!(mira.get(before.as_str()).await.status, 303, "{}", mira.history());
        let eve = world.browser_of("ada").await;
        world.returning(&eve, "acme").await;
        assert!(sealed_by(&world.app.store).await.contains(&("attempt", both[0].clone())));

        let (code, _, errors) = world.operate("key rotate --drop-old").await;
        assert!(is_refused(code, &errors, "key.rotated_just_now"), "{errors}");
        assert!(
            world.good_command("key rotate").await.contains("seals already"),
            "no third key while two are kept"
        );
        assert_eq!(key_ids(&world), both);
        world.pass(Lifetime::from_minutes(2));
        world.good_command("key rotate --drop-old").await;
        assert_eq!(key_ids(&world), both[..1]);
        world.idp.signs_in("ada");
        let back = world.returning(&world.browser_of("ada").await, "acme").await;
        assert!(back.path().ends_with("/oidc/consume"));
        assert!(world.good_command("key rotate --drop-old").await.contains("no old key"));
        world.good_command("audit verify --all").await;
        let shown = world.good_command("key fingerprint").await;
        assert_eq!(shown, format!("{}\tseals and opens\n", both[0]));
        for action in ["key.rotate", "key.drop_old"] {
            let sql = match action {
                "key.rotate" => {
                    "SELECT COUNT(*) AS n FROM audit_event WHERE scope = 'system' AND action = 'key.rotate'"
                }
                _ => {
                    "SELECT COUNT(*) AS n FROM audit_event WHERE scope = 'system' AND action = 'key.drop_old'"
                }
            };
            assert_eq!(world.count(sql).await, 1, "{action}");
        }
    }
}

#[tokio::test]
async fn several_nodes_get_the_new_key_before_it_seals() {
    let world = world_on(On::Sqlite).await;
    world.enable_sso("acme", "ada").await;
    let first = key_ids(&world);
    assert!(world.good_command("key rotate --prepare").await.contains("prepared"));
    world.good_command("key rotate --prepare").await;
    let prepared = key_ids(&world);
    assert!(prepared.len() == 2 && prepared[0] == first[0], "once, and behind the one that seals");
    let other = world.folder().join("other-node.key");
    std::fs::copy(world.folder().join("master.key"), &other).unwrap();
    world.good_command("key rotate").await;
    assert_eq!(key_ids(&world), [prepared[1].clone(), first[0].clone()]);
    let node = Sealing::open(&other).unwrap();
    assert_eq!(node.key_id(), first[0], "the other node seals as before");
    doorward::store::keys_fit(&mut world.app.store.reader(), &node).await.expect("and opens everything");
}

#[tokio::test]
async fn f24_key_fingerprint_says_what_each_key_does_by_the_stores_word() {
    for on in On::all() {
        let world = world_on(on).await;
        let here = world.folder().join("master.key");
        let [without, prepared] = ["without.key", "prepared.key"].map(|name| world.folder().join(name));
        std::fs::copy(&here, &without).unwrap();
        world.good_command("key rotate --prepare").await;
        std::fs::copy(&here, &prepared).unwrap();
        let [old, new] = &key_ids(&world)[..] else { panic!("two keys") };
        let at =
            async |key: &Path| command_on(world.database(), key, &world.app.clock, "key fingerprint").await;
        let told = |lines: [(&String, &str); 2]| lines.map(|(id, what)| format!("{id}\t{what}\n")).concat();
        let both = told([(old, "seals and opens"), (new, "opens: prepared for the next rotation")]);
        assert_eq!(at(&here).await, (0, both, String::new()), "{on:?}");

        world.good_command("key rotate").await;
        let ours = told([(new, "seals and opens"), (old, "opens: an old key")]);
        assert_eq!(at(&here).await, (0, ours, String::new()), "{on:?}");
        // A node that has not been put in order since: the old key is in front there.
        let theirs = told([(old, "opens: an old key"), (new, "seals and opens")]);
        assert_eq!(at(&prepared).await, (0, theirs, String::new()), "{on:?}");
        let (code, output, errors) = at(&without).await;
        assert_eq!((code, output), (1, format!("{old}\topens: an old key\n")), "{on:?}");
        assert!(
            errors.starts_with("error[key.unusable]: ") && errors.contains("is an older copy"),
            "{errors}"
        );

        world.pass(Lifetime::from_minutes(2));
        world.good_command("key rotate --drop-old").await;
        let theirs = told([(old, "dropped: nothing is sealed with it"), (new, "seals and opens")]);
        assert_eq!(at(&prepared).await, (0, theirs, String::new()), "{on:?}");
        // Before the first start there is no word: the file's first key will be taken, and no database is made.
        let none = world.folder().join("none.db");
        let database = format!("sqlite:{}", none.display());
        let (code, output, _) = command_on(&database, &without, &world.app.clock, "key fingerprint").await;
        assert_eq!((code, output), (0, format!("{old}\tseals from the first start on\n")), "{on:?}");
        assert!(!none.exists());
    }
}

#[tokio::test]
async fn f24_an_older_copy_of_the_key_file_on_another_node_reverses_no_rotation() {
    for on in On::all() {
        let world = world_on(on).await;
        world.enable_sso("acme", "ada").await;
        world.good_command("sso show acme").await;
        let here = world.folder().join("master.key");
        let [without, prepared, node] =
            ["without.key", "prepared.key", "node.key"].map(|name| world.folder().join(name));
        std::fs::copy(&here, &without).unwrap();
        world.good_command("key rotate --prepare").await;
        std::fs::copy(&here, &prepared).unwrap();
        world.good_command("key rotate").await;
        let newest = key_ids(&world)[0].clone();
        let is_as_rotated = async |case: &str| {
            for (table, key) in sealed_by(&world.app.store).await {
                assert_eq!(key, newest, "{on:?}, {case}: {table}");
            }
            let known = doorward::store::load_known_keys(&mut world.app.store.reader()).await.unwrap();
            assert_eq!(known.last().unwrap().id, newest, "{on:?}, {case}");
        };
        let at_other = async |key: &Path, line: &str| {
            let told = command_on(world.database(), key, &world.app.clock, line).await;
            is_as_rotated(&format!("{} {line}", key.display())).await;
            told
        };
        let commands = ["key rotate", "key rotate --prepare", "key rotate --drop-old", "org list", "serve"];
        for dropped in [false, true] {
            if dropped {
                world.pass(Lifetime::from_minutes(2));
                world.good_command("key rotate --drop-old").await;
            }
            // Without the key that seals now: nothing is done, and one line says what to copy.
            for line in commands {
                let (code, output, errors) = at_other(&without, line).await;
                assert_eq!(code, 1, "{on:?}, {dropped}, {line}: {output}");
                let lines: Vec<&str> = errors.lines().collect();
                assert!(
                    lines.len() == 2
                        && lines[0].starts_with("error[key.unusable]: ")
                        && lines[0].contains("is an older copy")
                        && lines[0].contains(&newest)
                        && lines[1].starts_with("next: Copy the master key file"),
                    "{on:?}, {dropped}, {line}: {errors}"
                );
            }
            // With it, though not in front: the key that the store knows as the newest seals here too.
            let again = if dropped { "key rotate --drop-old" } else { "key rotate" };
            for line in ["org list", "key rotate --prepare", "sso join-link acme --rotate --role read", again]
            {
                std::fs::copy(&prepared, &node).unwrap();
                let (code, output, errors) = at_other(&node, line).await;
                assert_eq!((code, &*errors), (0, ""), "{on:?}, {dropped}, {line}: {output}");
            }
        }
        assert_eq!(Sealing::open(&node).unwrap().key_ids(), [newest]);
        world.good_command("audit verify --all").await;
    }
}

#[tokio::test]
async fn f24_a_service_with_an_older_copy_of_the_key_file_opens_and_seals_nothing_until_it_is_copied() {
    use doorward::sealing::{Place, SealingError};
    for on in On::all() {
        let world = world_on(on).await;
        world.enable_sso("acme", "ada").await;
        world.good_command("sso show acme").await;
        let (here, other) = (world.folder().join("master.key"), world.folder().join("other.key"));
        std::fs::copy(&here, &other).unwrap();
        let (node, now) = (Sealing::open(&other).unwrap(), world.app.clock.now());
        let store = world.other_node().await;
        store.check_key(&node, now).await.unwrap();
        let place = Place { table: "join_link", column: "sealed", row: "nobody" };
        let sealed = node.seal(place, &Secret::new("before".to_owned())).unwrap();
        world.good_command("key rotate").await;

        // A rotation of its own that began a moment before finds it out in its transaction.
        let mut tx = store.begin().await.unwrap();
        let held = tx.hold_keys(&node).await.unwrap_err().to_string();
        assert!(held.contains("is an older copy"), "{on:?}: {held}");
        drop(tx);
        let noticed = store.look_at_keys(&node).await.unwrap_err().to_string();
        assert!(noticed.contains("is an older copy"), "{on:?}: {noticed}");
        store.look_at_keys(&node).await.expect("told once, not every five seconds");
        let refused = node.seal(place, &Secret::new("after".to_owned()));
        assert!(matches!(refused, Err(SealingError::OlderCopy { .. })), "{on:?}: {refused:?}");
        assert_eq!(node.open_sealed(place, &sealed).unwrap().expose(), "before");
        std::fs::copy(&here, &other).unwrap();
        let sealed = node.seal(place, &Secret::new("after".to_owned())).unwrap();
        assert_eq!(sealed_with(&sealed), Some(&*key_ids(&world)[0]), "{on:?}: without a restart");
    }
}

#[tokio::test]
async fn f24_a_node_with_an_older_copy_of_the_key_file_is_not_ready_and_says_try_again() {
    for on in On::all() {
        let world = world_on(on).await;
        world.enable_sso("acme", "ada").await;
        let (here, older, newer) = (
            world.folder().join("master.key"),
            world.folder().join("older.key"),
            world.folder().join("newer.key"),
        );
        std::fs::copy(&here, &older).unwrap();
        world.good_command("key rotate").await;
        std::fs::copy(&here, &newer).unwrap();
        let (mira, readyz) = (world.browser_of("mira").await, format!("{}/readyz", world.base));
        let sso = format!("{}/organizations/acme/sso", world.base);
        for (file, ready) in [(&newer, true), (&older, false), (&newer, true)] {
            std::fs::copy(file, &here).unwrap();
            // As every node does every five seconds; the first time it hears of a missing key, it says so.
            drop(world.app.store.look_at_keys(&world.app.sealing).await);
            let probe = mira.get(&readyz).await;
            let started = mira.post(&sso, &[("next", "/")]).await;
            if ready {
                assert_eq!(probe.status, 200, "{on:?}: {}", probe.text());
                assert!(started.meta_refresh().is_some(), "{on:?}: {}", started.text());
            } else {
                assert_eq!(probe.status, 503, "{on:?}");
                assert!(probe.says("master key file is an older copy"), "{on:?}: {}", probe.text());
                assert_eq!(started.code().as_deref(), Some("service.unavailable"), "{on:?}");
                assert!(started.header("retry-after").is_some(), "{on:?}");
            }
        }
    }
}

#[tokio::test]
async fn f24_of_two_first_starts_at_once_with_keys_of_their_own_one_is_refused() {
    for on in On::all() {
        for _ in 0..10 {
            let folder = TempDir::new();
            let (store, _) = crate::harness::fresh_database(on, &folder).await;
            let now = doorward::clock::Clock::system().now();
            let [one, other] = [1, 2].map(|n| Sealing::new(&[n; 32]).unwrap());
            let second = store.clone();
            let told = tokio::join!(store.check_key(&one, now), second.check_key(&other, now));
            let told = [told.0, told.1];
            assert_eq!(told.iter().filter(|told| told.is_ok()).count(), 1, "{on:?}: {told:?}");
            let known = doorward::store::load_known_keys(&mut store.reader()).await.unwrap();
            assert_eq!(known.len(), 1, "{on:?}: {known:?}");
        }
    }
}

#[tokio::test]
async fn f24_a_row_under_a_key_that_is_gone_is_named_and_keeps_no_rotation_from_its_end() {
    for on in On::all() {
        let world = world_on(on).await;
        world.enable_sso("acme", "ada").await;
        world.good_command("sso join-link acme --rotate --role read").await;
        let gone = key_ids(&world)[0].clone();
        let sql = "SELECT connection_id, client_secret FROM revision";
        let before = world.app.store.reader().fetch_optional(sql, Vec::new()).await.unwrap().unwrap();
        let (connection, secret) =
            (before.text("connection_id").unwrap(), before.text("client_secret").unwrap());
        world.good_command("key rotate").await;
        world.pass(Lifetime::from_minutes(2));
        world.good_command("key rotate --drop-old").await;

        // Somebody mends the table with a row of an old dump.
        let mut tx = world.app.store.begin().await.unwrap();
        let sql = "UPDATE revision SET client_secret = $1 RETURNING number";
        tx.fetch_optional(sql, doorward::values![&secret]).await.unwrap().unwrap();
        tx.commit(world.app.clock.now()).await.unwrap();
        for line in ["key rotate", "key rotate", "key rotate --drop-old"] {
            let told = world.good_command(line).await;
            assert!(
                told.contains(&format!("revision.client_secret ({connection}.1)")) && told.contains(&gone),
                "{on:?}, {line}: {told}"
            );
            let sql = "SELECT sealed FROM join_link";
            let link = world.app.store.reader().fetch_optional(sql, Vec::new()).await.unwrap().unwrap();
            let newest = key_ids(&world)[0].clone();
            assert_eq!(sealed_with(&link.text("sealed").unwrap()), Some(&*newest), "{on:?}, {line}");
            world.pass(Lifetime::from_minutes(2));
        }
        assert_eq!(key_ids(&world).len(), 1, "{on:?}");
    }
}

#[tokio::test]
async fn rule_6_what_a_straggler_sealed_with_the_old_key_is_sealed_anew_before_that_key_goes() {
    for on in On::all() {
        let world = world_on(on).await;
        world.enable_sso("acme", "ada").await;
        world.good_command("sso show acme").await;
        let straggler = world.folder().join("straggler.key");
        std::fs::copy(world.folder().join("master.key"), &straggler).unwrap();
        let old = Sealing::open(&straggler).unwrap();
        world.good_command("key rotate").await;
        let (now, organization) = (world.app.clock.now(), world.organization("acme").await);
        let mut reader = world.app.store.reader();
        let (connection, live) =
            doorward::store::load_live(&mut reader, organization.id).await.unwrap().unwrap();
        let new = doorward::store::NewRevision {
            issuer_url: live.issuer_url.clone(),
            client_id: live.client_id.clone(),
            client_secret: Secret::new("a straggler's".to_owned()),
            client_auth_method: None,
            scopes: String::new(),
            userinfo: live.userinfo,
            email_claim: String::new(),
            hosted_domains: Vec::new(),
            created_by: None,
            endpoints: None,
        };
        let mut tx = world.app.store.begin().await.unwrap();
        let (_, number) = tx.insert_revision(&organization, connection.id, &new, &old, now).await.unwrap();
        tx.commit(now).await.unwrap();
        world.pass(Lifetime::from_minutes(2));
        world.good_command("key rotate --drop-old").await;
        let newest = Sealing::open(&world.folder().join("master.key")).unwrap();
        assert!(sealed_by(&world.app.store).await.iter().all(|(_, key)| *key == newest.key_id()), "{on:?}");
        let revision =
            doorward::store::load_revision(&mut reader, organization.id, number).await.unwrap().unwrap();
        assert_eq!(revision.open_secret(connection.id, &newest).unwrap().expose(), "a straggler's");
    }
}

#[tokio::test]
async fn a_backup_is_told_before_it_is_written_and_holds_its_own_event() {
    let world = furnished(On::Sqlite).await;
    let nowhere = world.folder().join("nowhere").join("kept.backup");
    let (code, _, errors) = world.operate(&format!("backup {}", nowhere.display())).await;
    assert!(is_refused(code, &errors, "backup.unusable"), "{errors}");
    let told = world.app.store.reader().audit_of_scope_after("system", 0, 1000).await.unwrap();
    assert_eq!(told.iter().filter(|event| event.action == "store.backup").count(), 1);
    let path = world.folder().join("kept.backup");
    world.good_command(&format!("backup {}", path.display())).await;
    assert_eq!(std::fs::read_to_string(&path).unwrap().matches("store.backup").count(), 2);
}

#[tokio::test]
async fn a_backup_says_which_keys_it_needs_and_is_not_restored_without_one_of_them() {
    let world = furnished(On::Sqlite).await;
    world.good_command("key rotate").await;
    let path = world.folder().join("kept.backup");
    let told = world.good_command(&format!("backup {}", path.display())).await;
    let ids = key_ids(&world);
    assert!(ids.len() == 2 && ids.iter().all(|id| told.contains(id)), "{told}");
    let first_line: Value =
        serde_json::from_str(std::fs::read_to_string(&path).unwrap().lines().next().unwrap()).unwrap();
    assert_eq!(first_line["keys"], serde_json::json!([ids[1], ids[0]]));
    let key = world.folder().join("master.key");
    let (keys, _) = key_file::read(&key).unwrap();
    let before = world.everything_stored().await;
    key_file::replace(&key, &keys[..1]).unwrap();
    let (code, _, errors) = world.operate(&format!("restore {} --replace", path.display())).await;
    assert!(is_refused(code, &errors, "key.unusable") && errors.contains(&ids[1]), "{errors}");
    assert_eq!(world.everything_stored().await, before);
}

#[tokio::test]
async fn a_backup_from_before_a_rotation_is_restored_and_sealed_with_a_key_that_it_knows() {
    for on in On::all() {
        let world = furnished(on).await;
        let path = backup_of(&world).await;
        world.good_command("key rotate").await;
        world.good_command(&format!("restore {} --replace", path.display())).await;
        let mut reader = world.app.store.reader();
        let known = doorward::store::load_known_keys(&mut reader).await.unwrap();
        for sql in ["SELECT sealed FROM audit_key", "SELECT client_secret AS sealed FROM revision"] {
            for row in reader.fetch_all(sql, Vec::new()).await.unwrap() {
                let sealed = row.text("sealed").unwrap();
                let key = sealed_with(&sealed).unwrap();
                assert!(known.iter().any(|known| known.id == key), "{on:?}: {key} {known:?}");
            }
        }
        // The file's newer key seals again at once, also in a service that runs; what the old one sealed still opens.
        let rotated = key_ids(&world)[0].clone();
        assert_eq!(known.last().map(|known| &*known.id), Some(&*rotated), "{on:?}: {known:?}");
        // What it says of a file that it has not read again yet is another test's.
        drop(world.app.store.look_at_keys(&world.app.sealing).await);
        assert_eq!(world.app.sealing.key_id(), rotated, "{on:?}");
        assert!(
            world.good_command("key rotate").await.contains("seals already"),
            "as an interrupted one goes on"
        );
        world.good_command("audit verify --all").await;
    }
}

#[tokio::test]
async fn a_ninth_key_is_not_written_and_nothing_is_rotated() {
    let world = world_on(On::Sqlite).await;
    world.enable_sso("acme", "ada").await;
    world.good_command("sso show acme").await;
    let path = world.folder().join("master.key");
    let (mut keys, _) = key_file::read(&path).unwrap();
    while keys.len() < 8 {
        keys.push(key_file::MasterKey::generate(&world.app.random).unwrap());
    }
    key_file::replace(&path, &keys).unwrap();
    let before = (std::fs::read(&path).unwrap(), world.everything_stored().await);
    for line in ["key rotate", "key rotate --prepare"] {
        let (code, _, errors) = world.operate(line).await;
        assert!(is_refused(code, &errors, "key.unusable"), "{line}: {errors}");
        assert!(errors.contains("eight") && errors.contains("--drop-old"), "{line}: {errors}");
        assert!(std::fs::read(&path).unwrap() == before.0, "{line}");
        assert_eq!(world.everything_stored().await, before.1, "{line}");
    }
    world.pass(Lifetime::from_minutes(2));
    world.good_command("key rotate --drop-old").await;
    world.good_command("key rotate").await;
}

#[tokio::test]
async fn rule_6_the_list_of_sealed_columns_is_what_a_whole_run_seals() {
    let world = world_on(On::Sqlite).await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    world.visit(&mira, &format!("{}/acme/secret/", world.hub)).await;
    world.good_command("sso join-link acme --rotate --role read").await;
    world.returning(&world.browser_of("ada").await, "acme").await;
    // The harness's service never asked whether its key fits; a command does.
    world.good_command("key rotate").await;

    // The codes of the audit log's chain look alike, under keys of their own.
    let keys = key_ids(&world);
    let is_sealed =
        |value: &String| sealed_with(value).is_some_and(|key| keys.iter().any(|known| known == key));
    let mut found = BTreeSet::new();
    for (table, columns) in text_columns(&world.folder().join("doorward.db")).await {
        for (column, values) in columns {
            if values.iter().any(is_sealed) {
                found.insert(format!("{table}.{column}"));
            }
        }
    }
    assert!(found.remove("key_check.sealed"), "a row of its own for each key: {found:?}");
    let listed: BTreeSet<String> =
        SEALED_COLUMNS.iter().map(|listed| format!("{}.{}", listed.table, listed.column)).collect();
    assert_eq!(found, listed, "store/sealed_columns.rs lists every sealed column, or a rotation forgets it");
}

/// Every text column of an SQLite file with its values.
async fn text_columns(path: &Path) -> Vec<(String, Vec<(String, Vec<String>)>)> {
    use sqlx::{ConnectOptions as _, Row as _};
    let sql = |text: String| sqlx::AssertSqlSafe(text);
    let mut connection =
        sqlx::sqlite::SqliteConnectOptions::new().filename(path).read_only(true).connect().await.unwrap();
    let tables = sqlx::query("SELECT name FROM sqlite_master WHERE type = 'table'");
    let mut found = Vec::new();
    for table in tables.fetch_all(&mut connection).await.unwrap() {
        let table: String = table.get("name");
        let columns = format!("SELECT name FROM pragma_table_info('{table}') WHERE type = 'TEXT'");
        let mut with_values = Vec::new();
        for column in sqlx::query(sql(columns)).fetch_all(&mut connection).await.unwrap() {
            let column: String = column.get("name");
            let values = format!("SELECT {column} AS v FROM {table} WHERE {column} IS NOT NULL");
            let values = sqlx::query(sql(values)).fetch_all(&mut connection).await.unwrap();
            with_values.push((column, values.iter().map(|row| row.get("v")).collect()));
        }
        found.push((table, with_values));
    }
    found
}

#[tokio::test]
async fn f24_a_rotation_that_was_interrupted_goes_on() {
    let world = world_on(On::Sqlite).await;
    world.enable_sso("acme", "ada").await;
    world.good_command("sso show acme").await;
    world.good_command("key rotate").await;
    world.pass(Lifetime::from_minutes(2));
    world.good_command("key rotate --drop-old").await;
    let path = world.folder().join("master.key");
    let old = key_ids(&world);

    // Killed after the file was written: the store has not heard of the new key.
    let (mut keys, _) = key_file::read(&path).unwrap();
    keys.insert(0, key_file::MasterKey::generate(&world.app.random).unwrap());
    key_file::replace(&path, &keys).unwrap();
    let both = key_ids(&world);
    // The service seals with it already, and opens both.
    world.returning(&world.browser_of("mira").await, "acme").await;
    assert!(
        world.good_command("key rotate").await.contains("seals already"),
        "the key in the file is the new one"
    );
    assert_eq!(key_ids(&world), both);
    assert!(sealed_by(&world.app.store).await.iter().all(|(_, key)| *key == both[0]));

    // Killed between the store's word and the file: the old key is still in the file, and is not taken for a new one.
    world.pass(Lifetime::from_minutes(2));
    world.good_command("key rotate --drop-old").await;
    key_file::replace(&path, &keys).unwrap();
    assert_eq!(key_ids(&world), [both[0].clone(), old[0].clone()]);
    world.good_command("key rotate --drop-old").await;
    assert_eq!(key_ids(&world), both[..1]);
}

#[tokio::test]
async fn f24_a_key_that_is_missing_wrong_open_or_damaged_is_one_line_with_the_remedy() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = world_on(On::Sqlite).await;
    world.enable_sso("acme", "ada").await;
    world.good_command("key rotate").await;
    let path = world.folder().join("master.key");
    let good = std::fs::read_to_string(&path).unwrap();
    let set = |text: &str, mode: u32| {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let only_new: String = good.lines().take(3).fold(String::new(), |text, line| text + line + "\n");
    let foreign = format!("{}\n", "A".repeat(43));
    let cases: Vec<(&str, Box<dyn Fn() + '_>, &str, &str)> = vec![
        ("missing", Box::new(|| std::fs::remove_file(&path).unwrap()), "is missing", "Restore"),
        ("open", Box::new(|| set(&good, 0o644)), "can be read by others", "chmod 600"),
        ("damaged", Box::new(|| set("hello", 0o600)), "is damaged", "Restore"),
        ("foreign", Box::new(|| set(&foreign, 0o600)), "was sealed with master key", "Restore"),
        ("without the old key", Box::new(|| set(&only_new, 0o600)), "was sealed with master key", "Restore"),
    ];
    for (case, spoil, what, remedy) in cases {
        spoil();
        for line in
            ["key rotate", "key rotate --prepare", "key rotate --drop-old", "sso enable acme", "serve"]
        {
            let (code, output, errors) = world.operate(line).await;
            assert_eq!(code, 1, "{case}, {line}: {output}{errors}");
            let lines: Vec<&str> = errors.lines().collect();
            assert!(
                lines.len() == 2 && lines[0].starts_with("error[key.unusable]: ") && lines[0].contains(what),
                "{case}, {line}: {errors}"
            );
            assert!(lines[1].starts_with("next: ") && lines[1].contains(remedy), "{case}, {line}: {errors}");
        }
        let (code, output, _) = world.operate("check").await;
        assert!(code == 1 && output.contains(what), "{case}: {output}");
        set(&good, 0o600);
    }
    world.good_command("key rotate").await;
}

#[tokio::test]
async fn f24_a_rotation_killed_at_any_moment_loses_no_secret() {
    let world = world_on(On::Sqlite).await;
    world.enable_sso("acme", "ada").await;
    let organization = world.organization("acme").await;
    let connection = doorward::store::load_connection(&mut world.app.store.reader(), organization.id)
        .await
        .unwrap()
        .unwrap();
    // More revisions than one batch holds.
    let revision =
        doorward::store::load_live(&mut world.app.store.reader(), organization.id).await.unwrap().unwrap().1;
    let now = world.app.clock.now();
    let mut tx = world.app.store.begin().await.unwrap();
    for n in 0..450 {
        let new = doorward::store::NewRevision {
            issuer_url: revision.issuer_url.clone(),
            client_id: revision.client_id.clone(),
            client_secret: Secret::new(format!("secret number {n}")),
            client_auth_method: None,
            scopes: String::new(),
            userinfo: revision.userinfo,
            email_claim: String::new(),
            hosted_domains: Vec::new(),
            created_by: None,
            endpoints: None,
        };
        tx.insert_revision(&organization, connection.id, &new, &world.app.sealing, now).await.unwrap();
    }
    tx.commit(now).await.unwrap();
    let mut killed = 0;
    for round in 0..12 {
        let mut child = binary(&world, &["key", "rotate"]);
        tokio::time::sleep(Duration::from_millis(4 * round)).await;
        killed += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(killed > 0, "at least one was killed on its way");
    world.good_command("key rotate").await;
    let sealing = Sealing::open(&world.folder().join("master.key")).unwrap();
    for (_, key) in sealed_by(&world.app.store).await {
        assert_eq!(key, sealing.key_id());
    }
    for number in [1, 2, 200, 451] {
        let number = doorward_core::ids::RevisionNumber(number);
        let mut reader = world.app.store.reader();
        let revision = doorward::store::load_revision(&mut reader, organization.id, number).await;
        revision.unwrap().unwrap().open_secret(connection.id, &sealing).unwrap();
    }
}

/// The shipped binary on a world's database, to be killed.
fn binary(world: &World, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_doorward"))
        .args(arguments)
        .env_clear()
        .env("DOORWARD_DATABASE", world.database())
        .env("DOORWARD_MASTER_KEY_FILE", world.folder().join("master.key"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir(world.folder().path())
        .spawn()
        .unwrap()
}

// === Backups ===

const CLIENT_SECRET: &str = "planted-client-secret-Xk8Q~4711";

/// A world with one organization connected and live under a planted secret, somebody signed in, and an attempt open.
async fn furnished(on: On) -> World {
    let world = world_on(on).await;
    let redirect_uri = format!("{}/organizations/acme/oidc/consume", world.base);
    let client = doorward_testkit::Client::new("planted-client-id", CLIENT_SECRET, &redirect_uri);
    world.idp.add_client(client.clone());
    world.idp.signs_in("ada");
    let ada = world.browser_of("ada").await;
    let issuer = world.idp.issuer();
    let fields = [("client_id", &*client.id), ("client_secret", CLIENT_SECRET), ("issuer_url", &*issuer)];
    let page = world.update_and_test(&ada, "acme", &fields).await;
    ada.follow_all(page).await;
    let revision = world.draft("acme").await;
    ada.post(&world.settings("acme", "/enable"), &[("revision", &revision)]).await;
    assert_eq!(world.state("acme").await, "live");
    world
}

/// Writes a backup of a world: its path.
async fn backup_of(world: &World) -> PathBuf {
    let path = world.folder().join("kept.backup");
    drop(std::fs::remove_file(&path));
    world.good_command(&format!("backup {}", path.display())).await;
    path
}

/// The rows of a backup, sorted, without what each writing changes: header, end, the log of the system, and what each
/// restore adds to the logs of organizations.
fn rows_of(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut table = String::new();
    let mut rows = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("{\"table\":\"") {
            rest.split('"').next().unwrap().clone_into(&mut table);
        } else if line.starts_with('[')
            && !line.starts_with("[\"system\"")
            && !line.contains("\"store.restore\"")
            && table != "audit_sequence"
        {
            rows.push(format!("{table} {line}"));
        }
    }
    rows.sort();
    rows
}

/// Changes a backup's text and gives it the checksum that a holder of the key would.
fn forge(path: &Path, key: &Path, change: impl FnOnce(String) -> String) {
    use base64::Engine as _;
    let text = change(std::fs::read_to_string(path).unwrap());
    let end = text.trim_end().rfind('\n').unwrap() + 1;
    let (_, mut checksum) = Sealing::open(key).unwrap().begin_checksum().unwrap();
    checksum.update(&text.as_bytes()[..end]);
    let checksum = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(checksum.sign());
    let rows = text.lines().filter(|line| line.starts_with('[')).count();
    let whole = format!("{}{{\"rows\":{rows},\"checksum\":\"{checksum}\"}}\n", &text[..end]);
    std::fs::write(path, whole).unwrap();
}

#[tokio::test]
async fn every_table_of_the_schema_is_either_kept_in_a_backup_or_left_out_on_purpose() {
    let folder = TempDir::new();
    let (_store, _) = fresh_store(On::Sqlite, &folder).await;
    let tables = text_columns(&folder.join("doorward.db")).await;
    let mut tables: Vec<&str> = tables.iter().map(|(name, _)| &**name).collect();
    tables.retain(|name| *name != "_sqlx_migrations");
    tables.sort_unstable();
    let (kept, left_out) = doorward::store::backed_up_and_left_out();
    let mut listed = [kept, left_out].concat();
    listed.sort_unstable();
    assert_eq!(listed, tables, "store/backups.rs: a new table belongs into KEPT or LEFT_OUT");
}

#[tokio::test]
async fn a_backup_goes_from_either_database_into_either_and_back_again() {
    for from in On::all() {
        let world = furnished(from).await;
        let path = backup_of(&world).await;
        let rows = rows_of(&path);
        assert!(rows.len() > 25, "{rows:#?}");
        for to in On::all() {
            let folder = TempDir::new();
            let (store, database) = fresh_store(to, &folder).await;
            let run = async |line: &str| {
                let key = world.folder().join("master.key");
                let (code, output, errors) = command_on(&database, &key, &world.app.clock, line).await;
                assert_eq!((code, &*errors), (0, ""), "{from:?} to {to:?}: {line}");
                output
            };
            let told = run(&format!("restore {}", path.display())).await;
            assert!(told.contains("generation 2") && told.contains("recovery codes"), "{told}");
            let again = folder.join("again.backup");
            run(&format!("backup {}", again.display())).await;
            assert_eq!(rows_of(&again), rows, "{from:?} to {to:?}");
            let organization =
                doorward::store::load_organization(&mut store.reader(), "acme").await.unwrap().unwrap();
            let live = doorward::store::load_live(&mut store.reader(), organization.id).await.unwrap();
            let (connection, revision) = live.unwrap();
            let secret = revision.open_secret(connection.id, &world.app.sealing).unwrap();
            assert_eq!(secret.expose(), CLIENT_SECRET, "{from:?} to {to:?}");
            run("audit verify --all").await;
            let twice = run(&format!("restore {} --replace", again.display())).await;
            assert!(twice.contains("generation 3"), "{twice}");
        }
    }
}

#[tokio::test]
async fn t11_a_backup_holds_no_secret_and_opens_nothing() {
    use std::os::unix::fs::PermissionsExt as _;
    for on in On::all() {
        let world = furnished(on).await;
        let key = std::fs::read_to_string(world.folder().join("master.key")).unwrap();
        let key = key.lines().find(|line| !line.starts_with('#')).unwrap();
        let path = backup_of(&world).await;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).unwrap();
        let mut planted = vec![key.to_owned(), CLIENT_SECRET.to_owned()];
        for sql in
            ["SELECT token_hash AS hash FROM browser_session", "SELECT state_hash AS hash FROM spent_attempt"]
        {
            let rows = world.app.store.reader().fetch_all(sql, Vec::new()).await.unwrap();
            assert!(!rows.is_empty());
            planted.extend(rows.iter().map(|row| row.text("hash").unwrap()));
        }
        for secret in planted {
            assert!(!text.contains(&secret), "{on:?}: {secret}");
        }
        assert!(text.contains("planted-client-id"), "or the search finds nothing at all");
        let (code, _, errors) = world.operate(&format!("backup {}", path.display())).await;
        assert!(is_refused(code, &errors, "backup.file_exists"), "{errors}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "not written over");
        let left: Vec<_> = std::fs::read_dir(world.folder().path()).unwrap().collect();
        assert!(
            left.iter()
                .all(|entry| { !entry.as_ref().unwrap().file_name().to_string_lossy().contains(".part-") })
        );
    }
}

#[tokio::test]
async fn t11_a_sealed_row_that_was_moved_in_a_backup_does_not_open() {
    let world = furnished(On::Sqlite).await;
    world.connect_and_test(&world.browser_of("ben").await, "globex", "ben").await;
    let path = backup_of(&world).await;
    let key = world.folder().join("master.key");
    // By somebody who holds the key, or the checksum would have told.
    forge(&path, &key, |text| {
        let sealed: Vec<String> = text
            .lines()
            .filter(|line| line.starts_with('[') && line.contains("\"when_needed\""))
            .filter_map(|line| line.split('"').find(|part| part.starts_with("v1.")).map(str::to_owned))
            .collect();
        assert_eq!(sealed.len(), 2, "a secret of each organization");
        text.replace(&sealed[0], "SWAP").replace(&sealed[1], &sealed[0]).replace("SWAP", &sealed[1])
    });
    world.good_command(&format!("restore {} --replace", path.display())).await;
    let mut reader = world.app.store.reader();
    let organization = world.organization("acme").await.id;
    let (connection, revision) =
        doorward::store::load_live(&mut reader, organization).await.unwrap().unwrap();
    assert!(revision.open_secret(connection.id, &world.app.sealing).is_err());
}

#[tokio::test]
async fn f30_after_a_restore_beside_the_running_service_everything_of_before_is_void_at_once() {
    for on in On::all() {
        let world = furnished(on).await;
        let path = backup_of(&world).await;
        let mira = world.browser_of("mira").await;
        world.idp.signs_in("mira");
        let page = format!("{}/acme/secret/", world.hub);
        world.visit(&mira, &page).await;
        assert_eq!(mira.get(&page).await.status, 200, "{}", mira.history());
        let ada = world.browser_of("ada").await;
        world.idp.signs_in("ada");
        let on_its_way = world.returning(&ada, "acme").await;
        world.add_account("late", "Late").await;
        let home = format!("{}/settings/account", world.base);
        assert_eq!(mira.get(&home).await.status, 200);

        let (code, _, errors) = world.operate(&format!("restore {}", path.display())).await;
        assert!(is_refused(code, &errors, "backup.store_not_empty"), "{errors}");
        assert_eq!(mira.get(&page).await.status, 200, "nothing was touched");
        world.good_command(&format!("restore {} --replace", path.display())).await;
        // What the service would read within 250 ms.
        world.app.store.read_changes(world.app.clock.now()).await.unwrap();

        assert_ne!(mira.get(&page).await.status, 200, "{on:?}: the session of the application's host");
        assert_ne!(mira.get(&home).await.status, 200, "{on:?}: the session here");
        let page = ada.get(on_its_way.as_str()).await;
        assert!(!page.text().contains("Something went wrong"), "{}", page.text());
        for sql in [
            "SELECT COUNT(*) AS n FROM browser_session",
            "SELECT COUNT(*) AS n FROM host_session",
            "SELECT COUNT(*) AS n FROM sso_session",
            "SELECT COUNT(*) AS n FROM ticket",
            "SELECT COUNT(*) AS n FROM attempt",
            "SELECT COUNT(*) AS n FROM spent_attempt",
            "SELECT COUNT(*) AS n FROM operator_link",
        ] {
            assert_eq!(world.count(sql).await, 0, "{on:?}: {sql}");
        }
        assert_eq!(world.count("SELECT n FROM store_generation").await, 2);
        let restored =
            "SELECT COUNT(*) AS n FROM audit_event WHERE scope = 'system' AND action = 'store.restore'";
        assert_eq!(world.count(restored).await, 1);
        // Rule 7: the name of an account that is gone is not given to another person.
        assert_eq!(world.count("SELECT COUNT(*) AS n FROM account WHERE name_key = 'late'").await, 0);
        assert_eq!(world.count("SELECT COUNT(*) AS n FROM name WHERE name_key = 'late'").await, 1);
        // And the service goes on: the same people, the same connection.
        let mira = world.browser_of("mira").await;
        world.idp.signs_in("mira");
        let page = format!("{}/acme/secret/", world.hub);
        world.visit(&mira, &page).await;
        assert_eq!(mira.get(&page).await.status, 200, "{on:?}: {}", mira.history());
        // The chain goes on where the backup's ends.
        world.good_command("audit verify --all").await;
    }
}

#[tokio::test]
async fn a_backup_that_is_cut_changed_foreign_or_of_another_key_changes_nothing() {
    let world = furnished(On::Sqlite).await;
    let path = backup_of(&world).await;
    let good = std::fs::read(&path).unwrap();
    let before = world.everything_stored().await;
    let restore = format!("restore {} --replace", path.display());
    let cut = good.len() / 2;
    let changed = String::from_utf8(good.clone()).unwrap().replacen("\"write\"", "\"admin\"", 1);
    assert_ne!(changed.as_bytes(), good);
    let newer = String::from_utf8(good.clone()).unwrap().replacen("\"schema\":", "\"schema\":9", 1);
    let format = String::from_utf8(good.clone()).unwrap().replacen(
        "\"doorward_backup\":1",
        "\"doorward_backup\":2",
        1,
    );
    assert!(newer.as_bytes() != good && format.as_bytes() != good);
    let without_end = good[..good.len() - 2].to_vec();
    for (case, text, says) in [
        ("cut", good[..cut].to_vec(), "not whole"),
        ("without its last byte", without_end, "not whole"),
        ("empty", Vec::new(), "not a backup"),
        ("foreign", b"SQLite format 3\0".to_vec(), "not"),
        ("changed", changed.into_bytes(), "was changed or damaged"),
        ("newer", newer.into_bytes(), "does not know"),
        ("of another format", format.into_bytes(), "does not know"),
    ] {
        std::fs::write(&path, text).unwrap();
        let (code, _, errors) = world.operate(&restore).await;
        assert!(is_refused(code, &errors, "backup.unusable"), "{case}: {errors}");
        assert!(errors.contains(says) && errors.lines().count() == 2, "{case}: {errors}");
    }
    std::fs::write(&path, &good).unwrap();
    let key = world.folder().join("master.key");
    let kept = std::fs::read(&key).unwrap();
    std::fs::write(&key, format!("{}\n", "A".repeat(43))).unwrap();
    let (code, _, errors) = world.operate(&restore).await;
    assert!(is_refused(code, &errors, "key.unusable") && errors.lines().count() == 2, "{errors}");
    std::fs::remove_file(&key).unwrap();
    let (code, _, errors) = world.operate(&restore).await;
    assert!(code == 1 && errors.contains("the backup needs key") && !key.exists(), "{errors}");
    std::fs::write(&key, kept).unwrap();
    assert_eq!(world.everything_stored().await, before);
}

#[tokio::test]
async fn a_backup_that_is_swapped_between_its_check_and_its_use_changes_nothing() {
    for on in On::all() {
        let world = furnished(on).await;
        let good = std::fs::read_to_string(backup_of(&world).await).unwrap();
        let swapped = good.replacen("\"write\"", "\"admin\"", 1);
        let (sealing, now) = (&world.app.sealing, world.app.clock.now());
        doorward::store::verify_backup(&mut good.as_bytes(), sealing).unwrap();
        assert_ne!(swapped, good);
        let audit = |_: &doorward::store::Restored| doorward::store::AuditEntry {
            organization: None,
            action: doorward_core::audit_event::AuditAction::StoreRestore,
            actor: doorward::store::Actor::System,
            details: Vec::new(),
            address: None,
            request_id: None,
        };
        let admins = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM membership WHERE role = 'admin'";
        let before = world.count(admins).await;
        let store = &world.app.store;
        for (case, text, says) in [
            ("swapped", swapped, "was changed"),
            ("with more after its end", format!("{good}[\"x\"]\n"), "goes on after its end"),
        ] {
            let restored =
                store.restore(&mut text.as_bytes(), sealing, true, audit, &world.app.random, now).await;
            let told = restored.unwrap_err().to_string();
            assert!(told.contains(says), "{on:?}, {case}: {told}");
            let generation = world.count("SELECT n FROM store_generation").await;
            assert_eq!((world.count(admins).await, generation), (before, 1), "{on:?}, {case}");
        }
        store
            .restore(&mut good.as_bytes(), sealing, true, audit, &world.app.random, now)
            .await
            .expect("the one that was checked");
    }
}

/// Waits until somebody waits for a lock in this PostgreSQL database.
async fn somebody_waits(world: &World) {
    // Not pg_locks: there, whoever waits for a row waits for a transaction, which is of no database.
    let waiting = "SELECT COUNT(*) AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                   AND datname = current_database()";
    while world.count(waiting).await == 0 {
        tokio::task::yield_now().await;
    }
}

fn account_named(world: &World, name: &str) -> doorward::store::NewAccount {
    let now = world.app.clock.now().millis();
    doorward::store::NewAccount {
        id: doorward_core::ids::AccountId::new(now, world.app.random.bytes().unwrap()),
        name: doorward_core::name::Name::parse(name).unwrap(),
        full_name: String::new(),
        email: None,
        email_proved: false,
        password_hash: None,
        operator: false,
    }
}

#[tokio::test]
async fn rule_7_a_name_that_is_given_while_a_restore_begins_stays_given() {
    // SQLite has one writer, so that nothing is given meanwhile.
    if crate::harness::postgres_url().is_none() {
        return;
    }
    let world = furnished(On::Postgres).await;
    let path = backup_of(&world).await;
    let now = world.app.clock.now();
    let mut tx = world.app.store.begin().await.unwrap();
    tx.insert_account(&account_named(&world, "late"), now).await.unwrap();
    let giving = async {
        somebody_waits(&world).await;
        tx.commit(now).await.unwrap();
    };
    let line = format!("restore {} --replace", path.display());
    tokio::join!(world.good_command(&line), giving);
    assert_eq!(world.count("SELECT COUNT(*) AS n FROM account WHERE name_key = 'late'").await, 0);
    assert_eq!(world.count("SELECT COUNT(*) AS n FROM name WHERE name_key = 'late'").await, 1);
}

#[tokio::test]
async fn a_restore_that_meets_a_writer_with_the_same_tables_in_another_order_begins_again() {
    if crate::harness::postgres_url().is_none() {
        return;
    }
    let world = furnished(On::Postgres).await;
    let path = backup_of(&world).await;
    let now = world.app.clock.now();
    let organization = world.organization("acme").await.id;
    let mut tx = world.app.store.begin().await.unwrap();
    tx.set_resource(organization, "", "held", true).await.unwrap();
    let writing = async {
        // It has the names and waits for the resources; whoever has those asks for a name now.
        somebody_waits(&world).await;
        let late = account_named(&world, "late");
        if tx.insert_account(&late, now).await.is_err() {
            // PostgreSQL ends the one that waits last if it waits for more than a second: here, on a busy machine.
            drop(tx);
            tx = world.app.store.begin().await.unwrap();
            tx.insert_account(&late, now).await.unwrap();
        }
        tx.commit(now).await.unwrap();
    };
    let line = format!("restore {} --replace", path.display());
    tokio::join!(world.good_command(&line), writing);
    assert_eq!(world.count("SELECT COUNT(*) AS n FROM name WHERE name_key = 'late'").await, 1);
}

#[tokio::test]
async fn rule_8_what_a_restore_took_away_whole_is_told_and_what_was_gone_before_is_still_missed() {
    for on in On::all() {
        let world = furnished(on).await;
        world.add_organization("gone", "ada", doorward::store::Plan::Free).await;
        let scope = world.organization("gone").await.id.to_string();
        for sql in [
            "DELETE FROM audit_event WHERE scope = (SELECT owner_id FROM name WHERE name_key = 'gone')",
            "DELETE FROM audit_sequence WHERE scope = (SELECT owner_id FROM name WHERE name_key = 'gone')",
            "DELETE FROM audit_checkpoint WHERE scope = (SELECT owner_id FROM name WHERE name_key = 'gone')",
        ] {
            world.behind_its_back(sql).await;
        }
        let path = backup_of(&world).await;
        world.add_organization("late", "ada", doorward::store::Plan::Free).await;
        let late = world.organization("late").await.id.to_string();
        // Twice: the second one finds the log that the first has begun.
        for _ in 0..2 {
            world.good_command(&format!("restore {} --replace", path.display())).await;
            let (code, output, _) = world.operate("audit verify --all --json").await;
            let line =
                |scope: &str| output.lines().find(|line| line.contains(scope)).unwrap_or_default().to_owned();
            assert_eq!(code, 1, "{on:?}: {output}");
            assert!(line(&late).contains("\"intact\":true"), "{on:?}: {output}");
            assert!(line(&late).contains("\"restored_at\":1"), "{on:?}: {output}");
            assert!(line(&scope).contains("not_the_beginning"), "{on:?}: {output}");
        }
        let (_, output, _) = world.operate("audit checkpoint --all").await;
        assert!(output.lines().any(|line| line.contains(&late)), "{on:?}: {output}");
    }
}

/// Table and columns of `0001_start.sql`.
async fn columns_of_the_first_schema() -> BTreeMap<String, BTreeSet<String>> {
    use sqlx::{ConnectOptions as _, Executor as _, Row as _};
    let mut connection = sqlx::sqlite::SqliteConnectOptions::new().in_memory(true).connect().await.unwrap();
    connection.execute(include_str!("../../../../migrations/0001_start.sql")).await.unwrap();
    let sql = "SELECT m.name AS t, c.name AS c FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'";
    let mut columns: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in sqlx::query(sql).fetch_all(&mut connection).await.unwrap() {
        columns.entry(row.get("t")).or_default().insert(row.get("c"));
    }
    columns
}

#[tokio::test]
async fn a_backup_of_an_older_schema_is_brought_up_to_date() {
    let world = furnished(On::Sqlite).await;
    let path = backup_of(&world).await;
    let key = world.folder().join("master.key");
    // As the first schema would have written it: what came later is taken out.
    let first = columns_of_the_first_schema().await;
    forge(&path, &key, |text| {
        let mut old = String::new();
        let mut kept: Vec<bool> = Vec::new();
        for line in text.lines() {
            let mut line: Value = serde_json::from_str(line).unwrap();
            if line.get("doorward_backup").is_some() {
                line["schema"] = 1.into();
            } else if let Some(table) = line.get("table") {
                let known = first.get(table.as_str().unwrap()).cloned().unwrap_or_default();
                let columns = line["columns"].as_array_mut().unwrap();
                kept = columns.iter().map(|column| known.contains(column[0].as_str().unwrap())).collect();
                let mut keep = kept.iter();
                columns.retain(|_| *keep.next().unwrap());
                if known.is_empty() {
                    continue;
                }
            } else if let Some(row) = line.as_array_mut() {
                let mut keep = kept.iter();
                row.retain(|_| *keep.next().unwrap());
                if row.is_empty() {
                    continue;
                }
            }
            old += &format!("{line}\n");
        }
        old
    });
    world.good_command(&format!("restore {} --replace", path.display())).await;
    assert_eq!(world.state("acme").await, "live");
    assert_eq!(world.count("SELECT created_at AS n FROM key_check").await, 0);
}

#[tokio::test]
async fn a_restore_killed_at_any_moment_leaves_the_store_as_it_was_or_as_the_backup() {
    for on in On::all() {
        let world = furnished(on).await;
        // Large enough to be met in the middle.
        let now = world.app.clock.now();
        let mut tx = world.app.store.begin().await.unwrap();
        let organization = world.organization("acme").await.id;
        for n in 0..4_000 {
            tx.set_resource(organization, "", &format!("resource-{n}"), true).await.unwrap();
        }
        tx.commit(now).await.unwrap();
        let path = backup_of(&world).await;
        let mut tx = world.app.store.begin().await.unwrap();
        tx.set_resource(organization, "", "since", true).await.unwrap();
        tx.commit(now).await.unwrap();
        let count = "SELECT COUNT(*) AS n FROM resource WHERE name LIKE 'resource-%'";
        let since = "SELECT COUNT(*) AS n FROM resource WHERE name_key = 'since'";
        let line = ["restore", &*path.display().to_string(), "--replace"];
        let mut killed = 0;
        for round in 0..10 {
            let mut child = binary(&world, &line);
            tokio::time::sleep(Duration::from_millis(15 * round)).await;
            killed += usize::from(child.try_wait().unwrap().is_none());
            child.kill().unwrap();
            child.wait().unwrap();
            assert_eq!(world.count(count).await, 4_000, "{on:?}, round {round}");
            let (since, generation) =
                (world.count(since).await, world.count("SELECT n FROM store_generation").await);
            assert!(matches!((since, generation), (1, 1) | (0, 2..)), "{on:?}: {since} {generation}");
        }
        assert!(killed > 2, "{on:?}: {killed} were killed on their way");
        world.good_command(&line.join(" ")).await;
        assert_eq!((world.count(count).await, world.count(since).await), (4_000, 0));
    }
}

#[tokio::test]
async fn a_backup_while_others_write_is_of_one_moment() {
    for on in On::all() {
        let world = furnished(on).await;
        let organization = world.organization("acme").await.id;
        // Each transaction puts one resource and one audit event: a backup between the two would have one more of one.
        let writing = async {
            for n in 0..150 {
                let mut tx = world.app.store.begin().await.unwrap();
                tx.set_resource(organization, "", &format!("pair-{n}"), true).await.unwrap();
                let entry = doorward::store::AuditEntry {
                    organization: Some(organization),
                    action: doorward_core::audit_event::AuditAction::ResourceSet,
                    actor: doorward::store::Actor::System,
                    details: vec![("name", format!("pair-{n}"))],
                    address: None,
                    request_id: None,
                };
                tx.audit(entry, world.app.clock.now()).await.unwrap();
                tx.commit(world.app.clock.now()).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let reading = async {
            for n in 0..4 {
                let path = world.folder().join(&format!("during-{n}.backup"));
                world.good_command(&format!("backup {}", path.display())).await;
                let rows = rows_of(&path);
                let of = |table: &str| {
                    let begin = format!("{table} ");
                    rows.iter().filter(|row| row.starts_with(&begin) && row.contains("\"pair-")).count()
                };
                let events =
                    rows.iter().filter(|row| row.starts_with("audit_event ") && row.contains("pair-"));
                assert_eq!(of("resource"), events.count(), "{on:?}");
            }
        };
        tokio::join!(writing, reading);
    }
}

// === Imports ===

/// A bcrypt hash of "correct horse battery".
const IMPORTED_HASH: &str = "$2y$06$EzS..Ydm7qrE2PNXdDGzfecCxqlugA1MCl7TM1/74yMzRYGmb2rH6";

/// The example of docs/import.md.
fn example() -> String {
    let page = include_str!("../../../../docs/import.md");
    let (_, rest) = page.split_once("```jsonl\n").unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

fn written(folder: &TempDir, text: &str) -> String {
    let path = folder.join("people.jsonl");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn a_file_is_imported_once_and_a_second_run_changes_nothing() {
    for on in On::all() {
        let world = world_on(on).await;
        let file = written(world.folder(), &example());
        let checked = world.good_command(&format!("import {file} --check")).await;
        assert!(checked.contains("without mistakes"), "{checked}");
        assert_eq!(world.count("SELECT COUNT(*) AS n FROM imported_line").await, 0);
        let told = world.good_command(&format!("import {file}")).await;
        assert!(told.contains("3 accounts, 1 organizations, 3 memberships and 1 connections"), "{told}");
        assert_eq!(world.state("fjordline").await, "untested", "{on:?}");
        let organization = world.organization("fjordline").await;
        let mut reader = world.app.store.reader();
        let members = doorward::store::load_members(&mut reader, organization.id, "", "", 10).await.unwrap();
        let members: Vec<_> = members.iter().map(|m| (m.name.to_string(), m.role.as_str())).collect();
        assert_eq!(
            members,
            [("ines".into(), "read"), ("Jonas-Berg".into(), "admin"), ("olga".into(), "write")],
            "{on:?}"
        );
        let emails =
            doorward::store::load_emails(&mut reader, world.account("jonas-berg").await).await.unwrap();
        let emails: Vec<_> = emails.iter().map(|e| (&*e.address, e.proved_at.is_some(), e.primary)).collect();
        assert_eq!(emails, [("jonas@fjordline.example", true, true), ("jb@old.example", false, false)]);
        let audit = world.audit("fjordline").await;
        let events: Vec<_> = audit.iter().map(|event| (&*event.action, &*event.actor_kind)).collect();
        assert_eq!(events, [("org.import", "operator")], "rule 8: in the transaction of the deed");
        assert_eq!(audit[0].details["admins"], "jonas-berg");

        // A member that was removed since stays removed; everything stays as it is.
        world.remove_member("fjordline", "olga").await;
        let told = world.good_command(&format!("import {file}")).await;
        assert!(told.contains("taken before; nothing was changed"), "{told}");
        assert_eq!(world.audit("fjordline").await.len(), 1);
        assert_eq!(world.organization("fjordline").await.id, organization.id);
        let members = doorward::store::load_members(&mut reader, organization.id, "", "", 10).await.unwrap();
        assert_eq!(members.len(), 2);
        // One more line: only that one is taken.
        let more = example() + "{\"type\":\"account\",\"name\":\"new-one\"}\n";
        let told = world.good_command(&format!("import {}", written(world.folder(), &more))).await;
        assert!(told.contains("1 accounts, 0 organizations") && told.contains("8 of 9 lines"), "{told}");
    }
}

#[tokio::test]
async fn an_imported_password_signs_in_and_its_hash_becomes_ours() {
    let world = world_on(On::Sqlite).await;
    world.good_command(&format!("import {}", written(world.folder(), &example()))).await;
    let hash = async || {
        let mut reader = world.app.store.reader();
        doorward::store::load_sign_in(&mut reader, "jonas-berg")
            .await
            .unwrap()
            .unwrap()
            .password_hash
            .unwrap()
    };
    assert!(hash().await.starts_with("$2y$"));
    for (password, status) in [("wrong horse battery", 422), ("correct horse battery", 303)] {
        let browser = doorward_testkit::Browser::new().with_clock(&world.clock);
        browser.get(&format!("{}/login", world.base)).await;
        let fields = [("username", "jonas@fjordline.example"), ("password", password), ("next", "")];
        let page = browser.post(&format!("{}/login", world.base), &fields).await;
        assert_eq!(page.status, status, "{}", page.text());
        assert_eq!(hash().await.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), status == 303);
    }
    let browser = doorward_testkit::Browser::new().with_clock(&world.clock);
    // Rule 13: an address that is not proved signs nobody in.
    let fields = [("username", "jb@old.example"), ("password", "correct horse battery"), ("next", "")];
    browser.get(&format!("{}/login", world.base)).await;
    assert_eq!(browser.post(&format!("{}/login", world.base), &fields).await.status, 422);
    let fields = [("username", "Jonas-Berg"), ("password", "correct horse battery"), ("next", "")];
    assert_eq!(
        browser.post(&format!("{}/login", world.base), &fields).await.status,
        303,
        "with our own hash"
    );
}

#[tokio::test]
async fn every_mistake_of_a_file_is_told_with_its_line_and_nothing_is_written() {
    let world = world_on(On::Sqlite).await;
    world.good_command("sso show acme").await;
    let mut before = world.everything_stored().await;
    let secret = "planted-client-secret-Xk8Q~4711";
    let org =
        |name: &str| format!("{{\"type\":\"organization\",\"name\":\"{name}\",\"display_name\":\"D\"}}");
    let account = |rest: &str| format!("{{\"type\":\"account\",\"name\":\"zoe\"{rest}}}");
    let member = |organization: &str, account: &str, role: &str| {
        format!(
            "{{\"type\":\"membership\",\"organization\":\"{organization}\",\"account\":\"{account}\",\"role\":\"{role}\"}}"
        )
    };
    let connection = |rest: &str| {
        format!(
            "{{\"type\":\"connection\",\"organization\":\"acme\",\"issuer_url\":\"https://idp.example\",\"client_id\":\"c\"{rest}}}"
        )
    };
    let cases: Vec<(String, &str)> = vec![
        ("nonsense".into(), "not one JSON object"),
        ("[]".into(), "missing field `type`"),
        ("{}".into(), "missing field `type`"),
        ("{\"type\":\"user\",\"name\":\"x\"}".into(), "the type is none of"),
        (account(",\"admin\":true"), "unknown field `admin`"),
        (account(",\"disabled\":\"planted-client-secret-Xk8Q~4711\""), "wrong kind"),
        ("{\"type\":\"account\",\"name\":\"a_b\"}".into(), "letters, digits and -"),
        ("{\"type\":\"account\",\"name\":\"login\"}".into(), "reserved"),
        ("{\"type\":\"account\",\"name\":\"MIRA\"}".into(), "the name MIRA is taken"),
        ("{\"type\":\"account\",\"name\":\"acme\"}".into(), "the name acme is taken"),
        (account(",\"password_hash\":\"planted-client-secret-Xk8Q~4711\""), "neither Argon2"),
        (
            account(
                ",\"password_hash\":\"$argon2id$v=19$m=4194304,t=9,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA\"",
            ),
            "costs too much",
        ),
        (account(",\"emails\":[{\"address\":\"a b\",\"proved\":true}]"), "an address is not one"),
        (account(",\"emails\":[{\"address\":\"z@a.example\"}]"), "missing field `proved`"),
        (account(",\"emails\":[{\"address\":\"ada@acme.example\",\"proved\":true}]"), "another account's"),
        (
            account(
                ",\"emails\":[{\"address\":\"z@a.example\",\"proved\":true},{\"address\":\"Z@a.example\",\"proved\":true}]",
            ),
            "there twice",
        ),
        (org("mira"), "the name mira is taken"),
        (org("lonely"), "no line makes anybody an admin"),
        (
            "{\"type\":\"organization\",\"name\":\"odd\",\"display_name\":\"\",\"plan\":\"gold\"}".into(),
            "the plan is none of",
        ),
        (member("nowhere", "mira", "read"), "no such organization"),
        (member("acme", "nobody", "read"), "no such account"),
        (member("mira", "acme", "read"), "no such organization"),
        (member("acme", "mira", "read"), "a member already"),
        (member("acme", "eve", "boss"), "no such role"),
        (
            connection(&format!(",\"client_secret\":\"{secret}\",\"secret\":\"{secret}\"")),
            "unknown field `secret`",
        ),
        (connection(",\"client_secret\":\"\""), "client_secret: "),
        (connection(&format!(",\"client_secret\":\"{secret}\",\"scopes\":\"email\"")), "scopes: "),
        (connection(&format!(",\"client_secret\":[\"{secret}\"]")), "wrong kind"),
        (
            connection(&format!(",\"client_secret\":\"{secret}\"")).replace("idp.example", "gitlab.com"),
            "issuer_url: Anybody gets an account there",
        ),
    ];
    let text: String = cases.iter().map(|(line, _)| format!("{line}\n")).collect();
    let (code, output, errors) = world.operate(&format!("import {}", written(world.folder(), &text))).await;
    assert!(
        is_refused(code, &errors, "import.mistaken") && errors.contains("29 mistakes"),
        "{errors}{output}"
    );
    for (n, (line, says)) in cases.iter().enumerate() {
        let begins = format!("line {}: ", n + 1);
        let told = output.lines().find(|told| told.starts_with(&begins)).unwrap_or_default();
        assert!(told.contains(says), "{line}\n{told}\n{output}");
    }
    assert!(!output.contains("planted") && !errors.contains("planted"), "{output}");
    // Twice in one file, and more mistakes than are told.
    let twice = [
        account(",\"emails\":[{\"address\":\"z@a.example\",\"proved\":true}]"),
        account(""),
        "{\"type\":\"account\",\"name\":\"yan\",\"emails\":[{\"address\":\"Z@a.example\",\"proved\":true}]}"
            .into(),
        member("acme", "eve", "read"),
        member("acme", "EVE", "write"),
    ];
    let text = twice.join("\n") + "\n" + &"x\n".repeat(500);
    let (_, output, errors) = world.operate(&format!("import {}", written(world.folder(), &text))).await;
    assert!(errors.contains("503 mistakes"), "{errors}");
    assert!(output.lines().count() == 101 && output.ends_with("and 403 more\n"), "{output}");
    for told in
        ["line 2: the name zoe is that of line 1", "line 3: one of its proved", "line 5: an earlier line"]
    {
        assert!(output.contains(told), "{output}");
    }
    let (_, _, errors) = world.operate("import /nowhere/at-all.jsonl").await;
    assert!(is_refused(1, &errors, "import.mistaken"), "{errors}");
    let mut after = world.everything_stored().await;
    // The first command has noted the key, and an export or look nothing else.
    for stored in [&mut before, &mut after] {
        stored.retain(|(table, _)| table != "key_check");
    }
    assert_eq!(before, after);
}

#[tokio::test]
async fn rule_6_an_imported_secret_is_sealed_and_never_told() {
    let world = world_on(On::Sqlite).await;
    let text = example().replace("the-secret-that-the-provider-gave", CLIENT_SECRET);
    assert_ne!(text, example());
    let told = world.good_command(&format!("import {}", written(world.folder(), &text))).await;
    assert!(!told.contains(CLIENT_SECRET));
    for (table, columns) in text_columns(&world.folder().join("doorward.db")).await {
        for (column, values) in columns {
            assert!(values.iter().all(|value| !value.contains(CLIENT_SECRET)), "{table}.{column}");
        }
    }
    let organization = world.organization("fjordline").await;
    let mut reader = world.app.store.reader();
    let connection = doorward::store::load_connection(&mut reader, organization.id).await.unwrap().unwrap();
    let number = connection.draft.unwrap();
    let revision =
        doorward::store::load_revision(&mut reader, organization.id, number).await.unwrap().unwrap();
    assert_eq!(revision.open_secret(connection.id, &world.app.sealing).unwrap().expose(), CLIENT_SECRET);
}

/// Many accounts, each a member of one of a few organizations.
fn many_lines(accounts: usize) -> String {
    let mut text = String::new();
    for n in 0..accounts / 500 {
        text += &format!("{{\"type\":\"organization\",\"name\":\"org-{n}\",\"display_name\":\"O{n}\"}}\n");
    }
    for n in 0..accounts {
        let password =
            if n % 500 == 0 { format!(",\"password_hash\":\"{IMPORTED_HASH}\"") } else { String::new() };
        text += &format!(
            "{{\"type\":\"account\",\"name\":\"person-{n}\",\"emails\":[{{\"address\":\"p{n}@a.example\",\"proved\":true}}]{password}}}\n"
        );
    }
    for n in 0..accounts {
        let role = if n % 500 == 0 { "admin" } else { "read" };
        text += &format!(
            "{{\"type\":\"membership\",\"organization\":\"org-{}\",\"account\":\"person-{n}\",\"role\":\"{role}\"}}\n",
            n / 500
        );
    }
    text
}

#[tokio::test]
async fn an_import_that_was_interrupted_goes_on_where_it_was() {
    for on in On::all() {
        let world = world_on(on).await;
        let file = written(world.folder(), &many_lines(3_000));
        let taken = async || world.count("SELECT COUNT(*) AS n FROM imported_line").await;
        let mut before = 0;
        for _ in 0..3 {
            let mut child = binary(&world, &["import", &file]);
            while taken().await == before && child.try_wait().unwrap().is_none() {}
            child.kill().unwrap();
            child.wait().unwrap();
            let lines = taken().await;
            assert!(lines > before, "{on:?}: a commit was seen");
            before = lines;
            let rows = world.count(
                "SELECT (SELECT COUNT(*) FROM account WHERE name_key LIKE 'person-%') \
                 + (SELECT COUNT(*) FROM organization WHERE name_key LIKE 'org-%') \
                 + (SELECT COUNT(*) FROM membership m JOIN organization o ON o.id = m.organization_id \
                    WHERE o.name_key LIKE 'org-%') AS n",
            );
            assert_eq!(rows.await, lines, "{on:?}: each line is whole or not there");
        }
        assert!(before < 6_006, "{on:?}: it was killed in the middle");
        world.good_command(&format!("import {file}")).await;
        assert_eq!(world.count("SELECT COUNT(*) AS n FROM imported_line").await, 6_006);
        assert_eq!(
            world.count("SELECT COUNT(*) AS n FROM account WHERE name_key LIKE 'person-%'").await,
            3_000
        );
    }
}

#[tokio::test]
async fn rule_16_an_import_is_felt_by_a_service_that_runs() {
    let world = world_on(On::Sqlite).await;
    let page = format!("{}/fjordline/secret/", world.hub);
    let mira = world.browser_of("mira").await;
    world.visit(&mira, &page).await;
    assert_ne!(mira.get(&page).await.status, 200, "there is no such organization yet");
    let more = example()
        + "{\"type\":\"membership\",\"organization\":\"fjordline\",\"account\":\"mira\",\"role\":\"read\"}\n";
    world.good_command(&format!("import {}", written(world.folder(), &more))).await;
    world.app.store.read_changes(world.app.clock.now()).await.unwrap();
    assert_eq!(mira.get(&page).await.status, 200, "{}", mira.history());
}

/// Deletes an account and an organization but not their names, as a restore of an older backup does (rule 7).
async fn names_without_owners(world: &World) {
    let path = backup_of(world).await;
    world.add_account("late", "Late").await;
    world.add_organization("late-org", "late", doorward::store::Plan::Enterprise).await;
    world.good_command(&format!("restore {} --replace", path.display())).await;
}

#[tokio::test]
async fn rule_7_a_name_whose_owner_is_gone_is_a_mistake_of_the_line_that_uses_it() {
    for on in On::all() {
        let world = furnished(on).await;
        names_without_owners(&world).await;
        let member = |organization: &str, account: &str| {
            format!(
                "{{\"type\":\"membership\",\"organization\":\"{organization}\",\"account\":\"{account}\",\"role\":\"read\"}}\n"
            )
        };
        // The first thousand lines would be committed before the fault is met.
        let mut text: String =
            (0..1_000).map(|n| format!("{{\"type\":\"account\",\"name\":\"person-{n}\"}}\n")).collect();
        text += &member("acme", "late");
        text += &member("late-org", "mira");
        text += "{\"type\":\"connection\",\"organization\":\"late-org\",\"issuer_url\":\"https://idp.example\",\"client_id\":\"c\",\"client_secret\":\"s\"}\n";
        text += "{\"type\":\"account\",\"name\":\"late\"}\n";
        text += "{\"type\":\"organization\",\"name\":\"late-org\",\"display_name\":\"D\"}\n";
        let file = written(world.folder(), &text);
        for line in [format!("import {file} --check"), format!("import {file}")] {
            let (code, output, errors) = world.operate(&line).await;
            assert!(is_refused(code, &errors, "import.mistaken"), "{on:?}: {errors}{output}");
            let told: Vec<&str> = output.lines().collect();
            assert_eq!(told.len(), 5, "{on:?}: {output}");
            for (n, (told, says)) in
                told.iter().zip(["is gone", "is gone", "is gone", "is taken", "is taken"]).enumerate()
            {
                assert!(
                    told.starts_with(&format!("line {}: ", 1_001 + n)) && told.contains(says),
                    "{on:?}: {told}"
                );
            }
        }
        assert_eq!(world.count("SELECT COUNT(*) AS n FROM imported_line").await, 0, "{on:?}");
        assert_eq!(world.count("SELECT COUNT(*) AS n FROM account WHERE name_key LIKE 'person-%'").await, 0);
    }
}

#[tokio::test]
async fn a_line_that_was_taken_stays_passed_over_when_its_owner_is_gone() {
    let world = furnished(On::Sqlite).await;
    world.good_command(&format!("import {}", written(world.folder(), &example()))).await;
    for sql in [
        "DELETE FROM membership WHERE account_id IN (SELECT id FROM account WHERE name_key = 'olga')",
        "DELETE FROM account WHERE name_key = 'olga'",
    ] {
        world.behind_its_back(sql).await;
    }
    let more = example() + "{\"type\":\"account\",\"name\":\"new-one\"}\n";
    let told = world.good_command(&format!("import {}", written(world.folder(), &more))).await;
    assert!(told.contains("1 accounts, 0 organizations") && told.contains("8 of 9 lines"), "{told}");
}

/// A file that a command reads twice, whose second reading stops after `part` bytes until it is told to go on: its path,
/// what says that the part was given, and what lets the rest follow.
fn read_in_two(
    folder: &TempDir,
    text: String,
    part: usize,
) -> (String, tokio::sync::oneshot::Receiver<()>, std::sync::mpsc::Sender<()>) {
    use std::io::Write as _;
    let [path, first, second] = ["people.jsonl", "first.pipe", "second.pipe"].map(|name| folder.join(name));
    for pipe in [&first, &second] {
        assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
    }
    std::os::unix::fs::symlink(&first, &path).unwrap();
    let (given, is_given) = tokio::sync::oneshot::channel();
    let (go_on, told) = std::sync::mpsc::channel();
    let shown = path.display().to_string();
    std::thread::spawn(move || {
        // Opening waits for the reader; who opens the path next gets the other pipe.
        let mut to = std::fs::OpenOptions::new().write(true).open(&first).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&second, &path).unwrap();
        to.write_all(text.as_bytes()).unwrap();
        drop(to);
        let mut to = std::fs::OpenOptions::new().write(true).open(&second).unwrap();
        to.write_all(&text.as_bytes()[..part]).unwrap();
        given.send(()).unwrap();
        told.recv().unwrap();
        to.write_all(&text.as_bytes()[part..]).unwrap();
    });
    (shown, is_given, go_on)
}

#[tokio::test]
async fn rule_16_an_account_that_was_used_between_two_commits_of_an_import_is_told_of_the_second() {
    for on in On::all() {
        let world = world_on(on).await;
        let page = format!("{}/acme/secret/", world.hub);
        let mut text: String =
            (0..1_000).map(|n| format!("{{\"type\":\"account\",\"name\":\"person-{n}\"}}\n")).collect();
        let first_commit = text.len();
        text += "{\"type\":\"membership\",\"organization\":\"acme\",\"account\":\"person-7\",\"role\":\"read\"}\n";
        let (file, first_is_there, go_on) = read_in_two(world.folder(), text, first_commit);
        let browser = doorward_testkit::Browser::new().with_clock(&world.clock);
        let signing_in = async {
            first_is_there.await.unwrap();
            while world.count("SELECT COUNT(*) AS n FROM account WHERE name_key = 'person-7'").await == 0 {
                tokio::task::yield_now().await;
            }
            world.sign_in(&browser, "person-7").await;
            world.visit(&browser, &page).await;
            assert_ne!(browser.get(&page).await.status, 200, "{on:?}: not a member yet");
            go_on.send(()).unwrap();
        };
        let line = format!("import {file}");
        tokio::join!(world.good_command(&line), signing_in);
        world.app.store.read_changes(world.app.clock.now()).await.unwrap();
        assert_eq!(browser.get(&page).await.status, 200, "{on:?}: {}", browser.history());
    }
}

#[tokio::test]
async fn an_import_and_a_transaction_with_the_same_logs_wait_for_each_other_in_one_order() {
    // On SQLite there is one writer.
    if crate::harness::postgres_url().is_none() {
        return;
    }
    let world = world_on(On::Postgres).await;
    let text = "{\"type\":\"account\",\"name\":\"zoe\"}\n\
                {\"type\":\"membership\",\"organization\":\"acme\",\"account\":\"zoe\",\"role\":\"read\"}\n";
    let file = written(world.folder(), text);
    let now = world.app.clock.now();
    let entry = |organization| doorward::store::AuditEntry {
        organization,
        action: doorward_core::audit_event::AuditAction::OrgLeave,
        actor: doorward::store::Actor::System,
        details: Vec::new(),
        address: None,
        request_id: None,
    };
    let acme = world.organization("acme").await.id;
    // As whoever deletes an account does: the organization's log, then the system's.
    let mut tx = world.app.store.begin().await.unwrap();
    tx.audit(entry(Some(acme)), now).await.unwrap();
    let writing = async {
        somebody_waits(&world).await;
        tx.audit(entry(None), now).await.unwrap();
        tx.commit(now).await.unwrap();
    };
    let line = format!("import {file}");
    tokio::join!(world.good_command(&line), writing);
    assert_eq!(world.count("SELECT COUNT(*) AS n FROM account WHERE name_key = 'zoe'").await, 1);
}

#[tokio::test]
async fn a_text_with_nul_in_a_file_is_a_mistake_of_its_line_on_both_databases() {
    for on in On::all() {
        let world = world_on(on).await;
        let lines = [
            r#"{"type":"account","name":"a\u0000"}"#,
            r#"{"type":"account","name":"zoe","full_name":"\u0000"}"#,
            r#"{"type":"account","name":"zoe","emails":[{"address":"z\u0000@a.example","proved":true}]}"#,
            r#"{"type":"organization","name":"b\u0000","display_name":"B"}"#,
            r#"{"type":"membership","organization":"acme\u0000","account":"mira\u0000","role":"read"}"#,
            r#"{"type":"connection","organization":"acme\u0000","issuer_url":"https://idp.example","client_id":"c","client_secret":"s"}"#,
        ];
        let file = written(world.folder(), &lines.join("\n"));
        let (code, output, errors) = world.operate(&format!("import {file}")).await;
        assert!(is_refused(code, &errors, "import.mistaken"), "{on:?}: {errors}");
        for number in 1..=lines.len() {
            assert!(output.contains(&format!("line {number}: ")), "{on:?} {number}: {output}");
        }
    }
}

#[tokio::test]
async fn an_organization_of_a_file_needs_an_admin_who_gets_in() {
    let hash = IMPORTED_HASH;
    let account = |rest: &str| format!("{{\"type\":\"account\",\"name\":\"zoe\"{rest}}}\n");
    let good = account(&format!(",\"password_hash\":\"{hash}\""));
    let organization = "{\"type\":\"organization\",\"name\":\"fjordline\",\"display_name\":\"F\"}\n";
    let admin = |name: &str, rest: &str| {
        format!(
            "{{\"type\":\"membership\",\"organization\":\"fjordline\",\"account\":\"{name}\",\"role\":\"admin\"{rest}}}\n"
        )
    };
    for on in On::all() {
        let world = world_on(on).await;
        for (name, sql) in [
            ("off", "UPDATE account SET disabled = 1 WHERE name_key = 'off'"),
            ("bare", "UPDATE account SET password_hash = NULL WHERE name_key = 'bare'"),
            ("well", "UPDATE account SET password_hash = 'some hash' WHERE name_key = 'well'"),
        ] {
            world.add_account(name, "").await;
            world.behind_its_back(sql).await;
        }
        let cases = [
            (account("") + organization + &admin("zoe", ""), false),
            (
                account(&format!(",\"disabled\":true,\"password_hash\":\"{hash}\""))
                    + organization
                    + &admin("zoe", ""),
                false,
            ),
            (good.clone() + organization + &admin("zoe", ",\"external_collaborator\":true"), false),
            (organization.to_owned() + &admin("off", ""), false),
            (organization.to_owned() + &admin("bare", ""), false),
            (organization.to_owned() + &admin("off", "") + &admin("well", ""), true),
            (
                account("")
                    + &good.replace("zoe", "yan")
                    + organization
                    + &admin("zoe", "")
                    + &admin("yan", ""),
                true,
            ),
        ];
        for (text, gets_in) in cases {
            let file = written(world.folder(), &text);
            let (code, output, errors) = world.operate(&format!("import {file} --check")).await;
            assert_eq!(code == 0, gets_in, "{on:?}: {text}{output}{errors}");
            assert_eq!(output.contains("an admin who gets in"), !gets_in, "{on:?}: {text}{output}");
        }
    }
}

// === The schema ===

#[tokio::test]
async fn f27_a_schema_that_is_brought_up_to_date_twice_at_once_or_half_way_is_current() {
    for on in On::all() {
        let folder = TempDir::new();
        let (store, database) = fresh_store(on, &folder).await;
        let clock = doorward::clock::Clock::system();
        let key = folder.join("master.key");
        // Everything of it taken back but what a first, interrupted run had done.
        undo_all_but_the_first(on, &folder, &database).await;
        assert!(store.check_schema().await.is_err());
        let migrate = async || command_on(&database, &key, &clock, "migrate").await;
        let (a, b, c) = tokio::join!(migrate(), migrate(), migrate());
        for (code, output, errors) in [a, b, c, migrate().await] {
            assert_eq!((code, &*errors), (0, ""), "{on:?}: {output}");
        }
        store.check_schema().await.unwrap();
    }
}

/// Drops every table and makes those of 0001 again, as the binary of that time did.
async fn undo_all_but_the_first(on: On, folder: &TempDir, database: &str) {
    use sqlx::{ConnectOptions as _, Connection as _, Executor as _, Row as _};
    let sql = |text: String| sqlx::AssertSqlSafe(text);
    let first = include_str!("../../../../migrations/0001_start.sql");
    let tables = || {
        let (kept, left_out) = doorward::store::backed_up_and_left_out();
        [left_out.into_iter().rev().collect::<Vec<_>>(), kept.into_iter().rev().collect()].concat()
    };
    let keep_first = "DELETE FROM _sqlx_migrations WHERE version > 1";
    match on {
        On::Sqlite => {
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.join("doorward.db"));
            let mut connection = options.connect().await.unwrap();
            for table in tables() {
                connection.execute(sql(format!("DROP TABLE {table}"))).await.unwrap();
            }
            connection.execute(first).await.unwrap();
            connection.execute(keep_first).await.unwrap();
            let left = sqlx::query("SELECT COUNT(*) AS n FROM _sqlx_migrations").fetch_one(&mut connection);
            assert_eq!(left.await.unwrap().get::<i64, _>("n"), 1);
        }
        On::Postgres => {
            let mut connection = sqlx::PgConnection::connect(database).await.unwrap();
            for table in tables() {
                connection.execute(sql(format!("DROP TABLE {table} CASCADE"))).await.unwrap();
            }
            connection.execute(first).await.unwrap();
            connection.execute(keep_first).await.unwrap();
        }
    }
}

#[tokio::test]
async fn f27_a_migration_that_was_killed_leaves_the_schema_before_or_after() {
    let folder = TempDir::new();
    let path = folder.join("fresh.db");
    let mut killed = 0;
    for round in 0..15 {
        drop(std::fs::remove_file(&path));
        let mut child = Command::new(env!("CARGO_BIN_EXE_doorward"))
            .arg("migrate")
            .env_clear()
            .env("DOORWARD_DATABASE", format!("sqlite:{}", path.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir(folder.path())
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(2 * round)).await;
        killed += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open_sqlite(&path, doorward::store::Synchronous::Normal).await.unwrap();
        store.check_schema().await.unwrap();
    }
    assert!(killed > 0);
}
