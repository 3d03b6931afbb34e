//! Every statement of the server finds its rows by an index, on both databases (issue 4, "At size").
//!
//! Statements are literals (`&'static str`, and clippy refuses every other way), so they are read out of the sources:
//! one that somebody writes tomorrow is judged tomorrow. A scan is allowed for tables of a handful of rows, and for the
//! statements listed below with their reason.

use std::collections::BTreeSet;
use std::path::Path;

use doorward_testkit::TempDir;
use sqlx::{ConnectOptions as _, Connection as _, Row as _};

use crate::harness::{On, fresh_store, postgres_url};

/// Tables that have a row or a few, whatever the size of the installation.
const SMALL_TABLES: &[&str] = &[
    "change_counter",
    "key_check",
    "audit_key",
    "audit_mark",
    "assertion_key",
    "operator_link",
    "_sqlx_migrations",
    "sqlite_master",
];

/// Statements that read a whole table or index on purpose: how they begin, and why.
const SCANS_ON_PURPOSE: &[(&str, &str)] = &[];

/// The statements of the server, each with the file that holds it.
fn statements() -> Vec<(String, String)> {
    let mut files = Vec::new();
    collect_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    // The operator's bulk commands read and write whole tables, and put their statements together when they run.
    files.retain(|file| !["backups.rs", "imports.rs"].iter().any(|bulk| file.ends_with(bulk)));
    files.sort();
    let mut seen = BTreeSet::new();
    let mut statements = Vec::new();
    for file in files {
        let source = std::fs::read_to_string(&file).unwrap();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        for literal in literals(&expanded(&source)) {
            let text = literal.split_whitespace().collect::<Vec<_>>().join(" ");
            let begins = |verb: &&str| text.starts_with(*verb);
            let is_statement =
                ["SELECT ", "INSERT INTO ", "UPDATE ", "DELETE FROM ", "WITH "].iter().any(begins);
            // Rows that are added one by one at the end of an INSERT look nothing up.
            let is_whole = !text.contains("{}") && !text.ends_with(" VALUES");
            if is_statement && is_whole && seen.insert(text.clone()) {
                statements.push((name.clone(), text));
            }
        }
    }
    assert!(
        statements.len() > 80,
        "only {} statements found: is the search for them broken?",
        statements.len()
    );
    statements
}

fn collect_files(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// A source in which texts put together by `concat!` are one literal each, macros that stand for texts included.
fn expanded(source: &str) -> String {
    let mut text = source.to_owned();
    let mut macros = Vec::new();
    while let Some(at) = text.find("macro_rules! ") {
        let length = text[at..].find("\n}\n").map_or(text.len() - at, |end| end + 3);
        let block = text[at..at + length].to_owned();
        text.replace_range(at..at + length, "");
        let name = block["macro_rules! ".len()..].split([' ', '{']).next().unwrap().to_owned();
        let Some((pattern, body)) = block.split_once("=> {") else { continue };
        let body = body.rsplit_once("};").map_or(body, |(body, _)| body).trim().to_owned();
        if body.starts_with('"') || body.contains("concat!") {
            let parameters =
                pattern.split('$').skip(1).map(|rest| rest.split(':').next().unwrap().to_owned());
            macros.push((name, parameters.collect::<Vec<_>>(), body));
        }
    }
    for (name, parameters, body) in &macros {
        while let Some(at) = text.find(&format!("{name}!(")) {
            let open = at + name.len() + 2;
            let end = open + within(&text[open..]);
            // One argument may be a text with commas in it; several are names without.
            let arguments = text[open..end].trim().trim_end_matches(',').to_owned();
            let arguments = arguments.splitn(parameters.len().max(1), ',');
            let fill = |body: String, (parameter, argument): (&String, &str)| {
                body.replace(&format!("${parameter}"), argument.trim())
            };
            let body = parameters.iter().zip(arguments).fold(body.clone(), fill);
            text.replace_range(at..=end, &body);
        }
    }
    while let Some(at) = text.find("concat!(") {
        let open = at + "concat!(".len();
        let end = open + within(&text[open..]);
        let whole = literals(&text[open..end]).concat();
        text.replace_range(at..=end, &format!("{whole:?}"));
    }
    text
}

/// How far it is to the parenthesis that closes what was opened before, literals stepped over.
fn within(text: &str) -> usize {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted && depth == 0 => return at,
            ')' if !quoted => depth -= 1,
            _ => {}
        }
    }
    text.len() - 1
}

/// The texts of a source's string literals. Comments and characters are stepped over, `\` at a line's end joins lines.
fn literals(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(at) = rest.find(['"', '/', '\'']) {
        let here = &rest[at..];
        if let Some(comment) = here.strip_prefix("//") {
            rest = comment.split_once('\n').map_or("", |(_, after)| after);
        } else if here.starts_with("'\"'") || here.starts_with("'\\") {
            rest = here.get(3..).unwrap_or("");
        } else if let Some(inside) = here.strip_prefix('"') {
            let mut text = String::new();
            let mut characters = inside.char_indices();
            rest = "";
            while let Some((at, character)) = characters.next() {
                match character {
                    '"' => {
                        rest = &inside[at + 1..];
                        break;
                    }
                    '\\' => match characters.next() {
                        Some((_, '\n')) => {
                            text.push(' ');
                            while characters.as_str().starts_with(char::is_whitespace) {
                                characters.next();
                            }
                        }
                        Some((_, 'n')) => text.push('\n'),
                        Some((_, other)) => text.push(other),
                        None => break,
                    },
                    other => text.push(other),
                }
            }
            found.push(text);
        } else {
            rest = &here[1..];
        }
    }
    found
}

fn is_on_purpose(statement: &str) -> bool {
    SCANS_ON_PURPOSE.iter().any(|(start, _)| statement.starts_with(start))
}

/// The table that a step of SQLite's plan scans from end to end, if it does. A partial index (`WHERE`) may be read
/// whole: it holds what is asked for and nothing else.
fn scanned_on_sqlite<'s>(step: &'s str, partial: &[String]) -> Option<&'s str> {
    if step.split(' ').any(|word| partial.iter().any(|index| index == word)) {
        return None;
    }
    // "SCAN t", "SCAN t USING INDEX i"; but not "SCAN CONSTANT ROW" nor what an index of the moment was made for.
    if step.contains("AUTOMATIC") {
        return Some("an index made for this one query");
    }
    let table = step.strip_prefix("SCAN ")?.split(' ').next()?;
    (table != "CONSTANT" && !SMALL_TABLES.contains(&table)).then_some(table)
}

#[tokio::test]
async fn every_statement_is_answered_by_an_index_on_sqlite() {
    let folder = TempDir::new();
    drop(fresh_store(On::Sqlite, &folder).await);
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.join("doorward.db"));
    let mut connection = options.connect().await.unwrap();
    let partial = "SELECT name FROM sqlite_master WHERE type = 'index' AND sql LIKE '% WHERE %'";
    let partial = sqlx::query(partial).fetch_all(&mut connection).await.unwrap();
    let partial: Vec<String> = partial.iter().map(|row| row.get("name")).collect();
    let mut wrong = Vec::new();
    for (file, statement) in statements() {
        let explain = sqlx::raw_sql(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")));
        let steps = match explain.fetch_all(&mut connection).await {
            Ok(rows) => rows.iter().map(|row| row.get::<String, _>("detail")).collect::<Vec<_>>(),
            Err(error) => {
                wrong.push(format!("{file}: not a statement of SQLite ({error}):\n    {statement}"));
                continue;
            }
        };
        // Names that stand for a subquery are scanned once it has been found; its own steps are judged by themselves.
        let inner: BTreeSet<&str> = steps
            .iter()
            .filter_map(|step| step.strip_prefix("CO-ROUTINE ").or_else(|| step.strip_prefix("MATERIALIZE ")))
            .filter_map(|rest| rest.split(' ').next())
            .collect();
        let scans = steps
            .iter()
            .filter_map(|step| scanned_on_sqlite(step, &partial))
            .filter(|table| !inner.contains(table));
        if let Some(table) = scans.into_iter().next()
            && !is_on_purpose(&statement)
        {
            wrong.push(format!("{file}: scans {table}:\n    {statement}\n    {}", steps.join("\n    ")));
        }
    }
    connection.close().await.unwrap();
    assert!(wrong.is_empty(), "{} statements:\n{}", wrong.len(), wrong.join("\n"));
}

/// What one node of PostgreSQL's plan and those below it read without an index, or a whole index.
fn scanned_on_postgres(plan: &serde_json::Value, partial: &[String], scans: &mut Vec<String>) {
    let text = |name: &str| plan[name].as_str().unwrap_or_default();
    let table = text("Relation Name");
    let whole = match text("Node Type") {
        "Seq Scan" => true,
        "Index Scan" | "Index Only Scan" | "Bitmap Index Scan" => plan.get("Index Cond").is_none(),
        _ => false,
    };
    if whole && !SMALL_TABLES.contains(&table) && !partial.iter().any(|index| index == text("Index Name")) {
        scans.push(format!("{} {table} {} filter {}", text("Node Type"), text("Index Name"), text("Filter")));
    }
    for inner in plan["Plans"].as_array().into_iter().flatten() {
        scanned_on_postgres(inner, partial, scans);
    }
}

#[tokio::test]
async fn every_statement_is_answered_by_an_index_on_postgresql() {
    if postgres_url().is_none() {
        return;
    }
    let folder = TempDir::new();
    let (_store, url) = fresh_store(On::Postgres, &folder).await;
    let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
    // The tables are empty, where reading them whole is always cheapest; and plans are wanted for values yet unknown.
    for set in ["SET enable_seqscan = off", "SET plan_cache_mode = force_generic_plan"] {
        sqlx::raw_sql(set).execute(&mut connection).await.unwrap();
    }
    let partial = "SELECT indexname FROM pg_indexes WHERE indexdef LIKE '% WHERE %'";
    let partial = sqlx::query(partial).fetch_all(&mut connection).await.unwrap();
    let partial: Vec<String> = partial.iter().map(|row| row.get("indexname")).collect();
    let mut wrong = Vec::new();
    for (n, (file, statement)) in statements().into_iter().enumerate() {
        let values = (1..=40).take_while(|n| statement.contains(&format!("${n}"))).map(|_| "NULL");
        let values = values.collect::<Vec<_>>().join(", ");
        let values = if values.is_empty() { values } else { format!("({values})") };
        let prepare = sqlx::raw_sql(sqlx::AssertSqlSafe(format!("PREPARE s{n} AS {statement}")));
        if let Err(error) = prepare.execute(&mut connection).await {
            // What only SQLite is asked says so.
            if !statement.contains("sqlite_") && !statement.contains("pragma_") {
                wrong.push(format!("{file}: not a statement of PostgreSQL ({error}):\n    {statement}"));
            }
            continue;
        }
        let explain =
            sqlx::raw_sql(sqlx::AssertSqlSafe(format!("EXPLAIN (FORMAT JSON) EXECUTE s{n}{values}")));
        let plan: serde_json::Value = match explain.fetch_one(&mut connection).await {
            Ok(row) => serde_json::from_str(row.try_get_raw(0).unwrap().as_str().unwrap()).unwrap(),
            Err(error) => {
                wrong.push(format!("{file}: no plan ({error}):\n    {statement}"));
                continue;
            }
        };
        let mut scans = Vec::new();
        scanned_on_postgres(&plan[0]["Plan"], &partial, &mut scans);
        if !scans.is_empty() && !is_on_purpose(&statement) {
            wrong.push(format!("{file}: {}:\n    {statement}", scans.join("; ")));
        }
    }
    connection.close().await.unwrap();
    assert!(wrong.is_empty(), "{} statements:\n{}", wrong.len(), wrong.join("\n"));
}

/// Deleting a row also looks for the rows that go with it: those columns begin an index.
#[tokio::test]
async fn what_is_deleted_along_is_found_by_an_index() {
    let folder = TempDir::new();
    drop(fresh_store(On::Sqlite, &folder).await);
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.join("doorward.db"));
    let mut connection = options.connect().await.unwrap();
    let sql = "SELECT m.name AS child, f.\"from\" AS column_name FROM sqlite_master m, pragma_foreign_key_list(m.name) f \
               WHERE m.type = 'table' AND f.on_delete = 'CASCADE' AND NOT EXISTS (SELECT 1 FROM pragma_index_list(m.name) i, \
               pragma_index_info(i.name) c WHERE c.seqno = 0 AND c.name = f.\"from\")";
    let rows = sqlx::query(sql).fetch_all(&mut connection).await.unwrap();
    let missing: Vec<String> = rows
        .iter()
        .map(|row| format!("{}.{}", row.get::<String, _>("child"), row.get::<String, _>("column_name")))
        .collect();
    connection.close().await.unwrap();
    assert!(missing.is_empty(), "no index begins with {missing:?}");
}

#[test]
fn a_statement_that_is_put_together_is_seen_whole() {
    let source = "macro_rules! columns {\n    () => {\n        \"a, b\"\n    };\n}\n\
        macro_rules! rows {\n    ($which:literal) => {\n        concat!(\"SELECT x FROM t \", \"WHERE \", $which)\n    };\n}\n\
        let one = concat!(\"SELECT \", columns!(), \" FROM t\"); let other = rows!(\"x IN ($1)\");";
    assert_eq!(literals(&expanded(source)), ["SELECT a, b FROM t", "SELECT x FROM t WHERE x IN ($1)"]);
}

#[test]
fn literals_are_found_whatever_stands_around_them() {
    let source = "let a = '\"'; // \"not this\"\nlet b = \"SELECT 1 \\\n     FROM x\"; let c = '\\''; f(\"a \\\"b\\\"\");";
    assert_eq!(literals(source), ["SELECT 1  FROM x", "a \"b\""]);
}
