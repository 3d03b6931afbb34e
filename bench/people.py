#!/usr/bin/env python3
"""Writes a file for `doorward import` to standard output: made-up people of another system. Never shipped.

people.py [--accounts 100000] > people.jsonl

Each account has two addresses and an Argon2 hash of another cost than ours, and is a member of one organization; one has two
hundred members, and each second one a connection. 100,000 accounts make 200,750 lines and 41 MB, the same every time.
"""
import argparse, base64, json, random

ORGANIZATION_SIZE = 200


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--accounts", type=int, default=100_000)
    accounts = options.parse_args().accounts
    organizations = (accounts + ORGANIZATION_SIZE - 1) // ORGANIZATION_SIZE
    chance = random.Random(1)

    def octets(n):
        return base64.b64encode(chance.randbytes(n)).rstrip(b"=").decode()

    for k in range(organizations):
        line("organization", name=f"import-{k}-org", display_name=f"Import {k}", plan="enterprise")
    for i in range(accounts):
        line(
            "account",
            name=f"import-{i}",
            full_name=f"Imported Person {i}",
            emails=[
                {"address": f"person-{i}@people.example", "proved": True},
                {"address": f"old-{i}@people.example", "proved": False},
            ],
            password_hash=f"$argon2id$v=19$m=8192,t=3,p=1${octets(16)}${octets(32)}",
        )
    for i in range(accounts):
        role = "admin" if i % ORGANIZATION_SIZE == 0 else chance.choice(["read", "contributor", "write"])
        line("membership", organization=f"import-{i // ORGANIZATION_SIZE}-org", account=f"import-{i}", role=role)
    for k in range(0, organizations, 2):
        line(
            "connection",
            organization=f"import-{k}-org",
            issuer_url=f"https://idp.example/{k}",
            client_id="hub",
            client_secret=octets(24),
        )


def line(kind, **fields):
    print(json.dumps({"type": kind, **fields}, separators=(",", ":")))


if __name__ == "__main__":
    main()
