//! The audit log's chain: whoever changes the log behind Doorward's back is found, with the first wrong number
//! (conformance.md T12, ASVS 16.4.2; rule 8), and strangers can't make it grow without end (rule 9).

use doorward::audit_chain::{CHECKPOINT_AFTER, CHECKPOINT_EVENTS, event_hash};
use doorward::sealing::Sealing;
use doorward::store::{
    Actor, AuditEntry, AuditRecord, NewRevision, Query as _, Store, StoreError, Synchronous, load_connection,
    load_revision,
};
use doorward::web::pages::sign_in::make_operator_link;
use doorward_core::audit_event::AuditAction;
use doorward_core::secret::Secret;
use doorward_core::time::{Lifetime, Timestamp};
use doorward_testkit::{Browser, Person, TempDir};
use serde_json::{Value, json};
use std::fmt::Write as _;

use crate::access_tokens::until_one_waits;
use crate::harness::{On, Options, START_MS, World, open_audit};
use crate::pages::{PASSWORD, give_password, sign_in};

const NOW: Timestamp = Timestamp::from_millis(START_MS);

/// So many more events in acme's log, each with its number in its details.
async fn write_events(world: &World, count: i64) {
    write_events_by(&world.app.store, world, count).await;
}

/// The same, written by that node.
async fn write_events_by(store: &Store, world: &World, count: i64) {
    let organization = world.organization("acme").await.id;
    let mut tx = store.begin().await.unwrap();
    let there = doorward::store::count_audit_events(&mut tx, organization).await.unwrap();
    for n in there + 1..=there + count {
        let entry = AuditEntry {
            organization: Some(organization),
            action: AuditAction::OrgSettings,
            actor: Actor::Account(world.account("ada").await, "ada".to_owned()),
            details: vec![("before", format!("\"\u{1f600}\n{n}")), ("after", format!("{n}"))],
            address: Some("192.0.2.7".parse().unwrap()),
            request_id: Some(format!("request {n}")),
        };
        tx.audit(entry, world.app.clock.now()).await.unwrap();
    }
    tx.commit(world.app.clock.now()).await.unwrap();
}

/// A world whose acme has so many events; the first is that it was made.
async fn world_with_events(on: On, count: i64) -> World {
    let world = World::with(Options { on, ..Options::default() }).await;
    write_events(&world, count - 1).await;
    world
}

/// An event in acme's log.
async fn leaves(world: &World) -> AuditEntry {
    AuditEntry {
        organization: Some(world.organization("acme").await.id),
        action: AuditAction::OrgLeave,
        actor: Actor::System,
        details: Vec::new(),
        address: None,
        request_id: None,
    }
}

/// `audit verify acme`: `Ok`, or the first wrong number and what is wrong.
fn verify(world: &World, more: &str) -> Result<(), (i64, String)> {
    let (code, output, errors) = world.command(&format!("audit verify acme --json{more}"));
    let line: Value = serde_json::from_str(output.trim()).unwrap_or_else(|_| panic!("{output}{errors}"));
    assert_eq!(line["organization"], "acme");
    assert_eq!((code, line["intact"].as_bool()), if code == 0 { (0, Some(true)) } else { (1, Some(false)) });
    if code == 0 {
        return Ok(());
    }
    assert!(errors.contains("audit.chain_broken"), "{errors}");
    Err((line["first_wrong"].as_i64().unwrap(), line["reason"].as_str().unwrap().to_owned()))
}

fn wrong(sequence: i64, reason: &str) -> Result<(), (i64, String)> {
    Err((sequence, reason.to_owned()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_8_a_change_of_any_column_is_found_with_its_number() {
    for on in On::all() {
        let world = world_with_events(on, 7).await;
        assert_eq!(verify(&world, ""), Ok(()));
        // Each change alone; the next statement puts it back.
        for (change, back) in [
            (
                "UPDATE audit_event SET at = at + 1 WHERE sequence = 4",
                "UPDATE audit_event SET at = at - 1 WHERE sequence = 4",
            ),
            (
                "UPDATE audit_event SET action = 'org.leave' WHERE sequence = 4",
                "UPDATE audit_event SET action = 'org.settings' WHERE sequence = 4",
            ),
            (
                "UPDATE audit_event SET actor_kind = 'system' WHERE sequence = 4",
                "UPDATE audit_event SET actor_kind = 'account' WHERE sequence = 4",
            ),
            (
                "UPDATE audit_event SET actor_id = 'x' || actor_id WHERE sequence = 4",
                "UPDATE audit_event SET actor_id = substr(actor_id, 2) WHERE sequence = 4",
            ),
            (
                "UPDATE audit_event SET actor_name = 'mira' WHERE sequence = 4",
                "UPDATE audit_event SET actor_name = 'ada' WHERE sequence = 4",
            ),
            (
                "UPDATE audit_event SET details = replace(details, '4', '5') WHERE sequence = 4",
                "UPDATE audit_event SET details = replace(details, '5', '4') WHERE sequence = 4",
            ),
            (
                "UPDATE audit_event SET details = '!' || details WHERE sequence = 4",
                "UPDATE audit_event SET details = substr(details, 2) WHERE sequence = 4",
            ),
            (
                "UPDATE audit_event SET address = NULL WHERE sequence = 4",
                "UPDATE audit_event SET address = '192.0.2.0/24' WHERE sequence = 4",
            ),
            (
                "UPDATE audit_event SET request_id = '' WHERE sequence = 4",
                "UPDATE audit_event SET request_id = 'request 4' WHERE sequence = 4",
            ),
            (
                "UPDATE audit_event SET hash = 'x' || hash WHERE sequence = 4",
                "UPDATE audit_event SET hash = substr(hash, 2) WHERE sequence = 4",
            ),
        ] {
            world.behind_its_back(change).await;
            assert_eq!(verify(&world, ""), wrong(4, "changed"), "{on:?} {change}");
            world.behind_its_back(back).await;
            assert_eq!(verify(&world, ""), Ok(()), "{on:?} {back}");
        }
        world.behind_its_back("UPDATE audit_event SET mac = 'x' || mac WHERE sequence = 4").await;
        assert_eq!(verify(&world, ""), wrong(4, "not_ours"), "{on:?}");
        world.behind_its_back("UPDATE audit_event SET mac = NULL WHERE sequence = 4").await;
        assert_eq!(verify(&world, ""), wrong(4, "not_ours"), "{on:?}");
        world.behind_its_back("UPDATE audit_event SET hash = NULL WHERE sequence = 4").await;
        assert_eq!(verify(&world, ""), wrong(4, "unchained"), "{on:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_8_what_is_taken_out_put_in_or_moved_is_found_with_its_number() {
    // The statements on a log of 7, what is found, and where.
    let tampering: &[(&[&str], i64, &str)] = &[
        (&["DELETE FROM audit_event WHERE sequence = 3 AND scope <> 'system'"], 3, "missing"),
        (&["DELETE FROM audit_event WHERE sequence = 1 AND scope <> 'system'"], 1, "missing"),
        (&["DELETE FROM audit_event WHERE sequence > 5 AND scope <> 'system'"], 6, "missing_at_end"),
        (&["DELETE FROM audit_sequence WHERE scope <> 'system'"], 7, "beside_the_sequence"),
        (
            &[
                "UPDATE audit_event SET sequence = 99 WHERE sequence = 3",
                "UPDATE audit_event SET sequence = 3 WHERE sequence = 4",
                "UPDATE audit_event SET sequence = 4 WHERE sequence = 99",
            ],
            3,
            "changed",
        ),
        (
            &[
                "DELETE FROM audit_event WHERE sequence = 3",
                "UPDATE audit_event SET sequence = sequence - 1 WHERE sequence = 4",
                "UPDATE audit_event SET sequence = sequence - 1 WHERE sequence = 5",
                "UPDATE audit_event SET sequence = sequence - 1 WHERE sequence = 6",
                "UPDATE audit_event SET sequence = sequence - 1 WHERE sequence = 7",
                "UPDATE audit_sequence SET n = 6",
            ],
            3,
            "changed",
        ),
        (
            &[
                "INSERT INTO audit_event SELECT scope, 8, at, action, actor_kind, actor_id, actor_name, details, address, \
               request_id, hash, mac FROM audit_event WHERE sequence = 7",
            ],
            8,
            "changed",
        ),
        (
            &["INSERT INTO audit_event (scope, sequence, at, action, actor_kind, actor_name, details) \
               SELECT scope, 8, at, action, 'system', 'doorward', '{}' FROM audit_event WHERE sequence = 7"],
            8,
            "unchained",
        ),
        (
            &["UPDATE audit_event SET hash = NULL, mac = NULL", "UPDATE audit_sequence SET hash = NULL"],
            1,
            "other_than_checkpoint",
        ),
        (
            &[
                "UPDATE audit_event SET hash = NULL, mac = NULL",
                "UPDATE audit_sequence SET hash = NULL",
                "DELETE FROM audit_checkpoint",
            ],
            7,
            "unchained",
        ),
        (&["UPDATE audit_checkpoint SET hash = 'x'"], 1, "checkpoint_not_signed"),
    ];
    for on in On::all() {
        for (statements, sequence, reason) in tampering {
            let world = world_with_events(on, 7).await;
            for statement in *statements {
                world.behind_its_back(statement).await;
            }
            let found = verify(&world, "");
            assert_eq!(found, wrong(*sequence, reason), "{on:?} {statements:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t12_an_event_put_before_the_first_is_found_and_shown_to_nobody() {
    // The number of the row, and the statement; the address is on no page of its own.
    let forged: &[(i64, &str)] = &[
        (
            0,
            "INSERT INTO audit_event (scope, sequence, at, action, actor_kind, actor_name, details) \
             SELECT scope, 0, at, 'org.settings.sso.disable', 'account', 'forger', '{}' FROM audit_event \
             WHERE sequence = 7",
        ),
        (
            -1,
            "INSERT INTO audit_event (scope, sequence, at, action, actor_kind, actor_name, details) \
             SELECT scope, -1, at, 'org.settings.sso.disable', 'account', 'forger', '{}' FROM audit_event \
             WHERE sequence = 7",
        ),
    ];
    for on in On::all() {
        for (number, statement) in forged {
            let world = world_with_events(on, 7).await;
            let ada = world.browser_of("ada").await;
            world.behind_its_back(statement).await;
            for filter in ["", "?action=org.settings.sso.disable"] {
                let address = format!("{}/organizations/acme/settings/audit-log{filter}", world.base);
                let page = ada.get(&address).await;
                assert!(!page.text().contains("forger"), "{on:?} {number} {filter}: {}", page.text());
            }
            assert_eq!(verify(&world, ""), wrong(*number, "before_the_first"), "{on:?}");
            let (code, output, _) = world.command("audit verify --all");
            assert!(
                code == 1 && output.contains(&format!("event {number} was put before the first")),
                "{output}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_8_a_row_that_can_not_be_read_is_named() {
    let world = world_with_events(On::Sqlite, 7).await;
    world.behind_its_back("UPDATE audit_event SET at = 'soon' WHERE sequence = 6").await;
    assert_eq!(verify(&world, ""), wrong(6, "unreadable"));
}

/// Makes acme's whole chain anew, as one would who knows how but has no key.
async fn chain_anew(world: &World) {
    chain_anew_up_to(world, i64::MAX).await;
}

/// The same up to a number, with the count as it is.
async fn chain_anew_up_to(world: &World, until: i64) {
    let scope = world.organization("acme").await.id.to_string();
    let mut previous: Option<String> = None;
    let mut tx = world.app.store.begin().await.unwrap();
    let events = world.app.store.reader().audit_of_scope_after(&scope, 0, 1000).await.unwrap();
    for event in events.into_iter().filter(|event| event.sequence <= until) {
        let hash = event_hash(&scope, &event, previous.as_deref());
        let sql = "UPDATE audit_event SET hash = $3 WHERE scope = $1 AND sequence = $2 RETURNING sequence";
        let values = doorward::values![&scope, event.sequence, &hash];
        tx.fetch_all(sql, values).await.unwrap();
        previous = Some(hash);
    }
    let sql = "UPDATE audit_sequence SET hash = $2 WHERE scope = $1 RETURNING n";
    if until < i64::MAX {
        return tx.commit(NOW).await.unwrap();
    }
    tx.fetch_all(sql, doorward::values![&scope, previous]).await.unwrap();
    tx.commit(NOW).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_8_a_chain_made_anew_without_the_key_is_found() {
    for on in On::all() {
        let world = world_with_events(on, 7).await;
        chain_anew(&world).await;
        assert_eq!(verify(&world, ""), Ok(()), "nothing was changed");
        world.behind_its_back("UPDATE audit_event SET actor_name = 'eve' WHERE sequence = 4").await;
        chain_anew(&world).await;
        assert_eq!(verify(&world, ""), wrong(4, "not_ours"), "{on:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_8_an_end_cut_off_without_a_trace_is_found_by_a_checkpoint_kept_elsewhere() {
    for on in On::all() {
        let world = world_with_events(on, 7).await;
        let (_, kept, _) = world.command("audit checkpoint --all");
        assert_eq!(kept.lines().count(), 3, "acme, globex and the system: {kept}");
        let file = world.folder().join("kept.jsonl");
        std::fs::write(&file, kept).unwrap();
        let with_kept = format!(" --checkpoint {}", file.display());
        assert_eq!(verify(&world, &with_kept), Ok(()));
        write_events(&world, 2).await;
        assert_eq!(verify(&world, &with_kept), Ok(()), "a longer log still has that past");

        world.behind_its_back("DELETE FROM audit_event WHERE sequence > 5").await;
        world.behind_its_back("DELETE FROM audit_checkpoint WHERE sequence > 5").await;
        world
            .behind_its_back(
                "UPDATE audit_sequence SET n = 5, hash = (SELECT hash FROM audit_event WHERE sequence = 5)",
            )
            .await;
        assert_eq!(verify(&world, ""), Ok(()), "the database alone can't tell");
        assert_eq!(verify(&world, &with_kept), wrong(6, "missing_at_end"), "{on:?}");

        // Nothing at all is left.
        world.behind_its_back("DELETE FROM audit_event").await;
        world.behind_its_back("DELETE FROM audit_checkpoint").await;
        world.behind_its_back("DELETE FROM audit_sequence").await;
        let (code, output, _) = world.command(&format!("audit verify --all{with_kept}"));
        assert_eq!(code, 1, "{output}");
        assert!(output.contains("not intact: event 1"), "{output}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_8_checkpoints_are_signed_by_number_and_by_time() {
    let world = World::new().await;
    let acme = world.organization("acme").await.id.to_string();
    write_events(&world, CHECKPOINT_EVENTS).await;
    let numbers = |all: &[doorward::audit_chain::Checkpoint]| -> Vec<i64> {
        all.iter().map(|checkpoint| checkpoint.sequence).collect()
    };
    let signed = world.app.store.reader().checkpoints_after(&acme, 0, 100).await.unwrap();
    assert_eq!(numbers(&signed), [1, CHECKPOINT_EVENTS]);
    world.pass(Lifetime::from_millis(CHECKPOINT_AFTER.millis() - 1));
    write_events(&world, 1).await;
    world.pass(Lifetime::from_millis(1));
    write_events(&world, 2).await;
    let signed = world.app.store.reader().checkpoints_after(&acme, 0, 100).await.unwrap();
    assert_eq!(numbers(&signed), [1, CHECKPOINT_EVENTS, CHECKPOINT_EVENTS + 3]);
    assert_eq!(verify(&world, ""), Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_8_events_from_before_the_chain_are_bound_by_its_first_one() {
    for on in On::all() {
        let world = world_with_events(on, 5).await;
        // As a database of a version without a chain, whose operator makes the first key.
        for statement in WITHOUT_A_CHAIN {
            world.behind_its_back(statement).await;
        }
        world.good_command("audit new-key --lost").await;
        let upgraded = world.other_node().await;
        let log = world.audit("acme").await;
        let mark: &AuditRecord = log.last().unwrap();
        assert_eq!((mark.sequence, &*mark.action), (6, "audit.chain_start"));
        assert_eq!(mark.details["events"], "5");
        assert_eq!(verify(&world, ""), Ok(()));

        let mut tx = upgraded.begin().await.unwrap();
        assert_eq!(tx.audit(leaves(&world).await, NOW).await.unwrap(), 7);
        tx.commit(NOW).await.unwrap();
        assert_eq!(verify(&world, ""), Ok(()));

        world.behind_its_back("UPDATE audit_event SET actor_name = 'eve' WHERE sequence = 2").await;
        assert_eq!(verify(&world, ""), wrong(5, "before_the_chain"), "{on:?}");
        world.behind_its_back("UPDATE audit_event SET actor_name = 'ada' WHERE sequence = 2").await;
        world.behind_its_back("DELETE FROM audit_event WHERE sequence = 6").await;
        assert_eq!(verify(&world, ""), wrong(6, "missing"), "{on:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t12_whoever_deletes_the_keys_gets_no_new_ones() {
    let world = world_with_events(On::Sqlite, 3).await;
    world.behind_its_back("DELETE FROM audit_key").await;
    let store = Store::open_sqlite(&world.folder().join("doorward.db"), Synchronous::Normal).await.unwrap();
    let sealing = Sealing::open(&world.folder().join("master.key")).unwrap();
    let refused = store.open_audit(&sealing, &world.app.random, NOW).await;
    assert!(matches!(refused, Err(StoreError::AuditKeysMissing(_))), "{refused:?}");
    let (code, _, errors) = world.command("audit verify acme");
    assert_eq!(code, 1);
    assert!(errors.contains("audit.keys_missing") && errors.contains("is not in audit_key"), "{errors}");
    // Nor is anything done that could not be written down, by a service that runs either.
    let (code, _, errors) = world.command("resource set acme data --public");
    assert_eq!((code, errors.contains("audit.keys_missing")), (1, true), "{errors}");
    let mut tx = world.app.store.begin().await.unwrap();
    let refused = tx.audit(leaves(&world).await, NOW).await;
    assert!(matches!(refused, Err(StoreError::AuditKeysMissing(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t12_without_the_mark_nothing_starts_whichever_keys_are_left() {
    let newest = "DELETE FROM audit_key WHERE created_at = (SELECT MAX(created_at) FROM (SELECT created_at FROM audit_key) k)";
    for on in On::all() {
        for takes_newest in [false, true] {
            let world = world_with_events(on, 3).await;
            world.good_command("audit new-key").await;
            write_events(&world, 1).await;
            world.behind_its_back("DELETE FROM audit_mark").await;
            if takes_newest {
                world.behind_its_back(newest).await;
            }
            let (code, _, errors) = world.command("resource set acme data --public");
            assert!(code == 1 && errors.contains("audit.keys_missing"), "{on:?} {takes_newest}: {errors}");
            assert_eq!(world.count("SELECT COUNT(*) AS n FROM audit_mark").await, 0, "{on:?} {takes_newest}");
            let mut tx = world.app.store.begin().await.unwrap();
            let written = tx.audit(leaves(&world).await, NOW).await;
            drop(tx);
            // A node that runs has keys of its own; it looks where the newest is another one.
            let is_refused = matches!(written, Err(StoreError::AuditKeysMissing(_)));
            assert_eq!(is_refused, takes_newest, "{on:?}: {written:?}");

            world.good_command("audit new-key --lost").await;
            world.good_command("resource set acme data --public").await;
            let (code, output, errors) = world.command("audit verify acme");
            assert!(code == 0 && output.contains("without codes"), "{on:?} {takes_newest}: {output}{errors}");
        }
    }
}

/// The database as it would be had there never been a chain.
const WITHOUT_A_CHAIN: &[&str] = &[
    "UPDATE audit_event SET hash = NULL, mac = NULL",
    "UPDATE audit_sequence SET hash = NULL, checkpoint_at = 0",
    "DELETE FROM audit_checkpoint",
    "DELETE FROM audit_key",
    "DELETE FROM audit_mark",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t12_no_key_is_made_behind_a_past_however_it_was_stripped() {
    let emptied: &[&str] =
        &["DELETE FROM audit_event", "DELETE FROM audit_sequence", "DELETE FROM key_check"];
    for on in On::all() {
        for more in [&[][..], emptied] {
            let world = world_with_events(on, 3).await;
            for statement in WITHOUT_A_CHAIN.iter().chain(more) {
                world.behind_its_back(statement).await;
            }
            let (code, _, errors) = world.command("resource set acme data --public");
            assert!(code == 1 && errors.contains("audit.keys_missing"), "{on:?} {more:?}: {errors}");
            assert_eq!(world.count("SELECT COUNT(*) AS n FROM audit_key").await, 0, "{on:?} {more:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t12_a_log_that_was_taken_away_whole_is_missed() {
    let taken: &[(&[&str], &str)] = &[
        (&["DELETE FROM audit_sequence WHERE scope <> 'system'"], "beside_the_sequence"),
        (
            &[
                "DELETE FROM audit_event WHERE scope <> 'system'",
                "DELETE FROM audit_sequence WHERE scope <> 'system'",
            ],
            "missing_at_end",
        ),
        (
            &[
                "DELETE FROM audit_event WHERE scope <> 'system'",
                "DELETE FROM audit_sequence WHERE scope <> 'system'",
                "DELETE FROM audit_checkpoint WHERE scope <> 'system'",
            ],
            "missing_at_end",
        ),
    ];
    for on in On::all() {
        for (statements, reason) in taken {
            let world = world_with_events(on, 3).await;
            let (code, output, _) = world.command("audit verify --all");
            assert_eq!((code, output.contains("not intact")), (0, false), "{on:?} {output}");
            for statement in *statements {
                world.behind_its_back(statement).await;
            }
            let (code, output, _) = world.command("audit verify --all --json");
            let acme =
                output.lines().find(|line| line.contains("\"acme\"")).unwrap_or_else(|| panic!("{output}"));
            assert!(code == 1 && acme.contains(reason), "{on:?} {statements:?}: {acme}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_that_start_at_once_make_one_key() {
    for on in On::all() {
        let folder = TempDir::new();
        let (first, url) = crate::harness::fresh_database(on, &folder).await;
        let second = match on {
            On::Sqlite => Store::open_sqlite(&folder.join("doorward.db"), Synchronous::Normal).await.unwrap(),
            On::Postgres => Store::open_postgres(&url).await.unwrap(),
        };
        drop(
            Sealing::open_or_create(&folder.join("master.key"), &doorward::random::Random::seeded(8))
                .unwrap(),
        );
        tokio::join!(open_audit(&first, &folder), open_audit(&second, &folder));
        assert_eq!(first.audit_keys().unwrap().id(), second.audit_keys().unwrap().id(), "{on:?}");
    }
}

/// What `audit verify acme --json` says.
fn verified(world: &World, more: &str) -> Value {
    let (_, output, errors) = world.command(&format!("audit verify acme --json{more}"));
    serde_json::from_str(output.trim()).unwrap_or_else(|_| panic!("{output}{errors}"))
}

/// Writes what `audit checkpoint --all` says now; the option that gives it to `audit verify`.
fn keep_checkpoints(world: &World) -> String {
    let (_, kept, _) = world.command("audit checkpoint --all");
    let file = world.folder().join("kept.jsonl");
    std::fs::write(&file, kept).unwrap();
    format!(" --checkpoint {}", file.display())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_audit_key_takes_over_under_a_running_service_and_both_check() {
    for on in On::all() {
        let world = world_with_events(on, 3).await;
        let kept = keep_checkpoints(&world);
        let first = world.app.store.audit_keys().unwrap().id().to_owned();
        world.good_command("audit new-key").await;
        write_events(&world, 2).await;
        let second = world.app.store.audit_keys().unwrap().id().to_owned();
        assert_ne!(first, second, "{on:?}: the running node went over to it");
        let log = world.audit("acme").await;
        let by = |key: &str| log.iter().filter(|event| event.mac.as_ref().unwrap().contains(key)).count();
        assert_eq!((by(&first), by(&second)), (2, 2), "its making is left out");
        assert_eq!(verify(&world, &kept), Ok(()), "{on:?}");
        assert_eq!(verified(&world, &kept)["unproved_until"], Value::Null);
        let told = world.count("SELECT COUNT(*) AS n FROM audit_event WHERE action = 'audit.key_new'").await;
        assert_eq!(told, 2);
        // One of the two taken away is missed as well.
        let sql = "DELETE FROM audit_key WHERE created_at = (SELECT MIN(created_at) FROM audit_key)";
        world.behind_its_back(sql).await;
        let (_, _, errors) = world.command("audit verify acme");
        assert!(errors.contains("audit.keys_missing") && errors.contains(&first), "{errors}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t12_after_lost_keys_an_operator_goes_on_and_verify_says_what_is_not_proved_any_more() {
    for on in On::all() {
        // With the mark, old signatures are checked still; without it, hashes alone.
        for gone in [&["DELETE FROM audit_key"][..], &["DELETE FROM audit_key", "DELETE FROM audit_mark"]] {
            let world = world_with_events(on, 3).await;
            let kept = keep_checkpoints(&world);
            for statement in gone {
                world.behind_its_back(statement).await;
            }
            let (code, _, errors) = world.command("audit new-key");
            assert!(code == 1 && errors.contains("audit.keys_missing"), "not without the word: {errors}");
            let told = world.good_command("audit new-key --lost").await;
            assert!(told.contains("no code of what was written before can be trusted"), "{told}");
            // The service that ran all the time goes on with the new key.
            write_events(&world, 2).await;
            assert_eq!(verify(&world, ""), Ok(()), "{on:?} {gone:?}");
            let (code, output, _) = world.command("audit verify --all");
            assert_eq!((code, output.matches("up to ").count()), (0, 3), "{output}");
            let found = verified(&world, &kept);
            assert_eq!((found["intact"].clone(), found["unproved_until"].clone()), (json!(true), json!(3)));
            let log = world.audit("acme").await;
            let mark = log.iter().find(|event| event.action == "audit.key_lost").unwrap();
            assert_eq!((mark.sequence, mark.details["events"].as_str()), (4, Some("3")));
            assert_eq!(mark.actor_kind, "operator");

            // From here on the past is fixed, proved or not.
            world.behind_its_back("UPDATE audit_event SET actor_name = 'eve' WHERE sequence = 2").await;
            chain_anew_up_to(&world, 3).await;
            assert_eq!(verify(&world, ""), wrong(1, "not_ours"), "nothing explains them: {on:?} {gone:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t12_what_else_a_writer_of_the_database_does_is_seen_or_needs_a_kept_checkpoint() {
    // Statements, what is found by the database alone, and with a checkpoint that was kept at event 7.
    type Found = Result<(), (i64, String)>;
    let deeds: &[(&[&str], Found, Found)] = &[
        // Rows of two organizations change places.
        (
            &[
                "UPDATE audit_event SET sequence = -1 WHERE sequence = 1 AND scope = (SELECT id FROM organization WHERE name_key = 'acme')",
                "UPDATE audit_event SET scope = (SELECT id FROM organization WHERE name_key = 'acme') \
                 WHERE sequence = 1 AND scope = (SELECT id FROM organization WHERE name_key = 'globex')",
                "UPDATE audit_event SET sequence = 1, scope = (SELECT id FROM organization WHERE name_key = 'globex') \
                 WHERE sequence = -1",
            ],
            wrong(1, "changed"),
            wrong(1, "changed"),
        ),
        // The end is cut off and the count set back: what an older copy of the rows, put back, looks like too.
        (
            &[
                "DELETE FROM audit_event WHERE sequence > 5",
                "UPDATE audit_sequence SET n = 5, hash = (SELECT hash FROM audit_event WHERE sequence = 5) WHERE n = 7",
            ],
            Ok(()),
            wrong(6, "missing_at_end"),
        ),
        // The whole log is gone, and what happens next begins a new one.
        (
            &[
                "DELETE FROM audit_event WHERE scope <> 'system'",
                "DELETE FROM audit_sequence WHERE scope <> 'system'",
                "DELETE FROM audit_checkpoint WHERE scope <> 'system'",
            ],
            wrong(1, "not_the_beginning"),
            wrong(1, "not_the_beginning"),
        ),
        // A checkpoint.
        (&["DELETE FROM audit_checkpoint"], wrong(1, "checkpoint_missing"), wrong(1, "checkpoint_missing")),
    ];
    for on in On::all() {
        for (statements, alone, with_kept) in deeds {
            let world = world_with_events(on, 7).await;
            let kept = keep_checkpoints(&world);
            for statement in *statements {
                world.behind_its_back(statement).await;
            }
            if *alone == wrong(1, "not_the_beginning") {
                write_events(&world, 1).await;
            }
            assert_eq!(verify(&world, ""), *alone, "{on:?} {statements:?}");
            assert_eq!(verify(&world, &kept), *with_kept, "{on:?} {statements:?}");
            // Going on after a cut makes another past than the one that was kept.
            if alone.is_ok() {
                world.pass(Lifetime::from_millis(1));
                write_events(&world, 4).await;
                assert_eq!(verify(&world, ""), Ok(()));
                assert_eq!(verify(&world, &kept), wrong(7, "other_than_checkpoint"), "{on:?}");
            }
        }
        // The system's own log.
        let world = world_with_events(on, 2).await;
        for table in ["audit_event", "audit_sequence", "audit_checkpoint"] {
            let sql = match table {
                "audit_event" => "DELETE FROM audit_event WHERE scope = 'system'",
                "audit_sequence" => "DELETE FROM audit_sequence WHERE scope = 'system'",
                _ => "DELETE FROM audit_checkpoint WHERE scope = 'system'",
            };
            world.behind_its_back(sql).await;
        }
        let (code, output, _) = world.command("audit verify --all");
        assert!(code == 1 && output.contains("system (system): not intact: event 1"), "{on:?} {output}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f30_a_restore_is_told_in_each_organizations_log_and_explains_the_gap() {
    for on in On::all() {
        let world = world_with_events(on, 3).await;
        let file = world.folder().join("doorward.backup");
        world.good_command(&format!("backup {}", file.display())).await;
        write_events(&world, 4).await;
        let kept = keep_checkpoints(&world);
        world.good_command("audit new-key").await;
        write_events(&world, 1).await;
        let newer = world.app.store.audit_keys().unwrap().id().to_owned();
        // Keys that sign for applications: those that the node knows are not in the backup.
        let jwks = format!("{}/.well-known/jwks.json", world.base);
        world.app.assertions.prepare(&world.app, world.app.clock.now()).await.unwrap();
        let before = Browser::new().get(&jwks).await.body;
        world.good_command(&format!("restore {} --replace", file.display())).await;
        world.app.store.read_changes(world.app.clock.now()).await.unwrap();
        let after = Browser::new().get(&jwks).await.body;
        assert!(before.contains("kid") && !after.contains("kid"), "{on:?}: {before} {after}");
        // The service has the newer key in memory, and writes with the one of the store.
        write_events(&world, 4).await;
        assert_ne!(world.app.store.audit_keys().unwrap().id(), newer, "{on:?}");
        let log = world.audit("acme").await;
        let told = log.iter().find(|event| event.action == "store.restore").unwrap();
        assert!(told.sequence == 4 && told.details.contains_key("backup_made_at"), "{told:?}");
        assert_eq!(verify(&world, ""), Ok(()), "{on:?}");
        let found = verified(&world, &kept);
        assert_eq!(found["reason"], "other_than_checkpoint", "{on:?} {found}");
        assert_eq!((found["first_wrong"].as_i64(), found["restored_at"].as_i64()), (Some(7), Some(4)));
        let (_, output, _) = world.command(&format!("audit verify acme{kept}"));
        assert!(output.contains("event 4 tells of a restore"), "{output}");
    }
}

// === Exported files ===

/// `audit verify --file`: `Ok`, or the first wrong number and what is wrong.
fn verify_file(world: &World, text: &str, more: &str) -> Result<(), (i64, String)> {
    let file = world.folder().join("exported");
    std::fs::write(&file, text).unwrap();
    let (_, key, _) = world.command("audit public-key");
    let line =
        format!("audit verify acme --file {} --public-key {}{more} --json", file.display(), key.trim());
    let (code, output, errors) = world.command(&line);
    if code == 0 {
        return Ok(());
    }
    if errors.contains("audit.file_unreadable") {
        return Err((0, errors));
    }
    assert!(errors.contains("audit.chain_broken"), "{errors}");
    let line: Value = serde_json::from_str(output.trim()).unwrap();
    Err((line["first_wrong"].as_i64().unwrap(), line["reason"].as_str().unwrap().to_owned()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exported_file_is_checked_with_the_public_key_alone() {
    let world = world_with_events(On::Sqlite, 7).await;
    let (code, exported, _) = world.command("audit export acme");
    assert_eq!((code, exported.lines().count()), (0, 8));
    assert_eq!(verify_file(&world, &exported, ""), Ok(()));
    let ada = world.browser_of("ada").await;
    let log = format!("{}/organizations/acme/settings/audit-log/download", world.base);
    let downloaded = ada.get(&log).await.body;
    assert_eq!(verify_file(&world, &downloaded, ""), Ok(()), "{downloaded}");

    let lines: Vec<&str> = exported.lines().collect();
    let without = |n: usize| {
        let mut left = lines.clone();
        left.remove(n);
        left.join("\n")
    };
    assert_eq!(verify_file(&world, &exported.replace("request 4", "request 5"), ""), wrong(4, "changed"));
    assert_eq!(verify_file(&world, &without(3), ""), wrong(4, "missing"));
    assert_eq!(verify_file(&world, &without(6), ""), wrong(7, "missing_at_end"));
    let swapped =
        exported.replace("\"sequence\":4", "\"sequence\":0").replace("\"sequence\":5", "\"sequence\":4");
    assert_eq!(
        verify_file(&world, &swapped.replace("\"sequence\":0", "\"sequence\":5"), ""),
        wrong(4, "out_of_order")
    );
    let twice = exported.replace(lines[3], &format!("{}\n{}", lines[3], lines[3]));
    assert_eq!(verify_file(&world, &twice, ""), wrong(4, "twice"));
    // Cut off, or no export at all.
    for (text, why) in
        [(without(7), "cut off"), (String::new(), "no event"), ("{}".to_owned(), "not an event")]
    {
        let (_, told) = verify_file(&world, &text, "").unwrap_err();
        assert!(told.contains(why), "{told}");
    }
    // The hashes made anew fit one another, but not what was signed.
    let mut forged = String::new();
    let mut previous: Option<String> = None;
    for line in &lines[..7] {
        let mut json: Value = serde_json::from_str(&line.replace("request 4", "request 5")).unwrap();
        let line = json.to_string();
        let (_, scope, mut event) = doorward::audit_export::event_from_line(&line).unwrap();
        event.hash = None;
        let hash = event_hash(&scope, &event, previous.as_deref());
        json["hash"] = json!(hash);
        previous = Some(hash);
        writeln!(forged, "{json}").unwrap();
    }
    forged.push_str(lines[7]);
    assert_eq!(verify_file(&world, &forged, ""), wrong(7, "beside_the_sequence"));
    // Signed by somebody else.
    let mut end: Value = serde_json::from_str(lines[7]).unwrap();
    end["checkpoint"]["hash"] = json!(previous);
    let resigned = format!("{}\n{end}", forged.lines().take(7).collect::<Vec<_>>().join("\n"));
    assert_eq!(verify_file(&world, &resigned, ""), wrong(7, "checkpoint_not_signed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_systems_own_log_is_exported_and_checked_as_any_other() {
    for on in On::all() {
        let world = World::with(Options { on, ..Options::default() }).await;
        give_password(&world, "mira").await;
        sign_in(&world, &Browser::new(), "mira", "a wrong one, a wrong one").await;
        all_noted(&world).await;
        let (code, exported, errors) = world.command("audit export --system");
        assert_eq!((code, errors.as_str()), (0, ""), "{on:?}: {exported}");
        let first: Value = serde_json::from_str(exported.lines().next().unwrap()).unwrap();
        assert_eq!((&first["organization"], &first["scope"]), (&json!("system"), &json!("system")));
        assert_eq!((&first["sequence"], &first["action"]), (&json!(1), &json!("audit.key_new")));
        assert!(exported.contains("\"account.sign_in_failed\""), "{on:?}: {exported}");

        let file = world.folder().join("system.jsonl");
        std::fs::write(&file, &exported).unwrap();
        let (_, key, _) = world.command("audit public-key");
        let line = format!("audit verify system --file {} --public-key {}", file.display(), key.trim());
        let (code, told, _) = world.command(&line);
        assert!(code == 0 && told.contains("system (system): intact"), "{on:?}: {told}");

        // Reading it is told in it, and in no organization's.
        let events = world.app.store.reader().audit_of_scope_after("system", 0, 1000).await.unwrap();
        let last = events.last().unwrap();
        let count = (exported.lines().count() - 1).to_string();
        assert_eq!((last.action.as_str(), &last.details["count"]), ("audit.export", &json!(count)));
        assert_eq!(last.actor_kind, "operator");
        for wrong in ["audit export", "audit export acme --system"] {
            assert_eq!(world.command(wrong).0, 2, "{wrong}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_export_is_held_against_an_earlier_checkpoint_without_the_database() {
    let world = world_with_events(On::Sqlite, 4).await;
    let (_, kept, _) = world.command("audit checkpoint acme");
    let file = world.folder().join("kept.jsonl");
    std::fs::write(&file, kept).unwrap();
    let with_kept = format!(" --checkpoint {}", file.display());
    write_events(&world, 3).await;
    let (_, exported, _) = world.command("audit export acme");
    assert_eq!(verify_file(&world, &exported, &with_kept), Ok(()));
    world.behind_its_back("UPDATE audit_event SET actor_name = 'eve' WHERE sequence = 2").await;
    let (code, exported, errors) = world.command("audit export acme");
    assert_eq!(code, 1, "a log that does not fit is written out but not signed");
    assert!(errors.contains("event 2 was changed"), "{errors}");
    let end: Value = serde_json::from_str(exported.lines().last().unwrap()).unwrap();
    assert_eq!(end, json!({ "checkpoint": null, "wrong": { "sequence": 2, "reason": "changed" } }));
    assert_eq!(verify_file(&world, &exported, &with_kept), wrong(2, "changed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t12_a_file_of_another_organization_or_with_anything_that_no_hash_is_over_is_refused() {
    let world = world_with_events(On::Sqlite, 5).await;
    let kept = keep_checkpoints(&world);
    let (_, exported, _) = world.command("audit export acme");
    let (_, of_globex, _) = world.command("audit export globex");
    assert_eq!(verify_file(&world, &exported, &kept), Ok(()));
    let refused = |text: &str, more: &str, why: &str| {
        let (number, told) = verify_file(&world, text, more).unwrap_err();
        assert!(number == 0 && told.contains(why), "{why}: {number} {told}");
    };
    refused(&of_globex, "", "this is the log of globex");
    // The name is only written beside the log: what was signed is the id.
    let renamed = of_globex.replace("\"globex\"", "\"acme\"");
    let (_, only_acme, _) = world.command("audit checkpoint acme");
    let file = world.folder().join("acme.jsonl");
    std::fs::write(&file, only_acme).unwrap();
    refused(&renamed, &format!(" --checkpoint {}", file.display()), "it holds no checkpoint of acme");

    let line = exported.lines().nth(2).unwrap();
    let changed = |from: &str, to: &str| {
        assert!(line.contains(from), "{line}");
        exported.replace(line, &line.replace(from, to))
    };
    for (from, to) in [
        ("\"sequence\":3", "\"sequence\":3,\"approved_by\":\"mira\""),
        ("\"sequence\":3", "\"sequence\":3,\"sequence\":3"),
        ("\"kind\":\"account\"", "\"kind\":\"account\",\"title\":\"boss\""),
        ("\"sequence\":3", "\"sequence\": 3"),
        (".000Z\"", ".000999Z\""),
    ] {
        refused(&changed(from, to), "", "line 3: not as Doorward writes it");
    }
    // An address that is no text would be read as none.
    let system = doorward::audit_export::event_from_line(line).unwrap().2;
    assert_eq!(system.address.as_deref(), Some("192.0.2.0/24"));
    refused(
        &changed("\"address\":\"192.0.2.0/24\"", "\"address\":5"),
        "",
        "line 3: not as Doorward writes it",
    );
    let end = exported.lines().last().unwrap();
    let with_more = end.replace("\"version\":1", "\"version\":1,\"note\":1");
    refused(&exported.replace(end, &with_more), "", "not as Doorward writes it");
    refused("hello", "", "line 1: not JSON");
    refused("\u{0}\u{1}", "", "line 1: not JSON");
    refused(&format!("{exported}{line}\n"), "", "something follows the checkpoint");
    // A list of checkpoints that holds something else is refused too, not passed over.
    std::fs::write(&file, "{\"checkpint\":{}}\n").unwrap();
    refused(&exported, &format!(" --checkpoint {}", file.display()), "neither an event nor a checkpoint");
}

/// Counts what is written, and looks at this process's memory now and then.
struct Scale {
    bytes: usize,
    /// After the first fifth: caches are full by then, so what a long log costs more is the log's.
    resident_early: u64,
    resident_max: u64,
}

/// How much of the whole is early.
const EARLY: usize = 18_000_000;

impl Scale {
    const fn new() -> Self {
        Self { bytes: 0, resident_early: 0, resident_max: 0 }
    }
}

impl std::io::Write for Scale {
    fn write(&mut self, piece: &[u8]) -> std::io::Result<usize> {
        if self.bytes / 1_000_000 != (self.bytes + piece.len()) / 1_000_000 {
            self.resident_max = self.resident_max.max(resident());
            if self.bytes < EARLY {
                self.resident_early = self.resident_max;
            }
        }
        self.bytes += piece.len();
        Ok(piece.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// This process's memory in bytes.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes 200,000 events, and measures the memory of the whole process: run it alone"]
async fn a_log_of_200_000_events_is_downloaded_and_exported_in_constant_memory() {
    for on in On::all() {
        a_long_log_needs_no_memory(on).await;
    }
}

async fn a_long_log_needs_no_memory(on: On) {
    use std::io::{Read as _, Write as _};
    let world = World::with(Options { on, ..Options::default() }).await;
    for _ in 0..40 {
        write_events(&world, 5000).await;
    }
    let ada = world.browser_of("ada").await;
    let cookie = ada.cookie("localhost", "doorward-session").unwrap();
    let downloaded = tokio::task::block_in_place(|| {
        let address = world.base.strip_prefix("http://").unwrap();
        let mut stream = std::net::TcpStream::connect(address.replace("localhost", "127.0.0.1")).unwrap();
        let path = "/organizations/acme/settings/audit-log/download";
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nCookie: doorward-session={cookie}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let (mut scale, mut piece) = (Scale::new(), [0; 8 * 1024]);
        loop {
            match stream.read(&mut piece).unwrap() {
                0 => return scale,
                read => scale.write_all(&piece[..read]).unwrap(),
            }
        }
    });
    let exported = world.command_into("audit export acme", Scale::new());
    for (what, scale) in [("download", &downloaded), ("export", &exported)] {
        let grown = scale.resident_max.saturating_sub(scale.resident_early) / 1024;
        let told = format!("{on:?}, {what}: {} MB, memory grew by {grown} KiB\n", scale.bytes / 1_000_000);
        std::io::stderr().write_all(told.as_bytes()).unwrap();
        assert!(scale.bytes > 80_000_000, "{what}: {}", scale.bytes);
        assert!(grown < 8 * 1024, "{what}: {grown} KiB");
    }
}

/// A command's output; once the first of it comes, an operator makes another audit key beside it.
struct NewKeyMeanwhile<'a> {
    world: &'a World,
    told: Vec<u8>,
}

impl std::io::Write for NewKeyMeanwhile<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.told.is_empty() {
            // On a thread of its own: this one runs the command whose output it is.
            let make = || self.world.command("audit new-key");
            let (code, _, errors) = std::thread::scope(|scope| scope.spawn(make).join().unwrap());
            assert_eq!((code, errors.as_str()), (0, ""));
        }
        self.told.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_made_while_the_logs_are_verified_is_no_strangers() {
    for on in On::all() {
        let world = world_with_events(on, 3).await;
        // Organizations first, the system's log last: its newest event, that the key was made, has that key's code.
        let output = NewKeyMeanwhile { world: &world, told: Vec::new() };
        let told = String::from_utf8(world.command_into("audit verify --all", output).told).unwrap();
        assert_eq!((told.lines().count(), told.matches(": intact, ").count()), (3, 3), "{on:?}: {told}");
        assert!(told.lines().last().unwrap().contains("(system): intact, 2 events"), "{on:?}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_written_to_while_it_is_verified_is_intact() {
    for on in On::all() {
        let world = world_with_events(on, 1200).await;
        let (store, entry) = (world.app.store.clone(), leaves(&world).await);
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let writer = tokio::spawn(async move {
            let mut at = NOW;
            // An end, so that the walk has one too.
            for _ in 0..1500 {
                if *stopped.borrow() {
                    break;
                }
                // So much later that each has a checkpoint.
                at = at.plus(CHECKPOINT_AFTER);
                let mut tx = store.begin().await.unwrap();
                tx.audit(entry.clone(), at).await.unwrap();
                tx.commit(NOW).await.unwrap();
            }
        });
        for _ in 0..8 {
            let (code, told, errors) = world.operate("audit verify acme").await;
            assert!(code == 0 && told.contains("intact"), "{on:?}: {told} {errors}");
        }
        stop.send_replace(true);
        writer.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_says_that_a_new_account_is_an_operators() {
    let world = World::new().await;
    let link = make_operator_link(&world.app).await.unwrap().unwrap();
    let (_, token) = link.split_once("token=").unwrap();
    let (name, email, password) = ("olga", "olga@acme.example", "three quiet lanterns");
    let fields = [("token", token), ("name", name), ("email", email), ("password", password)];
    let page = Browser::new().post(&format!("{}/login/first", world.base), &fields).await;
    assert_eq!(page.status, 303, "{}", page.text());
    let events = world.app.store.reader().audit_of_scope_after("system", 0, 1000).await.unwrap();
    let made = events.iter().find(|event| event.action == "account.create").unwrap();
    assert_eq!((&made.details["name"], &made.details["operator"]), (&json!("olga"), &json!("true")));
}

// === Failed sign-ins ===

async fn failures(world: &World) -> Vec<(String, String)> {
    let events = world.app.store.reader().audit_of_scope_after("system", 0, 1000).await.unwrap();
    let failed = events.into_iter().filter(|event| event.action == "account.sign_in_failed");
    failed
        .map(|event| {
            let text = |name: &str| event.details[name].as_str().unwrap().to_owned();
            (text("name"), text("count"))
        })
        .collect()
}

/// Of each event of a failed trip in acme's log: its code, or how many it counts.
async fn failed_trips(world: &World) -> Vec<String> {
    let failed = world.audit("acme").await.into_iter().filter(|event| event.action == "org.sso_login_failed");
    failed
        .map(|event| {
            let text = |name: &str| event.details.get(name).and_then(Value::as_str).map(str::to_owned);
            text("count")
                .map(|count| format!("{} {count}", text("account").unwrap()))
                .or(text("code"))
                .unwrap()
        })
        .collect()
}

/// So many trips of mira that turn back at the provider.
async fn turn_back(world: &World, mira: &Browser, count: usize) {
    for _ in 0..count {
        let provider = world.start_sso(mira, "acme", "/").await;
        let (_, state) = provider.split_once("state=").unwrap();
        let state = state.split('&').next().unwrap();
        let (base, issuer) = (&world.base, world.idp.issuer());
        let back =
            format!("{base}/organizations/acme/oidc/consume?error=access_denied&state={state}&iss={issuer}");
        let page = mira.get(&back).await;
        assert_eq!(page.code().as_deref(), Some("oidc.cancelled"), "{}", page.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_9_failed_trips_are_written_down_by_the_hour_and_not_by_the_trip() {
    for on in On::all() {
        let world = World::with(Options { on, ..Options::default() }).await;
        world.enable_sso("acme", "ada").await;
        let mira = world.browser_of("mira").await;
        turn_back(&world, &mira, 8).await;
        let code = "oidc.cancelled".to_owned();
        let mut told = vec![code.clone(); 5];
        assert_eq!(failed_trips(&world).await, told, "{on:?}");
        // The hour is over: how many came after the first five.
        world.app.store.clean_up(world.app.clock.now()).await.unwrap();
        assert_eq!(failed_trips(&world).await, told);
        world.pass(Lifetime::from_hours(1));
        world.app.store.clean_up(world.app.clock.now()).await.unwrap();
        told.push("mira 3".to_owned());
        assert_eq!(failed_trips(&world).await, told, "{on:?}");
        assert_eq!(world.count("SELECT COUNT(*) AS n FROM counted_event").await, 0);

        // The next failure tells of an hour that is over, too, and the end of the account of the one that runs.
        turn_back(&world, &mira, 7).await;
        world.pass(Lifetime::from_hours(1));
        turn_back(&world, &mira, 6).await;
        told.extend(vec![code.clone(); 5]);
        told.push("mira 2".to_owned());
        told.extend(vec![code; 5]);
        assert_eq!(failed_trips(&world).await, told, "{on:?}");
        world.good_command("account delete mira").await;
        told.push("mira 1".to_owned());
        assert_eq!(failed_trips(&world).await, told, "{on:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trip_that_ends_before_somebody_else_still_says_whose_it_was() {
    for on in On::all() {
        let world = World::with(Options { on, ..Options::default() }).await;
        let (ada, _) = world.enable_sso("acme", "ada").await;
        let mira = world.browser_of("mira").await;
        world.idp.signs_in("mira");
        let sign_in = world.returning(&mira, "acme").await;
        let test = world.returning_from_test(&ada, "acme").await;
        for (browser, callback, account, action) in
            [(&mira, sign_in, "mira", "org.sso_login_failed"), (&ada, test, "ada", "org.settings.sso.test")]
        {
            // The browser is the one that set out; who was signed in is not any more.
            browser.lose_cookie("localhost", "doorward-session");
            let page = browser.get(callback.as_str()).await;
            assert_eq!(page.code().as_deref(), Some("sso.attempt_superseded"), "{}", page.text());
            let last = world.audit("acme").await.pop().unwrap();
            assert_eq!((last.action.as_str(), last.actor_kind.as_str()), (action, "system"), "{on:?}");
            assert_eq!(last.details.get("account"), Some(&json!(account)), "{on:?} {action}");
        }
    }
}

/// Who is named by the provider as one person and then as another is asked each time whether the admins shall decide.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_9_questions_to_the_admins_are_written_down_by_the_hour_and_not_by_the_question() {
    for on in On::all() {
        let world = World::with(Options { on, ..Options::default() }).await;
        let (ada, _) = world.enable_sso("acme", "ada").await;
        let mira = world.browser_of("mira").await;
        for name in ["one", "two"] {
            world.idp.add_person(Person::new(name, name, &format!("{name}@corp.example")));
        }
        let asked = async || {
            let log = world.audit("acme").await.into_iter();
            let asked = log.filter(|event| event.action == "org.sso_link.request");
            asked.map(|event| event.details.get("count").cloned()).collect::<Vec<_>>()
        };
        for name in ["one", "two"].into_iter().cycle().take(8) {
            world.idp.signs_in(name);
            let page = world.visit(&mira, &format!("{}/organizations/acme/sso", world.base)).await;
            let page = mira.submit(page.form("/sso/link")).await;
            assert_eq!(page.status, 303, "{}", page.text());
        }
        assert_eq!(asked().await, [const { None }; 5], "{on:?}");
        let members = ada.get(&format!("{}/organizations/acme/settings/members", world.base)).await;
        assert!(members.says("two@corp.example"), "the newest is asked all the same: {}", members.text());
        world.pass(Lifetime::from_hours(1));
        world.app.store.clean_up(world.app.clock.now()).await.unwrap();
        assert_eq!(asked().await.pop().flatten(), Some("3".into()), "{on:?}: none is lost");
    }
}

/// Wrong passwords are written down after their answer: waits until none is on the way.
async fn all_noted(world: &World) {
    let all = u32::try_from(doorward::app::NOTES_OF_FAILURES_MAX).unwrap();
    let places = world.app.notes_of_failures.acquire_many(all).await.unwrap();
    drop(places);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_9_wrong_passwords_are_written_down_by_the_hour_and_not_by_the_guess() {
    for on in On::all() {
        let world = World::with(Options { on, ..Options::default() }).await;
        give_password(&world, "mira").await;
        for _ in 0..4 {
            sign_in(&world, &Browser::new(), "mira", "a wrong one, a wrong one").await;
            sign_in(&world, &Browser::new(), "nobody", "a wrong one, a wrong one").await;
            all_noted(&world).await;
        }
        let one = |count: &str| ("mira".to_owned(), count.to_owned());
        assert_eq!(failures(&world).await, [one("1")], "{on:?}");
        // The hour is over: how many came after the first.
        world.app.store.clean_up(world.app.clock.now()).await.unwrap();
        assert_eq!(failures(&world).await, [one("1")]);
        world.pass(Lifetime::from_hours(1));
        world.app.store.clean_up(world.app.clock.now()).await.unwrap();
        assert_eq!(failures(&world).await, [one("1"), one("3")]);
        assert_eq!(world.count("SELECT COUNT(*) AS n FROM sign_in_failure").await, 0);

        // A day of guesses, a minute apart: two events an hour at most.
        let before = failures(&world).await.len();
        let mira = world.account("mira").await;
        for _ in 0..24 * 60 {
            world.pass(Lifetime::from_minutes(1));
            let now = world.app.clock.now();
            let mut tx = world.app.store.begin().await.unwrap();
            let entry = AuditEntry {
                organization: None,
                action: AuditAction::AccountSignInFailed,
                actor: Actor::System,
                details: vec![("name", "mira".to_owned())],
                address: None,
                request_id: None,
            };
            tx.note_sign_in_failure(mira, entry, now).await.unwrap();
            tx.commit(now).await.unwrap();
        }
        world.pass(Lifetime::from_hours(1));
        world.app.store.clean_up(world.app.clock.now()).await.unwrap();
        let told = failures(&world).await.split_off(before);
        assert!(told.len() <= 48, "{on:?}: {}", told.len());
        let counted: i64 = told.iter().map(|(_, count)| count.parse::<i64>().unwrap()).sum();
        assert_eq!(counted, 24 * 60, "{on:?}: none is lost");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_inside_a_session_is_written_down_as_one_at_the_sign_in() {
    for on in On::all() {
        for path in ["/settings/account/password", "/settings/account/delete"] {
            let world = World::with(Options { on, ..Options::default() }).await;
            give_password(&world, "mira").await;
            let mira = world.browser_of("mira").await;
            let fields =
                [("current_password", "a wrong one, a wrong one"), ("new_password", "four loud lanterns")];
            let page = mira.post(&format!("{}{path}", world.base), &fields).await;
            assert_eq!(page.code().as_deref(), Some("account.wrong_password"), "{}", page.text());
            all_noted(&world).await;
            assert_eq!(failures(&world).await, [("mira".to_owned(), "1".to_owned())], "{on:?} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_right_password_of_an_account_that_is_switched_off_is_a_failure_and_written_down() {
    for on in On::all() {
        let world = World::with(Options { on, ..Options::default() }).await;
        give_password(&world, "mira").await;
        world.behind_its_back("UPDATE account SET disabled = 1 WHERE name_key = 'mira'").await;
        for _ in 0..5 {
            let page = sign_in(&world, &Browser::new(), "mira", PASSWORD).await;
            assert_eq!(page.code().as_deref(), Some("account.disabled"), "{}", page.text());
            all_noted(&world).await;
        }
        assert_eq!(failures(&world).await, [("mira".to_owned(), "1".to_owned())], "{on:?}");
        let events = world.app.store.reader().audit_of_scope_after("system", 0, 1000).await.unwrap();
        let failed = events.iter().find(|event| event.action == "account.sign_in_failed").unwrap();
        assert_eq!(failed.details.get("code"), Some(&json!("account.disabled")), "{on:?}");
        let page = sign_in(&world, &Browser::new(), "mira", PASSWORD).await;
        assert_eq!(page.code().as_deref(), Some("account.throttled"), "{on:?}: {}", page.text());
    }
}

// === What changes nothing ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_9_what_changes_nothing_is_written_nowhere() {
    let events = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM audit_event";
    for on in On::all() {
        let world = World::with(Options { on, ..Options::default() }).await;
        let (ada, _) = world.enable_sso("acme", "ada").await;
        let _other = world.browser_of("ada").await;
        let made_up = "019ac0e5-0000-7000-8000-000000000000";
        let acme = "/organizations/acme/settings";
        let deeds: &[(&str, &[(&str, &str)])] = &[
            ("/settings/account/sessions/end", &[("session", "all")]),
            ("/settings/account/name", &[("full_name", "Ada A.")]),
            (acme, &[("display_name", "Acme Works")]),
            (&format!("{acme}/sso/users"), &[("session_timeout_hours", "100")]),
            (&format!("{acme}/sso/enforcement"), &[("enforcement", "optional")]),
            (&format!("{acme}/tokens"), &[("days", "3")]),
        ];
        let mut written = Vec::new();
        for (path, fields) in deeds {
            let address = format!("{}{path}", world.base);
            let before = world.count(events).await;
            let first = ada.post(&address, fields).await;
            assert_eq!(first.status, 303, "{path}: {}", first.text());
            assert_eq!(world.count(events).await, before + 1, "{on:?} {path}: a change is written down");
            let again = ada.post(&address, fields).await;
            assert_eq!((again.status, again.location()), (first.status, first.location()), "{on:?} {path}");
            if world.count(events).await != before + 1 {
                written.push(*path);
            }
        }
        assert!(written.is_empty(), "{on:?}: {written:?}");
        let before = world.count(events).await;
        let page =
            ada.post(&format!("{}/settings/account/sessions/end", world.base), &[("session", made_up)]).await;
        assert_eq!((page.status.as_u16(), world.count(events).await), (303, before), "{on:?}");
    }
}

// === What was before ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_before_a_change_is_read_under_the_lock_and_not_from_memory() {
    for on in On::all() {
        let world = World::with(Options { on, ..Options::default() }).await;
        let ada = world.browser_of("ada").await;
        let settings = format!("{}/organizations/acme/settings", world.base);
        assert_eq!(ada.get(&settings).await.status, 200);
        // Another admin, at another node, whose word has not arrived yet.
        world
            .behind_its_back("UPDATE organization SET display_name = 'Between' WHERE name_key = 'acme'")
            .await;
        world.behind_its_back("UPDATE account SET full_name = 'Between' WHERE name_key = 'ada'").await;
        ada.post(&settings, &[("display_name", "After")]).await;
        let last = world.audit("acme").await.pop().unwrap();
        assert_eq!((&last.details["before"], &last.details["after"]), (&json!("Between"), &json!("After")));
        ada.post(&format!("{}/settings/account/name", world.base), &[("full_name", "After")]).await;
        let events = world.app.store.reader().audit_of_scope_after("system", 0, 1000).await.unwrap();
        let last = events.last().unwrap();
        assert_eq!((last.action.as_str(), &last.details["before"]), ("account.name", &json!("Between")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_new_revision_changes_is_told_of_the_one_before_it() {
    for on in On::all() {
        let world = World::with(Options { on, ..Options::default() }).await;
        let ada = world.browser_of("ada").await;
        let client = world.register("acme");
        let issuer = world.idp.issuer();
        let fields =
            [("client_id", &*client.id), ("client_secret", client.secret()), ("issuer_url", &*issuer)];
        world.update_and_test(&ada, "acme", &fields).await;
        let (acme, now) = (world.organization("acme").await, world.app.clock.now());
        let connection = load_connection(&mut world.app.store.reader(), acme.id).await.unwrap().unwrap();
        let draft = connection.draft.unwrap();
        let first = load_revision(&mut world.app.store.reader(), acme.id, draft).await.unwrap().unwrap();
        let between = NewRevision {
            issuer_url: first.issuer_url,
            client_id: "between".to_owned(),
            client_secret: Secret::new(client.secret().to_owned()),
            client_auth_method: first.client_auth_method,
            scopes: first.scopes,
            userinfo: first.userinfo,
            email_claim: first.email_claim,
            hosted_domains: first.hosted_domains,
            created_by: first.created_by,
            endpoints: first.endpoints,
        };
        // Another admin saves while this one's form waits for the organization.
        let mut tx = world.app.store.begin().await.unwrap();
        tx.lock_organization(acme.id).await.unwrap();
        let form = async { world.update_and_test(&ada, "acme", &fields).await };
        let other = async {
            until_one_waits(&world, on).await;
            tx.insert_revision(&acme, connection.id, &between, &world.app.sealing, now).await.unwrap();
            tx.commit(now).await.unwrap();
        };
        tokio::join!(form, other);
        let log = world.audit("acme").await;
        let saved: Vec<_> = log.iter().filter(|event| event.action == "org.settings.sso").collect();
        let changed: Vec<_> = saved.iter().map(|event| &event.details["changed"]).collect();
        assert_eq!(changed, [&json!(""), &json!("client_id")], "{on:?}");
    }
}

// === Logs are locked in one order ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_an_account_takes_the_organizations_logs_before_the_systems() {
    // On SQLite there is one writer.
    if crate::harness::postgres_url().is_none() {
        return;
    }
    let world = World::with(Options { on: On::Postgres, ..Options::default() }).await;
    let (mira, now) = (world.account("mira").await, world.app.clock.now());
    let of_the_system = AuditEntry { organization: None, ..leaves(&world).await };
    let mut tx = world.app.store.begin().await.unwrap();
    for _ in 0..3 {
        let failed = AuditEntry {
            action: AuditAction::AccountSignInFailed,
            details: vec![("name", "mira".to_owned())],
            ..of_the_system.clone()
        };
        tx.note_sign_in_failure(mira, failed, now).await.unwrap();
    }
    tx.commit(now).await.unwrap();

    // As an import does it: an organization's log, then the system's.
    let mut tx = world.app.store.begin().await.unwrap();
    tx.audit(leaves(&world).await, now).await.unwrap();
    let writing = async {
        until_one_waits(&world, On::Postgres).await;
        tx.audit(of_the_system, now).await?;
        tx.commit(now).await
    };
    let (deleted, written) = tokio::join!(world.operate("account delete mira"), writing);
    assert!(written.is_ok(), "{written:?}");
    assert_eq!(deleted.0, 0, "{deleted:?}");
    let told = [("mira".to_owned(), "1".to_owned()), ("mira".to_owned(), "2".to_owned())];
    assert_eq!(failures(&world).await, told);
    let events = world.app.store.reader().audit_of_scope_after("system", 0, 1000).await.unwrap();
    assert_eq!(events.last().unwrap().action, "account.delete");
}

// === Checkpoints while a key is made ===

/// Runs a command once, when the first line was written.
struct MakesAKey<'w> {
    world: &'w World,
    written: Vec<u8>,
}

impl std::io::Write for MakesAKey<'_> {
    fn write(&mut self, piece: &[u8]) -> std::io::Result<usize> {
        if self.written.is_empty() {
            let command = || self.world.command("audit new-key");
            let (code, output, errors) = std::thread::scope(|scope| scope.spawn(command).join().unwrap());
            assert_eq!(code, 0, "{output}{errors}");
        }
        self.written.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_made_while_checkpoints_are_signed_is_no_damage() {
    for on in On::all() {
        let world = world_with_events(on, 3).await;
        let output = MakesAKey { world: &world, written: Vec::new() };
        let output = world.command_into("audit checkpoint --all", output);
        let kept = String::from_utf8(output.written).unwrap();
        assert_eq!(kept.lines().count(), 3, "{on:?}: {kept}");
        let newest = world.app.store.audit_keys_now().await.unwrap();
        let of_the_system = kept.lines().last().unwrap();
        assert!(of_the_system.contains(newest.id()), "{on:?}: {of_the_system}");
        let file = world.folder().join("kept.jsonl");
        std::fs::write(&file, &kept).unwrap();
        world.good_command(&format!("audit verify --all --checkpoint {}", file.display())).await;
    }
}
