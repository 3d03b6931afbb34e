#!/usr/bin/env python3
"""Fills a database that `doorward` has made with as much as a large installation has. Never shipped; rows are made up.

seed.py sqlite PATH | postgres URL   [--organizations 100000] [--accounts 1000000] [--sessions 1000000]

Account `filler-I` is a member of organization `filler-J` (J = I modulo their number), is linked at its provider, and has a
browser session with SSO and a host session, as long as there are sessions to give. Cookies: see `token`.
SQLite takes 2.1 GB and a minute of CPU, without a log while it runs: a database that broke off is to be thrown away.
"""
import argparse, base64, hashlib, itertools, os, sqlite3, subprocess, sys, time, uuid

HOST = "hub.localhost:9300"


def token(account, kind):
    """The cookie of an account: kind is `session` on Doorward's own host, `host` on the application's."""
    return text(hashlib.sha256(f"{kind} of filler-{account}".encode()).digest())


def text(octets):
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def hashed(account, kind):
    return text(hashlib.sha256(token(account, kind).encode()).digest())


def id(kind, n):
    """Ids that begin with the time, as Doorward's own: so they lie in the index in the order of their making."""
    return str(uuid.UUID(int=(NOW << 80) | (7 << 76) | (2 << 62) | (kind << 48) | n))


NOW = int(time.time() * 1000)
ORGANIZATION, ACCOUNT, SESSION, CONNECTION = range(4)


def tables(organizations, accounts, sessions):
    """Each table's name, its columns, and its rows one after the other."""
    o, a, s = (lambda n=n: range(n) for n in (organizations, accounts, sessions))
    yield "name", "name_key, spelled, kind, owner_id, created_at", itertools.chain(
        ((f"filler-{k}-org", f"filler-{k}-org", "organization", id(ORGANIZATION, k), NOW) for k in o()),
        ((f"filler-{i}", f"filler-{i}", "account", id(ACCOUNT, i), NOW) for i in a()),
    )
    yield "organization", "id, name_key, display_name, plan, session_timeout, created_at", (
        (id(ORGANIZATION, k), f"filler-{k}-org", f"Filler {k}", "enterprise", 604_800_000, NOW) for k in o()
    )
    yield "account", "id, name_key, full_name, created_at", ((id(ACCOUNT, i), f"filler-{i}", f"Filler {i}", NOW) for i in a())
    yield "account_email", "account_id, email_key, address, proved_at, is_primary", (
        (id(ACCOUNT, i), f"filler-{i}@example.test", f"filler-{i}@example.test", NOW, 1) for i in a()
    )
    yield "membership", "organization_id, account_id, role, created_at", (
        (id(ORGANIZATION, i % organizations), id(ACCOUNT, i), "read", NOW) for i in a()
    )
    yield "connection", "id, organization_id, protocol, draft, live, enforcement, epoch", (
        (id(CONNECTION, k), id(ORGANIZATION, k), "oidc", 1, 1, "enforced", 1) for k in o()
    )
    yield "revision", "connection_id, number, issuer_url, client_id, client_secret, client_secret_end, scopes, userinfo, email_claim, hosted_domains, created_at", (
        (id(CONNECTION, k), 1, f"https://idp.example/{k}", "bench", "sealed", "", "", "when_needed", "", "", NOW) for k in o()
    )
    yield "identity", "connection_id, issuer, subject, sub, account_id, linked_at", (
        (id(CONNECTION, i % organizations), f"https://idp.example/{i % organizations}", f"subject-{i}", f"subject-{i}", id(ACCOUNT, i), NOW)
        for i in a()
    )
    yield "browser_session", "id, token_hash, account_id, created_at, authenticated_at, last_seen_at", (
        (id(SESSION, i), hashed(i, "session"), id(ACCOUNT, i % accounts), NOW, NOW, NOW) for i in s()
    )
    yield "sso_session", "session_id, organization_id, epoch, issuer, subject, authenticated_at", (
        (id(SESSION, i), id(ORGANIZATION, i % accounts % organizations), 1, "https://idp.example", f"subject-{i}", NOW) for i in s()
    )
    yield "host_session", "token_hash, session_id, host, created_at", ((hashed(i, "host"), id(SESSION, i), HOST, NOW) for i in s())


def into_sqlite(path, all_tables):
    db = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -1000000", "locking_mode = EXCLUSIVE"):
        db.execute(f"PRAGMA {pragma}")
    db.execute("BEGIN")
    for table, columns, rows in all_tables:
        began = time.time()
        marks = ", ".join("?" * len(columns.split(",")))
        db.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)
        print(f"{table}: {time.time() - began:.0f} s", flush=True)
    db.execute("COMMIT")
    db.execute("ANALYZE")
    db.execute("PRAGMA journal_mode = WAL")
    db.close()


def into_postgres(url, all_tables):
    for table, columns, rows in all_tables:
        began = time.time()
        copy = subprocess.Popen(["psql", "-qX", "-v", "ON_ERROR_STOP=1", url, "-c", f"COPY {table} ({columns}) FROM STDIN"], stdin=subprocess.PIPE, text=True)
        for row in rows:
            copy.stdin.write("\t".join(map(str, row)) + "\n")
        copy.stdin.close()
        if copy.wait():
            sys.exit(f"{table}: psql failed")
        print(f"{table}: {time.time() - began:.0f} s", flush=True)
    subprocess.run(["psql", "-qX", url, "-c", "ANALYZE"], check=True)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("store", choices=["sqlite", "postgres"])
    arguments.add_argument("where")
    for what, many in (("organizations", 100_000), ("accounts", 1_000_000), ("sessions", 1_000_000)):
        arguments.add_argument(f"--{what}", type=int, default=many)
    given = arguments.parse_args()
    rows = tables(given.organizations, given.accounts, given.sessions)
    (into_sqlite if given.store == "sqlite" else into_postgres)(given.where, rows)
