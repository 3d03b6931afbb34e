#!/usr/bin/env python3
"""Browser sessions for the benchmark, without thousands of calls of the command line and without a password each.

sessions.py store COUNT DATABASE   makes every account a reader of every organization and gives each a browser session
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
    ids = dict(db.execute("SELECT n.name_key, a.id FROM account a JOIN name n ON n.name_key = a.name_key"))
    organizations = [row[0] for row in db.execute("SELECT id FROM organization")]
    for account in range(count):
        id = ids[f"user-{account}"]
        db.executemany("INSERT INTO membership VALUES (?, ?, 'read', 0, ?) ON CONFLICT DO NOTHING",
                       [(organization, id, now) for organization in organizations])
        hash = text(hashlib.sha256(token(account, "session").encode()).digest())
        db.execute("INSERT INTO browser_session VALUES (?, ?, ?, ?, ?, ?)", (str(uuid.uuid4()), hash, id, now, now, now))
    db.commit()
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def cookies(count):
    for account in range(count):
        print(account, f"doorward-session={token(account, 'session')}; doorward-browser={token(account, 'browser')}", sep="\t")


if sys.argv[1] == "store":
    store(int(sys.argv[2]), sys.argv[3])
else:
    cookies(int(sys.argv[2]))
