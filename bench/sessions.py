#!/usr/bin/env python3
"""Accounts for the benchmark, without thousands of calls of the command line and without hashing a password each.

sessions.py store COUNT DATABASE   makes the accounts, each a reader of every organization, with a browser session each
sessions.py cookies COUNT          prints the sessions for the driver: number of the account, tab, cookies
"""
import base64, hashlib, sqlite3, sys, time, uuid


def token(account, cookie):
    return text(hashlib.sha256(f"{cookie} of user-{account}".encode()).digest())


def text(octets):
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def store(count, path):
    now = int(time.time() * 1000)
    db = sqlite3.connect(path)
    organizations = [row[0] for row in db.execute("SELECT id FROM organization")]
    for account in range(count):
        id, name = str(uuid.uuid4()), f"user-{account}"
        db.execute("INSERT INTO name (name_key, spelled, kind, owner_id, created_at) VALUES (?, ?, 'account', ?, ?)", (name, name, id, now))
        db.execute("INSERT INTO account (id, name_key, full_name, created_at) VALUES (?, ?, ?, ?)", (id, name, name, now))
        address = f"{name}@example.test"
        db.execute("INSERT INTO account_email (account_id, email_key, address, proved_at, is_primary) VALUES (?, ?, ?, ?, 1)", (id, address, address, now))
        db.executemany("INSERT INTO membership (organization_id, account_id, role, created_at) VALUES (?, ?, 'read', ?)", [(o, id, now) for o in organizations])
        hash = text(hashlib.sha256(token(account, "session").encode()).digest())
        db.execute("INSERT INTO browser_session (id, token_hash, account_id, created_at, authenticated_at, last_seen_at) VALUES (?, ?, ?, ?, ?, ?)", (str(uuid.uuid4()), hash, id, now, now, now))
    db.commit()
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def cookies(count):
    for account in range(count):
        print(account, f"doorward-session={token(account, 'session')}; doorward-browser={token(account, 'browser')}", sep="\t")


if __name__ == "__main__":
    if sys.argv[1] == "store":
        store(int(sys.argv[2]), sys.argv[3])
    else:
        cookies(int(sys.argv[2]))
