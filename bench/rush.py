#!/usr/bin/env python3
"""200 people type their passwords at once: what the gate's slowest answers cost meanwhile, beside a calm moment.

rush.py DATA DOORWARD PEERS [--rounds 5] [--people 200]

DATA as for at_size.py. A check is asked 300 times a second over 8 connections; its p99 while nobody signs in, and while
PEOPLE do, each from an address of his own. The gate must not wait for password hashing (rule 9): at most twice.
"""
import argparse, http.client, sqlite3, statistics, sys, threading, time, urllib.parse

import at_size, sessions

PASSWORD = "correct horse battery staple 7"  # ada's, by prepare.sh


def p99(served, cookies, seconds):
    done = served.drive(
        "check", "--url", "http://localhost:9301/auth-request", "--cookies", cookies, "--seconds", str(seconds), "--conns", "8", "--rate", "300",
        "--header", "X-Original-Method: GET", "--header", "X-Original-URL: http://localhost:9300/{org}/secret", "--want-header", "remote-user",
    )
    if done["failed"]:
        sys.exit(f"checks failed: {done}")
    return next(value for name, value in done.items() if name.startswith("p99"))


def sign_in(person, statuses):
    connection = http.client.HTTPConnection("127.0.0.1", 9300, timeout=120)
    body = urllib.parse.urlencode({"username": f"user-{person}", "password": PASSWORD})
    headers = {
        "Host": "localhost:9300", "Origin": "http://localhost:9300", "Content-Type": "application/x-www-form-urlencoded",
        "X-Forwarded-For": f"198.18.{person // 250}.{person % 250 + 1}",
    }
    connection.request("POST", "/login", body, headers)
    statuses.append(connection.getresponse().status)


def one_round(given, accounts):
    with at_size.Served(given, given.data, password_of="ada") as served:
        served.logins(accounts, 0)
        cookies = f"{served.folder}/signed-in"
        p99(served, cookies, 2)
        calm = p99(served, cookies, 3)
        statuses = []
        people = [threading.Thread(target=sign_in, args=(person, statuses)) for person in range(given.people)]
        for person in people:
            person.start()
        rush = p99(served, cookies, 3)
        for person in people:
            person.join()
        return calm, rush, statuses


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "doorward", "peers"):
        arguments.add_argument(name)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--people", type=int, default=200)
    given = arguments.parse_args()
    ratios = []
    with at_size.accounts_file() as accounts:
        for n in range(given.rounds):
            calm, rush, statuses = one_round(given, accounts)
            ratios.append(rush / calm)
            counted = {status: statuses.count(status) for status in sorted(set(statuses))}
            print(f"round {n + 1}: p99 {calm} -> {rush}; sign-ins answered {counted}", flush=True)
    ratio = statistics.median(ratios)
    print(f"{'MISSED' if ratio > 2 else 'ok':6}  p99 of the gate while {given.people} sign in, x calm: {ratio:.2f} (at most 2), {min(ratios):.2f} to {max(ratios):.2f}")
    sys.exit(ratio > 2)


if __name__ == "__main__":
    main()
